//! One pattern line → its flags and its compiled patterns.

use crate::Line;
use crate::error::Fault;
use crate::glob::{Glob, Part, parse};
use crate::need::Need;
use crate::plain::{self, Plain, Start};

/// A pattern line, compiled.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) line: Line,
    pub(crate) flags: Flags,
    /// The texts of its patterns, in order, without prefixes.
    pub(crate) texts: Vec<String>,
    /// Tells whether a folder ignored by a later line may still be skipped whole.
    pub(crate) keeps_pruning: bool,
}

/// What the prefixes of a line say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags {
    /// Matching paths are ignored; `!` clears it.
    pub(crate) ignores: bool,
    /// `(?d)`: matching paths may be deleted with their folder.
    pub(crate) deletable: bool,
    /// `(?i)`: upper and lower case are the same.
    pub(crate) folded: bool,
}

/// How to tell whether a line matches a path.
#[derive(Debug)]
pub(crate) enum Test {
    /// One of these names the path or a folder above it.
    Plain(Vec<Plain>),
    /// One of the globs matches the whole path. Every match contains all of `literals`, and has a component that
    /// meets `need`.
    Globs { globs: Vec<Glob>, literals: Vec<Box<str>>, need: Need },
}

impl Rule {
    /// Compiles a line, whose escape character is `\`, and returns how to test for it. With `fold`,
    /// it is case-folded without `(?i)` as well.
    pub(crate) fn new(line: Line, fold: bool) -> Result<(Self, Test), Fault> {
        let (texts, flags) = expand(&line.text, fold)?;
        let start = match texts.first() {
            Some(text) if text.starts_with('/') => Start::Root,
            Some(text) if text.starts_with("**/") => Start::Anywhere,
            _ => Start::Name,
        };
        let mut globs = Vec::new();
        for text in &texts {
            let glob = if start == Start::Root { text.strip_prefix('/').unwrap_or(text) } else { text };
            let parts = parse(glob).map_err(|why| {
                let pattern = texts.first().unwrap_or(text).clone();
                Fault::Glob { pattern, why }
            })?;
            globs.push(parts);
        }
        let keeps_pruning = flags.ignores || texts.iter().all(|text| is_prune_safe(text));
        let test = if let Some(forms) = plain::forms(start, &globs) {
            Test::Plain(forms)
        } else {
            let first = globs.first().map(Vec::as_slice).unwrap_or_default();
            // What follows a NUL can be cut off, in some globs of the line and not in others.
            let first = if line.text.contains('\0') { &[] } else { first };
            let (literals, need) = (literals(first), Need::of_parts(first));
            Test::Globs { literals, need, globs: globs.into_iter().map(Glob::new).collect() }
        };
        Ok((Self { line, flags, texts, keeps_pruning }, test))
    }

    /// Returns the patterns with their prefixes in canonical order.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = String> {
        let deletable = if self.flags.ignores && self.flags.deletable { "(?d)" } else { "" };
        let folded = if self.flags.folded { "(?i)" } else { "" };
        let negated = if self.flags.ignores { "" } else { "!" };
        self.texts.iter().map(move |text| format!("{deletable}{folded}{negated}{text}"))
    }

    /// Returns the line so that it means the same without the `fold` that it was compiled with.
    pub(crate) fn portable_text(&self) -> String {
        let prefixes = Prefixes::take(&self.line.text);
        if self.flags.folded && !prefixes.folded {
            format!("(?i){}", self.line.text)
        } else {
            self.line.text.clone()
        }
    }
}

impl Test {
    /// Returns what the test costs in memory and time, in parts of globs.
    pub(crate) fn cost(&self) -> usize {
        match self {
            Self::Globs { globs, .. } => globs.iter().map(|glob| 1 + glob.cost()).sum(),
            Self::Plain(forms) => forms.iter().map(Plain::cost).sum(),
        }
    }
}

/// Lower-cases by code point, with the simple mapping: `Σ` is always `σ`, `İ` is `i`.
pub(crate) fn lower(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.chars().map(|c| c.to_lowercase().next().unwrap_or(c)).collect()
}

/// The prefixes of a pattern, each taken once, in any order.
struct Prefixes<'a> {
    negated: bool,
    deletable: bool,
    folded: bool,
    rest: &'a str,
}

impl<'a> Prefixes<'a> {
    fn take(text: &'a str) -> Self {
        let mut taken = Self { negated: false, deletable: false, folded: false, rest: text };
        loop {
            let Self { negated, deletable, folded, rest } = &mut taken;
            let Some((seen, after)) = [(negated, "!"), (deletable, "(?d)"), (folded, "(?i)")]
                .into_iter()
                .filter(|(seen, _)| !**seen)
                .find_map(|(seen, prefix)| rest.strip_prefix(prefix).map(|after| (seen, after)))
            else {
                return taken;
            };
            *seen = true;
            *rest = after;
        }
    }
}

