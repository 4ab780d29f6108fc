//! Waits for changes without asking again and again: of files by inotify, of processes by their descriptors.
//!
//! Tokio's pipe is what takes an owned descriptor and tells when it is readable. Neither an inotify nor a process
//! descriptor is a pipe, but both are readable and do not block, which is all that is asked of them here.

use std::io;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;

use super::process::Process;

/// Tells when something happens to a file or folder.
#[derive(Debug)]
pub(super) struct Notice(Receiver);

impl Notice {
    /// Begins to look. Must be called within a Tokio runtime.
    pub(super) fn of(path: &Path, flags: WatchFlags) -> io::Result<Self> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&descriptor, path, flags)?;
        readable(descriptor).map(Self)
    }

    /// Returns when something happened since the last call.
    pub(super) async fn happened(&self) -> io::Result<()> {
        let mut buffer = [0_u8; 4096];
        loop {
            self.0.readable().await?;
            let mut any = false;
            loop {
                match self.0.try_read(&mut buffer) {
                    Ok(_) => any = true,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            if any {
                return Ok(());
            }
        }
    }
}

/// Returns when one of the processes ends; never when there are none.
pub(super) async fn first_end(processes: &[Process]) {
    let mut descriptors = Vec::new();
    for process in processes {
        match process.watch().and_then(|descriptor| readable(descriptor).ok()) {
            Some(descriptor) => descriptors.push(descriptor),
            // It ended before it could be watched.
            None => return,
        }
    }
    if descriptors.is_empty() {
        return std::future::pending().await;
    }
    let ends = descriptors.iter().map(|descriptor| Box::pin(descriptor.readable()));
    futures::future::select_all(ends).await.0.unwrap_or_default();
}

fn readable(descriptor: OwnedFd) -> io::Result<Receiver> {
    Receiver::from_owned_fd_unchecked(descriptor)
}
