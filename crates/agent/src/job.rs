//! A running process with its output kept, so that clients come and go while it goes on.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Signal, kill_process_group};
use rustix::termios::{LocalModes, SpecialCodeIndex, tcgetattr, tcgetpgrp, tcsetwinsize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use towline_protocol::{
    ExitStatus, ProcessInput, ProcessOutput, ProcessSpec, ProcessState, Refusal, TerminalSize,
};

use crate::reaper::{Reaper, Started};
use crate::scrollback::{LIMIT, Next, Scrollback, Stream};
use crate::spawn::{Spawned, spawn, winsize};

/// Bytes read from a process at once.
const READ_BYTES: usize = 32 * 1024;

/// Input that waits for a process which does not read, in bytes. Beyond it the client waits too.
const INPUT_BYTES: usize = 512 * 1024;
/// What a piece of input counts for beside its bytes.
const PIECE_BYTES: usize = 64;
/// The most that is read of a process that has ended: what was in its pipe (`pipe(7)`: at most 1 MiB) or terminal.
/// Whoever it left behind may go on writing for ever.
const LAST_BYTES: usize = 1024 * 1024;
/// Before a terminal that no process has open is looked at again.
const CLOSED_PAUSE: Duration = Duration::from_millis(100);
/// Before a terminal whose program does not read is written to again.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// A process and everything known of it. Clones are the same process.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    shared: Arc<Shared>,
    process: Started,
    /// clients --input--> the process. Bounded by `room`.
    input_tx: mpsc::UnboundedSender<Piece>,
    room: Arc<Semaphore>,
    /// clients --sizes, signals--> the process, past all the input that it does not read
    order_tx: mpsc::Sender<Order>,
    changed_rx: watch::Receiver<()>,
}

/// A piece of input; no bytes are its end.
#[derive(Debug)]
struct Piece {
    bytes: Option<Vec<u8>>,
    _room: OwnedSemaphorePermit,
}

