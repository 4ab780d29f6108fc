//! The effective manifest as a tree: every value as it holds, each in its one canonical form.
//!
//! Reading what is printed gives the same manifest again.

mod sections;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    dev::{
        Dev, Forward, ForwardTarget, Hook, InitContainer, LOCALHOST, Lifecycle, Metadata, Mode,
        PersistentVolume, Probes, Resources, SecurityContext, Sync, Toleration,
    },
    manifest::Manifest,
    node::{Entry, Node, Scalar, Value},
    paths,
    problem::Span,
};

/// Returns the tree of `manifest`, which was read from the file at `path`.
pub(crate) fn tree(manifest: &Manifest, path: &Path) -> Node {
    let printer = Printer { root: paths::project_root(path) };
    let mut top = Tree::default();
    top.maybe("name", manifest.name.as_deref().map(expanded));
    top.maybe("icon", manifest.icon.as_deref().map(text));
    if !manifest.dev.is_empty() {
        top.put("dev", named(manifest.dev.iter().map(|(name, dev)| (name, printer.dev(dev)))));
    }
    top.list("forward", manifest.forward.iter().map(forward));
    sections::put(&mut top, manifest);
    top.node()
}

struct Printer {
    /// The folder that relative local paths count from.
    root: PathBuf,
}

impl Printer {
    fn dev(&self, dev: &Dev) -> Node {
        let mut tree = Tree::default();
        if dev.workload != dev.name {
            tree.put("name", expanded(&dev.workload));
        }
        self.workload(dev, &mut tree);
        if dev.mode == Mode::Sync {
            tree.put("sync", self.sync(&dev.sync));
        }
        tree.list("forward", dev.forward.iter().map(forward));
        let pairs = dev.reverse.iter().map(|reverse| text(&format!("{}:{}", reverse.remote, reverse.local)));
        tree.list("reverse", pairs);
        tree.maybe("securityContext", security_context(&dev.security_context));
        if dev.probes != Probes::default() {
            let mut probes = Tree::default();
            probes.put("liveness", flag(dev.probes.liveness));
            probes.put("readiness", flag(dev.probes.readiness));
            probes.put("startup", flag(dev.probes.startup));
            tree.put("probes", probes.node());
        }
        if dev.lifecycle != Lifecycle::default() {
            let mut lifecycle = Tree::default();
            lifecycle.put("postStart", hook(&dev.lifecycle.post_start));
            lifecycle.put("preStop", hook(&dev.lifecycle.pre_stop));
            tree.put("lifecycle", lifecycle.node());
        }
        tree.maybe("priorityClassName", dev.priority_class_name.as_deref().map(text));
        tree.maybe("serviceAccount", dev.service_account.as_deref().map(text));
        let mut timeout = Tree::default();
        timeout.put("default", length(dev.timeout.default));
        timeout.put("resources", length(dev.timeout.resources));
        tree.put("timeout", timeout.node());
        tree.put("interface", address(dev.interface));
        tree.put("mode", text(if dev.mode == Mode::Sync { "sync" } else { "hybrid" }));
        tree.list("volumes", dev.volumes.iter().map(|path| expanded(path)));
        tree.list(
            "externalVolumes",
            dev.external_volumes.iter().map(|volume| {
                let (name, mount) = (&volume.name, &volume.mount_path);
                match &volume.sub_path {
                    Some(sub_path) => expanded(&format!("{name}:{sub_path}:{mount}")),
                    None => expanded(&format!("{name}:{mount}")),
                }
            }),
        );
        tree.maybe("persistentVolume", dev.persistent_volume.as_ref().map(persistent_volume));
        tree.list(
            "secrets",
            dev.secrets.iter().map(|secret| {
                expanded(&format!("{}:{}:{:o}", self.local(&secret.local), secret.remote, secret.mode))
            }),
        );
        tree.maybe("initContainer", dev.init_container.as_ref().map(init_container));
        tree.maybe("remote", dev.remote.map(number));
        tree.maybe("sshServerPort", dev.ssh_server_port.map(number));
        if dev.autocreate {
            tree.put("autocreate", flag(true));
        }
        tree.list("services", dev.services.iter().map(|service| self.service(service)));
        tree.node()
    }

    fn service(&self, service: &Dev) -> Node {
        let mut tree = Tree::default();
        if !service.workload.is_empty() {
            tree.put("name", expanded(&service.workload));
        }
        self.workload(service, &mut tree);
        if service.sync != Sync::default() {
            tree.put("sync", self.sync(&service.sync));
        }
        tree.maybe("replicas", service.replicas.map(number));
        tree.list("volumes", service.volumes.iter().map(|path| expanded(path)));
        tree.maybe("initContainer", service.init_container.as_ref().map(init_container));
        tree.node()
    }

