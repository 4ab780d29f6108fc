//! Text of `.stignore` and a path: keep or skip, and which line decided.
//!
//! The language is exactly that of Syncthing's `.stignore`, down to the answers of its glob engine
//! where they differ from what a glob means by the book. The crate touches no disk: included files
//! come through a closure.
//!
//! The side that owns the ignore file loads it ([`load`]); the other side gets the flattened lines
//! ([`Rules::lines`]) and makes the same rules from them ([`Rules::from_lines`]), so that both decide
//! alike.
//!
//! ```
//! use std::io;
//! use towline_ignore::{LoadOptions, load};
//!
//! let mut read = |file: &str| match file {
//!     ".stignore" => Ok("!keep.log\n*.log\n".to_owned()),
//!     _ => Err(io::Error::from(io::ErrorKind::NotFound)),
//! };
//! let rules = load(".stignore", &mut read, LoadOptions::default())?;
//! let decision = rules.decide("logs/today.log");
//! assert!(decision.ignored);
//! assert_eq!(decision.rule.unwrap().line, 2);
//! assert!(!rules.decide("logs/keep.log").ignored);
//! # Ok::<(), towline_ignore::LoadError>(())
//! ```
#![forbid(unsafe_code)]

mod error;
mod folder;
mod glob;
mod index;
mod load;
mod need;
mod pattern;
mod plain;
mod rules;

pub use error::{Fault, GlobFault, LoadError};
pub use folder::Folder;
pub use load::{LoadOptions, Platform, load};
pub use rules::{Decision, RuleRef, Rules};

/// The name of the ignore file at the sync root.
pub const IGNORE_FILE: &str = ".stignore";

/// The folder at the sync root where incoming files are staged; never synchronized.
pub const STAGE_DIR: &str = ".towline-stage";

/// All ignore files of one load together may be this long, in bytes.
pub const MAX_TEXT: usize = 1 << 20;

/// A line may be this long, in bytes, with its line end.
pub const MAX_LINE: usize = (1 << 16) - 1;

/// One load may open this many included files.
pub const MAX_INCLUDES: usize = 256;

/// All globs of one set of rules together may have this many parts (runs of text, wildcards,
/// classes, alternatives). A line has four globs at most.
pub const MAX_PARTS: usize = 200_000;

/// Braces in a pattern may nest this deep.
pub const MAX_DEPTH: usize = 64;

/// One pattern line of an ignore file, as it counts after includes and escapes are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The file that holds it, relative to the sync root.
    pub file: String,
    /// Its 1-based number in that file.
    pub number: u32,
    /// Its text, with `\` as the escape character.
    pub text: String,
}
