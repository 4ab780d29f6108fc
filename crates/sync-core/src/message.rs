//! What the engine and a replica say to each other. Encoded with postcard; the order of variants is the format.
//!
//! The engine is the only one that asks. Requests carry an `id` of the engine's choosing; every `Apply`, `Read`,
//! `Sign`, `Keep`, `Fetch` and `Install` is answered exactly once under its id. All requests may be pipelined.

use serde::{Deserialize, Serialize};

pub use crate::block::Signature;
use crate::outline::Outline;
use crate::path::RelPath;
use crate::snapshot::{Change, Entry, File, Hash, Transition};

/// The version of this format; the agent's hello carries the whole binary's hash besides.
pub const VERSION: u16 = 6;
/// The most file content in one [`Block`], in bytes.
pub const MAX_BLOCK_BYTES: usize = 128 * 1024;
/// The longest file that travels in a batch with others, in bytes.
pub const MAX_SMALL_BYTES: u64 = 64 * 1024;
/// The most content in one batch of small files, in bytes.
pub const MAX_BATCH_BYTES: usize = 256 * 1024;
/// The longest encoded message, in bytes: longer is refused before anything is allocated.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// Names a question so that its answer finds home.
pub type RequestId = u64;

/// From the engine to a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Opens the root and starts to watch. First message; answered by `Opened` or `OpenFailed`.
    Open(Open),
    /// Scans everything; answered by `Entries` and `Contents`, the last of them an `Entries` with `last`.
    Scan {
        /// Whether the content of small files comes along: for a first sync, which then reads each file once.
        eager: bool,
    },
    /// Makes one transition. With [`Content::Incoming`], `Data` messages of the same id follow at once.
    Apply {
        /// Names the answer.
        id: RequestId,
        /// What to do, and on what condition.
        transition: Transition,
        /// Where a file's bytes come from.
        content: Content,
    },
    /// A piece of the content for an `Apply` or a `Keep`.
    Data {
        /// The `Apply`'s or `Keep`'s id.
        id: RequestId,
        /// The piece.
        block: Block,
    },
    /// Reads a file if it is still `expect`; answered by `Data`, `ReadFailed` or `NeedSignature`.
    Read {
        /// Names the answer.
        id: RequestId,
        /// Which file.
        path: RelPath,
        /// What it must be.
        expect: File,
        /// What the receiver has instead: where its blocks are known, only the difference is sent.
        basis: Basis,
    },
    /// Signs a file's blocks if it is still `expect`; answered by `Signed` or `ReadFailed`.
    Sign {
        /// Names the answer.
        id: RequestId,
        /// Which file.
        path: RelPath,
        /// What it must be.
        expect: File,
    },
    /// Keeps the other side's bytes of a conflict outside the tree; `Data` follows. Answered by `Applied`.
    Keep {
        /// Names the answer.
        id: RequestId,
        /// The path both sides changed.
        path: RelPath,
        /// What the other side had there.
        file: File,
    },
    /// Reads small files, those that are still what is expected; answered by `Fetched`.
    Fetch {
        /// Names the answer.
        id: RequestId,
        /// Which files, and what they must be; together at most [`MAX_BATCH_BYTES`].
        files: Vec<Wanted>,
    },
    /// Makes entries where nothing stands, folders before what is in them, and replaces files; answered by `Installed`.
    Install {
        /// Names the answer.
        id: RequestId,
        /// What to make; the files together at most [`MAX_BATCH_BYTES`].
        entries: Vec<New>,
    },
    /// Gives up an `Apply`, `Keep` or `Read` whose other half failed; what was staged is thrown away. Not answered.
    Cancel {
        /// Which.
        id: RequestId,
    },
    /// Scans everything and tells what is not just as in this outline; answered by `Entries` and `Same`, the last of
    /// them an `Entries` with `last`.
    Compare(Outline),
    /// Opens a root only to look at it: nothing is written there or anywhere, and what is asked to be made fails.
    /// Answered as `Open` is.
    Look(Open),
}

impl Request {
    /// Returns how many bytes of content it carries.
    pub fn carried(&self) -> usize {
        match self {
            Self::Data { block, .. } => block.carried(),
            Self::Install { entries, .. } => entries.iter().map(|new| new.body.carried()).sum(),
            _ => 0,
        }
    }
}

