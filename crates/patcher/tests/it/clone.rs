//! Clones of whole workloads.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};
use towline_patcher::{
    DevPlan, HIDDEN, Hook, Lifecycle, PlanError, Probes, Record, clone_of, park, pod_of, read_back,
};

use crate::deployments::{CANARY, SESSION, any_deployment, plan, realistic, restricted};

/// A plan that says everything.
fn full_plan() -> DevPlan {
    DevPlan {
        container: Some("api".to_owned()),
        image: Some("shop/api-dev:2".to_owned()),
        image_pull_policy: Some("Always".to_owned()),
        environment: vec![
            ("MODE".to_owned(), "first".to_owned()),
            ("TOKEN".to_owned(), CANARY.to_owned()),
            ("MODE".to_owned(), "development".to_owned()),
            ("NEW".to_owned(), String::new()),
        ],
        workdir: Some("/src".to_owned()),
        resources: Some(json!({"limits": {"memory": "2Gi"}, "requests": {"cpu": null}})),
        security_context: Some(
            json!({"runAsUser": 1000, "fsGroup": 1000, "capabilities": {"add": ["SYS_PTRACE"]}}),
        ),
        node_selector: Some(json!({"pool": null, "disk": "ssd"})),
        tolerations: vec![json!({"key": "dev", "operator": "Exists"})],
        affinity: Some(json!({"nodeAffinity": {}})),
        priority_class_name: Some("dev".to_owned()),
        service_account: Some("dev".to_owned()),
        labels: BTreeMap::from([
            ("team".to_owned(), "blue".to_owned()),
            ("app".to_owned(), "api".to_owned()),
        ]),
        annotations: BTreeMap::from([("note".to_owned(), "dev".to_owned())]),
        arch_selector: Some("amd64".to_owned()),
        scratch: vec!["/src".to_owned(), "/cache".to_owned()],
        ..plan()
    }
}

#[test]
fn realistic_workload() {
    let clone = clone_of(&realistic(), &full_plan()).unwrap();
    insta::with_settings!({sort_maps => true}, { insta::assert_json_snapshot!("realistic", clone.object) });
    let changes: Vec<_> = clone
        .changes
        .iter()
        .map(|change| {
            let show = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), Value::to_string);
            format!(
                "{}: {} -> {} ({})",
                change.path,
                show(&change.before),
                show(&change.after),
                change.reason
            )
        })
        .collect();
    insta::assert_snapshot!("realistic_changes", changes.join("\n"));
    insta::assert_snapshot!(
        clone.down_first.unwrap(),
        @"volume claim api-data may be usable by one node or pod at a time"
    );
}

#[test]
fn restricted_workload_stays_restricted() {
    let plan = DevPlan { scratch: vec!["/app".to_owned()], ..plan() };
    let clone = clone_of(&restricted(), &plan).unwrap();
    insta::with_settings!({sort_maps => true}, { insta::assert_json_snapshot!("restricted_pod", pod_of(&clone.object)) });
    assert_eq!(clone.down_first, None);
    let pod = &clone.object["spec"]["template"]["spec"];
    let before = &restricted()["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"], before["securityContext"]);
    for container in [&pod["containers"][0], &pod["initContainers"][0]] {
        assert_eq!(container["securityContext"], before["containers"][0]["securityContext"]);
        assert_eq!(container["resources"], before["containers"][0]["resources"]);
    }
}

#[test]
fn keeps_probes_and_hooks_on_demand() {
    let plan = DevPlan {
        container: Some("api".to_owned()),
        keep_probes: Probes { liveness: false, readiness: true, startup: false },
        lifecycle: Lifecycle { post_start: Hook::Dropped, pre_stop: Hook::Kept },
        ..plan()
    };
    let pod = clone_of(&realistic(), &plan).unwrap().object["spec"]["template"]["spec"].take();
    let container = &pod["containers"][1];
    let there = |key: &str| container.get(key).is_some();
    assert_eq!(
        (there("livenessProbe"), there("readinessProbe"), there("startupProbe")),
        (false, true, false)
    );
    assert_eq!(container["lifecycle"], json!({"preStop": {"sleep": {"seconds": 5}}}));
    assert_eq!(pod["terminationGracePeriodSeconds"], 45);
    assert!(pod["containers"][0].get("readinessProbe").is_some(), "the sidecar keeps its own");
}

