//! The pod template's part of the clone: the complete list of what a dev container changes.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use towline_protocol::{AGENT_MOUNT, AGENT_PATH, RUN_MOUNT};

use super::edits::{Edits, HIDDEN, child, list, malformed};
use super::volumes::{self, Mounted};
use crate::names::{self, SESSION_LABEL};
use crate::plan::{DevPlan, Hook, PlanError};
use crate::workload::text;

const TEMPLATE: &str = "spec.template";
pub(super) const POD: &str = "spec.template.spec";
pub(super) const AGENT_VOLUME: &str = "towline-agent";
const RUN_VOLUME: &str = "towline-run";
/// Where an init container sees the volume that it fills; the image's own folder stays visible at its place.
pub(super) const SEED_MOUNT: &str = "/.towline/seed";
/// The part of a security context that only pods have.
const POD_SECURITY: [&str; 5] =
    ["fsGroup", "fsGroupChangePolicy", "supplementalGroups", "supplementalGroupsPolicy", "sysctls"];

/// Turns `spec.template` into the dev pod's.
pub(super) fn edit(
    spec: &mut Map<String, Value>,
    plan: &DevPlan,
    selector_labels: &[&str],
    edits: &mut Edits,
) -> Result<(), PlanError> {
    let template = spec
        .get_mut("template")
        .and_then(Value::as_object_mut)
        .ok_or_else(|| malformed("spec", "template", "an object"))?;
    let metadata = child(template, TEMPLATE, "metadata")?;
    edit_metadata(metadata, plan, selector_labels, edits)?;
    volumes::mark_secrets(metadata, plan, edits)?;
    let pod = template
        .get_mut("spec")
        .and_then(Value::as_object_mut)
        .ok_or_else(|| malformed(TEMPLATE, "spec", "an object"))?;
    let index = container_index(pod, plan)?;
    let Value::Object(mut container) = pod["containers"][index].take() else {
        return Err(malformed(POD, "containers", "a list of objects"));
    };
    let name = container.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let at = format!("{POD}.containers[name={name}]");
    edit_process(&mut container, &at, plan, edits)?;
    edit_environment(&mut container, &at, plan, edits)?;
    edit_security(&mut container, &at, pod, plan, edits)?;
    let mounted = volumes::all(plan)?;
    edit_mounts(&mut container, &at, &name, &mounted, edits)?;
    edit_volumes(pod, plan, &mounted, edits)?;
    volumes::edit_group(pod, &container, plan, edits)?;
    volumes::add_agent(pod, &container, plan, edits)?;
    volumes::add_seeds(pod, &container, plan, &mounted, edits)?;
    pod["containers"][index] = Value::Object(container);
    edit_scheduling(pod, plan, edits)
}

fn edit_metadata(
    metadata: &mut Map<String, Value>,
    plan: &DevPlan,
    selector_labels: &[&str],
    edits: &mut Edits,
) -> Result<(), PlanError> {
    let at = format!("{TEMPLATE}.metadata.labels");
    let labels = child(metadata, "spec.template.metadata", "labels")?;
    for (key, value) in &plan.labels {
        if key == SESSION_LABEL {
            return Err(PlanError::ReservedLabel { label: key.clone() });
        }
        if !names::is_label_value(value) {
            return Err(PlanError::LabelValue { label: key.clone(), value: value.clone() });
        }
        let unchanged = labels.get(key).and_then(Value::as_str) == Some(value);
        if !unchanged && selector_labels.contains(&key.as_str()) {
            return Err(PlanError::SelectorLabel { label: key.clone() });
        }
        edits.set(labels, &at, key, json!(value), "label from the manifest");
    }
    for (key, value) in names::labels(&plan.session, &plan.dev_name) {
        // Services, budgets and policies may select by any label that is there: only the session's own is set.
        if key == SESSION_LABEL || labels.get(&key).is_none_or(Value::is_null) {
            edits.set(labels, &at, &key, json!(value), "marks the dev pod");
        }
    }
    if !plan.annotations.is_empty() {
        let annotations = child(metadata, "spec.template.metadata", "annotations")?;
        let at = format!("{TEMPLATE}.metadata.annotations");
        for (key, value) in &plan.annotations {
            edits.set(annotations, &at, key, json!(value), "annotation from the manifest");
        }
    }
    if plan.stands_in {
        let annotations = child(metadata, "spec.template.metadata", "annotations")?;
        let at = format!("{TEMPLATE}.metadata.annotations");
        edits.set(annotations, &at, names::STANDS_IN_ANNOTATION, json!("true"), "its command runs elsewhere");
    }
    Ok(())
}

