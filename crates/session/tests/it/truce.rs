//! Controllers are paused on the record, and woken up from it, whatever call is the last that gets through.

use std::time::Duration;

use serde_json::{Value, json};
use towline_cluster::ClusterError;
use towline_cluster::embedded::Moment;
use towline_cluster::port::{
    APPLICATIONS, DEPLOYMENTS, DeleteOptions, LEASES, Object, Patch, Resource, Right, Selection, WriteOptions,
};
use towline_session::controllers::forgotten;
use towline_session::{Context, Gitops, SessionError, UpRequest, down, gc, plan, up};

use crate::world::{World, request};

const PATCH_APPLICATIONS: Right =
    Right { verb: "patch", group: "argoproj.io", resource: "applications", subresource: "" };

/// The Deployment `web`, which belongs to an Application that heals itself.
async fn world() -> World {
    let world = World::new().await;
    let cluster = &world.context.cluster;
    let tracking = json!({"metadata": {"annotations": {
        "argocd.argoproj.io/tracking-id": "default_web:apps/Deployment:default/web"}}});
    let web = Object::new(DEPLOYMENTS, "default", "web");
    cluster.patch(&web, &Patch::Merge(tracking), &WriteOptions::default()).await.unwrap();
    let application = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
        "metadata": {"name": "web", "namespace": "default", "annotations": {"team": "shop"}},
        "spec": {"syncPolicy": {"automated": {"selfHeal": true}}},
    });
    cluster.create(APPLICATIONS, "default", &application, &WriteOptions::default()).await.unwrap();
    world.faults.clear();
    world
}

/// The pod can't come, since its image is not known: the session fails, and undoes itself.
fn hopeless(gitops: Gitops) -> UpRequest {
    UpRequest { gitops, patience: Duration::ZERO, ..request() }
}

async fn lasting(context: &Context, resource: &'static Resource) -> Value {
    let mut object = context.cluster.get(&Object::new(resource, "default", "web")).await.unwrap();
    let metadata = object["metadata"].as_object_mut().unwrap();
    for moving in ["resourceVersion", "generation", "managedFields"] {
        metadata.remove(moving);
    }
    json!({"metadata": object["metadata"], "spec": object["spec"]})
}

async fn both(context: &Context) -> [Value; 2] {
    [lasting(context, APPLICATIONS).await, lasting(context, DEPLOYMENTS).await]
}

async fn leases(context: &Context) -> Vec<Value> {
    context.cluster.list(LEASES, None, &Selection::default()).await.unwrap()
}

/// Runs a session to its end, and tells the actions on objects that it told.
async fn run(context: &Context) -> Vec<String> {
    let planned = plan::plan(context, hopeless(Gitops::Pause)).await.unwrap();
    let Ok(mut session) = up::up(context, planned, None).await else { return Vec::new() };
    let mut actions = Vec::new();
    while let Some(event) = session.next_event().await {
        if let towline_session::Event::Object { action, object } = event {
            actions.push(format!("{action} {object}"));
        }
    }
    let _ = session.ended().await;
    actions
}

