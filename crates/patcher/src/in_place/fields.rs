//! Fields of an object by their paths: how two versions differ, and the way back of one field.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::names::cut;
use crate::workload::digest;

/// One field that was changed.
///
/// The path is a JSON pointer in which an item of a list is named by its key: `/spec/template/spec/containers/name=web`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Touched {
    /// Where it is.
    #[serde(rename = "p")]
    pub path: String,
    /// The hash of its value before, if it had one.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    /// The value before itself, outside the template alone: a number or a word.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    /// The hash of its value after, if it has one.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    /// How many of the objects and lists around it were made for it: they go with it.
    #[serde(rename = "m", default, skip_serializing_if = "is_zero")]
    made: u8,
}

/// What became of one field on the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reverted {
    /// It was ours and is as before.
    Done,
    /// It is as before already.
    Nothing,
    /// Somebody else has changed it.
    Kept,
    /// It is ours, and its value before is not known any more.
    Missing,
}

/// Lists that are merged by a key, and the key.
const KEYED: [(&str, &str); 5] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("volumeMounts", "mountPath"),
];
/// Objects that make sense as a whole only.
const WHOLE: [&str; 6] =
    ["affinity", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "selector"];
/// What outside a template may be changed, and so may stand in the record.
const OUTSIDE: [&str; 3] =
    ["/spec/replicas", "/spec/updateStrategy/type", "/spec/updateStrategy/rollingUpdate/partition"];

impl Touched {
    /// Tells whether a record may have it: a field that a session changes, and a value that is no secret.
    pub(crate) fn is_sound(&self, template: &str) -> bool {
        let outside = OUTSIDE.contains(&self.path.as_str());
        let inside = self.path.strip_prefix(template).is_some_and(|rest| rest.starts_with('/'));
        let word = |value: &Value| {
            value.as_i64().is_some_and(|number| (0..=i64::from(i32::MAX)).contains(&number))
                || matches!(value.as_str(), Some("RollingUpdate" | "OnDelete"))
        };
        self.path.len() <= 1024
            && (inside || outside)
            && self.value.as_ref().is_none_or(|value| outside && word(value))
    }

    /// Tells whether an object has the value before.
    pub(super) fn is_as_before(&self, live: &Value, salt: &str) -> bool {
        lookup(live, &self.path).map(|value| hash(salt, value)) == self.before
    }

    /// Tells whether the value before will be found again.
    pub(super) fn can_go_back(&self, salt: &str, template: &str, history: &[Value]) -> bool {
        self.before.is_none() || self.value_before(salt, template, history).is_some()
    }

    /// Puts the field back into `object`, if it is still as we left it.
    pub(super) fn revert(
        &self,
        object: &mut Value,
        salt: &str,
        template: &str,
        history: &[Value],
    ) -> Reverted {
        let live = lookup(object, &self.path).map(|value| hash(salt, value));
        if live == self.after {
            return match (&self.before, self.value_before(salt, template, history)) {
                (None, _) => {
                    remove(object, &self.path, self.made);
                    Reverted::Done
                }
                (Some(_), Some(value)) => {
                    if insert(object, &self.path, value) {
                        Reverted::Done
                    } else {
                        Reverted::Kept
                    }
                }
                (Some(_), None) => Reverted::Missing,
            };
        }
        if live == self.before {
            return Reverted::Nothing;
        }
        if is_ours(&self.path) && self.before.is_none() {
            remove(object, &self.path, self.made);
            return Reverted::Done;
        }
        Reverted::Kept
    }

    fn value_before(&self, salt: &str, template: &str, history: &[Value]) -> Option<Value> {
        let wanted = self.before.as_ref()?;
        if let Some(value) = &self.value {
            return Some(value.clone());
        }
        let path = self.path.strip_prefix(template)?;
        history
            .iter()
            .filter_map(|known| lookup(known, path))
            .find(|value| hash(salt, value) == *wanted)
            .cloned()
    }
}

