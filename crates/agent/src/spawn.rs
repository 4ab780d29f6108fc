//! Starting a process: in a session and terminal of its own, or with pipes.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::process::{Pid, ioctl_tiocsctty, setsid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use towline_protocol::{ProcessSpec, Refusal, TerminalSize};

use crate::args::below;
use crate::program;
use crate::reaper::{Reaper, Started};

/// A process and our ends of its input and output, none of which blocks.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) process: Started,
    /// The terminal, or standard input.
    pub(crate) input: AsyncFd<OwnedFd>,
    /// The terminal again, or standard output.
    pub(crate) output: AsyncFd<OwnedFd>,
    /// Standard error; none with a terminal.
    pub(crate) error: Option<AsyncFd<OwnedFd>>,
    pub(crate) terminal: bool,
}

/// Starts a process as specified.
pub(crate) fn spawn(
    spec: &ProcessSpec,
    prefix: Option<&PathBuf>,
    reaper: &Reaper,
) -> Result<Spawned, Refusal> {
    let mut workdir = std::env::current_dir().unwrap_or_else(|_| "/".into());
    if let Some(folder) = &spec.workdir {
        workdir.push(below(prefix, folder.into()));
    }
    let name = spec.argv.first().map_or("", String::as_str);
    let path = spec.environment.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value.into());
    let path: Option<OsString> = path.or_else(inherited_path);
    if !workdir.is_dir() {
        let message = format!("the working folder {} is not in the container", workdir.display());
        return Err(Refusal { errno: 20, message });
    }
    let file = program::find(name, path.as_deref(), &workdir)?;
    let refused = |error: io::Error| Refusal {
        errno: error.raw_os_error().unwrap_or(0),
        message: format!("can't start {name}: {error}"),
    };
    let mut command = if spec.terminal.is_some() {
        let mut command = Command::new("/proc/self/exe");
        command.arg("tty-exec").arg(&file).args(&spec.argv);
        command
    } else {
        let mut command = Command::new(&file);
        command.arg0(name).args(spec.argv.iter().skip(1)).process_group(0);
        command
    };
    command.current_dir(&workdir).env("PWD", &workdir);
    command.envs(spec.environment.iter().map(|(key, value)| (key, value)));
    match spec.terminal {
        Some(size) => on_terminal(command, size, reaper),
        None => on_pipes(command, reaper),
    }
    .map_err(refused)
}

/// Becomes the program: the leader of a session whose terminal is our standard input. Returns only on failure.
pub(crate) fn tty_exec(argv: &[OsString]) -> io::Error {
    let [file, name, rest @ ..] = argv else { return io::Error::other("tty-exec needs a file and a name") };
    if let Err(error) = setsid().and_then(|_| ioctl_tiocsctty(io::stdin())) {
        return error.into();
    }
    let error = Command::new(file).arg0(name).args(rest).exec();
    io::Error::new(io::ErrorKind::InvalidInput, format!("can't start {}: {error}", name.display()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the container's own PATH is what its commands are looked up in"
)]
fn inherited_path() -> Option<OsString> {
    std::env::var_os("PATH")
}

fn on_terminal(mut command: Command, size: TerminalSize, reaper: &Reaper) -> io::Result<Spawned> {
    let host = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&host)?;
    unlockpt(&host)?;
    let name = ptsname(&host, Vec::new())?;
    let pod = open(&*name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    tcsetwinsize(&host, winsize(size))?;
    let pod = File::from(pod);
    command.stdin(pod.try_clone()?).stdout(pod.try_clone()?).stderr(pod);
    let (input, output) = (watched(host.try_clone()?)?, watched(host)?);
    let process = start(command, reaper)?;
    Ok(Spawned { process, input, output, error: None, terminal: true })
}

fn on_pipes(mut command: Command, reaper: &Reaper) -> io::Result<Spawned> {
    let (pod_input, input) = io::pipe()?;
    let (output, pod_output) = io::pipe()?;
    let (error, pod_error) = io::pipe()?;
    command.stdin(pod_input).stdout(pod_output).stderr(pod_error);
    let (input, output, error) = (watched(input.into())?, watched(output.into())?, watched(error.into())?);
    let process = start(command, reaper)?;
    Ok(Spawned { process, input, output, error: Some(error), terminal: false })
}

/// Starts the process as the last of all that can fail. The pod's ends, held by the command, are closed with it.
fn start(mut command: Command, reaper: &Reaper) -> io::Result<Started> {
    Ok(reaper.register(pid(command.spawn()?.id())?))
}

fn pid(id: u32) -> io::Result<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("no process id"))
}

#[expect(
    deprecated,
    reason = "its successor is unsafe; the descriptor is owned, so it lives as long as its registration"
)]
fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = fcntl_getfl(fd.as_fd())?;
    fcntl_setfl(fd.as_fd(), flags | OFlags::NONBLOCK)?;
    AsyncFd::new(fd)
}

/// Returns the size as terminals have it; pixels are not known.
pub(crate) fn winsize(size: TerminalSize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}
