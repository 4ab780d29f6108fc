//! Why a session could not begin or end.

use std::path::PathBuf;

use towline_cluster::ClusterError;
use towline_cluster::port::Right;
use towline_sync::SyncError;

use crate::obstacle::Obstacle;

/// Why `up`, `down` or `status` could not do what was asked. Until the record is written nothing in the cluster has
/// changed; after that a failure is undone before it is reported, or `down` undoes it.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The cluster said no, or nothing.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// No workload fits the manifest.
    #[error("no {kind} {wanted} in namespace {namespace}")]
    WorkloadMissing {
        /// The kind, or `workload`.
        kind: String,
        /// The name or the labels.
        wanted: String,
        /// Where it was looked for.
        namespace: String,
        /// Names that are there, nearest first.
        nearest: Vec<String>,
    },
    /// A name or the manifest's `selector` fits more than one workload.
    #[error("{what} fits {} workloads in namespace {namespace}: {}", names.len(), names.join(", "))]
    WorkloadAmbiguous {
        /// The name or the labels, in words.
        what: String,
        /// Where it was looked for.
        namespace: String,
        /// What fits, as `kind/name`.
        names: Vec<String>,
    },
    /// The workload or its namespace must not be put into dev mode.
    #[error("{what} can't be put into dev mode: {why}")]
    Refused {
        /// The workload or namespace.
        what: String,
        /// Why not.
        why: String,
        /// What to do.
        hint: String,
    },
    /// What stands in the way of a session, all of it. Nothing was written.
    #[error("the session can't begin: {}", obstacles.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Obstacles {
        /// Each with what mends it.
        obstacles: Vec<Obstacle>,
    },
    /// A controller's pause could not be set back. The record stays, so that it can be tried again.
    #[error("{object} is still paused ({switch}): {source}")]
    StillPaused {
        /// Kind, namespace and name.
        object: String,
        /// What pauses it.
        switch: String,
        /// Why.
        source: Box<ClusterError>,
    },
    /// Rights are missing for the way in or the way back.
    #[error("rights are missing in namespace {namespace}: {}", list(missing))]
    RightsMissing {
        /// Where.
        namespace: String,
        /// Which.
        missing: Vec<Right>,
        /// The Role that gives them all, as YAML to apply.
        role: String,
    },
    /// Someone holds the workload.
    #[error("{workload} is in dev mode by {holder} since {since}")]
    Held {
        /// Kind and name.
        workload: String,
        /// `user@machine`.
        holder: String,
        /// RFC 3339.
        since: String,
        /// Whether the holder still renews its Lease.
        alive: bool,
    },
    /// Nothing is in dev mode where `down` or `status` looked.
    #[error("{} in dev mode in namespace {namespace}", match what {
        Some(what) => format!("{what} is not"),
        None => "nothing is".to_owned(),
    })]
    NotHeld {
        /// The workload, if one was named.
        what: Option<String>,
        /// Where.
        namespace: String,
    },
    /// Admission took away or changed what we set.
    #[error("the cluster changed what was asked for {object}: {}", drifts.join("; "))]
    Drifted {
        /// Kind and name.
        object: String,
        /// Field, what was wanted, what was found.
        drifts: Vec<String>,
    },
    /// The plan can't be made from this workload.
    #[error("{0}")]
    Plan(#[from] towline_patcher::PlanError),
    /// The record in the cluster can't be read.
    #[error("the record in Lease {lease} can't be used: {source}")]
    Record {
        /// The Lease's name.
        lease: String,
        /// Why.
        source: towline_patcher::RecordError,
    },
    /// A port on this machine is taken.
    #[error("port {port} on this machine is in use")]
    PortInUse {
        /// The port.
        port: u16,
    },
    /// A port on this machine can't be listened on.
    #[error("can't listen on port {port}: {source}")]
    Listen {
        /// The port.
        port: u16,
        /// The system's words.
        source: std::io::Error,
    },
    /// An ignore file can't be read: sync of the folder never goes on without it.
    #[error("in {}: {source}", folder.display())]
    Ignore {
        /// The folder that the files named in the error count from.
        folder: PathBuf,
        /// Which file and line, and what is wrong with it.
        source: towline_ignore::LoadError,
    },
    /// Files of the session on this machine.
    #[error("{what} {}: {source}", path.display())]
    Local {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// Another process of this machine syncs the same folder.
    #[error("{} is already synced by process {pid}", path.display())]
    FolderBusy {
        /// The local folder.
        path: PathBuf,
        /// Who.
        pid: u32,
    },
    /// The session failed after it began, and what it had written was undone.
    #[error("{message}")]
    Failed {
        /// What went wrong.
        message: String,
    },
}

impl From<SyncError> for SessionError {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::State { what, path, source } => Self::Local { what, path, source },
            SyncError::Busy { path, pid } => Self::FolderBusy { path, pid },
            SyncError::Agent { message } => Self::Failed { message },
        }
    }
}

fn list(missing: &[Right]) -> String {
    missing.iter().map(crate::rights::words).collect::<Vec<_>>().join(", ")
}
