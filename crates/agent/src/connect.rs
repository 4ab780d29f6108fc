//! The relay that an exec starts: its standard input and output, tied to the agent's socket.
//!
//! Two threads and no runtime.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::args::Place;
use crate::socket;
use crate::thread;

/// Looks for an agent that was started just now and may not listen yet.
const TRIES: u32 = 500;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// Relays until the agent has no more to say.
pub(crate) fn run(place: &Place) -> io::Result<()> {
    let socket = find(place)?;
    let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let agent = socket.try_clone()?;
    thread::start("up", move || {
        // However it ends, the laptop has nothing more to say; the agent may, and is the one who ends us.
        let _ = pump(stdin, &agent);
        let _ = agent.shutdown(Shutdown::Write);
    })?;
    pump(socket, stdout)
}

/// Copies until the end. The standard library's own copy has the kernel do it (splice(2)), which keeps a pipe locked
/// while it waits for the other side: whoever reads the pipe is stuck with it, even when it must not block.
fn pump(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn find(place: &Place) -> io::Result<UnixStream> {
    for _ in 0..TRIES {
        match socket::connect(&place.run_dir) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                pause();
            }
            other => return other,
        }
    }
    Err(io::Error::other(format!("no agent listens in {}", place.run_dir.display())))
}

#[expect(clippy::disallowed_methods, reason = "whether another process listens is not told to anybody")]
fn pause() {
    std::thread::sleep(PAUSE);
}
