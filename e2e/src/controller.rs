//! The parts of controllers that write beside a session, played: what they honour and what they overwrite.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use towline_cluster::port::{DEPLOYMENTS, ROLLOUTS, Resource};

use crate::app::NAME;
use crate::kube::KubeAdapter;
use crate::waiting::eventually;

/// How often a controller looks.
const PAUSE: Duration = Duration::from_millis(50);

/// A namespace as a controller with a field manager of its own sees it.
#[derive(Clone)]
pub struct Controller {
    client: Client,
    namespace: String,
    manager: &'static str,
}

/// A part that is being played, until it is dropped.
pub struct Playing {
    looks: Arc<AtomicUsize>,
    writes: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Playing {
    /// Returns how often it has written.
    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    /// Waits until it has written: what it writes is seen before it knows that it has.
    pub async fn wrote(&self) {
        eventually("the controller writes", async || if self.writes() > 0 { Ok(()) } else { Err(()) }).await;
    }

    /// Waits until it has looked so many times more.
    pub async fn looks(&self, more: usize) {
        let until = self.looks.load(Ordering::SeqCst) + more;
        eventually("the controller looks", async || {
            let looks = self.looks.load(Ordering::SeqCst);
            if looks >= until { Ok(()) } else { Err(looks) }
        })
        .await;
    }
}

impl Controller {
    /// Makes one that writes as `manager`.
    pub fn new(adapter: &KubeAdapter, manager: &'static str) -> Self {
        use crate::adapter::Adapter;
        Self { client: adapter.client(), namespace: adapter.namespace().to_owned(), manager }
    }

