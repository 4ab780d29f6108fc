//! `towline exec`.

use tokio::signal::unix::{SignalKind, signal};
use towline_protocol::{ProcessInput, ProcessSpec};
use towline_session::exec::Exec;

use super::{Outcome, sessions};
use crate::args;
use crate::commands::up::{environment, show};
use crate::diagnose::Failure;
use crate::exit_code;
use crate::place;
use crate::terminal::{self, Raw};
use crate::ui::Ui;

/// Runs a command beside the user's own one and passes its exit code on.
pub(crate) async fn run(ui: &mut Ui, global: &args::Global, args: &args::Exec) -> Outcome {
    let context = place::connect(ui, global).await?;
    let (_, held) = sessions::one(&context, args.name.as_deref()).await?;
    let pod = sessions::dev_pod_name(&context, &held).await?;
    let size = terminal::size();
    let words = if args.command.is_empty() { vec!["sh".to_owned()] } else { args.command.clone() };
    let spec = ProcessSpec { argv: words, environment: environment(size), workdir: None, terminal: size };
    let mut exec = Exec::start(&context, &held.record, &pod, &spec).await.map_err(Failure::from)?;
    let _raw = size.map(|_| Raw::enter()).transpose()?;
    let mut typed = terminal::input();
    let mut resized = signal(SignalKind::window_change())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut more = true;
    loop {
        tokio::select! {
            output = exec.output() => match output.map_err(Failure::from)? {
                Ok(output) => show(&output)?,
                Err(status) => return Ok(u8::try_from(status.code()).unwrap_or(exit_code::REFUSED)),
            },
            input = typed.recv(), if more => if let Some(bytes) = input { exec.input(&ProcessInput::Input(bytes)).await.map_err(Failure::from)? } else {
                more = false;
                exec.input(&ProcessInput::Close).await.map_err(Failure::from)?;
            },
            _ = resized.recv() => if let Some(size) = terminal::size() {
                exec.input(&ProcessInput::Resize(size)).await.map_err(Failure::from)?;
            },
            _ = interrupted.recv() => {
                exec.input(&ProcessInput::Signal(SignalKind::interrupt().as_raw_value())).await.map_err(Failure::from)?;
            }
        }
    }
}
