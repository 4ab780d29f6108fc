//! A running process with its output kept, so that clients come and go while it goes on.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};
use rustix::termios::{LocalModes, SpecialCodeIndex, tcgetattr, tcgetpgrp, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use towline_protocol::{ExitStatus, ProcessInput, ProcessOutput, ProcessSpec, ProcessState, Refusal, TerminalSize};

use crate::reaper::{Reaper, Started};
use crate::scrollback::{LIMIT, Next, Scrollback, Stream};
use crate::spawn::{Spawned, spawn, winsize};

/// Bytes read from a process at once.
const READ_BYTES: usize = 32 * 1024;

/// A process and everything known of it. Clones are the same process.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    shared: Arc<Shared>,
    process: Started,
    /// clients --keys, sizes, signals--> the process
    input_tx: mpsc::Sender<ProcessInput>,
    changed_rx: watch::Receiver<()>,
}

#[derive(Debug)]
struct Shared {
    output: Mutex<Output>,
    /// Told after each change of the output.
    changed_tx: watch::Sender<()>,
    /// Told after a client took output: who waits for room looks again.
    taken_tx: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Output {
    scrollback: Scrollback,
    taken: u64,
    exit: Option<ExitStatus>,
}

/// What happens to output that no client has taken yet.
#[derive(Debug)]
pub(crate) enum Keep {
    /// The last of it is kept; the process never waits. Everything is also copied to this sender, if it has room.
    Last(std::sync::mpsc::SyncSender<(Stream, Vec<u8>)>),
    /// All of it: the process waits for its one client.
    All,
}

impl Job {
    /// Starts a process. The future that moves its input and output is to be run by the caller.
    pub(crate) fn start(
        spec: &ProcessSpec,
        prefix: Option<&PathBuf>,
        reaper: &Reaper,
        keep: Keep,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), Refusal> {
        let spawned = spawn(spec, prefix, reaper)?;
        let (input_tx, input_rx) = mpsc::channel(64);
        let (changed_tx, changed_rx) = watch::channel(());
        let shared = Arc::new(Shared {
            output: Mutex::default(),
            changed_tx,
            taken_tx: watch::Sender::new(()),
        });
        let job = Self { shared: shared.clone(), process: spawned.process.clone(), input_tx, changed_rx };
        Ok((job, carry(spawned, input_rx, shared, keep)))
    }

    /// Returns how far the process is.
    pub(crate) fn state(&self) -> ProcessState {
        match self.shared.lock().exit {
            Some(exit) => ProcessState::Exited(exit),
            None => ProcessState::Running { pid: self.process.pid.as_raw_nonzero().get().unsigned_abs() },
        }
    }

    /// Hands over input. Waits while the process does not read.
    pub(crate) async fn input(&self, input: ProcessInput) {
        // Once the process has ended nobody takes it, as with a shell's.
        let _ = self.input_tx.send(input).await;
    }

    /// Signals the whole process group.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal_group(signal);
    }

    /// Waits until the process has ended and its output is complete.
    pub(crate) async fn ended(&self) -> ExitStatus {
        let mut changed_rx = self.changed_rx.clone();
        loop {
            changed_rx.mark_unchanged();
            if let Some(exit) = self.shared.lock().exit {
                return exit;
            }
            if changed_rx.changed().await.is_err() {
                return self.process.clone().wait().await;
            }
        }
    }

