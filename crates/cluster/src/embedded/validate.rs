//! What the API server refuses: the rules that Towline's own objects and its users' can run into.

use std::collections::BTreeSet;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::{fields, meta};
use crate::port::Resource;

/// What a ConfigMap or a Secret may hold, in bytes.
const MAX_DATA_BYTES: usize = 1_048_576;
/// What an object's annotations may hold together, in bytes.
const MAX_ANNOTATION_BYTES: usize = 262_144;

/// Collects what is wrong, in the API server's form: `path: what`.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, path: &str, what: &str) {
        self.0.push(format!("{path}: {what}"));
    }

    fn unless(&mut self, holds: bool, path: &str, what: &str) {
        if !holds {
            self.add(path, what);
        }
    }

    /// Returns them in one line, or nothing.
    pub(super) fn message(self) -> Option<String> {
        if self.0.is_empty() { None } else { Some(self.0.join(", ")) }
    }
}

/// Checks an object by itself and against what it was.
pub(super) fn check(resource: &Resource, old: Option<&Value>, new: &Value) -> Problems {
    let mut problems = Problems::default();
    check_metadata(resource, new, &mut problems);
    match resource.kind {
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => {
            check_workload(resource, old, new, &mut problems);
        }
        "Pod" => {
            check_pod(new, "spec", &mut problems);
            if let Some(old) = old {
                check_pod_change(old, new, &mut problems);
            }
        }
        "ConfigMap" | "Secret" => check_data(old, new, &mut problems),
        "Lease" => check_lease(new, &mut problems),
        "Service" => check_service(new, &mut problems),
        _ => {}
    }
    problems
}

fn check_metadata(resource: &Resource, object: &Value, problems: &mut Problems) {
    let name = meta::name(object);
    let fits =
        if matches!(resource.kind, "Service" | "Namespace") { meta::is_label } else { meta::is_subdomain };
    problems.unless(
        fits(name),
        "metadata.name",
        &format!("Invalid value: {name:?}: a lowercase RFC 1123 name must consist of lower case alphanumeric characters, '-' or '.'"),
    );
    check_labels(object, "/metadata/labels", problems);
    if let Some(annotations) = string_map(object, "/metadata/annotations", problems) {
        let mut size = 0;
        for (key, value) in annotations {
            problems.unless(is_qualified(key), "metadata.annotations", &format!("Invalid value: {key:?}"));
            size += key.len() + value.as_str().map_or(0, str::len);
        }
        let what = format!("Too long: may not be more than {MAX_ANNOTATION_BYTES} bytes");
        problems.unless(size <= MAX_ANNOTATION_BYTES, "metadata.annotations", &what);
    }
    for (index, owner) in meta::items(object, "/metadata/ownerReferences").iter().enumerate() {
        for key in ["apiVersion", "kind", "name", "uid"] {
            let given = owner[key].as_str().is_some_and(|text| !text.is_empty());
            problems.unless(given, &format!("metadata.ownerReferences[{index}].{key}"), "Required value");
        }
    }
    problems.0.extend(fields::problem(object));
}

fn check_labels(object: &Value, pointer: &str, problems: &mut Problems) {
    let path = pointer.trim_start_matches('/').replace('/', ".");
    for (key, value) in string_map(object, pointer, problems).into_iter().flatten() {
        problems.unless(is_qualified(key), &path, &format!("Invalid value: {key:?}: not a qualified name"));
        let value = value.as_str().unwrap_or_default();
        problems.unless(
            is_label_value(value),
            &path,
            &format!("Invalid value: {value:?}: not a label value"),
        );
    }
}

fn check_workload(resource: &Resource, old: Option<&Value>, new: &Value, problems: &mut Problems) {
    let count = new.pointer("/spec/replicas");
    let natural = count.is_some_and(|count| count.as_u64().is_some_and(|count| i32::try_from(count).is_ok()));
    let counted = resource.kind != "DaemonSet";
    problems.unless(
        natural || !counted,
        "spec.replicas",
        "Invalid value: must be greater than or equal to 0",
    );
    let selector = new.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    let expressions = !meta::items(new, "/spec/selector/matchExpressions").is_empty();
    match selector {
        Some(selector) if !selector.is_empty() || expressions => {
            let wanted = selector.iter().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or("\0")));
            let matches = meta::has_labels(&new["spec"]["template"], wanted);
            let what = "Invalid value: `selector` does not match template `labels`";
            problems.unless(matches, "spec.template.metadata.labels", what);
        }
        None if expressions => {}
        _ => problems.add("spec.selector", "Required value"),
    }
    if let Some(old) = old {
        let same = old.pointer("/spec/selector") == new.pointer("/spec/selector");
        problems.unless(same, "spec.selector", "Invalid value: field is immutable");
    }
    if let Some(strategy) = new.pointer("/spec/strategy") {
        let recreate = strategy["type"] == "Recreate";
        problems.unless(
            recreate || strategy["type"] == "RollingUpdate",
            "spec.strategy.type",
            "Unsupported value",
        );
        let what = "Forbidden: may not be specified when strategy `type` is 'Recreate'";
        let rolling = strategy.get("rollingUpdate").is_some_and(|rolling| !rolling.is_null());
        problems.unless(!(recreate && rolling), "spec.strategy.rollingUpdate", what);
    }
    let template = &new["spec"]["template"];
    check_labels(template, "/metadata/labels", problems);
    check_pod(template, "spec.template.spec", problems);
    let always = template["spec"]["restartPolicy"] == "Always";
    problems.unless(
        always,
        "spec.template.spec.restartPolicy",
        "Unsupported value: supported values: \"Always\"",
    );
    let deadline = template["spec"].get("activeDeadlineSeconds").is_some_and(|value| !value.is_null());
    let what = "Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported";
    problems.unless(!deadline, "spec.template.spec.activeDeadlineSeconds", what);
}

