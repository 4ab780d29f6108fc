//! Reads one entry of `dev`, or of the `services` inside one.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Dev, LOCALHOST, Lifecycle, Metadata, Mode, Probes, Resources, SecurityContext, Sync, Timeout, container,
    environment, forward, sync, unsupported,
};
use crate::{
    problem::{Severity, Span, quoted},
    read::{At, Fields, Reader},
};

/// The fields of an entry of `dev`.
pub(crate) const DEV_FIELDS: [&str; 38] = [
    "affinity",
    "args",
    "autocreate",
    "command",
    "container",
    "context",
    "envFiles",
    "environment",
    "externalVolumes",
    "forward",
    "image",
    "imagePullPolicy",
    "initContainer",
    "interface",
    "lifecycle",
    "metadata",
    "mode",
    "name",
    "namespace",
    "nodeSelector",
    "persistentVolume",
    "priorityClassName",
    "probes",
    "remote",
    "replicas",
    "resources",
    "reverse",
    "secrets",
    "securityContext",
    "selector",
    "serviceAccount",
    "services",
    "sshServerPort",
    "sync",
    "timeout",
    "tolerations",
    "volumes",
    "workdir",
];

/// The fields that an entry of `services` may not have.
const NOT_IN_SERVICES: [&str; 16] = [
    "autocreate",
    "externalVolumes",
    "forward",
    "interface",
    "lifecycle",
    "persistentVolume",
    "priorityClassName",
    "probes",
    "remote",
    "reverse",
    "secrets",
    "securityContext",
    "serviceAccount",
    "services",
    "sshServerPort",
    "timeout",
];

/// Whether an entry stands in `dev` or in the `services` of one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rank {
    Main,
    Service,
}

/// Returns the dev service that `at` spells, under the name that its key was made into.
pub(crate) fn read(reader: &mut Reader<'_>, at: &At<'_>, name: &str, key_span: Span) -> Dev {
    read_ranked(reader, at, name, key_span, Rank::Main)
}

fn read_ranked(reader: &mut Reader<'_>, at: &At<'_>, name: &str, key_span: Span, rank: Rank) -> Dev {
    let what = if rank == Rank::Main { "a dev service" } else { "an entry of `services`" };
    let fields = reader.fields(at, what, &DEV_FIELDS);
    let mut dev = bare(name, key_span);
    let synced = fields.as_ref().is_some_and(|fields| fields.get("sync").is_some());
    if let Some(fields) = &fields {
        reject_misplaced(reader, fields, rank);
        workload(reader, fields, &mut dev);
        process(reader, fields, &mut dev);
        pod(reader, fields, &mut dev);
        session(reader, fields, &mut dev);
        storage(reader, fields, &mut dev, rank);
    }
    if dev.sync.folders.is_empty() && !synced && rank == Rank::Main {
        let workdir = dev.workdir.clone();
        dev.sync.folders.extend(sync::default_folder(reader, at, workdir.as_deref()));
    }
    sync::reject_repeated_folders(reader, &dev.sync.folders);
    if rank == Rank::Main {
        reject_foreign_folders(reader, &dev);
        let names = unsupported(&dev);
        if !names.is_empty() {
            reader.report(Severity::Warning, &at.path, key_span, not_acted_on(&names), None);
        }
    }
    dev
}

/// Says that fields are without effect.
pub(crate) fn not_acted_on(names: &[&str]) -> String {
    let list: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    let verb = if list.len() == 1 { "is" } else { "are" };
    format!("{} {verb} read but not acted on yet", list.join(", "))
}

fn bare(name: &str, span: Span) -> Dev {
    Dev {
        name: name.to_owned(),
        workload: name.to_owned(),
        span,
        selector: BTreeMap::new(),
        container: None,
        image: None,
        image_pull_policy: None,
        command: vec!["sh".to_owned()],
        args: Vec::new(),
        workdir: None,
        sync: Sync::default(),
        environment: Vec::new(),
        env_files: Vec::new(),
        forward: Vec::new(),
        reverse: Vec::new(),
        resources: Resources::default(),
        security_context: SecurityContext::default(),
        probes: Probes::default(),
        lifecycle: Lifecycle::default(),
        node_selector: BTreeMap::new(),
        affinity: None,
        tolerations: Vec::new(),
        priority_class_name: None,
        service_account: None,
        metadata: Metadata::default(),
        timeout: Timeout::default(),
        interface: LOCALHOST,
        init_container: None,
        volumes: Vec::new(),
        external_volumes: Vec::new(),
        persistent_volume: None,
        secrets: Vec::new(),
        mode: Mode::Sync,
        remote: None,
        ssh_server_port: None,
        autocreate: false,
        replicas: None,
        services: Vec::new(),
    }
}