    /// What dev services and their `services` have in common.
    fn workload(&self, dev: &Dev, tree: &mut Tree) {
        tree.maybe("inPlace", dev.in_place.map(flag));
        tree.maybe("template", dev.template.as_deref().map(text));
        tree.maybe("selector", pairs(&dev.selector));
        tree.maybe("container", dev.container.as_deref().map(text));
        tree.maybe("image", dev.image.as_deref().map(expanded));
        tree.maybe("imagePullPolicy", dev.image_pull_policy.map(|policy| text(policy.as_str())));
        tree.list("command", dev.command.iter().map(|word| text(word)));
        tree.list("args", dev.args.iter().map(|word| text(word)));
        tree.maybe("workdir", dev.workdir.as_deref().map(text));
        if let Mode::Hybrid { folder } = &dev.mode {
            tree.put("workdir", expanded(&self.local(folder)));
        }
        let variables = dev.environment.iter().map(|variable| (&variable.name, expanded(&variable.value)));
        if !dev.environment.is_empty() {
            tree.put("environment", named(variables));
        }
        tree.list("envFiles", dev.env_files.iter().map(|path| expanded(&self.local(path))));
        tree.maybe("resources", resources(&dev.resources));
        tree.maybe("nodeSelector", plain_pairs(&dev.node_selector));
        tree.maybe("affinity", dev.affinity.as_ref().map(from_json));
        tree.list("tolerations", dev.tolerations.iter().map(toleration));
        tree.maybe("metadata", metadata(&dev.metadata));
    }

    fn sync(&self, sync: &Sync) -> Node {
        let mut tree = Tree::default();
        let folders = sync
            .folders
            .iter()
            .map(|folder| expanded(&format!("{}:{}", self.local(&folder.local), folder.remote)));
        tree.put("folders", Node::of(Value::Sequence(folders.collect())));
        tree.maybe("compression", sync.compression.map(flag));
        tree.put("verbose", flag(sync.verbose));
        tree.put("rescanInterval", number(sync.rescan_interval.as_secs()));
        tree.node()
    }

    /// Returns a local path as the manifest would name it: from the project's root where it lies in it.
    fn local(&self, path: &Path) -> String {
        let text = match path.strip_prefix(&self.root) {
            Ok(inside) if inside.as_os_str().is_empty() => ".".into(),
            Ok(inside) => inside.to_string_lossy(),
            Err(_) => path.to_string_lossy(),
        };
        // One that begins like a home, or leads up, would count from elsewhere.
        if text.starts_with('~') || text.starts_with("..") { format!("./{text}") } else { text.into_owned() }
    }
}

/// A mapping that is being made.
#[derive(Default)]
struct Tree {
    entries: Vec<Entry>,
}

impl Tree {
    fn put(&mut self, key: &str, node: Node) {
        self.entries.push(Entry { key: key.to_owned(), key_span: Span::default(), node });
    }

    fn maybe(&mut self, key: &str, node: Option<Node>) {
        if let Some(node) = node {
            self.put(key, node);
        }
    }

    /// Puts a list, if it has items.
    fn list(&mut self, key: &str, items: impl Iterator<Item = Node>) {
        let items: Vec<_> = items.collect();
        if !items.is_empty() {
            self.put(key, Node::of(Value::Sequence(items)));
        }
    }

    fn node(self) -> Node {
        Node::of(Value::Mapping(self.entries))
    }
}

impl Node {
    /// Returns a node that stands nowhere.
    fn of(value: Value) -> Self {
        Self { value, span: Span::default() }
    }
}

/// Returns text that is not expanded when it is read.
fn text(text: &str) -> Node {
    Node::of(Value::Scalar(Scalar { text: text.to_owned(), plain: false }))
}

/// Returns text that is expanded when it is read, and comes to `text` then.
fn expanded(plain: &str) -> Node {
    text(&plain.replace('$', "$$"))
}

fn flag(flag: bool) -> Node {
    Node::of(Value::Scalar(Scalar { text: flag.to_string(), plain: true }))
}

fn number(number: impl Into<i128>) -> Node {
    Node::of(Value::Scalar(Scalar { text: number.into().to_string(), plain: true }))
}

fn named<'n>(entries: impl Iterator<Item = (&'n String, Node)>) -> Node {
    let entry = |(key, node): (&String, Node)| Entry { key: key.clone(), key_span: Span::default(), node };
    Node::of(Value::Mapping(entries.map(entry).collect()))
}

/// Returns names and texts that are expanded when they are read.
fn pairs(map: &BTreeMap<String, String>) -> Option<Node> {
    (!map.is_empty()).then(|| named(map.iter().map(|(name, value)| (name, expanded(value)))))
}

/// Returns names and texts that are taken as they are.
fn plain_pairs(map: &BTreeMap<String, String>) -> Option<Node> {
    (!map.is_empty()).then(|| named(map.iter().map(|(name, value)| (name, text(value)))))
}

fn address(address: IpAddr) -> Node {
    if address == LOCALHOST { text("localhost") } else { text(&address.to_string()) }
}

