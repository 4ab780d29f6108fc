//! `mode: hybrid`: the command runs on this machine, and the dev container stands in for it in the cluster. It gets the
//! container's variables, and the pod's traffic by reverse forwards.

mod environment;
mod helper;
mod plan;
mod process;

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use towline_link::Link;
use towline_protocol::{ControlReply, ControlRequest, ProcessInput, ProcessState, TerminalSize};

pub use self::helper::helper;
pub use self::plan::HereView;
pub(crate) use self::plan::{complete, view};
use crate::connection::ask;
use crate::event::Event;
use crate::output::Outlet;
use crate::process::News;
use crate::request::{Hybrid, UpRequest};

/// How long the agent may take to tell the container's variables.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the command says what becomes of it.
#[derive(Debug, Clone)]
pub(crate) struct Outlets {
    pub(crate) outlet: Outlet,
    pub(crate) event_tx: mpsc::Sender<Event>,
    pub(crate) news_tx: mpsc::Sender<News>,
}

/// The command on this machine. It outlives every stream to the agent, and nothing of it outlives this.
#[derive(Debug, Default)]
pub(crate) struct Here {
    tasks: JoinSet<()>,
    is_running: bool,
    stop_tx: Option<oneshot::Sender<()>>,
}

impl Here {
    /// Starts the command unless it runs, or is about to. Returns where its input goes.
    pub(crate) fn start(
        &mut self,
        request: &UpRequest,
        size: Option<TerminalSize>,
        link: Link,
        outlets: Outlets,
    ) -> Option<mpsc::Sender<ProcessInput>> {
        let hybrid = request.hybrid.clone()?;
        while self.tasks.try_join_next().is_some() {}
        if !self.tasks.is_empty() {
            return None;
        }
        let (input_tx, input_rx) = mpsc::channel(64);
        let (stop_tx, mut stop_rx) = oneshot::channel();
        let argv = request.command.clone();
        self.stop_tx = Some(stop_tx);
        self.tasks.spawn(async move {
            let preparing = async {
                let container = container_environment(&link).await?;
                let found = environment::resolve(&container, &hybrid.environment);
                let (variables, left_out) = (found.variables.len(), found.left_out);
                let _ = outlets.event_tx.send(Event::Environment { variables, left_out }).await;
                let _ = outlets.event_tx.send(Event::CommandStarted { command: argv.clone() }).await;
                Ok(found.variables)
            };
            let prepared = tokio::select! {
                prepared = preparing => prepared,
                _ = &mut stop_rx => return,
            };
            match prepared {
                Ok(environment) => {
                    let Hybrid { folder, helper, path, .. } = hybrid;
                    let start = process::Start { argv, folder, helper, path, environment, size };
                    process::run(&start, input_rx, stop_rx, outlets).await;
                }
                Err(news) => {
                    let _ = outlets.news_tx.send(news).await;
                }
            }
        });
        Some(input_tx)
    }

    /// Takes in that the command runs.
    pub(crate) fn has_started(&mut self) {
        self.is_running = true;
    }

    /// Returns how far the command is; to the agent it is no process.
    pub(crate) fn state(&self) -> ProcessState {
        if self.is_running { ProcessState::Running { pid: 0 } } else { ProcessState::Idle }
    }

    /// Ends the command with all that it started.
    pub(crate) async fn stop(&mut self) {
        self.stop_tx = None;
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Asks the agent for the environment that the container was started with, as `/proc/pid/environ` has it.
async fn container_environment(link: &Link) -> Result<Vec<u8>, News> {
    let question = async |question| {
        let asked = tokio::time::timeout(PATIENCE, ask(link, &question)).await;
        asked.unwrap_or_else(|_| Err("the agent did not answer in time".to_owned()))
    };
    let message = match question(ControlRequest::Environment).await {
        Ok(ControlReply::Environment(environment)) => return Ok(environment),
        Ok(ControlReply::Failed(refusal)) => refusal.message,
        Ok(_) => "the agent answered something else".to_owned(),
        // Over another stream it may go well.
        Err(message) if question(ControlRequest::Status).await.is_err() => return Err(News::Broken(message)),
        Err(message) => message,
    };
    Err(News::Failed { message: format!("the container's variables can't be had: {message}"), code: 1 })
}