/// Reports fields that exist, but not here.
fn reject_misplaced(reader: &mut Reader<'_>, fields: &Fields<'_>, rank: Rank) {
    for (name, at) in fields.iter() {
        let (message, hint) = match (*name, rank) {
            ("namespace" | "context", _) => {
                let message = format!("`{name}` is not chosen in the manifest");
                (message, format!("remove it and type --{name}"))
            }
            ("replicas", Rank::Main) => {
                ("`replicas` is for entries of `services` only".to_owned(), "remove it".to_owned())
            }
            (name, Rank::Service) if NOT_IN_SERVICES.contains(&name) => {
                let message = format!("`{name}` has no place in `services`");
                (message, "give it to the dev service itself, or make another one".to_owned())
            }
            _ => continue,
        };
        let span = at.key_span.unwrap_or(at.node.span);
        reader.report(Severity::Error, &at.path, span, message, Some(hint));
    }
}

/// Which workload, and which container of it.
fn workload(reader: &mut Reader<'_>, fields: &Fields<'_>, dev: &mut Dev) {
    if let Some(at) = fields.get("name")
        && let Some(name) = reader.expanded(at)
    {
        if is_name(&name) {
            dev.workload = name;
        } else {
            reader.error(at, format!("{} is not a name that a workload can have", quoted(&name)), None);
        }
    }
    dev.selector = fields.get("selector").map(|at| reader.string_map(at)).unwrap_or_default();
    dev.container = fields.get("container").and_then(|at| reader.string(at));
}

/// What runs, where, and with which variables.
fn process(reader: &mut Reader<'_>, fields: &Fields<'_>, dev: &mut Dev) {
    if let Some(at) = fields.get("command") {
        let command = container::command(reader, at);
        if command.first().is_some_and(String::is_empty) {
            reader.error(at, "the command is empty", "remove the field to get a shell".to_owned());
        } else if !command.is_empty() {
            dev.command = command;
        }
    }
    dev.args = fields.get("args").map(|at| reader.strings(at)).unwrap_or_default();
    if let Some(at) = fields.get("workdir")
        && let Some(text) = reader.string(at)
    {
        dev.workdir = sync::remote_path(reader, at, &text, "the working directory");
    }
    dev.image = fields.get("image").and_then(|at| reader.expanded(at)).filter(|image| !image.is_empty());
    dev.image_pull_policy = fields.get("imagePullPolicy").and_then(|at| container::pull_policy(reader, at));
    (dev.environment, dev.env_files) =
        environment::environment(reader, fields.get("environment"), fields.get("envFiles"));
}

/// What else of the pod is set.
fn pod(reader: &mut Reader<'_>, fields: &Fields<'_>, dev: &mut Dev) {
    if let Some(at) = fields.get("resources") {
        dev.resources = container::resources(reader, at);
    }
    if let Some(at) = fields.get("securityContext") {
        dev.security_context = container::security_context(reader, at);
    }
    if let Some(at) = fields.get("probes") {
        dev.probes = container::probes(reader, at);
    }
    if let Some(at) = fields.get("lifecycle") {
        dev.lifecycle = container::lifecycle(reader, at);
    }
    if let Some(at) = fields.get("tolerations") {
        dev.tolerations = container::tolerations(reader, at);
    }
    if let Some(at) = fields.get("metadata") {
        dev.metadata = container::metadata(reader, at);
    }
    dev.affinity = fields.get("affinity").and_then(|at| container::affinity(reader, at));
    dev.node_selector = fields.get("nodeSelector").map(|at| reader.string_map(at)).unwrap_or_default();
    dev.priority_class_name = fields.get("priorityClassName").and_then(|at| reader.string(at));
    dev.service_account = fields.get("serviceAccount").and_then(|at| reader.string(at));
    dev.init_container = fields.get("initContainer").map(|at| container::init_container(reader, at));
}

