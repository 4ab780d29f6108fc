//! Workloads of every kind that dev mode is entered in, each with a twin that never is.

use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use towline_cluster::port::{
    CONFIG_MAPS, CONTROLLER_REVISIONS, CRON_JOBS, DAEMON_SETS, DEPLOYMENTS, DeleteOptions, JOBS, LEASES,
    Object, PERSISTENT_VOLUME_CLAIMS, PODS, REPLICA_SETS, ROLLOUTS, Resource, STATEFUL_SETS, Selection,
};

use crate::adapter::Adapter;
use crate::kinds;
use crate::kube::KubeAdapter;
use crate::project::Project;
use crate::snapshot::differences;
use crate::waiting::eventually;

/// A kind of somebody's own, whose template is where no other kind has it.
pub const SHOPS: &Resource =
    &Resource { group: "e2e.example.com", version: "v1", kind: "Shop", plural: "shops", namespaced: true };
/// Where a session leaves something.
const TOUCHED: [&Resource; 10] = [
    DEPLOYMENTS,
    REPLICA_SETS,
    STATEFUL_SETS,
    DAEMON_SETS,
    CONTROLLER_REVISIONS,
    JOBS,
    CRON_JOBS,
    PODS,
    CONFIG_MAPS,
    LEASES,
];

/// A kind and how it is entered.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The kind.
    pub resource: &'static Resource,
    replicas: u32,
    way: Option<&'static str>,
    /// Whether its template is that of a Deployment which it refers to.
    refers: bool,
    /// Whether its pods have claims of their own.
    claims: bool,
}

const fn case(resource: &'static Resource, replicas: u32, way: Option<&'static str>) -> Case {
    Case { resource, replicas, way, refers: false, claims: false }
}

/// A Deployment by a clone.
pub const SWAPPED: Case = case(DEPLOYMENTS, 2, Some("--swap"));
/// A Deployment's own template.
pub const IN_PLACE: Case = case(DEPLOYMENTS, 2, Some("--in-place"));
/// A `StatefulSet` by itself.
pub const STATEFUL: Case = Case { claims: true, ..case(STATEFUL_SETS, 2, None) };
/// A `StatefulSet` of one replica by a clone.
pub const STATEFUL_SWAPPED: Case = Case { claims: true, ..case(STATEFUL_SETS, 1, Some("--swap")) };
/// A `DaemonSet` by itself.
pub const DAEMON: Case = case(DAEMON_SETS, 1, None);
/// A `ReplicaSet` that nobody owns.
pub const REPLICAS: Case = case(REPLICA_SETS, 2, None);
/// A `CronJob` by itself.
pub const CRON: Case = case(CRON_JOBS, 1, None);
/// A Job, beside which the dev container runs.
pub const JOB: Case = case(JOBS, 1, None);
/// A Pod that nobody owns, beside which the dev container runs.
pub const POD: Case = case(PODS, 1, None);
/// An Argo Rollout with a template of its own.
pub const ROLLOUT: Case = case(ROLLOUTS, 2, None);
/// An Argo Rollout with another workload's template.
pub const ROLLOUT_THAT_REFERS: Case = Case { refers: true, ..case(ROLLOUTS, 2, None) };
/// A kind of somebody's own.
pub const CUSTOM: Case = case(SHOPS, 2, None);

