//! Does what the controllers of Deployments and `ReplicaSet`s do.

use serde_json::{Value, json};

use super::api;
use super::event::{self, Kind};
use super::fields::Manager;
use super::meta::{self, map_mut};
use super::status::{condition, is_ready};
use super::store::Store;
use crate::error::ClusterError;
use crate::port::{DEPLOYMENTS, DeleteOptions, Object, PODS, Patch, REPLICA_SETS};

const CONTROLLER: &str = "kube-controller-manager";
const HASH_LABEL: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";

/// Brings every Deployment's `ReplicaSet`s and status to where they should be.
pub(super) fn sync_deployments(store: &mut Store) -> Result<(), ClusterError> {
    for deployment in store.list(DEPLOYMENTS, None)? {
        if !meta::is_deleting(&deployment) {
            sync_deployment(store, &deployment)?;
        }
    }
    Ok(())
}

fn sync_deployment(store: &mut Store, deployment: &Value) -> Result<(), ClusterError> {
    let namespace = meta::namespace(deployment);
    let sets: Vec<Value> = controlled(store.list(REPLICA_SETS, Some(namespace))?, deployment);
    let (current, old): (Vec<Value>, Vec<Value>) =
        sets.into_iter().partition(|set| plain_template(set) == deployment["spec"]["template"]);
    let current = match current.into_iter().next() {
        Some(set) => set,
        None => match create_set(store, deployment, &old) {
            Ok(set) => set,
            Err(error) => return tell_refusal(store, deployment, &refused(error)?),
        },
    };
    let wanted = replicas(deployment);
    let pods = store.list(PODS, Some(namespace))?;
    let pods_of = |set: &Value| controlled(pods.clone(), set);
    let ready =
        |pods: &[Value]| pods.iter().filter(|pod| is_ready(pod) && !meta::is_deleting(pod)).count() as u64;
    let old_pods: Vec<Value> = old.iter().flat_map(pods_of).collect();
    if deployment["spec"]["strategy"]["type"] == "Recreate" {
        scale_all(store, &old, 0)?;
        if old_pods.is_empty() || wanted == 0 {
            scale(store, &current, wanted)?;
        }
    } else {
        scale(store, &current, wanted)?;
        if ready(&pods_of(&current)) >= wanted {
            scale_all(store, &old, 0)?;
        }
    }
    let current_pods = active(pods_of(&current));
    let all: Vec<Value> = current_pods.iter().cloned().chain(active(old_pods)).collect();
    set_status(store, deployment, &current, current_pods.len(), all.len(), ready(&all))
}

/// Returns the words of an answer that is about the object alone; all others are errors of the cluster.
fn refused(error: ClusterError) -> Result<String, ClusterError> {
    match error {
        ClusterError::Invalid { message, .. } | ClusterError::Forbidden { message, .. } => Ok(message),
        error => Err(error),
    }
}

fn tell_refusal(store: &mut Store, deployment: &Value, message: &str) -> Result<(), ClusterError> {
    let old = &deployment["status"];
    let status = json!({
        "observedGeneration": deployment["metadata"]["generation"],
        "conditions": [
            condition(old, "Available", false, "MinimumReplicasUnavailable", "Deployment does not have minimum availability."),
            condition(old, "Progressing", false, "ReplicaSetCreateError", message),
        ],
    });
    api::set_status(store, DEPLOYMENTS, deployment, status, CONTROLLER)?;
    Ok(())
}

