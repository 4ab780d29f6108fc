//! Who owns which field: `metadata.managedFields`, kept as the API server keeps it for updates.
//!
//! A leaf belongs to whoever last changed its value. Lists that Kubernetes merges by key are followed item by item,
//! all others are one leaf (the keys: `x-kubernetes-list-map-keys` of the published schemas).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// Who writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manager {
    /// The field manager's name.
    pub(super) name: String,
    /// `Update` or `Apply`.
    pub(super) operation: &'static str,
    /// `status`, or empty.
    pub(super) subresource: &'static str,
}

impl Manager {
    /// Returns a manager that updates whole objects.
    pub(super) fn update(name: impl Into<String>) -> Self {
        Self { name: name.into(), operation: "Update", subresource: "" }
    }

    /// Returns one that updates the status.
    pub(super) fn status(name: impl Into<String>) -> Self {
        Self { subresource: "status", ..Self::update(name) }
    }

    fn wrote(&self, entry: &Value) -> bool {
        entry["manager"] == *self.name
            && entry["operation"] == self.operation
            && entry["subresource"].as_str().unwrap_or_default() == self.subresource
    }
}

/// A path through `fieldsV1`: `f:name`, `k:{"key":"value"}`, `v:"value"`.
type Path = Vec<String>;

/// Returns `managedFields` after `manager` turned `old` (`None` on create) into `new` at the time `now`.
///
/// Where `new` brings other `managedFields` than `old`, they are what is built on: that is how ownership is edited.
pub(super) fn after(old: Option<&Value>, new: &Value, manager: &Manager, now: &str) -> Vec<Value> {
    let before = old.map(leaves).unwrap_or_default();
    let now_there = leaves(new);
    let gone: BTreeSet<&Path> = before.keys().filter(|path| !now_there.contains_key(*path)).collect();
    let changed: BTreeSet<&Path> = now_there
        .iter()
        .filter(|(path, value)| before.get(*path) != Some(value))
        .map(|(path, _)| path)
        .collect();

    let given = entries(new).or_else(|| old.and_then(entries)).unwrap_or_default();
    let mut found = false;
    let mut result = Vec::with_capacity(given.len() + 1);
    for mut entry in given {
        let ours = manager.wrote(&entry);
        found |= ours;
        let mut owned = flatten(&entry["fieldsV1"]);
        let count = owned.len();
        owned.retain(|path| !gone.contains(path) && (ours || !changed.contains(path)));
        if ours {
            owned.extend(changed.iter().map(|path| (*path).clone()));
            if !changed.is_empty() || owned.len() != count {
                entry["time"] = json!(now);
            }
        }
        if !owned.is_empty() {
            entry["fieldsV1"] = nest(&owned);
            result.push(entry);
        }
    }
    if !found && !changed.is_empty() {
        let owned = changed.into_iter().cloned().collect();
        let mut entry = json!({
            "manager": manager.name, "operation": manager.operation, "apiVersion": new["apiVersion"],
            "time": now, "fieldsType": "FieldsV1", "fieldsV1": nest(&owned),
        });
        if !manager.subresource.is_empty() {
            entry["subresource"] = json!(manager.subresource);
        }
        result.push(entry);
    }
    // The API server's order: Apply before Update, then by time, then by name.
    let rank = |entry: &Value| {
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        (text("operation"), text("time"), text("manager"), text("subresource"))
    };
    result.sort_by_cached_key(rank);
    result
}

/// Says what is wrong with the `managedFields` that a client sent.
pub(super) fn problem(object: &Value) -> Option<String> {
    let value = object.pointer("/metadata/managedFields").filter(|value| !value.is_null())?;
    let Some(entries) = value.as_array() else {
        return Some("metadata.managedFields must be a list".to_owned());
    };
    entries.iter().enumerate().find_map(|(index, entry)| {
        let wrong = |what: &str| Some(format!("metadata.managedFields[{index}].{what}"));
        let text = |key: &str| entry[key].as_str().unwrap_or_default();
        if !matches!(text("operation"), "Apply" | "Update") {
            return wrong("operation: Invalid value: must be `Apply` or `Update`");
        }
        if text("fieldsType") != "FieldsV1" {
            return wrong("fieldsType: Invalid value: must be `FieldsV1`");
        }
        if entry["fieldsV1"].is_object() { None } else { wrong("fieldsV1: Required value") }
    })
}

fn entries(object: &Value) -> Option<Vec<Value>> {
    object.pointer("/metadata/managedFields")?.as_array().filter(|entries| !entries.is_empty()).cloned()
}

/// Turns `fieldsV1` into its paths.
fn flatten(fields: &Value) -> BTreeSet<Path> {
    fn walk(node: &Value, path: &mut Path, found: &mut BTreeSet<Path>) {
        let inside = node.as_object().filter(|children| !children.is_empty());
        if !path.is_empty() && inside.is_none_or(|children| children.contains_key(".")) {
            found.insert(path.clone());
        }
        for (key, child) in inside.into_iter().flatten().filter(|(key, _)| *key != ".") {
            path.push(key.clone());
            walk(child, path, found);
            path.pop();
        }
    }
    let mut found = BTreeSet::new();
    walk(fields, &mut Vec::new(), &mut found);
    found
}

