//! What the API server does with a write: preconditions, defaults, validation, bookkeeping, storing.

use serde::Deserialize;
use serde_json::{Value, json};

use super::fields::{self, Manager};
use super::kinds;
use super::meta::{self, map_mut};
use super::store::Store;
use super::{defaults, garbage, validate};
use crate::error::ClusterError;
use crate::port::{DeleteOptions, NAMESPACES, Object, Patch, Resource};

/// The namespace that is always there.
pub(super) const DEFAULT_NAMESPACE: &str = "default";
const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// Reads one object.
pub(super) fn read(store: &Store, object: &Object) -> Result<Value, ClusterError> {
    store
        .get(object.resource, &object.namespace, &object.name)?
        .ok_or_else(|| ClusterError::NotFound { object: object.clone() })
}

/// Creates an object. Returns it as stored.
pub(super) fn create(
    store: &mut Store,
    resource: &'static Resource,
    namespace: &str,
    body: &Value,
    manager: &Manager,
    dry_run: bool,
) -> Result<Value, ClusterError> {
    let mut new = body.clone();
    strip_nulls(&mut new);
    let mut object =
        Object::new(resource, if resource.namespaced { namespace } else { "" }, meta::name(&new));
    complete(&object, &mut new)?;
    if new.pointer("/metadata/resourceVersion").is_some() {
        return Err(invalid(&object, "resourceVersion should not be set on objects to be created"));
    }
    let metadata = map_mut(&mut new, "metadata");
    if object.name.is_empty()
        && let Some(prefix) = metadata.get("generateName").and_then(Value::as_str)
    {
        object.name = format!("{prefix}{}", meta::random_name());
        metadata.insert("name".to_owned(), json!(object.name));
    }
    for key in ["managedFields", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        metadata.remove(key);
    }
    metadata.insert("uid".to_owned(), json!(meta::new_uid()));
    metadata.insert("creationTimestamp".to_owned(), json!(meta::now()));
    if resource.namespaced {
        metadata.insert("namespace".to_owned(), json!(namespace));
        let owner = Object::new(NAMESPACES, "", namespace);
        if meta::is_deleting(&read(store, &owner)?) {
            let message = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            return Err(ClusterError::Forbidden { verb: "create", object, message });
        }
    }
    if kinds::has_generation(resource) {
        metadata_of(&mut new).insert("generation".to_owned(), json!(1));
    }
    if kinds::has_status(resource)
        && let Some(new) = new.as_object_mut()
    {
        let status = match resource.kind {
            "Pod" => json!({"phase": "Pending", "qosClass": "BestEffort"}),
            "Namespace" => json!({"phase": "Active"}),
            _ => json!({}),
        };
        new.insert("status".to_owned(), status);
    }
    defaults::fill(resource, &mut new);
    if let Some(message) = validate::check(resource, None, &new).message() {
        return Err(invalid(&object, message));
    }
    if store.get(resource, &object.namespace, &object.name)?.is_some() {
        return Err(ClusterError::AlreadyExists { object });
    }
    let mut owned = new.clone();
    if let Some(owned) = owned.as_object_mut() {
        // The server itself set it; nobody owns it.
        owned.remove("status");
    }
    new["metadata"]["managedFields"] = fields::after(None, &owned, manager, &meta::now()).into();
    if !dry_run {
        store.put(resource, &mut new)?;
    }
    Ok(new)
}

/// Replaces an object. Returns it as stored.
pub(super) fn replace(
    store: &mut Store,
    object: &Object,
    body: &Value,
    manager: &Manager,
    dry_run: bool,
) -> Result<Value, ClusterError> {
    let old = read(store, object)?;
    let mut new = body.clone();
    strip_nulls(&mut new);
    complete(object, &mut new)?;
    if let Some(given) = new.pointer("/metadata/uid").and_then(Value::as_str)
        && given != meta::uid(&old)
    {
        let message = format!(
            "Precondition failed: UID in precondition: {given}, UID in object meta: {}",
            meta::uid(&old)
        );
        return Err(ClusterError::Conflict { object: object.clone(), message });
    }
    update(store, object, &old, new, manager, dry_run)
}

