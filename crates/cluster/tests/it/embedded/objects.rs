//! Objects behave as in Kubernetes.

use serde_json::{Value, json};
use towline_cluster::embedded::{Faults, Moment};
use towline_cluster::port::{
    CONFIG_MAPS, DEPLOYMENTS, DeleteOptions, LEASES, NAMESPACES, NODES, Object, PODS, Patch, Resource, Right,
    SERVICES, Selection, WriteOptions,
};
use towline_cluster::{Cluster, ClusterError};

use super::{World, deployment, name, shell, uid, version};

fn config_map(name: &str, data: impl Into<Value>) -> Value {
    json!({"metadata": {"name": name}, "data": data.into()})
}

/// Returns the error's name and words.
fn words(error: &ClusterError) -> String {
    let kind = match error {
        ClusterError::NotFound { .. } => "not found",
        ClusterError::AlreadyExists { .. } => "exists",
        ClusterError::Conflict { .. } => "conflict",
        ClusterError::Forbidden { .. } => "forbidden",
        ClusterError::Invalid { .. } => "invalid",
        _ => "other",
    };
    format!("{kind}: {error}")
}

#[tokio::test]
async fn a_new_object_gets_what_the_server_gives() {
    let world = World::new();
    let body = json!({"metadata": {"name": "a", "uid": "mine", "generation": 7}, "data": {"k": "v"}});
    let first = world.create(CONFIG_MAPS, body).await.unwrap();
    let second = world.create(CONFIG_MAPS, config_map("b", json!({}))).await.unwrap();
    assert_eq!((&first["apiVersion"], &first["kind"]), (&json!("v1"), &json!("ConfigMap")));
    assert_eq!(first["metadata"]["namespace"], "default");
    assert_ne!(uid(&first), "mine");
    assert_ne!(uid(&first), uid(&second));
    assert!(first["metadata"]["creationTimestamp"].as_str().unwrap().ends_with('Z'));
    assert!(first["metadata"].get("generation").is_none());
    let number = |object: &Value| version(object).parse::<u64>().unwrap();
    assert!(number(&first) < number(&second));
    assert_eq!(world.get(CONFIG_MAPS, "a").await.unwrap(), first);
}

#[tokio::test]
async fn a_deployment_gets_the_servers_defaults_and_a_generation() {
    let world = World::new();
    let mut body = deployment("web", 0, json!({}));
    body["spec"].as_object_mut().unwrap().remove("replicas");
    body["spec"]["template"]["spec"].as_object_mut().unwrap().remove("terminationGracePeriodSeconds");
    let dry = WriteOptions { dry_run: true };
    let stored = world.cluster.create(DEPLOYMENTS, "default", &body, &dry).await.unwrap();
    for (pointer, expected) in [
        ("/metadata/generation", json!(1)),
        ("/spec/replicas", json!(1)),
        (
            "/spec/strategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}),
        ),
        ("/spec/template/spec/terminationGracePeriodSeconds", json!(30)),
        ("/spec/template/spec/restartPolicy", json!("Always")),
        ("/spec/template/spec/containers/0/imagePullPolicy", json!("Always")),
    ] {
        assert_eq!(stored.pointer(pointer), Some(&expected), "{pointer}");
    }
    assert!(world.get(DEPLOYMENTS, "web").await.unwrap_err().is_not_found(), "a dry run stores nothing");
}

#[tokio::test]
async fn the_generation_counts_changes_of_the_spec_only() {
    let world = World::new();
    world.create(DEPLOYMENTS, deployment("web", 0, json!({}))).await.unwrap();
    let generation = |object: Value| object["metadata"]["generation"].as_u64().unwrap();
    let labelled =
        world.merge(DEPLOYMENTS, "web", json!({"metadata": {"labels": {"x": "y"}}})).await.unwrap();
    assert_eq!(generation(labelled), 1);
    let patch = json!({"spec": {"minReadySeconds": 1}, "status": {"replicas": 9}});
    let patched = world.merge(DEPLOYMENTS, "web", patch).await.unwrap();
    assert_ne!(patched["status"]["replicas"], 9, "the status is not written with the object");
    assert_eq!(generation(patched), 2);
    let same = world.merge(DEPLOYMENTS, "web", json!({"spec": {"minReadySeconds": 1}})).await.unwrap();
    assert_eq!(generation(same), 2);
}