/// What is done at once.
#[derive(Debug)]
enum Order {
    Resize(TerminalSize),
    Signal(Signal),
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
    /// Nobody takes the output any more, and nothing waits for that.
    abandoned: bool,
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
        let (input_tx, input_rx) = mpsc::unbounded_channel();
        let (order_tx, order_rx) = mpsc::channel(16);
        let (changed_tx, changed_rx) = watch::channel(());
        let shared =
            Arc::new(Shared { output: Mutex::default(), changed_tx, taken_tx: watch::Sender::new(()) });
        let job = Self {
            shared: shared.clone(),
            process: spawned.process.clone(),
            input_tx,
            room: Arc::new(Semaphore::new(INPUT_BYTES)),
            order_tx,
            changed_rx,
        };
        Ok((job, carry(spawned, input_rx, order_rx, shared, keep)))
    }

    /// Returns how far the process is.
    pub(crate) fn state(&self) -> ProcessState {
        match self.shared.lock().exit {
            Some(exit) => ProcessState::Exited(exit),
            None => ProcessState::Running { pid: self.process.pid.as_raw_nonzero().get().unsigned_abs() },
        }
    }

    /// Hands over input. Waits while much of it waits for the process; sizes and signals never wait. Once the process
    /// has ended nobody takes it, as with a shell's.
    pub(crate) async fn input(&self, input: ProcessInput) {
        let order = match input {
            ProcessInput::Input(bytes) => return self.feed(Some(bytes)).await,
            ProcessInput::Close => return self.feed(None).await,
            ProcessInput::Resize(size) => Order::Resize(size),
            ProcessInput::Signal(number) => match Signal::from_named_raw(number) {
                Some(signal) => Order::Signal(signal),
                None => return,
            },
        };
        let _ = self.order_tx.send(order).await;
    }

    async fn feed(&self, bytes: Option<Vec<u8>>) {
        let size = (bytes.as_ref().map_or(0, Vec::len) + PIECE_BYTES).min(INPUT_BYTES);
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        if let Ok(room) = self.room.clone().acquire_many_owned(size).await {
            let _ = self.input_tx.send(Piece { bytes, _room: room });
        }
    }

    /// Throws away all further output, so that the process waits for nobody.
    pub(crate) fn abandon(&self) {
        self.shared.lock().abandoned = true;
        self.shared.taken_tx.send_replace(());
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
                match output.scrollback.after(*seen) {
                    Next::Skipped { from, count } => {
                        *seen = from + count;
                        return ProcessOutput::Skipped(count);
                    }
                    Next::Bytes { from, stream, bytes } => {
                        *seen = from + bytes.len() as u64;
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
            while self.lock().is_full() {
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

impl Output {
    fn is_full(&self) -> bool {
        !self.abandoned && self.scrollback.end() - self.taken > (LIMIT / 2) as u64
    }
}

/// Moves a process's input and output until it has ended and what it wrote is taken in.
async fn carry(
    spawned: Spawned,
    input_rx: mpsc::UnboundedReceiver<Piece>,
    order_rx: mpsc::Receiver<Order>,
    shared: Arc<Shared>,
    keep: Keep,
) {
    let Spawned { process, input, output, error, terminal } = spawned;
    let serving = async {
        tokio::join!(feed(input, input_rx, terminal), obey(&output, order_rx, &process, terminal));
        // Nobody is left who could ask for anything.
        std::future::pending::<Infallible>().await
    };
    let drain_of = |fd, stream| drain(fd, stream, process.clone(), &shared, &keep);
    let reading = async {
        let errors = async {
            if let Some(error) = &error {
                drain_of(error, Stream::Error).await;
            }
        };
        tokio::join!(drain_of(&output, Stream::Output), errors);
        process.clone().wait().await
    };
    let exit = tokio::select! {
        exit = reading => exit,
        never = serving => match never {},
    };
    shared.lock().exit = Some(exit);
    shared.changed_tx.send_replace(());
}

/// Reads one output until its end, or until the process has ended and nothing more is there: a child that it left
/// behind may hold the other end for ever.
async fn drain(fd: &AsyncFd<OwnedFd>, stream: Stream, mut process: Started, shared: &Shared, keep: &Keep) {
    let mut buffer = vec![0; READ_BYTES];
    while process.ended().is_none() {
        let read = tokio::select! {
            read = fd.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd.as_fd(), &mut buffer[..])?)) => read,
            _ = process.wait() => break,
        };
        match read {
            Ok(0) => return,
            Ok(count) => shared.take_in(stream, &buffer[..count], keep).await,
            // No process has the terminal open (EIO), and the next may open it.
            Err(_) => tokio::time::sleep(CLOSED_PAUSE).await,
        }
    }
    let mut left = LAST_BYTES;
    while left > 0
        && let Ok(count @ 1..) = rustix::io::read(fd.as_fd(), &mut buffer[..READ_BYTES.min(left)])
    {
        left -= count;
        shared.take_in(stream, &buffer[..count], keep).await;
    }
}

/// Hands over input until the process no longer reads, and lets go of what comes after.
async fn feed(fd: AsyncFd<OwnedFd>, mut input_rx: mpsc::UnboundedReceiver<Piece>, terminal: bool) {
    let mut fd = Some(fd);
    let mut in_line = false;
    while let Some(piece) = input_rx.recv().await {
        let Some(open) = &fd else { continue };
        let written = match &piece.bytes {
            Some(bytes) => {
                in_line = bytes.last().map_or(in_line, |last| !matches!(last, b'\n' | b'\r'));
                write(open, bytes, terminal).await
            }
            None if terminal => write(open, &end_of_file(open, in_line), terminal).await,
            None => Err(io::ErrorKind::WriteZero.into()),
        };
        if written.is_err() && !terminal {
            fd = None;
        }
    }
}

/// Returns what a user types for the end of a terminal's input: once at the start of a line, twice within one.
/// Nothing where the terminal hands every key to its program, which then decides itself.
fn end_of_file(fd: &AsyncFd<OwnedFd>, in_line: bool) -> Vec<u8> {
    match tcgetattr(fd.as_fd()) {
        Ok(modes) if modes.local_modes.contains(LocalModes::ICANON) => {
            vec![modes.special_codes[SpecialCodeIndex::VEOF]; 1 + usize::from(in_line)]
        }
        _ => Vec::new(),
    }
}

/// Carries out what does not wait for the process.
async fn obey(fd: &AsyncFd<OwnedFd>, mut order_rx: mpsc::Receiver<Order>, process: &Started, terminal: bool) {
    while let Some(order) = order_rx.recv().await {
        match order {
            // Pipes have no size.
            Order::Resize(size) => drop(tcsetwinsize(fd.as_fd(), winsize(size))),
            Order::Signal(signal) => match tcgetpgrp(fd.as_fd()) {
                Ok(group) if terminal && process.ended().is_none() => drop(kill_process_group(group, signal)),
                _ => process.signal_group(signal),
            },
        }
    }
}

async fn write(fd: &AsyncFd<OwnedFd>, mut bytes: &[u8], terminal: bool) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = fd.writable().await?;
        match ready.try_io(|fd| Ok(rustix::io::write(fd.as_fd(), bytes)?)) {
            Ok(count) => bytes = &bytes[count?..],
            // A full terminal says that it can be written to, and says so anew after each try.
            Err(_would_block) if terminal => tokio::time::sleep(FULL_PAUSE).await,
            Err(_would_block) => {}
        }
    }
    Ok(())
}
