//! The agent's one socket: in a private folder, for its own user only.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, mkdirat, openat, unlinkat};
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};

/// The private folder in the run folder.
const FOLDER: &str = "agent";
/// The socket in it.
const SOCKET: &str = "socket";
/// After a client that could not be accepted: descriptors have run out, and come back as others leave.
const PAUSE: Duration = Duration::from_millis(100);

/// Opens the private folder, creating it when `create` is set. It must be a folder of ours that nobody else enters.
fn open_folder(run_dir: &Path, create: bool) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let run = openat(CWD, run_dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    if create {
        match mkdirat(&run, FOLDER, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let folder = openat(&run, FOLDER, flags, Mode::empty())?;
    let stat = fstat(&folder)?;
    let private = FileType::from_raw_mode(stat.st_mode) == FileType::Directory
        && stat.st_uid == geteuid().as_raw()
        && Mode::from_raw_mode(stat.st_mode) & (Mode::RWXG | Mode::RWXO) == Mode::empty();
    if private {
        return Ok(folder);
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "not a private folder of ours"))
}

/// A path to the socket that fits into a socket address however deep the folder lies.
fn path_in(folder: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()))
}

/// Listens. A socket that an earlier run of this container left is replaced.
pub(crate) fn listen(run_dir: &Path) -> io::Result<UnixListener> {
    let listen = || {
        let folder = open_folder(run_dir, true)?;
        if BlockingStream::connect(path_in(&folder)).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent listens there"));
        }
        match unlinkat(&folder, SOCKET, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        UnixListener::bind(path_in(&folder))
    };
    listen().map_err(|error| at(run_dir, &error))
}

/// Connects to the agent of this folder.
pub(crate) fn connect(run_dir: &Path) -> io::Result<BlockingStream> {
    let connect = || BlockingStream::connect(path_in(&open_folder(run_dir, false)?));
    connect().map_err(|error| at(run_dir, &error))
}

/// Accepts the next client that is our own user, or root.
pub(crate) async fn accept(listener: &UnixListener) -> UnixStream {
    loop {
        let accepted = listener.accept().await;
        match accepted.and_then(|(stream, _)| Ok((socket_peercred(stream.as_fd())?.uid, stream))) {
            Ok((user, stream)) if user == geteuid() || user.is_root() => return stream,
            Ok((user, _)) => crate::log::line(&format!("refused a client of user {}", user.as_raw())),
            Err(error) => {
                crate::log::line(&format!("can't accept a client: {error}"));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn at(run_dir: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the agent's socket in {}: {error}", run_dir.display()))
}