/// Turns paths into `fieldsV1`.
fn nest(paths: &BTreeSet<Path>) -> Value {
    let mut root = Map::new();
    for path in paths {
        let mut node = &mut root;
        for (depth, part) in path.iter().enumerate() {
            // What has owned fields inside says with a dot that it is owned itself; it comes before them.
            if node.is_empty() && paths.contains(&path[..depth]) {
                node.insert(".".to_owned(), json!({}));
            }
            let child = node.entry(part.clone()).or_insert_with(|| Value::Object(Map::new()));
            // Only maps are ever put into this tree.
            node = child.as_object_mut().expect("a map");
        }
    }
    Value::Object(root)
}

/// Returns the leaves of an object that have owners, with their values.
fn leaves(object: &Value) -> BTreeMap<Path, Value> {
    let mut found = BTreeMap::new();
    let Some(map) = object.as_object() else { return found };
    for (key, value) in map {
        match key.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    if matches!(key.as_str(), "labels" | "annotations" | "ownerReferences" | "finalizers") {
                        walk(key, value, &mut vec!["f:metadata".to_owned(), format!("f:{key}")], &mut found);
                    }
                }
            }
            _ => walk(key, value, &mut vec![format!("f:{key}")], &mut found),
        }
    }
    found
}

fn walk(field: &str, value: &Value, path: &mut Path, found: &mut BTreeMap<Path, Value>) {
    match value {
        Value::Null => {}
        Value::Object(map) if !map.is_empty() && !is_atomic(field) => {
            if matches!(
                field,
                "labels" | "annotations" | "data" | "binaryData" | "stringData" | "rollingUpdate"
            ) {
                found.insert(path.clone(), Value::Null);
            }
            for (key, child) in map {
                path.push(format!("f:{key}"));
                walk(key, child, path, found);
                path.pop();
            }
        }
        Value::Array(items) if !items.is_empty() && field == "finalizers" => {
            for item in items {
                path.push(format!("v:{item}"));
                found.insert(path.clone(), Value::Null);
                path.pop();
            }
        }
        Value::Array(items) => match item_keys(field, items) {
            Some(keys) => {
                for (key, item) in keys.into_iter().zip(items) {
                    path.push(key);
                    found.insert(path.clone(), Value::Null);
                    for (name, child) in item.as_object().into_iter().flatten() {
                        path.push(format!("f:{name}"));
                        walk(name, child, path, found);
                        path.pop();
                    }
                    path.pop();
                }
            }
            None => {
                found.insert(path.clone(), value.clone());
            }
        },
        _ => {
            found.insert(path.clone(), value.clone());
        }
    }
}

/// Maps that have one owner as a whole (`x-kubernetes-map-type: atomic`).
fn is_atomic(field: &str) -> bool {
    matches!(
        field,
        "selector" | "nodeSelector" | "fieldRef" | "configMapKeyRef" | "secretKeyRef" | "resourceFieldRef"
    )
}

