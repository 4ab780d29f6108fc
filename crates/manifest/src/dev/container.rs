//! Reads the fields that have a counterpart in a Kubernetes pod.

use std::net::IpAddr;

use super::{
    Capabilities, ExternalVolume, Hook, InitContainer, LOCALHOST, Lifecycle, Metadata, PersistentVolume,
    Probes, PullPolicy, Resources, SecurityContext, Timeout, Toleration, sync::remote_path,
};
use crate::{
    language::{
        AFFINITY, CAPABILITIES, HOOK, INIT_CONTAINER, LIFECYCLE, METADATA, PERSISTENT_VOLUME, PROBES,
        RESOURCES, SECURITY_CONTEXT, TIMEOUT, TOLERATION,
    },
    node::Value,
    problem::quoted,
    read::{At, Reader},
    sections::length,
};

pub(super) fn pull_policy(reader: &mut Reader<'_>, at: &At<'_>) -> Option<PullPolicy> {
    match reader.one_of(at, &["Always", "IfNotPresent", "Never"])? {
        "Always" => Some(PullPolicy::Always),
        "IfNotPresent" => Some(PullPolicy::IfNotPresent),
        _ => Some(PullPolicy::Never),
    }
}

/// Returns a command: a string with a blank is for the shell, one without is the program, a list is as it is.
pub(super) fn command(reader: &mut Reader<'_>, at: &At<'_>) -> Vec<String> {
    let Value::Scalar(scalar) = &at.node.value else { return reader.strings(at) };
    if scalar.text.contains(char::is_whitespace) {
        vec!["sh".to_owned(), "-c".to_owned(), scalar.text.clone()]
    } else {
        vec![scalar.text.clone()]
    }
}

pub(super) fn resources(reader: &mut Reader<'_>, at: &At<'_>) -> Resources {
    let Some(fields) = reader.fields(at, &RESOURCES) else {
        return Resources::default();
    };
    let mut amounts = |name| fields.get(name).map(|at| reader.quantities(at)).unwrap_or_default();
    Resources { requests: amounts("requests"), limits: amounts("limits") }
}

pub(super) fn security_context(reader: &mut Reader<'_>, at: &At<'_>) -> SecurityContext {
    let Some(fields) = reader.fields(at, &SECURITY_CONTEXT) else {
        return SecurityContext::default();
    };
    let mut number = |name| fields.get(name).and_then(|at| reader.integer(at, 0, i64::from(u32::MAX)));
    let (run_as_user, run_as_group, fs_group) =
        (number("runAsUser"), number("runAsGroup"), number("fsGroup"));
    let mut boolean = |name| fields.get(name).and_then(|at| reader.boolean(at));
    let context = SecurityContext {
        run_as_user,
        run_as_group,
        fs_group,
        run_as_non_root: boolean("runAsNonRoot"),
        allow_privilege_escalation: boolean("allowPrivilegeEscalation"),
        read_only_root_filesystem: boolean("readOnlyRootFilesystem"),
        capabilities: fields.get("capabilities").map(|at| capabilities(reader, at)).unwrap_or_default(),
    };
    if context.run_as_non_root == Some(true)
        && context.run_as_user == Some(0)
        && let Some(at) = fields.get("runAsUser")
    {
        let hint = "drop one of the two, or give another user".to_owned();
        reader.error(at, "`runAsUser: 0` is root, which `runAsNonRoot: true` forbids", hint);
    }
    context
}

fn capabilities(reader: &mut Reader<'_>, at: &At<'_>) -> Capabilities {
    let Some(fields) = reader.fields(at, &CAPABILITIES) else {
        return Capabilities::default();
    };
    let mut list = |name| fields.get(name).map(|at| reader.strings(at)).unwrap_or_default();
    Capabilities { add: list("add"), drop: list("drop") }
}

pub(super) fn probes(reader: &mut Reader<'_>, at: &At<'_>) -> Probes {
    if !at.is_mapping() {
        let all = reader.boolean(at).unwrap_or(false);
        return Probes { liveness: all, readiness: all, startup: all };
    }
    let Some(fields) = reader.fields(at, &PROBES) else { return Probes::default() };
    let mut keep = |name| fields.get(name).and_then(|at| reader.boolean(at)).unwrap_or(false);
    Probes { liveness: keep("liveness"), readiness: keep("readiness"), startup: keep("startup") }
}

pub(super) fn lifecycle(reader: &mut Reader<'_>, at: &At<'_>) -> Lifecycle {
    if !at.is_mapping() {
        let hook = Hook { enabled: reader.boolean(at).unwrap_or(false), command: None };
        return Lifecycle { post_start: hook.clone(), pre_stop: hook };
    }
    let Some(fields) = reader.fields(at, &LIFECYCLE) else {
        return Lifecycle::default();
    };
    let mut one = |name| fields.get(name).map(|at| hook(reader, at)).unwrap_or_default();
    Lifecycle { post_start: one("postStart"), pre_stop: one("preStop") }
}

fn hook(reader: &mut Reader<'_>, at: &At<'_>) -> Hook {
    if !at.is_mapping() {
        return Hook { enabled: reader.boolean(at).unwrap_or(false), command: None };
    }
    let Some(fields) = reader.fields(at, &HOOK) else { return Hook::default() };
    let command = fields.get("command").map(|at| command(reader, at));
    let enabled = fields.get("enabled").and_then(|at| reader.boolean(at)).unwrap_or(command.is_some());
    Hook { enabled, command }
}

