//! What the laptop and the agent say to each other on their channels, besides sync.
//!
//! A channel is opened with an encoded [`ChannelRequest`]; what follows on it depends on the request:
//!
//! | request | then, towards the agent | then, towards the laptop |
//! | --- | --- | --- |
//! | `Control` | [`ControlRequest`] messages | one [`ControlReply`] for each, in order |
//! | `Attach`, `Exec` | [`ProcessInput`] messages | [`ProcessOutput`] messages, the last is `Exited` or `Failed` |
//! | `Forward` | raw bytes | raw bytes; a channel reset carries why a dial failed |
//! | `Sync` | `towline_sync_core::message::Request` | `towline_sync_core::message::Reply` |
//! | `Reverse` (opened by the agent) | raw bytes | raw bytes |
//!
//! Messages are postcard behind a 4-byte little-endian length. Variants are never reordered: both ends carry the
//! hash of the agent in their hello, and another hash means another agent is injected, never a guess.

#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

/// What both ends of a stream must be: the product's version and that of what is said on channels, which is
/// `towline_sync_core::message::VERSION`.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "+6");
/// The longest encoded message of this crate, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;
/// Where the agent's binary is mounted in the dev container.
pub const AGENT_MOUNT: &str = "/.towline/bin";
/// The agent's binary in the dev container.
pub const AGENT_PATH: &str = "/.towline/bin/agent";
/// An emptyDir of ours: holds the agent's unix socket in a private folder.
pub const RUN_MOUNT: &str = "/.towline/run";

/// What a new channel is for: the opening bytes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelRequest {
    /// Questions to the agent itself.
    Control,
    /// The user's command, as last started by [`ControlRequest::Start`].
    Attach {
        /// Output already seen, in bytes since the process started; the scrollback is sent from there on.
        seen: u64,
        /// The client's terminal, where it has one.
        size: Option<TerminalSize>,
    },
    /// Another process beside the user's command; it ends with the channel.
    Exec(ProcessSpec),
    /// A connection that the agent dials.
    Forward {
        /// A name or an address, as seen from the pod.
        host: String,
        /// A TCP port.
        port: u16,
    },
    /// One folder's replica.
    Sync,
    /// Opened by the agent: someone connected to a listener of [`ControlRequest::Listen`].
    Reverse {
        /// The port in the pod.
        port: u16,
    },
}

/// A process to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// The program, looked up in the container's `PATH`, and its arguments.
    pub argv: Vec<String>,
    /// Added to the container's environment.
    pub environment: Vec<(String, String)>,
    /// The working folder; the container's own when `None`.
    pub workdir: Option<String>,
    /// Given: a pty of this size. `None`: pipes, output and errors apart.
    pub terminal: Option<TerminalSize>,
}

/// A terminal's size in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// A question to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlRequest {
    /// Asks for [`AgentStatus`].
    Status,
    /// Starts the user's command unless it runs already.
    Start(ProcessSpec),
    /// Ends the user's command (SIGTERM, then SIGKILL after the given milliseconds); answered when it has ended.
    Stop {
        /// How long it may take to end by itself.
        grace_milliseconds: u32,
    },
    /// Listens on this port of the pod for a reverse forward.
    Listen {
        /// A TCP port.
        port: u16,
        /// On all of the pod's addresses, where its Services lead, rather than on its loopback alone.
        everywhere: bool,
    },
    /// Asks for [`Usage`].
    Usage,
    /// Asks for the container's environment.
    Environment,
}

/// The agent's answer, one for each question, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlReply {
    /// To `Status`.
    Status(AgentStatus),
    /// To `Start`.
    Started(Started),
    /// To `Stop`.
    Stopped,
    /// To `Listen`.
    Listening,
    /// The operating system refused.
    Failed(Refusal),
    /// To `Usage`.
    Usage(Usage),
    /// To `Environment`: what the container was started with, as `NAME=value`, each ended by a zero byte (`proc(5)`,
    /// `/proc/pid/environ`).
    Environment(#[serde(with = "bytes_field")] Vec<u8>),
}

/// What a process has used since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time, in milliseconds.
    pub cpu_milliseconds: u64,
    /// The most memory that was resident at once, in KiB.
    pub peak_kibibytes: u64,
}

/// What became of [`ControlRequest::Start`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Started {
    /// It was started now.
    Now,
    /// It was running already and goes on.
    Already,
}

/// What the agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Random, made when this pid 1 started: another one means that the container was started anew.
    pub instance: [u8; 16],
    /// The container's user.
    pub uid: u32,
    /// The container's group.
    pub gid: u32,
    /// The container's working folder.
    pub workdir: String,
    /// The user's command.
    pub process: ProcessState,
}

/// The user's command, as far as it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessState {
    /// Not started since the container was.
    Idle,
    /// Running, with this process id in the pod.
    Running {
        /// In the pod's pid namespace.
        pid: u32,
    },
    /// Ended.
    Exited(ExitStatus),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl ExitStatus {
    /// Returns the code a shell would give: the process's own, or 128 plus the signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// To a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessInput {
    /// Bytes for its standard input or its terminal.
    Input(#[serde(with = "bytes_field")] Vec<u8>),
    /// No more input comes.
    Close,
    /// The client's terminal has another size.
    Resize(TerminalSize),
    /// A signal for the foreground process group, by its Linux number.
    Signal(i32),
}

/// From a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessOutput {
    /// Bytes of its standard output or its terminal.
    Output(#[serde(with = "bytes_field")] Vec<u8>),
    /// Bytes of its standard error; never with a terminal.
    Error(#[serde(with = "bytes_field")] Vec<u8>),
    /// The bounded scrollback lost this many bytes before the client came.
    Skipped(u64),
    /// It ended; the last message.
    Exited(ExitStatus),
    /// It could not be started; the last message.
    Failed(Refusal),
}

/// An operating system's refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The error number, 0 where there is none.
    pub errno: i32,
    /// What was being done, and the system's words.
    pub message: String,
}

/// Why bytes are not a message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The announced length is over the limit.
    #[error("a message of {length} bytes is too long")]
    TooLong {
        /// As announced, in bytes.
        length: usize,
    },
    /// The bytes do not follow the format.
    #[error("malformed message: {0}")]
    Malformed(#[from] postcard::Error),
    /// Bytes follow the message.
    #[error("{count} bytes follow the message")]
    Trailing {
        /// How many.
        count: usize,
    },
}

/// Encodes one message, without its length prefix.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // Writing into memory fails only for types serde can't describe, and ours are plain enums and structs.
    postcard::to_stdvec(message).expect("protocol types are serialisable")
}

/// Decodes one message that fills `bytes` exactly, at most [`MAX_MESSAGE_BYTES`].
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    decode_within(bytes, MAX_MESSAGE_BYTES)
}

/// Decodes one message that fills `bytes` exactly, with the limit of another kind of messages.
pub fn decode_within<'a, T: Deserialize<'a>>(bytes: &'a [u8], max_bytes: usize) -> Result<T, DecodeError> {
    if bytes.len() > max_bytes {
        return Err(DecodeError::TooLong { length: bytes.len() });
    }
    let (message, rest) = postcard::take_from_bytes(bytes)?;
    if rest.is_empty() { Ok(message) } else { Err(DecodeError::Trailing { count: rest.len() }) }
}

mod bytes_field {
    //! Serialises a `Vec<u8>` as one run of bytes instead of a sequence of numbers.

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}
