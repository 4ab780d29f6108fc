//! Every kind and way, and what others do meanwhile: after `down` the workload is as its twin that was never in dev
//! mode.

use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use towline_cluster::port::{
    CONTROLLER_REVISIONS, CRON_JOBS, DAEMON_SETS, DEPLOYMENTS, DeleteOptions, Object, PODS, REPLICA_SETS,
    Resource, STATEFUL_SETS, Selection,
};

use crate::adapter::Adapter;
use crate::kinds;
use crate::kube::KubeAdapter;
use crate::project::Project;
use crate::snapshot::differences;
use crate::towline::Towline;
use crate::waiting::{self, eventually};

/// The workload in dev mode, and its twin. The names have one length and occur in nothing else.
const NAMES: [&str; 2] = ["alphaworkload", "bravoworkload"];

/// A kind and how it is entered.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    resource: &'static Resource,
    replicas: u32,
    arguments: &'static [&'static str],
}

/// A Deployment by a clone.
pub const SWAPPED: Case = Case { resource: DEPLOYMENTS, replicas: 2, arguments: &["--swap"] };
/// A Deployment's own template.
pub const IN_PLACE: Case = Case { resource: DEPLOYMENTS, replicas: 2, arguments: &["--in-place"] };
/// A `StatefulSet` by itself.
pub const STATEFUL: Case = Case { resource: STATEFUL_SETS, replicas: 2, arguments: &[] };
/// A `StatefulSet` of one replica by a clone.
pub const STATEFUL_SWAPPED: Case = Case { resource: STATEFUL_SETS, replicas: 1, arguments: &["--swap"] };
/// A `DaemonSet` by itself.
pub const DAEMON: Case = Case { resource: DAEMON_SETS, replicas: 1, arguments: &[] };
/// A `ReplicaSet` that nobody owns.
pub const REPLICAS: Case = Case { resource: REPLICA_SETS, replicas: 2, arguments: &[] };
/// A `CronJob` by itself.
pub const CRON: Case = Case { resource: CRON_JOBS, replicas: 1, arguments: &[] };

/// What somebody else does while dev mode is on.
#[derive(Debug, Clone, Copy)]
enum Meanwhile {
    Nothing,
    /// A new image, as `kubectl set image` writes it.
    Image,
    /// A label of the workload, by a server-side apply.
    Label,
    /// Another number of replicas.
    Scale,
}

/// Plays a case with everything that may happen meanwhile.
pub async fn play(adapter: &KubeAdapter, case: Case) {
    for meanwhile in [Meanwhile::Nothing, Meanwhile::Image, Meanwhile::Label, Meanwhile::Scale] {
        if matches!(meanwhile, Meanwhile::Scale) && matches!(case.resource.kind, "DaemonSet" | "CronJob") {
            continue;
        }
        once(adapter, case, meanwhile).await;
    }
}

