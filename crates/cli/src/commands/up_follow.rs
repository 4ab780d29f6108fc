//! From the first write of `towline up` to its end: what the sessions say, and what the user types.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io::Write;
use std::pin::Pin;
use std::task::Poll;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use towline_protocol::{ProcessInput, ProcessOutput, TerminalSize};
use towline_session::up::ProcessHandle;
use towline_session::{Context, Ending, Event, Session, State};

use super::Outcome;
use crate::args::Up;
use crate::diagnose::Failure;
use crate::exit_code;
use crate::terminal::{self, Escape, Raw};
use crate::ui::{self, Ui};

/// A line of a service's output that is longer than this is shown in pieces.
const LONGEST_LINE: usize = 64 * 1024;

/// One of the sessions that an `up` began.
#[derive(Debug)]
pub(crate) struct Member {
    /// The dev service.
    pub(crate) name: String,
    /// Its workload.
    pub(crate) workload: String,
    /// The session; `None` once it is over.
    session: Option<Session>,
    output: Option<mpsc::Receiver<ProcessOutput>>,
    /// The last line of the output, while it has no end.
    line: Vec<u8>,
    /// How it ended: the exit code, or why not.
    ended: Option<Outcome>,
    /// Whether dev mode goes on without the session.
    stays_on: bool,
}

/// What a session says.
enum Heard {
    Event(Event),
    Output(ProcessOutput),
    Over,
}

impl Member {
    pub(crate) fn new(name: String, workload: String, session: Session) -> Self {
        let session = Some(session);
        Self { name, workload, session, output: None, line: Vec::new(), ended: None, stays_on: false }
    }

    async fn hear(&mut self) -> Heard {
        let Some(session) = &mut self.session else { return std::future::pending().await };
        tokio::select! {
            biased;
            event = session.next_event() => event.map_or(Heard::Over, Heard::Event),
            Some(output) = receive(&mut self.output) => Heard::Output(output),
        }
    }
}

/// The sessions of one `up`. With a lead they are its services, which last as long as it does; the terminal is the lead's.
struct Group {
    members: Vec<Member>,
    leads: bool,
    /// Whose turn it is to be heard first: none is to drown the others.
    turn: usize,
}

/// Ties the sessions to the terminal until they end. `leads`: the first is a dev service and the others are its services.
pub(crate) async fn follow(
    ui: &mut Ui,
    context: &Context,
    args: &Up,
    members: Vec<Member>,
    leads: bool,
    size: Option<TerminalSize>,
) -> Outcome {
    let mut group = Group { members, leads, turn: 0 };
    let is_json = ui.is_json();
    for (index, member) in group.members.iter_mut().enumerate() {
        // Beside a terminal that one has, the others' output is for `towline logs`.
        if index == 0 || !leads || is_json {
            member.output = member.session.as_mut().and_then(Session::take_output);
        }
    }
    let process =
        group.members.first().filter(|_| leads).and_then(|lead| Some(lead.session.as_ref()?.process()));
    // Without a terminal, input that is not ours to read (a script's) is left alone unless it is piped to us.
    let mut typed = if args.detached || !leads { None } else { Some(terminal::input()) };
    // A command that does not read keeps its input waiting, and nothing else.
    let mut feeding = JoinSet::new();
    let (leave_tx, mut leave_rx) = mpsc::channel(1);
    let mut raw = None;
    let mut running = false;
    let mut resized = signal(SignalKind::window_change())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    while group.goes_on() {
        let (index, heard) = tokio::select! {
            biased;
            heard = group.hear() => heard,
            Some(()) = leave_rx.recv() => {
                group.leave().await;
                continue;
            }
            _ = resized.recv() => {
                if let (Some(size), Some(process)) = (terminal::size(), &process) {
                    process.try_send(ProcessInput::Resize(size));
                }
                continue;
            }
            // On a terminal the key reaches the command as it is; the signal is meant for us.
            _ = interrupted.recv() => {
                let signal = ProcessInput::Signal(SignalKind::interrupt().as_raw_value());
                if !running || !process.as_ref().is_some_and(|process| process.try_send(signal)) {
                    group.leave().await;
                }
                continue;
            }
            _ = terminated.recv() => {
                group.leave().await;
                continue;
            }
        };
        let is_lead = leads && index == 0;
        group.speak_for(ui, index);
        match heard {
            Heard::Event(Event::SyncHalted { folder, .. }) if args.approve_deletions => {
                if let Some(session) = &group.members[index].session {
                    session.approve_deletions(folder).await;
                }
            }
            Heard::Event(event) => {
                let begins =
                    matches!(event, Event::CommandStarted { .. } | Event::State { state: State::Ready });
                if is_lead && matches!(event, Event::Ended { .. }) {
                    raw = None;
                    ui.command_has_terminal(false);
                }
                ui.event(&event);
                if is_lead && begins && !running {
                    running = true;
                    if let (Some(typed), Some(process)) = (typed.take(), process.clone()) {
                        feeding.spawn(feed(typed, process, size.is_some(), leave_tx.clone()));
                    }
                    if size.is_some() {
                        ui.command_has_terminal(true);
                        raw = Some(Raw::enter()?);
                    }
                }
            }
            Heard::Output(output) => group.show(ui, index, &output)?,
            Heard::Over => {
                group.end(ui, index).await?;
                if is_lead {
                    group.leave().await;
                }
            }
        }
    }
    drop(raw);
    ui.speak_for(None);
    group.finish(ui, context)
}

