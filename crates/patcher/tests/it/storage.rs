//! Volumes of the manifest's own: claims, files, folders that are kept.

use serde_json::{Value, json};
use towline_patcher::{DevPlan, External, Kept, Record, SecretFile, SecretVolume, Storage, clone_of};

use crate::deployments::{plan, realistic, restricted};

fn kept(path: &str) -> Kept {
    Kept { path: path.to_owned(), sub_path: format!("data{path}") }
}

/// A claim with two folders, a claim of someone else's, and two files.
fn everything() -> Storage {
    Storage {
        claim: Some("web-towline".to_owned()),
        kept: vec![kept("/app"), kept("/cache")],
        external: vec![External {
            claim: "models".to_owned(),
            sub_path: Some("small".to_owned()),
            path: "/models".to_owned(),
        }],
        secret: Some(SecretVolume {
            name: "towline-abcd".to_owned(),
            digest: "0123".to_owned(),
            files: vec![file("a", "/etc/token", 0o400), file("b", "/etc/cert", 0o644)],
        }),
    }
}

fn file(key: &str, path: &str, mode: u32) -> SecretFile {
    SecretFile { key: key.to_owned(), path: path.to_owned(), mode }
}

fn pod(original: &Value, storage: Storage) -> Value {
    let plan = DevPlan { storage, ..plan() };
    clone_of(original, &plan).unwrap().object["spec"]["template"].take()
}

/// Returns the objects of a list that are ours, but for the agent's.
fn ours(list: &Value) -> Vec<Value> {
    let name = |object: &Value| object["name"].as_str().unwrap_or_default().to_owned();
    let own = ["towline-agent", "towline-run"];
    let all = list.as_array().cloned().unwrap_or_default();
    all.into_iter()
        .filter(|object| name(object).starts_with("towline-") && !own.contains(&&*name(object)))
        .collect()
}

#[test]
fn each_has_a_volume_and_a_mount() {
    let template = pod(&restricted(), everything());
    let spec = &template["spec"];
    assert_eq!(
        Value::from(ours(&spec["volumes"])),
        json!([
            {"name": "towline-kept", "persistentVolumeClaim": {"claimName": "web-towline"}},
            {"name": "towline-external-0", "persistentVolumeClaim": {"claimName": "models"}},
            {"name": "towline-secrets", "secret": {"secretName": "towline-abcd", "items": [
                {"key": "a", "path": "a", "mode": 0o400}, {"key": "b", "path": "b", "mode": 0o644}]}},
        ])
    );
    assert_eq!(
        Value::from(ours(&spec["containers"][0]["volumeMounts"])),
        json!([
            {"name": "towline-kept", "mountPath": "/app", "subPath": "data/app"},
            {"name": "towline-kept", "mountPath": "/cache", "subPath": "data/cache"},
            {"name": "towline-external-0", "mountPath": "/models", "subPath": "small"},
            {"name": "towline-secrets", "mountPath": "/etc/token", "subPath": "a", "readOnly": true},
            {"name": "towline-secrets", "mountPath": "/etc/cert", "subPath": "b", "readOnly": true},
        ])
    );
    let seeds = ours(&spec["initContainers"]);
    assert_eq!(seeds.len(), 2, "only what begins with the image's files: {seeds:?}");
    assert_eq!(
        seeds[1]["volumeMounts"][1],
        json!({"name": "towline-kept", "mountPath": "/.towline/seed", "subPath": "data/cache"})
    );
    assert_eq!(seeds[1]["command"][2], "/cache");
    assert_eq!(template["metadata"]["annotations"]["towline.dev/secrets"], "0123");
}

#[test]
fn without_a_claim_a_kept_folder_is_an_empty_dir() {
    let storage = Storage { kept: vec![kept("/a"), kept("/b")], ..Storage::default() };
    let template = pod(&restricted(), storage);
    let expected =
        json!([{"name": "towline-kept-0", "emptyDir": {}}, {"name": "towline-kept-1", "emptyDir": {}}]);
    assert_eq!(Value::from(ours(&template["spec"]["volumes"])), expected);
    assert_eq!(
        template["spec"]["securityContext"],
        restricted()["spec"]["template"]["spec"]["securityContext"]
    );
}

