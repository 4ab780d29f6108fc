//! The command itself: started in a session of its own, on a terminal or on pipes, and ended with all that it started.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetpgrp, tcsetwinsize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use towline_protocol::{ExitStatus, ProcessInput, ProcessOutput, Refusal, TerminalSize};

use super::Outlets;
use super::helper::{BECOME, Watcher};
use crate::output::Outlet;
use crate::process::{News, shell_code};

/// How long the command may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(5);
/// How long a killed process may take to go; the kernel needs milliseconds.
const LAST_BREATH: Duration = Duration::from_secs(2);
/// Between looks at who is left.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the last output may take to be read: who holds the pipe besides us has left the session.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Bytes read at once.
const READ_BYTES: usize = 32 * 1024;
/// Input that waits for a command which does not read, in bytes; beyond it who types waits too.
const INPUT_BYTES: usize = 512 * 1024;
/// What a terminal takes for the end of its input (`termios(3)`, VEOF as it is unless the command changes it).
const END_OF_INPUT: u8 = 4;
const NOT_FOUND: i32 = 2;
const NOT_PERMITTED: i32 = 13;

/// What is to be started.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) argv: Vec<String>,
    pub(super) folder: PathBuf,
    pub(super) helper: PathBuf,
    /// Where programs are looked for, as in `PATH`.
    pub(super) path: OsString,
    /// Beside this machine's own.
    pub(super) environment: BTreeMap<OsString, OsString>,
    /// The user's terminal, where there is one.
    pub(super) size: Option<TerminalSize>,
}

/// The command and our ends of what it reads and writes.
struct Started {
    child: Child,
    /// The leader of the command's session: the command itself.
    leader: Pid,
    watcher: Watcher,
    input: Box<dyn AsyncWrite + Send + Unpin>,
    output: Box<dyn AsyncRead + Send + Unpin>,
    /// None with a terminal.
    error: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Our side of the terminal.
    terminal: Option<OwnedFd>,
}

/// Runs the command until it ends, or is to be stopped: by a word on `stop_rx`, or by its end.
pub(super) async fn run(
    start: &Start,
    input_rx: mpsc::Receiver<ProcessInput>,
    stop_rx: oneshot::Receiver<()>,
    outlets: Outlets,
) {
    let Outlets { outlet, news_tx, .. } = outlets;
    let started = match spawn(start) {
        Ok(started) => started,
        Err(refusal) => {
            let (code, message) = (shell_code(&refusal).into(), refusal.message);
            let _ = news_tx.send(News::Failed { message, code }).await;
            return;
        }
    };
    let _ = news_tx.send(News::Started).await;
    let Started { mut child, leader, watcher, input, output, error, terminal } = started;
    let ending = async {
        let status = tokio::select! {
            status = child.wait() => status,
            _ = stop_rx => {
                if groups(leader).is_empty() {
                    // Not in a session of its own yet.
                    let _ = kill_process(leader, Signal::TERM);
                }
                tokio::join!(child.wait(), end(leader)).0
            }
        };
        // Whoever it left behind goes with it.
        end(leader).await;
        status
    };
    let reading = async {
        let error = async {
            if let Some(error) = error {
                copy(error, &outlet, ProcessOutput::Error).await;
            }
        };
        tokio::join!(copy(output, &outlet, ProcessOutput::Output), error);
    };
    let feeding = feed(input_rx, input, terminal, leader);
    tokio::pin!(ending, reading, feeding);
    let mut all_read = false;
    let status = loop {
        tokio::select! {
            status = &mut ending => break status,
            () = &mut reading, if !all_read => all_read = true,
            never = &mut feeding => match never {},
        }
    };
    if !all_read {
        let _ = tokio::time::timeout(LAST_WORDS, reading).await;
    }
    watcher.release().await;
    let status = status.map_or(ExitStatus::Code(-1), |status| match (status.code(), status.signal()) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, signal) => ExitStatus::Signal(signal.unwrap_or(0)),
    });
    let _ = news_tx.send(News::Exited(status)).await;
}

/// Starts the command. Whatever can be found out before is: what could not be started is not in the session's way.
fn spawn(start: &Start) -> Result<Started, Refusal> {
    let Start { argv, folder, helper, environment, size, path } = start;
    let name = argv.first().map_or("", String::as_str);
    if !folder.is_dir() {
        let message = format!("the working folder {} is not there", folder.display());
        return Err(Refusal { errno: NOT_PERMITTED, message });
    }
    let path = environment.get(OsStr::new("PATH")).unwrap_or(path);
    let file = find(name, path, folder)?;
    let mut command = Command::new(helper);
    command.arg(BECOME).arg(file).args(argv);
    command.current_dir(folder).envs(environment).env("PWD", folder);
    start_with(command, helper, *size).map_err(|error| Refusal {
        errno: error.raw_os_error().filter(|errno| *errno != NOT_FOUND).unwrap_or(NOT_PERMITTED),
        message: format!("can't start {name}: {error}"),
    })
}

