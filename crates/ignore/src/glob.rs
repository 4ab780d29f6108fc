//! One compiled glob: the matcher tree of the reference engine, with the textbook meaning behind it.

mod build;
mod syntax;
mod textbook;
mod tree;

pub(crate) use syntax::{One, Part, parse};
use tree::Node;

/// Patterns with more parts than this are matched by their textbook meaning only: building the tree
/// takes time that grows with the square of it, and no hand-written pattern comes near.
const MAX_TREE_PARTS: usize = 256;

/// Steps that the tree may take for one path. Backtracking over many `*` can take exponential time;
/// past this the textbook matcher, which takes `parts * path length`, answers.
const MAX_STEPS: usize = 50_000;

/// A compiled glob.
#[derive(Debug)]
pub(crate) struct Glob {
    parts: Vec<Part>,
    tree: Option<Node>,
}

impl Glob {
    /// Compiles parsed parts.
    pub(crate) fn new(parts: Vec<Part>) -> Self {
        let tree = (syntax::count(&parts) <= MAX_TREE_PARTS).then(|| build::sequence(&parts));
        Self { parts, tree }
    }

    /// Tells whether the glob matches the whole of `path`.
    ///
    /// Where the reference engine would crash on this path, the textbook meaning decides.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let mut steps = MAX_STEPS;
        self.tree
            .as_ref()
            .and_then(|tree| tree.matches(path.as_bytes(), &mut steps))
            .unwrap_or_else(|| textbook::matches(&self.parts, path))
    }

    /// Tells whether it is `**`, which matches every path.
    pub(crate) fn is_everything(&self) -> bool {
        self.parts == [Part::Super]
    }

    /// The number of parts, nested ones included: what the glob costs in memory.
    pub(crate) fn cost(&self) -> usize {
        syntax::count(&self.parts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn glob(pattern: &str) -> Glob {
        Glob::new(parse(pattern).unwrap())
    }

    #[track_caller]
    fn check(pattern: &str, path: &str, reference: bool, textbook: bool) {
        let glob = glob(pattern);
        assert_eq!(glob.matches(path), reference, "the tree on {pattern} and {path}");
        assert_eq!(textbook::matches(&glob.parts, path), textbook, "the textbook on {pattern} and {path}");
    }

    #[test]
    fn overlapping_ends_of_a_double_star_match() {
        check("a**a", "a", true, false);
        check("a**a", "aa", true, true);
        check("foo/**/bar", "foo/bar", true, false);
    }

    #[test]
    fn a_tree_is_never_entered_for_an_empty_rest() {
        check("***b", "b", false, true);
        check("***b", "ab", true, true);
        check("*{,a}b", "b", false, true);
    }

    #[test]
    fn an_alternative_of_unknown_length_is_forgotten_when_it_comes_first() {
        check("x{*,b}", "x", false, true);
        check("x{*,b}", "xa", true, true);
        check("x{*,b}", "xab", false, true);
        check("x{b,*}", "xab", true, true);
    }

    #[test]
    fn an_empty_member_of_a_row_takes_the_rest() {
        check("{}a", "a", false, true);
        check("a{}?", "ab", false, true);
    }

    #[test]
    fn characters_of_a_row_are_counted_as_bytes() {
        check("*[äö]?.txt", "äb.txt", false, true);
        check("*[ab]?.txt", "ab.txt", true, true);
    }

    #[test]
    fn a_path_that_crashes_the_reference_gets_the_textbook_answer() {
        let pattern = "[aé]/é**/?";
        let tree = glob(pattern).tree.unwrap();
        assert_eq!(tree.matches("a/éa".as_bytes(), &mut MAX_STEPS.clone()), None);
        check(pattern, "a/éa", false, false);
        check(pattern, "a/éx/a", true, true);
    }

    #[test]
    fn many_stars_end_in_time() {
        let pattern = "*a".repeat(40) + "b";
        let path = "a".repeat(400);
        assert!(!glob(&pattern).matches(&path));
        assert!(glob(&pattern).matches(&(path + "b")));
    }

    #[test]
    fn a_pattern_of_thousands_of_parts_is_matched_all_the_same() {
        let pattern = "a*".repeat(2_000);
        assert!(glob(&pattern).matches(&"a".repeat(2_000)));
        assert!(!glob(&pattern).matches(&"a".repeat(1_999)));
    }

    #[test]
    fn equal_negated_lists_in_a_row_forbid_only_the_whole_list() {
        check("[!ab][!ab]", "aa", true, false);
        check("[!ab][!ab]", "ab", false, false);
        check("[!ab][!ab]", "xy", true, true);
    }

    proptest! {
        /// Without `**`, braces and characters beyond ASCII the tree has no quirk.
        #[test]
        fn the_tree_is_the_textbook_where_there_is_no_quirk(
            parts in prop::collection::vec("[ab/.]{1,2}|\\?|\\[ab\\]|\\[!a\\]|\\[a-b\\]|\\*[ab/]", 1..7),
            tail in "\\*?(/\\*\\*)?",
            lead in "(\\*\\*/)?",
            path in "[ab./]{1,8}",
        ) {
            let text = format!("{lead}{}{tail}", parts.concat());
            let glob = glob(&text);
            let mut steps = MAX_STEPS;
            let answer = glob.tree.as_ref().unwrap().matches(path.as_bytes(), &mut steps);
            prop_assert_eq!(answer, Some(textbook::matches(&glob.parts, &path)), "{} on {}", text, path);
        }

        #[test]
        fn no_pattern_and_no_path_panics(pattern in "[abé/*?!,\\-\\[\\]{}\\\\\u{0}\u{fffd}]{0,16}", path in "[abé/\u{0}]{0,12}") {
            if let Ok(parts) = parse(&pattern) {
                let glob = Glob::new(parts);
                let _ = glob.matches(&path);
                let _ = textbook::matches(&glob.parts, &path);
            }
        }
    }
}
