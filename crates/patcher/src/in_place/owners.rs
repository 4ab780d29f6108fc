//! Who owned the fields that a session in place changes, and how they get them back.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::field_owners::{Owner, insert};
use crate::workload::items;

/// In `fieldsV1`, the thing itself beside what is inside it.
const ITSELF: &str = ".";

/// A way through `fieldsV1`.
type Field = Vec<String>;

/// An owner, and the fields that our write takes from it, as `fieldsV1` has them: names, never values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lost {
    owner: Owner,
    fields: Value,
}

impl Lost {
    /// Tells whether it says how the owner wrote.
    pub(crate) fn is_sound(&self) -> bool {
        self.owner.is_known()
    }
}

/// Returns what others lose by a write, beside what they had lost before it and nobody else took since.
pub(super) fn joined(before: Vec<Lost>, live: &Value, after: &Value) -> Vec<Lost> {
    let held: BTreeSet<Field> = entries(live)
        .into_iter()
        .filter(|(owner, _)| !owner.is_towline())
        .flat_map(|(_, fields)| fields)
        .collect();
    let mut all: Vec<(Owner, BTreeSet<Field>)> = before
        .into_iter()
        .map(|lost| {
            let mut fields = flatten(&lost.fields);
            fields.retain(|field| !held.contains(field));
            (lost.owner, fields)
        })
        .collect();
    let now = entries(after);
    for (owner, fields) in entries(live).into_iter().filter(|(owner, _)| !owner.is_towline()) {
        let left = now.iter().find(|(other, _)| other.is(&owner)).map(|(_, fields)| fields);
        let lost = fields.into_iter().filter(|field| left.is_none_or(|left| !left.contains(field)));
        match all.iter_mut().find(|(known, _)| known.is(&owner)) {
            Some((known, fields)) => {
                fields.extend(lost);
                *known = owner;
            }
            None => all.push((owner, lost.collect())),
        }
    }
    all.retain(|(_, fields)| !fields.is_empty());
    all.into_iter().map(|(owner, fields)| Lost { owner, fields: nest(&fields) }).collect()
}

/// Returns `metadata.managedFields` without us, and with what we own given to those who had it.
///
/// An applier that has applied again since without taking a field has let go of it.
pub(super) fn given_back(live: &Value, owners: &[Lost]) -> Vec<Value> {
    let mut ours = BTreeSet::new();
    let mut left: Vec<Value> = items(live, "/metadata/managedFields").to_vec();
    left.retain(|entry| {
        let owner = Owner::of_entry(entry);
        let whole = owner.is_towline() && owner.is_of_object();
        if whole {
            ours.extend(flatten(entry.get("fieldsV1").unwrap_or(&Value::Null)));
        }
        !whole
    });
    for lost in owners {
        let back: BTreeSet<Field> = flatten(&lost.fields).intersection(&ours).cloned().collect();
        if back.is_empty() {
            continue;
        }
        match left.iter_mut().find(|entry| Owner::of_entry(entry).is(&lost.owner)) {
            Some(entry) => {
                if !lost.owner.has_let_go(entry) {
                    let mut all = flatten(entry.get("fieldsV1").unwrap_or(&Value::Null));
                    all.extend(back);
                    entry["fieldsV1"] = nest(&all);
                }
            }
            None => insert(&mut left, &lost.owner, &nest(&back)),
        }
    }
    left
}

/// Returns who wrote a field of the spec last, ourselves excepted.
pub(super) fn last_writer(live: &Value) -> Option<String> {
    let of_spec = |fields: &BTreeSet<Field>| fields.iter().any(|field| field[0] == "f:spec");
    let mut writers: Vec<_> = entries(live)
        .into_iter()
        .filter(|(owner, fields)| !owner.is_towline() && of_spec(fields))
        .map(|(owner, _)| owner)
        .collect();
    writers.sort_by(|a, b| a.time.cmp(&b.time));
    writers.pop().map(|owner| owner.manager)
}

fn entries(object: &Value) -> Vec<(Owner, BTreeSet<Field>)> {
    items(object, "/metadata/managedFields")
        .iter()
        .filter(|entry| Owner::of_entry(entry).subresource != "status")
        .map(|entry| (Owner::of_entry(entry), flatten(entry.get("fieldsV1").unwrap_or(&Value::Null))))
        .collect()
}

/// Turns `fieldsV1` into the fields that are owned. One with owned fields inside says so with a `.` beside them, one
/// without has nothing inside: both are the same field.
fn flatten(fields: &Value) -> BTreeSet<Field> {
    fn walk(node: &Value, path: &mut Field, found: &mut BTreeSet<Field>) {
        let inside = node.as_object().filter(|children| !children.is_empty() && path.len() < 64);
        if !path.is_empty() && inside.is_none_or(|children| children.contains_key(ITSELF)) {
            found.insert(path.clone());
        }
        for (key, child) in inside.into_iter().flatten().filter(|(key, _)| *key != ITSELF) {
            path.push(key.clone());
            walk(child, path, found);
            path.pop();
        }
    }
    let mut found = BTreeSet::new();
    walk(fields, &mut Vec::new(), &mut found);
    found
}

/// Turns fields into `fieldsV1`.
fn nest(fields: &BTreeSet<Field>) -> Value {
    let mut root = Value::Object(Map::new());
    for field in fields {
        let mut node = &mut root;
        for (depth, step) in field.iter().enumerate() {
            let Some(map) = node.as_object_mut() else { break };
            // A field comes before those inside it.
            if map.is_empty() && fields.contains(&field[..depth]) {
                map.insert(ITSELF.to_owned(), Value::Object(Map::new()));
            }
            node = map.entry(step.clone()).or_insert_with(|| Value::Object(Map::new()));
        }
    }
    root
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_owned_with_or_without_what_is_inside_it() {
        let check = |whole: Value, lost: &[&str], left: Value| {
            let mut fields = flatten(&whole);
            assert_eq!(nest(&fields), whole);
            let lost: Field = lost.iter().map(|&step| step.to_owned()).collect();
            assert!(fields.remove(&lost), "{lost:?}");
            assert_eq!(nest(&fields), left);
            let mut again = flatten(&left);
            again.insert(lost);
            assert_eq!(nest(&again), whole, "given back");
        };
        let rolling = json!({"f:type": {}, "f:rollingUpdate": {".": {}, "f:partition": {}}});
        check(rolling, &["f:rollingUpdate", "f:partition"], json!({"f:type": {}, "f:rollingUpdate": {}}));
        let env = json!({"k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}});
        let item = "k:{\"name\":\"A\"}";
        check(env, &[item, "f:value"], json!({item: {".": {}, "f:name": {}}}));
        check(json!({"f:spec": {"f:replicas": {}}}), &["f:spec", "f:replicas"], json!({}));
    }
}
