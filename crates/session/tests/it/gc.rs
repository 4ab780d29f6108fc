//! What is left of sessions that nobody holds, and what is left alone.

use std::time::Duration;

use serde_json::{Value, json};
use towline_cluster::port::{
    CONFIG_MAPS, DEPLOYMENTS, LEASES, Object, Patch, Resource, Selection, WriteOptions,
};
use towline_session::journal::Journal;
use towline_session::plan::{self, UpPlan};
use towline_session::{Context, gc};

use crate::world::{World, request};

const HOUR: Duration = Duration::from_hours(1);

/// Writes what a session writes up to the clone, as a process that then died.
async fn begin(context: &Context) -> UpPlan {
    let planned = plan::plan(context, request()).await.unwrap();
    Journal::create(context, planned.record.clone()).await.unwrap();
    let agent = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": planned.record.config_map,
        "labels": {"app.kubernetes.io/managed-by": "towline"}}});
    create(context, CONFIG_MAPS, &agent).await;
    create(context, DEPLOYMENTS, &planned.clone.object).await;
    planned
}

async fn create(context: &Context, kind: &'static Resource, object: &Value) {
    context.cluster.create(kind, &context.namespace, object, &WriteOptions::default()).await.unwrap();
}

async fn patch(context: &Context, kind: &'static Resource, name: &str, change: Value) {
    let object = Object::new(kind, &context.namespace, name);
    context.cluster.patch(&object, &Patch::Merge(change), &WriteOptions::default()).await.unwrap();
}

async fn names(context: &Context, kind: &'static Resource) -> Vec<String> {
    let found = context.cluster.list(kind, None, &Selection::default()).await.unwrap();
    found.iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// Makes the session's last sign of life an old one.
async fn silence(context: &Context, hours: u64) {
    let then = jiff::Timestamp::now() - Duration::from_hours(hours);
    let change = json!({"spec": {"renewTime": format!("{then:.6}")}});
    patch(context, LEASES, "towline.deployment.web", change).await;
}

#[tokio::test]
async fn a_session_that_is_alive_is_nobodys_to_end() {
    let world = World::new().await;
    let context = &world.context;
    begin(context).await;
    let found = gc::find(context, true, Duration::ZERO).await.unwrap();
    assert!(found.sessions.is_empty() && found.orphans.is_empty(), "{found:?}");
}

#[tokio::test]
async fn a_silent_session_is_ended_and_nothing_of_it_is_left() {
    let world = World::new().await;
    let context = &world.context;
    let planned = begin(context).await;
    patch(context, DEPLOYMENTS, "web", json!({"spec": {"replicas": 1}})).await;
    silence(context, 9).await;
    assert!(gc::abandoned(context, false, 10 * HOUR).await.unwrap().is_empty(), "not that long");
    let elsewhere = Context { namespace: "elsewhere".to_owned(), ..context.clone() };
    assert!(gc::abandoned(&elsewhere, false, HOUR).await.unwrap().is_empty(), "not there");

    let found = gc::find(&elsewhere, true, gc::ABANDONED).await.unwrap();
    assert_eq!(found.orphans, [], "they belong to the session");
    let [session] = found.sessions.as_slice() else { panic!("{found:?}") };
    assert_eq!(session.held.record, planned.record);
    assert!(session.silence >= 9 * HOUR && session.silence < 10 * HOUR, "{:?}", session.silence);
    let restored = session.end(&mut |_| {}).await.unwrap();
    assert_eq!(restored.differences, []);
    assert_eq!(names(context, DEPLOYMENTS).await, ["web"]);
    assert!(names(context, LEASES).await.is_empty());
    assert!(names(context, CONFIG_MAPS).await.is_empty());
}

#[tokio::test]
async fn who_comes_back_keeps_his_session() {
    let world = World::new().await;
    let context = &world.context;
    begin(context).await;
    silence(context, 9).await;
    let found = gc::abandoned(context, false, HOUR).await.unwrap();
    silence(context, 0).await;
    assert!(found[0].end(&mut |_| {}).await.is_err());
    assert_eq!(names(context, DEPLOYMENTS).await.len(), 2, "the clone stands");
}

#[tokio::test]
async fn objects_without_a_record_go_unless_the_original_needs_them() {
    let world = World::new().await;
    let context = &world.context;
    let planned = begin(context).await;
    let lease = Object::new(LEASES, &context.namespace, "towline.deployment.web");
    context.cluster.delete(&lease, &towline_cluster::port::DeleteOptions::default()).await.unwrap();
    patch(context, DEPLOYMENTS, "web", json!({"spec": {"replicas": 0}})).await;

    let found = gc::find(context, false, HOUR).await.unwrap();
    let clone = found.orphans.iter().find(|orphan| orphan.object.name == planned.record.clone).unwrap();
    assert!(clone.keep.as_deref().is_some_and(|why| why.contains("--replicas=1")), "{clone:?}");
    assert!(!clone.remove(context, &mut |_| {}).await.unwrap());
    assert_eq!(names(context, DEPLOYMENTS).await.len(), 2, "it is all that is left of the service");

    patch(context, DEPLOYMENTS, "web", json!({"spec": {"replicas": 2}})).await;
    for orphan in gc::find(context, false, HOUR).await.unwrap().orphans {
        assert!(orphan.remove(context, &mut |_| {}).await.unwrap(), "{orphan:?}");
    }
    assert_eq!(names(context, DEPLOYMENTS).await, ["web"]);
    assert!(names(context, CONFIG_MAPS).await.is_empty());
}

#[tokio::test]
async fn a_lease_that_cannot_be_read_is_told_and_left() {
    let world = World::new().await;
    let context = &world.context;
    begin(context).await;
    let nonsense = json!({"metadata": {"annotations": {"towline.dev/journal": "{}"}}});
    patch(context, LEASES, "towline.deployment.web", nonsense).await;
    let found = gc::find(context, false, Duration::ZERO).await.unwrap();
    assert!(found.sessions.is_empty() && found.orphans.is_empty(), "{found:?}");
    assert!(found.unreadable[0].to_string().contains("towline.deployment.web"), "{found:?}");
}
