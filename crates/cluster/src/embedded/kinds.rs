//! The kinds that the embedded cluster knows, and what differs between them.

use crate::port::{self, Resource};

const SERVICE_ACCOUNTS: &Resource = &Resource {
    group: "",
    version: "v1",
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    namespaced: true,
};

/// All kinds, those that own others first: a namespace is emptied in this order.
pub(super) const ALL: &[&Resource] = &[
    port::HORIZONTAL_POD_AUTOSCALERS,
    port::ROLLOUTS,
    port::DEPLOYMENTS,
    port::STATEFUL_SETS,
    port::DAEMON_SETS,
    port::CRON_JOBS,
    port::JOBS,
    port::CONTROLLER_REVISIONS,
    port::REPLICA_SETS,
    port::PODS,
    port::SERVICES,
    port::INGRESSES,
    port::CONFIG_MAPS,
    port::SECRETS,
    SERVICE_ACCOUNTS,
    port::PERSISTENT_VOLUME_CLAIMS,
    port::LEASES,
    port::EVENTS,
    port::NAMESPACES,
    port::NODES,
];

/// Finds the kind that an object says it is.
pub(super) fn of_manifest(api_version: &str, kind: &str) -> Option<&'static Resource> {
    ALL.iter().find(|resource| resource.kind == kind && resource.api_version() == api_version).copied()
}

/// Finds a kind by its own name, its plural or its singular, in any case.
pub(super) fn find(group: &str, version: Option<&str>, name: &str) -> Option<&'static Resource> {
    let named = |resource: &&&'static Resource| {
        resource.group == group
            && version.is_none_or(|version| resource.version == version)
            && (resource.kind.eq_ignore_ascii_case(name) || resource.plural.eq_ignore_ascii_case(name))
    };
    ALL.iter().find(named).copied()
}

/// Tells whether the kind's `status` is written apart, so that other writes leave it alone.
pub(super) fn has_status(resource: &Resource) -> bool {
    matches!(
        resource.kind,
        "Deployment"
            | "ReplicaSet"
            | "StatefulSet"
            | "DaemonSet"
            | "Job"
            | "CronJob"
            | "Rollout"
            | "Pod"
            | "Service"
            | "Ingress"
            | "PersistentVolumeClaim"
            | "Namespace"
            | "Node"
            | "HorizontalPodAutoscaler"
    )
}

/// Tells whether the kind counts the changes of its `spec` in `metadata.generation`.
pub(super) fn has_generation(resource: &Resource) -> bool {
    let workload = matches!(
        resource.kind,
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" | "CronJob" | "Rollout"
    );
    workload || resource.kind == "Ingress"
}
