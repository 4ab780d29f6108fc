//! What of a root is ours to touch: the ignore rules, the excluded paths, and our own folder.

use std::collections::BTreeSet;

use towline_ignore::LoadError;
use towline_sync_core::path::RelPath;

/// What to leave alone.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    ignore: towline_ignore::Rules,
    excluded: BTreeSet<RelPath>,
}

/// What the rules say about one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Never read, reported, overwritten or deleted.
    pub(crate) ignored: bool,
    /// Ignored, and may go with its folder.
    pub(crate) deletable: bool,
    /// Ignored, and so is everything below.
    pub(crate) skip_dir: bool,
}

impl From<towline_ignore::Decision<'_>> for Verdict {
    fn from(decision: towline_ignore::Decision<'_>) -> Self {
        Self { ignored: decision.ignored, deletable: decision.deletable, skip_dir: decision.skip_dir }
    }
}

/// The rules for what is in one folder.
#[derive(Debug)]
pub(crate) struct FolderRules<'a> {
    rules: &'a Rules,
    ignore: towline_ignore::Folder<'a>,
}

impl FolderRules<'_> {
    /// Decides about the entry at `path`, as [`Rules::decide`] does.
    pub(crate) fn decide(&self, path: &RelPath) -> Verdict {
        match self.rules.kept_out(path) {
            Some(verdict) => verdict,
            None => self.ignore.decide(path.name()).into(),
        }
    }
}

impl Rules {
    /// Compiles the flattened lines of an ignore file.
    pub(crate) fn new(ignore: &[String], excluded: Vec<RelPath>) -> Result<Self, LoadError> {
        let ignore = towline_ignore::Rules::from_lines(ignore)?;
        Ok(Self { ignore, excluded: excluded.into_iter().collect() })
    }

    /// Decides about a path.
    pub(crate) fn decide(&self, path: &RelPath) -> Verdict {
        match self.kept_out(path) {
            Some(verdict) => verdict,
            None => self.ignore.decide(path.as_str()).into(),
        }
    }

    /// Returns the verdict about what is kept out whatever the ignore rules say.
    fn kept_out(&self, path: &RelPath) -> Option<Verdict> {
        (path.is_private() || self.is_excluded(path)).then_some(Verdict {
            ignored: true,
            deletable: false,
            skip_dir: true,
        })
    }

    /// Looks at a folder, the root where `path` is `None`, so that what is above it is not looked at again for each of
    /// its entries.
    pub(crate) fn folder(&self, path: Option<&RelPath>) -> FolderRules<'_> {
        FolderRules { rules: self, ignore: self.ignore.folder(path.map_or("", RelPath::as_str)) }
    }

    /// Tells whether a walk of the root never comes to this path.
    pub(crate) fn is_pruned(&self, path: &RelPath) -> bool {
        self.decide(path).skip_dir || path.ancestors().any(|folder| self.decide(&folder).skip_dir)
    }

    fn is_excluded(&self, path: &RelPath) -> bool {
        !self.excluded.is_empty()
            && (self.excluded.contains(path)
                || path.ancestors().any(|folder| self.excluded.contains(&folder)))
    }
}