#[tokio::test]
async fn what_changes_nothing_keeps_the_version() {
    let world = World::new();
    let stored = world.create(CONFIG_MAPS, config_map("a", json!({"k": "v"}))).await.unwrap();
    let same = world.merge(CONFIG_MAPS, "a", json!({"data": {"k": "v"}})).await.unwrap();
    assert_eq!(same, stored);
}

#[tokio::test]
async fn writes_are_refused_as_the_server_refuses_them() {
    let world = World::new();
    let cluster = &world.cluster;
    let stored = world.create(CONFIG_MAPS, config_map("a", json!({"k": "v"}))).await.unwrap();
    let changed = world.merge(CONFIG_MAPS, "a", json!({"data": {"k": "w"}})).await.unwrap();
    world.create(DEPLOYMENTS, deployment("web", 0, json!({}))).await.unwrap();
    let (old, new) = (version(&stored), version(&changed));
    let merge =
        |resource, name: &str, patch: Value| (Object::new(resource, "default", name), Patch::Merge(patch));
    let json_patch = |operations: Value| (Object::new(CONFIG_MAPS, "default", "a"), Patch::Json(operations));
    for ((object, patch), expected) in [
        (merge(CONFIG_MAPS, "none", json!({})), "not found"),
        (merge(CONFIG_MAPS, "../../etc", json!({})), "not found"),
        (merge(CONFIG_MAPS, "a", json!({"metadata": {"resourceVersion": old}})), "conflict"),
        (
            merge(CONFIG_MAPS, "a", json!({"metadata": {"uid": "other"}})),
            "invalid: ConfigMap a in namespace default is not accepted: metadata.uid: Invalid value: field is immutable",
        ),
        (merge(CONFIG_MAPS, "a", json!({"metadata": {"uid": "other", "resourceVersion": old}})), "conflict"),
        (merge(CONFIG_MAPS, "a", json!({"metadata": {"name": "b"}})), "invalid"),
        (merge(CONFIG_MAPS, "a", json!({"data": {"k": 1}})), "invalid"),
        (merge(CONFIG_MAPS, "a", json!([])), "invalid"),
        (merge(CONFIG_MAPS, "a", json!({"metadata": {"labels": {"a b": "c"}}})), "invalid"),
        (
            merge(CONFIG_MAPS, "a", json!({"metadata": {"annotations": {"a": "x".repeat(262_144)}}})),
            "invalid",
        ),
        (json_patch(json!([{"op": "test", "path": "/metadata/resourceVersion", "value": old}])), "invalid"),
        (json_patch(json!([{"op": "remove", "path": "/data/none"}])), "invalid"),
        (json_patch(json!({"op": "add"})), "invalid"),
        (merge(DEPLOYMENTS, "web", json!({"spec": {"selector": {"matchLabels": {"app": "x"}}}})), "invalid"),
        (merge(DEPLOYMENTS, "web", json!({"spec": {"replicas": -1}})), "invalid"),
        (merge(DEPLOYMENTS, "web", json!({"spec": {"template": {"spec": {"containers": []}}}})), "invalid"),
        (merge(DEPLOYMENTS, "web", json!({"spec": {"strategy": {"type": "Recreate"}}})), "invalid"),
    ] {
        let error = cluster.patch(&object, &patch, &WriteOptions::default()).await.unwrap_err();
        assert!(words(&error).starts_with(expected), "{patch:?}: {}", words(&error));
    }
    let tested = json_patch(json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": new},
        {"op": "add", "path": "/data/more", "value": "x"},
    ]));
    let patched = cluster.patch(&tested.0, &tested.1, &WriteOptions::default()).await.unwrap();
    assert_eq!(patched["data"], json!({"k": "w", "more": "x"}));
}

