//! What holds for any text at all.

use proptest::prelude::*;

use crate::disk::{lines, read};

/// Texts that are nearly manifests: words of the language in any order, and any character.
fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("dev:".to_owned()),
        Just("\n  api:".to_owned()),
        Just("\n    ".to_owned()),
        Just("sync: ".to_owned()),
        Just("environment: ".to_owned()),
        Just("forward: ".to_owned()),
        Just("resources: {limits: {cpu: 1}}".to_owned()),
        Just("- ".to_owned()),
        Just("[.:/app]".to_owned()),
        Just("{a: b}".to_owned()),
        Just("&a ".to_owned()),
        Just("*a ".to_owned()),
        Just("<<: ".to_owned()),
        Just("${A:-${B}}".to_owned()),
        Just("!!str ".to_owned()),
        Just("| \n".to_owned()),
        Just("---\n".to_owned()),
        Just("\t".to_owned()),
        Just("\r\n".to_owned()),
        Just("\u{feff}".to_owned()),
        "[\\PC\u{0}\u{1b}]{0,4}",
    ];
    prop::collection::vec(word, 0..30).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_text_has_an_answer_whose_places_lie_in_it(text in text()) {
        let parsed = read(&text);
        prop_assert!(parsed.manifest.is_some() || parsed.problems.has_errors());
        for problem in &parsed.problems {
            prop_assert!(problem.file.text().get(problem.span.start..problem.span.end).is_some(), "{:?}", problem);
            prop_assert!(!problem.message.is_empty());
            problem.one_line();
        }
        let again = read(&text);
        prop_assert_eq!(lines(&parsed), lines(&again));
        prop_assert_eq!(parsed.trust_hash, again.trust_hash);
    }

    #[test]
    fn a_comment_changes_nothing_but_places(name in "[a-z][a-z0-9]{0,8}", remote in "/[a-z]{1,8}") {
        let text = format!("dev:\n  {name}:\n    sync: ['.:{remote}']\n");
        let (plain, commented) = (read(&text), read(&format!("# first\n{text}")));
        prop_assert_eq!(&plain.trust_hash, &commented.trust_hash);
        let manifest = plain.manifest.unwrap();
        prop_assert_eq!(&manifest.dev[&name].sync.folders[0].remote, &remote);
    }
}

#[test]
fn bombs_are_refused() {
    let deep = format!("dev: {}", "[".repeat(100_000));
    let deep_block: String = (0..40).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    let mut aliases = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..30 {
        let before = format!("*a{}", level - 1);
        aliases += &format!("a{level}: &a{level} [{}]\n", vec![before; 10].join(","));
    }
    let anchors = format!("dev: {}{}{}", "&a [".repeat(30), "x,".repeat(400_000), "]".repeat(30));
    let merges = format!("a: &a {{{}}}\ndev: [{}]\n", many("k: 1, "), many("{<<: *a},"));
    let huge = "x".repeat(2 * 1024 * 1024);
    let many_keys: String = many("kn: 1\n");
    for (name, text) in [
        ("deep flow", &deep),
        ("deep block", &deep_block),
        ("aliases", &aliases),
        ("anchors", &anchors),
        ("merges", &merges),
        ("size", &huge),
        ("keys", &many_keys),
    ] {
        let parsed = read(text);
        assert!(parsed.problems.has_errors(), "{name}");
    }
}

/// Returns many copies of `part`, each `n` and `k` in it numbered.
fn many(part: &str) -> String {
    (0..20_000).map(|n| part.replace('k', &format!("k{n}"))).collect()
}
