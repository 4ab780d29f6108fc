//! The way in place: whatever others write and wherever we die, none of theirs is lost and none of ours is left.

use proptest::prelude::*;
use serde_json::{Value, json};
use towline_patcher::{
    DevPlan, Record, Way, base, change, dev_of, give_fields_back, history, hold, holder, lease, lease_name,
    verify, way_refusal,
};

use crate::deployments::{CANARY, plan};

fn original(kind: &str, replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "1", "generation": 1},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "terminationGracePeriodSeconds": 30,
                    "containers": [
                        {
                            "name": "web", "image": "shop:1", "command": ["serve", CANARY], "args": ["--all"],
                            "env": [{"name": "MODE", "value": CANARY}, {"name": "OTHER", "value": "1"}],
                            "livenessProbe": {"exec": {"command": ["ask", CANARY]}},
                            "resources": {"limits": {"cpu": "1"}},
                        },
                        {"name": "sidecar", "image": "side:1"},
                    ],
                },
            },
        },
    })
}

fn wishes() -> DevPlan {
    DevPlan {
        image: Some("dev:1".to_owned()),
        environment: vec![("MODE".to_owned(), "dev".to_owned()), ("NEW".to_owned(), "1".to_owned())],
        resources: Some(json!({"limits": {"memory": "1Gi"}})),
        security_context: Some(json!({"runAsUser": 1000})),
        node_selector: Some(json!({"disk": "ssd"})),
        annotations: [("note".to_owned(), "dev".to_owned())].into(),
        ..plan()
    }
}

/// What somebody else writes.
#[derive(Debug, Clone, Copy)]
enum Foreign {
    Image(u8),
    SameImage,
    Sidecar(u8),
    Command(u8),
    Variable(u8),
    NewVariable(u8),
    Probe,
    Label(u8),
    Annotation,
    Volume,
    Grace(u8),
    Replicas(u8),
    Limits,
    Selector,
}

impl Foreign {
    fn write(self, object: &mut Value) {
        let spec = &mut object["spec"];
        let template = &mut spec["template"];
        let pod = &mut template["spec"];
        let add = |list: &mut Value, item: Value, key: &str| {
            if list.is_null() {
                *list = json!([]);
            }
            let items = list.as_array_mut().unwrap();
            match items.iter_mut().find(|known| known[key] == item[key]) {
                Some(known) => *known = item,
                None => items.push(item),
            }
        };
        match self {
            Self::Image(n) => pod["containers"][0]["image"] = json!(format!("shop:2.{n}")),
            Self::SameImage => pod["containers"][0]["image"] = json!("shop:1"),
            Self::Sidecar(n) => pod["containers"][1]["image"] = json!(format!("side:2.{n}")),
            Self::Command(n) => pod["containers"][0]["command"] = json!(["serve", n.to_string()]),
            Self::Variable(n) => {
                add(
                    &mut pod["containers"][0]["env"],
                    json!({"name": "MODE", "value": n.to_string()}),
                    "name",
                );
            }
            Self::NewVariable(n) => {
                let item = json!({"name": format!("THEIRS{n}"), "value": "x"});
                add(&mut pod["containers"][0]["env"], item, "name");
            }
            Self::Probe => pod["containers"][0]["livenessProbe"] = json!({"tcpSocket": {"port": 80}}),
            Self::Label(n) => template["metadata"]["labels"]["team"] = json!(n.to_string()),
            Self::Annotation => template["metadata"]["annotations"]["theirs"] = json!("yes"),
            Self::Volume => add(&mut pod["volumes"], json!({"name": "theirs", "emptyDir": {}}), "name"),
            Self::Grace(n) => pod["terminationGracePeriodSeconds"] = json!(40 + u32::from(n)),
            Self::Replicas(n) => spec["replicas"] = json!(5 + u32::from(n)),
            Self::Limits => pod["containers"][0]["resources"]["limits"]["cpu"] = json!("2"),
            Self::Selector => pod["nodeSelector"]["zone"] = json!("a"),
        }
    }
}

/// One workload in dev mode, its twin that never is, and the templates that its controller keeps.
struct World {
    live: Value,
    twin: Value,
    kept: Vec<Value>,
    lease: Option<Value>,
}

impl World {
    fn new(kind: &str, replicas: i64) -> Self {
        let live = original(kind, replicas);
        let mut world = Self { twin: live.clone(), live, kept: Vec::new(), lease: None };
        world.keep();
        world
    }

    /// What the kind's controller does with each new template.
    fn keep(&mut self) {
        self.kept.push(json!({
            "metadata": {"ownerReferences": [{"uid": "u1", "controller": true}]},
            "spec": {"template": self.live["spec"]["template"]},
        }));
    }

    fn record(&self) -> Option<Record> {
        Some(hold(self.lease.as_ref()?).unwrap().record)
    }

    /// Enters dev mode, or takes what others wrote into it. Tells whether the write was made, when it is not to die
    /// after the record.
    fn enter(&mut self, dies: bool) {
        let holder = holder(&self.live, None).unwrap();
        assert_eq!(way_refusal(&self.live, &holder, Way::InPlace), None);
        let history = history(&self.live, &self.kept);
        let mut record = self.record().unwrap_or_else(|| {
            let dev = dev_of(&self.live, &holder, &wishes()).unwrap();
            Record::new(&self.live, &wishes(), &dev, "0.1.0").unwrap()
        });
        let found = base(&self.live, &record, &history);
        assert_eq!(found.missing, Vec::<String>::new());
        let dev = dev_of(&found.object, &holder, &wishes()).unwrap();
        let missing = record.observe_in_place(&self.live, &found.object, &dev.object, &history);
        assert_eq!(missing, Vec::<String>::new());
        let lease = lease(&lease_name("Deployment", "web"), &record, "ada@laptop", "t0", 60);
        assert!(!lease.to_string().contains(CANARY), "{lease}");
        assert_eq!(hold_any(&lease), record, "the record survives its Lease");
        self.lease = Some(lease);
        if !dies {
            if let Some(patch) = change(&self.live, &dev.object) {
                json_merge(&mut self.live["spec"], &patch["spec"]);
            }
            assert_eq!(self.live, dev.object, "the patch makes what was planned");
            self.keep();
        }
    }