#[tokio::test]
async fn objects_are_refused_as_the_server_refuses_them() {
    let world = World::new();
    let change = |pointer: &str, value: Value| {
        let mut body = deployment("web", 1, json!({}));
        *body.pointer_mut(pointer).unwrap() = value;
        body
    };
    let container = "/spec/template/spec/containers/0";
    let binary = |text: &str| json!({"metadata": {"name": "a"}, "binaryData": {"b": text}});
    let named = |name: &str| json!({"metadata": {"name": name}});
    for (resource, body, expected) in [
        (CONFIG_MAPS, named(""), "metadata.name"),
        (CONFIG_MAPS, named("Upper"), "metadata.name"),
        (CONFIG_MAPS, named("../a"), "metadata.name"),
        (
            CONFIG_MAPS,
            config_map("a", json!({"k": "x".repeat(1_048_577)})),
            "may not be more than 1048576 bytes",
        ),
        (CONFIG_MAPS, config_map("a", json!({"a/b": "x"})), "a valid config key"),
        (CONFIG_MAPS, binary("%"), "illegal base64"),
        (CONFIG_MAPS, json!({"kind": "Secret", "metadata": {"name": "a"}}), "kind"),
        (CONFIG_MAPS, json!({"metadata": {"name": "a", "namespace": "other"}}), "metadata.namespace"),
        (
            CONFIG_MAPS,
            json!({"metadata": {"name": "a", "resourceVersion": "1"}}),
            "resourceVersion should not be set",
        ),
        (CONFIG_MAPS, json!([]), "not an object"),
        (DEPLOYMENTS, change("/spec/selector", json!({})), "spec.selector"),
        (DEPLOYMENTS, change("/spec/selector/matchLabels/app", json!("b")), "does not match template"),
        (DEPLOYMENTS, change(container, json!({"name": "main"})), "containers[0].image"),
        (DEPLOYMENTS, change(container, json!({"image": "shell"})), "containers[0].name"),
        (
            DEPLOYMENTS,
            change(container, json!({"name": "a", "image": "b", "env": [{"value": "x"}]})),
            "env[0].name",
        ),
        (
            DEPLOYMENTS,
            change(
                container,
                json!({"name": "a", "image": "b", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
            ),
            "volumeMounts[0].name: Not found",
        ),
        (
            LEASES,
            json!({"metadata": {"name": "a"}, "spec": {"leaseDurationSeconds": 0}}),
            "leaseDurationSeconds",
        ),
        (LEASES, json!({"metadata": {"name": "a"}, "spec": {"renewTime": "now"}}), "renewTime"),
        (SERVICES, json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 0}]}}), "ports[0].port"),
    ] {
        let error = world.create(resource, body.clone()).await.unwrap_err();
        assert!(matches!(error, ClusterError::Invalid { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "expected {expected}: {error}");
    }
    world.create(CONFIG_MAPS, config_map("full", json!({"k": "x".repeat(1_048_576)}))).await.unwrap();
    let error = world.create(CONFIG_MAPS, config_map("full", json!({}))).await.unwrap_err();
    assert!(words(&error).starts_with("exists"), "{error}");
}

#[tokio::test]
async fn an_immutable_config_map_keeps_its_data_but_may_be_labelled_and_deleted() {
    let world = World::new();
    let body = json!({"metadata": {"name": "a"}, "immutable": true, "binaryData": {"b": "AAEC"}});
    world.create(CONFIG_MAPS, body).await.unwrap();
    for patch in
        [json!({"binaryData": {"b": "AAEE"}}), json!({"immutable": null}), json!({"data": {"x": "y"}})]
    {
        let error = world.merge(CONFIG_MAPS, "a", patch).await.unwrap_err();
        assert!(error.to_string().contains("field is immutable"), "{error}");
    }
    world.merge(CONFIG_MAPS, "a", json!({"metadata": {"labels": {"a": "b"}}})).await.unwrap();
    world.delete(CONFIG_MAPS, "a").await.unwrap();
}

#[tokio::test]
async fn replace_checks_version_and_uid() {
    let world = World::new();
    let stored = world.create(CONFIG_MAPS, config_map("a", json!({"k": "v"}))).await.unwrap();
    let object = Object::new(CONFIG_MAPS, "default", "a");
    let options = WriteOptions::default();
    let mut next = stored.clone();
    next["data"]["k"] = json!("w");
    world.cluster.replace(&object, &next, &options).await.unwrap();
    let error = world.cluster.replace(&object, &next, &options).await.unwrap_err();
    assert!(words(&error).starts_with("conflict"), "{error}");
    let mut unconditional = config_map("a", json!({"k": "x"}));
    world.cluster.replace(&object, &unconditional, &options).await.unwrap();
    unconditional["metadata"]["uid"] = json!("other");
    let error = world.cluster.replace(&object, &unconditional, &options).await.unwrap_err();
    assert!(words(&error).starts_with("conflict"), "{error}");
}

#[tokio::test]
async fn a_delete_checks_its_preconditions() {
    let world = World::new();
    let stored = world.create(CONFIG_MAPS, config_map("a", json!({}))).await.unwrap();
    let object = Object::new(CONFIG_MAPS, "default", "a");
    let with = |uid: Option<&str>, version: Option<&str>| DeleteOptions {
        uid: uid.map(str::to_owned),
        resource_version: version.map(str::to_owned),
        grace_period_seconds: None,
    };
    for options in [with(Some("other"), None), with(Some(uid(&stored)), Some("0"))] {
        let error = world.cluster.delete(&object, &options).await.unwrap_err();
        assert!(words(&error).starts_with("conflict"), "{error}");
    }
    world.cluster.delete(&object, &with(Some(uid(&stored)), Some(version(&stored)))).await.unwrap();
    assert!(world.cluster.delete(&object, &DeleteOptions::default()).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn dependents_go_with_their_last_owner() {
    let world = World::new();
    let owner = world.create(CONFIG_MAPS, config_map("owner", json!({}))).await.unwrap();
    let other = world.create(CONFIG_MAPS, config_map("other", json!({}))).await.unwrap();
    let reference = |owner: &Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name(owner), "uid": uid(owner)});
    let child_of =
        |name: &str, owners: Vec<Value>| json!({"metadata": {"name": name, "ownerReferences": owners}});
    let child = world.create(CONFIG_MAPS, child_of("child", vec![reference(&owner)])).await.unwrap();
    world.create(LEASES, child_of("grandchild", vec![reference(&child)])).await.unwrap();
    world.create(CONFIG_MAPS, child_of("shared", vec![reference(&owner), reference(&other)])).await.unwrap();
    let dead = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "dead"});
    world.create(CONFIG_MAPS, child_of("orphan", vec![dead])).await.unwrap();
    assert!(world.get(CONFIG_MAPS, "orphan").await.unwrap_err().is_not_found());

    world.delete(CONFIG_MAPS, "owner").await.unwrap();
    assert!(world.get(CONFIG_MAPS, "child").await.unwrap_err().is_not_found());
    assert!(world.get(LEASES, "grandchild").await.unwrap_err().is_not_found());
    world.get(CONFIG_MAPS, "shared").await.unwrap();
}

