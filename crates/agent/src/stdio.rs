//! Standard input and output as streams that wait for nobody.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use rustix::fs::{FileType, fstat};
use rustix::io::ioctl_fionbio;
use rustix::pipe::fcntl_setpipe_size;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

/// So much a pipe to us holds, in bytes: both ends do more each time they are woken.
const PIPE_BYTES: usize = 256 * 1024;

/// Returns a descriptor as a stream of input.
pub(crate) fn input(fd: BorrowedFd<'_>) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
    Ok(match stream(fd)? {
        Stream::Pipe(fd) => {
            // Where no more is allowed, it is as it was.
            let _as_it_was = fcntl_setpipe_size(&fd, PIPE_BYTES);
            Box::new(pipe::Receiver::from_owned_fd(fd)?)
        }
        Stream::Socket(socket) => Box::new(socket),
    })
}

/// Returns a descriptor as a stream of output.
pub(crate) fn output(fd: BorrowedFd<'_>) -> io::Result<Box<dyn AsyncWrite + Send + Unpin>> {
    Ok(match stream(fd)? {
        Stream::Pipe(fd) => Box::new(pipe::Sender::from_owned_fd(fd)?),
        Stream::Socket(socket) => Box::new(socket),
    })
}

enum Stream {
    Pipe(OwnedFd),
    Socket(UnixStream),
}

fn stream(fd: BorrowedFd<'_>) -> io::Result<Stream> {
    let fd = fd.try_clone_to_owned()?;
    match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
        FileType::Fifo => Ok(Stream::Pipe(fd)),
        FileType::Socket => {
            ioctl_fionbio(&fd, true)?;
            Ok(Stream::Socket(UnixStream::from_std(StdUnixStream::from(fd))?))
        }
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "standard input and output must be pipes or sockets: towline sync --to starts it so",
        )),
    }
}
