//! Why two folders can't be kept equal.

use std::path::PathBuf;

/// Why a pair could not be opened, or reached.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// Files of the pair's own on this machine.
    #[error("{what} {}: {source}", path.display())]
    State {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// Another process of this machine syncs the same pair.
    #[error("{} is already synced by process {pid}", path.display())]
    Busy {
        /// The local folder.
        path: PathBuf,
        /// Who.
        pid: u32,
    },
    /// The other end is no agent, or one that can't be spoken with.
    #[error("{message}")]
    Agent {
        /// What is wrong with it.
        message: String,
    },
}
