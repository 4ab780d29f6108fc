//! What a replica holds: entries by path, contents by hash.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::path::RelPath;

/// BLAKE3 of a file's whole content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Returns the hash of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }

    /// Returns the 64 hexadecimal digits, as file names of conflicts and trash use them.
    pub fn to_hex(self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex()[..12])
    }
}

/// What stands at one path. Owners, times and every mode bit but the exec bit stay where they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Entry {
    /// A folder.
    Directory,
    /// A regular file.
    File(File),
    /// A symbolic link that stays beneath the root; the text of the link, not what it leads to.
    Symlink {
        /// The link's raw text.
        target: String,
    },
    /// Something that exists and is not synced: never a deletion, never overwritten, only reported.
    Opaque(Opaque),
}

impl Entry {
    /// Returns the hash of a file's content; nothing else has one.
    pub fn hash(&self) -> Option<Hash> {
        match self {
            Self::File(file) => Some(file.hash),
            Self::Directory | Self::Symlink { .. } | Self::Opaque(_) => None,
        }
    }

    /// Tells whether it is a file or a link.
    pub fn is_leaf(&self) -> bool {
        matches!(self, Self::File(_) | Self::Symlink { .. })
    }
}

/// A regular file's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct File {
    /// Of the content.
    pub hash: Hash,
    /// In bytes.
    pub size: u64,
    /// Whether the owner may execute it: the only mode bit that travels.
    pub executable: bool,
}

/// Why an entry is not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Opaque {
    /// A device, socket or FIFO.
    Special,
    /// Reading it failed (permission, I/O error).
    Unreadable,
    /// A symbolic link whose target is absolute or leaves the root.
    OutsideLink,
    /// A mount point: it can't be replaced, and what is in it belongs to another volume.
    Mount,
    /// A name that is not UTF-8, or differs from another only in case on a case-blind disk.
    Name,
    /// Version-control or tool configuration that runs code; never written from the pod.
    Protected,
}

impl Opaque {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::Special, Self::Unreadable, Self::OutsideLink, Self::Mount, Self::Name, Self::Protected];
}

/// Everything a replica holds, by path.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Snapshot(pub BTreeMap<RelPath, Entry>);

/// What was seen at one path: an entry, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Where.
    pub path: RelPath,
    /// What stands there now; `None` when nothing does.
    pub entry: Option<Entry>,
}

/// One path's step from one state to another: a create, a change, a delete or a change of type.
///
/// `from` is the precondition: a replica that finds anything else changes nothing and says what it found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// Where.
    pub path: RelPath,
    /// What must stand there before.
    pub from: Option<Entry>,
    /// What stands there after.
    pub to: Option<Entry>,
}
