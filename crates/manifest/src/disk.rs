//! What reading a manifest asks of the disk, as a port: this crate itself touches none.

use std::{
    io,
    path::{Path, PathBuf},
};

/// What is at a path, symbolic links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing, or nothing that can be seen.
    Missing,
    /// A file, or anything else that isn't a folder.
    File,
    /// A folder.
    Folder,
}

/// Answers questions about the user's disk; `validate` and `up` give the same answers.
pub trait Disk {
    /// Returns what is at `path`.
    fn kind(&self, path: &Path) -> Kind;

    /// Returns the text of the file at `path`, of which no more than `limit` bytes and one are needed.
    fn read(&self, path: &Path, limit: usize) -> io::Result<String>;

    /// Returns `path` with every symbolic link followed; `None` when there is nothing.
    fn canonical(&self, path: &Path) -> Option<PathBuf>;
}
