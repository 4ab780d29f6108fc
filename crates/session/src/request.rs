//! What `up` is asked to do: the manifest's dev service, made concrete on this machine.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use towline_patcher::{DevPlan, Way};

use crate::context::AgentSource;
use crate::controllers::truce::Gitops;
use crate::storage::SecretFile;

/// Everything `up` needs besides the cluster. Made from a manifest by [`crate::translate`].
#[derive(Debug, Clone)]
pub struct UpRequest {
    /// Which workload.
    pub workload: Workload,
    /// Whether a dev container is made of the manifest alone where there is no workload of that name.
    pub autocreate: bool,
    /// The way in; the kind's own when `None`.
    pub way: Option<Way>,
    /// What is done when somebody else changes a template that is changed in place.
    pub on_change: OnChange,
    /// How its dev container differs; session and agent are filled in by `up`.
    pub plan: DevPlan,
    /// The folders that are synced, in the manifest's order.
    pub folders: Vec<Folder>,
    /// The command that runs in the dev container once the folders are in sync; empty: the workload's own.
    pub command: Vec<String>,
    /// The dev service that this one belongs to, where it is one of its `services`. Its command is started again whenever
    /// it ends, as Kubernetes would do it.
    pub main: Option<String>,
    /// Given: the command runs on this machine instead.
    pub hybrid: Option<Hybrid>,
    /// Variables for the command alone, like the user's `TERM`.
    pub process_environment: Vec<(String, String)>,
    /// Ports of this machine that lead into the cluster.
    pub forwards: Vec<Forward>,
    /// Ports of the pod that lead to this machine; in hybrid mode the container's own where there are none.
    pub reverses: Vec<Reverse>,
    /// The claim that keeps files between sessions, without its name; it is made where there is none.
    pub claim: Option<Value>,
    /// Files of this machine that the dev container gets.
    pub secrets: Vec<SecretFile>,
    /// How long the pod may take to run for the first time.
    pub patience: Duration,
    /// How long the agent may take to answer once the pod runs.
    pub answer: Duration,
    /// The agent.
    pub agent: AgentSource,
    /// Takes the workload from whoever holds it.
    pub takeover: bool,
    /// What to do about controllers that would undo the session.
    pub gitops: Gitops,
}

/// How the workload is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Workload {
    /// By its name, as `web`, or by kind and name, as `statefulset/db` or `shops.example.com/main`.
    Name(String),
    /// By labels that exactly one workload has, those left out that belong to another one.
    Labels(BTreeMap<String, String>),
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Labels(labels) => {
                let labels = labels.iter().map(|(key, value)| format!("{key}={value}"));
                f.write_str(&labels.collect::<Vec<_>>().join(","))
            }
        }
    }
}

/// What is done when somebody else changes a template that is changed in place. Nothing of theirs is ever lost, and the
/// dev container is never a mixture that nobody asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnChange {
    /// Their change is taken into the session: the dev container is made anew of the template as it is now.
    #[default]
    Rebase,
    /// The dev container goes on as it is; their change comes into force with `down`.
    Keep,
    /// Dev mode ends, as by `down`.
    Leave,
}

/// How the command runs on this machine, in place of one in the dev container.
#[derive(Clone, PartialEq, Eq)]
pub struct Hybrid {
    /// Where it runs.
    pub folder: PathBuf,
    /// The manifest's variables for it. They are not sent anywhere.
    pub environment: Vec<(String, String)>,
    /// Where programs are looked for, as in `PATH`.
    pub path: OsString,
    /// The calling program's own file, to be started beside the command: see [`crate::hybrid::helper`].
    pub helper: PathBuf,
}

/// The values of variables stay out of logs, so they stay out of `Debug`.
impl fmt::Debug for Hybrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.environment.iter().map(|(name, _)| name).collect();
        f.debug_struct("Hybrid")
            .field("folder", &self.folder)
            .field("environment", &names)
            .finish_non_exhaustive()
    }
}

/// One synced folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// On this machine; exists.
    pub local: PathBuf,
    /// In the container; absolute.
    pub remote: String,
    /// The flattened lines of the ignore files in force, the first that matches decides.
    pub ignore: Vec<String>,
    /// Where they come from, in their order; empty when there is no ignore file.
    pub ignore_files: Vec<PathBuf>,
    /// How often everything is looked at again although nothing is known to have changed.
    pub rescan: Duration,
}

/// A port of this machine that leads into the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The address of this machine that it listens on; whoever reaches it reaches into the cluster.
    pub interface: IpAddr,
    /// There.
    pub local: u16,
    /// A Service or host as seen from the pod; `None` is the dev container itself.
    pub host: Option<String>,
    /// Labels that one Service alone has; the plan puts its name into `host`.
    pub labels: BTreeMap<String, String>,
    /// There.
    pub port: u16,
}

impl Forward {
    /// Returns where it begins, such as `localhost:8080`.
    pub fn begins(&self) -> String {
        if self.interface == Ipv4Addr::LOCALHOST {
            return format!("localhost:{}", self.local);
        }
        SocketAddr::new(self.interface, self.local).to_string()
    }

    /// Returns where it leads, such as `container:80` or `db:5432`.
    pub fn leads(&self) -> String {
        format!("{}:{}", self.host.as_deref().unwrap_or("container"), self.port)
    }
}

/// A port of the pod's loopback that leads to this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reverse {
    /// In the pod.
    pub remote: u16,
    /// On this machine's loopback.
    pub local: u16,
}

impl Reverse {
    /// Returns where it begins, such as `container:8080`.
    pub fn begins(&self) -> String {
        format!("container:{}", self.remote)
    }

    /// Returns where it leads, such as `localhost:80`.
    pub fn leads(&self) -> String {
        format!("localhost:{}", self.local)
    }
}
