//! What the manifest and the session decided: the whole input of a patch besides the live workload.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::storage::Storage;
use crate::workload::Refusal;

/// Everything that makes a dev container out of a workload. What it does not say is inherited.
#[derive(Clone, Default, PartialEq)]
pub struct DevPlan {
    /// The session's id: 10 characters of lower-case base32.
    pub session: String,
    /// The name of the dev service in the manifest; becomes a label.
    pub dev_name: String,
    /// Where the pod template is in a kind that is not one of Kubernetes' own, such as `spec.podTemplate`.
    pub template: Option<String>,
    /// The container by name; the first when `None`.
    pub container: Option<String>,
    /// The image.
    pub image: Option<String>,
    /// `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: Option<String>,
    /// Variables by name: they replace the container's or come after them; of two with one name the last counts.
    pub environment: Vec<(String, String)>,
    /// The container's working folder.
    pub workdir: Option<String>,
    /// `{requests, limits}`, merged into the container's; a null removes.
    pub resources: Option<Value>,
    /// A security context, merged into the container's; the fields that only a pod has (`fsGroup`,
    /// `supplementalGroups`, …) into the pod's.
    pub security_context: Option<Value>,
    /// Labels of nodes, merged into the pod's; a null removes.
    pub node_selector: Option<Value>,
    /// Added to the pod's.
    pub tolerations: Vec<Value>,
    /// Replaces the pod's.
    pub affinity: Option<Value>,
    /// Replaces the pod's.
    pub priority_class_name: Option<String>,
    /// Replaces the pod's.
    pub service_account: Option<String>,
    /// Labels of the dev pod. They may not change a label of the workload's selector.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the dev pod.
    pub annotations: BTreeMap<String, String>,
    /// The dev container only stands in for a command that runs elsewhere.
    pub stands_in: bool,
    /// Which probes stay.
    pub keep_probes: Probes,
    /// What becomes of the hooks.
    pub lifecycle: Lifecycle,
    /// An architecture that the pod's node must have, as in the label `kubernetes.io/arch`.
    pub arch_selector: Option<String>,
    /// Where the agent's binary is.
    pub agent: Agent,
    /// Absolute folders in the container that are not writable in the image: each becomes an emptyDir that an init
    /// container fills from the image.
    pub scratch: Vec<String>,
    /// What is mounted beside the workload's own volumes.
    pub storage: Storage,
    /// `{requests, limits}` of the init containers that fill folders; the dev container's own when `None`.
    pub init_resources: Option<Value>,
    /// The access modes of the namespace's volume claims by claim name; a claim that is not in it may be exclusive.
    pub claims: BTreeMap<String, Vec<String>>,
}

/// The values of variables stay out of logs, so they stay out of `Debug`.
impl fmt::Debug for DevPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.environment.iter().map(|(name, _)| name).collect();
        f.debug_struct("DevPlan")
            .field("session", &self.session)
            .field("dev_name", &self.dev_name)
            .field("container", &self.container)
            .field("image", &self.image)
            .field("environment", &names)
            .finish_non_exhaustive()
    }
}

/// Which probes of the dev container stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Probes {
    /// `livenessProbe`.
    pub liveness: bool,
    /// `readinessProbe`.
    pub readiness: bool,
    /// `startupProbe`.
    pub startup: bool,
}

/// What becomes of the dev container's lifecycle hooks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// `lifecycle.postStart`.
    pub post_start: Hook,
    /// `lifecycle.preStop`; with one the pod's own grace period stays too.
    pub pre_stop: Hook,
}

/// What becomes of one lifecycle hook.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Hook {
    /// It goes.
    #[default]
    Dropped,
    /// The workload's own stays, if it has one.
    Kept,
    /// This runs in its place.
    Runs(Vec<String>),
}

/// What holds the agent's binary: a ConfigMap, or an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agent {
    /// Its name.
    pub config_map: String,
    /// The key under `binaryData`.
    pub key: String,
    /// An image that holds the same binary at its place, for namespaces that take no such ConfigMap.
    pub image: Option<String>,
}

/// Why a plan does not fit a workload. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The workload has no such container.
    #[error("no container {name:?}: there is {}", available.join(", "))]
    NoContainer {
        /// As asked.
        name: String,
        /// The containers that are there.
        available: Vec<String>,
    },
    /// The clone's pods would not be the clone's.
    #[error("label {label} cannot be changed: the workload selects its pods by it")]
    SelectorLabel {
        /// The key.
        label: String,
    },
    /// The label is how a session finds its own.
    #[error("label {label} is set by towline itself")]
    ReservedLabel {
        /// The key.
        label: String,
    },
    /// The API server would not take it.
    #[error("{value:?} cannot be the value of label {label}")]
    LabelValue {
        /// The key.
        label: String,
        /// As given.
        value: String,
    },
    /// The session's id can't be part of names.
    #[error("{session:?} is no session id")]
    Session {
        /// As given.
        session: String,
    },
    /// The container has a volume there.
    #[error("container {container} already mounts a volume at {path}")]
    MountTaken {
        /// The container.
        container: String,
        /// The folder.
        path: String,
    },
    /// The pod has a volume of that name, which is one of ours.
    #[error("the pod already has a volume or container {name}")]
    NameTaken {
        /// The volume's or init container's name.
        name: String,
    },
    /// Nothing can be mounted there.
    #[error("{path:?} is no folder that a volume can be mounted at")]
    Folder {
        /// As given.
        path: String,
    },
    /// The kubelet would refuse to start the container.
    #[error(
        "securityContext.runAsUser 0 contradicts runAsNonRoot true of {from}: say runAsNonRoot false as well, or another user"
    )]
    RootForbidden {
        /// `the container` or `the pod`.
        from: &'static str,
    },
    /// The workload can't be entered.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The live object is not as the API server gives it, or a part of the plan has the wrong shape.
    #[error("{path} is missing or not {wanted}")]
    Malformed {
        /// The field.
        path: String,
        /// What it should be.
        wanted: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_values() {
        let plan =
            DevPlan { environment: vec![("TOKEN".to_owned(), "canary".to_owned())], ..DevPlan::default() };
        let text = format!("{plan:?}");
        assert!(text.contains("TOKEN") && !text.contains("canary"), "{text}");
    }
}
