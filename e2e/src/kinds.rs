//! The kinds of object that scenarios make or look at, beside those that Towline itself asks for.

use serde_json::Value;
use towline_cluster::port::{
    CONFIG_MAPS, CRON_JOBS, DAEMON_SETS, DEPLOYMENTS, INGRESSES, JOBS, LEASES, PERSISTENT_VOLUME_CLAIMS,
    PODS, REPLICA_SETS, ROLLOUTS, Resource, SECRETS, SERVICES, STATEFUL_SETS,
};

use crate::workload::SHOPS;

/// The kinds whose objects, but for what a controller writes of its own, a session must leave as they were.
pub const KEPT: &[&Resource] =
    &[DEPLOYMENTS, SERVICES, CONFIG_MAPS, SECRETS, INGRESSES, PERSISTENT_VOLUME_CLAIMS, LEASES];

/// The kinds that hold a pod template, but for Deployments.
const WORKLOADS: [&Resource; 8] =
    [REPLICA_SETS, STATEFUL_SETS, DAEMON_SETS, JOBS, CRON_JOBS, PODS, ROLLOUTS, SHOPS];

/// Returns the kind that an object says it is.
pub fn of(object: &Value) -> &'static Resource {
    let kind = object["kind"].as_str().unwrap_or_default();
    KEPT.iter()
        .chain(&WORKLOADS)
        .find(|resource| resource.kind == kind)
        .unwrap_or_else(|| panic!("no kind {kind} in this suite"))
}

/// Returns an object's name.
pub fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}
