//! What can be wrong with a set of ignore rules, and where.

use std::io;

/// Why the ignore rules of a folder could not be loaded.
///
/// A caller must stop on it: an error never means "no rules", because syncing without the rules
/// would send and delete what the user wanted left alone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file that the load starts from exists but could not be read.
    #[error("cannot read the ignore file {file}: {source}")]
    Read {
        /// The file, relative to the sync root.
        file: String,
        /// What the reader said.
        #[source]
        source: io::Error,
    },
    /// A file named by an `#include` line exists but could not be read.
    #[error("{file}:{line}: cannot read the included file {include}: {source}")]
    Include {
        /// The file that holds the `#include` line, relative to the sync root.
        file: String,
        /// The 1-based number of that line.
        line: u32,
        /// The included file, relative to the sync root.
        include: String,
        /// What the reader said.
        #[source]
        source: io::Error,
    },
    /// A line is wrong.
    #[error("{file}:{line}: {fault}")]
    Line {
        /// The file, relative to the sync root.
        file: String,
        /// The 1-based number of the line.
        line: u32,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// What is wrong with one line of an ignore file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// More than one `#escape` line in one file.
    #[error("a second #escape line in the same file")]
    SecondEscape,
    /// An `#escape` line below the first pattern of its file.
    #[error("the #escape line must come before the first pattern of the file")]
    LateEscape,
    /// An `#escape` line without `=` and exactly one character.
    #[error("an #escape line must be `#escape=` and one character, not {text:?}")]
    MalformedEscape {
        /// The line as it stands in the file.
        text: String,
    },
    /// An `#include` line that names no file.
    #[error("#include names no file")]
    IncludeWithoutName,
    /// An `#include` of a file that does not exist.
    #[error("the included file {include} does not exist")]
    IncludeMissing {
        /// The file, relative to the sync root.
        include: String,
    },
    /// An `#include` of a file that this load has opened already.
    #[error("{include} is included more than once")]
    IncludedTwice {
        /// The file, relative to the sync root.
        include: String,
    },
    /// An `#include` that leads out of the sync root.
    #[error("the included file {include} is outside the synchronized folder")]
    IncludeOutside {
        /// The file, relative to the sync root.
        include: String,
    },
    /// A line that holds prefixes and no pattern.
    #[error("{pattern:?} has a prefix but no pattern")]
    MissingPattern {
        /// The pattern as it is compiled.
        pattern: String,
    },
    /// A pattern that is no valid glob.
    #[error("invalid pattern {pattern:?}: {why}")]
    Glob {
        /// The pattern as it is compiled.
        pattern: String,
        /// What the glob parser stumbled over.
        why: GlobFault,
    },
    /// More than this implementation accepts, so that no file can exhaust memory or time.
    #[error("too much for one set of ignore rules: more than {limit} {what}")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much is accepted.
        limit: usize,
    },
}

/// Why a pattern is no valid glob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GlobFault {
    /// A `[` without its `]`.
    #[error("unexpected end of the pattern inside [ ]")]
    UnexpectedEnd,
    /// Something else than `]` after `[lo-hi`: a class holds one range, or a list, never both.
    #[error("expected ] after a range")]
    ExpectedClose,
    /// A range whose ends are in the wrong order.
    #[error("the range runs from {lo:?} down to {hi:?}")]
    ReversedRange {
        /// The first character of the range.
        lo: char,
        /// The last character of the range.
        hi: char,
    },
    /// `[]` or `[!]`.
    #[error("empty [ ]")]
    EmptyClass,
    /// A character that is not valid Unicode text (U+FFFD stands for it).
    #[error("unreadable character")]
    UnreadableCharacter,
    /// Braces nested deeper than [`MAX_DEPTH`](crate::MAX_DEPTH).
    #[error("braces are nested too deep")]
    TooDeep,
}