/// Tells whether a field can be nobody's but ours: something that we add under a name of ours.
pub(super) fn is_ours(path: &str) -> bool {
    let last = unescaped(path.rsplit('/').next().unwrap_or_default());
    ["name=towline-", "mountPath=/.towline/", "towline.dev/"].iter().any(|start| last.starts_with(start))
}

/// Returns how the spec of two versions of an object differs, field by field.
pub(super) fn differ(salt: &str, template: &str, before: &Value, after: &Value) -> Vec<Touched> {
    let mut found = Vec::new();
    let mut walk = Walk { salt, template, found: &mut found };
    walk.compare("spec", "/spec", before.get("spec"), after.get("spec"), 0);
    found
}

struct Walk<'a> {
    salt: &'a str,
    template: &'a str,
    found: &'a mut Vec<Touched>,
}

impl Walk<'_> {
    fn compare(&mut self, name: &str, path: &str, before: Option<&Value>, after: Option<&Value>, made: u8) {
        let before = before.filter(|value| !value.is_null());
        let after = after.filter(|value| !value.is_null());
        if before == after {
            return;
        }
        match (before, after) {
            (Some(Value::Object(before)), Some(Value::Object(after))) if !is_whole(name) => {
                self.members(path, Some(before), after, 0);
            }
            (None, Some(Value::Object(after))) if !is_whole(name) && !after.is_empty() => {
                self.members(path, None, after, made + 1);
            }
            (before @ (None | Some(Value::Array(_))), Some(Value::Array(after))) => {
                let empty = Vec::new();
                let list = before.and_then(Value::as_array);
                let keys = (keys(name, list.unwrap_or(&empty)), keys(name, after));
                match keys {
                    (Some(known), Some(now))
                        if known.iter().all(|key| now.contains(key)) && !after.is_empty() =>
                    {
                        let made = if list.is_some() { 0 } else { made + 1 };
                        self.items(name, path, list.unwrap_or(&empty), after, made);
                    }
                    _ => self.note(path, before, Some(&Value::Array(after.clone())), made),
                }
            }
            (before, after) => self.note(path, before, after, made),
        }
    }

    fn members(
        &mut self,
        path: &str,
        before: Option<&Map<String, Value>>,
        after: &Map<String, Value>,
        made: u8,
    ) {
        let known = before.into_iter().flat_map(Map::keys);
        let names: BTreeSet<&String> = known.chain(after.keys()).collect();
        for name in names {
            let below = format!("{path}/{}", escaped(name));
            self.compare(name, &below, before.and_then(|map| map.get(name)), after.get(name), made);
        }
    }

    fn items(&mut self, list: &str, path: &str, before: &[Value], after: &[Value], made: u8) {
        let Some(field) = key_of(list) else { return };
        for item in after {
            let Some(key) = item.get(field).and_then(Value::as_str) else { continue };
            let known = before.iter().find(|other| other.get(field).and_then(Value::as_str) == Some(key));
            let below = format!("{path}/{}", escaped(&format!("{field}={key}")));
            match known {
                // A container has fields of its own; a volume, a mount or a variable is one thing.
                Some(known) if matches!(list, "containers" | "initContainers") => {
                    self.compare("", &below, Some(known), Some(item), 0);
                }
                Some(known) if known == item => {}
                known => self.note(&below, known, Some(item), made),
            }
        }
    }

    fn note(&mut self, path: &str, before: Option<&Value>, after: Option<&Value>, made: u8) {
        let inside = path.strip_prefix(self.template).is_some_and(|rest| rest.starts_with('/'));
        self.found.push(Touched {
            path: path.to_owned(),
            before: before.map(|value| hash(self.salt, value)),
            value: before.filter(|_| !inside).cloned(),
            after: after.map(|value| hash(self.salt, value)),
            made,
        });
    }
}