/// How the session goes: ports, waiting, mode.
fn session(reader: &mut Reader<'_>, fields: &Fields<'_>, dev: &mut Dev) {
    for at in fields.get("forward").map(|at| reader.list(at)).unwrap_or_default() {
        dev.forward.extend(forward::forward(reader, &at));
    }
    for at in fields.get("reverse").map(|at| reader.list(at)).unwrap_or_default() {
        dev.reverse.extend(forward::reverse(reader, &at));
    }
    let ports = dev.reverse.iter().map(|reverse| (reverse.remote, reverse.path.as_str(), reverse.span));
    forward::reject_repeated_ports(reader, "remote", ports);
    if let Some(at) = fields.get("timeout") {
        dev.timeout = container::timeout(reader, at);
    }
    if let Some(at) = fields.get("interface") {
        dev.interface = container::interface(reader, at);
    }
    if let Some(at) = fields.get("mode")
        && reader.one_of(at, &["sync", "hybrid"]) == Some("hybrid")
    {
        dev.mode = Mode::Hybrid;
    }
    let mut port = |name| {
        let number = fields.get(name).and_then(|at| reader.integer(at, 0, 65535));
        number.and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0)
    };
    (dev.remote, dev.ssh_server_port) = (port("remote"), port("sshServerPort"));
    dev.autocreate = fields.get("autocreate").and_then(|at| reader.boolean(at)).unwrap_or(false);
    let replicas = fields.get("replicas").and_then(|at| reader.integer(at, 0, i64::from(i32::MAX)));
    dev.replicas = replicas.and_then(|replicas| u32::try_from(replicas).ok());
}

/// The folders, the volumes, and the services that share them.
fn storage(reader: &mut Reader<'_>, fields: &Fields<'_>, dev: &mut Dev, rank: Rank) {
    dev.sync = sync::sync(reader, fields.get("sync"));
    if let Some(at) = fields.get("volumes") {
        dev.volumes = sync::volumes(reader, at, &mut dev.sync.folders);
    }
    for at in fields.get("externalVolumes").map(|at| reader.list(at)).unwrap_or_default() {
        dev.external_volumes.extend(container::external_volume(reader, &at));
    }
    dev.persistent_volume =
        fields.get("persistentVolume").and_then(|at| container::persistent_volume(reader, at));
    for at in fields.get("secrets").map(|at| reader.list(at)).unwrap_or_default() {
        dev.secrets.extend(sync::secret(reader, &at));
    }
    if rank == Rank::Main {
        for at in fields.get("services").map(|at| reader.list(at)).unwrap_or_default() {
            let span = at.node.span;
            let service = read_ranked(reader, &at, "", span, Rank::Service);
            if service.init_container.as_ref().is_some_and(|init| init.image.is_some()) {
                let hint = "give it to the dev service itself".to_owned();
                reader.error(&at, "`initContainer.image` has no place in `services`", hint);
            }
            if service.workload.is_empty() && service.selector.is_empty() {
                reader.error(&at, "a service needs a `name` or a `selector`", None);
            }
            dev.services.push(service);
        }
    }
}

/// Reports folders of `services` that the dev service itself doesn't sync: they share its copy.
fn reject_foreign_folders(reader: &mut Reader<'_>, dev: &Dev) {
    let own: BTreeSet<_> = dev.sync.folders.iter().map(|folder| &folder.local).collect();
    for folder in dev.services.iter().flat_map(|service| &service.sync.folders) {
        if !own.contains(&folder.local) {
            let message = format!(
                "{} is not synced by the dev service itself",
                quoted(&folder.local.to_string_lossy())
            );
            let hint = Some("add it to the dev service's own `sync`".to_owned());
            reader.report(Severity::Error, &folder.path, folder.span, message, hint);
        }
    }
}

/// Returns true for a name that Kubernetes takes for a workload: lower case, digits and `-` inside.
pub(crate) fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 253 && name.chars().all(inner) && name.starts_with(edge) && name.ends_with(edge)
}