/// Changes an object. Returns it as stored.
pub(super) fn patch(
    store: &mut Store,
    object: &Object,
    patch: &Patch,
    manager: &Manager,
    dry_run: bool,
) -> Result<Value, ClusterError> {
    let old = read(store, object)?;
    let mut new = old.clone();
    match patch {
        Patch::Merge(change) if change.is_object() => json_patch::merge(&mut new, change),
        Patch::Merge(_) => return Err(invalid(object, "a merge patch must be an object")),
        Patch::Json(operations) => {
            let operations = json_patch::Patch::deserialize(operations)
                .map_err(|error| invalid(object, format!("malformed JSON patch: {error}")))?;
            json_patch::patch(&mut new, &operations).map_err(|error| {
                let cause = "the server rejected our request due to an error in our request";
                invalid(object, format!("{cause}: {error}"))
            })?;
        }
    }
    strip_nulls(&mut new);
    complete(object, &mut new)?;
    update(store, object, &old, new, manager, dry_run)
}

/// Stores a status that a controller worked out, when it differs. Returns the object as stored.
pub(super) fn set_status(
    store: &mut Store,
    resource: &'static Resource,
    old: &Value,
    status: Value,
    manager: &str,
) -> Result<Value, ClusterError> {
    if old["status"] == status {
        return Ok(old.clone());
    }
    let mut new = old.clone();
    new["status"] = status;
    let manager = Manager::status(manager);
    new["metadata"]["managedFields"] = fields::after(Some(old), &new, &manager, &meta::now()).into();
    store.put(resource, &mut new)?;
    Ok(new)
}

/// Stores `new` in place of `old`.
fn update(
    store: &mut Store,
    object: &Object,
    old: &Value,
    mut new: Value,
    manager: &Manager,
    dry_run: bool,
) -> Result<Value, ClusterError> {
    let resource = object.resource;
    let metadata = metadata_of(&mut new);
    if let Some(given) = metadata.get("resourceVersion")
        && *given != old["metadata"]["resourceVersion"]
    {
        return Err(ClusterError::Conflict { object: object.clone(), message: MODIFIED.to_owned() });
    }
    if metadata.get("uid").is_some_and(|given| *given != old["metadata"]["uid"]) {
        return Err(invalid(object, "metadata.uid: Invalid value: field is immutable"));
    }
    for key in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "generation",
        "generateName",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        match old["metadata"].get(key) {
            Some(value) => metadata.insert(key.to_owned(), value.clone()),
            None => metadata.remove(key),
        };
    }
    // A map without entries is not kept.
    for key in ["labels", "annotations"] {
        if metadata.get(key).and_then(Value::as_object).is_some_and(serde_json::Map::is_empty) {
            metadata.remove(key);
        }
    }
    if kinds::has_status(resource) {
        new["status"] = old["status"].clone();
    }
    defaults::fill(resource, &mut new);
    if let Some(message) = validate::check(resource, Some(old), &new).message() {
        return Err(invalid(object, message));
    }
    if kinds::has_generation(resource) && old["spec"] != new["spec"] {
        let generation = old["metadata"]["generation"].as_u64().unwrap_or_default();
        new["metadata"]["generation"] = json!(generation.saturating_add(1));
    }
    new["metadata"]["managedFields"] = fields::after(Some(old), &new, manager, &meta::now()).into();
    if new == *old {
        return Ok(new);
    }
    if dry_run {
        return Ok(new);
    }
    let released = meta::is_deleting(&new) && meta::items(&new, "/metadata/finalizers").is_empty();
    if released && !matches!(resource.kind, "Pod" | "Namespace") {
        garbage::mark(store)?;
        store.remove(resource, &object.namespace, &object.name)?;
    } else {
        store.put(resource, &mut new)?;
    }
    Ok(new)
}

