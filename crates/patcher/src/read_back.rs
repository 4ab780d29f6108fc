//! What admission removed or changed of what we sent.
//!
//! The server defaults, webhooks add, and some fields vanish without a word (an unknown volume source does). Only
//! what we asked for is compared; what was added is none of our business.

use serde_json::{Map, Value, json};

use crate::patch::HIDDEN;
use crate::quantity::same_quantity;

/// A field that is not stored as sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    /// Where, by merge key and not by index: `spec.template.spec.volumes[name=towline-run].emptyDir`.
    pub path: String,
    /// As sent; [`HIDDEN`] for the value of a variable.
    pub wanted: Value,
    /// As stored; `None` if it was removed.
    pub found: Option<Value>,
}

/// Returns what of `sent` is not in `stored`, in the order of the fields. Empty: everything is as asked.
///
/// Lists with a merge key are compared by it, so order and additions do not count there. Zero values that the server
/// leaves out, and other ways to write a quantity, are no drift. A real pod can be compared with
/// [`crate::pod_of`] as well: its `generateName` is not looked at.
pub fn read_back(sent: &Value, stored: &Value) -> Vec<Drift> {
    let mut drifts = Vec::new();
    compare(
        &Place { path: String::new(), key: "", in_environment: false, amount: false },
        sent,
        Some(stored),
        &mut drifts,
    );
    drifts
}

/// Where the comparison is.
struct Place<'a> {
    path: String,
    /// The name of the field, or of the list that an item is in.
    key: &'a str,
    /// Within a container's variables.
    in_environment: bool,
    /// Within a map of quantities, or a quantity itself.
    amount: bool,
}

impl<'a> Place<'a> {
    fn member(&self, key: &'a str) -> Self {
        Self {
            path: if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) },
            key,
            in_environment: self.in_environment || key == "env",
            amount: matches!(key, "limits" | "requests" | "sizeLimit") || self.amount,
        }
    }

    fn item(&self, label: &str) -> Self {
        Self { path: format!("{}[{label}]", self.path), ..*self }
    }

    fn drift(&self, wanted: &Value, found: Option<&Value>) -> Drift {
        let hide = self.in_environment;
        let shown = |value: &Value| if hide { hidden(value) } else { without_values(value) };
        Drift { path: self.path.clone(), wanted: shown(wanted), found: found.map(shown) }
    }
}

fn compare(place: &Place<'_>, sent: &Value, stored: Option<&Value>, drifts: &mut Vec<Drift>) {
    let stored = stored.filter(|stored| !stored.is_null());
    let Some(stored) = stored else {
        if !may_be_left_out(place.key, sent) {
            drifts.push(place.drift(sent, None));
        }
        return;
    };
    match (sent, stored) {
        (Value::Null, _) => {}
        (Value::Object(sent), Value::Object(stored)) => compare_objects(place, sent, stored, drifts),
        (Value::Array(wanted), Value::Array(found)) => {
            compare_lists(place, wanted, found, drifts);
        }
        _ if place.amount && same_quantity(sent, stored) => {}
        _ if sent == stored => {}
        _ => drifts.push(place.drift(sent, Some(stored))),
    }
}

fn compare_objects(
    place: &Place<'_>,
    sent: &Map<String, Value>,
    stored: &Map<String, Value>,
    drifts: &mut Vec<Drift>,
) {
    for (key, value) in sent {
        if place.path == "metadata" && key == "generateName" {
            continue;
        }
        compare(&place.member(key), value, stored.get(key), drifts);
    }
}

fn compare_lists(place: &Place<'_>, wanted: &[Value], found: &[Value], drifts: &mut Vec<Drift>) {
    if let Some(keys) = merge_keys(place.key) {
        for item in wanted {
            let label: Vec<_> =
                keys.iter().filter_map(|key| Some(format!("{key}={}", plain(item.get(key)?)))).collect();
            let place = place.item(&label.join(","));
            // Names may occur twice, as variables do: the best of the same name counts.
            let best = found
                .iter()
                .filter(|other| keys.iter().all(|key| same_key(key, item, other)))
                .map(|other| {
                    let mut drifts = Vec::new();
                    compare(&place, item, Some(other), &mut drifts);
                    drifts
                })
                .min_by_key(Vec::len);
            match best {
                Some(best) => drifts.extend(best),
                None => drifts.push(place.drift(item, None)),
            }
        }
    } else if place.key == "tolerations" {
        for item in wanted.iter().filter(|item| !found.contains(item)) {
            drifts.push(
                place
                    .item(&format!("key={}", plain(item.get("key").unwrap_or(&json!("*")))))
                    .drift(item, None),
            );
        }
    } else if wanted.len() != found.len() {
        drifts.push(place.drift(&json!(wanted), Some(&json!(found))));
    } else {
        for (index, (wanted, found)) in wanted.iter().zip(found).enumerate() {
            compare(&place.item(&index.to_string()), wanted, Some(found), drifts);
        }
    }
}

/// The keys that tell the items of a list apart, as the API's types declare them.
fn merge_keys(list: &str) -> Option<&'static [&'static str]> {
    Some(match list {
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" | "resourceClaims" => {
            &["name"]
        }
        "volumeMounts" => &["mountPath"],
        "volumeDevices" => &["devicePath"],
        "ports" => &["containerPort", "protocol"],
        "hostAliases" => &["ip"],
        "topologySpreadConstraints" => &["topologyKey", "whenUnsatisfiable"],
        "ownerReferences" => &["uid"],
        _ => return None,
    })
}