/// Finds the container by name, never by index.
fn container_index(pod: &Map<String, Value>, plan: &DevPlan) -> Result<usize, PlanError> {
    let containers = pod
        .get("containers")
        .and_then(Value::as_array)
        .filter(|containers| !containers.is_empty())
        .ok_or_else(|| malformed(POD, "containers", "a list of containers"))?;
    let Some(wanted) = &plan.container else { return Ok(0) };
    let names = || containers.iter().map(|container| text(container, "/name").unwrap_or_default());
    names().position(|name| name == wanted).ok_or_else(|| PlanError::NoContainer {
        name: wanted.clone(),
        available: names().map(str::to_owned).collect(),
    })
}

fn edit_process(
    container: &mut Map<String, Value>,
    at: &str,
    plan: &DevPlan,
    edits: &mut Edits,
) -> Result<(), PlanError> {
    if let Some(image) = &plan.image {
        edits.set(container, at, "image", json!(image), "image from the manifest");
    }
    if let Some(policy) = &plan.image_pull_policy {
        edits.set(container, at, "imagePullPolicy", json!(policy), "pull policy from the manifest");
    }
    if let Some(workdir) = &plan.workdir {
        edits.set(container, at, "workingDir", json!(workdir), "working folder from the manifest");
    }
    let command = json!([AGENT_PATH, "run", "--run-dir", RUN_MOUNT]);
    edits.set(container, at, "command", command, "the agent supervises the command");
    edits.remove(container, at, "args", "they belonged to the replaced command");
    for key in ["stdin", "stdinOnce", "tty"] {
        edits.remove(container, at, key, "terminals come through the agent");
    }
    let probes = [
        ("livenessProbe", plan.keep_probes.liveness),
        ("readinessProbe", plan.keep_probes.readiness),
        ("startupProbe", plan.keep_probes.startup),
    ];
    for (key, keep) in probes {
        if !keep {
            edits.remove(container, at, key, "a dev server may be down for a while");
        }
    }
    edit_lifecycle(container, at, plan, edits)?;
    if let Some(resources) = &plan.resources {
        edits.merge(container, at, "resources", resources, "resources from the manifest")?;
    }
    Ok(())
}

fn edit_lifecycle(
    container: &mut Map<String, Value>,
    at: &str,
    plan: &DevPlan,
    edits: &mut Edits,
) -> Result<(), PlanError> {
    let dropped = "the hook belonged to the replaced command";
    let hooks = [("postStart", &plan.lifecycle.post_start), ("preStop", &plan.lifecycle.pre_stop)];
    let runs = hooks.iter().any(|(_, hook)| matches!(hook, Hook::Runs(_)));
    let kept = hooks.iter().any(|(_, hook)| **hook == Hook::Kept)
        && container.get("lifecycle").is_some_and(Value::is_object);
    if !runs && !kept {
        edits.remove(container, at, "lifecycle", dropped);
        return Ok(());
    }
    let lifecycle = child(container, at, "lifecycle")?;
    let at = format!("{at}.lifecycle");
    for (key, hook) in hooks {
        match hook {
            Hook::Dropped => edits.remove(lifecycle, &at, key, dropped),
            Hook::Kept => {}
            Hook::Runs(command) => {
                let runs = json!({"exec": {"command": command}});
                edits.set(lifecycle, &at, key, runs, "hook from the manifest");
            }
        }
    }
    Ok(())
}