fn start_with(mut command: Command, helper: &Path, size: Option<TerminalSize>) -> io::Result<Started> {
    let mut watcher = Watcher::start(helper)?;
    let input: Box<dyn AsyncWrite + Send + Unpin>;
    let output: Box<dyn AsyncRead + Send + Unpin>;
    let mut error: Option<Box<dyn AsyncRead + Send + Unpin>> = None;
    let mut terminal = None;
    if let Some(size) = size {
        let (ours, theirs) = open_terminal(size)?;
        command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
        input = Box::new(pipe::Sender::from_file_unchecked(File::from(ours.try_clone()?))?);
        output = Box::new(pipe::Receiver::from_file_unchecked(File::from(ours.try_clone()?))?);
        terminal = Some(ours);
    } else {
        let (their_input, our_input) = io::pipe()?;
        let (our_output, their_output) = io::pipe()?;
        let (our_error, their_error) = io::pipe()?;
        command.stdin(their_input).stdout(their_output).stderr(their_error);
        input = Box::new(pipe::Sender::from_owned_fd(our_input.into())?);
        output = Box::new(pipe::Receiver::from_owned_fd(our_output.into())?);
        error = Some(Box::new(pipe::Receiver::from_owned_fd(our_error.into())?));
    }
    let child = command.spawn()?;
    let leader = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let leader = leader.ok_or_else(|| io::Error::other("it has no process id"))?;
    // Theirs are closed with it, so that the command's end is the end of its output.
    drop(command);
    watcher.watch(leader)?;
    Ok(Started { child, leader, watcher, input, output, error, terminal })
}

/// Opens a terminal: our side, which never blocks, and the command's.
fn open_terminal(size: TerminalSize) -> io::Result<(OwnedFd, File)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let theirs = open(&*name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    resize(&ours, size)?;
    fcntl_setfl(&ours, fcntl_getfl(&ours)? | OFlags::NONBLOCK)?;
    Ok((ours, File::from(theirs)))
}

fn resize(terminal: impl AsFd, size: TerminalSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

/// Hands over what the command writes, until nobody can write any more.
async fn copy(mut from: impl AsyncRead + Unpin, outlet: &Outlet, kind: fn(Vec<u8>) -> ProcessOutput) {
    let mut buffer = vec![0; READ_BYTES];
    // A terminal that nobody has open any more gives an error rather than an end.
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        outlet.send(kind(buffer[..count].to_vec())).await;
    }
}

/// Hands over input, sizes and signals for as long as it is polled.
async fn feed(
    mut input_rx: mpsc::Receiver<ProcessInput>,
    input: Box<dyn AsyncWrite + Send + Unpin>,
    terminal: Option<OwnedFd>,
    leader: Pid,
) -> std::convert::Infallible {
    let mut input = Some(input);
    let mut waiting = Vec::new();
    let (mut is_open, mut ends) = (true, false);
    loop {
        if ends && waiting.is_empty() {
            input = None;
        }
        let handing_over = async {
            match &mut input {
                Some(input) if !waiting.is_empty() => input.write(&waiting).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            received = input_rx.recv(), if is_open && waiting.len() < INPUT_BYTES => match received {
                Some(ProcessInput::Input(bytes)) if input.is_some() => waiting.extend(bytes),
                Some(ProcessInput::Close) => match terminal {
                    Some(_) => waiting.push(END_OF_INPUT),
                    None => ends = true,
                },
                Some(ProcessInput::Resize(size)) => {
                    // A terminal that is gone has no size.
                    let _ = terminal.as_ref().map(|terminal| resize(terminal, size));
                }
                Some(ProcessInput::Signal(number)) => {
                    let foreground = terminal.as_ref().and_then(|terminal| tcgetpgrp(terminal).ok());
                    if let Some(signal) = Signal::from_named_raw(number) {
                        let _ = kill_process_group(foreground.unwrap_or(leader), signal);
                    }
                }
                Some(ProcessInput::Input(_)) => {}
                // The session's holder has nothing more to say; the command goes on.
                None => is_open = false,
            },
            written = handing_over => if let Ok(count) = written {
                waiting.drain(..count);
            } else {
                // It reads no more.
                input = None;
                waiting.clear();
            },
        }
    }
}

/// Ends all that is left of the session that a command leads: asks, and after a while makes it.
pub(super) async fn end(leader: Pid) {
    for (signal, patience) in [(Signal::TERM, GRACE), (Signal::KILL, LAST_BREATH)] {
        for group in groups(leader) {
            // Who has gone this instant needs no signal.
            let _ = kill_process_group(group, signal);
            if signal == Signal::TERM {
                if ignores_term(group) {
                    // As an interactive shell does, which goes with its terminal, and takes its jobs along.
                    let _ = kill_process_group(group, Signal::HUP);
                }
                let _ = kill_process_group(group, Signal::CONT);
            }
        }
        let gone = async {
            while !groups(leader).is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
        };
        if tokio::time::timeout(patience, gone).await.is_ok() {
            return;
        }
    }
}

/// Returns the process groups of a session, but for those that have ended and are not collected. Where the system has no
/// `/proc`, the leader's own stands for all.
fn groups(leader: Pid) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return test_kill_process_group(leader).map(|()| leader).into_iter().collect();
    };
    let group = |entry: io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        // Other entries than processes have no such file.
        let stat = std::fs::read(entry.path().join("stat")).ok()?;
        let (state, group, session) = read_stat(&String::from_utf8_lossy(&stat))?;
        (session == leader.as_raw_nonzero().get() && !matches!(state, 'Z' | 'X')).then_some(group)
    };
    let groups: std::collections::BTreeSet<i32> = processes.filter_map(group).collect();
    groups.into_iter().filter_map(Pid::from_raw).collect()
}

