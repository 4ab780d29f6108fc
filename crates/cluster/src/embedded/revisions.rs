//! Keeps the history of pod templates, as the controllers of `StatefulSet`s, `DaemonSet`s and Rollouts do.

use serde_json::{Value, json};

use super::api;
use super::fields::Manager;
use super::meta::{self, map_mut};
use super::store::Store;
use crate::error::ClusterError;
use crate::port::{CONTROLLER_REVISIONS, DAEMON_SETS, Object, Patch, REPLICA_SETS, ROLLOUTS, STATEFUL_SETS};

const CONTROLLER: &str = "kube-controller-manager";
const ROLLOUT_CONTROLLER: &str = "rollouts-controller";
const ROLLOUT_HASH_LABEL: &str = "rollouts-pod-template-hash";

/// Gives each template that a workload has now its place in the history.
pub(super) fn sync(store: &mut Store) -> Result<(), ClusterError> {
    for resource in [STATEFUL_SETS, DAEMON_SETS] {
        for owner in store.list(resource, None)?.iter().filter(|owner| !meta::is_deleting(owner)) {
            revise(store, owner)?;
            let observed = owner["metadata"]["generation"].clone();
            if owner["status"]["observedGeneration"] != observed {
                let mut status = owner["status"].clone();
                status["observedGeneration"] = observed;
                api::set_status(store, resource, owner, status, CONTROLLER)?;
            }
        }
    }
    for rollout in store.list(ROLLOUTS, None)?.iter().filter(|rollout| !meta::is_deleting(rollout)) {
        if rollout.pointer("/spec/template/spec").is_some() {
            keep_set(store, rollout)?;
        }
    }
    Ok(())
}

fn revise(store: &mut Store, owner: &Value) -> Result<(), ClusterError> {
    let namespace = meta::namespace(owner);
    let mut template = owner["spec"]["template"].clone();
    template["$patch"] = json!("replace");
    let data = json!({"spec": {"template": template}});
    let mut known = store.list(CONTROLLER_REVISIONS, Some(namespace))?;
    known.retain(|revision| meta::controller(revision) == Some(meta::uid(owner)));
    let number = |revision: &Value| revision["revision"].as_u64().unwrap_or_default();
    let last = known.iter().map(number).max().unwrap_or_default();
    let manager = Manager::update(CONTROLLER);
    match known.iter().find(|revision| revision["data"] == data) {
        Some(found) if number(found) == last => Ok(()),
        Some(found) => {
            let object = Object::new(CONTROLLER_REVISIONS, namespace, meta::name(found));
            let change = Patch::Merge(json!({"revision": last + 1}));
            api::patch(store, &object, &change, &manager, false).map(drop)
        }
        None => {
            let revision = json!({
                "metadata": {
                    "name": format!("{}-{}", meta::name(owner), meta::random_hex(5)),
                    "labels": owner["spec"]["template"]["metadata"]["labels"],
                    "ownerReferences": meta::controlled_by(owner),
                },
                "data": data, "revision": last + 1,
            });
            api::create(store, CONTROLLER_REVISIONS, namespace, &revision, &manager, false).map(drop)
        }
    }
}

fn keep_set(store: &mut Store, rollout: &Value) -> Result<(), ClusterError> {
    let namespace = meta::namespace(rollout);
    let template = &rollout["spec"]["template"];
    let plain = |set: &Value| {
        let mut template = set["spec"]["template"].clone();
        map_mut(&mut template["metadata"], "labels").remove(ROLLOUT_HASH_LABEL);
        template
    };
    let sets = store.list(REPLICA_SETS, Some(namespace))?;
    // The template of a custom kind is kept as it was given; a ReplicaSet's has the defaults.
    let mut given = json!({"spec": {"template": template}});
    super::defaults::fill(REPLICA_SETS, &mut given);
    let kept = sets.iter().any(|set| {
        meta::controller(set) == Some(meta::uid(rollout)) && plain(set) == given["spec"]["template"]
    });
    if kept {
        return Ok(());
    }
    let hash = meta::random_hex(5);
    let mut set = json!({
        "metadata": {
            "name": format!("{}-{hash}", meta::name(rollout)),
            "labels": template["metadata"]["labels"],
            "ownerReferences": meta::controlled_by(rollout),
        },
        "spec": {"replicas": 0, "selector": rollout["spec"]["selector"], "template": template},
    });
    for place in ["/metadata", "/spec/template/metadata"] {
        if let Some(metadata) = set.pointer_mut(place) {
            map_mut(metadata, "labels").insert(ROLLOUT_HASH_LABEL.to_owned(), json!(hash));
        }
    }
    map_mut(&mut set["spec"]["selector"], "matchLabels").insert(ROLLOUT_HASH_LABEL.to_owned(), json!(hash));
    api::create(store, REPLICA_SETS, namespace, &set, &Manager::update(ROLLOUT_CONTROLLER), false).map(drop)
}
