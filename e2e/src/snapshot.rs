//! The namespace as it was: what a session must leave behind unchanged, and nothing more.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use towline_cluster::port::{PODS, REPLICA_SETS, Resource, Selection};

use crate::adapter::Adapter;
use crate::kinds;
use crate::waiting::eventually;

/// The objects of a namespace, without what changes by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    objects: BTreeMap<String, Value>,
    replica_sets: BTreeSet<String>,
}

impl Snapshot {
    /// Looks now.
    pub async fn of(adapter: &dyn Adapter) -> Self {
        let mut objects = BTreeMap::new();
        for resource in kinds::KEPT {
            for object in list(adapter, resource).await {
                objects.insert(format!("{} {}", resource.kind, kinds::name(&object)), lasting(object));
            }
        }
        let replica_sets = list(adapter, REPLICA_SETS).await.iter().map(kinds::name).collect();
        Self { objects, replica_sets }
    }

    /// Returns what is not as before, a line each.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let names: BTreeSet<_> = self.objects.keys().chain(now.objects.keys()).collect();
        let mut found: Vec<String> = names
            .into_iter()
            .filter(|name| self.objects.get(*name) != now.objects.get(*name))
            .filter_map(|name| {
                let (was, is) = (self.objects.get(name), now.objects.get(name));
                differences(name, was.unwrap_or(&Value::Null), is.unwrap_or(&Value::Null)).err()
            })
            .collect();
        found.extend(
            now.replica_sets.difference(&self.replica_sets).map(|name| format!("ReplicaSet {name} is left")),
        );
        found
    }

    /// Fails unless everything is as before. Objects that the cluster's own collector removes have their time.
    pub async fn expect_unchanged(&self, adapter: &dyn Adapter) {
        eventually("the namespace is as before", async || {
            let mut found = self.differences(&Self::of(adapter).await);
            for pod in list(adapter, PODS).await {
                if kinds::name(&pod).contains("-towline-") {
                    found.push(format!("Pod {} is left", kinds::name(&pod)));
                }
            }
            if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
        })
        .await;
    }
}

/// Fails with the places where two objects differ, a line for each.
pub fn differences(what: &str, wanted: &Value, found: &Value) -> Result<(), String> {
    let mut lines = Vec::new();
    differ("", wanted, found, &mut lines);
    if lines.is_empty() { Ok(()) } else { Err(format!("{what}\n  {}", lines.join("\n  "))) }
}

fn differ(place: &str, wanted: &Value, found: &Value, lines: &mut Vec<String>) {
    match (wanted, found) {
        (Value::Object(old), Value::Object(new)) => {
            let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
            for key in keys {
                differ(&format!("{place}.{key}"), &wanted[key], &found[key], lines);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                differ(&format!("{place}[{index}]"), old, new, lines);
            }
        }
        (wanted, found) if wanted == found => {}
        (wanted, found) => lines.push(format!("{place} is {found}, not {wanted}")),
    }
}

async fn list(adapter: &dyn Adapter, resource: &'static Resource) -> Vec<Value> {
    let all = adapter.cluster().list(resource, Some(adapter.namespace()), &Selection::default()).await;
    all.unwrap_or_else(|error| panic!("{}: {error}", resource.plural))
}

/// Returns an object without its status, versions and times.
pub fn lasting(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
        metadata.remove("generation");
        if let Some(managers) = metadata.get_mut("managedFields").and_then(Value::as_array_mut) {
            // What a controller writes into the status is its own affair.
            managers.retain(|manager| manager["subresource"] != json!("status"));
            for manager in managers {
                manager.as_object_mut().map(|fields| fields.remove("time"));
            }
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lasts_counts() {
        let object = |version: &str, owner: &str| {
            json!({"metadata": {"name": "a", "resourceVersion": version, "generation": version, "managedFields": [
                       {"manager": owner, "time": version},
                       {"manager": "controller", "subresource": "status", "fieldsV1": version}]},
                   "spec": {"replicas": 1}, "status": version})
        };
        assert_eq!(lasting(object("1", "kubectl")), lasting(object("2", "kubectl")));
        assert_ne!(lasting(object("1", "kubectl")), lasting(object("1", "towline")));
    }

    #[test]
    fn a_difference_is_named_by_its_place() {
        let check = |wanted: Value, found: Value, lines: &[&str]| {
            let told = differences("a", &wanted, &found).err().unwrap_or_default();
            assert_eq!(told.lines().skip(1).map(str::trim).collect::<Vec<_>>(), lines);
        };
        check(json!({"a": [1, {"b": 2}]}), json!({"a": [1, {"b": 2}]}), &[]);
        check(json!({"a": [1, {"b": 2}]}), json!({"a": [1, {"b": 3}]}), &[".a[1].b is 3, not 2"]);
        check(json!({"a": 1}), json!({"b": [1]}), &[".a is null, not 1", ".b is [1], not null"]);
    }

    #[test]
    fn each_difference_is_named() {
        let snapshot = |names: &[&str], sets: &[&str]| Snapshot {
            objects: names.iter().map(|name| ((*name).to_owned(), json!(1))).collect(),
            replica_sets: sets.iter().map(|name| (*name).to_owned()).collect(),
        };
        let before = snapshot(&["Deployment a", "Service a"], &["a-1"]);
        assert_eq!(before.differences(&before), Vec::<String>::new());
        let now = snapshot(&["Deployment a", "Lease b"], &["a-1", "b-1"]);
        let found = before.differences(&now).join("\n");
        for wanted in ["Service a\n   is null, not 1", "Lease b\n   is 1, not null", "ReplicaSet b-1 is left"]
        {
            assert!(found.contains(wanted), "{found}");
        }
    }
}