impl Case {
    /// Returns where its template is.
    pub fn template(self) -> &'static str {
        match self.resource.kind {
            "CronJob" => "/spec/jobTemplate/spec/template",
            "Pod" => "",
            "Shop" => "/spec/podTemplate",
            _ => "/spec/template",
        }
    }

    /// Tells whether it is turned off once the dev container is ready.
    pub fn parks(self) -> bool {
        let is_swapped = self.way == Some("--swap")
            || (self.way.is_none() && !matches!(self.resource.kind, "StatefulSet" | "DaemonSet"));
        is_swapped && !matches!(self.resource.kind, "Job" | "Pod")
    }

    /// Tells whether it has a number of replicas that anybody may change.
    pub fn scales(self) -> bool {
        !matches!(self.resource.kind, "DaemonSet" | "CronJob" | "Job" | "Pod")
    }

    /// Tells whether anybody may change its image.
    pub fn is_mutable(self) -> bool {
        self.resource.kind != "Job"
    }

    /// Returns the arguments of `up` that choose the way.
    pub fn arguments(self) -> impl Iterator<Item = &'static str> {
        self.way.into_iter()
    }

    /// Writes a project whose dev service is this workload.
    pub fn project(self, name: &str) -> Project {
        let project = Project::new();
        project.write("page.txt", "from the laptop\n");
        let kind = match self.resource.group {
            "e2e.example.com" => format!("{}.{}", self.resource.plural, self.resource.group),
            _ => self.resource.kind.to_lowercase(),
        };
        let mut dev = json!({
            "name": format!("{kind}/{name}"), "command": ["sh", "-c", "sleep 10000"], "sync": [".:/app"],
            "environment": {"MODE": "dev"},
        });
        if self.resource == SHOPS {
            dev["template"] = json!("spec.podTemplate");
        }
        project.write("okteto.yml", json!({"dev": {"work": dev}}).to_string());
        project
    }

    /// Returns the objects as a team would have written them, that which holds the template first; `image` is that of
    /// the container.
    pub fn objects(self, name: &str, image: &str) -> Vec<Value> {
        let labels = json!({"app": name});
        let mut container = json!({
            "name": "work", "image": image, "imagePullPolicy": "IfNotPresent",
            "command": ["sleep"], "args": ["100000"],
            "env": [{"name": "MODE", "value": "production"}, {"name": "KEPT", "value": "1"}],
            "livenessProbe": {"exec": {"command": ["true"]}},
        });
        if self.claims {
            container["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
        }
        let mut pod = json!({
            "metadata": {"labels": labels, "annotations": {"note": "kept"}},
            // A mounted token would have a name of its own in each Pod.
            "spec": {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
                     "containers": [container]},
        });
        if matches!(self.resource.kind, "CronJob" | "Job") {
            pod["spec"]["restartPolicy"] = json!("Never");
        }
        let head = |resource: &Resource| json!({"apiVersion": resource.api_version(), "kind": resource.kind, "metadata": {"name": name}});
        let mut object = head(self.resource);
        object["spec"] =
            json!({"replicas": self.replicas, "selector": {"matchLabels": labels}, "template": pod});
        let spec = &mut object["spec"];
        match self.resource.kind {
            "DaemonSet" => drop(spec.as_object_mut().expect("it is one").remove("replicas")),
            "StatefulSet" => {
                spec["serviceName"] = json!(name);
                spec["podManagementPolicy"] = json!("Parallel");
                let claim =
                    json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}});
                spec["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": claim}]);
            }
            "CronJob" => *spec = json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": pod}}}),
            "Job" => *spec = json!({"template": pod}),
            "Pod" => {
                object["metadata"]["labels"] = labels;
                object["spec"] = pod["spec"].take();
            }
            "Shop" => *spec = json!({"replicas": self.replicas, "podTemplate": pod}),
            "Rollout" if self.refers => {
                let referred = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": name});
                let template = json!({"replicas": 0, "selector": {"matchLabels": labels}, "template": pod});
                *spec = json!({"replicas": self.replicas, "workloadRef": referred});
                let mut holder = head(DEPLOYMENTS);
                holder["spec"] = template;
                return vec![holder, object];
            }
            _ => {}
        }
        vec![object]
    }

    /// Writes the objects by server-side apply, as their owner.
    pub async fn apply(self, adapter: &KubeAdapter, name: &str, image: &str) {
        for object in self.objects(name, image) {
            apply(adapter, "e2e", &object).await;
        }
    }

    /// Waits until the kind's own controller has seen the workload; nobody here plays that of other kinds.
    pub async fn until_observed(self, adapter: &KubeAdapter, name: &str) {
        if !matches!(self.resource.kind, "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") {
            return;
        }
        let object = Object::new(self.resource, adapter.namespace(), name);
        eventually("its controller has seen it", async || {
            let found = adapter.cluster().get(&object).await.map_err(|error| error.to_string())?;
            let seen = found.pointer("/status/observedGeneration");
            let claims = if self.claims { claims(adapter, name).await.len() } else { 0 };
            let complete = !self.claims || claims == self.replicas as usize;
            if complete && seen == found.pointer("/metadata/generation") {
                Ok(())
            } else {
                Err(found.to_string())
            }
        })
        .await;
    }

    /// Reads what lasts of the objects, with `stand_in` for their name. What each write changes is left out, and what
    /// is told of an object by the number that makes it another one.
    pub async fn settled(self, adapter: &KubeAdapter, name: &str, stand_in: &str) -> Result<Value, String> {
        let mut all = Vec::new();
        for object in self.objects(name, "") {
            let object = Object::new(kinds::of(&object), adapter.namespace(), name);
            let found = adapter.cluster().get(&object).await.map_err(|error| error.to_string())?;
            all.push(lasting(found, name, stand_in));
        }
        let claims = claims(adapter, name).await;
        let names: Vec<_> = claims.iter().map(|(claim, _)| claim.replace(name, stand_in)).collect();
        all.push(json!(names));
        Ok(Value::Array(all))
    }

    /// Deletes the objects, without waiting for what goes with them.
    pub async fn delete(self, adapter: &KubeAdapter, name: &str) {
        for object in self.objects(name, "") {
            let object = Object::new(kinds::of(&object), adapter.namespace(), name);
            let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
            adapter.cluster().delete(&object, &options).await.unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

fn lasting(mut object: Value, name: &str, stand_in: &str) -> Value {
    let uid = object["metadata"]["uid"].as_str().expect("it has one").to_owned();
    object.as_object_mut().expect("it is one").remove("status");
    // A Pod gets its node a moment after it was made.
    object["spec"].as_object_mut().expect("it is one").remove("nodeName");
    let metadata = object["metadata"].as_object_mut().expect("it is one");
    for key in ["uid", "resourceVersion", "generation", "creationTimestamp"] {
        metadata.remove(key);
    }
    // The number of the revision counts on: it is the controller's.
    let mut is_bare = false;
    if let Some(map) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        map.remove("deployment.kubernetes.io/revision");
        map.remove("deprecated.daemonset.template.generation");
        is_bare = map.is_empty();
    }
    if is_bare {
        metadata.remove("annotations");
    }
    let entries = metadata["managedFields"].as_array_mut().expect("it has them");
    entries.retain(|entry| entry["manager"] != "kube-controller-manager" && entry["subresource"] != "status");
    for entry in &mut *entries {
        entry.as_object_mut().expect("it is one").remove("time");
    }
    // Entries are in the order of their times, which are of no account.
    entries.sort_by_key(Value::to_string);
    let text = object.to_string().replace(&uid, "its-own-uid").replace(name, stand_in);
    serde_json::from_str(&text).expect("it was made of one")
}

/// Returns the names and uids of the claims of a workload's pods.
pub async fn claims(adapter: &KubeAdapter, name: &str) -> Vec<(String, String)> {
    let all = adapter
        .cluster()
        .list(PERSISTENT_VOLUME_CLAIMS, Some(adapter.namespace()), &Selection::default())
        .await
        .unwrap();
    let mut found: Vec<_> = all
        .iter()
        .map(|claim| (kinds::name(claim), claim["metadata"]["uid"].to_string()))
        .filter(|(claim, _)| claim.contains(name))
        .collect();
    found.sort();
    found
}

/// Fails unless nothing of any session is left in the namespace.
pub async fn expect_nothing_of_ours(adapter: &KubeAdapter) {
    eventually("nothing of a session is left", async || {
        let mut left = Vec::new();
        for resource in TOUCHED {
            let found =
                adapter.cluster().list(resource, Some(adapter.namespace()), &Selection::default()).await;
            let ours = found.unwrap().into_iter().filter(|object| object.to_string().contains("towline"));
            left.extend(ours.map(|object| format!("{} {}", resource.kind, kinds::name(&object))));
        }
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

/// Fails unless the first workload is as its twin.
pub async fn expect_equal(adapter: &KubeAdapter, case: Case, what: &str, names: [&str; 2]) {
    eventually(what, async || {
        let found = case.settled(adapter, names[0], names[0]).await?;
        let twin = case.settled(adapter, names[1], names[0]).await?;
        differences(what, &twin, &found)
    })
    .await;
}

/// Returns the way to the objects of a kind.
pub fn api(adapter: &KubeAdapter, kind: &Resource) -> Api<DynamicObject> {
    let of_kind = GroupVersionKind::gvk(kind.group, kind.version, kind.kind);
    let resource = ApiResource::from_gvk_with_plural(&of_kind, kind.plural);
    Api::namespaced_with(adapter.client(), adapter.namespace(), &resource)
}

/// Applies an object on the server, taking every field that it names.
pub async fn apply(adapter: &KubeAdapter, manager: &str, object: &Value) {
    let options = PatchParams::apply(manager).force();
    let (api, name) = (api(adapter, kinds::of(object)), kinds::name(object));
    api.patch(&name, &options, &Patch::Apply(object)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Merges a change into an object, lists by their keys where the kind has any.
pub async fn merge(adapter: &KubeAdapter, manager: &str, object: &Value) {
    let kind = kinds::of(object);
    let options = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
    let is_custom = matches!(kind.group, "argoproj.io" | "e2e.example.com");
    let patch = if is_custom { Patch::Merge(object) } else { Patch::Strategic(object) };
    let name = kinds::name(object);
    let patched = api(adapter, kind).patch(&name, &options, &patch).await;
    patched.unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Creates an object; one that has its name and is about to go is waited for.
pub async fn create(adapter: &KubeAdapter, manager: &str, object: &Value) {
    let options = PostParams { field_manager: Some(manager.to_owned()), ..PostParams::default() };
    let body = serde_json::from_value(object.clone()).expect("an object");
    let api = api(adapter, kinds::of(object));
    eventually("the object is created", async || match api.create(&options, &body).await {
        Err(error @ kube::Error::Api(_)) if error.to_string().contains("already exists") => {
            Err(error.to_string())
        }
        Err(error) => panic!("{object}: {error}"),
        Ok(_) => Ok(()),
    })
    .await;
}
