//! The port: everything Towline asks of a cluster, in Kubernetes' own words.
//!
//! Objects are JSON values, never typed structs: a typed read and write would drop the fields it does not know.

use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use futures::Stream;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::ClusterError;

/// A kind of object, as the API server's paths name it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// The API group, empty for the core group.
    pub group: &'static str,
    /// The API version.
    pub version: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// The plural, as in paths and Roles.
    pub plural: &'static str,
    /// Whether objects lie in a namespace.
    pub namespaced: bool,
}

macro_rules! resources {
    ($($name:ident = $group:literal $version:literal $kind:literal $plural:literal $namespaced:literal;)*) => {
        $(
            #[doc = concat!("`", $plural, "`")]
            pub const $name: &Resource = &Resource {
                group: $group, version: $version, kind: $kind, plural: $plural, namespaced: $namespaced,
            };
        )*
    };
}

resources! {
    DEPLOYMENTS = "apps" "v1" "Deployment" "deployments" true;
    REPLICA_SETS = "apps" "v1" "ReplicaSet" "replicasets" true;
    STATEFUL_SETS = "apps" "v1" "StatefulSet" "statefulsets" true;
    DAEMON_SETS = "apps" "v1" "DaemonSet" "daemonsets" true;
    CONTROLLER_REVISIONS = "apps" "v1" "ControllerRevision" "controllerrevisions" true;
    JOBS = "batch" "v1" "Job" "jobs" true;
    CRON_JOBS = "batch" "v1" "CronJob" "cronjobs" true;
    PODS = "" "v1" "Pod" "pods" true;
    CONFIG_MAPS = "" "v1" "ConfigMap" "configmaps" true;
    SECRETS = "" "v1" "Secret" "secrets" true;
    SERVICES = "" "v1" "Service" "services" true;
    EVENTS = "" "v1" "Event" "events" true;
    PERSISTENT_VOLUME_CLAIMS = "" "v1" "PersistentVolumeClaim" "persistentvolumeclaims" true;
    INGRESSES = "networking.k8s.io" "v1" "Ingress" "ingresses" true;
    NAMESPACES = "" "v1" "Namespace" "namespaces" false;
    NODES = "" "v1" "Node" "nodes" false;
    LEASES = "coordination.k8s.io" "v1" "Lease" "leases" true;
    HORIZONTAL_POD_AUTOSCALERS = "autoscaling" "v2" "HorizontalPodAutoscaler" "horizontalpodautoscalers" true;
    HORIZONTAL_POD_AUTOSCALERS_V1 = "autoscaling" "v1" "HorizontalPodAutoscaler" "horizontalpodautoscalers" true;
    POD_DISRUPTION_BUDGETS = "policy" "v1" "PodDisruptionBudget" "poddisruptionbudgets" true;
    APPLICATIONS = "argoproj.io" "v1alpha1" "Application" "applications" true;
    APPLICATION_SETS = "argoproj.io" "v1alpha1" "ApplicationSet" "applicationsets" true;
    ROLLOUTS = "argoproj.io" "v1alpha1" "Rollout" "rollouts" true;
    KUSTOMIZATIONS = "kustomize.toolkit.fluxcd.io" "v1" "Kustomization" "kustomizations" true;
    KUSTOMIZATIONS_V1BETA2 = "kustomize.toolkit.fluxcd.io" "v1beta2" "Kustomization" "kustomizations" true;
    HELM_RELEASES = "helm.toolkit.fluxcd.io" "v2" "HelmRelease" "helmreleases" true;
    HELM_RELEASES_V2BETA2 = "helm.toolkit.fluxcd.io" "v2beta2" "HelmRelease" "helmreleases" true;
    SCALED_OBJECTS = "keda.sh" "v1alpha1" "ScaledObject" "scaledobjects" true;
    VERTICAL_POD_AUTOSCALERS = "autoscaling.k8s.io" "v1" "VerticalPodAutoscaler" "verticalpodautoscalers" true;
}

impl Resource {
    /// Returns the kind of these names, one that was found out by [`Cluster::kind`] or read from a record.
    ///
    /// Kinds are few and live as long as the process, so each is kept once.
    pub fn interned(group: &str, version: &str, kind: &str, plural: &str, namespaced: bool) -> &'static Self {
        static KNOWN: Mutex<Vec<&'static Resource>> = Mutex::new(Vec::new());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |other: &&&'static Self| {
            (other.group, other.version, other.kind, other.plural, other.namespaced)
                == (group, version, kind, plural, namespaced)
        };
        if let Some(found) = known.iter().find(same) {
            return found;
        }
        let text = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        let (group, version, kind, plural) = (text(group), text(version), text(kind), text(plural));
        let resource: &'static Self = Box::leak(Box::new(Self { group, version, kind, plural, namespaced }));
        known.push(resource);
        resource
    }

    /// Returns `group/version`, or the version alone in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// Names one object. An empty name stands for the whole kind in errors.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Object {
    /// Its kind.
    pub resource: &'static Resource,
    /// Its namespace, empty for kinds without.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Object {
    /// Names an object of a namespace.
    pub fn new(resource: &'static Resource, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { resource, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name.as_str(), self.namespace.as_str()) {
            ("", "") => write!(f, "{}", self.resource.plural),
            ("", namespace) => write!(f, "{} in namespace {namespace}", self.resource.plural),
            (name, "") => write!(f, "{} {name}", self.resource.kind),
            (name, namespace) => write!(f, "{} {name} in namespace {namespace}", self.resource.kind),
        }
    }
}