    /// Looks again and again, and does what the part says; `part` tells whether it wrote.
    pub fn play<F>(&self, part: impl Fn(Self) -> F + Send + 'static) -> Playing
    where
        F: Future<Output = bool> + Send,
    {
        let (looks, writes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (seen, written, controller) = (Arc::clone(&looks), Arc::clone(&writes), self.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut pause = tokio::time::interval(PAUSE);
            loop {
                pause.tick().await;
                if part(controller.clone()).await {
                    written.fetch_add(1, Ordering::SeqCst);
                }
                seen.fetch_add(1, Ordering::SeqCst);
            }
        });
        Playing { looks, writes, _tasks: tasks }
    }

    fn api(&self, resource: &Resource) -> Api<DynamicObject> {
        let of_kind = GroupVersionKind::gvk(resource.group, resource.version, resource.kind);
        let of_kind = ApiResource::from_gvk_with_plural(&of_kind, resource.plural);
        Api::namespaced_with(self.client.clone(), &self.namespace, &of_kind)
    }

    /// Creates an object.
    pub async fn create(&self, resource: &Resource, object: &Value) {
        let mut object = object.clone();
        object["apiVersion"] = json!(resource.api_version());
        object["kind"] = json!(resource.kind);
        let options = PostParams { field_manager: Some(self.manager.to_owned()), ..PostParams::default() };
        let body = serde_json::from_value(object).expect("an object");
        self.api(resource).create(&options, &body).await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Reads an object.
    pub async fn read(&self, resource: &Resource, name: &str) -> Value {
        json!(self.api(resource).get(name).await.unwrap_or_else(|error| panic!("{name}: {error}")))
    }

    /// Reads an object that may not be there any more.
    pub async fn find(&self, resource: &Resource, name: &str) -> Option<Value> {
        self.api(resource).get(name).await.ok().map(|found| json!(found))
    }

    /// Applies what is in Git to the workload, taking every field that it names.
    pub async fn sync(&self, git: &Value) {
        let options = PatchParams::apply(self.manager).force();
        let patched = self.api(DEPLOYMENTS).patch(NAME, &options, &Patch::Apply(git)).await;
        patched.unwrap_or_else(|error| panic!("{}: {error}", self.manager));
    }

    /// Sets the workload's replicas where scaling is done.
    pub async fn scale(&self, replicas: i64) {
        let options = PatchParams { field_manager: Some(self.manager.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let scaled = self.api(DEPLOYMENTS).patch_scale(NAME, &options, &patch).await;
        scaled.unwrap_or_else(|error| panic!("{}: {error}", self.manager));
    }

    /// Changes an object.
    pub async fn change(&self, resource: &Resource, name: &str, patch: &Value) {
        let options = PatchParams { field_manager: Some(self.manager.to_owned()), ..PatchParams::default() };
        let patched = self.api(resource).patch(name, &options, &Patch::Merge(patch)).await;
        patched.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Deletes the Deployments that carry a label and are not the workload; tells whether there was any.
    pub async fn prune(&self, label: &str) -> bool {
        let api = self.api(DEPLOYMENTS);
        let found = api.list(&ListParams::default().labels(label)).await.map(|list| list.items);
        let names: Vec<_> = found.into_iter().flatten().filter_map(|object| object.metadata.name).collect();
        let extra: Vec<_> = names.into_iter().filter(|name| name != NAME).collect();
        for name in &extra {
            let _ = api.delete(name, &DeleteParams::default()).await;
        }
        !extra.is_empty()
    }
}

/// Plays Argo Rollouts' controller as far as a session waits for it: every Rollout has all its pods at once.
pub async fn rollouts_serve(controller: Controller) -> bool {
    let api = controller.api(ROLLOUTS);
    let mut has_written = false;
    for rollout in api.list(&ListParams::default()).await.into_iter().flat_map(|list| list.items) {
        let Some(name) = rollout.metadata.name.clone() else { continue };
        let rollout = json!(rollout);
        let replicas = &rollout["spec"]["replicas"];
        let status = json!({"observedGeneration": rollout["metadata"]["generation"].to_string(),
                            "replicas": replicas, "availableReplicas": replicas});
        if rollout["status"] == status {
            continue;
        }
        let options =
            PatchParams { field_manager: Some(controller.manager.to_owned()), ..PatchParams::default() };
        has_written |=
            api.patch_status(&name, &options, &Patch::Merge(json!({"status": status}))).await.is_ok();
    }
    has_written
}

/// Plays Argo CD's application controller on an Application: it heals while it may.
pub async fn argo_heals(controller: Controller, application: &'static Resource, git: Value) -> bool {
    let Some(application) = controller.find(application, NAME).await else { return false };
    let skips = application["metadata"]["annotations"]["argocd.argoproj.io/skip-reconcile"] == "true";
    let automated = &application["spec"]["syncPolicy"]["automated"];
    let may = !skips && automated["selfHeal"] == true && automated["enabled"] != false;
    may && correct(&controller, &git).await
}

/// Plays Argo CD's comparison of the workload with Git, which says one replica.
pub async fn argo_compares(controller: Controller, application: &'static Resource) -> bool {
    let (Some(found), Some(live)) =
        (controller.find(application, NAME).await, controller.find(DEPLOYMENTS, NAME).await)
    else {
        return false;
    };
    let status = if live["spec"]["replicas"] == 1 { "Synced" } else { "OutOfSync" };
    if found["status"]["sync"]["status"] == status {
        return false;
    }
    controller.change(application, NAME, &json!({"status": {"sync": {"status": status}}})).await;
    true
}

/// Plays Flux's kustomize controller: it corrects what it is not told to leave alone.
pub async fn flux_corrects(controller: Controller, git: Value) -> bool {
    let Some(live) = controller.find(DEPLOYMENTS, NAME).await else { return false };
    live["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/reconcile"] != "disabled"
        && correct(&controller, &git).await
}

/// Plays KEDA's operator: it keeps the workload at its minimum.
pub async fn keda_scales(controller: Controller, scaled: &'static Resource) -> bool {
    let Some(scaled) = controller.find(scaled, NAME).await else { return false };
    if scaled["metadata"]["annotations"]["autoscaling.keda.sh/paused"] == "true" {
        return false;
    }
    let minimum = scaled["spec"]["minReplicaCount"].as_i64().unwrap_or(0);
    let live = controller.find(DEPLOYMENTS, NAME).await.unwrap_or_default();
    let below = live["spec"]["replicas"].as_i64().is_some_and(|replicas| replicas < minimum);
    if below {
        controller.scale(minimum).await;
    }
    below
}

/// Plays whoever generates an Application or syncs it as a part of another one: it is made to have this sync policy
/// again. What is not in Git, such as an annotation, is no difference.
pub async fn parent_heals(controller: Controller, application: &'static Resource, policy: Value) -> bool {
    let Some(live) = controller.find(application, NAME).await else { return false };
    let differs = live["spec"]["syncPolicy"] != policy;
    if differs {
        let reset = json!({"spec": {"syncPolicy": {"automated": {"enabled": null}}}});
        controller.change(application, NAME, &reset).await;
    }
    differs
}

/// Plays the ApplicationSet controller: the same, but for what the set says that it leaves alone.
pub async fn set_regenerates(
    controller: Controller,
    set: &'static Resource,
    application: &'static Resource,
    policy: Value,
) -> bool {
    let Some(set) = controller.find(set, NAME).await else { return false };
    let rules = set["spec"]["ignoreApplicationDifferences"].as_array().cloned().unwrap_or_default();
    let ignored = rules.iter().any(|rule| rule["jsonPointers"] == json!(["/spec/syncPolicy"]));
    !ignored && parent_heals(controller, application, policy).await
}

async fn correct(controller: &Controller, git: &Value) -> bool {
    let Some(live) = controller.find(DEPLOYMENTS, NAME).await else { return false };
    let differs = live["spec"]["replicas"] != git["spec"]["replicas"];
    if differs {
        controller.sync(git).await;
    }
    differs
}