/// An entry that one side has and the other lacks, with all that it takes to make it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct New {
    /// Where.
    pub path: RelPath,
    /// The file that must stand there before and that this one replaces; nothing must with `None`.
    pub from: Option<File>,
    /// What.
    pub entry: Entry,
    /// A file's bytes; of anything else, none.
    pub body: Body,
    /// When a new file's content was last changed, by the clock of the side that has it: seconds since 1970,
    /// nanoseconds.
    pub modified: Option<(i64, u32)>,
}

/// The bytes of a small file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// All of them.
    Whole(#[serde(with = "bytes_field")] Vec<u8>),
    /// What differs from the file that is replaced, in order.
    Delta(Vec<DeltaOp>),
    /// What differs from a content that the receiver may still have in its trash. From the engine only.
    Past {
        /// Which content.
        of: Hash,
        /// What differs, in order.
        ops: Vec<DeltaOp>,
    },
}

impl Body {
    /// The bytes of what has none.
    pub const NONE: Self = Self::Whole(Vec::new());

    /// Returns how many bytes of content it carries.
    pub fn carried(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Delta(ops) | Self::Past { ops, .. } => ops.iter().map(DeltaOp::carried).sum(),
        }
    }
}

/// A small file that is asked for together with others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Where.
    pub path: RelPath,
    /// What it must be.
    pub file: File,
    /// The content that the receiver has instead: if its blocks are known, only the difference is sent.
    pub basis: Option<Hash>,
}

/// A small file that was asked for, and found to be what it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Its bytes, or the difference to what was named.
    pub body: Body,
    /// When its content was last changed, by the clock of the side that has it: seconds since 1970, nanoseconds.
    pub modified: Option<(i64, u32)>,
}

/// What the receiver of a file has instead of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Basis {
    /// Nothing that could help: the file is sent whole.
    None,
    /// The content with this hash, whose blocks the reader may know. Otherwise a small file is sent whole, and of a
    /// large one `NeedSignature` is answered.
    Known(Hash),
    /// A content with these blocks.
    Given(Signature),
}

/// How a replica is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The root's absolute path on the replica's side.
    pub root: String,
    /// The lines of the ignore file, includes already flattened in, as the laptop resolved them.
    pub ignore: Vec<String>,
    /// Paths that are left alone whatever the rules say (mounts inside the root).
    pub excluded: Vec<RelPath>,
    /// Whether a missing root is created.
    pub create: bool,
    /// Whether changes are told of as they happen; else only scans find them.
    pub watch: bool,
}

/// Where the bytes of an `Apply` come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// None needed: a folder, a link, a delete, or a change of the exec bit alone.
    None,
    /// The replica already holds them at this path (verified by hash while copying).
    Copy {
        /// A file with the wanted content.
        from: RelPath,
    },
    /// What stands at this path is moved, with all that is in it, if that is just what the replica told of.
    Moved {
        /// A file or a folder, which is there no more after this.
        from: RelPath,
    },
    /// They follow as `Data`. Copies in a delta refer to the file named by the transition's `from`.
    Incoming,
}

/// A run of a file's content, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// What comes next in the file.
    pub ops: Vec<DeltaOp>,
    /// Whether the file is complete with this.
    pub last: bool,
}

impl Block {
    /// Returns how many bytes of content it carries.
    pub fn carried(&self) -> usize {
        self.ops.iter().map(DeltaOp::carried).sum()
    }
}

/// One step in building a file from its older version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeltaOp {
    /// Bytes the receiver lacks.
    Literal(#[serde(with = "bytes_field")] Vec<u8>),
    /// A range of the receiver's older version, in bytes.
    Copy {
        /// From where.
        offset: u64,
        /// How many.
        length: u64,
    },
}

impl DeltaOp {
    /// Returns how many bytes of content it carries.
    pub fn carried(&self) -> usize {
        match self {
            Self::Literal(bytes) => bytes.len(),
            Self::Copy { .. } => 0,
        }
    }
}

