//! Whatever a session is in the middle of when it dies, and whatever the server answers: `down` from another machine
//! leads back to what was there before, ownership of fields included.
//!
//! Each world is an embedded cluster with one workload. No pod of it runs, since its image is not known: what is swept
//! is every write to the cluster, of every kind and way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use towline_cluster::embedded::{Embedded, EmbeddedOptions, Faults, Moment, open};
use towline_cluster::port::{
    CONFIG_MAPS, CONTROLLER_REVISIONS, CRON_JOBS, DAEMON_SETS, DEPLOYMENTS, JOBS, LEASES, Object, PODS,
    Patch, REPLICA_SETS, ROLLOUTS, Resource, SERVICES, STATEFUL_SETS, Selection, WriteOptions,
};
use towline_cluster::{Cluster, ClusterError};
use towline_patcher::{DevPlan, Way};

use crate::context::{AgentSource, Context};
use crate::controllers::truce::Gitops;
use crate::error::SessionError;
use crate::journal::Journal;
use crate::original::{self, Parked};
use crate::request::{OnChange, UpRequest, Workload};
use crate::{down, plan, up};

const KINDS: [&Resource; 9] = [
    DEPLOYMENTS,
    STATEFUL_SETS,
    DAEMON_SETS,
    REPLICA_SETS,
    JOBS,
    CRON_JOBS,
    PODS,
    ROLLOUTS,
    CONTROLLER_REVISIONS,
];

/// Who wrote the workload before the session.
#[derive(Debug, Clone, Copy)]
enum History {
    /// One writer.
    Created,
    /// Another one changed the image since, and a third scaled it and gave its pods more time.
    Shared,
}

/// One kind, and how it is entered.
#[derive(Debug, Clone, Copy)]
struct Case {
    resource: &'static Resource,
    way: Way,
    /// What is special about the workload: a JSON merge patch. With null there is none, and it is made.
    special: fn() -> Value,
}

/// A cluster in a folder that goes with it.
struct World {
    case: Case,
    cluster: Arc<Embedded>,
    before: BTreeMap<String, Value>,
    folder: tempfile::TempDir,
}

impl World {
    async fn new(case: Case, history: History) -> Self {
        // In memory where the machine has a folder for it: thousands of clusters are made.
        let memory = std::path::Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.unwrap();
        let options = EmbeddedOptions {
            state_dir: folder.path().join("state"),
            agent: folder.path().join("no-agent"),
            namespace: None,
            images: Vec::new(),
            path_env: String::new(),
        };
        let cluster = open(options).unwrap();
        let special = (case.special)();
        let is_there = !special.is_null();
        if is_there {
            let mut object = workload(case.resource);
            merge(&mut object, &special);
            cluster.apply(&[object]).await.unwrap();
        }
        let name = Object::new(case.resource, "default", "web");
        let write = async |manager: &str, change: Value| {
            let patch = Patch::Json(change);
            cluster.with_manager(manager).patch(&name, &patch, &WriteOptions::default()).await.unwrap();
        };
        let template = match case.resource.kind {
            "CronJob" => "/spec/jobTemplate/spec/template",
            "Pod" => "",
            _ => "/spec/template",
        };
        if is_there && matches!(history, History::Shared) {
            let image = format!("{template}/spec/containers/0/image");
            write("ci", json!([{"op": "replace", "path": image, "value": "nowhere/else"}])).await;
            if case.resource.kind != "Pod" {
                let grace = format!("{template}/spec/terminationGracePeriodSeconds");
                let mut change = vec![json!({"op": "replace", "path": grace, "value": 7})];
                if case.resource.kind == "Deployment" {
                    change.push(json!({"op": "replace", "path": "/spec/replicas", "value": 4}));
                }
                write("kubectl", Value::Array(change)).await;
            }
        }
        let mut world = Self { case, cluster, before: BTreeMap::new(), folder };
        world.before = world.look().await;
        world
    }

    /// The cluster as one machine sees it.
    fn machine(&self, holder: &str, faults: &Faults) -> Context {
        Context {
            cluster: Arc::new(self.cluster.with_faults(faults.clone())),
            namespace: "default".to_owned(),
            home: self.folder.path().join(holder),
            holder: holder.to_owned(),
        }
    }

