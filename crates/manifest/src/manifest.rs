//! The whole manifest: [`parse`] is the one parser and the one validator.

use std::{path::Path, sync::Arc};

use indexmap::IndexMap;

use crate::{
    dev::{self, DEV_FIELDS, Dev, Forward, ForwardTarget},
    disk::Disk,
    expand::Lookup,
    node::Node,
    problem::{Problem, Problems, Severity, SourceText, Span, quoted},
    read::{At, Fields, Reader},
    suggest::nearest,
    trust::{self, Outside, Sensitive},
    yaml,
};

/// The fields of a manifest.
const TOP_FIELDS: [&str; 12] = [
    "build",
    "context",
    "dependencies",
    "deploy",
    "destroy",
    "dev",
    "external",
    "forward",
    "icon",
    "name",
    "namespace",
    "test",
];
/// The fields that are kept as they are for what reads them.
const UNTYPED: [&str; 7] = ["build", "dependencies", "deploy", "destroy", "external", "icon", "test"];

/// The text of a manifest and where it came from.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// What the file is called in messages.
    pub name: &'a str,
    /// The text.
    pub text: &'a str,
    /// The file's path: local paths in the text are resolved against it.
    pub path: &'a Path,
}

/// What a manifest's meaning depends on beside its text.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The user's variables.
    pub variables: &'a Lookup<'a>,
    /// The user's disk.
    pub disk: &'a dyn Disk,
    /// The repository's root, inside of which local paths need no consent; the project's root when `None`.
    pub repository: Option<&'a Path>,
}

/// What a text was read as: the manifest as far as it could be read, and everything to know about it.
#[derive(Debug)]
pub struct Parsed {
    /// The manifest, if the text is a mapping; don't act on it while [`Problems::has_errors`].
    pub manifest: Option<Manifest>,
    /// All that is wrong, in the order of the text.
    pub problems: Problems,
    /// The credential-like variables of the user whose values would go into the cluster.
    pub sensitive: Vec<Sensitive>,
    /// The local paths that lead out of the repository.
    pub outside: Vec<Outside>,
    /// What an agreement to this manifest is bound to, as hexadecimal BLAKE3; empty without a manifest.
    pub trust_hash: String,
}

impl Parsed {
    /// Returns true when the user has to agree before anything is done: something of theirs would leave
    /// the repository, or their environment.
    pub fn needs_consent(&self) -> bool {
        let reverse = |manifest: &Manifest| manifest.dev.values().any(|dev| !dev.reverse.is_empty());
        !self.sensitive.is_empty() || !self.outside.is_empty() || self.manifest.as_ref().is_some_and(reverse)
    }
}

/// A manifest, typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The name of the whole.
    pub name: Option<String>,
    /// The services that can be developed on, by [`Dev::name`], in the order of the text.
    pub dev: IndexMap<String, Dev>,
    /// Forwards to Services, for every session.
    pub forward: Vec<Forward>,
    /// The sections that aren't about development, as they are.
    pub sections: IndexMap<String, Node>,
}

/// A dev service that the manifest doesn't have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the manifest has no dev service {}", quoted(.name))]
pub struct UnknownDev {
    /// What was asked for.
    pub name: String,
    /// What was most likely meant.
    pub nearest: Option<String>,
    /// What there is, in the order of the text.
    pub known: Vec<String>,
}

impl Manifest {
    /// Returns the dev service called `name`.
    pub fn dev(&self, name: &str) -> Result<&Dev, UnknownDev> {
        self.dev.get(name).or_else(|| self.dev.get(&sanitized(name))).ok_or_else(|| UnknownDev {
            name: name.to_owned(),
            nearest: nearest(name, self.dev.keys().map(String::as_str)).map(str::to_owned),
            known: self.dev.keys().cloned().collect(),
        })
    }

    /// Returns the forwards of a session on `dev`: its own, then those of the whole manifest.
    pub fn forwards<'m>(&'m self, dev: &'m Dev) -> impl Iterator<Item = &'m Forward> {
        dev.forward.iter().chain(&self.forward)
    }
}

/// Returns what `source` says, and all that is wrong with it.
pub fn parse(source: Source<'_>, context: &Context<'_>) -> Parsed {
    let file = Arc::new(SourceText::new(source.name, source.text));
    let mut reader = Reader::new(Arc::clone(&file), source.path, context);
    let (root, faults) = yaml::read(source.text);
    for fault in faults {
        let yaml::Fault { message, path, span, hint } = fault;
        let file = Arc::clone(&file);
        reader.problems.push(Problem { severity: Severity::Error, message, path, span, hint, file });
    }
    let manifest = root.as_ref().and_then(|root| manifest(&mut reader, &At::root(root)));
    if root.is_none() && !reader.problems.has_errors() {
        let hint = Some("write at least:\ndev:\n  NAME:\n    sync: [.:/app]".to_owned());
        let message = "the manifest is empty".to_owned();
        reader.report(Severity::Error, "", Span::default(), message, hint);
    }
    let mut problems = reader.problems;
    problems.sort(&file);
    let trust_hash = root.as_ref().map(|root| trust::hash(root, &reader.findings)).unwrap_or_default();
    Parsed {
        manifest,
        problems,
        sensitive: reader.findings.sensitive,
        outside: reader.findings.outside,
        trust_hash,
    }
}

