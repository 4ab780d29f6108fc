//! A small model of an API server: versions, generations, uids, owners of fields, garbage collection.
//!
//! Ownership follows what a real server was seen to do: an update takes the fields that it changes from everyone, a
//! scale to 0 leaves the field to nobody, an apply owns exactly its configuration.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// The path of a field, in the steps of `fieldsV1`.
type Field = Vec<String>;

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    NotFound,
    Exists,
    Conflict,
    Invalid,
}

/// The whole state of the cluster.
#[derive(Debug, Clone, Default)]
pub(crate) struct Server {
    objects: BTreeMap<(String, String), Value>,
    version: u64,
    /// How often an object of that name was created: the twin gives the same uids.
    created: BTreeMap<(String, String), u64>,
    /// The time, in steps that the test makes.
    pub(crate) clock: u64,
}

impl Server {
    pub(crate) fn get(&self, kind: &str, name: &str) -> Result<Value, Refused> {
        self.objects.get(&key(kind, name)).cloned().ok_or(Refused::NotFound)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.objects.keys().map(|(kind, name)| format!("{kind}/{name}")).collect()
    }

    pub(crate) fn create(&mut self, manager: &str, object: &Value) -> Result<Value, Refused> {
        let key = key(object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        if self.objects.contains_key(&key) {
            return Err(Refused::Exists);
        }
        let mut object = object.clone();
        let count = self.created.entry(key.clone()).or_default();
        *count += 1;
        object["metadata"]["uid"] = json!(format!("uid-{}-{}-{count}", key.0, key.1));
        object["metadata"]["generation"] = json!(1);
        let fields = leaves(&object).into_keys().collect();
        store_owners(&mut object, vec![self.owner(manager, "Update", "", fields)]);
        Ok(self.store(key, object))
    }

    pub(crate) fn delete(&mut self, kind: &str, name: &str, uid: &str) -> Result<(), Refused> {
        if self.get(kind, name)?["metadata"]["uid"] != uid {
            return Err(Refused::Conflict);
        }
        self.objects.remove(&key(kind, name));
        // What the object owned goes with it.
        self.objects.retain(|_, object| {
            let owners = object["metadata"]["ownerReferences"].as_array();
            !owners.is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == uid))
        });
        Ok(())
    }

    /// PUT with the version as precondition.
    pub(crate) fn replace(&mut self, manager: &str, object: &Value) -> Result<Value, Refused> {
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        let live = self.get(kind, name)?;
        if live["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
            return Err(Refused::Conflict);
        }
        Ok(self.update(manager, "", &live, object.clone()))
    }

    /// A merge patch of the main object; `metadata.uid` and `metadata.resourceVersion` are preconditions.
    pub(crate) fn merge(
        &mut self,
        manager: &str,
        kind: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Value, Refused> {
        let live = self.get(kind, name)?;
        for (precondition, refused) in [("resourceVersion", Refused::Conflict), ("uid", Refused::Invalid)] {
            let wanted = &patch["metadata"][precondition];
            if !wanted.is_null() && *wanted != live["metadata"][precondition] {
                return Err(refused);
            }
        }
        let mut object = live.clone();
        merge(&mut object, patch);
        Ok(self.update(manager, "", &live, object))
    }

    /// A JSON patch of tests and replacements.
    pub(crate) fn json_patch(
        &mut self,
        manager: &str,
        kind: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Value, Refused> {
        let live = self.get(kind, name)?;
        let mut object = live.clone();
        for operation in patch.as_array().unwrap() {
            let slot = object.pointer_mut(operation["path"].as_str().unwrap()).ok_or(Refused::Invalid)?;
            match operation["op"].as_str().unwrap() {
                "test" if *slot == operation["value"] => {}
                "test" => return Err(Refused::Invalid),
                "replace" => *slot = operation["value"].clone(),
                other => panic!("operation {other} is not modelled"),
            }
        }
        Ok(self.update(manager, "", &live, object))
    }

    /// A write to the `scale` subresource.
    pub(crate) fn scale(&mut self, manager: &str, name: &str, replicas: i64) -> Result<Value, Refused> {
        let live = self.get("Deployment", name)?;
        let mut object = live.clone();
        object["spec"]["replicas"] = json!(replicas);
        Ok(self.update(manager, "scale", &live, object))
    }

    /// A server-side apply by force.
    pub(crate) fn apply(&mut self, manager: &str, name: &str, config: &Value) -> Result<Value, Refused> {
        let live = self.get("Deployment", name)?;
        let mut object = live.clone();
        merge_by_name(&mut object, config);
        let wanted: BTreeSet<Field> = leaves(config).into_keys().collect();
        let before = leaves(&live);
        let after = leaves(&object);
        let changed: BTreeSet<Field> =
            wanted.iter().filter(|field| before.get(*field) != after.get(*field)).cloned().collect();
        let mut owners = load_owners(&live);
        // An apply that changes no value changes owners without a new time.
        let moved = !changed.is_empty();
        for owner in &mut owners {
            if !owner.is(manager, "Apply", "") {
                owner.fields.retain(|field| !changed.contains(field));
            }
        }
        if let Some(owner) = owners.iter_mut().find(|owner| owner.is(manager, "Apply", "")) {
            owner.fields = wanted;
            if moved {
                owner.time = time(self.clock);
            }
        } else {
            let mut owner = self.owner(manager, "Apply", "", wanted);
            if !moved {
                owner.time.clear();
            }
            owners.push(owner);
        }
        store_owners(&mut object, owners);
        Ok(self.commit(&live, object))
    }

    fn update(&mut self, manager: &str, subresource: &str, live: &Value, mut object: Value) -> Value {
        let (before, after) = (leaves(live), leaves(&object));
        let changed: BTreeSet<Field> = after
            .iter()
            .filter(|(field, value)| before.get(*field) != Some(*value))
            .map(|(field, _)| field.clone())
            .collect();
        let touched: BTreeSet<Field> =
            before.keys().filter(|field| !after.contains_key(*field)).chain(&changed).cloned().collect();
        let mut owners = load_owners(&object);
        for owner in &mut owners {
            owner.fields.retain(|field| !touched.contains(field));
        }
        let to_zero = subresource == "scale" && object["spec"]["replicas"] == 0;
        if !changed.is_empty() && !to_zero {
            match owners.iter_mut().find(|owner| owner.is(manager, "Update", subresource)) {
                Some(owner) => {
                    owner.fields.extend(changed);
                    owner.time = time(self.clock);
                }
                None => owners.push(self.owner(manager, "Update", subresource, changed)),
            }
        }
        store_owners(&mut object, owners);
        self.commit(live, object)
    }

    fn commit(&mut self, live: &Value, mut object: Value) -> Value {
        if *live == object {
            return object;
        }
        if live["spec"] != object["spec"] {
            object["metadata"]["generation"] = json!(live["metadata"]["generation"].as_i64().unwrap() + 1);
        }
        let key = key(object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        self.store(key, object)
    }

    fn store(&mut self, key: (String, String), mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(key, object.clone());
        object
    }

    fn owner(&self, manager: &str, operation: &str, subresource: &str, fields: BTreeSet<Field>) -> Owned {
        Owned {
            manager: manager.to_owned(),
            operation: operation.to_owned(),
            subresource: subresource.to_owned(),
            time: time(self.clock),
            fields,
        }
    }
}

/// One entry of `managedFields`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    operation: String,
    time: String,
    pub(crate) manager: String,
    subresource: String,
    pub(crate) fields: BTreeSet<Field>,
}

impl Owned {
    fn is(&self, manager: &str, operation: &str, subresource: &str) -> bool {
        (self.manager.as_str(), self.operation.as_str(), self.subresource.as_str())
            == (manager, operation, subresource)
    }
}

/// Reads the owners of an object's fields.
pub(crate) fn load_owners(object: &Value) -> Vec<Owned> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let part = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    entries
        .iter()
        .map(|entry| {
            let mut fields = BTreeSet::new();
            load_fields(&entry["fieldsV1"], &mut Vec::new(), &mut fields);
            Owned {
                operation: part(entry, "operation"),
                time: part(entry, "time"),
                manager: part(entry, "manager"),
                subresource: part(entry, "subresource"),
                fields,
            }
        })
        .collect()
}

