//! The sections that aren't about development, as trees.

use std::collections::BTreeMap;

use super::{Tree, expanded, flag, length, named, number, pairs, text};
use crate::{
    manifest::Manifest,
    node::{Node, Value},
    sections::{
        Build, BuildSecret, Command, Compose, ComposeFile, Dependency, Deploy, Destroy, Divert, Endpoint,
        External, Test,
    },
};

/// Puts every section that there is.
pub(super) fn put(top: &mut Tree, manifest: &Manifest) {
    section(top, "build", manifest.build.iter().map(|(name, one)| (name, build(one))));
    top.maybe("deploy", manifest.deploy.as_ref().map(deploy));
    top.maybe("destroy", manifest.destroy.as_ref().map(destroy));
    section(top, "test", manifest.test.iter().map(|(name, one)| (name, test(one))));
    section(top, "dependencies", manifest.dependencies.iter().map(|(name, one)| (name, dependency(one))));
    section(top, "external", manifest.external.iter().map(|(name, one)| (name, external(one))));
}

fn section<'m>(top: &mut Tree, key: &str, entries: impl Iterator<Item = (&'m String, Node)>) {
    let mut entries = entries.peekable();
    if entries.peek().is_some() {
        top.put(key, named(entries));
    }
}

fn texts(tree: &mut Tree, key: &str, words: &[String]) {
    tree.list(key, words.iter().map(|word| text(word)));
}

fn build(build: &Build) -> Node {
    let mut tree = Tree::default();
    tree.put("context", expanded(&build.context));
    tree.put("dockerfile", expanded(&build.dockerfile));
    tree.maybe("target", build.target.as_deref().map(expanded));
    tree.maybe("image", build.image.as_deref().map(expanded));
    tree.maybe("args", pairs(&build.args));
    section(&mut tree, "secrets", build.secrets.iter().map(|(name, one)| (name, secret(one))));
    tree.list("cache_from", build.cache_from.iter().map(|image| expanded(image)));
    tree.list("export_cache", build.export_cache.iter().map(|image| expanded(image)));
    texts(&mut tree, "depends_on", &build.depends_on);
    tree.node()
}

fn secret(secret: &BuildSecret) -> Node {
    let mut tree = Tree::default();
    match secret {
        BuildSecret::File(file) => tree.put("file", expanded(file)),
        BuildSecret::Variable(name) => tree.put("env", text(name)),
    }
    tree.node()
}

fn commands(tree: &mut Tree, list: &[Command]) {
    tree.list(
        "commands",
        list.iter().map(|one| {
            if one.name == one.command {
                return text(&one.command);
            }
            let mut tree = Tree::default();
            tree.put("name", text(&one.name));
            tree.put("command", text(&one.command));
            tree.node()
        }),
    );
}

fn deploy(deploy: &Deploy) -> Node {
    let mut tree = Tree::default();
    tree.maybe("image", deploy.image.as_deref().map(expanded));
    tree.maybe("context", deploy.context.as_deref().map(text));
    tree.maybe("remote", deploy.remote.map(flag));
    commands(&mut tree, &deploy.commands);
    tree.maybe("compose", deploy.compose.as_ref().map(compose));
    tree.maybe("endpoints", endpoints(&deploy.endpoints));
    tree.maybe("divert", deploy.divert.as_ref().map(divert));
    tree.node()
}

fn compose(compose: &Compose) -> Node {
    let file = |one: &ComposeFile| {
        let mut tree = Tree::default();
        tree.put("file", text(&one.file));
        texts(&mut tree, "services", &one.services);
        tree.node()
    };
    let mut tree = Tree::default();
    tree.put("manifest", Node::of(Value::Sequence(compose.files.iter().map(file).collect())));
    tree.maybe("endpoints", endpoints(&compose.endpoints));
    tree.node()
}