/// Returns the path part of each item of a list that is merged by key, or `None` for a list with one owner.
fn item_keys(field: &str, items: &[Value]) -> Option<Vec<String>> {
    let keys: &[&str] = match field {
        "containers" | "initContainers" | "ephemeralContainers" | "volumes" | "env" | "imagePullSecrets" => {
            &["name"]
        }
        "volumeMounts" => &["mountPath"],
        "volumeDevices" => &["devicePath"],
        "ports" if items.iter().all(|item| item.get("containerPort").is_some()) => {
            &["containerPort", "protocol"]
        }
        "ports" => &["port", "protocol"],
        "conditions" => &["type"],
        "ownerReferences" => &["uid"],
        "hostAliases" | "podIPs" | "hostIPs" => &["ip"],
        _ => return None,
    };
    let mut seen = BTreeSet::new();
    let parts = items.iter().map(|item| {
        let mut part = Map::new();
        for key in keys {
            let value = match (*key, item.get(key)) {
                (_, Some(value)) => value.clone(),
                ("protocol", None) => json!("TCP"),
                _ => return None,
            };
            part.insert((*key).to_owned(), value);
        }
        let part = format!("k:{}", Value::Object(part));
        seen.insert(part.clone()).then_some(part)
    });
    if items.is_empty() { None } else { parts.collect() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn deployment(replicas: u64, image: &str) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "uid": "u", "labels": {"app": "web"}},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"spec": {"containers": [{"name": "web", "image": image, "command": ["a", "b"]}]}},
            },
        })
    }

    fn with(mut object: Value, managed: Vec<Value>) -> Value {
        object["metadata"]["managedFields"] = Value::Array(managed);
        object
    }

    fn owners(entries: &[Value], path: &[&str]) -> Vec<String> {
        let path: Path = path.iter().map(|part| (*part).to_owned()).collect();
        let owns = |entry: &&Value| flatten(&entry["fieldsV1"]).contains(&path);
        entries
            .iter()
            .filter(owns)
            .map(|entry| entry["manager"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn a_creator_owns_every_leaf_in_the_api_servers_form() {
        let managed = after(None, &deployment(2, "a"), &Manager::update("kubectl"), "t1");
        assert_eq!(
            managed,
            [json!({
                "manager": "kubectl", "operation": "Update", "apiVersion": "apps/v1", "time": "t1",
                "fieldsType": "FieldsV1",
                "fieldsV1": {
                    "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                    "f:spec": {
                        "f:replicas": {}, "f:selector": {},
                        "f:template": {"f:spec": {"f:containers": {
                            "k:{\"name\":\"web\"}": {".": {}, "f:name": {}, "f:image": {}, "f:command": {}},
                        }}},
                    },
                },
            })]
        );
    }

    #[test]
    fn a_value_moves_to_whoever_changes_it_and_an_emptied_entry_goes() {
        let first =
            with(deployment(2, "a"), after(None, &deployment(2, "a"), &Manager::update("kubectl"), "t1"));
        let scaled =
            with(deployment(0, "a"), first["metadata"]["managedFields"].as_array().cloned().unwrap());
        let managed = after(Some(&first), &scaled, &Manager::update("towline"), "t2");
        assert_eq!(owners(&managed, &["f:spec", "f:replicas"]), ["towline"]);
        assert_eq!(managed[0]["time"], "t1", "who changed nothing keeps the time");
        assert_eq!(managed[1]["time"], "t2");

        let scaled = with(deployment(0, "a"), managed.clone());
        let back = with(deployment(2, "a"), managed);
        let managed = after(Some(&scaled), &back, &Manager::update("kubectl"), "t3");
        assert_eq!(managed.len(), 1, "towline owns nothing any more: {managed:?}");
    }

    #[test]
    fn a_removed_leaf_has_no_owner() {
        let first =
            with(deployment(2, "a"), after(None, &deployment(2, "a"), &Manager::update("kubectl"), "t1"));
        let mut without = first.clone();
        without["spec"].as_object_mut().unwrap().remove("replicas");
        let managed = after(Some(&first), &without, &Manager::update("towline"), "t2");
        assert_eq!(managed.len(), 1);
        assert!(owners(&managed, &["f:spec", "f:replicas"]).is_empty());
    }

    #[test]
    fn edited_managed_fields_are_taken_as_they_are() {
        let first =
            with(deployment(2, "a"), after(None, &deployment(2, "a"), &Manager::update("kubectl"), "t1"));
        let mut edited = first.clone();
        edited["metadata"]["managedFields"][0]["manager"] = json!("helm");
        let managed = after(Some(&first), &edited, &Manager::update("towline"), "t2");
        assert_eq!(Value::Array(managed), edited["metadata"]["managedFields"]);
    }

    #[test]
    fn managed_fields_that_make_no_sense_are_named() {
        let check = |entry: Value, expected: Option<&str>| {
            let object = with(deployment(1, "a"), vec![entry]);
            let problem = problem(&object);
            assert_eq!(
                problem.as_deref().map(|text| text.contains(expected.unwrap_or("?"))),
                expected.map(|_| true)
            );
        };
        check(json!({"operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {}}), None);
        check(json!({"operation": "Write", "fieldsType": "FieldsV1", "fieldsV1": {}}), Some("operation"));
        check(json!({"operation": "Apply", "fieldsType": "V2", "fieldsV1": {}}), Some("fieldsType"));
        check(json!({"operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": 1}), Some("fieldsV1"));
    }

    proptest! {
        /// Whatever the order of writers, each leaf belongs to exactly the one who last changed it.
        #[test]
        fn each_leaf_belongs_to_its_last_writer(writes in prop::collection::vec((0_usize..3, 0_u64..3, 0_u64..3), 1..20)) {
            let names = ["kubectl", "towline", "argo"];
            let mut object: Option<Value> = None;
            let (mut replicas_owner, mut image_owner) = (0, 0);
            for (step, (writer, replicas, image)) in writes.into_iter().enumerate() {
                let mut next = deployment(replicas, &image.to_string());
                let changed = |pointer: &str| object.as_ref().is_none_or(|old| old.pointer(pointer) != next.pointer(pointer));
                if changed("/spec/replicas") { replicas_owner = writer; }
                if changed("/spec/template/spec/containers/0/image") { image_owner = writer; }
                let managed = after(object.as_ref(), &next, &Manager::update(names[writer]), &step.to_string());
                next = with(next, managed.clone());
                object = Some(next);
                prop_assert_eq!(owners(&managed, &["f:spec", "f:replicas"]), [names[replicas_owner]]);
                let image = ["f:spec", "f:template", "f:spec", "f:containers", "k:{\"name\":\"web\"}", "f:image"];
                prop_assert_eq!(owners(&managed, &image), [names[image_owner]]);
            }
        }

        /// The two forms of a set of fields are the same set.
        #[test]
        fn nesting_and_flattening_are_inverse(replicas in any::<u64>(), image in "[a-z]{0,5}") {
            let paths: BTreeSet<Path> = leaves(&deployment(replicas, &image)).into_keys().collect();
            prop_assert_eq!(flatten(&nest(&paths)), paths);
        }
    }
}