fn manifest(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Manifest> {
    if is_version_one(at) {
        let message = "this is a manifest of version 1: it has the fields of `dev` at the top".to_owned();
        let hint = Some("put the fields under `dev:` and the name of the service".to_owned());
        reader.report(Severity::Error, "", at.node.span, message, hint);
        return None;
    }
    if at.is_null() {
        reader.error(at, "the manifest is empty", "add a `dev` section".to_owned());
        return None;
    }
    let fields = reader.fields(at, "the manifest", &TOP_FIELDS)?;
    for name in ["namespace", "context"] {
        if let Some(at) = fields.get(name) {
            let hint = format!("remove it and type --{name}");
            let span = at.key_span.unwrap_or(at.node.span);
            let message = format!("`{name}` is not chosen in the manifest");
            reader.report(Severity::Error, &at.path, span, message, Some(hint));
        }
    }
    let name = fields.get("name").and_then(|at| reader.expanded(at));
    let mut global = Vec::new();
    for at in fields.get("forward").map(|at| reader.list(at)).unwrap_or_default() {
        let forward = dev::service_forward(reader, &at);
        if let Some(Forward { target: ForwardTarget::Labels(_), .. }) = &forward {
            reader.warn(&at, dev::not_acted_on(&["labels"]), None);
        }
        global.extend(forward);
    }
    let dev = dev_section(reader, &fields);
    let shared = global.iter().map(|forward| (forward.local, forward.path.as_str(), forward.span));
    let shared: Vec<_> = shared.collect();
    if dev.is_empty() {
        dev::reject_repeated_ports(reader, "local", shared.iter().copied());
    }
    for one in dev.values() {
        let own = one.forward.iter().map(|forward| (forward.local, forward.path.as_str(), forward.span));
        dev::reject_repeated_ports(reader, "local", shared.iter().copied().chain(own));
    }
    let sections = fields.iter().filter(|(name, _)| UNTYPED.contains(name));
    let sections = sections.map(|(name, at)| ((*name).to_owned(), at.node.clone())).collect();
    Some(Manifest { name, dev, forward: global, sections })
}

/// Returns true for the old layout: the fields of one dev service where sections should be.
fn is_version_one(at: &At<'_>) -> bool {
    let entries = at.entries().unwrap_or_default();
    let sections = |name: &str| matches!(name, "dev" | "build" | "deploy" | "test" | "dependencies");
    let only_dev = |name: &str| DEV_FIELDS.contains(&name) && !TOP_FIELDS.contains(&name);
    entries.iter().any(|(name, _)| only_dev(name)) && !entries.iter().any(|(name, _)| sections(name))
}

fn dev_section(reader: &mut Reader<'_>, fields: &Fields<'_>) -> IndexMap<String, Dev> {
    let mut devs: IndexMap<String, Dev> = IndexMap::new();
    let Some(at) = fields.get("dev") else { return devs };
    let Some(entries) = at.entries() else {
        let hint = "write one entry for each service:\ndev:\n  NAME:\n    sync: [.:/app]".to_owned();
        reader.error(at, format!("`dev` takes a mapping of names, found {}", at.node.kind()), hint);
        return devs;
    };
    for (key, at) in entries {
        let span = at.key_span.unwrap_or(at.node.span);
        let name = sanitized(key);
        if !dev::is_name(&name) {
            let message = format!("{} is not a name that a dev service can have", quoted(key));
            let hint = "use lower-case letters, digits and `-` inside".to_owned();
            reader.report(Severity::Error, &at.path, span, message, Some(hint));
        } else if name != key {
            let message = format!("{} is not a Kubernetes name; it is called `{name}`", quoted(key));
            reader.report(Severity::Warning, &at.path, span, message, None);
        }
        let dev = dev::read(reader, &at, &name, span);
        if devs.contains_key(&name) {
            let message = format!("another dev service is called `{name}` already");
            reader.report(Severity::Error, &at.path, span, message, Some("rename one of them".to_owned()));
        } else {
            devs.insert(name, dev);
        }
    }
    devs
}

/// Returns a name as Kubernetes takes it, as far as case and separators go.
fn sanitized(name: &str) -> String {
    name.chars().map(|c| if matches!(c, ' ' | '_' | '.') { '-' } else { c.to_ascii_lowercase() }).collect()
}
