//! The heart: whatever happens and wherever we die, what we touched returns and what others touched stays.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::deployments::any_deployment;
use crate::server::load_owners;
use crate::world::{Foreign, HISTORIES, History, World};

/// A Deployment whose pods may overlap, or not.
fn original(down_first: bool) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "api"}},
        "spec": {
            "replicas": 3,
            "strategy": {"type": if down_first { "Recreate" } else { "RollingUpdate" }},
            "selector": {"matchLabels": {"app": "api"}},
            "template": {
                "metadata": {"labels": {"app": "api"}},
                "spec": {"containers": [{"name": "c0", "image": "shop/api:1"}]},
            },
        },
    })
}

/// The object without what every write changes.
fn settled(object: &Value) -> Value {
    let mut object = object.clone();
    for key in ["resourceVersion", "generation"] {
        object["metadata"].as_object_mut().unwrap().remove(key);
    }
    object
}

fn is_replicas(field: &[String]) -> bool {
    field == ["f:spec", "f:replicas"]
}

/// Who owns `spec.replicas`.
fn replicas_owners(object: &Value) -> BTreeSet<String> {
    load_owners(object)
        .into_iter()
        .filter(|owner| owner.fields.iter().any(|field| is_replicas(field)))
        .map(|owner| owner.manager)
        .collect()
}

/// Who owns everything else.
fn other_owners(object: &Value) -> BTreeSet<(String, Vec<String>)> {
    load_owners(object)
        .into_iter()
        .flat_map(|owner| owner.fields.into_iter().map(move |field| (owner.manager.clone(), field)))
        .filter(|(_, field)| !is_replicas(field))
        .collect()
}

/// Compares a world with its twin after the session.
fn assert_restored(world: &World) {
    let ours = world.ours.get("Deployment", "web").unwrap();
    let twin = world.twin.get("Deployment", "web").unwrap();
    assert_eq!(world.ours.names(), ["Deployment/web"], "something of ours is left");
    let touches = world.done.iter().filter(|foreign| foreign.touches_replicas()).count();
    let (mut a, mut b) = (settled(&ours), settled(&twin));
    if touches == 0 {
        assert_eq!(a, b);
        return;
    }
    // Somebody else wrote the very field: the values are the twin's, and so are the owners of all other fields.
    // Who owned it before us and did not let go may be an owner beside the twin's, never the other way round.
    assert_eq!(other_owners(&ours), other_owners(&twin));
    let (ours, twin) = (replicas_owners(&ours), replicas_owners(&twin));
    assert!(ours.is_superset(&twin), "{ours:?} {twin:?}");
    assert!(!ours.contains("towline"), "{ours:?}");
    if touches == 1 {
        assert_eq!(ours, twin);
    }
    for object in [&mut a, &mut b] {
        object["metadata"].as_object_mut().unwrap().remove("managedFields");
    }
    assert_eq!(a, b);
}

fn histories() -> impl Iterator<Item = (History, bool)> {
    HISTORIES.into_iter().flat_map(|history| [(history, false), (history, true)])
}

/// Returns how many calls a whole session makes.
fn calls(history: History, down_first: bool) -> usize {
    let mut world = World::new(history, &original(down_first), Vec::new(), Vec::new());
    assert_eq!(world.run(1), Some(Vec::new()), "{history:?}");
    assert_restored(&world);
    world.calls
}

#[test]
fn dies_at_every_call() {
    let mut deaths = 0;
    for (history, down_first) in histories() {
        for at in 0..calls(history, down_first) {
            for after in [false, true] {
                let mut world = World::new(history, &original(down_first), Vec::new(), vec![(at, after)]);
                let differences = world.run(1);
                assert!(
                    differences.is_none_or(|differences| differences.is_empty()),
                    "{history:?} {at} {after}"
                );
                assert_restored(&world);
                deaths += 1;
            }
        }
    }
    assert!(deaths > 200, "{deaths}");
}

#[test]
fn others_write_before_every_call() {
    let writers = [
        Foreign::Image,
        Foreign::Label,
        Foreign::UnknownField,
        Foreign::Scale,
        Foreign::ScaleSubresource,
        Foreign::Sync,
        Foreign::SyncLive,
        Foreign::Recreate,
    ];
    for (history, down_first) in histories() {
        for at in 0..calls(history, down_first) {
            for writer in writers {
                let mut world = World::new(history, &original(down_first), vec![(at, writer)], Vec::new());
                world.run(1);
                assert_restored(&world);
            }
        }
    }
}

#[test]
fn a_controller_that_scales_back_is_met_three_times() {
    let schedule = (8..60).map(|at| (at, Foreign::Scale)).collect();
    let mut world = World::new(History::Applied, &original(false), schedule, Vec::new());
    world.run(10);
    assert_restored(&world);
}

#[test]
fn what_others_changed_is_reported() {
    let report = |writer| {
        let mut world = World::new(History::Applied, &original(false), vec![(9, writer)], Vec::new());
        let differences = world.run(0).unwrap();
        differences.into_iter().map(|found| (found.path, found.owner.unwrap_or_default())).collect::<Vec<_>>()
    };
    let check = |writer, expected: &[(&str, &str)]| {
        let expected: Vec<_> =
            expected.iter().map(|(path, owner)| ((*path).to_owned(), (*owner).to_owned())).collect();
        assert_eq!(report(writer), expected, "{writer:?}");
    };
    check(Foreign::Label, &[]);
    check(Foreign::Image, &[("spec.template", "ci")]);
    check(Foreign::Scale, &[("spec.replicas", "kubectl"), ("metadata.managedFields", "kubectl")]);
    check(Foreign::Sync, &[]);
    check(Foreign::Recreate, &[("metadata.uid", "")]);
}

fn any_foreign() -> impl Strategy<Value = Foreign> {
    prop_oneof![
        3 => Just(Foreign::Image),
        2 => Just(Foreign::Label),
        1 => Just(Foreign::RemoveLabel),
        2 => Just(Foreign::UnknownField),
        2 => Just(Foreign::Scale),
        2 => Just(Foreign::ScaleSubresource),
        3 => Just(Foreign::Sync),
        2 => Just(Foreign::SyncLive),
        1 => Just(Foreign::Recreate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_deployment_any_writers_any_deaths(
        original in any_deployment(),
        history in proptest::sample::select(&HISTORIES[..]),
        schedule in proptest::collection::vec((0..30usize, any_foreign()), 0..6),
        crashes in proptest::collection::vec((0..30usize, any::<bool>()), 0..4),
        watch in 0..4usize,
    ) {
        let mut world = World::new(history, &original, schedule, crashes);
        world.run(watch);
        assert_restored(&world);
    }
}