    /// All that lasts, by kind and name.
    async fn look(&self) -> BTreeMap<String, Value> {
        let mut found = BTreeMap::new();
        for resource in KINDS.into_iter().chain([CONFIG_MAPS, LEASES, SERVICES]) {
            for mut object in self.cluster.list(resource, None, &Selection::default()).await.unwrap() {
                let made = object.pointer("/metadata/ownerReferences").is_some();
                let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                // What controllers make comes and goes with its owner; that nothing of ours is among it counts.
                if made && !object.to_string().contains("towline") {
                    continue;
                }
                for key in ["resourceVersion", "generation"] {
                    object["metadata"].as_object_mut().unwrap().remove(key);
                }
                if let Some(entries) = object["metadata"]["managedFields"].as_array_mut() {
                    entries.retain(|entry| entry["subresource"] != "status");
                }
                object.as_object_mut().unwrap().remove("status");
                found.insert(format!("{}/{name}", resource.plural), object);
            }
        }
        found
    }

    fn request(&self) -> UpRequest {
        UpRequest {
            workload: Workload::Name(format!("{}/web", self.case.resource.kind.to_lowercase())),
            way: Some(self.case.way),
            on_change: OnChange::default(),
            plan: DevPlan {
                dev_name: "web".to_owned(),
                image: Some("dev".to_owned()),
                environment: vec![("MODE".to_owned(), "dev".to_owned()), ("NEW".to_owned(), "1".to_owned())],
                stands_in: true,
                ..DevPlan::default()
            },
            folders: Vec::new(),
            command: vec!["sh".to_owned()],
            autocreate: true,
            main: None,
            hybrid: None,
            process_environment: Vec::new(),
            forwards: Vec::new(),
            reverses: Vec::new(),
            patience: Duration::from_mins(2),
            agent: AgentSource::Host { hash: "0123456789abcdef".to_owned() },
            takeover: false,
            claim: None,
            secrets: Vec::new(),
            answer: Duration::from_mins(1),
            gitops: Gitops::Leave,
        }
    }

    /// Everything that `up` writes; where it fails it undoes that, as `up` does.
    async fn enter(&self, context: &Context) -> Result<(), SessionError> {
        let planned = plan::plan(context, self.request()).await?;
        let mut journal = Journal::create(context, planned.record.clone()).await?;
        let (event_tx, mut event_rx) = mpsc::channel(64);
        let begun = async {
            up::begin(context, &planned, &mut journal, &event_tx).await?;
            if planned.record.parks() && planned.record.down_first.is_none() {
                match original::park(context, &mut journal).await? {
                    Parked::Done => {}
                    Parked::Lost(message) => return Err(SessionError::Failed { message }),
                    Parked::Gone => panic!("the original is gone"),
                }
            }
            Ok(())
        };
        let begun = begun.await;
        if let Err(error) = &begun {
            let undone = up::undo(context, journal, &event_tx, &error.to_string()).await;
            event_rx.close();
            undone?;
        }
        begun
    }

    /// Ends whatever is there, from another machine and without a fault.
    async fn end(&self) {
        let context = self.machine("bob@desk", &Faults::default());
        for (lease, _) in down::sessions(&context).await.unwrap() {
            let restored = down::down(&context, &lease, true, &mut |_| {}).await.unwrap();
            assert!(restored.differences.is_empty(), "{:?}", restored.differences);
        }
    }

    /// Enters and leaves, whatever watches there are.
    async fn play(&self, faults: &Faults) -> Result<(), SessionError> {
        let context = self.machine("ada@laptop", faults);
        self.enter(&context).await?;
        let (lease, _) = down::sessions(&context).await?.remove(0);
        let restored = down::down(&context, &lease, true, &mut |_| {}).await?;
        assert!(restored.differences.is_empty(), "{:?}", restored.differences);
        Ok(())
    }

    async fn expect_unchanged(&self, what: &str) {
        let now = self.look().await;
        let mut found = Vec::new();
        let names: BTreeSet<_> = now.keys().chain(self.before.keys()).collect();
        for name in names {
            differ(name, self.before.get(name), now.get(name), &mut found);
        }
        assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
    }
}

/// Tells where two values differ, a line for each place.
fn differ(path: &str, before: Option<&Value>, now: Option<&Value>, found: &mut Vec<String>) {
    match (before, now) {
        (Some(Value::Object(before)), Some(Value::Object(now))) => {
            let keys: BTreeSet<_> = before.keys().chain(now.keys()).collect();
            for key in keys {
                differ(&format!("{path}.{key}"), before.get(key), now.get(key), found);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(now))) if before.len() == now.len() => {
            for (index, (before, now)) in before.iter().zip(now).enumerate() {
                differ(&format!("{path}[{index}]"), Some(before), Some(now), found);
            }
        }
        (before, now) if before == now => {}
        (before, now) => {
            let text = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
            found.push(format!("{path} was {}, is {}", text(before), text(now)));
        }
    }
}

fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

