//! Paths relative to a sync root, safe by construction.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};

/// The longest path accepted, in bytes, as Linux counts (`PATH_MAX`).
pub const MAX_PATH_BYTES: usize = 4096;
/// The longest component accepted, in bytes (`NAME_MAX`).
pub const MAX_NAME_BYTES: usize = 255;
/// The deepest path accepted, in components.
pub const MAX_DEPTH: usize = 256;
/// The private folder at the root of every replica: staging, trash and the epoch token. Never synced.
pub const STAGE_DIR: &str = ".towline-stage";

/// A path below a sync root: one or more components joined by `/`, none of them empty, `.` or `..`.
///
/// The only way from bytes of a peer or a disk to a path that reaches a system call is [`RelPath::new`]. A copy shares
/// the text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RelPath(Arc<str>);

/// Why a text is not a [`RelPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("path {path:?} {problem}")]
pub struct PathError {
    path: String,
    problem: &'static str,
}

impl RelPath {
    /// Parses a path of `/`-separated components.
    pub fn new(path: impl Into<Arc<str>>) -> Result<Self, PathError> {
        let path = path.into();
        match problem(path.as_bytes()) {
            None => Ok(Self(path)),
            Some(problem) => Err(PathError { path: path.as_ref().to_owned(), problem }),
        }
    }

    /// Returns the text, components joined by `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the components, outermost first.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// Returns the last component.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Returns the folder that holds this path, or `None` at the root.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.into()))
    }

    /// Returns every folder above this path, nearest first.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(self.parent(), Self::parent)
    }

    /// Returns the path of `name` in this folder.
    pub fn join(&self, name: &str) -> Result<Self, PathError> {
        Self::new(format!("{}/{name}", self.0))
    }

    /// Returns where this path, which is `from` or lies below it, is when that folder is at `to`.
    pub fn renamed(&self, from: &Self, to: &Self) -> Result<Self, PathError> {
        Self::new(format!("{to}{}", &self.0[from.0.len()..]))
    }

    /// Tells whether this path lies below `folder` (a path does not lie below itself).
    pub fn is_below(&self, folder: &Self) -> bool {
        self.0.strip_prefix(&*folder.0).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Tells whether this is our private folder or lies in it.
    pub fn is_private(&self) -> bool {
        self.components().next() == Some(STAGE_DIR)
    }
}

/// Returns what is wrong with a path, looking at each byte once.
fn problem(path: &[u8]) -> Option<&'static str> {
    if path.is_empty() {
        return Some("is empty");
    }
    if path.len() > MAX_PATH_BYTES {
        return Some("is longer than 4096 bytes");
    }
    let (mut start, mut depth) = (0, 1);
    for (at, byte) in path.iter().enumerate() {
        match byte {
            0 => return Some("contains a NUL"),
            b'/' => {
                if let Some(problem) = name_problem(&path[start..at]) {
                    return Some(problem);
                }
                start = at + 1;
                depth += 1;
            }
            _ => {}
        }
    }
    if depth > MAX_DEPTH { Some("is deeper than 256 folders") } else { name_problem(&path[start..]) }
}

fn name_problem(name: &[u8]) -> Option<&'static str> {
    match name {
        b"" => Some("has an empty component"),
        b"." | b".." => Some("has a component `.` or `..`"),
        name if name.len() > MAX_NAME_BYTES => Some("has a component longer than 255 bytes"),
        _ => None,
    }
}

/// Returns what lies below `folder` in a map by path, in order.
pub fn below<'a, V>(
    map: &'a BTreeMap<RelPath, V>,
    folder: &RelPath,
) -> impl DoubleEndedIterator<Item = (&'a RelPath, &'a V)> + use<'a, V> {
    let (from, to) = bounds(folder);
    map.range::<str, _>((Bound::Included(from.as_str()), Bound::Excluded(to.as_str())))
}

/// Returns what lies below `folder` in a set of paths, in order.
pub fn below_in<'a>(
    set: &'a BTreeSet<RelPath>,
    folder: &RelPath,
) -> impl DoubleEndedIterator<Item = &'a RelPath> + use<'a> {
    let (from, to) = bounds(folder);
    set.range::<str, _>((Bound::Included(from.as_str()), Bound::Excluded(to.as_str())))
}

/// In the order of bytes, what begins with `folder/` is one run, and `0` follows `/`.
fn bounds(folder: &RelPath) -> (String, String) {
    (format!("{folder}/"), format!("{folder}0"))
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        // Most paths that are compared with the same one are copies of each other.
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl Borrow<str> for RelPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RelPath {
    type Error = PathError;

    fn try_from(path: String) -> Result<Self, PathError> {
        Self::new(path)
    }
}

impl From<RelPath> for String {
    fn from(path: RelPath) -> Self {
        path.as_str().to_owned()
    }
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = RelPath;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path")
            }

            fn visit_str<E: Error>(self, path: &str) -> Result<RelPath, E> {
                RelPath::new(path).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, ok: bool) {
        assert_eq!(RelPath::new(path).is_ok(), ok, "{path:?}");
    }

    #[test]
    fn only_beneath_the_root() {
        check("a", true);
        check("a/b c/ü", true);
        check("..a/.b", true);
        check("", false);
        check("/", false);
        check("/etc/passwd", false);
        check("a//b", false);
        check("a/", false);
        check(".", false);
        check("a/./b", false);
        check("../a", false);
        check("a/..", false);
        check("a\0b", false);
        check(&"x".repeat(256), false);
        check(&vec!["d"; 256].join("/"), true);
        check(&vec!["d"; 257].join("/"), false);
        check(&format!("{}/a", "x".repeat(255)), true);
        check(&format!("{}/a", "x".repeat(256)), false);
        check(&format!("a/{}", "x".repeat(256)), false);
        check(&vec!["d".repeat(200); 25].join("/"), false);
    }

    #[test]
    fn family() {
        let path = RelPath::new("a/b/c").unwrap();
        assert_eq!(path.name(), "c");
        assert_eq!(path.ancestors().map(String::from).collect::<Vec<_>>(), ["a/b", "a"]);
        assert!(path.is_below(&RelPath::new("a").unwrap()));
        assert!(!path.is_below(&path));
        assert!(!RelPath::new("ab/c").unwrap().is_below(&RelPath::new("a").unwrap()));
        assert!(RelPath::new(".towline-stage/x").unwrap().is_private());
        assert!(!RelPath::new("x/.towline-stage").unwrap().is_private());
    }
}
