//! Changes of JSON objects that remember what they changed and why.

use serde_json::{Map, Value};

use crate::plan::PlanError;

/// Stands for the value of a variable: it may be a secret.
pub const HIDDEN: &str = "<hidden>";

/// One difference between the original and its clone. Command lines are in it, so it is for the user's eyes and not
/// for a log; values of variables are [`HIDDEN`].
#[derive(Debug, Clone, PartialEq)]
pub struct FieldChange {
    /// Where, by name and not by index: `spec.template.spec.containers[name=api].image`.
    pub path: String,
    /// The original's value, if it has one.
    pub before: Option<Value>,
    /// The clone's value, if it has one.
    pub after: Option<Value>,
    /// Why, for a plan that the user reads.
    pub reason: &'static str,
}

/// The changes so far.
#[derive(Debug, Default)]
pub(super) struct Edits {
    changes: Vec<FieldChange>,
}

impl Edits {
    pub(super) fn into_changes(self) -> Vec<FieldChange> {
        self.changes
    }

    /// Sets a member.
    pub(super) fn set(
        &mut self,
        map: &mut Map<String, Value>,
        at: &str,
        key: &str,
        after: Value,
        reason: &'static str,
    ) {
        let before = map.insert(key.to_owned(), after.clone()).filter(|before| !before.is_null());
        self.note(format!("{at}.{key}"), before, Some(after), reason);
    }

    /// Removes a member.
    pub(super) fn remove(&mut self, map: &mut Map<String, Value>, at: &str, key: &str, reason: &'static str) {
        let before = map.remove(key).filter(|before| !before.is_null());
        self.note(format!("{at}.{key}"), before, None, reason);
    }

    /// Merges into a member as RFC 7386 says: a null removes.
    pub(super) fn merge(
        &mut self,
        map: &mut Map<String, Value>,
        at: &str,
        key: &str,
        patch: &Value,
        reason: &'static str,
    ) -> Result<(), PlanError> {
        if !patch.is_object() {
            return Err(malformed(at, key, "an object"));
        }
        let mut merged = map.get(key).cloned().unwrap_or_default();
        merge(&mut merged, patch);
        self.set(map, at, key, merged, reason);
        Ok(())
    }

    /// Adds an item to a list.
    pub(super) fn push(
        &mut self,
        map: &mut Map<String, Value>,
        at: &str,
        key: &str,
        name: &str,
        item: Value,
        reason: &'static str,
    ) -> Result<(), PlanError> {
        list(map, at, key)?.push(item.clone());
        self.note(format!("{at}.{key}[{name}]"), None, Some(item), reason);
        Ok(())
    }

    /// Remembers a change made elsewhere; one that changes nothing is none.
    pub(super) fn note(
        &mut self,
        path: String,
        before: Option<Value>,
        after: Option<Value>,
        reason: &'static str,
    ) {
        if before != after {
            self.changes.push(FieldChange { path, before, after, reason });
        }
    }
}

/// Returns a member that is an object, made if it is not there.
pub(super) fn child<'a>(
    map: &'a mut Map<String, Value>,
    at: &str,
    key: &str,
) -> Result<&'a mut Map<String, Value>, PlanError> {
    let slot = map.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut().ok_or_else(|| malformed(at, key, "an object"))
}

/// Returns a member that is a list, made if it is not there.
pub(super) fn list<'a>(
    map: &'a mut Map<String, Value>,
    at: &str,
    key: &str,
) -> Result<&'a mut Vec<Value>, PlanError> {
    let slot = map.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Array(Vec::new());
    }
    slot.as_array_mut().ok_or_else(|| malformed(at, key, "a list"))
}

pub(super) fn malformed(at: &str, key: &str, wanted: &'static str) -> PlanError {
    let path = if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    PlanError::Malformed { path, wanted }
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(members) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(target) = target.as_object_mut() else { return };
    for (key, value) in members {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merges_as_the_standard_says() {
        let check = |target: Value, patch: Value, expected: Value| {
            let mut merged = target;
            merge(&mut merged, &patch);
            assert_eq!(merged, expected);
        };
        check(
            json!({"a": {"b": 1, "c": 2}}),
            json!({"a": {"b": null, "d": 3}}),
            json!({"a": {"c": 2, "d": 3}}),
        );
        check(json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]}));
        check(json!(null), json!({"a": {"b": null}}), json!({"a": {}}));
    }

    #[test]
    fn what_changes_nothing_is_no_change() {
        let mut edits = Edits::default();
        let mut map = Map::from_iter([("a".to_owned(), json!(1)), ("n".to_owned(), Value::Null)]);
        edits.set(&mut map, "x", "a", json!(1), "same");
        edits.remove(&mut map, "x", "b", "absent");
        edits.remove(&mut map, "x", "n", "null");
        assert!(edits.into_changes().is_empty());
    }
}
