//! Who owns the field that turns a workload off, as `metadata.managedFields` keeps it.
//!
//! A write to a field takes it from all its owners. An owner that is gone can be overwritten silently by the next
//! server-side apply, or be named in a conflict long after us: so ownership is part of what is given back.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::workload::{items, text};

/// The field manager of every write of ours to the original.
pub const FIELD_MANAGER: &str = "towline";

/// One entry of `metadata.managedFields`, without its fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Owner {
    /// The field manager's name.
    pub manager: String,
    /// `Apply` or `Update`.
    pub operation: String,
    /// The version that its fields are in.
    pub api_version: String,
    /// `scale`, or empty for the object itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subresource: String,
    /// When it last took a field, as the server wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

impl Owner {
    pub(crate) fn of_entry(entry: &Value) -> Self {
        let part = |pointer| text(entry, pointer).unwrap_or_default().to_owned();
        Self {
            manager: part("/manager"),
            operation: part("/operation"),
            api_version: part("/apiVersion"),
            subresource: part("/subresource"),
            time: text(entry, "/time").map(str::to_owned),
        }
    }

    /// Tells whether the entry is ours.
    pub(crate) fn is_towline(&self) -> bool {
        self.manager == FIELD_MANAGER
    }

    /// Tells whether it is of the object itself, not of a part that is written apart.
    pub(crate) fn is_of_object(&self) -> bool {
        self.subresource.is_empty()
    }

    /// Tells whether it wrote as the server knows it.
    pub(crate) fn is_known(&self) -> bool {
        matches!(self.operation.as_str(), "Apply" | "Update")
    }

    /// Tells whether its entry, as it is now, says that it has applied again since: what it did not take then it has
    /// let go of.
    pub(crate) fn has_let_go(&self, entry: &Value) -> bool {
        self.operation == "Apply" && Self::of_entry(entry).time != self.time
    }

    /// Tells whether both name the same entry: all but the time.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.key() == other.key()
    }

    fn key(&self) -> (&str, &str, &str, &str) {
        (&self.manager, &self.operation, &self.api_version, &self.subresource)
    }

    /// The server's own order of entries.
    pub(crate) fn order(&self) -> (&str, Option<&str>, &str, &str, &str) {
        (&self.operation, self.time.as_deref(), &self.manager, &self.api_version, &self.subresource)
    }

    /// Returns it as an entry that owns these fields.
    pub(crate) fn entry(&self, fields: &Value) -> Value {
        let mut entry = json!({
            "apiVersion": self.api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
            "manager": self.manager,
            "operation": self.operation,
        });
        if !self.subresource.is_empty() {
            entry["subresource"] = json!(self.subresource);
        }
        if let Some(time) = &self.time {
            entry["time"] = json!(time);
        }
        entry
    }
}

/// Returns the owners of `spec.<field>`, in the object's order.
pub(crate) fn of_field(object: &Value, field: &str) -> Vec<Owner> {
    items(object, "/metadata/managedFields")
        .iter()
        .filter(|entry| owns(entry, field))
        .map(Owner::of_entry)
        .collect()
}

/// Returns the manager that last took a field under `spec.<field>`, ours excepted.
pub(crate) fn last_writer(object: &Value, field: &str) -> Option<String> {
    let field = format!("f:{field}");
    items(object, "/metadata/managedFields")
        .iter()
        .filter(|entry| entry.pointer("/fieldsV1/f:spec").and_then(|spec| spec.get(&field)).is_some())
        .map(Owner::of_entry)
        .filter(|owner| !owner.is_towline())
        .max_by(|a, b| a.time.cmp(&b.time))
        .map(|owner| owner.manager)
}

/// Returns `metadata.managedFields` with `spec.<field>` taken from us and given to `owners`.
///
/// An entry that is gone, because it owned nothing else, comes back with its time. An applier that has applied again
/// since without taking the field has let go of it (with the field in its configuration it would have taken it or
/// met a conflict), so it is not given to it.
pub(crate) fn with_owners(object: &Value, field: &str, owners: &[Owner]) -> Vec<Value> {
    let mut entries: Vec<Value> = items(object, "/metadata/managedFields").to_vec();
    entries.retain_mut(|entry| {
        !Owner::of_entry(entry).is_towline() || !owns(entry, field) || disown(entry, field)
    });
    for owner in owners {
        if let Some(entry) = entries.iter_mut().find(|entry| Owner::of_entry(entry).is(owner)) {
            if !owner.has_let_go(entry) || owns(entry, field) {
                own(entry, field);
            }
        } else {
            let fields = json!({"f:spec": {(format!("f:{field}")): {}}});
            insert(&mut entries, owner, &fields);
        }
    }
    entries
}

