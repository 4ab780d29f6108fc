//! Reaching an agent at the far end of a stream: `towline-agent serve`, by ssh, docker exec, or anything else.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use towline_link::message::{MessageReader, MessageWriter};
use towline_link::{Config, Connection, Hello, Link, LinkOptions, Priority, Role, Traffic};
use towline_protocol::{ChannelRequest, ControlReply, ControlRequest, Usage, encode};

use crate::error::SyncError;
use crate::peer::Peer;

/// How long the agent may take to introduce itself: who reaches it may have to log in first.
const HANDSHAKE: Duration = Duration::from_mins(1);
/// How long the agent may take to answer a question.
const ANSWER: Duration = Duration::from_secs(10);

/// An agent that introduced itself. The stream lives as long as this.
#[derive(Debug)]
pub struct Agent {
    link: Link,
    driving: JoinSet<String>,
}

impl Agent {
    /// Exchanges hellos over a stream to an agent of this version.
    ///
    /// # Errors
    ///
    /// [`SyncError::Agent`] when what answers is no agent, or one of another version.
    pub async fn connect<R, W>(reader: R, writer: W, config: Config) -> Result<Self, SyncError>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let hello = Hello { program: [0; 32], version: towline_protocol::VERSION.to_owned(), nonce: nonce() };
        let options = LinkOptions { hello, role: Role::Client, config };
        let establishing = towline_link::establish(reader, writer, options);
        let Connection { link, driver, peer, .. } = match tokio::time::timeout(HANDSHAKE, establishing).await
        {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(SyncError::Agent { message: error.to_string() }),
            Err(_) => {
                return Err(SyncError::Agent { message: "the agent did not answer in time".to_owned() });
            }
        };
        if peer.version != towline_protocol::VERSION {
            return Err(SyncError::Agent {
                message: format!(
                    "the agent is of version {}, this is {}: bring both to the same",
                    peer.version,
                    towline_protocol::VERSION
                ),
            });
        }
        let mut driving = JoinSet::new();
        driving.spawn(async move { driver.run().await.to_string() });
        Ok(Self { link, driving })
    }

    /// Opens a folder's replica.
    ///
    /// # Errors
    ///
    /// [`SyncError::Agent`] when the stream has ended.
    pub async fn folder(&self) -> Result<Peer, SyncError> {
        let channel = self
            .link
            .open(encode(&ChannelRequest::Sync), Priority::Interactive)
            .await
            .map_err(|error| SyncError::Agent { message: error.to_string() })?;
        let (reader, writer) = channel.split();
        Ok(Peer::stream(reader, writer))
    }

    /// Asks what the agent has used so far.
    ///
    /// # Errors
    ///
    /// [`SyncError::Agent`] when there is no answer.
    pub async fn usage(&self) -> Result<Usage, SyncError> {
        let asking = async {
            let channel = self
                .link
                .open(encode(&ChannelRequest::Control), Priority::Interactive)
                .await
                .map_err(|error| error.to_string())?;
            let (reader, writer) = channel.split();
            // Dropped before the answer it would take the whole channel with it.
            let mut writer = MessageWriter::new(writer);
            writer.send(&ControlRequest::Usage).await.map_err(|error| error.to_string())?;
            match MessageReader::new(reader).next().await {
                Ok(Some(ControlReply::Usage(usage))) => Ok(usage),
                Ok(other) => Err(format!("the agent answered with {other:?}")),
                Err(error) => Err(error.to_string()),
            }
        };
        tokio::time::timeout(ANSWER, asking)
            .await
            .unwrap_or_else(|_| Err("the agent gave no answer".to_owned()))
            .map_err(|message| SyncError::Agent { message })
    }

    /// Returns the bytes on the stream so far.
    pub fn traffic(&self) -> Traffic {
        self.link.traffic()
    }

    /// Waits until the stream has ended, and returns why. Cancel-safe.
    pub async fn ended(&mut self) -> String {
        match self.driving.join_next().await {
            Some(Ok(why)) => why,
            Some(Err(error)) => error.to_string(),
            None => "the stream has ended".to_owned(),
        }
    }

    /// Ends the stream: what was written before still goes out.
    pub fn close(&self) {
        self.link.close();
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