fn workload(resource: &Resource) -> Value {
    let labels = json!({"app": "web"});
    let pod = json!({
        "metadata": {"labels": labels, "annotations": {"note": "kept"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            // No pod gets a node, so that nothing waits for it in vain.
            "nodeSelector": {"nowhere": "true"},
            "containers": [
                {
                    "name": "web", "image": "nowhere", "command": ["serve"], "args": ["--all"],
                    "env": [{"name": "MODE", "value": "production"}, {"name": "OTHER", "value": "1"}],
                    "livenessProbe": {"tcpSocket": {"port": 80}},
                },
                {"name": "sidecar", "image": "nowhere"},
            ],
        },
    });
    let mut object = json!({
        "apiVersion": resource.api_version(), "kind": resource.kind,
        "metadata": {"name": "web", "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": pod},
    });
    match resource.kind {
        "CronJob" => {
            object["spec"] = json!({"schedule": "@daily", "jobTemplate": {"spec": {"template": pod}}});
        }
        "Job" => object["spec"] = json!({"template": pod}),
        "Pod" => {
            object["spec"] = pod["spec"].clone();
            merge(&mut object["metadata"], &pod["metadata"]);
        }
        "StatefulSet" => object["spec"]["serviceName"] = json!("web"),
        _ => {}
    }
    object
}

/// What the server may answer to a write.
fn answers(verb: &'static str, index: usize) -> Vec<(Moment, ClusterError)> {
    let object = || Object::new(DEPLOYMENTS, "default", "web");
    let server = |code| ClusterError::Server { verb, object: object(), code, message: "busy".to_owned() };
    let conflict = ClusterError::Conflict { object: object(), message: "modified".to_owned() };
    let unanswered = || ClusterError::Ambiguous { verb, object: object() };
    vec![
        (Moment::Before, conflict),
        (Moment::Before, server([429, 500, 410][index % 3])),
        (Moment::Before, unanswered()),
        (Moment::After, unanswered()),
    ]
}

/// Returns the verbs of the writes that were made; a question about rights is none.
fn writes(faults: &Faults) -> Vec<&'static str> {
    let is_write = |(verb, plural): &(&'static str, &'static str)| {
        matches!(*verb, "create" | "update" | "patch" | "delete") && *plural != "selfsubjectaccessreviews"
    };
    faults.calls().into_iter().filter(is_write).map(|(verb, _)| verb).collect()
}

/// Runs what may die; tells whether it lived to its end.
async fn until_death<T>(faults: &Faults, mut work: impl Future<Output = T> + Unpin) -> Option<T> {
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Some(done),
            () = tokio::time::sleep(Duration::from_secs(30)) => if faults.is_dead() { return None },
        }
    }
}

async fn writes_of_up(case: Case, history: History) -> Vec<&'static str> {
    let faults = Faults::default();
    let world = World::new(case, history).await;
    let context = world.machine("ada@laptop", &faults);
    world.enter(&context).await.unwrap();
    let verbs = writes(&faults);
    let changed = world.look().await != world.before;
    assert!(changed, "a session leaves something to undo");
    world.end().await;
    world.expect_unchanged(&format!("{case:?} {history:?}")).await;
    verbs
}

/// Dies before and after each write of `up`, and gets each answer to it.
async fn sweep_up(case: Case, history: History) -> usize {
    let verbs = writes_of_up(case, history).await;
    let mut worlds = 0;
    for nth in 1..=verbs.len() {
        for moment in [Moment::Before, Moment::After] {
            let faults = Faults::default();
            faults.kill(nth, moment);
            let world = World::new(case, history).await;
            let context = world.machine("ada@laptop", &faults);
            let lived = until_death(&faults, Box::pin(world.enter(&context))).await;
            assert!(lived.is_none(), "it dies at write {nth}");
            world.end().await;
            world.expect_unchanged(&format!("{case:?} {history:?} dies {moment:?} write {nth} of up")).await;
            worlds += 1;
        }
    }
    for (index, verb) in verbs.iter().enumerate().filter(|_| matches!(history, History::Created)) {
        let nth = verbs[..=index].iter().filter(|other| *other == verb).count();
        for (moment, error) in answers(verb, index) {
            let what = format!("{case:?} {history:?}: {verb} {nth} of up gets {error} {moment:?}");
            let faults = Faults::default();
            faults.fail(verb, "*", nth, moment, error);
            let world = World::new(case, history).await;
            // What it can't bear it undoes itself, or leaves to `down`.
            let _borne = world.enter(&world.machine("ada@laptop", &faults)).await;
            world.end().await;
            world.expect_unchanged(&what).await;
            worlds += 1;
        }
    }
    worlds
}