/// Checks `pod.spec`, which lies at `path`.
fn check_pod(pod: &Value, path: &str, problems: &mut Problems) {
    let mut volumes = BTreeSet::new();
    for (index, volume) in meta::items(pod, "/spec/volumes").iter().enumerate() {
        let at = format!("{path}.volumes[{index}]");
        let name = volume["name"].as_str().unwrap_or_default();
        problems.unless(meta::is_label(name), &format!("{at}.name"), &format!("Invalid value: {name:?}"));
        problems.unless(volumes.insert(name), &format!("{at}.name"), &format!("Duplicate value: {name:?}"));
        let sources = volume.as_object().map_or(0, |volume| volume.len().saturating_sub(1));
        problems.unless(sources <= 1, &at, "Forbidden: may not specify more than 1 volume type");
    }
    let containers = meta::items(pod, "/spec/containers");
    problems.unless(!containers.is_empty(), &format!("{path}.containers"), "Required value");
    let mut names = BTreeSet::new();
    for (list, containers) in
        [("containers", containers), ("initContainers", meta::items(pod, "/spec/initContainers"))]
    {
        for (index, container) in containers.iter().enumerate() {
            let at = format!("{path}.{list}[{index}]");
            let name = container["name"].as_str().unwrap_or_default();
            problems.unless(meta::is_label(name), &format!("{at}.name"), &format!("Invalid value: {name:?}"));
            problems.unless(names.insert(name), &format!("{at}.name"), &format!("Duplicate value: {name:?}"));
            check_container(container, &at, &volumes, problems);
        }
    }
    let grace = &pod["spec"]["terminationGracePeriodSeconds"];
    let natural = grace.is_null() || grace.as_u64().is_some();
    problems.unless(
        natural,
        &format!("{path}.terminationGracePeriodSeconds"),
        "Invalid value: must be non-negative",
    );
}

fn check_container(container: &Value, at: &str, volumes: &BTreeSet<&str>, problems: &mut Problems) {
    let image = container["image"].as_str().unwrap_or_default();
    problems.unless(!image.is_empty() && image.trim() == image, &format!("{at}.image"), "Required value");
    for key in ["command", "args"] {
        let texts = container.get(key).is_none_or(|list| {
            list.is_null() || list.as_array().is_some_and(|list| list.iter().all(Value::is_string))
        });
        problems.unless(texts, &format!("{at}.{key}"), "Invalid value: must be a list of text");
    }
    for (index, variable) in meta::items(container, "/env").iter().enumerate() {
        let at = format!("{at}.env[{index}]");
        let name = variable["name"].as_str().unwrap_or_default();
        let fits = !name.is_empty() && !name.contains(['=', '\0']);
        problems.unless(fits, &format!("{at}.name"), &format!("Invalid value: {name:?}"));
        let value = variable.get("value").is_none_or(|value| value.is_string() || value.is_null());
        problems.unless(value, &format!("{at}.value"), "Invalid value: must be text");
        let both = variable["value"].as_str().is_some_and(|value| !value.is_empty())
            && variable["valueFrom"].is_object();
        problems.unless(
            !both,
            &format!("{at}.valueFrom"),
            "Invalid value: may not be specified when `value` is not empty",
        );
    }
    let mut paths = BTreeSet::new();
    for (index, mount) in meta::items(container, "/volumeMounts").iter().enumerate() {
        let at = format!("{at}.volumeMounts[{index}]");
        let volume = mount["name"].as_str().unwrap_or_default();
        problems.unless(volumes.contains(volume), &format!("{at}.name"), &format!("Not found: {volume:?}"));
        let path = mount["mountPath"].as_str().unwrap_or_default();
        problems.unless(
            !path.is_empty() && !path.contains('\0'),
            &format!("{at}.mountPath"),
            "Required value",
        );
        problems.unless(paths.insert(path), &format!("{at}.mountPath"), "Invalid value: must be unique");
    }
    for (index, port) in meta::items(container, "/ports").iter().enumerate() {
        let number = port["containerPort"].as_u64().unwrap_or_default();
        let at = format!("{at}.ports[{index}].containerPort");
        problems.unless(
            (1..=65_535).contains(&number),
            &at,
            "Invalid value: must be between 1 and 65535, inclusive",
        );
    }
}