/// Returns a length of time in the largest unit that says it exactly.
fn length(length: Duration) -> Node {
    let nanoseconds = length.as_nanos();
    let (amount, unit) = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")]
        .into_iter()
        .find(|(scale, _)| nanoseconds.is_multiple_of(*scale))
        .map_or((nanoseconds, "ns"), |(scale, unit)| (nanoseconds / scale, unit));
    text(&format!("{amount}{unit}"))
}

fn forward(forward: &Forward) -> Node {
    let (local, remote) = (forward.local, forward.remote);
    match &forward.target {
        ForwardTarget::Container => text(&format!("{local}:{remote}")),
        ForwardTarget::Service(name) => text(&format!("{local}:{name}:{remote}")),
        ForwardTarget::Labels(labels) => {
            let mut tree = Tree::default();
            tree.put("localPort", number(local));
            tree.put("remotePort", number(remote));
            tree.maybe("labels", plain_pairs(labels));
            tree.node()
        }
    }
}

fn resources(resources: &Resources) -> Option<Node> {
    let mut tree = Tree::default();
    tree.maybe("requests", plain_pairs(&resources.requests));
    tree.maybe("limits", plain_pairs(&resources.limits));
    (!tree.entries.is_empty()).then(|| tree.node())
}

fn security_context(context: &SecurityContext) -> Option<Node> {
    let mut tree = Tree::default();
    tree.maybe("runAsUser", context.run_as_user.map(number));
    tree.maybe("runAsGroup", context.run_as_group.map(number));
    tree.maybe("fsGroup", context.fs_group.map(number));
    tree.maybe("runAsNonRoot", context.run_as_non_root.map(flag));
    tree.maybe("allowPrivilegeEscalation", context.allow_privilege_escalation.map(flag));
    tree.maybe("readOnlyRootFilesystem", context.read_only_root_filesystem.map(flag));
    let mut capabilities = Tree::default();
    capabilities.list("add", context.capabilities.add.iter().map(|word| text(word)));
    capabilities.list("drop", context.capabilities.drop.iter().map(|word| text(word)));
    if !capabilities.entries.is_empty() {
        tree.put("capabilities", capabilities.node());
    }
    (!tree.entries.is_empty()).then(|| tree.node())
}

fn hook(hook: &Hook) -> Node {
    let mut tree = Tree::default();
    tree.put("enabled", flag(hook.enabled));
    if let Some(command) = &hook.command {
        tree.put("command", Node::of(Value::Sequence(command.iter().map(|word| text(word)).collect())));
    }
    tree.node()
}

fn toleration(toleration: &Toleration) -> Node {
    let mut tree = Tree::default();
    tree.maybe("key", toleration.key.as_deref().map(text));
    tree.maybe("operator", toleration.operator.as_deref().map(text));
    tree.maybe("value", toleration.value.as_deref().map(text));
    tree.maybe("effect", toleration.effect.as_deref().map(text));
    tree.maybe("tolerationSeconds", toleration.toleration_seconds.map(number));
    tree.node()
}

fn metadata(metadata: &Metadata) -> Option<Node> {
    let mut tree = Tree::default();
    tree.maybe("labels", pairs(&metadata.labels));
    tree.maybe("annotations", pairs(&metadata.annotations));
    (!tree.entries.is_empty()).then(|| tree.node())
}

fn init_container(container: &InitContainer) -> Node {
    let mut tree = Tree::default();
    tree.maybe("image", container.image.as_deref().map(expanded));
    tree.maybe("resources", resources(&container.resources));
    tree.node()
}

fn persistent_volume(volume: &PersistentVolume) -> Node {
    let mut tree = Tree::default();
    tree.put("enabled", flag(volume.enabled));
    tree.maybe("accessMode", volume.access_mode.as_deref().map(text));
    tree.maybe("size", volume.size.as_deref().map(text));
    tree.maybe("storageClass", volume.storage_class.as_deref().map(text));
    tree.maybe("volumeMode", volume.volume_mode.as_deref().map(text));
    tree.maybe("labels", pairs(&volume.metadata.labels));
    tree.maybe("annotations", pairs(&volume.metadata.annotations));
    tree.node()
}

/// Returns what was read as JSON as a tree again.
fn from_json(value: &serde_json::Value) -> Node {
    match value {
        serde_json::Value::Null => Node::of(Value::Null),
        serde_json::Value::Bool(yes) => flag(*yes),
        serde_json::Value::Number(amount) => {
            let mut text = amount.to_string();
            // Without a point and a sign, YAML 1.1 takes an exponent for text.
            if let Some(at) = text.find('e') {
                if !text[at + 1..].starts_with(['-', '+']) {
                    text.insert(at + 1, '+');
                }
                if !text[..at].contains('.') {
                    text.insert_str(at, ".0");
                }
            }
            Node::of(Value::Scalar(Scalar { text, plain: true }))
        }
        serde_json::Value::String(words) => text(words),
        serde_json::Value::Array(items) => Node::of(Value::Sequence(items.iter().map(from_json).collect())),
        serde_json::Value::Object(map) => named(map.iter().map(|(key, value)| (key, from_json(value)))),
    }
}
