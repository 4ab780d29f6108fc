//! What holds for every ignore file and every path.

use std::collections::HashMap;
use std::io;

use proptest::prelude::*;
use towline_ignore::{LoadOptions, Platform, Rules, load};

use crate::strict;

const LINE: &str = "[ !]{0,1}(\\(\\?[id]\\)){0,2}[!/*]{0,3}[aBé*?\\[\\]{},/\\\\|\\-\u{301}Σ]{0,10}\
    |#include [ab]|#escape=[|\\\\a]|// c";

fn platform() -> impl Strategy<Value = Platform> {
    prop::sample::select(vec![Platform::Unix, Platform::MacOs, Platform::Windows])
}

proptest! {
    #[test]
    fn any_text_loads_or_fails_and_decides_without_a_panic(text in any::<String>(), path in any::<String>()) {
        let mut read = |_: &str| Ok(text.clone());
        if let Ok(rules) = load(".stignore", &mut read, LoadOptions::default()) {
            let decision = rules.decide(&path);
            prop_assert!(decision.ignored || !decision.deletable && !decision.skip_dir);
        }
        let _ = Rules::from_lines(&[text]);
    }

    #[test]
    fn flattened_lines_decide_alike(
        root in prop::collection::vec(LINE, 0..6),
        included in prop::collection::vec(LINE, 0..4),
        platform in platform(),
        paths in prop::collection::vec("[abBé*/Σ]{1,8}", 1..8),
    ) {
        let files = HashMap::from([(".stignore", root.join("\n")), ("a", included.join("\n"))]);
        let mut read = |file: &str| {
            files.get(file).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        };
        let options = LoadOptions { platform, includes_outside: false };
        let Ok(rules) = load(".stignore", &mut read, options) else { return Ok(()) };
        let again = Rules::from_lines(&rules.lines()).unwrap();
        prop_assert_eq!(rules.patterns(), again.patterns());
        prop_assert_eq!(rules.hash(), again.hash());
        prop_assert_eq!(rules.lines(), again.lines());
        for path in &paths {
            let (one, other) = (rules.decide(path), again.decide(path));
            prop_assert_eq!(
                (one.ignored, one.deletable, one.case_folded, one.skip_dir),
                (other.ignored, other.deletable, other.case_folded, other.skip_dir)
            );
            prop_assert_eq!(one.rule.is_some(), other.rule.is_some());
        }
    }

    /// A folder that may be skipped holds nothing that is synchronized. (The language has one
    /// exception, `!/x/**` before a rule that ignores `x`: it does not keep `x` from being skipped.)
    #[test]
    fn nothing_below_a_skipped_folder_is_kept(
        lines in prop::collection::vec("!?/?(a|b|[?]|[*]|a[*]|[*]b|[*][*])(/(a|b|[*]))?", 1..5),
        folder in "[ab]{1,3}",
        below in "[ab]{1,2}(/[ab]{1,2})?",
    ) {
        let Ok(rules) = Rules::from_lines(&lines) else { return Ok(()) };
        if rules.decide(&folder).skip_dir {
            let path = format!("{folder}/{below}");
            prop_assert!(rules.decide(&path).ignored, "{lines:?} skip {folder} but keep {path}");
        }
    }

    #[test]
    fn rules_are_the_textbook_where_no_peculiarity_is_known(
        lines in prop::collection::vec(
            "(\\(\\?i\\))?!?(/|\\*\\*/)?([abC./*?]|\\[[ab/]{1,2}\\]|\\[a-c\\]|\\{[ab./]{1,2}(,[abc]{1,2}){1,2}\\}){1,5}(/|/\\*\\*)?",
            1..5,
        ),
        path in "[abC.é]{1,3}(/[abc]{1,3}){0,3}",
    ) {
        prop_assume!(path != "." && path.is_ascii() && !lines.iter().any(|line| strict::may_differ(line)));
        let Ok(rules) = Rules::from_lines(&lines) else { return Ok(()) };
        let found = rules.decide(&path).rule.map(|rule| rule.line as usize - 1);
        prop_assert_eq!(found, strict::first(&lines, &path));
    }
}

/// Each of these would take minutes, or all memory, without its bound.
#[test]
fn hostile_patterns_are_loaded_and_matched_in_time() {
    let nested = |unit: &str| unit.repeat(60) + &"}".repeat(60);
    let patterns = [
        nested("{a,"),
        nested("{*,?"),
        "{a,b}".repeat(5_000),
        "{,a}b*".repeat(2_000),
        "[a-z]".repeat(5_000),
        "[a-\u{10ffff}]".repeat(1_000),
        "[!a]b".repeat(2_000),
        "**a".repeat(2_000),
        "*a".repeat(10_000),
    ];
    for pattern in patterns {
        for line in [pattern.clone(), format!("?{pattern}"), format!("/x/**/{pattern}")] {
            let rules = Rules::from_lines(&[line]).unwrap();
            for path in ["a".repeat(200), format!("x/{}", "ab/".repeat(60))] {
                rules.decide(&path);
            }
        }
    }
}
