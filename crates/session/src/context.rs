//! What a session is given: a cluster, a place on this machine, a name for its holder, and the agent.

use std::path::PathBuf;
use std::sync::Arc;

use towline_cluster::Cluster;

/// Where and as whom sessions are held.
#[derive(Debug, Clone)]
pub struct Context {
    /// The cluster.
    pub cluster: Arc<dyn Cluster>,
    /// The namespace.
    pub namespace: String,
    /// Towline's folder on this machine: state, sync bases, logs, kept conflicts. Created with mode 0700.
    pub home: PathBuf,
    /// `user@machine`, written into the Lease for others to read.
    pub holder: String,
}

/// The agent that is put into the pod.
#[derive(Debug, Clone)]
pub enum AgentSource {
    /// A static binary for nodes of this architecture (`kubernetes.io/arch`: `amd64` or `arm64`).
    Binary {
        /// As Kubernetes names it.
        architecture: String,
        /// At most 1,000,000 bytes: it travels in a ConfigMap.
        bytes: Arc<[u8]>,
    },
    /// The embedded cluster runs the host's own build; nothing travels.
    Host {
        /// BLAKE3 of that build in hexadecimal: another build is another agent.
        hash: String,
    },
}

impl AgentSource {
    /// Returns the content-addressed name of the ConfigMap that carries the agent.
    pub fn config_map_name(&self) -> String {
        match self {
            Self::Binary { architecture, bytes } => {
                format!("towline-agent-{architecture}-{}", &blake3::hash(bytes).to_hex()[..12])
            }
            Self::Host { hash } => format!("towline-agent-host-{}", &hash[..hash.len().min(12)]),
        }
    }
}