/// Puts an entry back at the server's own place for it.
pub(crate) fn insert(entries: &mut Vec<Value>, owner: &Owner, fields: &Value) {
    let later = |entry: &Value| Owner::of_entry(entry).order() > owner.order();
    let place = entries.iter().position(later).unwrap_or(entries.len());
    entries.insert(place, owner.entry(fields));
}

fn owns(entry: &Value, field: &str) -> bool {
    entry.pointer("/fieldsV1/f:spec").is_some_and(|spec| spec.get(format!("f:{field}")).is_some())
}

/// Takes the field from an entry; tells whether the entry owns anything else.
fn disown(entry: &mut Value, field: &str) -> bool {
    let Some(fields) = entry.get_mut("fieldsV1").and_then(Value::as_object_mut) else { return true };
    if let Some(spec) = fields.get_mut("f:spec").and_then(Value::as_object_mut) {
        spec.remove(&format!("f:{field}"));
        if spec.is_empty() {
            fields.remove("f:spec");
        }
    }
    !fields.is_empty()
}

/// Gives the field to an entry.
fn own(entry: &mut Value, field: &str) {
    let mut parent = entry;
    for key in ["fieldsV1", "f:spec", &format!("f:{field}")] {
        let Some(members) = parent.as_object_mut() else { return };
        parent = members.entry(key).or_insert_with(|| Value::Object(Map::new()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, time: &str, spec: &Value) -> Value {
        json!({
            "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": spec},
            "manager": manager, "operation": operation, "time": time,
        })
    }

    fn object(entries: &[Value]) -> Value {
        json!({"metadata": {"managedFields": entries}})
    }

    fn owner(manager: &str, operation: &str, time: &str) -> Owner {
        Owner::of_entry(&entry(manager, operation, time, &json!({})))
    }

    #[test]
    fn ownership_goes_back_into_its_entries() {
        let both = json!({"f:replicas": {}, "f:template": {}});
        let rest = json!({"f:template": {}});
        let only = json!({"f:replicas": {}});
        let check = |now: &[Value], owners: &[Owner], expected: &[Value]| {
            assert_eq!(with_owners(&object(now), "replicas", owners), expected);
        };
        // Ours alone goes, theirs is filled again.
        check(
            &[entry("argo", "Apply", "1", &rest), entry("towline", "Update", "9", &only)],
            &[owner("argo", "Apply", "1")],
            &[entry("argo", "Apply", "1", &both)],
        );
        // A vanished entry comes back at its place, with its time.
        check(
            &[
                entry("argo", "Apply", "1", &rest),
                entry("ci", "Update", "5", &rest),
                entry("towline", "Update", "9", &only),
            ],
            &[owner("kubectl", "Update", "3")],
            &[
                entry("argo", "Apply", "1", &rest),
                entry("kubectl", "Update", "3", &only),
                entry("ci", "Update", "5", &rest),
            ],
        );
        // What else we own stays ours.
        check(&[entry("towline", "Update", "9", &both)], &[], &[entry("towline", "Update", "9", &rest)]);
        // An applier that applied again without it has let go.
        check(
            &[entry("argo", "Apply", "4", &rest), entry("towline", "Update", "9", &only)],
            &[owner("argo", "Apply", "1")],
            &[entry("argo", "Apply", "4", &rest)],
        );
    }

    #[test]
    fn odd_entries_do_no_harm() {
        let odd =
            object(&[json!(null), json!(7), json!({"fieldsV1": []}), json!({"manager": "a", "fieldsV1": 3})]);
        assert!(of_field(&odd, "replicas").is_empty());
        assert_eq!(with_owners(&odd, "replicas", &[owner("a", "", "")]).len(), 5);
        assert!(of_field(&json!({"metadata": {"managedFields": "x"}}), "replicas").is_empty());
    }
}
