//! Deletes what has lost its owners, and namespaces that are empty.

use std::collections::HashSet;

use serde_json::Value;

use super::store::{self, Store};
use super::{api, kinds, meta};
use crate::error::ClusterError;
use crate::port::{DeleteOptions, NAMESPACES, Object, Resource};

/// There while something may have lost its owner: a search reads every object, and survives a crash.
const MARK: &str = "garbage";

/// Asks for a search at the next chance.
pub(super) fn mark(store: &Store) -> Result<(), ClusterError> {
    let path = store.root().join(MARK);
    store::write_atomic(&path, b"").map_err(|error| store::unreachable(&path, "write", &error))
}

/// Deletes the objects whose owners are all gone, if a search was asked for.
pub(super) fn collect(store: &mut Store) -> Result<(), ClusterError> {
    empty_namespaces(store)?;
    let mark = store.root().join(MARK);
    if !mark.exists() {
        return Ok(());
    }
    while delete_orphans(store)? {}
    store::remove_file(&mark).map_err(|error| store::unreachable(&mark, "remove", &error))
}

/// Makes one pass; tells whether anything was deleted, so that others may have lost their owner.
fn delete_orphans(store: &mut Store) -> Result<bool, ClusterError> {
    let mut living = HashSet::new();
    let mut owned: Vec<(Object, Vec<String>)> = Vec::new();
    for resource in kinds::ALL {
        for object in store.list(resource, None)? {
            let owners = meta::items(&object, "/metadata/ownerReferences");
            if !owners.is_empty() && !meta::is_deleting(&object) {
                let owners = owners.iter().map(|owner| meta::text(owner, "/uid").to_owned()).collect();
                owned.push((named(resource, &object), owners));
            }
            living.insert(meta::uid(&object).to_owned());
        }
    }
    owned.retain(|(_, owners)| !owners.iter().any(|owner| living.contains(owner)));
    for (object, _) in &owned {
        api::delete(store, object, &DeleteOptions::default())?;
    }
    Ok(!owned.is_empty())
}

fn empty_namespaces(store: &mut Store) -> Result<(), ClusterError> {
    let ending: Vec<Value> = store.list(NAMESPACES, None)?.into_iter().filter(meta::is_deleting).collect();
    for namespace in ending {
        let name = meta::name(&namespace);
        let mut left = false;
        for resource in kinds::ALL.iter().filter(|resource| resource.namespaced) {
            for object in store.list(resource, Some(name))? {
                let at_once = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
                api::delete(store, &named(resource, &object), &at_once)?;
            }
            left |= !store.list(resource, Some(name))?.is_empty();
        }
        if !left {
            store.remove(NAMESPACES, "", name)?;
        }
    }
    Ok(())
}

fn named(resource: &'static Resource, object: &Value) -> Object {
    Object::new(resource, meta::namespace(object), meta::name(object))
}
