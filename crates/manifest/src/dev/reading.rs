//! Reads one entry of `dev`, or of the `services` inside one.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Dev, LOCALHOST, Lifecycle, Metadata, Mode, Probes, Resources, SecurityContext, Sync, Timeout, container,
    environment,
    forward::{self, forward, reject_repeated_ports},
    sync, unsupported,
};
use crate::{
    disk::Kind,
    language::{DEV, FORWARD, SERVICE, VERSION_ONE},
    problem::{Place, Severity, quoted},
    read::{At, Fields, Reader},
};

/// The most `services` of one dev service.
const MAX_SERVICES: usize = 100;

/// What an entry is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rank {
    /// One of `dev`.
    Main,
    /// One of the `services` of another.
    Service,
    /// A whole manifest of version 1.
    VersionOne,
}

/// Returns the dev service that `at` spells, under the name that its key was made into.
pub(crate) fn read(reader: &mut Reader<'_>, at: &At<'_>, name: &str) -> Dev {
    let place = Place { span: at.key_span.unwrap_or(at.node.span), path: at.path.clone() };
    read_ranked(reader, at, name, place, Rank::Main)
}

/// Returns the one dev service that a manifest of version 1 is.
pub(crate) fn read_version_one(reader: &mut Reader<'_>, at: &At<'_>, name: &str) -> Dev {
    read_ranked(reader, at, name, at.place(), Rank::VersionOne)
}

fn read_ranked(reader: &mut Reader<'_>, at: &At<'_>, name: &str, place: Place, rank: Rank) -> Dev {
    let object = match rank {
        Rank::Main => &DEV,
        Rank::Service => &SERVICE,
        Rank::VersionOne => &VERSION_ONE,
    };
    let fields = reader.fields(at, object);
    let mut dev = bare(name, place);
    if rank == Rank::Service {
        dev.command.clear();
    }
    let synced = fields.as_ref().is_some_and(|fields| fields.get("sync").is_some());
    if let Some(fields) = &fields {
        mode(reader, at, fields, &mut dev, rank);
        workload(reader, fields, &mut dev);
        process(reader, at, fields, &mut dev);
        pod(reader, fields, &mut dev);
        session(reader, fields, &mut dev);
        storage(reader, fields, &mut dev);
        old_names(reader, fields, &mut dev, rank);
    }
    if dev.mode != Mode::Sync {
        dev.sync = Sync::default();
        dev.services.clear();
    } else if dev.sync.folders.is_empty() && !synced && rank != Rank::Service {
        let workdir = dev.workdir.clone();
        dev.sync.folders.extend(sync::default_folder(reader, at, workdir.as_deref()));
    }
    sync::reject_repeated_folders(reader, &dev.sync.folders);
    if rank != Rank::Service {
        reject_foreign_folders(reader, &dev);
        let mut names = unsupported(&dev);
        if let (Rank::VersionOne, Some(fields)) = (rank, &fields) {
            names.extend(fields.get("push").map(|_| "push"));
            for (name, chosen) in [("namespace", "--namespace"), ("context", "--context")] {
                if let Some(at) = fields.get(name) {
                    let message = format!("`{name}` is not taken from the manifest");
                    reader.warn(at, message, format!("the kubeconfig's counts, or {chosen}"));
                }
            }
        }
        if !names.is_empty() {
            reader.report(Severity::Warning, &at.path, dev.place.span, not_acted_on(&names), None);
        }
    }
    dev
}

/// Says that fields are without effect.
fn not_acted_on(names: &[&str]) -> String {
    let list: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    let verb = if list.len() == 1 { "is" } else { "are" };
    format!("{} {verb} read but not acted on yet", list.join(", "))
}