fn edit_environment(
    container: &mut Map<String, Value>,
    at: &str,
    plan: &DevPlan,
    edits: &mut Edits,
) -> Result<(), PlanError> {
    let mut seen = BTreeSet::new();
    let mut ours: Vec<_> = plan.environment.iter().rev().filter(|(name, _)| seen.insert(name)).collect();
    ours.reverse();
    for (name, value) in ours {
        let variables = list(container, at, "env")?;
        let is_it = |variable: &Value| text(variable, "/name") == Some(name.as_str());
        let after = json!({"name": name, "value": value});
        let before = if let Some(place) = variables.iter().position(is_it) {
            let before = std::mem::replace(&mut variables[place], after.clone());
            // Of two with one name the last counts for the kubelet: only ours stays.
            let mut index = 0;
            variables.retain(|variable| {
                index += 1;
                index - 1 <= place || !is_it(variable)
            });
            Some(before)
        } else {
            variables.push(after.clone());
            None
        };
        if before.as_ref() != Some(&after) {
            // A reference says where a value is and may be shown; a value may not.
            let shown = |variable: Value| variable.get("valueFrom").cloned().unwrap_or_else(|| json!(HIDDEN));
            let path = format!("{at}.env[name={name}]");
            let after = json!({"value": HIDDEN});
            edits.note(path, before.map(shown), Some(after), "variable from the manifest");
        }
    }
    Ok(())
}

fn edit_security(
    container: &mut Map<String, Value>,
    at: &str,
    pod: &mut Map<String, Value>,
    plan: &DevPlan,
    edits: &mut Edits,
) -> Result<(), PlanError> {
    let Some(wanted) = &plan.security_context else { return Ok(()) };
    let wanted =
        wanted.as_object().ok_or_else(|| malformed("", "securityContext of the manifest", "an object"))?;
    let (of_pod, of_container): (Map<_, _>, Map<_, _>) =
        wanted.clone().into_iter().partition(|(key, _)| POD_SECURITY.contains(&key.as_str()));
    let reason = "security context from the manifest";
    if !of_pod.is_empty() {
        edits.merge(pod, POD, "securityContext", &Value::Object(of_pod), reason)?;
    }
    if !of_container.is_empty() {
        edits.merge(container, at, "securityContext", &Value::Object(of_container), reason)?;
    }
    let rule = |map: &Map<String, Value>| map.get("securityContext")?.get("runAsNonRoot")?.as_bool();
    let root = wanted.get("runAsUser").and_then(Value::as_i64) == Some(0);
    match (root, rule(container), rule(pod)) {
        (true, Some(true), _) => Err(PlanError::RootForbidden { from: "the container" }),
        (true, None, Some(true)) => Err(PlanError::RootForbidden { from: "the pod" }),
        _ => Ok(()),
    }
}

fn edit_mounts(
    container: &mut Map<String, Value>,
    at: &str,
    name: &str,
    mounted: &[Mounted],
    edits: &mut Edits,
) -> Result<(), PlanError> {
    let mut taken: BTreeSet<String> = list(container, at, "volumeMounts")?
        .iter()
        .filter_map(|mount| text(mount, "/mountPath"))
        .map(|path| path.trim_end_matches('/').to_owned())
        .collect();
    let own = [
        (agent_mount(), "the agent's binary"),
        (json!({"name": RUN_VOLUME, "mountPath": RUN_MOUNT}), "the agent's socket"),
    ];
    let more = mounted.iter().map(|mounted| (mounted.mount.clone(), mounted.reason));
    for (mount, reason) in own.into_iter().chain(more) {
        let path = text(&mount, "/mountPath").unwrap_or_default().to_owned();
        if !taken.insert(path.trim_end_matches('/').to_owned()) {
            return Err(PlanError::MountTaken { container: name.to_owned(), path });
        }
        edits.push(container, at, "volumeMounts", &format!("mountPath={path}"), mount, reason)?;
    }
    Ok(())
}

