//! `towline exec`.

use tokio::signal::unix::{SignalKind, signal};
use towline_protocol::{ProcessInput, ProcessSpec};
use towline_session::exec::{ExecInput, exec};

use super::{Outcome, sessions};
use crate::args;
use crate::commands::up::environment;
use crate::commands::up_follow::{receive, show};
use crate::diagnose::Failure;
use crate::exit_code;
use crate::place;
use crate::terminal::{self, Raw};
use crate::ui::Ui;

/// Runs a command beside the user's own one and passes its exit code on.
pub(crate) async fn run(ui: &mut Ui, global: &args::Global, args: &args::Exec) -> Outcome {
    let context = place::connect(ui, global).await?;
    let (_, held) = sessions::one(&context, args.name.as_deref()).await?;
    sessions::mention_abandoned(ui, &context, &[&held.record.name]).await;
    let pod = sessions::dev_pod_name(&context, &held).await?;
    let size = terminal::size();
    let words = if args.command.is_empty() { vec!["sh".to_owned()] } else { args.command.clone() };
    let spec = ProcessSpec { argv: words, environment: environment(size), workdir: None, terminal: size };
    let (mut output, input) = exec(&context, &held.record, &pod, &spec).await?;
    let _raw = size.map(|_| Raw::enter()).transpose()?;
    let showing = async {
        loop {
            match output.next().await? {
                Ok(output) => show(&output)?,
                Err(status) => return Ok(u8::try_from(status.code()).unwrap_or(exit_code::REFUSED)),
            }
        }
    };
    tokio::select! {
        ended = showing => ended,
        // Only the process says how it ended, also when nothing more can be sent to it.
        failure = feed(input) => Err(failure),
    }
}

/// Sends what is typed, resized and interrupted, for as long as that can be sent.
async fn feed(mut input: ExecInput) -> Failure {
    let (mut resized, mut interrupted) =
        match (signal(SignalKind::window_change()), signal(SignalKind::interrupt())) {
            (Ok(resized), Ok(interrupted)) => (resized, interrupted),
            (Err(error), _) | (_, Err(error)) => return error.into(),
        };
    let mut typed = Some(terminal::input());
    loop {
        let next = tokio::select! {
            bytes = receive(&mut typed) => if let Some(bytes) = bytes {
                ProcessInput::Input(bytes)
            } else {
                typed = None;
                ProcessInput::Close
            },
            _ = resized.recv() => match terminal::size() {
                Some(size) => ProcessInput::Resize(size),
                None => continue,
            },
            _ = interrupted.recv() => ProcessInput::Signal(SignalKind::interrupt().as_raw_value()),
        };
        if input.send(&next).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