fn load_fields(tree: &Value, path: &mut Field, fields: &mut BTreeSet<Field>) {
    for (step, below) in tree.as_object().into_iter().flatten() {
        path.push(step.clone());
        if below.as_object().is_some_and(Map::is_empty) {
            fields.insert(path.clone());
        } else {
            load_fields(below, path, fields);
        }
        path.pop();
    }
}

/// Stores the owners as a server does: no empty entries, in its own order.
fn store_owners(object: &mut Value, mut owners: Vec<Owned>) {
    owners.retain(|owner| !owner.fields.is_empty());
    owners.sort_by(|a, b| {
        (&a.operation, &a.time, &a.manager, &a.subresource).cmp(&(
            &b.operation,
            &b.time,
            &b.manager,
            &b.subresource,
        ))
    });
    let entries: Vec<Value> = owners
        .into_iter()
        .map(|owner| {
            let mut tree = json!({});
            for field in &owner.fields {
                let mut slot = &mut tree;
                for step in field {
                    slot = slot.as_object_mut().unwrap().entry(step).or_insert_with(|| json!({}));
                }
            }
            let mut entry = json!({
                "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": tree,
                "manager": owner.manager, "operation": owner.operation,
            });
            if !owner.time.is_empty() {
                entry["time"] = json!(owner.time);
            }
            if !owner.subresource.is_empty() {
                entry["subresource"] = json!(owner.subresource);
            }
            entry
        })
        .collect();
    object["metadata"]["managedFields"] = json!(entries);
}

