//! Argo Rollouts, OpenKruise, and tools that leave their mark on what they apply.

use serde_json::Value;
use towline_cluster::ClusterError;
use towline_cluster::port::ROLLOUTS;

use super::{Effect, Finding, Reference, Touch, names, read};
use crate::context::Context;
use crate::pod::text;

/// What was read of the namespace.
#[derive(Debug, Default)]
pub(super) struct Seen {
    rollouts: Vec<Value>,
}

/// Reads the Rollouts.
pub(super) async fn read(context: &Context) -> Result<Seen, ClusterError> {
    Ok(Seen { rollouts: read::list(context, &[ROLLOUTS]).await? })
}

/// Marks (labels or annotations, by their beginning) that tools leave on objects which they apply, and apply again.
const MARKS: &[(&str, &str, &str, &str)] = &[
    ("kapp.k14s.io/app", "kapp.app", "kapp", "writes it anew when its app is deployed"),
    ("objectset.rio.cattle.io/", "fleet.bundle", "Fleet", "writes it anew when its bundle changes"),
    (
        "applyset.kubernetes.io/part-of",
        "applyset.member",
        "kubectl apply --applyset",
        "writes it anew when it is run",
    ),
    ("skaffold.dev/run-id", "skaffold.run", "Skaffold", "writes it anew with each of its builds"),
    ("olm.owner", "olm.owner", "Operator Lifecycle Manager", "keeps it as the operator's package says"),
];
/// Annotations (by their beginning) of tools that restart the workload when its configuration changes.
const RESTARTS: &[&str] =
    &["reloader.stakater.com/", "configmap.reloader.stakater.com/", "secret.reloader.stakater.com/"];

/// What it means for the session.
pub(super) fn findings(original: &Value, seen: &Seen, touch: Touch) -> Vec<Finding> {
    let mut findings = Vec::new();
    let rollouts =
        seen.rollouts.iter().filter(|rollout| names(rollout.pointer("/spec/workloadRef"), original));
    findings.extend(rollouts.map(|rollout| {
        let name = text(rollout, "/metadata/name");
        Finding::new(
            "rollout.workloadRef",
            "Argo Rollouts",
            Effect::Excludes,
            "runs this workload's template itself, and keeps the workload at 0 replicas",
        )
        .about(Reference::of(ROLLOUTS, rollout))
        .mend(format!("put Rollout {name} into dev mode instead"))
    }));
    if marked(original, "rollouts.kruise.io/") {
        findings.push(Finding::new(
            "kruise.rollout",
            "OpenKruise Rollouts",
            Effect::ScalesBack,
            "watches it, and may change its replicas and strategy during a release",
        ));
    }
    for (mark, code, controller, does) in MARKS {
        if marked(original, mark) {
            findings.push(Finding::new(code, controller, Effect::ScalesBack, *does));
        }
    }
    if RESTARTS.iter().any(|mark| marked(original, mark)) {
        let (does, answer) = match touch {
            Touch::Replicas => (
                "restarts the original when its settings change, and not the dev container",
                "begin again to get new settings: towline down, towline up",
            ),
            Touch::Template => {
                ("restarts the dev container when its settings change", "the files are synced again")
            }
        };
        findings.push(Finding::new("reloader.restarts", "Reloader", Effect::Harmless, does).answer(answer));
    }
    findings
}

/// Tells whether a label or annotation begins so.
fn marked(original: &Value, mark: &str) -> bool {
    ["/metadata/labels", "/metadata/annotations"]
        .iter()
        .filter_map(|map| original.pointer(map)?.as_object())
        .any(|map| map.keys().any(|key| key.starts_with(mark)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_leave_on_a_workload_is_known() {
        let check = |metadata: Value, expected: &[&str]| {
            let original = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata});
            let seen = Seen {
                rollouts: vec![json!({"metadata": {"name": "release"}, "spec": {"workloadRef": {
                    "apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}})],
            };
            let found: Vec<_> =
                findings(&original, &seen, Touch::Replicas).iter().map(|finding| finding.code).collect();
            assert_eq!(found, expected, "{metadata}");
        };
        check(json!({"name": "api"}), &[]);
        check(json!({"name": "web"}), &["rollout.workloadRef"]);
        check(json!({"name": "api", "labels": {"kapp.k14s.io/app": "1"}}), &["kapp.app"]);
        check(json!({"name": "api", "labels": {"objectset.rio.cattle.io/hash": "1"}}), &["fleet.bundle"]);
        check(
            json!({"name": "api", "annotations": {"rollouts.kruise.io/in-progressing": "{}"}}),
            &["kruise.rollout"],
        );
        check(
            json!({"name": "api", "annotations": {"reloader.stakater.com/auto": "true"}}),
            &["reloader.restarts"],
        );
        check(json!({"name": "api", "labels": "no map", "annotations": []}), &[]);
    }
}