fn endpoints(endpoints: &BTreeMap<String, Endpoint>) -> Option<Node> {
    let rules = |endpoint: &Endpoint| {
        let rules = endpoint.rules.iter().map(|rule| {
            let mut tree = Tree::default();
            tree.put("path", text(&rule.path));
            tree.put("service", text(&rule.service));
            tree.put("port", number(rule.port));
            tree.node()
        });
        Node::of(Value::Sequence(rules.collect()))
    };
    let entry = |endpoint: &Endpoint| {
        let mut tree = Tree::default();
        tree.maybe("labels", pairs(&endpoint.labels));
        tree.maybe("annotations", pairs(&endpoint.annotations));
        tree.put("rules", rules(endpoint));
        tree.node()
    };
    match endpoints.first_key_value() {
        None => None,
        Some((name, one))
            if name.is_empty()
                && endpoints.len() == 1
                && one.labels.is_empty()
                && one.annotations.is_empty() =>
        {
            Some(rules(one))
        }
        Some(_) => Some(named(endpoints.iter().map(|(name, one)| (name, entry(one))))),
    }
}

fn divert(divert: &Divert) -> Node {
    let mut tree = Tree::default();
    match divert {
        Divert::Nginx { namespace } => {
            tree.put("driver", text("nginx"));
            tree.put("namespace", expanded(namespace));
        }
        Divert::Istio { virtual_services, hosts } => {
            tree.put("driver", text("istio"));
            let services = virtual_services.iter().map(|service| {
                let mut tree = Tree::default();
                tree.put("name", expanded(&service.name));
                tree.put("namespace", expanded(&service.namespace));
                texts(&mut tree, "routes", &service.routes);
                tree.node()
            });
            tree.put("virtualServices", Node::of(Value::Sequence(services.collect())));
            tree.list(
                "hosts",
                hosts.iter().map(|host| {
                    let mut tree = Tree::default();
                    tree.put("virtualService", expanded(&host.virtual_service));
                    tree.put("namespace", expanded(&host.namespace));
                    tree.node()
                }),
            );
        }
    }
    tree.node()
}

fn destroy(destroy: &Destroy) -> Node {
    let mut tree = Tree::default();
    tree.maybe("image", destroy.image.as_deref().map(expanded));
    tree.maybe("remote", destroy.remote.map(flag));
    commands(&mut tree, &destroy.commands);
    tree.node()
}

fn test(test: &Test) -> Node {
    let mut tree = Tree::default();
    tree.maybe("image", test.image.as_deref().map(expanded));
    tree.put("context", text(&test.context));
    commands(&mut tree, &test.commands);
    texts(&mut tree, "depends_on", &test.depends_on);
    texts(&mut tree, "caches", &test.caches);
    tree.list(
        "artifacts",
        test.artifacts.iter().map(|artifact| {
            let mut tree = Tree::default();
            tree.put("path", text(&artifact.path));
            tree.put("destination", text(&artifact.destination));
            tree.node()
        }),
    );
    tree.list(
        "hosts",
        test.hosts.iter().map(|host| {
            let mut tree = Tree::default();
            tree.put("hostname", expanded(&host.name));
            tree.put("ip", expanded(&host.address));
            tree.node()
        }),
    );
    if test.skip_if_no_file_changes {
        tree.put("skipIfNoFileChanges", flag(true));
    }
    tree.node()
}

fn dependency(dependency: &Dependency) -> Node {
    let mut tree = Tree::default();
    tree.put("repository", expanded(&dependency.repository));
    tree.maybe("manifest", dependency.manifest.as_deref().map(expanded));
    tree.maybe("branch", dependency.branch.as_deref().map(expanded));
    tree.maybe("variables", pairs(&dependency.variables));
    tree.maybe("timeout", dependency.timeout.map(length));
    if dependency.wait {
        tree.put("wait", flag(true));
    }
    tree.maybe("namespace", dependency.namespace.as_deref().map(expanded));
    tree.node()
}

fn external(external: &External) -> Node {
    let mut tree = Tree::default();
    tree.maybe("icon", external.icon.as_deref().map(expanded));
    tree.maybe("notes", external.notes.as_deref().map(expanded));
    tree.list(
        "endpoints",
        external.endpoints.iter().map(|endpoint| {
            let mut tree = Tree::default();
            tree.put("name", expanded(&endpoint.name));
            tree.put("url", expanded(&endpoint.url));
            tree.node()
        }),
    );
    tree.node()
}