/// Returns the fields of an object that can be owned, with their values.
fn leaves(object: &Value) -> BTreeMap<Field, Value> {
    let mut fields = BTreeMap::new();
    for key in ["labels", "annotations"] {
        if let Some(value) = object["metadata"].get(key) {
            walk(value, &mut vec!["f:metadata".to_owned(), format!("f:{key}")], &mut fields);
        }
    }
    if let Some(spec) = object.get("spec") {
        walk(spec, &mut vec!["f:spec".to_owned()], &mut fields);
    }
    fields
}

fn walk(value: &Value, path: &mut Field, fields: &mut BTreeMap<Field, Value>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, value) in members {
                path.push(format!("f:{key}"));
                walk(value, path, fields);
                path.pop();
            }
        }
        Value::Array(items) if path.last().is_some_and(|step| step == "f:containers") => {
            for item in items {
                path.push(format!("k:{}", json!({"name": item["name"]})));
                walk(item, path, fields);
                path.pop();
            }
        }
        _ => {
            fields.insert(path.clone(), value.clone());
        }
    }
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(members) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    for (key, value) in members {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

/// Merges a configuration, containers by name.
fn merge_by_name(target: &mut Value, config: &Value) {
    match config {
        Value::Object(members) => {
            for (key, value) in members {
                match (key.as_str(), value) {
                    ("containers", Value::Array(items)) => {
                        for item in items {
                            let list = target[key].as_array_mut().unwrap();
                            let place = list.iter().position(|other| other["name"] == item["name"]).unwrap();
                            merge_by_name(&mut list[place], item);
                        }
                    }
                    _ => merge_by_name(&mut target[key], value),
                }
            }
        }
        _ => *target = config.clone(),
    }
}

fn key(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

fn time(clock: u64) -> String {
    format!("2024-01-01T{:02}:{:02}:{:02}Z", clock / 3600, clock / 60 % 60, clock % 60)
}
