//! A set of compiled rules, and what it decides about a path.

use std::fmt::Write as _;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::error::LoadError;
use crate::folder::Folder;
use crate::index::{Index, NONE};
use crate::load;
use crate::pattern::{Rule, Test, lower};
use crate::{IGNORE_FILE, Line, STAGE_DIR};

/// Entries of the sync root that are never synchronized, with all that is below them.
const INTERNAL: [&str; 4] = [".stfolder", IGNORE_FILE, ".stversions", STAGE_DIR];

/// Files whose name begins so are half-written copies of the original tool.
const TEMPORARY: [&str; 2] = [".syncthing.", "~syncthing~"];

/// A compiled set of ignore rules. Clones share it.
#[derive(Debug, Clone)]
pub struct Rules {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    rules: Vec<Rule>,
    exact: Index,
    folded: Index,
    /// The first rule that forbids to skip the folders that it or a later rule ignores.
    first_walked: u32,
}

/// What the rules say about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four independent answers, each a yes or no")]
pub struct Decision<'a> {
    /// The path is not synchronized: never read, sent, overwritten, or deleted, but see `deletable`.
    pub ignored: bool,
    /// The path is ignored, and may be deleted when that allows to delete its folder.
    pub deletable: bool,
    /// The rule that decided ignores case.
    pub case_folded: bool,
    /// The path is ignored, and if it is a folder, so is everything below it: it need not be walked.
    pub skip_dir: bool,
    /// The rule that decided. Nothing if no rule matched, or if the path is one that no rule can
    /// change: the root, and the names that are always ignored.
    pub rule: Option<RuleRef<'a>>,
}

/// The line that decided about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleRef<'a> {
    /// The file that holds it, relative to the sync root.
    pub file: &'a str,
    /// Its 1-based number in that file.
    pub line: u32,
    /// Its text, with `\` as the escape character.
    pub pattern: &'a str,
}

impl Rules {
    /// Returns the rules of a folder without an ignore file.
    pub fn empty() -> Self {
        Self::new(Vec::new())
    }

    /// Compiles the lines that [`lines`](Self::lines) of another instance returned.
    ///
    /// Each is a pattern: comments, blanks around it, `#include` and `#escape` mean nothing here.
    pub fn from_lines(lines: &[String]) -> Result<Self, LoadError> {
        load::compile(lines)
    }

    /// Returns the rules of both, those of `self` first: the first that matches decides. Each keeps its place.
    ///
    /// An error if both together are more than one set may be.
    pub fn followed_by(&self, next: &Self) -> Result<Self, LoadError> {
        load::joined(self, next)
    }

    pub(crate) fn new(compiled: Vec<(Rule, Test)>) -> Self {
        let mut rules = Vec::with_capacity(compiled.len());
        let (mut exact, mut folded) = (Index::default(), Index::default());
        for (position, (rule, test)) in (0..).zip(compiled) {
            let index = if rule.flags.folded { &mut folded } else { &mut exact };
            index.push(position, test);
            rules.push(rule);
        }
        let first_walked = (0..).zip(&rules).find(|(_, rule)| !rule.keeps_pruning);
        let first_walked = first_walked.map_or(NONE, |(position, _)| position);
        Self { inner: Arc::new(Inner { rules, exact, folded, first_walked }) }
    }

    /// Returns the pattern lines, flattened: includes and escapes resolved, repeated lines left out,
    /// the platform's folding of case written out, in Unicode's composed form. [`from_lines`](Self::from_lines) makes rules of
    /// them that decide alike.
    pub fn lines(&self) -> Vec<String> {
        self.portable_lines().map(|line| line.text).collect()
    }

    /// Returns the lines as [`lines`](Self::lines) does, with the places that they come from.
    pub(crate) fn portable_lines(&self) -> impl Iterator<Item = Line> {
        self.inner.rules.iter().map(|rule| {
            let text = crate::pattern::nfc(&rule.portable_text());
            Line { text, ..rule.line.clone() }
        })
    }

    /// Returns the pattern lines with the places that they come from.
    pub fn sources(&self) -> impl Iterator<Item = &Line> {
        self.inner.rules.iter().map(|rule| &rule.line)
    }