/// Reads `/proc/PID/stat` (`proc_pid_stat(5)`): the state, the process group and the session. The second field is a name
/// in parentheses, which may hold anything.
fn read_stat(text: &str) -> Option<(char, i32, i32)> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let mut numbers = fields.skip(1).map(str::parse);
    Some((state, numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Tells whether a process takes no notice of SIGTERM, as far as the system says so.
fn ignores_term(process: Pid) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero()));
    let mask = status.ok().and_then(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(line.trim(), 16).ok()
    });
    mask.is_some_and(|mask| mask & (1 << (Signal::TERM.as_raw() - 1)) != 0)
}

/// Finds the file of a program named as on a command line.
fn find(name: &str, path: &OsStr, folder: &Path) -> Result<PathBuf, Refusal> {
    let missing = Refusal { errno: NOT_FOUND, message: format!("command not found on this machine: {name}") };
    let folders: Vec<PathBuf> = match name {
        "" => Vec::new(),
        name if name.contains('/') => vec![PathBuf::new()],
        _ => std::env::split_paths(path).collect(),
    };
    let found: Vec<PathBuf> =
        folders.iter().map(|part| folder.join(part).join(name)).filter(|file| file.is_file()).collect();
    let is_executable =
        |file: &&PathBuf| file.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0);
    match found.iter().find(is_executable) {
        Some(file) => Ok(file.clone()),
        None if found.is_empty() => Err(missing),
        None => {
            let message = format!("{name} is there and can't be executed");
            Err(Refusal { errno: NOT_PERMITTED, message })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        std::fs::create_dir(folder.join("bin")).unwrap();
        for (file, mode) in [("tool", 0o755), ("plain", 0o644), ("bin/other", 0o755)] {
            std::fs::write(folder.join(file), "").unwrap();
            std::fs::set_permissions(folder.join(file), Permissions::from_mode(mode)).unwrap();
        }
        let path = std::env::join_paths([Path::new("/nowhere"), folder, Path::new("bin")]).unwrap();
        let check = |name: &str, expected: Result<&str, i32>| {
            let found = find(name, &path, folder).map_err(|refusal| refusal.errno);
            assert_eq!(found, expected.map(|file| folder.join(file)), "{name}");
        };
        check("tool", Ok("tool"));
        check("other", Ok("bin/other"));
        check("./tool", Ok("./tool"));
        check("bin", Err(NOT_FOUND));
        check("plain", Err(NOT_PERMITTED));
        check("none", Err(NOT_FOUND));
        check("./none", Err(NOT_FOUND));
        check("", Err(NOT_FOUND));
    }

    #[test]
    fn a_processes_session_is_read_whatever_its_name() {
        let check =
            |text: &str, expected: Option<(char, i32, i32)>| assert_eq!(read_stat(text), expected, "{text}");
        check("7 (sh) S 1 8 9 0 -1", Some(('S', 8, 9)));
        check("7 (a) Z 1 2 3) R 1 8 9 0 -1", Some(('R', 8, 9)));
        check("7 (sh) S 1", None);
        check("", None);
    }
}
