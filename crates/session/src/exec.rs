//! A process beside the user's command, on a stream of its own: it needs no running `up`.

use tokio::task::JoinSet;
use towline_link::message::{MessageReader, MessageWriter};
use towline_link::{ChannelReader, ChannelWriter, Priority};
use towline_patcher::Record;
use towline_protocol::{ChannelRequest, ExitStatus, ProcessInput, ProcessOutput, ProcessSpec, encode};

use crate::connection;
use crate::context::Context;
use crate::process;

/// Why a process did not start, or is heard of no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExecError {
    /// What went wrong.
    pub message: String,
    /// The exit code for it: 127 or 126 as a shell says it of the command, 1 where the stream broke.
    pub code: u8,
}

impl ExecError {
    fn broken(message: &impl ToString) -> Self {
        Self { message: message.to_string(), code: 1 }
    }
}

/// Opens a stream to the agent of a pod and starts a process there. Both ends are returned apart, so that a process
/// that does not read can still be listened to.
pub async fn exec(
    context: &Context,
    record: &Record,
    pod: &str,
    spec: &ProcessSpec,
) -> Result<(ExecOutput, ExecInput), ExecError> {
    let dialled = connection::dial(context, pod, &record.container, &record.config_map).await;
    let (link, _, stream) = dialled.map_err(|error| ExecError::broken(&error))?;
    let opening = encode(&ChannelRequest::Exec(spec.clone()));
    let channel =
        link.open(opening, Priority::Interactive).await.map_err(|error| ExecError::broken(&error))?;
    let (reader, writer) = channel.split();
    let output = ExecOutput { reader: MessageReader::new(reader), _stream: stream };
    Ok((output, ExecInput { writer: MessageWriter::new(writer) }))
}

/// What a process says. Dropping it ends the process.
#[derive(Debug)]
pub struct ExecOutput {
    reader: MessageReader<ChannelReader>,
    _stream: JoinSet<String>,
}

impl ExecOutput {
    /// Returns the next output, or how the process ended. Cancel-safe.
    pub async fn next(&mut self) -> Result<Result<ProcessOutput, ExitStatus>, ExecError> {
        match self.reader.next().await.map_err(|error| ExecError::broken(&error))? {
            Some(ProcessOutput::Exited(status)) => Ok(Err(status)),
            Some(ProcessOutput::Failed(refusal)) => {
                Err(ExecError { code: process::shell_code(&refusal), message: refusal.message })
            }
            Some(output) => Ok(Ok(output)),
            None => Err(ExecError::broken(&"the output ended without an exit code")),
        }
    }
}

/// The way to a process. Dropping it ends the process.
#[derive(Debug)]
pub struct ExecInput {
    writer: MessageWriter<ChannelWriter>,
}

impl ExecInput {
    /// Sends input, a size or a signal; waits while the process does not read.
    pub async fn send(&mut self, input: &ProcessInput) -> Result<(), ExecError> {
        self.writer.send(input).await.map_err(|error| ExecError::broken(&error))
    }
}