fn edit_volumes(
    pod: &mut Map<String, Value>,
    plan: &DevPlan,
    mounted: &[Mounted],
    edits: &mut Edits,
) -> Result<(), PlanError> {
    // The kubelet gives the file the volume's mode, which must let any user of the container run it.
    let file = AGENT_PATH.rsplit('/').next().unwrap_or(AGENT_PATH);
    let binary = match plan.agent.image {
        Some(_) => json!({"name": AGENT_VOLUME, "emptyDir": {"sizeLimit": "16Mi"}}),
        None => json!({
            "name": AGENT_VOLUME,
            "configMap": {
                "name": plan.agent.config_map,
                "defaultMode": 0o555,
                "items": [{"key": plan.agent.key, "path": file}],
            },
        }),
    };
    let socket = json!({"name": RUN_VOLUME, "emptyDir": {"sizeLimit": "16Mi"}});
    let own = [(binary, "the agent's binary"), (socket, "the agent's socket")];
    let more = mounted.iter().filter_map(|mounted| Some((mounted.volume.clone()?, mounted.reason)));
    for (volume, reason) in own.into_iter().chain(more) {
        let name = text(&volume, "/name").unwrap_or_default().to_owned();
        free_name(pod, "volumes", &name)?;
        edits.push(pod, POD, "volumes", &format!("name={name}"), volume, reason)?;
    }
    Ok(())
}

/// Fails when the pod has a volume or container of this name.
pub(super) fn free_name(pod: &mut Map<String, Value>, key: &str, name: &str) -> Result<(), PlanError> {
    if list(pod, POD, key)?.iter().any(|other| text(other, "/name") == Some(name)) {
        return Err(PlanError::NameTaken { name: name.to_owned() });
    }
    Ok(())
}

fn edit_scheduling(pod: &mut Map<String, Value>, plan: &DevPlan, edits: &mut Edits) -> Result<(), PlanError> {
    if plan.lifecycle.pre_stop == Hook::Dropped {
        edits.set(pod, POD, "terminationGracePeriodSeconds", json!(0), "a dev pod goes at once");
    }
    if let Some(selector) = &plan.node_selector {
        edits.merge(pod, POD, "nodeSelector", selector, "node selector from the manifest")?;
    }
    if let Some(arch) = &plan.arch_selector {
        let nodes = child(pod, POD, "nodeSelector")?;
        let at = format!("{POD}.nodeSelector");
        edits.set(nodes, &at, "kubernetes.io/arch", json!(arch), "the agent is built for it");
    }
    for toleration in &plan.tolerations {
        if !list(pod, POD, "tolerations")?.contains(toleration) {
            let key = text(toleration, "/key").unwrap_or("*").to_owned();
            let reason = "toleration from the manifest";
            edits.push(pod, POD, "tolerations", &format!("key={key}"), toleration.clone(), reason)?;
        }
    }
    if let Some(affinity) = &plan.affinity {
        edits.set(pod, POD, "affinity", affinity.clone(), "affinity from the manifest");
    }
    if let Some(class) = &plan.priority_class_name {
        edits.set(pod, POD, "priorityClassName", json!(class), "priority from the manifest");
        edits.remove(pod, POD, "priority", "the class decides it");
    }
    if let Some(account) = &plan.service_account {
        let reason = "service account from the manifest";
        edits.set(pod, POD, "serviceAccountName", json!(account), reason);
        // The server fills the old name of the field too, and takes two different ones for a mistake.
        if pod.contains_key("serviceAccount") {
            edits.set(pod, POD, "serviceAccount", json!(account), reason);
        }
    }
    Ok(())
}

pub(super) fn agent_mount() -> Value {
    json!({"name": AGENT_VOLUME, "mountPath": AGENT_MOUNT, "readOnly": true})
}

/// Fails where nothing can be mounted.
pub(super) fn check_folder(folder: &str) -> Result<(), PlanError> {
    let parts = || folder.split('/').skip(1).filter(|part| !part.is_empty());
    let plain = parts().all(|part| part != "." && part != "..");
    let ours = parts().next() == Some(".towline");
    if folder.starts_with('/') && plain && !ours && parts().next().is_some() && !folder.contains(':') {
        Ok(())
    } else {
        Err(PlanError::Folder { path: folder.to_owned() })
    }
}