/// From a replica to the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The root is open and watched.
    Opened(RootInfo),
    /// The root can't be used.
    OpenFailed(Failure),
    /// Part of a whole scan; a scan is complete with `last`, and only then means anything for what is missing.
    Entries {
        /// Some of what is there.
        entries: Vec<(RelPath, Entry)>,
        /// Whether this was the last part.
        last: bool,
    },
    /// Part of the answer to an eager `Scan`, in the place of `Entries`: folders, links, and small files with their
    /// content; together at most [`MAX_BATCH_BYTES`] of content.
    Contents(Vec<New>),
    /// A scan could not be completed (descriptors ran out, the root is gone): nothing may be concluded from it.
    ScanFailed(Failure),
    /// What the watcher saw, already read back from the disk.
    Changed(Vec<Change>),
    /// The answer to `Apply` or `Keep`.
    Applied {
        /// Of the request.
        id: RequestId,
        /// What became of it.
        outcome: Outcome,
    },
    /// A piece of the file asked for by `Read`.
    Data {
        /// Of the request.
        id: RequestId,
        /// The piece.
        block: Block,
    },
    /// The answer to `Sign`.
    Signed {
        /// Of the request.
        id: RequestId,
        /// The block sums.
        signature: Signature,
    },
    /// The file is not what `Read` or `Sign` expected, or can't be read; no more `Data` for this id comes.
    ReadFailed {
        /// Of the request.
        id: RequestId,
        /// What stands there instead.
        actual: Option<Entry>,
        /// The error, where it was one.
        failure: Option<Failure>,
    },
    /// The answer to `Fetch`.
    Fetched {
        /// Of the request.
        id: RequestId,
        /// The files, in the order asked; `None` where one is not what was expected, or can't be read.
        files: Vec<Option<Found>>,
    },
    /// The answer to `Install`: all entries but these stand now, their bytes verified.
    Installed {
        /// Of the request.
        id: RequestId,
        /// What was not made: its place in the request, and why. What lies below it was not made either, and is
        /// listed too.
        failed: Vec<(u32, Outcome)>,
    },
    /// Paths that can't be synced, and why; said again when it changes.
    Problems(Vec<Problem>),
    /// How changes are noticed.
    Watching(WatchMode),
    /// The blocks of the content that a `Read` named are not known here: to ask with them is cheaper than to send the
    /// file.
    NeedSignature {
        /// Of the request.
        id: RequestId,
    },
    /// Part of the answer to `Compare`: the pieces of the outline whose entries are here and just so, as in
    /// [`Comparison::same`](crate::outline::Comparison::same).
    Same(#[serde(with = "bytes_field")] Vec<u8>),
}

impl Reply {
    /// Returns how many bytes of content it carries.
    pub fn carried(&self) -> usize {
        match self {
            Self::Data { block, .. } => block.carried(),
            Self::Contents(news) => news.iter().map(|new| new.body.carried()).sum(),
            Self::Fetched { files, .. } => files.iter().flatten().map(|found| found.body.carried()).sum(),
            _ => 0,
        }
    }
}

/// What a replica found when it opened its root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootInfo {
    /// A random token that lives and dies with the folder's storage: another one means another folder.
    pub epoch: [u8; 16],
    /// Whether files can be created there.
    pub writable: bool,
    /// Whether `a` and `A` are two files.
    pub case_sensitive: bool,
    /// Mount points found inside the root, excluded by themselves.
    pub mounts: Vec<RelPath>,
}

/// What became of an `Apply` or a `Keep`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The transition's `to` stands there now (the bytes were verified).
    Done,
    /// Something other than `from` stood there; nothing was changed.
    Stale {
        /// What stands there.
        actual: Option<Entry>,
    },
    /// A folder could not be removed because it holds things that are not synced; it stays.
    Kept,
    /// The copy's source or the delta's basis was not what it should be: send the content.
    NeedContent,
    /// The operating system refused; nothing was changed.
    Failed(Failure),
}

/// An operating system's refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The error number, 0 where there is none.
    pub errno: i32,
    /// What was being done, and the system's words.
    pub message: String,
}

/// One path that is not synced, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Where.
    pub path: String,
    /// Why, in words for a person.
    pub message: String,
}

/// How a replica notices changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchMode {
    /// By events.
    Events,
    /// By scanning from time to time: events are not to be had, for the reason given.
    Polling {
        /// In words for a person, with the limit or file system named.
        reason: String,
    },
}

/// The name under which a conflict's bytes are kept: the same conflict twice is one file.
pub fn conflict_name(path: &RelPath, hash: Hash) -> String {
    format!("{}-{}", &hash.to_hex()[..16], path.name())
}

mod bytes_field {
    //! Serialises a `Vec<u8>` as one run of bytes instead of a sequence of numbers.

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}