#[test]
fn hooks_from_the_manifest_run_in_place_of_the_workloads() {
    let runs = |word: &str| Hook::Runs(vec![word.to_owned()]);
    let exec = |word: &str| json!({"exec": {"command": [word]}});
    let check = |post_start: Hook, pre_stop: Hook, expected: Option<Value>, grace: i64| {
        let lifecycle = Lifecycle { post_start, pre_stop };
        let plan = DevPlan { container: Some("api".to_owned()), lifecycle, ..plan() };
        let pod = clone_of(&realistic(), &plan).unwrap().object["spec"]["template"]["spec"].take();
        assert_eq!(pod["containers"][1].get("lifecycle"), expected.as_ref());
        assert_eq!(pod["terminationGracePeriodSeconds"], grace);
    };
    check(Hook::Dropped, Hook::Dropped, None, 0);
    check(Hook::Dropped, runs("bye"), Some(json!({"preStop": exec("bye")})), 45);
    check(runs("hello"), Hook::Dropped, Some(json!({"postStart": exec("hello")})), 0);
    let kept = json!({"preStop": {"sleep": {"seconds": 5}}, "postStart": exec("hello")});
    check(runs("hello"), Hook::Kept, Some(kept), 45);
    let plan = DevPlan { lifecycle: Lifecycle { post_start: Hook::Kept, pre_stop: Hook::Kept }, ..plan() };
    let pod = clone_of(&restricted(), &plan).unwrap().object["spec"]["template"]["spec"].take();
    assert_eq!(pod["containers"][0].get("lifecycle"), None, "there is none to keep");
}

#[test]
fn values_of_variables_are_not_in_the_changes() {
    let original = {
        let mut original = realistic();
        original["spec"]["template"]["spec"]["containers"][1]["env"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "PASSWORD", "value": CANARY}));
        original
    };
    let plan = DevPlan {
        container: Some("api".to_owned()),
        environment: vec![("PASSWORD".to_owned(), format!("{CANARY}-new"))],
        ..plan()
    };
    let clone = clone_of(&original, &plan).unwrap();
    let of_env: Vec<_> = clone.changes.iter().filter(|change| change.path.contains(".env[")).collect();
    assert_eq!(of_env.len(), 1);
    assert_eq!(of_env[0].before, Some(json!(HIDDEN)));
    assert!(!format!("{of_env:?}").contains(CANARY));
    let env = clone.object["spec"]["template"]["spec"]["containers"][1]["env"].as_array().unwrap();
    let ours: Vec<_> = env.iter().filter(|variable| variable["name"] == "PASSWORD").collect();
    assert_eq!(ours, [&json!({"name": "PASSWORD", "value": format!("{CANARY}-new")})]);
}