/// A pod's spec is fixed, but for the images and a few numbers.
fn check_pod_change(old: &Value, new: &Value, problems: &mut Problems) {
    let fixed = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for key in ["containers", "initContainers"] {
            for container in spec.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(container) = container.as_object_mut() {
                    container.remove("image");
                }
            }
        }
        if let Some(spec) = spec.as_object_mut() {
            for key in ["activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations", "nodeName"] {
                spec.remove(key);
            }
        }
        spec
    };
    let what = "Forbidden: pod updates may not change fields other than `spec.containers[*].image`, \
                `spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` (only additions to \
                existing tolerations), `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                previously negative)";
    problems.unless(fixed(old) == fixed(new), "spec", what);
}

fn check_data(old: Option<&Value>, new: &Value, problems: &mut Problems) {
    let mut size = 0;
    let mut keys = BTreeSet::new();
    let is_secret = new["kind"] == "Secret";
    for field in ["data", "binaryData"] {
        for (key, value) in string_map(new, &format!("/{field}"), problems).into_iter().flatten() {
            let fits = !key.is_empty()
                && key.len() <= 253
                && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
                && !matches!(key.as_str(), "." | "..");
            problems.unless(fits, field, &format!("Invalid value: {key:?}: a valid config key must consist of alphanumeric characters, '-', '_' or '.'"));
            problems.unless(keys.insert(key), field, &format!("Invalid value: {key:?}: duplicate of key"));
            let value = value.as_str().unwrap_or_default();
            size += value.len();
            if field == "binaryData" || is_secret {
                size -= value.len();
                match BASE64_STANDARD.decode(value) {
                    Ok(bytes) => size += bytes.len(),
                    Err(_) => problems.add(&format!("{field}.{key}"), "Invalid value: illegal base64 data"),
                }
            }
        }
    }
    let what = format!("Too long: may not be more than {MAX_DATA_BYTES} bytes");
    problems.unless(size <= MAX_DATA_BYTES, "[]", &what);
    if let Some(old) = old.filter(|old| old["immutable"] == true) {
        problems.unless(
            new["immutable"] == true,
            "immutable",
            "Forbidden: field is immutable when `immutable` is set",
        );
        for field in ["data", "binaryData"] {
            let same = old.get(field) == new.get(field);
            problems.unless(same, field, "Forbidden: field is immutable when `immutable` is set");
        }
    }
}

fn check_lease(lease: &Value, problems: &mut Problems) {
    let spec = &lease["spec"];
    let duration = &spec["leaseDurationSeconds"];
    let positive = duration.is_null() || duration.as_u64().is_some_and(|seconds| seconds > 0);
    problems.unless(positive, "spec.leaseDurationSeconds", "Invalid value: must be greater than 0");
    for key in ["acquireTime", "renewTime"] {
        let time = &spec[key];
        let valid = time.is_null() || time.as_str().is_some_and(|time| meta::parse_time(time).is_some());
        problems.unless(valid, &format!("spec.{key}"), "Invalid value: must be a time by RFC 3339");
    }
    let holder = &spec["holderIdentity"];
    let named = holder.is_null() || holder.as_str().is_some_and(|holder| !holder.is_empty());
    problems.unless(named, "spec.holderIdentity", "Invalid value: must not be empty");
}

fn check_service(service: &Value, problems: &mut Problems) {
    let ports = meta::items(service, "/spec/ports");
    let external = service["spec"]["type"] == "ExternalName" || service["spec"]["clusterIP"] == "None";
    problems.unless(external || !ports.is_empty(), "spec.ports", "Required value");
    for (index, port) in ports.iter().enumerate() {
        let number = port["port"].as_u64().unwrap_or_default();
        let at = format!("spec.ports[{index}].port");
        problems.unless(
            (1..=65_535).contains(&number),
            &at,
            "Invalid value: must be between 1 and 65535, inclusive",
        );
    }
}

/// Returns the map at a pointer, and says where it holds anything but text.
fn string_map<'a>(
    object: &'a Value,
    pointer: &str,
    problems: &mut Problems,
) -> Option<&'a serde_json::Map<String, Value>> {
    let path = || pointer.trim_start_matches('/').replace('/', ".");
    match object.pointer(pointer) {
        None | Some(Value::Null) => None,
        Some(Value::Object(map)) => {
            for (key, value) in map {
                problems.unless(
                    value.is_string(),
                    &format!("{}.{key}", path()),
                    "Invalid value: must be text",
                );
            }
            Some(map)
        }
        Some(_) => {
            problems.add(&path(), "Invalid value: must be a map of text");
            None
        }
    }
}

fn is_qualified(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(meta::is_subdomain) && !name.is_empty() && is_label_value(name)
}

fn is_label_value(value: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}
