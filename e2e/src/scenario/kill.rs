//! The laptop dies at some moment of `up`; someone else, elsewhere and without the manifest, leads back.

use std::collections::BTreeSet;

use futures::StreamExt;
use towline_cluster::port::{LEASES, Selection, WatchEvent};

use crate::adapter::Adapter;
use crate::app::{App, NAME};
use crate::kinds;
use crate::log::label;
use crate::project::Project;
use crate::snapshot::Snapshot;
use crate::towline::Towline;
use crate::waiting::{self, is_settled};
use towline_cluster::port::DEPLOYMENTS;

/// Kills `up` after the first event of each sort, and ends the session from another machine.
pub async fn after_each_event(adapter: &dyn Adapter) {
    let app = App::deploy(adapter, 2 - u32::from(!adapter.is_real())).await;
    let before = Snapshot::of(adapter).await;
    let mut done = BTreeSet::new();
    loop {
        let (project, _) = app.project(adapter, "").await;
        let mut up = Towline::new(adapter, &project).start(&["up"]);
        let event = up
            .next_where("an event that no earlier run was killed at", |event| !done.contains(&label(event)))
            .await;
        let event = event.unwrap_or_else(|| panic!("ended by itself:\n{}", up.log()));
        up.kill().await;
        let moment = label(&event);
        assert_ne!(moment, "error", "{}", up.log());
        eprintln!("killed after: {moment}");
        lead_back(adapter, &before, &moment).await;
        done.insert(moment.clone());
        if moment == "state ready" {
            break;
        }
    }
    assert!(done.len() > 5, "{done:?}");
    // Ready for good: the original is parked only after that where both fit.
    let (project, _) = app.project(adapter, "").await;
    let mut up = Towline::new(adapter, &project).start(&["up"]);
    up.until_state("ready").await;
    waiting::object(adapter, DEPLOYMENTS, NAME, |found| found["spec"]["replicas"] == 0).await;
    up.kill().await;
    lead_back(adapter, &before, "the original was scaled down").await;
}

/// Kills `up` at the instant that its record appears.
pub async fn at_the_record(adapter: &dyn Adapter) {
    let app = App::deploy(adapter, 1).await;
    let before = Snapshot::of(adapter).await;
    let (project, _) = app.project(adapter, "").await;
    let mut leases =
        adapter.cluster().watch(LEASES, adapter.namespace(), &Selection::default()).await.unwrap();
    let mut up = Towline::new(adapter, &project).start(&["up"]);
    let appeared = async {
        loop {
            match leases.next().await.expect("a watch never ends") {
                WatchEvent::Applied(_) => break,
                WatchEvent::Restarted(found) if !found.is_empty() => break,
                WatchEvent::Restarted(_) | WatchEvent::Deleted(_) | WatchEvent::Interrupted(_) => {}
            }
        }
    };
    tokio::time::timeout(waiting::PATIENCE, appeared).await.expect("the record is the first thing written");
    up.kill().await;
    lead_back(adapter, &before, "the record was written").await;
}

async fn lead_back(adapter: &dyn Adapter, before: &Snapshot, moment: &str) {
    // No manifest, another state folder, another person.
    let elsewhere = Project::new();
    let towline = Towline::new(adapter, &elsewhere).with("USER", "bob");
    let leases =
        adapter.cluster().list(LEASES, Some(adapter.namespace()), &Selection::default()).await.unwrap();
    if leases.is_empty() {
        assert_eq!(before.differences(&Snapshot::of(adapter).await), Vec::<String>::new(), "after {moment}");
        return;
    }
    assert_eq!(leases.iter().map(kinds::name).collect::<Vec<_>>(), [format!("towline.deployment.{NAME}")]);
    let refused = towline.run(&["down"]).await.expect(1);
    let error = refused.log.error();
    assert!(error["message"].as_str().is_some_and(|message| message.contains("ann@")), "{error}");
    let restored = towline.run(&["down", "--force"]).await.expect(0);
    let said = restored.log.of_kind("restored").next().expect("it says what became of it");
    assert_eq!(said["exact"], true, "after {moment}: {said}");
    before.expect_unchanged(adapter).await;
    waiting::object(adapter, DEPLOYMENTS, NAME, is_settled).await;
}
