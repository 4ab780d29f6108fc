//! The user's command in the pod: started once, attached to as often as the stream is opened anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use towline_link::message::{MessageReader, MessageWriter};
use towline_link::{Link, Priority};
use towline_protocol::{
    ChannelRequest, ControlReply, ControlRequest, ExitStatus, ProcessInput, ProcessOutput, ProcessSpec,
    Refusal, Started, TerminalSize, encode,
};

use crate::connection::ask;

/// What the command did, as the machine wants to know it.
#[derive(Debug)]
pub(crate) enum News {
    /// It runs.
    Started,
    /// It could not be started.
    Failed {
        /// Why.
        message: String,
        /// The code a shell would give.
        code: i32,
    },
    /// It ended.
    Exited(ExitStatus),
    /// The stream broke before anything was known; the next connection decides.
    Broken(String),
}

/// What an attachment needs.
#[derive(Debug, Clone)]
pub(crate) struct Attach {
    pub(crate) link: Link,
    /// Bytes of output seen since the command was started.
    pub(crate) seen: Arc<AtomicU64>,
    pub(crate) output_tx: mpsc::Sender<ProcessOutput>,
    pub(crate) size: Option<TerminalSize>,
}

/// Starts the command unless it runs, then stays attached to it until it ends or the stream breaks.
pub(crate) async fn start(
    spec: ProcessSpec,
    attach: Attach,
    input_rx: mpsc::Receiver<ProcessInput>,
    news_tx: mpsc::Sender<News>,
) {
    let news = match ask(&attach.link, &ControlRequest::Start(spec)).await {
        Ok(ControlReply::Started(started)) => {
            if started == Started::Now {
                attach.seen.store(0, Ordering::Relaxed);
            }
            let _ = news_tx.send(News::Started).await;
            return stay(attach, input_rx, news_tx).await;
        }
        Ok(ControlReply::Failed(refusal)) => {
            News::Failed { code: shell_code(&refusal).into(), message: refusal.message }
        }
        Ok(other) => News::Broken(format!("the agent answered a start with {other:?}")),
        Err(message) => News::Broken(message),
    };
    let _ = news_tx.send(news).await;
}

/// Returns the exit code that a shell gives: the command is not there, or it is and can't be executed.
pub(crate) fn shell_code(refusal: &Refusal) -> u8 {
    const ENOENT: i32 = 2;
    if refusal.errno == ENOENT { 127 } else { 126 }
}

/// Takes up the output where it was left, and the input.
pub(crate) async fn stay(
    attach: Attach,
    mut input_rx: mpsc::Receiver<ProcessInput>,
    news_tx: mpsc::Sender<News>,
) {
    let news = match carry(&attach, &mut input_rx).await {
        Ok(Some(status)) => News::Exited(status),
        Ok(None) => News::Broken("the command's output ended without its exit code".to_owned()),
        Err(message) => News::Broken(message),
    };
    let _ = news_tx.send(news).await;
}

async fn carry(
    attach: &Attach,
    input_rx: &mut mpsc::Receiver<ProcessInput>,
) -> Result<Option<ExitStatus>, String> {
    let request = ChannelRequest::Attach { seen: attach.seen.load(Ordering::Relaxed), size: attach.size };
    let channel =
        attach.link.open(encode(&request), Priority::Interactive).await.map_err(|error| error.to_string())?;
    let (reader, writer) = channel.split();
    let (mut reader, mut writer) = (MessageReader::new(reader), MessageWriter::new(writer));
    // Apart, so that a command that does not read its input is still heard.
    let sending = async {
        while let Some(input) = input_rx.recv().await {
            writer.send(&input).await.map_err(|error| error.to_string())?;
        }
        std::future::pending::<Result<std::convert::Infallible, String>>().await
    };
    let receiving = async {
        loop {
            match reader.next::<ProcessOutput>().await.map_err(|error| error.to_string())? {
                Some(ProcessOutput::Exited(status)) => return Ok(Some(status)),
                Some(output) => {
                    let bytes = match &output {
                        ProcessOutput::Output(bytes) | ProcessOutput::Error(bytes) => bytes.len() as u64,
                        ProcessOutput::Skipped(count) => *count,
                        ProcessOutput::Exited(_) | ProcessOutput::Failed(_) => 0,
                    };
                    attach.seen.fetch_add(bytes, Ordering::Relaxed);
                    // Nobody listens when the session is detached; the scrollback has it all the same.
                    let _ = attach.output_tx.send(output).await;
                }
                None => return Ok(None),
            }
        }
    };
    tokio::select! {
        ended = receiving => ended,
        Err(error) = sending => Err(error),
    }
}
