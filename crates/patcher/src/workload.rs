//! What is read from a live workload: its kind, its pod template, what keeps it from dev mode.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::field_owners;
use crate::holder::Way;
use crate::names::SESSION_LABEL;

/// Why a workload is left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is on its way out.
    #[error("{name} is being deleted")]
    Deleting {
        /// The workload.
        name: String,
    },
    /// A controller owns it and would write over us; dev mode belongs to the owner.
    #[error("{name} is managed by {owner_kind} {owner_name}, which would change it back")]
    Controlled {
        /// The workload.
        name: String,
        /// The owner's kind.
        owner_kind: String,
        /// The owner's name.
        owner_name: String,
    },
    /// It is the dev container of a session.
    #[error("{name} is itself the dev container of session {session}")]
    DevClone {
        /// The workload.
        name: String,
        /// Its session.
        session: String,
    },
    /// There is no pod template where one should be.
    #[error("{kind} {name} has no pod template at {path:?}")]
    NoTemplate {
        /// The kind as found.
        kind: String,
        /// The workload.
        name: String,
        /// Where it was looked for, such as `spec.template`.
        path: String,
    },
    /// It can be entered, but not this way.
    #[error("not {}, since {why}", way.name())]
    Way {
        /// The way that was asked for.
        way: Way,
        /// Why not.
        why: String,
    },
    /// It is no object as the API server gives it.
    #[error("{path} is missing or not {wanted}")]
    Malformed {
        /// The field.
        path: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
}

/// Who left a workload without replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtZero {
    /// We did, by the field's owner: a session whose record is elsewhere or lost.
    Towline,
    /// Somebody else.
    Other,
}

/// Tells why this workload can't be put into dev mode, if it can't.
pub fn refusal(original: &Value) -> Option<Refusal> {
    let name = text(original, "/metadata/name").unwrap_or_default().to_owned();
    let malformed = |path, wanted| Some(Refusal::Malformed { path, wanted });
    if name.is_empty() {
        return malformed("metadata.name", "a name");
    }
    if text(original, "/metadata/uid").is_none_or(str::is_empty) {
        return malformed("metadata.uid", "a uid");
    }
    if text(original, "/metadata/resourceVersion").is_none_or(str::is_empty) {
        return malformed("metadata.resourceVersion", "a version");
    }
    if is_deleting(original) {
        return Some(Refusal::Deleting { name });
    }
    let session = [original.pointer("/metadata/labels"), original.pointer("/spec/selector/matchLabels")]
        .into_iter()
        .flatten()
        .find_map(|labels| labels.get(SESSION_LABEL)?.as_str());
    if let Some(session) = session {
        return Some(Refusal::DevClone { name, session: session.to_owned() });
    }
    let owner = items(original, "/metadata/ownerReferences")
        .iter()
        .find(|owner| owner.get("controller") == Some(&Value::Bool(true)))?;
    Some(Refusal::Controlled {
        name,
        owner_kind: text(owner, "/kind").unwrap_or_default().to_owned(),
        owner_name: text(owner, "/name").unwrap_or_default().to_owned(),
    })
}

/// Tells who scaled the workload to 0, if it has no replicas. Worth a question before a session begins.
pub fn at_zero(original: &Value) -> Option<AtZero> {
    if replicas(original) != 0 {
        return None;
    }
    let ours = field_owners::of_field(original, "replicas").iter().any(field_owners::Owner::is_towline);
    Some(if ours { AtZero::Towline } else { AtZero::Other })
}

/// Returns `spec.replicas`, which is 1 where it is not said.
pub fn replicas(original: &Value) -> i64 {
    original.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}

/// Returns a hash of the pod template at a JSON pointer, salted with the workload's uid: another one means that the
/// original changed while its clone runs. 32 hex digits; empty where there is no template.
pub fn template_hash(original: &Value, template: &str) -> String {
    let salt = text(original, "/metadata/uid").unwrap_or_default();
    // A Pod is its own template, and its status is nobody's change.
    let template = if template.is_empty() { "/spec" } else { template };
    original.pointer(template).map(|template| digest(salt, template)).unwrap_or_default()
}

/// Tells why the original's pods must be gone before the clone's pod can run, if they must.
///
/// `claims` gives the access modes of the claims that the caller could read; an unknown claim may be exclusive.
pub(crate) fn must_go_first(
    original: &Value,
    template: &str,
    claims: &BTreeMap<String, Vec<String>>,
) -> Option<String> {
    if text(original, "/kind") == Some("StatefulSet") {
        return Some("its pod has a name and claims that one pod at a time can have".to_owned());
    }
    if text(original, "/spec/strategy/type") == Some("Recreate") {
        return Some("its strategy is Recreate: two pods of it never run at once".to_owned());
    }
    let pod = original.pointer(&format!("{template}/spec"))?;
    if pod.get("hostNetwork") == Some(&Value::Bool(true)) {
        return Some("its pods use the node's network".to_owned());
    }
    let host_port = ["/containers", "/initContainers"]
        .iter()
        .flat_map(|list| items(pod, list))
        .flat_map(|container| items(container, "/ports"))
        .find_map(|port| port.get("hostPort")?.as_i64().filter(|port| *port != 0));
    if let Some(port) = host_port {
        return Some(format!("its pods use port {port} of the node"));
    }
    items(pod, "/volumes").iter().find_map(|volume| {
        let claim = text(volume, "/persistentVolumeClaim/claimName")?;
        let shared =
            |modes: &Vec<String>| modes.iter().any(|mode| mode == "ReadWriteMany" || mode == "ReadOnlyMany");
        match claims.get(claim) {
            Some(modes) if shared(modes) => None,
            Some(_) => Some(format!("volume claim {claim} can be used by one node or pod at a time")),
            None => Some(format!("volume claim {claim} may be usable by one node or pod at a time")),
        }
    })
}