#[tokio::test(start_paused = true)]
async fn a_session_that_would_not_last_does_not_begin() {
    let world = world().await;
    let planned = plan::plan(&world.context, hopeless(Gitops::Leave)).await.unwrap();
    assert_eq!(planned.obstacles.len(), 1, "{:?}", planned.obstacles);
    assert!(planned.obstacles[0].mend.contains("--gitops pause"), "{}", planned.obstacles[0].mend);
    let error = up::up(&world.context, planned, None).await.unwrap_err();
    assert!(
        matches!(&error, SessionError::Obstacles { obstacles } if obstacles[0].code == "argocd.selfHeal"),
        "{error}"
    );
    assert!(leases(&world.context).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_pause_nothing_begins() {
    let world = world().await;
    world.faults.deny(PATCH_APPLICATIONS);
    let planned = plan::plan(&world.context, hopeless(Gitops::Pause)).await.unwrap();
    assert!(planned.truce.pauses.is_empty());
    assert!(planned.obstacles[0].why.contains("can't be paused"), "{}", planned.obstacles[0].why);
}

#[tokio::test(start_paused = true)]
async fn what_was_paused_is_woken_up() {
    let world = world().await;
    let before = both(&world.context).await;
    let actions = run(&world.context).await;
    let place = |wanted: &str| actions.iter().position(|action| action == wanted);
    let (paused, unpaused) =
        (place("paused Application default/web"), place("unpaused Application default/web"));
    assert!(paused.is_some() && paused < unpaused, "{actions:?}");
    assert_eq!(both(&world.context).await, before);
    assert!(leases(&world.context).await.is_empty());
}

/// Cuts the session off after each of its writes; who ends it then finds the way back.
#[tokio::test(start_paused = true)]
async fn a_session_that_dies_anywhere_leaves_no_pause() {
    let writes = {
        let world = world().await;
        let planned = plan::plan(&world.context, hopeless(Gitops::Pause)).await.unwrap();
        world.faults.clear();
        let mut session = up::up(&world.context, planned, None).await.unwrap();
        while session.next_event().await.is_some() {}
        let calls = world.faults.calls().into_iter().zip(1..);
        let writes = calls.filter(|((verb, _), _)| matches!(*verb, "create" | "update" | "patch" | "delete"));
        writes.map(|(_, call)| call).collect::<Vec<usize>>()
    };
    assert!(writes.len() > 8, "{writes:?}");
    for call in writes {
        let world = world().await;
        let before = both(&world.context).await;
        let planned = plan::plan(&world.context, hopeless(Gitops::Pause)).await.unwrap();
        world.faults.clear();
        let gone = || ClusterError::Unreachable { server: "x".to_owned(), message: "cut off".to_owned() };
        world.faults.fail("*", "*", call, Moment::After, gone());
        for later in 1..200 {
            world.faults.fail("*", "*", call + later, Moment::Before, gone());
        }
        if let Ok(mut session) = up::up(&world.context, planned, None).await {
            while session.next_event().await.is_some() {}
            let _ = session.ended().await;
        }
        world.faults.clear();

        let bob = Context { holder: "bob@elsewhere".to_owned(), ..world.context.clone() };
        for lease in leases(&bob).await {
            down::down(&bob, &lease, true, &mut |_| ()).await.unwrap();
        }
        assert_eq!(both(&bob).await, before, "cut off at call {call}");
        assert!(leases(&bob).await.is_empty(), "cut off at call {call}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_not_wake_it_up_leaves_the_record_to_those_who_may() {
    let world = world().await;
    let before = both(&world.context).await;
    let planned = plan::plan(&world.context, hopeless(Gitops::Pause)).await.unwrap();
    // After the dry run of the plan and the pause itself, the way back is the third.
    let denied = ClusterError::Forbidden {
        verb: "patch",
        object: Object::new(APPLICATIONS, "default", "web"),
        message: "no".to_owned(),
    };
    world.faults.fail("patch", "applications", 2, Moment::Before, denied);
    let mut session = up::up(&world.context, planned, None).await.unwrap();
    while session.next_event().await.is_some() {}
    let error = session.ended().await.unwrap_err().to_string();
    assert!(error.contains("Application default/web is still paused"), "{error}");
    let left = leases(&world.context).await;
    assert_eq!(left.len(), 1, "the record stays");
    assert_eq!(lasting(&world.context, DEPLOYMENTS).await, before[1], "everything else is as it was");
    down::down(&world.context, &left[0], true, &mut |_| ()).await.unwrap();
    assert_eq!(both(&world.context).await, before);
    assert!(leases(&world.context).await.is_empty());
}

/// Begins a session on a workload of the Application's, and leaves it on.
async fn left_on(context: &Context, workload: &str) {
    let workload = towline_session::request::Workload::Name(workload.to_owned());
    let wanted = UpRequest { gitops: Gitops::Pause, workload, ..request() };
    let planned = plan::plan(context, wanted).await.unwrap();
    let mut session = up::up(context, planned, None).await.unwrap();
    while let Some(event) = session.next_event().await {
        if matches!(&event, towline_session::Event::Object { action: "created", object } if object.contains("towline-")
            && object.starts_with("Deployment"))
        {
            break;
        }
    }
    session.leave().await;
    while session.next_event().await.is_some() {}
    session.ended().await.unwrap();
}

async fn end(context: &Context, workload: &str) {
    let (lease, _) = down::session_of(context, workload).await.unwrap();
    down::down(context, &lease, true, &mut |_| ()).await.unwrap();
}

fn is_paused(application: &Value) -> bool {
    application.pointer("/spec/syncPolicy/automated/enabled") == Some(&json!(false))
}

#[tokio::test]
async fn two_sessions_share_a_pause_and_the_last_ends_it() {
    for first in ["web", "api"] {
        let world = world().await;
        let context = &world.context;
        let mut api = context.cluster.get(&Object::new(DEPLOYMENTS, "default", "web")).await.unwrap();
        api["metadata"] = json!({"name": "api", "annotations": {
            "argocd.argoproj.io/tracking-id": "default_web:apps/Deployment:default/api"}});
        api.as_object_mut().unwrap().remove("status");
        context.cluster.create(DEPLOYMENTS, "default", &api, &WriteOptions::default()).await.unwrap();
        let before = lasting(context, APPLICATIONS).await;

        left_on(context, "web").await;
        left_on(context, "api").await;
        assert!(is_paused(&lasting(context, APPLICATIONS).await));
        end(context, first).await;
        assert!(is_paused(&lasting(context, APPLICATIONS).await), "the other session still wants it");
        end(context, if first == "web" { "api" } else { "web" }).await;
        assert_eq!(lasting(context, APPLICATIONS).await, before);
    }
}

#[tokio::test]
async fn a_pause_whose_record_is_gone_is_found_by_its_mark() {
    let world = world().await;
    let context = &world.context;
    let before = lasting(context, APPLICATIONS).await;
    left_on(context, "web").await;
    let sessions = gc::find(context, false, Duration::ZERO).await.unwrap();
    assert!(sessions.pauses.is_empty(), "it has a record: {sessions:?}");

    let lease = Object::new(LEASES, "default", "towline.deployment.web");
    context.cluster.delete(&lease, &DeleteOptions::default()).await.unwrap();
    let elsewhere = Context { namespace: "elsewhere".to_owned(), ..context.clone() };
    assert!(forgotten::find(&elsewhere, false).await.unwrap().is_empty(), "it is another namespace's");
    let found = gc::find(context, false, Duration::ZERO).await.unwrap();
    assert_eq!(found.pauses.len(), 1, "{found:?}");
    found.pauses[0].wake(context, &mut |_| ()).await.unwrap();
    assert_eq!(lasting(context, APPLICATIONS).await, before);
}