/// Dies before and after each write of `down`, and gets each answer to it.
async fn sweep_down(case: Case, history: History) -> usize {
    let quiet = Faults::default();
    let begun = async || {
        let world = World::new(case, history).await;
        world.enter(&world.machine("ada@laptop", &quiet)).await.unwrap();
        world
    };
    let leave = async |world: &World, faults: &Faults| {
        let context = world.machine("eve@phone", faults);
        let (lease, _) = down::sessions(&context).await?.remove(0);
        down::down(&context, &lease, true, &mut |_| {}).await
    };
    let faults = Faults::default();
    leave(&begun().await, &faults).await.unwrap();
    let verbs = writes(&faults);
    let mut worlds = 0;
    for nth in 1..=verbs.len() {
        for moment in [Moment::Before, Moment::After] {
            let faults = Faults::default();
            faults.kill(nth, moment);
            let world = begun().await;
            until_death(&faults, Box::pin(leave(&world, &faults))).await;
            world.end().await;
            world
                .expect_unchanged(&format!("{case:?} {history:?} dies {moment:?} write {nth} of down"))
                .await;
            worlds += 1;
        }
    }
    for (index, verb) in verbs.iter().enumerate().filter(|_| matches!(history, History::Created)) {
        let nth = verbs[..=index].iter().filter(|other| *other == verb).count();
        for (moment, error) in answers(verb, index) {
            let what = format!("{case:?} {history:?}: {verb} {nth} of down gets {error} {moment:?}");
            let faults = Faults::default();
            faults.fail(verb, "*", nth, moment, error);
            let world = begun().await;
            let _borne = leave(&world, &faults).await;
            world.end().await;
            world.expect_unchanged(&what).await;
            worlds += 1;
        }
    }
    worlds
}

/// Watches that are refused, and watches that miss what happens: all of it, or every other change.
async fn sweep_watches(case: Case) -> usize {
    let faults = Faults::default();
    let world = World::new(case, History::Created).await;
    world.play(&faults).await.unwrap();
    world.expect_unchanged(&format!("{case:?} with whole watches")).await;
    let opened = faults.calls().iter().filter(|(verb, _)| *verb == "watch").count();
    let mut worlds = 0;
    for nth in [1, 2] {
        let faults = Faults::default();
        faults.drop_watches(nth);
        let world = World::new(case, History::Created).await;
        world.play(&faults).await.unwrap();
        world.expect_unchanged(&format!("{case:?}: every change {nth} drops its watch")).await;
        worlds += 1;
    }
    for nth in 1..=opened {
        for (_, error) in answers("watch", nth) {
            let what = format!("{case:?}: watch {nth} gets {error}");
            let faults = Faults::default();
            faults.fail("watch", "*", nth, Moment::Before, error);
            let world = World::new(case, History::Created).await;
            let _borne = world.play(&faults).await;
            world.end().await;
            world.expect_unchanged(&what).await;
            worlds += 1;
        }
    }
    worlds
}

macro_rules! sweeps {
    ($($name:ident: $resource:expr, $way:expr, $special:expr;)*) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $name() {
                let case = Case { resource: $resource, way: $way, special: || $special };
                let mut worlds = 0;
                for history in [History::Created, History::Shared] {
                    worlds += sweep_up(case, history).await + sweep_down(case, history).await;
                }
                worlds += sweep_watches(case).await;
                // Beside an original that goes on there is less to write.
                assert!(worlds >= 60, "{worlds}");
            }
        )*
    };
}

sweeps! {
    a_deployment_by_swap: DEPLOYMENTS, Way::Swap, json!({"spec": {"replicas": 3}});
    a_deployment_that_goes_first: DEPLOYMENTS, Way::Swap, json!({"spec": {"strategy": {"type": "Recreate"}}});
    a_deployment_in_place: DEPLOYMENTS, Way::InPlace, json!({"spec": {"replicas": 2}});
    a_replica_set_by_swap: REPLICA_SETS, Way::Swap, json!({"spec": {"replicas": 2}});
    a_stateful_set_by_swap: STATEFUL_SETS, Way::Swap, json!({});
    a_stateful_set_in_place: STATEFUL_SETS, Way::InPlace, json!({"spec": {"replicas": 3}});
    a_stateful_set_on_delete: STATEFUL_SETS, Way::InPlace, json!({"spec": {"updateStrategy": {"type": "OnDelete"}}});
    a_daemon_set_in_place: DAEMON_SETS, Way::InPlace, json!({});
    a_job_beside: JOBS, Way::Swap, json!({});
    a_cron_job_suspended: CRON_JOBS, Way::Swap, json!({});
    a_pod_beside: PODS, Way::Swap, json!({});
    a_rollout_by_swap: ROLLOUTS, Way::Swap, json!({"spec": {"replicas": 2}});
    a_deployment_that_is_not_there: DEPLOYMENTS, Way::Swap, Value::Null;
    a_rollout_without_a_number: ROLLOUTS, Way::Swap, json!({});
}