/// Tells whether the object is on its way out.
pub(crate) fn is_deleting(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null())
}

/// Returns the string at a JSON pointer.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

/// Returns the list at a JSON pointer, empty where there is none.
pub(crate) fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Returns 32 hex digits that stand for a value: the order of keys and absent or null members do not matter.
pub(crate) fn digest(salt: &str, value: &Value) -> String {
    let mut bytes = Vec::new();
    canonical(value, &mut bytes);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(salt.len() as u64).to_le_bytes()).update(salt.as_bytes()).update(&bytes);
    hasher.finalize().to_hex()[..32].to_owned()
}

fn canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(members) => canonical_object(members, out),
        Value::Array(list) => {
            out.push(b'[');
            for item in list {
                canonical(item, out);
                out.push(b',');
            }
            out.push(b']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.extend_from_slice(value.to_string().as_bytes());
        }
    }
}

fn canonical_object(members: &Map<String, Value>, out: &mut Vec<u8>) {
    let mut members: Vec<_> = members.iter().filter(|(_, value)| !value.is_null()).collect();
    members.sort_by_key(|(key, _)| *key);
    out.push(b'{');
    for (key, value) in members {
        out.extend_from_slice(Value::from(key.as_str()).to_string().as_bytes());
        out.push(b':');
        canonical(value, out);
        out.push(b',');
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment() -> Value {
        json!({
            "kind": "Deployment",
            "metadata": {"name": "web", "uid": "u", "resourceVersion": "1"},
            "spec": {"template": {"spec": {"containers": [{"name": "a"}]}}},
        })
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut object = deployment();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[key] = value;
        object
    }

    #[test]
    fn refuses_what_cannot_be_given_back() {
        let check = |object: Value, expected: Option<&str>| {
            assert_eq!(refusal(&object).map(|refusal| refusal.to_string()).as_deref(), expected);
        };
        check(deployment(), None);
        check(with("/metadata/deletionTimestamp", Value::Null), None);
        check(
            with("/metadata/deletionTimestamp", json!("2024-01-01T00:00:00Z")),
            Some("web is being deleted"),
        );
        check(with("/metadata/uid", json!("")), Some("metadata.uid is missing or not a uid"));
        check(json!([1]), Some("metadata.name is missing or not a name"));
        check(
            with("/metadata/labels", json!({"towline.dev/session": "abcd"})),
            Some("web is itself the dev container of session abcd"),
        );
        let owners =
            json!([{"kind": "Kept", "name": "no"}, {"kind": "Shop", "name": "main", "controller": true}]);
        check(
            with("/metadata/ownerReferences", owners),
            Some("web is managed by Shop main, which would change it back"),
        );
    }

    #[test]
    fn finds_what_two_pods_cannot_share() {
        let claims = BTreeMap::from([
            ("shared".to_owned(), vec!["ReadWriteMany".to_owned()]),
            ("alone".to_owned(), vec!["ReadWriteOnce".to_owned()]),
        ]);
        let check = |object: Value, expected: Option<&str>| {
            let reason = must_go_first(&object, "/spec/template", &claims);
            assert_eq!(
                reason.as_deref().map(|reason| reason.contains(expected.unwrap_or("?"))),
                expected.map(|_| true)
            );
        };
        let claim = |name: &str| {
            with(
                "/spec/template/spec/volumes",
                json!([{"name": "v", "persistentVolumeClaim": {"claimName": name}}]),
            )
        };
        check(deployment(), None);
        check(with("/kind", json!("StatefulSet")), Some("claims"));
        check(with("/spec/strategy", json!({"type": "RollingUpdate"})), None);
        check(with("/spec/strategy", json!({"type": "Recreate"})), Some("Recreate"));
        check(with("/spec/template/spec/hostNetwork", json!(true)), Some("network"));
        let ports =
            |port: u16| with("/spec/template/spec/containers", json!([{"ports": [{"hostPort": port}]}]));
        check(ports(0), None);
        check(ports(80), Some("port 80"));
        check(claim("shared"), None);
        check(claim("alone"), Some("can be used by one"));
        check(claim("unknown"), Some("may be usable by one"));
    }

    #[test]
    fn digest_is_of_the_meaning() {
        let same = digest("s", &json!({"a": 1, "b": {"c": [1, null]}, "d": null}));
        assert_eq!(same, digest("s", &json!({"b": {"c": [1, null]}, "a": 1})));
        assert_ne!(same, digest("t", &json!({"b": {"c": [1, null]}, "a": 1})));
        assert_ne!(digest("s", &json!(["a", "b"])), digest("s", &json!(["a,b"])));
        assert_eq!(same.len(), 32);
    }
}