#[test]
fn a_claim_is_writable_for_the_containers_user_and_no_other_volume_changes_hands() {
    let claim = || Storage { claim: Some("c".to_owned()), kept: vec![kept("/app")], ..Storage::default() };
    let check = |original: &Value, storage: Storage, expected: Value| {
        assert_eq!(pod(original, storage)["spec"]["securityContext"]["fsGroup"], expected, "{original}");
    };
    let with = |pod_context: Value, container_context: Value, volumes: Value| {
        let mut original = restricted();
        let spec = &mut original["spec"]["template"]["spec"];
        spec["securityContext"] = pod_context;
        spec["containers"][0]["securityContext"] = container_context;
        spec["volumes"] = volumes;
        original
    };
    let none = || json!([]);
    check(&with(json!({}), json!({}), none()), claim(), json!(1000));
    check(&with(json!({"runAsUser": 7}), json!({}), none()), claim(), json!(7));
    check(
        &with(json!({"runAsUser": 7, "runAsGroup": 8}), json!({"runAsUser": 9}), none()),
        claim(),
        json!(8),
    );
    check(&with(json!({"fsGroup": 5}), json!({"runAsUser": 9}), none()), claim(), json!(5));
    check(&with(json!({"runAsUser": 7}), json!({"runAsUser": 0}), none()), claim(), Value::Null);
    let theirs = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
    check(&with(json!({"runAsUser": 7}), json!({}), theirs), claim(), Value::Null);
    let external = Storage {
        external: vec![External { claim: "x".to_owned(), sub_path: None, path: "/x".to_owned() }],
        ..claim()
    };
    check(&with(json!({"runAsUser": 7}), json!({}), none()), external, Value::Null);
}

#[test]
fn init_containers_may_have_resources_of_their_own() {
    let resources = json!({"limits": {"memory": "32Mi"}});
    let storage = Storage { kept: vec![kept("/app")], ..Storage::default() };
    let plan = DevPlan { storage, init_resources: Some(resources.clone()), ..plan() };
    let clone = clone_of(&restricted(), &plan).unwrap().object;
    let spec = &clone["spec"]["template"]["spec"];
    assert_eq!(ours(&spec["initContainers"])[0]["resources"], resources);
    assert_ne!(spec["containers"][0]["resources"], resources);
}

#[test]
fn the_agent_may_come_out_of_an_image() {
    let storage = Storage { kept: vec![kept("/app")], ..Storage::default() };
    let mut plan = DevPlan { storage, ..plan() };
    plan.agent.image = Some("registry.example/agent:1".to_owned());
    let clone = clone_of(&restricted(), &plan).unwrap().object;
    let spec = &clone["spec"]["template"]["spec"];
    let agent = spec["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "towline-agent");
    assert_eq!(agent.unwrap()["emptyDir"], json!({"sizeLimit": "16Mi"}));
    let init = spec["initContainers"].as_array().unwrap();
    let names: Vec<_> = init.iter().map(|container| container["name"].as_str().unwrap()).collect();
    let (first, second) = (names.len() - 2, names.len() - 1);
    assert_eq!(names[first..], ["towline-agent", "towline-seed"], "what fills folders runs the agent");
    assert_eq!(init[first]["image"], "registry.example/agent:1");
    assert_eq!(
        init[first]["command"],
        json!(["/.towline/bin/agent", "seed", "/.towline/bin", "/.towline/seed"])
    );
    assert_eq!(
        init[first]["volumeMounts"],
        json!([{"name": "towline-agent", "mountPath": "/.towline/seed"}])
    );
    let own = &restricted()["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(init[first]["securityContext"], own["securityContext"]);
    assert!(!clone.to_string().contains("configMap\":{\"defaultMode"), "no ConfigMap is mounted");
    assert_eq!(init[second]["volumeMounts"][0]["name"], "towline-agent");
}

#[test]
fn what_does_not_fit_is_said() {
    let check = |storage: Storage, expected: &str| {
        let error = clone_of(&realistic(), &DevPlan { storage, ..plan() }).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let one = |path: &str| Storage { kept: vec![kept(path)], ..Storage::default() };
    check(one("relative"), "is no folder that a volume can be mounted at");
    check(one("/.towline/bin"), "is no folder that a volume can be mounted at");
    check(
        Storage { kept: vec![kept("/a"), kept("/a/")], ..Storage::default() },
        "already mounts a volume at /a/",
    );
    let twice = Storage {
        secret: Some(SecretVolume {
            name: "s".to_owned(),
            digest: String::new(),
            files: vec![file("a", "/t", 0o400), file("b", "/t", 0o400)],
        }),
        ..Storage::default()
    };
    check(twice, "already mounts a volume at /t");
}

#[test]
fn other_files_are_another_clone_and_the_record_knows_what_is_ours() {
    let record = |storage: Storage| {
        let plan = DevPlan { storage, ..plan() };
        let clone = clone_of(&restricted(), &plan).unwrap();
        Record::new(&restricted(), &plan, &clone, "test").unwrap()
    };
    let first = record(everything());
    assert_eq!(
        (first.claim.as_deref(), first.secret.as_deref()),
        (Some("web-towline"), Some("towline-abcd"))
    );
    let mut other = everything();
    other.secret.as_mut().unwrap().digest = "4567".to_owned();
    assert_ne!(first.clone_spec_hash, record(other).clone_spec_hash);
    let undo = towline_patcher::how_to_undo(&first);
    assert!(undo.contains("delete secret towline-abcd --ignore-not-found"), "{undo}");
    assert!(!undo.contains("web-towline"), "the claim stays: {undo}");
}
