//! The `dev` section, typed: one [`Dev`] for each service that can be developed on.

mod container;
mod environment;
mod forward;
mod reading;
mod sync;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use crate::problem::Place;

pub(crate) use self::environment::variables;
pub(crate) use self::forward::{forward, reject_repeated_ports};
pub(crate) use self::reading::{is_name, read, read_version_one, sanitized};

/// One entry of the `dev` section: what to run in place of a workload's container, and how.
///
/// Absent means "as the workload has it" wherever a field is an `Option` or an empty collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dev {
    /// The name that the user types: the key in the manifest, made a valid Kubernetes name.
    pub name: String,
    /// The workload's name: the field `name`, else [`Dev::name`]. With its kind it is as `statefulset/db`.
    pub workload: String,
    /// Whether the workload's own template is changed rather than a clone made; `None`: as its kind has it.
    pub in_place: Option<bool>,
    /// Where the pod template is in a kind of anyone's own, such as `spec.podTemplate`.
    pub template: Option<String>,
    /// Where the key stands.
    pub place: Place,
    /// Labels that select the workload instead of its name; empty when the name does.
    pub selector: BTreeMap<String, String>,
    /// The container to develop in; the first one when absent.
    pub container: Option<String>,
    /// The image to run.
    pub image: Option<String>,
    /// When the image is pulled.
    pub image_pull_policy: Option<PullPolicy>,
    /// The command to run, ready to execute; see [`Dev::command_line`]. Empty in [`Dev::services`], and in hybrid mode
    /// where the user's own shell is meant.
    pub command: Vec<String>,
    /// What follows the command.
    pub args: Vec<String>,
    /// The working directory in the container; in hybrid mode the local one is in [`Dev::mode`].
    pub workdir: Option<String>,
    /// The folders to keep equal, and how.
    pub sync: Sync,
    /// The variables to set, by name; those of `envFiles` are in it, `environment` wins.
    pub environment: Vec<EnvironmentVariable>,
    /// The env files that were read, in order.
    pub env_files: Vec<PathBuf>,
    /// Ports of this machine that lead into the cluster.
    pub forward: Vec<Forward>,
    /// Ports of the pod that lead to this machine.
    pub reverse: Vec<Reverse>,
    /// What the container asks for and may use.
    pub resources: Resources,
    /// Whom the container runs as and what it may do.
    pub security_context: SecurityContext,
    /// Which of the workload's probes stay.
    pub probes: Probes,
    /// Which of the workload's hooks stay, or what replaces them.
    pub lifecycle: Lifecycle,
    /// Labels that a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// A Kubernetes `Affinity`, as it is written.
    pub affinity: Option<serde_json::Value>,
    /// Taints that don't matter, beside the workload's.
    pub tolerations: Vec<Toleration>,
    /// The priority class.
    pub priority_class_name: Option<String>,
    /// The service account.
    pub service_account: Option<String>,
    /// Labels and annotations of the dev pod.
    pub metadata: Metadata,
    /// How long to wait.
    pub timeout: Timeout,
    /// The address of this machine that forwards listen on: always a loopback one.
    pub interface: IpAddr,
    /// The init containers that fill folders.
    pub init_container: Option<InitContainer>,
    /// Remote folders to keep between sessions.
    pub volumes: Vec<String>,
    /// Existing claims to mount.
    pub external_volumes: Vec<ExternalVolume>,
    /// The claim that keeps files between sessions.
    pub persistent_volume: Option<PersistentVolume>,
    /// Local files to mount.
    pub secrets: Vec<SecretFile>,
    /// Where the code runs.
    pub mode: Mode,
    /// The local port of an SSH server: read, not acted on.
    pub remote: Option<u16>,
    /// The SSH server's port in the pod: read, not acted on.
    pub ssh_server_port: Option<u16>,
    /// Whether to make a dev container when there is no workload.
    pub autocreate: bool,
    /// Pods to run, of which one is what is done; for entries of [`Dev::services`] only.
    pub replicas: Option<u32>,
    /// Other workloads that share the folders. Each has a name: its workload's, or one made of this one's.
    pub services: Vec<Self>,
}

impl Dev {
    /// Returns the command with its arguments, ready to execute in the container.
    pub fn command_line(&self) -> Vec<String> {
        self.command.iter().chain(&self.args).cloned().collect()
    }
}

/// Returns the manifest's names of the fields of `dev` that this version reads but does not act on, where they ask
/// for something else than what happens.
pub fn unsupported(dev: &Dev) -> Vec<&'static str> {
    [("remote", dev.remote.is_some()), ("sshServerPort", dev.ssh_server_port.is_some())]
        .into_iter()
        .filter_map(|(field, given)| given.then_some(field))
        .collect()
}

/// When the kubelet pulls an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// When the node doesn't have it.
    IfNotPresent,
    /// Not at all.
    Never,
}

impl PullPolicy {
    /// Returns the word that Kubernetes uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// The folders to keep equal, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    /// The folders, in order; empty only in [`Dev::services`] and in hybrid mode.
    pub folders: Vec<SyncFolder>,
    /// Whether the author asked for compression, or for none. The transport compresses where it pays: `false` changes
    /// nothing.
    pub compression: Option<bool>,
    /// Whether the author asked for a detailed log; `RUST_LOG` decides.
    pub verbose: bool,
    /// How often everything is looked at again.
    pub rescan_interval: Duration,
}

