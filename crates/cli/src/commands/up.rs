//! `towline up`.

use std::io::Write;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use towline_patcher::Way;
use towline_protocol::{ProcessInput, ProcessOutput, TerminalSize};
use towline_session::request::OnChange;
use towline_session::translate::{self, Choices};
use towline_session::up::ProcessHandle;
use towline_session::{AgentSource, Context, Ending, Event, Session, SessionError, State, up};

use super::{Outcome, sessions};
use crate::agent;
use crate::args::{self, Global, Up};
use crate::commands::{up_detached, up_plan};
use crate::diagnose::Failure;
use crate::env_vars;
use crate::exit_code;
use crate::place;
use crate::project::{Project, ignore_words};
use crate::terminal::{self, Escape, Raw};
use crate::trust;
use crate::ui::{self, Ui};

/// Plans, begins, then stays with the session until it ends.
pub(crate) async fn run(ui: &mut Ui, global: &Global, args: &Up) -> Outcome {
    let project = Project::open(global)?;
    let manifest = project.manifest(ui)?;
    let dev = project.dev(manifest, args.name.as_deref())?;
    if project.example {
        ui.say(&format!(
            "no manifest here and no kubeconfig: trying the example {} on the embedded cluster",
            project.path.display()
        ));
    }
    trust::require(ui, &place::home()?, &project, args.trust_manifest.as_deref())?;
    if args.detach {
        return up_detached::run(ui, &place::home()?).await;
    }
    let context = place::connect(ui, global).await?;
    let agent = if context.cluster.target().embedded {
        let file = agent::host_build(ui).await?.agent;
        let bytes = tokio::fs::read(&file)
            .await
            .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
        AgentSource::Host { hash: blake3::hash(&bytes).to_hex().to_string() }
    } else {
        agent::binary(ui).await?
    };
    let size = terminal::size().filter(|_| !args.detached && !ui.is_json());
    let command = (!args.command.is_empty()).then(|| args.command.clone());
    let choices = Choices {
        command,
        process_environment: environment(size),
        agent,
        takeover: args.takeover,
        gitops: up_plan::gitops(args.gitops),
        way: match (args.in_place, args.swap) {
            (true, _) => Some(Way::InPlace),
            (false, true) => Some(Way::Swap),
            (false, false) => None,
        },
        on_change: match args.on_change {
            args::OnChange::Rebase => OnChange::Rebase,
            args::OnChange::Keep => OnChange::Keep,
            args::OnChange::Leave => OnChange::Leave,
        },
    };
    let request = translate::request(manifest, dev, &project.path, choices)?;
    for folder in &request.folders {
        let ignore = ignore_words(folder.ignore.len(), &folder.ignore_files);
        ui.say(&format!("{} ↔ {}, {ignore}", folder.local.display(), folder.remote));
    }
    let target = context.cluster.target();
    ui.phase(&format!("checking {} in namespace {} of {}", dev.workload, context.namespace, target.context));
    let planned = up_plan::make(ui, &context, request, args).await?;
    sessions::mention_abandoned(ui, &context, Some(&planned.record.name)).await;
    for note in &planned.notes {
        ui.warn(note);
    }
    if args.dry_run {
        up_plan::show(ui, &planned.view());
        let obstacles = planned.obstacles;
        return if obstacles.is_empty() {
            Ok(exit_code::OK)
        } else {
            Err(SessionError::Obstacles { obstacles }.into())
        };
    }
    up_plan::mention(ui, &planned);
    let workload = planned.record.name.clone();
    let session = up::up(&context, planned, size).await?;
    follow(ui, &context, args, session, size, &workload).await
}

/// Ties the session to the terminal until it ends.
async fn follow(
    ui: &mut Ui,
    context: &Context,
    args: &Up,
    mut session: Session,
    size: Option<TerminalSize>,
    workload: &str,
) -> Outcome {
    let mut output = session.take_output();
    let process = session.process();
    // Without a terminal, input that is not ours to read (a script's) is left alone unless it is piped to us.
    let mut typed = if args.detached { None } else { Some(terminal::input()) };
    // A command that does not read keeps its input waiting, and nothing else.
    let mut feeding = JoinSet::new();
    let (leave_tx, mut leave_rx) = mpsc::channel(1);
    let mut raw = None;
    let mut running = false;
    let mut resized = signal(SignalKind::window_change())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            biased;
            event = session.next_event() => {
                let Some(event) = event else { break };
                match &event {
                    Event::CommandStarted { .. } | Event::State { state: State::Ready } if !running => {
                        ui.event(&event);
                        running = true;
                        if let Some(typed) = typed.take() {
                            feeding.spawn(feed(typed, process.clone(), size.is_some(), leave_tx.clone()));
                        }
                        if size.is_some() {
                            ui.command_has_terminal(true);
                            raw = Some(Raw::enter()?);
                        }
                        continue;
                    }
                    Event::SyncHalted { folder, .. } if args.approve_deletions => {
                        session.approve_deletions(*folder).await;
                        continue;
                    }
                    Event::Ended { .. } => {
                        raw = None;
                        ui.command_has_terminal(false);
                    }
                    _ => {}
                }
                ui.event(&event);
            }
            Some(bytes) = receive(&mut output) => show_or_tell(ui, &bytes)?,
            Some(()) = leave_rx.recv() => session.leave().await,
            _ = resized.recv() => if let Some(size) = terminal::size() {
                process.try_send(ProcessInput::Resize(size));
            },
            // On a terminal the key reaches the command as it is; the signal is meant for us.
            _ = interrupted.recv() => {
                let signal = ProcessInput::Signal(SignalKind::interrupt().as_raw_value());
                if !running || !process.try_send(signal) {
                    session.leave().await;
                }
            },
            _ = terminated.recv() => session.leave().await,
        }
    }
    drop(raw);
    // What the command wrote last may still be on its way out.
    while let Some(Ok(bytes)) = output.as_mut().map(mpsc::Receiver::try_recv) {
        show_or_tell(ui, &bytes)?;
    }
    let code = match session.ended().await? {
        Ending::CommandExited { code } => u8::try_from(code).unwrap_or(exit_code::REFUSED),
        Ending::Left => exit_code::INTERRUPTED,
        Ending::Lost { .. } | Ending::Undone { .. } => return Ok(exit_code::REFUSED),
        Ending::Failed { message, code } => return Err(Failure::of_session(message, code)),
        _ => exit_code::REFUSED,
    };
    if !ui.is_json() {
        ui.say(&format!(
            "dev mode is still on for {workload} in namespace {}: towline up goes on, towline down {workload} ends it",
            context.namespace
        ));
    }
    Ok(code)
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

/// What a process needs to know of the user's terminal.
pub(crate) fn environment(size: Option<TerminalSize>) -> Vec<(String, String)> {
    let terminal = size.and_then(|_| env_vars::text("TERM"));
    terminal.map(|terminal| ("TERM".to_owned(), terminal)).into_iter().collect()
}
