//! The agent's one socket: in a private folder, for its own user only.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, mkdirat, openat, unlinkat};
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};

/// The private folder in the run folder.
const FOLDER: &str = "agent";
/// The socket in it.
const SOCKET: &str = "socket";

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
    let place = run_dir.join(FOLDER);
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{} is not a private folder of ours", place.display())))
}

/// A path to the socket that fits into a socket address however deep the folder lies.
fn path_in(folder: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()))
}

/// Listens. A socket that an earlier run of this container left is replaced.
pub(crate) fn listen(run_dir: &Path) -> io::Result<UnixListener> {
    let folder = open_folder(run_dir, true)?;
    match unlinkat(&folder, SOCKET, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    UnixListener::bind(path_in(&folder))
}

/// Connects to the agent of this folder.
pub(crate) async fn connect(run_dir: &Path) -> io::Result<UnixStream> {
    let folder = open_folder(run_dir, false)?;
    UnixStream::connect(path_in(&folder)).await
}

/// Accepts the next client that is our own user, or root.
pub(crate) async fn accept(listener: &UnixListener) -> io::Result<UnixStream> {
    loop {
        let (stream, _) = listener.accept().await?;
        let user = socket_peercred(stream.as_fd())?.uid;
        if user == geteuid() || user.is_root() {
            return Ok(stream);
        }
        crate::log::line(&format!("refused a client of user {}", user.as_raw()));
    }
}