/// Where the port leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The kubeconfig's context, or `embedded`.
    pub context: String,
    /// The API server's address, or the embedded cluster's folder.
    pub server: String,
    /// The namespace when none is named.
    pub namespace: String,
    /// Whether this is the embedded cluster.
    pub embedded: bool,
}

/// How a write is made.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// Asks the server to do everything but store it.
    pub dry_run: bool,
}

/// A change to an object.
#[derive(Debug, Clone)]
pub enum Patch {
    /// RFC 7386. A `metadata.resourceVersion` in it is a precondition.
    Merge(Value),
    /// RFC 6902, an array of operations.
    Json(Value),
}

/// On what condition an object is deleted.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// Only the object with this uid.
    pub uid: Option<String>,
    /// Only this version of it.
    pub resource_version: Option<String>,
    /// The pods' grace period in seconds; the object's own when `None`.
    pub grace_period_seconds: Option<u32>,
}

/// Which objects of a kind.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// `metadata.name=`.
    pub name: Option<String>,
    /// Labels that must all be there with these values.
    pub labels: Vec<(String, String)>,
}

/// What a watch tells. It begins with what is there, then goes on with what changes; it resumes by itself after a
/// 410 or a broken connection with a new `Restarted`.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    /// All that is there now; anything known before and not in it is gone.
    Restarted(Vec<Value>),
    /// Created or changed.
    Applied(Value),
    /// Gone; its last state.
    Deleted(Value),
    /// The watch is down and tries again; said once for each outage.
    Interrupted(ClusterError),
}

/// A watch's events. It never ends by itself.
pub type Watch = Pin<Box<dyn Stream<Item = WatchEvent> + Send>>;

/// A right that is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// As in a Role.
    pub verb: &'static str,
    /// The API group.
    pub group: &'static str,
    /// The plural.
    pub resource: &'static str,
    /// `log`, `exec`, `scale`, or empty.
    pub subresource: &'static str,
}

/// A process in a pod and its two streams. Dropping it closes the stream.
pub struct ExecStream {
    /// To its standard input.
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// From its standard output.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// From its standard error: where a start that failed explains itself.
    pub stderr: Box<dyn AsyncRead + Send + Unpin>,
}

impl fmt::Debug for ExecStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExecStream")
    }
}

/// Which log lines.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Goes on as long as the container runs.
    pub follow: bool,
    /// Only this many of the last lines.
    pub tail: Option<u32>,
    /// Of the container's previous run.
    pub previous: bool,
}

/// What Towline asks of a cluster.
///
/// Every method may be called from any task at any time. Reads are retried on 429, 5xx and broken connections with
/// growing pauses; writes only where the server said that nothing happened, else [`ClusterError::Ambiguous`].
#[async_trait]
pub trait Cluster: Send + Sync + fmt::Debug + 'static {
    /// Says where this leads.
    fn target(&self) -> &Target;

    /// Asks the server which kind has this name: its own, its plural, its singular or a short one, in any case.
    ///
    /// Without a `version` the one that the server prefers. `None` where the group has no such kind.
    async fn kind(
        &self,
        group: &str,
        version: Option<&str>,
        name: &str,
    ) -> Result<Option<&'static Resource>, ClusterError>;

    /// Reads one object.
    async fn get(&self, object: &Object) -> Result<Value, ClusterError>;

    /// Reads all objects of a kind; `namespace` `None` means all namespaces.
    async fn list(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        selection: &Selection,
    ) -> Result<Vec<Value>, ClusterError>;

    /// Watches a kind in a namespace.
    async fn watch(
        &self,
        resource: &'static Resource,
        namespace: &str,
        selection: &Selection,
    ) -> Result<Watch, ClusterError>;

    /// Creates an object; `body` names it. Returns it as stored.
    async fn create(
        &self,
        resource: &'static Resource,
        namespace: &str,
        body: &Value,
        options: &WriteOptions,
    ) -> Result<Value, ClusterError>;

    /// Replaces an object; a `metadata.resourceVersion` in `body` is a precondition. Returns it as stored.
    async fn replace(
        &self,
        object: &Object,
        body: &Value,
        options: &WriteOptions,
    ) -> Result<Value, ClusterError>;

    /// Changes an object with the field manager `towline`. Returns it as stored.
    async fn patch(
        &self,
        object: &Object,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<Value, ClusterError>;

    /// Deletes an object, its dependents in the background.
    async fn delete(&self, object: &Object, options: &DeleteOptions) -> Result<(), ClusterError>;

    /// Tells for each right whether we have it in the namespace (`SelfSubjectAccessReview`), in the order asked.
    async fn can(&self, namespace: &str, rights: &[Right]) -> Result<Vec<bool>, ClusterError>;

    /// Starts a process in a container and ties its three streams to ours; no terminal.
    async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        argv: &[String],
    ) -> Result<ExecStream, ClusterError>;

    /// Reads a container's log.
    async fn logs(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        options: &LogOptions,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, ClusterError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_was_found_out_is_kept_once() {
        let shop = || Resource::interned("example.com", "v1", "Shop", "shops", true);
        assert!(std::ptr::eq(shop(), shop()));
        assert_eq!(Resource::interned("apps", "v1", "Deployment", "deployments", true), DEPLOYMENTS);
        assert_ne!(Resource::interned("example.com", "v2", "Shop", "shops", true), shop());
    }
}
