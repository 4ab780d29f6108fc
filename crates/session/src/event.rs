//! What a session says: one closed enum, and its documented JSON.

use serde::Serialize;
use towline_protocol::ExitStatus;
use towline_sync_core::engine::Side;

/// The version of the JSON form; goes up when a field or a kind changes its meaning or disappears.
pub const EVENT_VERSION: u32 = 1;

/// How far a session is; the names are those that Okteto's users know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Objects are written: the record, the agent, the clone.
    Activating,
    /// The pod waits for a node.
    Starting,
    /// Volumes are attached and containers set up.
    Attaching,
    /// An image is fetched.
    Pulling,
    /// The agent answers; both folders are looked through.
    StartingSync,
    /// The first sync of this pod.
    Synchronizing,
    /// In sync, and the command runs.
    Ready,
    /// It can't go on; what to do is in the last event.
    Failed,
}

impl State {
    /// Returns the name as the state file and JSON have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Activating => "activating",
            Self::Starting => "starting",
            Self::Attaching => "attaching",
            Self::Pulling => "pulling",
            Self::StartingSync => "startingSync",
            Self::Synchronizing => "synchronizing",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }
}

/// Something that happened. Secrets, environment values and file contents are never in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Event {
    /// The session's state changed.
    State {
        /// The new state.
        state: State,
    },
    /// An object was written or deleted in the cluster.
    Object {
        /// `created`, `scaled`, `suspended`, `changed`, `deleted` or `restored`.
        action: &'static str,
        /// Kind and name.
        object: String,
    },
    /// The dev pod is waiting, or something happened to it; the message is the cluster's own.
    Pod {
        /// The pod's name.
        pod: String,
        /// Kubernetes' reason, like `FailedScheduling`.
        reason: String,
        /// In the cluster's words.
        message: String,
    },
    /// The agent answered.
    Connected {
        /// The pod's name.
        pod: String,
        /// Whether the container had been started anew since the last connection.
        restarted: bool,
    },
    /// The stream to the agent broke; it is opened again by itself.
    Disconnected {
        /// Why.
        reason: String,
    },
    /// How far the first sync is.
    SyncProgress {
        /// Index into the manifest's `sync` list.
        folder: usize,
        /// Files done.
        files: u64,
        /// Files in all, as far as known.
        files_total: u64,
        /// Bytes done.
        bytes: u64,
        /// Bytes in all, as far as known.
        bytes_total: u64,
    },
    /// Both folders hold the same.
    InSync {
        /// Index into the manifest's `sync` list.
        folder: usize,
    },
    /// A file was brought from one side to the other.
    Synced {
        /// Index into the manifest's `sync` list.
        folder: usize,
        /// The side that was written.
        to: SideName,
        /// Relative to the folder.
        path: String,
        /// Whether it was deleted there.
        deleted: bool,
    },
    /// Both sides changed a file; the local bytes keep the name, the others are kept apart.
    Conflict {
        /// Index into the manifest's `sync` list.
        folder: usize,
        /// Relative to the folder.
        path: String,
        /// Where the pod's bytes are on this machine.
        kept: String,
    },
    /// Sync of a folder stopped until someone decides.
    SyncHalted {
        /// Index into the manifest's `sync` list.
        folder: usize,
        /// Why, and what to do.
        message: String,
    },
    /// A path, or a part of the folder, is not synced.
    SyncProblem {
        /// Index into the manifest's `sync` list.
        folder: usize,
        /// Relative to the folder.
        path: String,
        /// Why.
        message: String,
    },
    /// A port leads into the pod, or from it.
    Forwarding {
        /// On this machine.
        local: String,
        /// In the cluster.
        remote: String,
        /// Whether connections come from the pod.
        reverse: bool,
    },
    /// One connection of a forward failed.
    ForwardFailed {
        /// On this machine.
        local: String,
        /// Why.
        message: String,
    },
    /// The variables of the container for a command that runs on this machine.
    Environment {
        /// How many the command gets, the manifest's own among them.
        variables: usize,
        /// The names of those that stay in the container; of a family as `LD_*`.
        left_out: Vec<String>,
    },
    /// The user's command was started.
    CommandStarted {
        /// The command line.
        command: Vec<String>,
    },
    /// The user's command ended.
    CommandExited {
        /// The exit code, or 128 plus the signal.
        code: i32,
    },
    /// The original was scaled up by someone and has been scaled down again.
    Reparked {
        /// How often in the last ten minutes.
        times: usize,
        /// Who wrote the replicas, from managedFields.
        by: Option<String>,
    },
    /// Somebody else changed the original while its session lives.
    OriginalChanged {
        /// Who, from managedFields.
        by: Option<String>,
        /// `rebased`: the dev container is made anew of it. `kept`: it comes into force with `down`. `left`: dev mode
        /// ends. `noted`: the dev container is a clone, and goes on as it is.
        then: &'static str,
    },
    /// Something the user should know, and nothing stops for it.
    Warning {
        /// In words.
        message: String,
    },
    /// The session is over, dev mode in the cluster may go on.
    Ended {
        /// Why.
        ending: Ending,
    },
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Ending {
    /// The user left; dev mode is still on.
    Left,
    /// The user's command ended; dev mode is still on.
    CommandExited {
        /// The exit code, or 128 plus the signal.
        code: i32,
    },
    /// Someone ended dev mode or took it over.
    Lost {
        /// Who, as far as the Lease says.
        message: String,
    },
    /// Dev mode was ended, since somebody else changed the workload.
    Undone {
        /// Who and what, in words.
        message: String,
    },
    /// It can't go on.
    Failed {
        /// What went wrong and what to do.
        message: String,
        /// The exit code the command line gives.
        code: i32,
    },
}

/// One of the two sides of a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SideName {
    /// This machine.
    Local,
    /// The pod.
    Remote,
}

impl From<Side> for SideName {
    fn from(side: Side) -> Self {
        match side {
            Side::Local => Self::Local,
            Side::Remote => Self::Remote,
        }
    }
}

impl From<ExitStatus> for Ending {
    fn from(status: ExitStatus) -> Self {
        Self::CommandExited { code: status.code() }
    }
}