    /// Returns what follows `seen`, waiting for it; the last is `Exited`.
    pub(crate) async fn output(&self, seen: &mut u64) -> ProcessOutput {
        let mut changed_rx = self.changed_rx.clone();
        loop {
            changed_rx.mark_unchanged();
            let exit = {
                let mut output = self.shared.lock();
                // An offset of an earlier process, or one made up.
                *seen = (*seen).min(output.scrollback.end());
                let next = output.scrollback.after(*seen);
                match next {
                    Next::Skipped(count) => {
                        *seen += count;
                        return ProcessOutput::Skipped(count);
                    }
                    Next::Bytes(stream, bytes) => {
                        *seen += bytes.len() as u64;
                        output.taken = output.taken.max(*seen);
                        self.shared.taken_tx.send_replace(());
                        return match stream {
                            Stream::Output => ProcessOutput::Output(bytes),
                            Stream::Error => ProcessOutput::Error(bytes),
                        };
                    }
                    Next::Nothing => output.exit,
                }
            };
            if let Some(exit) = exit {
                return ProcessOutput::Exited(exit);
            }
            if changed_rx.changed().await.is_err() {
                return ProcessOutput::Exited(self.process.clone().wait().await);
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take_in(&self, stream: Stream, bytes: &[u8], keep: &Keep) {
        if let Keep::All = keep {
            let mut taken_rx = self.taken_tx.subscribe();
            // The half that is not taken yet stays below the bound, so nothing is ever dropped.
            while {
                let output = self.lock();
                output.scrollback.end() - output.taken > (LIMIT / 2) as u64
            } {
                if taken_rx.changed().await.is_err() {
                    return;
                }
            }
        }
        self.lock().scrollback.push(stream, bytes);
        self.changed_tx.send_replace(());
        if let Keep::Last(copy_tx) = keep {
            // A log that is not read must not stop the process.
            let _ = copy_tx.try_send((stream, bytes.to_vec()));
        }
    }
}

/// Moves a process's input and output until it has ended and what it wrote is taken in.
async fn carry(spawned: Spawned, input_rx: mpsc::Receiver<ProcessInput>, shared: Arc<Shared>, keep: Keep) {
    let Spawned { mut process, input, output, error, terminal } = spawned;
    let leader = process.clone();
    let feeding = feed(input, input_rx, &leader, terminal);
    let drain_of = |fd, stream| drain(fd, stream, leader.clone(), &shared, &keep);
    let reading = async {
        let errors = async {
            if let Some(error) = &error {
                drain_of(error, Stream::Error).await;
            }
        };
        tokio::join!(drain_of(&output, Stream::Output), errors);
    };
    tokio::pin!(feeding, reading);
    let mut fed = false;
    loop {
        tokio::select! {
            () = &mut reading => break,
            () = &mut feeding, if !fed => fed = true,
        }
    }
    let exit = process.wait().await;
    shared.lock().exit = Some(exit);
    shared.changed_tx.send_replace(());
}

/// Reads one output until its end, or until the process has ended and nothing more is there: a child that it left
/// behind may hold the other end for ever.
async fn drain(fd: &AsyncFd<OwnedFd>, stream: Stream, mut process: Started, shared: &Shared, keep: &Keep) {
    let mut buffer = vec![0; READ_BYTES];
    let mut ended = false;
    loop {
        let read = if ended {
            rustix::io::read(fd.as_fd(), &mut buffer[..])
        } else {
            tokio::select! {
                read = read(fd, &mut buffer) => read,
                _ = process.wait() => {
                    ended = true;
                    continue;
                }
            }
        };
        match read {
            // A terminal whose last process is gone says EIO.
            Ok(0) | Err(_) => return,
            Ok(count) => shared.take_in(stream, &buffer[..count], keep).await,
        }
    }
}

async fn read(fd: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    loop {
        let Ok(mut ready) = fd.readable().await else { return Ok(0) };
        match ready.try_io(|fd| rustix::io::read(fd.as_fd(), &mut *buffer).map_err(io::Error::from)) {
            Ok(Ok(count)) => return Ok(count),
            Ok(Err(error)) => return Err(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO)),
            Err(_would_block) => {}
        }
    }
}

/// Carries out what clients send, until all of them are gone or the process no longer reads.
async fn feed(
    fd: AsyncFd<OwnedFd>,
    mut input_rx: mpsc::Receiver<ProcessInput>,
    process: &Started,
    terminal: bool,
) {
    while let Some(input) = input_rx.recv().await {
        match input {
            ProcessInput::Input(bytes) => {
                if write(&fd, &bytes).await.is_err() && !terminal {
                    break;
                }
            }
            ProcessInput::Close if terminal => {
                let end = tcgetattr(fd.as_fd()).ok().filter(|modes| modes.local_modes.contains(LocalModes::ICANON));
                if let Some(modes) = end {
                    let _ = write(&fd, &[modes.special_codes[SpecialCodeIndex::VEOF]]).await;
                }
            }
            ProcessInput::Close => break,
            ProcessInput::Resize(size) => resize(&fd, size),
            ProcessInput::Signal(number) => signal(&fd, number, process, terminal),
        }
    }
    // Standard input is closed now; signals still have their way.
    let signals = async {
        while let Some(input) = input_rx.recv().await {
            if let ProcessInput::Signal(number) = input
                && let Some(signal) = Signal::from_named_raw(number)
            {
                process.signal_group(signal);
            }
        }
    };
    drop(fd);
    signals.await;
}

fn resize(fd: &AsyncFd<OwnedFd>, size: TerminalSize) {
    // Pipes have no size.
    let _ = tcsetwinsize(fd.as_fd(), winsize(size));
}

fn signal(fd: &AsyncFd<OwnedFd>, number: i32, process: &Started, terminal: bool) {
    let Some(signal) = Signal::from_named_raw(number) else { return };
    let foreground: Option<Pid> = if terminal { tcgetpgrp(fd.as_fd()).ok() } else { None };
    match foreground {
        Some(group) if process.ended().is_none() => {
            let _ = kill_process_group(group, signal);
        }
        _ => process.signal_group(signal),
    }
}

async fn write(fd: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = fd.writable().await?;
        match ready.try_io(|fd| rustix::io::write(fd.as_fd(), bytes).map_err(io::Error::from)) {
            Ok(count) => bytes = &bytes[count?..],
            Err(_would_block) => {}
        }
    }
    Ok(())
}