fn create_set(store: &mut Store, deployment: &Value, old: &[Value]) -> Result<Value, ClusterError> {
    let namespace = meta::namespace(deployment);
    let hash = meta::random_hex(5);
    let revision = old.iter().map(revision).max().unwrap_or_default() + 1;
    let mut set = json!({
        "metadata": {
            "name": format!("{}-{hash}", meta::name(deployment)),
            "labels": deployment["spec"]["template"]["metadata"]["labels"],
            "annotations": {REVISION: revision.to_string()},
            "ownerReferences": meta::controlled_by(deployment),
        },
        "spec": {
            "replicas": 0,
            "selector": deployment["spec"]["selector"],
            "template": deployment["spec"]["template"],
        },
    });
    map_mut(&mut set["metadata"], "labels").insert(HASH_LABEL.to_owned(), json!(hash));
    map_mut(&mut set["spec"]["selector"], "matchLabels").insert(HASH_LABEL.to_owned(), json!(hash));
    let labels = map_mut(map_value(&mut set["spec"]["template"], "metadata"), "labels");
    labels.insert(HASH_LABEL.to_owned(), json!(hash));
    api::create(store, REPLICA_SETS, namespace, &set, &Manager::update(CONTROLLER), false)
}

fn set_status(
    store: &mut Store,
    deployment: &Value,
    current: &Value,
    updated: usize,
    total: usize,
    ready: u64,
) -> Result<(), ClusterError> {
    let wanted = replicas(deployment);
    let mut status = json!({"observedGeneration": deployment["metadata"]["generation"]});
    // Go leaves out zeros.
    for (key, count) in [
        ("replicas", total as u64),
        ("updatedReplicas", updated as u64),
        ("readyReplicas", ready),
        ("availableReplicas", ready),
        ("unavailableReplicas", wanted.saturating_sub(ready)),
    ] {
        if count > 0 {
            status[key] = json!(count);
        }
    }
    let available = ready >= minimum(deployment, wanted);
    let (reason, message) = if available {
        ("MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    let done = ready >= wanted && updated == total;
    let name = meta::name(current);
    let (progress, told) = if done {
        ("NewReplicaSetAvailable", format!("ReplicaSet \"{name}\" has successfully progressed."))
    } else {
        ("ReplicaSetUpdated", format!("ReplicaSet \"{name}\" is progressing."))
    };
    let old = &deployment["status"];
    status["conditions"] = json!([
        condition(old, "Available", available, reason, message),
        condition(old, "Progressing", true, progress, &told),
    ]);
    api::set_status(store, DEPLOYMENTS, deployment, status, CONTROLLER)?;
    Ok(())
}

/// Returns how many must be ready to be available: all but `maxUnavailable`.
fn minimum(deployment: &Value, wanted: u64) -> u64 {
    let may_miss = match deployment.pointer("/spec/strategy/rollingUpdate/maxUnavailable") {
        Some(Value::String(percent)) => {
            let percent: u64 = percent.trim_end_matches('%').parse().unwrap_or_default();
            wanted.saturating_mul(percent) / 100
        }
        Some(count) => count.as_u64().unwrap_or_default(),
        None => 0,
    };
    wanted.saturating_sub(may_miss)
}

/// Brings every `ReplicaSet`'s pods and status to where they should be.
pub(super) fn sync_replica_sets(store: &mut Store) -> Result<(), ClusterError> {
    for set in store.list(REPLICA_SETS, None)? {
        if meta::is_deleting(&set) {
            continue;
        }
        let namespace = meta::namespace(&set).to_owned();
        let mut pods = active(controlled(store.list(PODS, Some(&namespace))?, &set));
        let wanted = usize::try_from(replicas(&set)).unwrap_or(usize::MAX);
        let mut refusal = None;
        while pods.len() < wanted {
            match create_pod(store, &set) {
                Ok(pod) => pods.push(pod),
                Err(error) => {
                    refusal = Some(refused(error)?);
                    break;
                }
            }
        }
        // Those that are not ready go first, then the youngest.
        let rank = |pod: &Value| {
            (is_ready(pod), std::cmp::Reverse(meta::text(pod, "/metadata/creationTimestamp").to_owned()))
        };
        pods.sort_by_cached_key(rank);
        let surplus = pods.len().saturating_sub(wanted);
        for pod in pods.drain(..surplus) {
            let object = Object::new(PODS, &*namespace, meta::name(&pod));
            api::delete(store, &object, &DeleteOptions::default())?;
            let message = format!("Deleted pod: {}", meta::name(&pod));
            event::emit(store, &set, "replicaset-controller", Kind::Normal, "SuccessfulDelete", &message)?;
        }
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        let mut status = json!({"observedGeneration": set["metadata"]["generation"], "replicas": pods.len()});
        if ready > 0 {
            status["readyReplicas"] = json!(ready);
            status["availableReplicas"] = json!(ready);
        }
        if let Some(message) = refusal {
            let before = meta::items(&set, "/status/conditions").first().cloned();
            if before.is_none() {
                let told = format!("Error creating: {message}");
                event::emit(store, &set, "replicaset-controller", Kind::Warning, "FailedCreate", &told)?;
            }
            // Told once, in the first words: every try has another name, and each change is a reason to look again.
            let failure = || condition(&set["status"], "ReplicaFailure", true, "FailedCreate", &message);
            status["conditions"] = json!([before.unwrap_or_else(failure)]);
        }
        api::set_status(store, REPLICA_SETS, &set, status, CONTROLLER)?;
    }
    Ok(())
}

fn create_pod(store: &mut Store, set: &Value) -> Result<Value, ClusterError> {
    let template = &set["spec"]["template"];
    let mut pod = json!({
        "metadata": {
            "generateName": format!("{}-", meta::name(set)),
            "labels": template["metadata"]["labels"],
            "ownerReferences": meta::controlled_by(set),
        },
        "spec": template["spec"],
    });
    if let Some(annotations) = template["metadata"].get("annotations") {
        pod["metadata"]["annotations"] = annotations.clone();
    }
    let pod = api::create(store, PODS, meta::namespace(set), &pod, &Manager::update(CONTROLLER), false)?;
    let message = format!("Created pod: {}", meta::name(&pod));
    event::emit(store, set, "replicaset-controller", Kind::Normal, "SuccessfulCreate", &message)?;
    Ok(pod)
}

fn scale_all(store: &mut Store, sets: &[Value], count: u64) -> Result<(), ClusterError> {
    sets.iter().try_for_each(|set| scale(store, set, count))
}

fn scale(store: &mut Store, set: &Value, count: u64) -> Result<(), ClusterError> {
    if replicas(set) == count {
        return Ok(());
    }
    let object = Object::new(REPLICA_SETS, meta::namespace(set), meta::name(set));
    let change = Patch::Merge(json!({"spec": {"replicas": count}}));
    api::patch(store, &object, &change, &Manager::update(CONTROLLER), false)?;
    Ok(())
}

fn controlled(mut objects: Vec<Value>, owner: &Value) -> Vec<Value> {
    objects.retain(|object| meta::controller(object) == Some(meta::uid(owner)));
    objects
}

/// Leaves out those that are going or have ended.
fn active(mut pods: Vec<Value>) -> Vec<Value> {
    let ended = |pod: &Value| matches!(meta::text(pod, "/status/phase"), "Succeeded" | "Failed");
    pods.retain(|pod| !meta::is_deleting(pod) && !ended(pod));
    pods
}

fn replicas(workload: &Value) -> u64 {
    workload["spec"]["replicas"].as_u64().unwrap_or(1)
}

fn revision(set: &Value) -> u64 {
    set["metadata"]["annotations"][REVISION].as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Returns a `ReplicaSet`'s template as its Deployment has it.
fn plain_template(set: &Value) -> Value {
    let mut template = set["spec"]["template"].clone();
    map_mut(map_value(&mut template, "metadata"), "labels").remove(HASH_LABEL);
    template
}

fn map_value<'a>(parent: &'a mut Value, key: &str) -> &'a mut Value {
    map_mut(parent, key);
    &mut parent[key]
}