/// Expands a line to the texts of its patterns: what it names, and what lies below that; each at
/// the root, and unless the line begins with `/`, in any folder.
fn expand(line: &str, fold: bool) -> Result<(Vec<String>, Flags), Fault> {
    let sources = if line.ends_with("/**") {
        vec![line.to_owned()]
    } else if line.ends_with('/') {
        vec![format!("{line}**")]
    } else {
        vec![line.to_owned(), format!("{line}/**")]
    };
    let mut texts = Vec::with_capacity(4);
    let mut flags = Flags { ignores: true, deletable: false, folded: fold };
    for source in sources {
        let normal = nfc(&source);
        let prefixes = Prefixes::take(&normal);
        if prefixes.rest.is_empty() {
            return Err(Fault::MissingPattern { pattern: source });
        }
        flags.ignores = !prefixes.negated;
        flags.deletable = prefixes.deletable;
        flags.folded = fold || prefixes.folded;
        let text = if flags.folded { lower(prefixes.rest) } else { prefixes.rest.to_owned() };
        if text.starts_with('/') {
            texts.push(text);
        } else if let Some(rest) = text.strip_prefix("**/") {
            let rest = rest.to_owned();
            texts.push(text);
            if !rest.is_empty() {
                texts.push(rest);
            }
        } else {
            let anywhere = format!("**/{text}");
            texts.extend([text, anywhere]);
        }
    }
    Ok((texts, flags))
}

/// Tells whether a `!` pattern can match nothing below a folder that a later pattern ignores, so
/// that the folder need not be walked: it names entries of the root only.
fn is_prune_safe(text: &str) -> bool {
    let Some(below_root) = text.strip_prefix('/') else { return false };
    if below_root == "**" {
        return true;
    }
    let entry = below_root.strip_suffix("/**").unwrap_or(below_root);
    !entry.contains('/') && !entry.strip_suffix("**").unwrap_or(entry).contains("**")
}

/// The texts that every match of the line contains: those of its first glob outside braces, less
/// the slashes at their ends, which the other globs of the line may lack.
fn literals(parts: &[Part]) -> Vec<Box<str>> {
    parts
        .iter()
        .filter_map(|part| match part {
            Part::Text(text) => Some(text.trim_matches('/').into()),
            Part::One(_) | Part::Any | Part::Super | Part::Alternatives(_) => None,
        })
        .collect()
}

/// Returns the text in Unicode's composed form (NFC).
#[cfg(feature = "normalize")]
pub(crate) fn nfc(text: &str) -> String {
    use unicode_normalization::UnicodeNormalization;

    text.nfc().collect()
}

/// Returns the text as it is: lines that were made by [`crate::Rules::lines`] are in composed form already.
#[cfg(not(feature = "normalize"))]
pub(crate) fn nfc(text: &str) -> String {
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Result<Rule, Fault> {
        Rule::new(Line { file: String::new(), number: 1, text: text.to_owned() }, false).map(|(rule, _)| rule)
    }

    #[track_caller]
    fn check(line: &str, expected: &[&str]) {
        assert_eq!(rule(line).unwrap().patterns().collect::<Vec<_>>(), expected, "{line}");
    }

    #[test]
    fn expansion() {
        check("foo", &["foo", "**/foo", "foo/**", "**/foo/**"]);
        check("/foo", &["/foo", "/foo/**"]);
        check("**/foo", &["**/foo", "foo", "**/foo/**", "foo/**"]);
        check("foo/", &["foo/**", "**/foo/**"]);
        check("/", &["/**"]);
        check("**/", &["**/**", "**"]);
        check("(?i)!!(?d)A", &["(?i)!!(?d)a", "(?i)!**/!(?d)a", "(?i)!!(?d)a/**", "(?i)!**/!(?d)a/**"]);
        check("(?i)(?d)/A", &["(?d)(?i)/a", "(?d)(?i)/a/**"]);
    }

    #[test]
    fn a_prefix_alone_is_a_fault() {
        for line in ["!", "(?i)", "(?d)(?i)!"] {
            assert_eq!(rule(line).unwrap_err(), Fault::MissingPattern { pattern: line.to_owned() });
        }
    }

    #[test]
    fn lower_case_is_by_code_point() {
        assert_eq!(lower("ΑΣ İẞǅ\u{212a}ß"), "ασ ißǆkß");
    }

    #[test]
    fn prune_safety() {
        for text in ["/", "/**", "/x", "/x/**", "/t*t", "/a**", "/a***", "/a**/**"] {
            assert!(is_prune_safe(text), "{text}");
        }
        for text in ["x", "**/x", "/a/b", "/x/*", "/**.mp3", "/a**b", "/x/**/**", "/a****"] {
            assert!(!is_prune_safe(text), "{text}");
        }
    }
}
