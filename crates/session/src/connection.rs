//! One stream to the agent: opened by exec, spoken over `link`, alive until it breaks.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use towline_cluster::port::ExecStream;
use towline_link::message::{MessageReader, MessageWriter};
use towline_link::{Channel, Config, Connection, Hello, Link, LinkOptions, Priority, Role};
use towline_protocol::{
    AGENT_PATH, AgentStatus, ChannelRequest, ControlReply, ControlRequest, RUN_MOUNT, decode, encode,
};

use crate::context::Context;

/// How long the agent may take to answer its first question.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a failed start may take to explain itself.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Bytes of a failed start's words that are shown.
const WORDS_BYTES: usize = 1024;

/// What a connection says, in this order: `Up`, any number of `Incoming`, `Down`; or `Down` alone.
#[derive(Debug)]
pub(crate) enum News {
    /// The agent answered.
    Up {
        /// To open channels on.
        link: Link,
        /// What it says of itself.
        status: AgentStatus,
    },
    /// Someone connected to a reverse forward's port in the pod.
    Incoming {
        /// The port in the pod.
        port: u16,
        /// The connection.
        channel: Channel,
    },
    /// The stream is gone, or never came.
    Down {
        /// Why.
        reason: String,
    },
}

/// Opens a stream to the agent of a pod and keeps it until it breaks.
pub(crate) async fn run(
    context: Context,
    pod: String,
    container: String,
    config_map: String,
    after: Duration,
    news_tx: mpsc::Sender<News>,
) {
    tokio::time::sleep(after).await;
    let reason = match hold(&context, &pod, &container, &config_map, &news_tx).await {
        Ok(reason) | Err(reason) => reason,
    };
    // Nobody listens only when the session is over.
    let _ = news_tx.send(News::Down { reason }).await;
}

/// Opens one stream for one command of the CLI, like `exec`. The stream lives as long as the returned set.
pub(crate) async fn dial(
    context: &Context,
    pod: &str,
    container: &str,
    config_map: &str,
) -> Result<(Link, AgentStatus, JoinSet<String>), String> {
    let (Connection { link, driver, .. }, words) = establish(context, pod, container, config_map).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { driver.run().await.to_string() });
    tasks.spawn(words);
    let status = ask_status(&link).await?;
    Ok((link, status, tasks))
}

async fn hold(
    context: &Context,
    pod: &str,
    container: &str,
    config_map: &str,
    news_tx: &mpsc::Sender<News>,
) -> Result<String, String> {
    let (Connection { link, mut incoming, driver, .. }, words) =
        establish(context, pod, container, config_map).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(words);
    let driving = driver.run();
    tokio::pin!(driving);
    let status = tokio::select! {
        ended = &mut driving => return Err(ended.to_string()),
        status = ask_status(&link) => status?,
    };
    let _ = news_tx.send(News::Up { link, status }).await;
    loop {
        tokio::select! {
            ended = &mut driving => return Ok(ended.to_string()),
            Some((opening, channel)) = incoming.accept() => match decode(&opening) {
                Ok(ChannelRequest::Reverse { port }) => {
                    let _ = news_tx.send(News::Incoming { port, channel }).await;
                }
                _ => channel.reset("the laptop serves reverse forwards only"),
            },
        }
    }
}

/// What the far end's start wrote on standard error, as it comes.
type Words = std::pin::Pin<Box<dyn Future<Output = String> + Send>>;

async fn establish(
    context: &Context,
    pod: &str,
    container: &str,
    config_map: &str,
) -> Result<(Connection, Words), String> {
    let argv: Vec<String> = [AGENT_PATH, "connect", "--run-dir", RUN_MOUNT].map(str::to_owned).into();
    let ExecStream { stdin, stdout, stderr } = context
        .cluster
        .exec(&context.namespace, pod, container, &argv)
        .await
        .map_err(|error| error.to_string())?;
    let mut words: Words = Box::pin(first_words(stderr));
    let hello = Hello { program: [0; 32], version: towline_protocol::VERSION.to_owned(), nonce: nonce() };
    let options = LinkOptions { hello, role: Role::Client, config: Config::default() };
    match tokio::time::timeout(HANDSHAKE, towline_link::establish(stdout, stdin, options)).await {
        Ok(Ok(connection)) => {
            // The ConfigMap's name ends with the hash of the agent that it holds: another one was put in its place.
            let program = blake3::Hash::from_bytes(connection.peer.program).to_hex();
            let wanted = config_map.rsplit('-').next().unwrap_or_default();
            if wanted.is_empty() || !program.starts_with(wanted) {
                return Err(format!("the agent in the pod is not the one of {config_map}: towline up again"));
            }
            Ok((connection, words))
        }
        Ok(Err(error)) => {
            let words = tokio::time::timeout(LAST_WORDS, &mut words).await.unwrap_or_default();
            Err(if words.is_empty() { error.to_string() } else { format!("{error}: {words}") })
        }
        Err(_) => Err("the agent did not answer in time".to_owned()),
    }
}

async fn ask_status(link: &Link) -> Result<AgentStatus, String> {
    match tokio::time::timeout(HANDSHAKE, ask(link, &ControlRequest::Status)).await {
        Ok(Ok(ControlReply::Status(status))) => Ok(status),
        Ok(Ok(other)) => Err(format!("the agent answered a question about its status with {other:?}")),
        Ok(Err(error)) => Err(error),
        Err(_) => Err("the agent did not say how it is".to_owned()),
    }
}

/// Asks the agent one question.
pub(crate) async fn ask(link: &Link, question: &ControlRequest) -> Result<ControlReply, String> {
    let channel = link
        .open(encode(&ChannelRequest::Control), Priority::Interactive)
        .await
        .map_err(|error| error.to_string())?;
    let (reader, writer) = channel.split();
    // Dropped before the answer it would take the whole channel with it.
    let mut writer = MessageWriter::new(writer);
    writer.send(question).await.map_err(|error| error.to_string())?;
    match MessageReader::new(reader).next().await {
        Ok(Some(reply)) => Ok(reply),
        Ok(None) => Err("the agent gave no answer".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Makes random bytes; they tell links apart and are no secret.
fn nonce() -> [u8; 16] {
    let mut nonce = [0; 16];
    for half in nonce.chunks_exact_mut(8) {
        half.copy_from_slice(&RandomState::new().build_hasher().finish().to_le_bytes());
    }
    nonce
}

/// Reads what a start that fails says, and goes on reading so that nothing fills up.
async fn first_words(mut stderr: Box<dyn tokio::io::AsyncRead + Send + Unpin>) -> String {
    use tokio::io::AsyncReadExt;
    let mut words = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        words.extend_from_slice(&buffer[..count.min(WORDS_BYTES.saturating_sub(words.len()))]);
    }
    String::from_utf8_lossy(&words).trim().to_owned()
}