    /// Returns the compiled patterns in order, up to four of each line.
    pub fn patterns(&self) -> Vec<String> {
        self.inner.rules.iter().flat_map(Rule::patterns).collect()
    }

    /// Returns the SHA-256 of the compiled patterns in lower-case hex: equal for rules that decide
    /// alike by construction, whatever comments and includes they were written with.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        for pattern in self.inner.rules.iter().flat_map(Rule::patterns) {
            hasher.update(pattern.as_bytes());
            hasher.update(b"\n");
        }
        hasher.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// Decides about a path relative to the sync root, with `/` between components, in Unicode
    /// normal form C. The root itself (`.` or empty) is never ignored.
    pub fn decide(&self, path: &str) -> Decision<'_> {
        if is_always_ignored(path) {
            return Decision::ALWAYS;
        }
        if path.is_empty() || path == "." {
            return Decision::NEVER;
        }
        let Inner { exact, folded, .. } = &*self.inner;
        let first = |index: &Index, path: &str| index.first(&index.state(path), path);
        let mut position = if exact.is_empty() { NONE } else { first(exact, path) };
        if !folded.is_empty() {
            position = position.min(first(folded, &lower(path)));
        }
        self.decision(position)
    }

    /// Looks at a folder, so that each of its entries can be decided about without looking at all that is above it
    /// again. `path` is as in [`decide`](Self::decide); empty for the root.
    pub fn folder(&self, path: &str) -> Folder<'_> {
        Folder::new(self, path)
    }

    /// Returns what the rule at `position` says about a path for which it is the first that matches.
    pub(crate) fn decision(&self, position: u32) -> Decision<'_> {
        let Some(rule) = self.inner.rules.get(position as usize) else { return Decision::NEVER };
        let Line { file, number, text } = &rule.line;
        Decision {
            ignored: rule.flags.ignores,
            deletable: rule.flags.ignores && rule.flags.deletable,
            case_folded: rule.flags.folded,
            skip_dir: rule.flags.ignores && position < self.inner.first_walked,
            rule: Some(RuleRef { file, line: *number, pattern: text }),
        }
    }

    /// Returns the tests of the rules that tell case apart, and of those that do not.
    pub(crate) fn indexes(&self) -> (&Index, &Index) {
        (&self.inner.exact, &self.inner.folded)
    }
}

impl Decision<'_> {
    /// What is decided about names that no rule can make synchronized.
    pub(crate) const ALWAYS: Self =
        Self { ignored: true, deletable: false, case_folded: false, skip_dir: true, rule: None };
    /// What is decided where no rule matches.
    pub(crate) const NEVER: Self = Self { ignored: false, skip_dir: false, ..Self::ALWAYS };
}

impl Default for Rules {
    fn default() -> Self {
        Self::empty()
    }
}

/// Tells whether no rule can make the path synchronized.
fn is_always_ignored(path: &str) -> bool {
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    is_temporary(name) || is_internal(path.split('/').next().unwrap_or_default())
}

/// Tells whether an entry of this name is never synchronized, wherever it is.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with(['.', '~']) && TEMPORARY.iter().any(|prefix| name.starts_with(prefix))
}

/// Tells whether the entry of the root with this name is never synchronized, with all that is below it.
pub(crate) fn is_internal(name: &str) -> bool {
    name.starts_with('.') && INTERNAL.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_folder_is_never_synchronized() {
        let rules = Rules::from_lines(&["!*".to_owned()]).unwrap();
        for path in [".towline-stage", ".towline-stage/x/y"] {
            assert!(rules.decide(path).ignored && rules.decide(path).skip_dir, "{path}");
        }
        for path in ["a/.towline-stage", ".towline-stagex", "", "."] {
            assert!(!rules.decide(path).ignored, "{path}");
        }
    }

    #[test]
    fn the_root_is_never_ignored() {
        let rules = Rules::from_lines(&["**".to_owned()]).unwrap();
        assert!(!rules.decide(".").ignored && !rules.decide("").ignored);
        assert!(rules.decide("a").ignored);
    }

    #[test]
    fn rules_can_be_shared_between_threads() {
        fn check<T: Send + Sync + Clone + 'static>() {}
        check::<Rules>();
    }
}