#[tokio::test]
async fn a_finalizer_keeps_an_object_until_it_is_removed() {
    let world = World::new();
    let body = json!({"metadata": {"name": "a", "finalizers": ["example.com/wait"]}});
    world.create(CONFIG_MAPS, body).await.unwrap();
    world.delete(CONFIG_MAPS, "a").await.unwrap();
    assert!(world.get(CONFIG_MAPS, "a").await.unwrap()["metadata"]["deletionTimestamp"].is_string());
    world.merge(CONFIG_MAPS, "a", json!({"metadata": {"finalizers": null}})).await.unwrap();
    assert!(world.get(CONFIG_MAPS, "a").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn namespaces_are_there_only_when_created_and_take_their_objects_with_them() {
    let world = World::new();
    let options = WriteOptions::default();
    let body = config_map("a", json!({}));
    let error = world.cluster.create(CONFIG_MAPS, "team", &body, &options).await.unwrap_err();
    assert!(matches!(&error, ClusterError::NotFound { object } if object.resource == NAMESPACES), "{error}");
    let namespace = Object::new(NAMESPACES, "", "team");
    assert!(world.cluster.get(&namespace).await.unwrap_err().is_not_found());
    world.cluster.create(NAMESPACES, "", &json!({"metadata": {"name": "team"}}), &options).await.unwrap();
    world.cluster.create(CONFIG_MAPS, "team", &body, &options).await.unwrap();
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"dev.okteto.com/not-allowed": "true"}}}));
    world.cluster.patch(&namespace, &patch, &options).await.unwrap();
    let everywhere = world.cluster.list(CONFIG_MAPS, None, &Selection::default()).await.unwrap();
    assert_eq!(everywhere.len(), 1);
    world.cluster.delete(&namespace, &DeleteOptions::default()).await.unwrap();
    assert!(world.cluster.get(&namespace).await.unwrap_err().is_not_found());
    assert!(world.cluster.get(&Object::new(CONFIG_MAPS, "team", "a")).await.unwrap_err().is_not_found());
    let default = Object::new(NAMESPACES, "", "default");
    let error = world.cluster.delete(&default, &DeleteOptions::default()).await.unwrap_err();
    assert!(words(&error).starts_with("forbidden"), "{error}");
}