async fn once(adapter: &KubeAdapter, case: Case, meanwhile: Meanwhile) {
    let what = format!("{case:?} {meanwhile:?}");
    for name in NAMES {
        write(adapter, case, name, "e2e", &workload(adapter, case, name), true).await;
    }
    for name in NAMES {
        waiting::object(adapter, case.resource, name, is_observed).await;
    }
    let project = Project::new();
    project.write("page.txt", "from the laptop\n");
    let kind = case.resource.kind.to_lowercase();
    let manifest = json!({"dev": {"work": {
        "name": format!("{kind}/{}", NAMES[0]), "command": ["sh", "-c", "sleep 10000"], "sync": [".:/app"],
        "environment": {"MODE": "dev"},
    }}});
    project.write("okteto.yml", manifest.to_string());
    let towline = Towline::new(adapter, &project);
    let up: Vec<&str> = ["up", "--detach"].iter().chain(case.arguments).copied().collect();
    towline.run(&up).await.expect(0);

    for name in NAMES {
        if let Some((manager, change, apply)) = meanwhile.change(adapter, case, name) {
            write(adapter, case, name, manager, &change, apply).await;
        }
    }
    towline.run(&["down"]).await.expect(0);
    eventually(&what, async || {
        let [ours, twin] = NAMES.map(|name| settled(adapter, case, name));
        let (ours, twin) = (ours.await, twin.await);
        differences(&what, &twin, &ours)
    })
    .await;
    for name in NAMES {
        let object = Object::new(case.resource, adapter.namespace(), name);
        let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
        adapter.cluster().delete(&object, &options).await.unwrap();
    }
    // What is left of one would be taken for its successor's.
    eventually("what its controller made is gone", async || {
        let mut left = Vec::new();
        for resource in [PODS, REPLICA_SETS, CONTROLLER_REVISIONS] {
            let found =
                adapter.cluster().list(resource, Some(adapter.namespace()), &Selection::default()).await;
            left.extend(
                found.unwrap().iter().map(|object| format!("{} {}", resource.kind, kinds::name(object))),
            );
        }
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

impl Meanwhile {
    /// Returns who writes what, and whether by server-side apply.
    fn change(self, adapter: &KubeAdapter, case: Case, name: &str) -> Option<(&'static str, Value, bool)> {
        let (version, kind) = (case.resource.api_version(), case.resource.kind);
        match self {
            Self::Nothing => None,
            Self::Image => {
                let mut object = workload(adapter, case, name);
                let place = format!("{}/spec/containers/0/image", template(case));
                // Another name of the same image: it is there without a registry.
                *object.pointer_mut(&place)? = json!("docker.io/library/debian:dev");
                Some(("e2e", object, true))
            }
            Self::Label => {
                let metadata = json!({"name": name, "labels": {"team": "shop"}});
                Some(("team", json!({"apiVersion": version, "kind": kind, "metadata": metadata}), true))
            }
            Self::Scale => Some(("scaler", json!({"spec": {"replicas": 3}}), false)),
        }
    }
}

/// Returns an object without what every write changes, its name made the first's.
async fn settled(adapter: &KubeAdapter, case: Case, name: &str) -> Value {
    let object = Object::new(case.resource, adapter.namespace(), name);
    let mut object = adapter.cluster().get(&object).await.unwrap();
    object.as_object_mut().unwrap().remove("status");
    let metadata = object["metadata"].as_object_mut().unwrap();
    for key in ["uid", "resourceVersion", "generation", "creationTimestamp"] {
        metadata.remove(key);
    }
    // The number of the revision counts on: it is the controller's.
    for (key, revision) in [
        ("annotations", "deployment.kubernetes.io/revision"),
        ("annotations", "deprecated.daemonset.template.generation"),
    ] {
        if let Some(map) = metadata.get_mut(key).and_then(Value::as_object_mut) {
            map.remove(revision);
        }
    }
    let entries = metadata["managedFields"].as_array_mut().unwrap();
    entries.retain(|entry| entry["manager"] != "kube-controller-manager");
    for entry in entries {
        entry.as_object_mut().unwrap().remove("time");
    }
    serde_json::from_str(&object.to_string().replace(NAMES[1], NAMES[0])).unwrap()
}

/// Writes as another field manager.
async fn write(adapter: &KubeAdapter, case: Case, name: &str, manager: &str, body: &Value, apply: bool) {
    let kind = case.resource;
    let of_kind = GroupVersionKind::gvk(kind.group, kind.version, kind.kind);
    let resource = ApiResource::from_gvk_with_plural(&of_kind, kind.plural);
    let api: Api<DynamicObject> = Api::namespaced_with(adapter.client(), adapter.namespace(), &resource);
    let mut options = PatchParams::apply(manager);
    let patch = if apply {
        options = options.force();
        Patch::Apply(body)
    } else {
        Patch::Merge(body)
    };
    api.patch(name, &options, &patch).await.unwrap_or_else(|error| panic!("{name}: {error}"));
}

fn is_observed(object: &Value) -> bool {
    object["kind"] == "CronJob"
        || object.pointer("/status/observedGeneration") == object.pointer("/metadata/generation")
}

fn template(case: Case) -> &'static str {
    if case.resource == CRON_JOBS { "/spec/jobTemplate/spec/template" } else { "/spec/template" }
}

fn workload(adapter: &KubeAdapter, case: Case, name: &str) -> Value {
    let labels = json!({"app": name});
    let container = json!({
        "name": "work", "image": adapter.images().image, "imagePullPolicy": "IfNotPresent",
        "command": ["sleep"], "args": ["100000"],
        "env": [{"name": "MODE", "value": "production"}, {"name": "KEPT", "value": "1"}],
        "livenessProbe": {"exec": {"command": ["true"]}},
    });
    let pod = json!({
        "metadata": {"labels": labels, "annotations": {"note": "kept"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    });
    let mut object = json!({
        "apiVersion": case.resource.api_version(), "kind": case.resource.kind, "metadata": {"name": name},
        "spec": {"replicas": case.replicas, "selector": {"matchLabels": labels}, "template": pod},
    });
    match case.resource.kind {
        "DaemonSet" => drop(object["spec"].as_object_mut().unwrap().remove("replicas")),
        "StatefulSet" => object["spec"]["serviceName"] = json!(name),
        "CronJob" => {
            let mut pod = pod;
            pod["spec"]["restartPolicy"] = json!("Never");
            object["spec"] = json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": pod}}});
        }
        _ => {}
    }
    object
}