/// Returns the merge patch (RFC 7386) that turns one value into another; `None` when they are the same.
pub(super) fn merge_patch(from: &Value, to: &Value) -> Option<Value> {
    if from == to {
        return None;
    }
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return Some(to.clone()) };
    let mut patch = Map::new();
    for name in from.keys().filter(|name| to.get(*name).is_none_or(Value::is_null)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, value) in to.iter().filter(|(_, value)| !value.is_null()) {
        let change = match from.get(name) {
            Some(known) => merge_patch(known, value),
            None => Some(value.clone()),
        };
        if let Some(change) = change {
            patch.insert(name.clone(), change);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

fn lookup<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let mut place = object;
    for step in path.split('/').skip(1) {
        place = match place {
            Value::Object(map) => map.get(&unescaped(step))?,
            Value::Array(list) => {
                let (field, key) = item(step)?;
                list.iter().find(|item| item.get(&field).and_then(Value::as_str) == Some(&key))?
            }
            _ => return None,
        };
    }
    Some(place).filter(|value| !value.is_null())
}

fn lookup_mut<'a>(object: &'a mut Value, steps: &[&str]) -> Option<&'a mut Value> {
    let mut place = object;
    for step in steps {
        place = match place {
            Value::Object(map) => map.get_mut(&unescaped(step))?,
            Value::Array(list) => {
                let (field, key) = item(step)?;
                list.iter_mut().find(|item| item.get(&field).and_then(Value::as_str) == Some(&key))?
            }
            _ => return None,
        };
    }
    Some(place)
}

/// Puts a value where the thing around it is still there; tells whether it is.
fn insert(object: &mut Value, path: &str, value: Value) -> bool {
    let steps: Vec<_> = path.split('/').skip(1).collect();
    let Some((last, above)) = steps.split_last() else { return false };
    match lookup_mut(object, above) {
        Some(Value::Object(map)) => {
            map.insert(unescaped(last), value);
            true
        }
        Some(Value::Array(items)) => {
            let Some((field, key)) = item(last) else { return false };
            let known = items.iter_mut().find(|item| item.get(&field).and_then(Value::as_str) == Some(&key));
            match known {
                Some(known) => *known = value,
                None => items.push(value),
            }
            true
        }
        _ => false,
    }
}

/// Removes a value, and up to `made` things around it that are empty then.
fn remove(object: &mut Value, path: &str, made: u8) {
    let steps: Vec<_> = path.split('/').skip(1).collect();
    let mut depth = steps.len();
    for round in 0..=made {
        let Some((last, above)) = steps[..depth].split_last() else { return };
        let Some(parent) = lookup_mut(object, above) else { return };
        match parent {
            Value::Object(map) => {
                let name = unescaped(last);
                let empty = map.get(&name).is_some_and(|value| match value {
                    Value::Object(map) => map.is_empty(),
                    Value::Array(items) => items.is_empty(),
                    _ => false,
                });
                if round > 0 && !empty {
                    return;
                }
                map.remove(&name);
            }
            Value::Array(items) => {
                let Some((field, key)) = item(last) else { return };
                items.retain(|item| item.get(&field).and_then(Value::as_str) != Some(&key));
            }
            _ => return,
        }
        depth -= 1;
    }
}

/// Returns the keys of a list's items, if it is one that is merged by key and each key is there once.
fn keys<'a>(list: &str, items: &'a [Value]) -> Option<BTreeSet<&'a str>> {
    let field = key_of(list)?;
    let mut seen = BTreeSet::new();
    let once = |item: &'a Value| item.get(field).and_then(Value::as_str).is_some_and(|key| seen.insert(key));
    items.iter().all(once).then_some(seen)
}

fn key_of(list: &str) -> Option<&'static str> {
    KEYED.iter().find(|(name, _)| *name == list).map(|(_, key)| *key)
}

fn is_whole(name: &str) -> bool {
    WHOLE.contains(&name)
}

fn item(step: &str) -> Option<(String, String)> {
    unescaped(step).split_once('=').map(|(field, key)| (field.to_owned(), key.to_owned()))
}

fn hash(salt: &str, value: &Value) -> String {
    cut(&digest(salt, value), 16).to_owned()
}

fn escaped(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}

pub(super) fn unescaped(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u8) -> bool {
    *number == 0
}