impl Default for Sync {
    fn default() -> Self {
        let rescan_interval = Duration::from_mins(5);
        Self { folders: Vec::new(), compression: None, verbose: false, rescan_interval }
    }
}

/// A local folder and the remote folder that it is kept equal to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncFolder {
    /// The local folder, resolved against the project's root.
    pub local: PathBuf,
    /// The folder in the container: absolute, not `/`, without `.`, `..` or a slash at its end.
    pub remote: String,
    /// Where it is written; the service's key when it is the default.
    pub place: Place,
}

/// A variable of the dev container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentVariable {
    /// The name.
    pub name: String,
    /// The value, expanded.
    pub value: String,
}

/// A port of this machine that leads into the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The port on this machine.
    pub local: u16,
    /// Where it leads.
    pub target: ForwardTarget,
    /// The port there.
    pub remote: u16,
    /// Where it is written.
    pub place: Place,
}

/// Where a forward leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardTarget {
    /// The dev container.
    Container,
    /// A Service, by name.
    Service(String),
    /// The one Service that has these labels.
    Labels(BTreeMap<String, String>),
}

/// A port of the pod that leads to this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reverse {
    /// The port in the pod.
    pub remote: u16,
    /// The port on this machine.
    pub local: u16,
    /// Where it is written.
    pub place: Place,
}

/// Kubernetes resources: any resource name, amounts in Kubernetes' own notation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// What is set aside.
    pub requests: BTreeMap<String, String>,
    /// What may be used.
    pub limits: BTreeMap<String, String>,
}

/// The parts of a Kubernetes security context that a manifest may set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecurityContext {
    /// `runAsUser` of the container.
    pub run_as_user: Option<i64>,
    /// `runAsGroup` of the container.
    pub run_as_group: Option<i64>,
    /// `fsGroup` of the pod.
    pub fs_group: Option<i64>,
    /// `runAsNonRoot` of the container.
    pub run_as_non_root: Option<bool>,
    /// `allowPrivilegeEscalation` of the container.
    pub allow_privilege_escalation: Option<bool>,
    /// `readOnlyRootFilesystem` of the container.
    pub read_only_root_filesystem: Option<bool>,
    /// `capabilities` of the container.
    pub capabilities: Capabilities,
}

/// Linux capabilities to add to and to drop from the runtime's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Those to add.
    pub add: Vec<String>,
    /// Those to drop.
    pub drop: Vec<String>,
}

/// Which of the workload's probes stay in dev mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Probes {
    /// The liveness probe.
    pub liveness: bool,
    /// The readiness probe.
    pub readiness: bool,
    /// The startup probe.
    pub startup: bool,
}

/// What happens to the workload's lifecycle hooks in dev mode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// The hook after the start.
    pub post_start: Hook,
    /// The hook before the end.
    pub pre_stop: Hook,
}

/// What happens to one lifecycle hook.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hook {
    /// Whether the hook stays.
    pub enabled: bool,
    /// What it runs instead of the workload's own.
    pub command: Option<Vec<String>>,
}

/// A Kubernetes toleration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toleration {
    /// The taint's key; every taint when absent.
    pub key: Option<String>,
    /// `Exists` or `Equal`.
    pub operator: Option<String>,
    /// The taint's value.
    pub value: Option<String>,
    /// The taint's effect; every effect when absent.
    pub effect: Option<String>,
    /// How long a `NoExecute` taint is borne, in seconds.
    pub toleration_seconds: Option<i64>,
}

/// Labels and annotations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout {
    /// For the agent to answer once the pod runs.
    pub default: Duration,
    /// For the pod to be there.
    pub resources: Duration,
}

impl Default for Timeout {
    fn default() -> Self {
        Self { default: Duration::from_mins(1), resources: Duration::from_mins(2) }
    }
}

/// Where the code runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Mode {
    /// In the cluster, on synced files.
    #[default]
    Sync,
    /// On this machine, with the container's variables and its traffic.
    Hybrid {
        /// The local folder that the command runs in.
        folder: PathBuf,
    },
}

/// The init containers that fill folders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InitContainer {
    /// An image that holds the agent, for namespaces where it can't come in a ConfigMap.
    pub image: Option<String>,
    /// What they ask for and may use.
    pub resources: Resources,
}

/// An existing claim to mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalVolume {
    /// The claim's name.
    pub name: String,
    /// The folder inside it; all of it when absent.
    pub sub_path: Option<String>,
    /// Where it is mounted.
    pub mount_path: String,
}

/// The claim that keeps a session's files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersistentVolume {
    /// Whether there is one.
    pub enabled: bool,
    /// Its access mode.
    pub access_mode: Option<String>,
    /// Its size, in Kubernetes' notation.
    pub size: Option<String>,
    /// Its storage class.
    pub storage_class: Option<String>,
    /// Its volume mode.
    pub volume_mode: Option<String>,
    /// Its labels and annotations.
    pub metadata: Metadata,
}

/// A local file to mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// The local file, resolved against the project's root.
    pub local: PathBuf,
    /// Where it is mounted.
    pub remote: String,
    /// Its permission bits.
    pub mode: u32,
}

/// The address that forwards listen on when the manifest says nothing.
pub(crate) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