#[tokio::test]
async fn a_list_is_narrowed_by_name_and_labels() {
    let world = World::new();
    for (name, app, tier) in [("a", "web", "front"), ("b", "web", "back"), ("c", "db", "back")] {
        let body = json!({"metadata": {"name": name, "labels": {"app": app, "tier": tier}}});
        world.create(CONFIG_MAPS, body).await.unwrap();
    }
    for (wanted, labels, expected) in [
        (None, vec![], vec!["a", "b", "c"]),
        (None, vec![("app", "web")], vec!["a", "b"]),
        (None, vec![("app", "web"), ("tier", "back")], vec!["b"]),
        (Some("c"), vec![], vec!["c"]),
        (Some("c"), vec![("app", "web")], vec![]),
    ] {
        let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let selection = Selection { name: wanted.map(str::to_owned), labels };
        let found = world.cluster.list(CONFIG_MAPS, Some("default"), &selection).await.unwrap();
        assert_eq!(found.iter().map(name).collect::<Vec<_>>(), expected, "{selection:?}");
    }
}

fn owners_of_replicas(object: &Value) -> Vec<&str> {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let owners = entries.iter().filter(|entry| entry["fieldsV1"]["f:spec"].get("f:replicas").is_some());
    owners.map(|entry| entry["manager"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn ownership_moves_with_the_value_and_can_be_given_back() {
    let world = World::new();
    let kubectl = world.cluster.with_manager("kubectl");
    let options = WriteOptions::default();
    let before =
        kubectl.create(DEPLOYMENTS, "default", &deployment("web", 3, json!({})), &options).await.unwrap();
    assert_eq!(owners_of_replicas(&before), ["kubectl"]);
    let scaled = world.merge(DEPLOYMENTS, "web", json!({"spec": {"replicas": 0}})).await.unwrap();
    assert_eq!(owners_of_replicas(&scaled), ["towline"]);
    let back = world.merge(DEPLOYMENTS, "web", json!({"spec": {"replicas": 3}})).await.unwrap();
    assert_eq!(owners_of_replicas(&back), ["towline"]);

    let own = |object: &Value| {
        let mut entries = object["metadata"]["managedFields"].as_array().unwrap().clone();
        entries.retain(|entry| entry["subresource"].is_null());
        entries
    };
    let live = world.get(DEPLOYMENTS, "web").await.unwrap();
    let status = live["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["subresource"] == "status");
    let given_back: Vec<Value> = own(&before).into_iter().chain(status.cloned()).collect();
    let patch = Patch::Json(json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": version(&live)},
        {"op": "replace", "path": "/metadata/managedFields", "value": given_back},
    ]));
    let object = Object::new(DEPLOYMENTS, "default", "web");
    let after = world.cluster.patch(&object, &patch, &options).await.unwrap();
    assert_eq!(own(&after), own(&before), "as it was, times included");
    assert_eq!(after["spec"], before["spec"]);
    assert_eq!(after["metadata"]["generation"], back["metadata"]["generation"], "no change of the spec");
}

#[tokio::test]
async fn a_call_fails_as_planned_before_or_after_it_took_place() {
    let world = World::new();
    let faults = Faults::default();
    let cluster = world.cluster.with_faults(faults.clone());
    let options = WriteOptions::default();
    let lost = |name: &str| ClusterError::Ambiguous {
        verb: "create",
        object: Object::new(CONFIG_MAPS, "default", name),
    };
    faults.fail("create", "configmaps", 2, Moment::Before, lost("b"));
    faults.fail("*", "*", 4, Moment::After, lost("c"));
    for (name, answered, there) in
        [("a", true, true), ("b", false, false), ("c", true, true), ("d", false, true)]
    {
        let answer = cluster.create(CONFIG_MAPS, "default", &config_map(name, json!({})), &options).await;
        assert_eq!(answer.is_ok(), answered, "{name}");
        assert_eq!(world.get(CONFIG_MAPS, name).await.is_ok(), there, "{name}");
    }
    assert_eq!(faults.calls(), [("create", "configmaps"); 4]);
}

#[tokio::test]
async fn a_denied_right_is_told_and_enforced() {
    let world = World::new();
    let faults = Faults::default();
    let cluster = world.cluster.with_faults(faults.clone());
    let right = |verb, resource: &'static Resource, subresource| Right {
        verb,
        group: resource.group,
        resource: resource.plural,
        subresource,
    };
    let rights =
        [right("create", CONFIG_MAPS, ""), right("create", PODS, "exec"), right("get", CONFIG_MAPS, "")];
    faults.deny(rights[0].clone());
    faults.deny(rights[1].clone());
    assert_eq!(cluster.can("default", &rights).await.unwrap(), [false, false, true]);
    let options = WriteOptions::default();
    let error =
        cluster.create(CONFIG_MAPS, "default", &config_map("a", json!({})), &options).await.unwrap_err();
    assert!(words(&error).starts_with("forbidden"), "{error}");
    let error = cluster.exec("default", "a", "main", &["sh".to_owned()]).await.unwrap_err();
    assert!(words(&error).starts_with("forbidden"), "{error}");
    assert!(cluster.get(&Object::new(CONFIG_MAPS, "default", "a")).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn there_is_one_node_with_this_machines_architecture() {
    let world = World::new();
    let nodes = world.cluster.list(NODES, None, &Selection::default()).await.unwrap();
    let expected = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    assert_eq!(nodes.len(), 1);
    assert_eq!(nodes[0]["status"]["nodeInfo"]["architecture"], expected);
}

#[tokio::test]
async fn the_example_is_seeded_once() {
    let world = World::new();
    let mut web = deployment("web", 0, shell("true"));
    web["apiVersion"] = json!("apps/v1");
    web["kind"] = json!("Deployment");
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "dg=="}});
    let created = world.cluster.apply(&[web.clone(), secret.clone()]).await.unwrap();
    assert_eq!(created.len(), 2);
    world.merge(DEPLOYMENTS, "web", json!({"metadata": {"labels": {"mine": "yes"}}})).await.unwrap();
    assert!(world.cluster.apply(&[web, secret]).await.unwrap().is_empty());
    let live = world.get(DEPLOYMENTS, "web").await.unwrap();
    assert_eq!(live["metadata"]["labels"]["mine"], "yes");
    assert_eq!(owners_of_replicas(&live), ["example"]);
    let unknown = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}});
    assert!(matches!(world.cluster.apply(&[unknown]).await, Err(ClusterError::Config { .. })));
}