#[test]
fn plans_that_do_not_fit() {
    let check = |original: Value, plan: DevPlan, expected: &str| {
        let error = clone_of(&original, &plan).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    let label = |key: &str, value: &str| DevPlan {
        labels: BTreeMap::from([(key.to_owned(), value.to_owned())]),
        ..plan()
    };
    let scratch = |folder: &str| DevPlan { scratch: vec![folder.to_owned()], ..plan() };
    let security = |context: Value| DevPlan { security_context: Some(context), ..plan() };
    let with = |pointer: &str, value: Value| {
        let mut original = restricted();
        *original.pointer_mut(pointer).unwrap() = value;
        original
    };
    check(
        realistic(),
        DevPlan { container: Some("web".to_owned()), ..plan() },
        "no container \"web\": there is proxy, api",
    );
    check(realistic(), label("app", "x"), "label app cannot be changed: the workload selects its pods by it");
    check(
        realistic(),
        label("track", "x"),
        "label track cannot be changed: the workload selects its pods by it",
    );
    check(
        realistic(),
        label("towline.dev/session", "x"),
        "label towline.dev/session is set by towline itself",
    );
    check(realistic(), label("a", "b c"), "\"b c\" cannot be the value of label a");
    check(realistic(), DevPlan { session: "A b".to_owned(), ..plan() }, "\"A b\" is no session id");
    check(
        realistic(),
        DevPlan { container: Some("api".to_owned()), ..scratch("/app/uploads/") },
        "container api already mounts a volume at /app/uploads/",
    );
    for folder in ["", "/", "src", "/a/../b", "/.towline/run", "/a:b"] {
        let error = clone_of(&restricted(), &scratch(folder)).unwrap_err();
        assert_eq!(error, PlanError::Folder { path: folder.to_owned() });
    }
    check(
        restricted(),
        security(json!({"runAsUser": 0})),
        "securityContext.runAsUser 0 contradicts runAsNonRoot true of the pod: say runAsNonRoot false as well, or another user",
    );
    assert!(clone_of(&restricted(), &security(json!({"runAsUser": 0, "runAsNonRoot": false}))).is_ok());
    check(restricted(), security(json!([])), "securityContext of the manifest is missing or not an object");
    check(
        with("/spec/template/spec/containers", json!([])),
        plan(),
        "spec.template.spec.containers is missing or not a list of containers",
    );
    check(
        with("/spec/template/spec/containers", json!([1])),
        plan(),
        "spec.template.spec.containers is missing or not a list of objects",
    );
    check(with("/spec/template", json!("x")), plan(), "spec.template is missing or not an object");
    check(with("/spec", json!(null)), plan(), "spec is missing or not an object");
    check(with("/metadata/uid", json!(7)), plan(), "metadata.uid is missing or not a string");
}

#[test]
fn park_is_guarded_and_touches_one_field() {
    let clone = clone_of(&realistic(), &plan()).unwrap();
    let record = Record::new(&realistic(), &plan(), &clone, "0.1.0").unwrap();
    assert_eq!(
        park(&realistic(), &record),
        json!({"metadata": {"uid": "0f2c", "resourceVersion": "4711"}, "spec": {"replicas": 0}})
    );
}

/// Takes away everything that a plan without wishes changes.
fn untouched(object: &Value) -> Value {
    let mut spec = object["spec"].clone();
    let remove = |value: &mut Value, keys: &[&str]| {
        let members = value.as_object_mut().unwrap();
        for key in keys {
            members.remove(*key);
        }
    };
    remove(&mut spec, &["replicas", "strategy", "progressDeadlineSeconds", "paused", "minReadySeconds"]);
    remove(&mut spec["selector"]["matchLabels"], &["towline.dev/session"]);
    let ours = [
        "towline.dev/session",
        "dev.okteto.com",
        "interactive.dev.okteto.com",
        "app.kubernetes.io/managed-by",
    ];
    remove(&mut spec["template"]["metadata"]["labels"], &ours);
    let pod = &mut spec["template"]["spec"];
    remove(pod, &["terminationGracePeriodSeconds"]);
    let drop_ours = |list: &mut Value| {
        let name = |item: &Value| item["name"].as_str().unwrap_or_default().to_owned();
        let kept: Vec<_> = list
            .as_array()
            .into_iter()
            .flatten()
            .filter(|item| !name(item).starts_with("towline-"))
            .cloned()
            .collect();
        *list = json!(kept);
    };
    drop_ours(&mut pod["volumes"]);
    let container = &mut pod["containers"][0];
    drop_ours(&mut container["volumeMounts"]);
    let process =
        ["command", "args", "stdin", "tty", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"];
    remove(container, &process);
    spec
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn everything_else_is_kept_verbatim(mut original in any_deployment()) {
        original["metadata"]["uid"] = json!("u");
        let clone = clone_of(&original, &plan()).unwrap();
        prop_assert_eq!(untouched(&clone.object), untouched(&original));
        prop_assert_eq!(&clone, &clone_of(&original, &plan()).unwrap());
        prop_assert_eq!(read_back(&clone.object, &clone.object), []);
        prop_assert_eq!(read_back(&pod_of(&clone.object), &pod_of(&clone.object)), []);
        let template = &clone.object["spec"]["template"];
        prop_assert_eq!(&template["metadata"]["labels"]["towline.dev/session"], SESSION);
        prop_assert_eq!(&clone.object["spec"]["selector"]["matchLabels"]["towline.dev/session"], SESSION);
        let metadata: BTreeSet<_> = clone.object["metadata"].as_object().unwrap().keys().map(String::as_str).collect();
        prop_assert_eq!(metadata, BTreeSet::from(["annotations", "labels", "name", "namespace", "ownerReferences"]));
    }

    #[test]
    fn a_removed_field_is_found(mut original in any_deployment(), pick in any::<prop::sample::Index>()) {
        original["metadata"]["uid"] = json!("u");
        let sent = clone_of(&original, &plan()).unwrap().object;
        // Whatever member of the dev container is taken away, it is missed, unless it is an empty one.
        let mut stored = sent.clone();
        let container = stored["spec"]["template"]["spec"]["containers"][0].as_object_mut().unwrap();
        let key = container.keys().nth(pick.index(container.len())).unwrap().clone();
        let gone = container.remove(&key).unwrap();
        let empty = gone == json!("") || gone == json!([]);
        prop_assert_eq!(read_back(&sent, &stored).is_empty(), empty, "{}", key);
    }
}