/// Deletes an object: at once, or by a mark where someone has to clean up first.
pub(super) fn delete(
    store: &mut Store,
    object: &Object,
    options: &DeleteOptions,
) -> Result<(), ClusterError> {
    let mut old = read(store, object)?;
    for (given, key) in [(&options.uid, "uid"), (&options.resource_version, "resourceVersion")] {
        let there = &old["metadata"][key];
        if let Some(given) = given
            && *there != **given
        {
            let message = format!("Precondition failed: {key} in precondition: {given}, in object: {there}");
            return Err(ClusterError::Conflict { object: object.clone(), message });
        }
    }
    let resource = object.resource;
    match resource.kind {
        "Namespace" if object.name == DEFAULT_NAMESPACE => {
            let message = "this namespace may not be deleted".to_owned();
            return Err(ClusterError::Forbidden { verb: "delete", object: object.clone(), message });
        }
        "Namespace" => {
            if !meta::is_deleting(&old) {
                old["metadata"]["deletionTimestamp"] = json!(meta::now());
                old["status"] = json!({"phase": "Terminating"});
                store.put(resource, &mut old)?;
            }
            return Ok(());
        }
        "Pod" => {
            let own = old.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_u64);
            let grace = options.grace_period_seconds.map_or(own.unwrap_or(30), u64::from);
            let left = old.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_u64);
            if left.is_none_or(|left| grace < left) {
                let end =
                    meta::now_milliseconds() / 1000 + i64::try_from(grace).unwrap_or(i64::from(u32::MAX));
                old["metadata"]["deletionTimestamp"] = json!(meta::seconds(end));
                old["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
                store.put(resource, &mut old)?;
            }
            return Ok(());
        }
        _ => {}
    }
    if !meta::items(&old, "/metadata/finalizers").is_empty() {
        if !meta::is_deleting(&old) {
            old["metadata"]["deletionTimestamp"] = json!(meta::now());
            old["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            store.put(resource, &mut old)?;
        }
        return Ok(());
    }
    garbage::mark(store)?;
    store.remove(resource, &object.namespace, &object.name)
}

/// Checks that the body is what the path says, and fills in what the path tells.
fn complete(object: &Object, body: &mut Value) -> Result<(), ClusterError> {
    let resource = object.resource;
    let Some(map) = body.as_object_mut() else { return Err(invalid(object, "not an object")) };
    for (key, expected) in [("apiVersion", resource.api_version()), ("kind", resource.kind.to_owned())] {
        let given = map.entry(key).or_insert_with(|| json!(expected));
        if *given != *expected {
            return Err(invalid(object, format!("{key}: Invalid value: {given}: must be {expected}")));
        }
    }
    if map.get("metadata").is_some_and(|metadata| !metadata.is_object()) {
        return Err(invalid(object, "metadata: Invalid value: must be an object"));
    }
    let metadata = map_mut(body, "metadata");
    let namespace = resource.namespaced.then_some(("namespace", &object.namespace));
    for (key, expected) in [("name", &object.name)].into_iter().chain(namespace) {
        if expected.is_empty() {
            continue;
        }
        let given = metadata.entry(key).or_insert_with(|| json!(expected));
        if *given != **expected {
            return Err(invalid(
                object,
                format!("metadata.{key}: Invalid value: {given}: must be {expected}"),
            ));
        }
    }
    Ok(())
}

fn metadata_of(object: &mut Value) -> &mut serde_json::Map<String, Value> {
    map_mut(object, "metadata")
}

/// Drops nulls from maps, as decoding into Kubernetes' types does.
fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

fn invalid(object: &Object, message: impl Into<String>) -> ClusterError {
    ClusterError::Invalid { object: object.clone(), message: message.into() }
}
