//! Many commands use one folder at once, and none has to run for the pods to live.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use futures::StreamExt;
use serde_json::json;
use towline_cluster::embedded::open;
use towline_cluster::port::{
    CONFIG_MAPS, DEPLOYMENTS, LEASES, Object, Patch, Selection, WatchEvent, WriteOptions,
};
use towline_cluster::{Cluster, ClusterError};

use super::{World, deployment, is_running, name, processes_of, shell, uid};

#[test]
fn of_eight_creates_of_one_lease_exactly_one_wins() {
    let world = World::new();
    let barrier = std::sync::Barrier::new(8);
    let outcomes: Vec<Result<String, ClusterError>> = std::thread::scope(|scope| {
        let contenders: Vec<_> = (0..8)
            .map(|number| {
                let (world, barrier) = (&world, &barrier);
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    let cluster = world.second();
                    let body = json!({"metadata": {"name": "session"}, "spec": {"holderIdentity": format!("{number}")}});
                    barrier.wait();
                    let created = runtime.block_on(cluster.create(LEASES, "default", &body, &WriteOptions::default()));
                    created.map(|lease| lease["spec"]["holderIdentity"].as_str().unwrap().to_owned())
                })
            })
            .collect();
        contenders.into_iter().map(|contender| contender.join().unwrap()).collect()
    });
    let winners: Vec<&String> = outcomes.iter().flatten().collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    assert!(
        outcomes.iter().all(|one| matches!(one, Ok(_) | Err(ClusterError::AlreadyExists { .. }))),
        "{outcomes:?}"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stored = runtime.block_on(world.get(LEASES, "session")).unwrap();
    assert_eq!(stored["spec"]["holderIdentity"], **winners[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_change_of_many_writers_is_lost() {
    let world = World::new();
    world.create(CONFIG_MAPS, json!({"metadata": {"name": "count"}, "data": {"n": "0"}})).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let cluster = world.second();
        writers.spawn(async move {
            let object = Object::new(CONFIG_MAPS, "default", "count");
            let mut done = 0;
            while done < 5 {
                let mut live = cluster.get(&object).await.unwrap();
                let next = live["data"]["n"].as_str().unwrap().parse::<u32>().unwrap() + 1;
                live["data"]["n"] = json!(next.to_string());
                match cluster.replace(&object, &live, &WriteOptions::default()).await {
                    Ok(_) => done += 1,
                    Err(ClusterError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    writers.join_all().await;
    assert_eq!(world.get(CONFIG_MAPS, "count").await.unwrap()["data"]["n"], "20");
}

#[tokio::test]
async fn one_handle_sees_by_watch_what_another_does() {
    let world = World::new();
    let other = world.second();
    let labels = vec![("app".to_owned(), "web".to_owned())];
    let selection = Selection { name: None, labels };
    let mut watch = other.watch(CONFIG_MAPS, "default", &selection).await.unwrap();
    assert!(matches!(watch.next().await, Some(WatchEvent::Restarted(all)) if all.is_empty()));
    let body = json!({"metadata": {"name": "a", "labels": {"app": "web"}}});
    let first = world.create(CONFIG_MAPS, body.clone()).await.unwrap();
    world.create(CONFIG_MAPS, json!({"metadata": {"name": "b"}})).await.unwrap();
    assert!(matches!(watch.next().await, Some(WatchEvent::Applied(one)) if one == first));
    let second = world.merge(CONFIG_MAPS, "a", json!({"data": {"k": "v"}})).await.unwrap();
    assert!(matches!(watch.next().await, Some(WatchEvent::Applied(one)) if one == second));
    world.merge(CONFIG_MAPS, "a", json!({"metadata": {"labels": {"app": "other"}}})).await.unwrap();
    assert!(
        matches!(watch.next().await, Some(WatchEvent::Deleted(one)) if one == second),
        "out of the selection"
    );
    world.delete(CONFIG_MAPS, "a").await.unwrap();
    let again = world.create(CONFIG_MAPS, body).await.unwrap();
    assert_ne!(uid(&again), uid(&first));
    assert!(matches!(watch.next().await, Some(WatchEvent::Applied(one)) if one == again));
}

#[tokio::test]
async fn a_broken_folder_interrupts_a_watch_once_and_it_goes_on_when_mended() {
    let world = World::new();
    let mut watch = world.watch(CONFIG_MAPS).await;
    assert!(matches!(watch.next().await, Some(WatchEvent::Restarted(_))));
    let version = world.state().join("version");
    let good = fs::read(&version).unwrap();
    let staged = world.folder.path().join("staged");
    fs::write(&staged, "nonsense").unwrap();
    fs::rename(&staged, &version).unwrap();
    assert!(matches!(watch.next().await, Some(WatchEvent::Interrupted(ClusterError::Unreachable { .. }))));
    fs::write(&version, good).unwrap();
    assert!(matches!(watch.next().await, Some(WatchEvent::Restarted(_))));
}

#[tokio::test]
async fn hostile_files_are_errors_not_panics() {
    let world = World::new();
    world.create(CONFIG_MAPS, json!({"metadata": {"name": "a"}})).await.unwrap();
    let path = world.state().join("default/configmaps/a.json");
    for text in ["", "{", "[]", "null", "{\"metadata\": 7}"] {
        fs::write(&path, text).unwrap();
        let error = world.get(CONFIG_MAPS, "a").await.unwrap_err();
        assert!(
            matches!(&error, ClusterError::Unreachable { message, .. } if message.contains("a.json")),
            "{text}: {error}"
        );
    }
    fs::write(&path, "{}").unwrap();
    let object = Object::new(CONFIG_MAPS, "default", "a");
    let change = Patch::Merge(json!({"data": {"k": "v"}}));
    world.cluster.patch(&object, &change, &WriteOptions::default()).await.unwrap();
}

#[test]
fn pods_outlive_the_command_and_are_found_by_the_next() {
    let world = World::new();
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let first = runtime();
    let pod = first.block_on(async {
        world.create(DEPLOYMENTS, deployment("web", 1, shell("exec tail -f /dev/null"))).await.unwrap();
        world.until_pod(is_running).await
    });
    drop(first);
    let before = processes_of(&pod);
    assert!(!before.is_empty());
    runtime().block_on(async {
        let cluster = world.second();
        let live =
            cluster.get(&Object::new(towline_cluster::port::PODS, "default", name(&pod))).await.unwrap();
        assert!(is_running(&live));
        assert_eq!(live["status"]["containerStatuses"][0]["restartCount"], 0);
        assert_eq!(processes_of(&pod), before, "the same processes");
        cluster
            .patch(
                &Object::new(DEPLOYMENTS, "default", "web"),
                &Patch::Merge(json!({"spec": {"replicas": 0}})),
                &WriteOptions::default(),
            )
            .await
            .unwrap();
    });
    assert!(processes_of(&pod).is_empty());
}

#[tokio::test]
async fn images_are_known_to_commands_that_do_not_bring_them() {
    let world = World::new();
    let other = world.second();
    let body = deployment("web", 1, json!({"image": "shell:latest"}));
    other.create(DEPLOYMENTS, "default", &body, &WriteOptions::default()).await.unwrap();
    world.until_pod(is_running).await;
}

#[tokio::test]
async fn everything_is_private() {
    let world = World::new();
    world.create(CONFIG_MAPS, json!({"metadata": {"name": "a"}})).await.unwrap();
    let mode = |path: &str| fs::metadata(world.state().join(path)).unwrap().permissions().mode() & 0o777;
    for (path, expected) in [
        ("", 0o700),
        ("default/configmaps", 0o700),
        ("default/configmaps/a.json", 0o600),
        ("version", 0o600),
        ("lock", 0o600),
    ] {
        assert_eq!(mode(path), expected, "{path}");
    }
}

#[test]
fn a_folder_that_can_not_be_made_is_an_error() {
    let world = World::new();
    let file = world.folder.path().join("file");
    fs::write(&file, "").unwrap();
    let options = towline_cluster::embedded::EmbeddedOptions {
        state_dir: file,
        agent: "/nonexistent".into(),
        namespace: None,
        images: Vec::new(),
        path_env: String::new(),
    };
    assert!(matches!(open(options), Err(ClusterError::Unreachable { .. })));
}