    fn foreign(&mut self, foreign: Foreign) {
        foreign.write(&mut self.live);
        foreign.write(&mut self.twin);
        self.keep();
    }

    fn leave(&mut self) {
        let Some(record) = self.record() else { return };
        let history = history(&self.live, &self.kept);
        let found = base(&self.live, &record, &history);
        assert_eq!(found.missing, Vec::<String>::new());
        if let Some(patch) = change(&self.live, &found.object) {
            json_merge(&mut self.live["spec"], &patch["spec"]);
        }
        let again = base(&self.live, &record, &history);
        assert_eq!(change(&self.live, &again.object), None, "once is enough");
        assert!(give_fields_back(&self.live, &record, &found).is_none() || !found.was_ours);
        self.lease = None;
    }
}

fn hold_any(lease: &Value) -> Record {
    hold(lease).unwrap().record
}

fn json_merge(target: &mut Value, patch: &Value) {
    let Some(members) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in members {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            json_merge(&mut target[key.as_str()], value);
        }
    }
}

/// Puts lists that are merged by name into one order: who adds after us adds behind ours.
fn sorted(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(map) => map.values_mut().for_each(walk),
            Value::Array(items) => {
                items.iter_mut().for_each(walk);
                if items.iter().all(|item| item.get("name").is_some()) {
                    items.sort_by_key(|item| item["name"].to_string());
                }
            }
            _ => {}
        }
    }
    walk(&mut value);
    value
}

#[test]
fn there_and_back_for_each_kind_with_a_history() {
    for (kind, replicas) in [("Deployment", 3), ("StatefulSet", 3), ("StatefulSet", 1), ("DaemonSet", 1)] {
        let mut world = World::new(kind, replicas);
        let kind_of = |world: &World| world.live["spec"].clone();
        let before = kind_of(&world);
        let holder = holder(&world.live, None).unwrap();
        let dev = dev_of(&world.live, &holder, &wishes()).unwrap();
        assert_ne!(dev.object["spec"], before);
        let mut record = Record::new(&world.live, &wishes(), &dev, "0.1.0").unwrap();
        let known = history(&world.live, &world.kept);
        assert_eq!(
            record.observe_in_place(&world.live, &world.live, &dev.object, &known),
            Vec::<String>::new()
        );
        assert!(serde_json::to_string(&record).unwrap().len() < 8 * 1024, "it fits into the journal");
        world.live = dev.object;
        let back = base(&world.live, &record, &known);
        assert_eq!((back.object["spec"].clone(), back.kept.len()), (before, 0), "{kind}");
        assert_eq!(verify(Some(&back.object), &record, None), []);
        assert_ne!(verify(Some(&world.live), &record, None), [], "still in dev mode");
    }
}

#[test]
fn a_value_that_was_never_there_is_never_written() {
    let mut world = World::new("Deployment", 1);
    world.enter(false);
    let record = world.record().unwrap();
    let found = base(&world.live, &record, &[]);
    assert!(
        found.missing.iter().any(|path| path.ends_with("containers[name=web].image")),
        "{:?}",
        found.missing
    );
    assert_eq!(found.object["spec"]["template"]["spec"]["containers"][0]["image"], "dev:1");
    let strange = json!({"spec": {"containers": [{"name": "web", "image": "evil"}]}});
    assert_eq!(base(&world.live, &record, &[strange]).missing, found.missing);
}

fn any_foreign() -> impl Strategy<Value = Foreign> {
    prop_oneof![
        (0..3_u8).prop_map(Foreign::Image),
        Just(Foreign::SameImage),
        (0..3_u8).prop_map(Foreign::Sidecar),
        (0..3_u8).prop_map(Foreign::Command),
        (0..3_u8).prop_map(Foreign::Variable),
        (0..3_u8).prop_map(Foreign::NewVariable),
        Just(Foreign::Probe),
        (0..3_u8).prop_map(Foreign::Label),
        Just(Foreign::Annotation),
        Just(Foreign::Volume),
        (0..3_u8).prop_map(Foreign::Grace),
        (0..3_u8).prop_map(Foreign::Replicas),
        Just(Foreign::Limits),
        Just(Foreign::Selector),
    ]
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Enter,
    DieAtEnter,
    Leave,
    Write(Foreign),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn none_of_theirs_is_lost_and_none_of_ours_is_left(
        replicas in 1..4_i64,
        steps in proptest::collection::vec(
            prop_oneof![
                3 => Just(Step::Enter),
                1 => Just(Step::DieAtEnter),
                1 => Just(Step::Leave),
                5 => any_foreign().prop_map(Step::Write),
            ],
            1..14,
        ),
    ) {
        let mut world = World::new("Deployment", replicas);
        for step in steps {
            match step {
                Step::Enter => world.enter(false),
                Step::DieAtEnter => world.enter(true),
                Step::Leave => world.leave(),
                Step::Write(foreign) => world.foreign(foreign),
            }
        }
        world.leave();
        prop_assert_eq!(sorted(world.live["spec"].clone()), sorted(world.twin["spec"].clone()));
    }
}
