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
use crate::output::{self, Outlet};

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
    pub(crate) outlet: Outlet,
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
                    let bytes = output::size(&output);
                    attach.outlet.send(output).await;
                    // Only now: what a lost stream keeps from being handed over comes again.
                    attach.seen.fetch_add(bytes, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use tokio::io::{duplex, split};
    use tokio::task::JoinSet;
    use towline_link::{Config, Hello, LinkOptions, Role, establish};

    use super::*;

    fn options(role: Role) -> LinkOptions {
        let hello = Hello { program: [0; 32], version: "test".to_owned(), nonce: [role as u8; 16] };
        LinkOptions { hello, role, config: Config::default() }
    }

    #[tokio::test]
    async fn the_end_of_a_command_is_heard_though_nobody_takes_its_output() {
        let (ours, theirs) = duplex(1 << 16);
        let ((our_reader, our_writer), (their_reader, their_writer)) = (split(ours), split(theirs));
        let (client, agent) = tokio::join!(
            establish(our_reader, our_writer, options(Role::Client)),
            establish(their_reader, their_writer, options(Role::Agent)),
        );
        let (client, mut agent) = (client.unwrap(), agent.unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async { drop(client.driver.run().await) });
        tasks.spawn(async { drop(agent.driver.run().await) });
        tasks.spawn(async move {
            let (_, channel) = agent.incoming.accept().await.unwrap();
            let mut writer = MessageWriter::new(channel);
            for _ in 0..2000 {
                writer.send(&ProcessOutput::Output(b"a line\n".to_vec())).await.unwrap();
            }
            writer.send(&ProcessOutput::Exited(ExitStatus::Code(3))).await.unwrap();
            std::future::pending::<()>().await;
        });
        let (outlet, _untaken) = output::channel();
        let seen = Arc::new(AtomicU64::new(0));
        let attach = Attach { link: client.link, seen: seen.clone(), outlet, size: None };
        let (_input_tx, input_rx) = mpsc::channel(1);
        let (news_tx, mut news_rx) = mpsc::channel(1);
        tasks.spawn(stay(attach, input_rx, news_tx));
        let news = tokio::time::timeout(std::time::Duration::from_secs(20), news_rx.recv()).await;
        assert!(matches!(news, Ok(Some(News::Exited(ExitStatus::Code(3))))), "{news:?}");
        assert_eq!(seen.load(Ordering::Relaxed), 2000 * 7);
    }
}