pub(super) fn tolerations(reader: &mut Reader<'_>, at: &At<'_>) -> Vec<Toleration> {
    reader.list(at).iter().filter_map(|item| toleration(reader, item)).collect()
}

fn toleration(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Toleration> {
    let fields = reader.fields(at, &TOLERATION)?;
    let mut word = |name: &str, allowed: &[&'static str]| {
        let at = fields.get(name)?;
        if allowed.is_empty() { reader.string(at) } else { reader.one_of(at, allowed).map(str::to_owned) }
    };
    Some(Toleration {
        key: word("key", &[]),
        operator: word("operator", &["Exists", "Equal"]),
        value: word("value", &[]),
        effect: word("effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"]),
        toleration_seconds: fields
            .get("tolerationSeconds")
            .and_then(|at| reader.integer(at, i64::MIN, i64::MAX)),
    })
}

/// Returns an affinity as it is: Kubernetes knows its fields best, and the dry run asks it.
pub(super) fn affinity(reader: &mut Reader<'_>, at: &At<'_>) -> Option<serde_json::Value> {
    reader.fields(at, &AFFINITY)?;
    Some(at.node.to_json())
}

pub(super) fn metadata(reader: &mut Reader<'_>, at: &At<'_>) -> Metadata {
    let Some(fields) = reader.fields(at, &METADATA) else {
        return Metadata::default();
    };
    let mut map = |name| fields.get(name).map(|at| reader.string_map(at)).unwrap_or_default();
    Metadata { labels: map("labels"), annotations: map("annotations") }
}

pub(super) fn timeout(reader: &mut Reader<'_>, at: &At<'_>) -> Timeout {
    let mut timeout = Timeout::default();
    if !at.is_mapping() {
        timeout.default = length(reader, at).unwrap_or(timeout.default);
        return timeout;
    }
    if let Some(fields) = reader.fields(at, &TIMEOUT) {
        let mut of =
            |name, otherwise| fields.get(name).and_then(|at| length(reader, at)).unwrap_or(otherwise);
        timeout.default = of("default", timeout.default);
        timeout.resources = of("resources", timeout.resources);
    }
    timeout
}

/// Returns the address to listen on; one that others could reach is refused with a warning.
pub(super) fn interface(reader: &mut Reader<'_>, at: &At<'_>) -> IpAddr {
    let Some(text) = reader.string(at) else { return LOCALHOST };
    let address = if text == "localhost" { Some(LOCALHOST) } else { text.parse::<IpAddr>().ok() };
    match address {
        Some(address) if address.is_loopback() => return address,
        Some(_) => {
            let message =
                format!("forwards listen on {LOCALHOST}, not on {text}: others could reach that address");
            reader.warn(at, message, None);
        }
        None => reader.error(at, format!("{} is not an IP address", quoted(&text)), None),
    }
    LOCALHOST
}

pub(super) fn init_container(reader: &mut Reader<'_>, at: &At<'_>) -> InitContainer {
    let Some(fields) = reader.fields(at, &INIT_CONTAINER) else {
        return InitContainer::default();
    };
    let image = fields.get("image").and_then(|at| reader.expanded(at));
    InitContainer {
        image,
        resources: fields.get("resources").map(|at| resources(reader, at)).unwrap_or_default(),
    }
}

pub(super) fn persistent_volume(reader: &mut Reader<'_>, at: &At<'_>) -> Option<PersistentVolume> {
    let fields = reader.fields(at, &PERSISTENT_VOLUME)?;
    let enabled = fields.get("enabled").and_then(|at| reader.boolean(at)).unwrap_or(true);
    let modes = fields.get("accessModes").map(|at| reader.one_or_list(at)).unwrap_or_default();
    let first = modes.first().and_then(|at| reader.string(at));
    let mut word = |name| fields.get(name).and_then(|at| reader.string(at));
    let (access_mode, storage_class) = (word("accessMode").or(first), word("storageClass"));
    let volume_mode = word("volumeMode");
    let mut map = |name| fields.get(name).map(|at| reader.string_map(at)).unwrap_or_default();
    let metadata = Metadata { labels: map("labels"), annotations: map("annotations") };
    let size = fields.get("size").and_then(|at| reader.quantity(at));
    Some(PersistentVolume { enabled, access_mode, size, storage_class, volume_mode, metadata })
}

/// Returns the claim that `name:mount` or `name:subpath:mount` spells.
pub(super) fn external_volume(reader: &mut Reader<'_>, at: &At<'_>) -> Option<ExternalVolume> {
    let text = reader.expanded(at)?;
    let parts: Vec<&str> = text.split(':').collect();
    let (name, sub_path, mount) = match parts[..] {
        [name, mount] if !name.is_empty() => (name, None, mount),
        [name, sub_path, mount] if !name.is_empty() => (name, Some(sub_path.to_owned()), mount),
        _ => {
            let hint = "write claim:mountPath or claim:subPath:mountPath".to_owned();
            reader.error(at, format!("{} is not an external volume", quoted(&text)), hint);
            return None;
        }
    };
    let name = name.to_owned();
    Some(ExternalVolume { name, sub_path, mount_path: remote_path(reader, at, mount, "a mount")? })
}