impl Group {
    fn goes_on(&self) -> bool {
        self.members.iter().any(|member| member.session.is_some())
    }

    /// Waits for the next that any of them says.
    async fn hear(&mut self) -> (usize, Heard) {
        self.turn = self.turn.wrapping_add(1);
        let hear = async |(index, member): (usize, &mut Member)| (index, member.hear().await);
        let mut waiting: Vec<Pin<Box<_>>> =
            self.members.iter_mut().enumerate().map(|member| Box::pin(hear(member))).collect();
        let count = waiting.len();
        waiting.rotate_left(self.turn % count);
        poll_fn(move |task| {
            let ready = waiting.iter_mut().find_map(|member| match member.as_mut().poll(task) {
                Poll::Ready(heard) => Some(heard),
                Poll::Pending => None,
            });
            ready.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    async fn leave(&self) {
        for session in self.members.iter().filter_map(|member| member.session.as_ref()) {
            session.leave().await;
        }
    }

    /// What is said next is about this one, which matters where there are several.
    fn speak_for(&self, ui: &mut Ui, index: usize) {
        let several = self.members.len() > 1;
        ui.speak_for(several.then(|| self.members[index].name.as_str()));
    }

    /// Shows a command's output: as it is where it has the terminal, else line by line with its name.
    fn show(&mut self, ui: &Ui, index: usize, output: &ProcessOutput) -> Result<(), Failure> {
        if self.leads || ui.is_json() {
            return show_or_tell(ui, output);
        }
        let (ProcessOutput::Output(bytes) | ProcessOutput::Error(bytes)) = output else { return Ok(()) };
        let line = &mut self.members[index].line;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || line.len() > LONGEST_LINE {
                ui.output(line);
                line.clear();
            }
        }
        Ok(())
    }

    /// Takes in how one ended, what it wrote last first.
    async fn end(&mut self, ui: &mut Ui, index: usize) -> Result<(), Failure> {
        while let Some(Ok(output)) = self.members[index].output.as_mut().map(mpsc::Receiver::try_recv) {
            self.show(ui, index, &output)?;
        }
        let several = self.members.len() > 1;
        let member = &mut self.members[index];
        if !member.line.is_empty() {
            ui.output(&std::mem::take(&mut member.line));
        }
        let Some(session) = member.session.take() else { return Ok(()) };
        let ending = session.ended().await;
        member.stays_on = matches!(ending, Ok(Ending::CommandExited { .. } | Ending::Left));
        let outcome = match ending {
            Ok(Ending::CommandExited { code }) => Ok(u8::try_from(code).unwrap_or(exit_code::REFUSED)),
            Ok(Ending::Left) => Ok(exit_code::INTERRUPTED),
            Ok(Ending::Failed { message, code }) => Err(Failure::of_session(message, code)),
            Ok(_) => Ok(exit_code::REFUSED),
            Err(error) => Err(error.into()),
        };
        member.ended = Some(match outcome {
            Err(failure) if several && !(self.leads && index == 0) => {
                ui.failure(&failure);
                Ok(failure.code)
            }
            Ok(code) if !self.leads && several && !ui.is_json() => {
                if code != exit_code::INTERRUPTED {
                    ui.say(&format!("its session is over, with exit code {code}"));
                }
                Ok(code)
            }
            outcome => outcome,
        });
        Ok(())
    }

    /// Says what stays on. The exit code is the lead's, else that of the first which did not end well.
    fn finish(mut self, ui: &mut Ui, context: &Context) -> Outcome {
        let outcomes = self.members.iter_mut().map(|member| member.ended.take().unwrap_or(Ok(exit_code::OK)));
        let mut outcomes: Vec<Outcome> = outcomes.collect();
        let code = if self.leads {
            outcomes.swap_remove(0)?
        } else {
            let failed = outcomes.into_iter().filter_map(Result::ok).find(|code| *code != exit_code::OK);
            failed.unwrap_or(exit_code::OK)
        };
        let on: BTreeSet<&str> = self
            .members
            .iter()
            .filter(|member| member.stays_on)
            .map(|member| member.workload.as_str())
            .collect();
        if !ui.is_json() && !on.is_empty() {
            let names = on.iter().copied().collect::<Vec<_>>().join(", ");
            let down = match self.members.as_slice() {
                [only] => format!("towline down {}", only.workload),
                [lead, ..] if self.leads => format!("towline down {}", lead.name),
                _ => "towline down --all".to_owned(),
            };
            ui.say(&format!(
                "dev mode is still on for {names} in namespace {}: towline up goes on, {down} ends it",
                context.namespace
            ));
        }
        Ok(code)
    }
}

/// Sends what is typed to the command. On a terminal, `Enter ~ .` leaves.
async fn feed(
    mut typed: mpsc::Receiver<Vec<u8>>,
    process: ProcessHandle,
    is_terminal: bool,
    leave_tx: mpsc::Sender<()>,
) {
    let mut escape = Escape::new();
    while let Some(bytes) = typed.recv().await {
        let (send, leaves) = if is_terminal { escape.take(&bytes) } else { (bytes, false) };
        if leaves {
            // The session ends only once.
            let _ = leave_tx.try_send(());
            return;
        }
        if !process.send(ProcessInput::Input(send)).await {
            return;
        }
    }
    process.send(ProcessInput::Close).await;
}

/// Receives from a channel that may not be there.
pub(crate) async fn receive<T>(receiver: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match receiver {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}

/// Shows the command's output, or puts it into an event where standard output is for JSON.
fn show_or_tell(ui: &Ui, output: &ProcessOutput) -> Result<(), Failure> {
    if !ui.is_json() {
        return show(output);
    }
    let (stream, bytes) = match output {
        ProcessOutput::Output(bytes) => ("output", bytes),
        ProcessOutput::Error(bytes) => ("error", bytes),
        ProcessOutput::Skipped(_) | ProcessOutput::Exited(_) | ProcessOutput::Failed(_) => return Ok(()),
    };
    ui.json(&serde_json::json!({
        "version": 1, "time": ui::now(), "kind": "commandOutput", "stream": stream, "text": String::from_utf8_lossy(bytes),
    }));
    Ok(())
}

/// Shows a process's output as it is.
pub(crate) fn show(output: &ProcessOutput) -> Result<(), Failure> {
    match output {
        ProcessOutput::Output(bytes) => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(bytes)?;
            stdout.flush()?;
        }
        ProcessOutput::Error(bytes) => std::io::stderr().write_all(bytes)?,
        ProcessOutput::Skipped(count) => {
            anstream::eprintln!("\r\n[towline] {count} bytes of earlier output are gone\r");
        }
        ProcessOutput::Exited(_) | ProcessOutput::Failed(_) => {}
    }
    Ok(())
}