fn bare(name: &str, place: Place) -> Dev {
    Dev {
        name: name.to_owned(),
        workload: name.to_owned(),
        place,
        selector: BTreeMap::new(),
        in_place: None,
        template: None,
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

/// The names that some fields had, or have in `services` alone.
fn old_names(reader: &mut Reader<'_>, fields: &Fields<'_>, dev: &mut Dev, rank: Rank) {
    if rank == Rank::Main {
        return;
    }
    let labels = fields.get("labels").map(|at| reader.string_map(at)).unwrap_or_default();
    let named = rank == Rank::Service && !(dev.workload.is_empty() && dev.selector.is_empty());
    if named {
        dev.metadata.labels.extend(labels);
    } else {
        dev.selector.extend(labels);
    }
    let annotations = fields.get("annotations").map(|at| reader.string_map(at)).unwrap_or_default();
    dev.metadata.annotations.extend(annotations);
    for name in ["namespace", "context"] {
        fields.get(name).and_then(|at| reader.string(at));
    }
    fields.get("initFromImage").and_then(|at| reader.boolean(at));
    if fields.get("healthchecks").and_then(|at| reader.boolean(at)) == Some(true) {
        dev.probes = Probes { liveness: true, readiness: true, startup: true };
    }
    if rank == Rank::Service
        && dev.init_container.as_ref().is_some_and(|init| init.image.is_some())
        && let Some(at) = fields.get("initContainer")
    {
        let hint = "give it to the dev service itself".to_owned();
        reader.error(at, "`initContainer.image` has no place in `services`", hint);
    }
}

/// What hybrid mode has no use for: the container that they are about only stands in for a process of this machine.
const NOT_IN_HYBRID: [&str; 11] = [
    "image",
    "imagePullPolicy",
    "sync",
    "resources",
    "securityContext",
    "lifecycle",
    "volumes",
    "externalVolumes",
    "persistentVolume",
    "secrets",
    "services",
];

/// Where the code runs; what has no meaning there is named.
fn mode(reader: &mut Reader<'_>, whole: &At<'_>, fields: &Fields<'_>, dev: &mut Dev, rank: Rank) {
    let Some(at) = fields.get("mode") else { return };
    if reader.one_of(at, &["sync", "hybrid"]) != Some("hybrid") || rank == Rank::Service {
        return;
    }
    let workdir = fields.get("workdir").unwrap_or(whole);
    let text = fields.get("workdir").and_then(|at| reader.expanded(at)).unwrap_or_else(|| ".".to_owned());
    let folder = reader.local(workdir, &text);
    if reader.disk.kind(&folder) != Kind::Folder {
        let message = format!("the local folder {} does not exist", quoted(&folder.to_string_lossy()));
        let hint = "with `mode: hybrid` the working directory is one of this machine".to_owned();
        reader.error(workdir, message, hint);
    }
    let idle: Vec<_> = NOT_IN_HYBRID.into_iter().filter(|name| fields.get(name).is_some()).collect();
    if !idle.is_empty() {
        let list: Vec<_> = idle.iter().map(|name| format!("`{name}`")).collect();
        let verb = if list.len() == 1 { "has" } else { "have" };
        let message = format!("{} {verb} no effect with `mode: hybrid`", list.join(", "));
        reader.warn(at, message, "the command runs on this machine, in its own folder".to_owned());
    }
    dev.mode = Mode::Hybrid { folder };
    dev.command.clear();
}

/// Which workload, and which container of it.
fn workload(reader: &mut Reader<'_>, fields: &Fields<'_>, dev: &mut Dev) {
    if let Some(at) = fields.get("name")
        && let Some(name) = reader.expanded(at)
    {
        if is_name(&name) || name.split_once('/').is_some_and(|(kind, name)| is_name(kind) && is_name(name)) {
            dev.workload = name;
        } else {
            reader.error(at, format!("{} is not a name that a workload can have", quoted(&name)), None);
        }
    }
    dev.selector = fields.get("selector").map(|at| reader.string_map(at)).unwrap_or_default();
    dev.container = fields.get("container").and_then(|at| reader.string(at));
    dev.in_place = fields.get("inPlace").and_then(|at| reader.boolean(at));
    dev.template = fields.get("template").and_then(|at| reader.string(at));
}

/// What runs, where, and with which variables.
fn process(reader: &mut Reader<'_>, at: &At<'_>, fields: &Fields<'_>, dev: &mut Dev) {
    if let Some(at) = fields.get("command") {
        let command = container::command(reader, at);
        if command.first().is_some_and(String::is_empty) {
            reader.error(at, "the command is empty", "remove the field to get a shell".to_owned());
        } else if !command.is_empty() {
            dev.command = command;
        }
    }
    dev.args = fields.get("args").map(|at| reader.strings(at)).unwrap_or_default();
    if dev.mode == Mode::Sync
        && let Some(at) = fields.get("workdir")
        && let Some(text) = reader.string(at)
    {
        dev.workdir = sync::remote_path(reader, at, &text, "the working directory");
    }
    dev.image = fields.get("image").and_then(|at| reader.expanded(at)).filter(|image| !image.is_empty());
    dev.image_pull_policy = fields.get("imagePullPolicy").and_then(|at| container::pull_policy(reader, at));
    let sent = reader.findings.sensitive.len();
    (dev.environment, dev.env_files) = environment::environment(reader, at, fields);
    if dev.mode != Mode::Sync {
        // They stay on this machine.
        reader.findings.sensitive.truncate(sent);
    }
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
    dev.node_selector = fields.get("nodeSelector").map(|at| reader.plain_map(at)).unwrap_or_default();
    dev.priority_class_name = fields.get("priorityClassName").and_then(|at| reader.string(at));
    dev.service_account = fields.get("serviceAccount").and_then(|at| reader.string(at));
    dev.init_container = fields.get("initContainer").map(|at| container::init_container(reader, at));
}

/// How the session goes: ports, waiting, mode.
fn session(reader: &mut Reader<'_>, fields: &Fields<'_>, dev: &mut Dev) {
    for at in fields.get("forward").map(|at| reader.list(at)).unwrap_or_default() {
        dev.forward.extend(forward(reader, &at, &FORWARD));
    }
    for at in fields.get("reverse").map(|at| reader.list(at)).unwrap_or_default() {
        dev.reverse.extend(forward::reverse(reader, &at));
    }
    let ports = dev.reverse.iter().map(|reverse| (reverse.remote, &reverse.place));
    reject_repeated_ports(reader, "remote", &BTreeMap::new(), ports);
    if let Some(at) = fields.get("timeout") {
        dev.timeout = container::timeout(reader, at);
    }
    if let Some(at) = fields.get("interface") {
        dev.interface = container::interface(reader, at);
    }
    // 0 leaves the choice to the tool; no server listens on it.
    let remote = fields.get("remote").and_then(|at| reader.integer(at, 0, 65_535));
    dev.remote = remote.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    dev.ssh_server_port = fields.get("sshServerPort").and_then(|at| reader.port(at));
    dev.autocreate = fields.get("autocreate").and_then(|at| reader.boolean(at)).unwrap_or(false);
    let replicas = fields.get("replicas").and_then(|at| reader.integer(at, 0, i64::from(i32::MAX)));
    dev.replicas = replicas.and_then(|replicas| u32::try_from(replicas).ok());
}

/// The folders, the volumes, and the services that share them.
fn storage(reader: &mut Reader<'_>, fields: &Fields<'_>, dev: &mut Dev) {
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
    // Entries of `services` have none of their own.
    for at in fields.get("services").map(|at| reader.few(at, MAX_SERVICES)).unwrap_or_default() {
        let place = at.place();
        let mut service = read_ranked(reader, &at, "", place, Rank::Service);
        service.name = match service.workload.rsplit('/').next() {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => format!("{}-{}", dev.name, dev.services.len() + 1),
        };
        dev.services.push(service);
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
            reader.report(Severity::Error, &folder.place.path, folder.place.span, message, hint);
        }
    }
}

/// Returns true for a name that Kubernetes takes for a workload: lower case, digits and `-` inside.
pub(crate) fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 253 && name.chars().all(inner) && name.starts_with(edge) && name.ends_with(edge)
}

/// Returns a name as Kubernetes takes it, as far as case and separators go.
pub(crate) fn sanitized(name: &str) -> String {
    name.chars().map(|c| if matches!(c, ' ' | '_' | '.') { '-' } else { c.to_ascii_lowercase() }).collect()
}