fn same_key(key: &str, a: &Value, b: &Value) -> bool {
    let default = if key == "protocol" { json!("TCP") } else { Value::Null };
    a.get(key).unwrap_or(&default) == b.get(key).unwrap_or(&default)
}

/// Tells whether the server leaves a value out where it is what the field has anyway. Only fields that can't tell
/// "not said" from their zero do so; `allowPrivilegeEscalation: false` must be there.
fn may_be_left_out(key: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => {
            members.is_empty()
                && matches!(
                    key,
                    "resources"
                        | "limits"
                        | "requests"
                        | "nodeSelector"
                        | "labels"
                        | "annotations"
                        | "matchLabels"
                )
        }
        Value::Bool(false) => {
            matches!(
                key,
                "readOnly" | "hostNetwork" | "hostPID" | "hostIPC" | "stdin" | "stdinOnce" | "tty" | "paused"
            )
        }
        Value::Number(number) => {
            number.as_f64() == Some(0.0)
                && matches!(key, "hostPort" | "minReadySeconds" | "initialDelaySeconds")
        }
        Value::Bool(true) => false,
    }
}

/// Keeps a variable's name and the place its value comes from, never the value.
fn hidden(value: &Value) -> Value {
    match value {
        Value::Object(variable) => variable
            .iter()
            .map(|(key, value)| (key.clone(), if key == "value" { json!(HIDDEN) } else { value.clone() }))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(list) => list.iter().map(hidden).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => json!(HIDDEN),
    }
}

/// Hides the values of the variables that are somewhere within.
fn without_values(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| {
                (key.clone(), if key == "env" { hidden(value) } else { without_values(value) })
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(list) => list.iter().map(without_values).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drifts(sent: &Value, stored: &Value) -> Vec<String> {
        read_back(sent, stored).into_iter().map(|drift| drift.path).collect()
    }

    #[test]
    fn finds_what_is_gone_or_other() {
        let check = |sent: Value, stored: Value, expected: &[&str]| {
            assert_eq!(drifts(&sent, &stored), expected, "{sent} {stored}");
        };
        // Additions and order are fine in keyed lists.
        check(
            json!({"containers": [{"name": "a", "image": "x"}, {"name": "b"}]}),
            json!({"containers": [{"name": "proxy"}, {"name": "b"}, {"name": "a", "image": "x", "tty": true}]}),
            &[],
        );
        check(
            json!({"containers": [{"name": "a", "image": "x"}]}),
            json!({"containers": [{"name": "b"}, {"name": "a", "image": "mirror/x"}]}),
            &["containers[name=a].image"],
        );
        // A volume whose source was dropped.
        check(
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v"}]}),
            &["volumes[name=v].emptyDir"],
        );
        check(json!({"command": ["a", "b"]}), json!({"command": ["a", "b", "c"]}), &["command"]);
        check(json!({"command": ["a", "b"]}), json!({"command": ["a", "x"]}), &["command[1]"]);
        check(json!({"labels": {"a": "1"}}), json!({}), &["labels"]);
        check(json!({"labels": {}, "readOnly": false, "value": ""}), json!({}), &[]);
        check(
            json!({"allowPrivilegeEscalation": false, "runAsUser": 0}),
            json!({}),
            &["allowPrivilegeEscalation", "runAsUser"],
        );
        check(
            json!({"terminationGracePeriodSeconds": 0}),
            json!({"terminationGracePeriodSeconds": 30}),
            &["terminationGracePeriodSeconds"],
        );
        check(
            json!({"resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}),
            json!({"resources": {"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "1"}}}),
            &[],
        );
        check(
            json!({"resources": {"limits": {"cpu": "1"}}}),
            json!({"resources": {"limits": {"cpu": "2"}}}),
            &["resources.limits.cpu"],
        );
        check(
            json!({"ports": [{"containerPort": 53, "protocol": "UDP", "name": "d"}, {"containerPort": 53}]}),
            json!({"ports": [{"containerPort": 53, "protocol": "TCP"}]}),
            &["ports[containerPort=53,protocol=UDP]"],
        );
        check(
            json!({"tolerations": [{"key": "a"}, {"key": "b"}]}),
            json!({"tolerations": [{"key": "b"}, {"key": "c"}]}),
            &["tolerations[key=a]"],
        );
        check(json!({"spec": {"a": 1}}), json!(7), &[""]);
        check(json!({"metadata": {"generateName": "a-"}}), json!({"metadata": {"generateName": "b-"}}), &[]);
    }

    #[test]
    fn values_of_variables_stay_hidden() {
        let sent = json!({"env": [
            {"name": "A", "value": "canary"},
            {"name": "B", "value": "canary"},
            {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "canary"}}},
        ]});
        let stored = json!({"env": [{"name": "A", "value": "other"}]});
        let drifts = read_back(&sent, &stored);
        assert_eq!(drifts.len(), 3);
        assert_eq!(drifts[0].path, "env[name=A].value");
        assert_eq!((&drifts[0].wanted, &drifts[0].found), (&json!(HIDDEN), &Some(json!(HIDDEN))));
        assert_eq!(drifts[1].wanted, json!({"name": "B", "value": HIDDEN}));
        assert_eq!(drifts[2].wanted["valueFrom"]["secretKeyRef"]["name"], "s");
        let pod = json!({"containers": [{"name": "a", "env": [{"name": "A", "value": "canary"}]}]});
        let gone = read_back(&pod, &json!({"containers": []}));
        assert_eq!(gone[0].path, "containers[name=a]");
        assert!(!format!("{gone:?}").contains("canary"));
    }
}
