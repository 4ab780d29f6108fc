//! The part of a workload around its pod template: what a clone gets of it, and what keeps the other pods as they are
//! while one template is changed in place.

use serde_json::{Map, Value, json};

use super::edits::{Edits, child, list, malformed};
use crate::holder::Holder;
use crate::plan::PlanError;
use crate::workload::{items, replicas, text};

const POD: &str = "spec.template.spec";
const STRATEGY: &str = "spec.updateStrategy";
/// Labels by which a Job's controller knows its pods.
const JOB_LABELS: [&str; 4] =
    ["controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"];

/// Returns the spec of the Deployment that the clone is: the original's own, or one around its pod template.
pub(super) fn of_clone(
    original: &Value,
    holder: &Holder,
    edits: &mut Edits,
) -> Result<Map<String, Value>, PlanError> {
    let spec = original.get("spec").and_then(Value::as_object);
    let spec = spec.ok_or_else(|| malformed("", "spec", "an object"))?;
    let kind = text(original, "/kind").unwrap_or_default();
    if kind == "Deployment" {
        return Ok(spec.clone());
    }
    let template = if holder.template.is_empty() {
        pod_template(original)
    } else {
        original.pointer(&holder.template).cloned()
    };
    let template = template.filter(Value::is_object).ok_or_else(|| {
        malformed("", &holder.template.trim_start_matches('/').replace('/', "."), "a pod template")
    })?;
    let selector = match kind {
        // They select by what their controllers put on the pods they make.
        "Job" | "CronJob" | "Pod" => json!({}),
        _ => original.pointer("/spec/selector").cloned().filter(selects_exactly).unwrap_or_else(|| json!({})),
    };
    let mut spec = Map::from_iter([("selector".to_owned(), selector), ("template".to_owned(), template)]);
    let template = child(&mut spec, "spec", "template")?;
    if kind == "Job" {
        let labels =
            child(child(template, "spec.template", "metadata")?, "spec.template.metadata", "labels")?;
        for label in JOB_LABELS {
            edits.remove(
                labels,
                "spec.template.metadata.labels",
                label,
                "the Job's controller would count the pod",
            );
        }
    }
    let pod = child(template, "spec.template", "spec")?;
    if pod.get("restartPolicy").is_some_and(|policy| policy != "Always") {
        edits.set(pod, POD, "restartPolicy", json!("Always"), "a dev container is started again");
    }
    edits.remove(pod, POD, "activeDeadlineSeconds", "a dev container has no deadline");
    if kind == "StatefulSet" {
        take_the_place_of(original, pod, edits)?;
    }
    Ok(spec)
}

/// Keeps the pods beside the dev pod as they are, where the kind has a means for it, and the number of dev pods at one.
pub(super) fn hold_others(object: &mut Value, edits: &mut Edits) -> Result<(), PlanError> {
    let kind = text(object, "/kind").unwrap_or_default().to_owned();
    let count = replicas(object);
    let counted = object.pointer("/spec/replicas").is_some_and(Value::is_i64);
    let spec = object
        .get_mut("spec")
        .and_then(Value::as_object_mut)
        .ok_or_else(|| malformed("", "spec", "an object"))?;
    match kind.as_str() {
        "StatefulSet" => {
            if count == 0 {
                edits.set(spec, "spec", "replicas", json!(1), "one dev container");
            }
            let strategy = child(spec, "spec", "updateStrategy")?;
            edits.set(strategy, STRATEGY, "type", json!("RollingUpdate"), "the dev pod is made at once");
            let rolling = child(strategy, STRATEGY, "rollingUpdate")?;
            let last = (count - 1).max(0);
            if rolling.get("partition").and_then(Value::as_i64).unwrap_or(0) != last {
                let at = format!("{STRATEGY}.rollingUpdate");
                edits.set(
                    rolling,
                    &at,
                    "partition",
                    json!(last),
                    "only the last replica becomes the dev container",
                );
            }
            if rolling.is_empty() {
                strategy.remove("rollingUpdate");
            }
        }
        "DaemonSet" => {
            let strategy = child(spec, "spec", "updateStrategy")?;
            edits.set(
                strategy,
                STRATEGY,
                "type",
                json!("OnDelete"),
                "only one pod becomes the dev container",
            );
        }
        "Deployment" | "Rollout" => edits.set(spec, "spec", "replicas", json!(1), "one dev container"),
        _ if counted => edits.set(spec, "spec", "replicas", json!(1), "one dev container"),
        _ => {}
    }
    Ok(())
}

/// Gives the clone of a StatefulSet with one replica that replica's claims and its name in the DNS.
fn take_the_place_of(
    original: &Value,
    pod: &mut Map<String, Value>,
    edits: &mut Edits,
) -> Result<(), PlanError> {
    let name = text(original, "/metadata/name").unwrap_or_default();
    let ordinal = original.pointer("/spec/ordinals/start").and_then(Value::as_i64).unwrap_or(0);
    for claim in items(original, "/spec/volumeClaimTemplates") {
        let template = text(claim, "/metadata/name").unwrap_or_default();
        let volume = json!({
            "name": template,
            "persistentVolumeClaim": {"claimName": format!("{template}-{name}-{ordinal}")},
        });
        // As the controller does: the template's volume takes the place of one of the pod's.
        list(pod, POD, "volumes")?.retain(|other| text(other, "/name") != Some(template));
        edits.push(pod, POD, "volumes", &format!("name={template}"), volume, "the replica's own claim")?;
    }
    edits.set(pod, POD, "hostname", json!(format!("{name}-{ordinal}")), "the replica's name in the DNS");
    if let Some(service) = text(original, "/spec/serviceName").filter(|service| !service.is_empty()) {
        edits.set(pod, POD, "subdomain", json!(service), "the replica's name in the DNS");
    }
    Ok(())
}

/// Makes a template of a pod: without what was decided for that one pod alone.
fn pod_template(pod: &Value) -> Option<Value> {
    let mut spec = pod.get("spec")?.as_object()?.clone();
    for key in ["nodeName", "ephemeralContainers", "hostname", "priority"] {
        spec.remove(key);
    }
    let is_token = |name: &str| name.starts_with("kube-api-access-");
    for (list, key) in [("volumes", "name")] {
        if let Some(volumes) = spec.get_mut(list).and_then(Value::as_array_mut) {
            volumes.retain(|volume| !volume.get(key).and_then(Value::as_str).is_some_and(is_token));
        }
    }
    for containers in ["containers", "initContainers"] {
        for container in spec.get_mut(containers).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(mounts) = container.get_mut("volumeMounts").and_then(Value::as_array_mut) {
                mounts.retain(|mount| !text(mount, "/name").is_some_and(is_token));
            }
        }
    }
    let mut metadata = Map::new();
    for key in ["labels", "annotations"] {
        if let Some(map) = pod.pointer(&format!("/metadata/{key}")) {
            metadata.insert(key.to_owned(), map.clone());
        }
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    Some(json!({"metadata": metadata, "spec": spec}))
}

fn selects_exactly(selector: &Value) -> bool {
    selector.get("matchLabels").is_some_and(Value::is_object)
}
