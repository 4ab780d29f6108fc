//! A process beside the user's command, on a stream of its own: it needs no running `up`.

use tokio::task::JoinSet;
use towline_link::message::{MessageReader, MessageWriter};
use towline_link::{ChannelReader, ChannelWriter, Priority};
use towline_patcher::Record;
use towline_protocol::{ChannelRequest, ExitStatus, ProcessInput, ProcessOutput, ProcessSpec, encode};

use crate::connection;
use crate::context::Context;

/// A process that was asked for. Dropping it ends the process.
#[derive(Debug)]
pub struct Exec {
    reader: MessageReader<ChannelReader>,
    writer: MessageWriter<ChannelWriter>,
    _stream: JoinSet<String>,
}

impl Exec {
    /// Opens a stream to the agent of a pod and starts the process there.
    pub async fn start(
        context: &Context,
        record: &Record,
        pod: &str,
        spec: &ProcessSpec,
    ) -> Result<Self, String> {
        let (link, _, stream) = connection::dial(context, pod, &record.container, &record.config_map).await?;
        let opening = encode(&ChannelRequest::Exec(spec.clone()));
        let channel = link.open(opening, Priority::Interactive).await.map_err(|error| error.to_string())?;
        let (reader, writer) = channel.split();
        Ok(Self { reader: MessageReader::new(reader), writer: MessageWriter::new(writer), _stream: stream })
    }

    /// Returns the next output, or how the process ended. Cancel-safe.
    pub async fn output(&mut self) -> Result<Result<ProcessOutput, ExitStatus>, String> {
        match self.reader.next().await.map_err(|error| error.to_string())? {
            Some(ProcessOutput::Exited(status)) => Ok(Err(status)),
            Some(ProcessOutput::Failed(refusal)) => Err(refusal.message),
            Some(output) => Ok(Ok(output)),
            None => Err("the output ended without an exit code".to_owned()),
        }
    }

    /// Sends input, a size or a signal.
    pub async fn input(&mut self, input: &ProcessInput) -> Result<(), String> {
        self.writer.send(input).await.map_err(|error| error.to_string())
    }
}
