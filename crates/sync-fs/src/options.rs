//! What the owner of a replica decides about it.

use std::path::PathBuf;
use std::time::Duration;

/// How a replica behaves, whatever it is told to open.
#[derive(Debug, Clone)]
pub struct ReplicaOptions {
    /// Put before every root: a pod that is a process in a private folder has `/app` below that folder.
    pub prefix: Option<PathBuf>,
    /// A folder outside every tree for conflicts, trash and tokens, created with mode 0700. Without it they live
    /// in the root's own staging folder, and conflicts can't be kept.
    pub keep: Option<PathBuf>,
    /// Whether version control and tool configuration that runs code is never written.
    pub protect: bool,
    /// The most bytes kept of what was displaced; the oldest go first.
    pub trash_limit: u64,
    /// Whether content is forced to the disk before it takes its place.
    pub durable: bool,
    /// What is too much.
    pub limits: Limits,
}

impl Default for ReplicaOptions {
    /// Returns the options of a pod: no prefix, nothing protected, a small trash, no forced writes.
    fn default() -> Self {
        Self {
            prefix: None,
            keep: None,
            protect: false,
            trash_limit: 256 * 1024 * 1024,
            durable: false,
            limits: Limits::default(),
        }
    }
}

/// Bounds on what a peer may cause, and how often the disk is verified.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The longest file accepted, in bytes.
    pub file_size: u64,
    /// What must stay free on the disk after a file is accepted, in bytes.
    pub reserve: u64,
    /// The most files being received at once.
    pub incoming: usize,
    /// How long an open waits for another session of the same folder to end: after a lost connection, the last one.
    pub handover: Duration,
    /// How often everything is scanned although events say nothing and nobody asks for it. Whoever asks more often
    /// decides how often it is done.
    pub verify: Duration,
    /// How often everything is scanned when events are not to be had; longer on large trees.
    pub poll: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_size: 4 << 30,
            reserve: 16 << 20,
            incoming: 4096,
            handover: Duration::from_secs(10),
            verify: Duration::from_mins(30),
            poll: Duration::from_secs(2),
        }
    }
}
