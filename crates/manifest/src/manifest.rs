//! The whole manifest: [`parse`] is the one parser and the one validator.

use std::{
    collections::BTreeMap,
    mem,
    path::{Path, PathBuf},
    sync::Arc,
};

use indexmap::IndexMap;

use crate::{
    dev::{self, Dev, Forward, sanitized},
    disk::{Disk, Kind},
    dotenv::DotEnv,
    expand::Lookup,
    language::{DEV, GLOBAL_FORWARD, TOP, VERSION_ONE},
    node::Node,
    origin::{Origin, Written},
    paths, print,
    problem::{Problem, Problems, Severity, SourceText, Span, quoted},
    read::{At, Fields, Reader},
    sections::{self, Build, Dependency, Deploy, Destroy, External, Test},
    suggest::nearest,
    trust::{self, Outside, Sensitive},
    write::yaml as to_yaml,
    yaml,
};

/// The most dev services of one file, and the most other files that it may name.
const MAX_DEVS: usize = 1000;
const MAX_OTHERS: usize = 100;

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
    /// The user's variables; those of `.env` beside the manifest stand in for the ones that aren't there.
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
    /// Warnings of credential-like variables whose values others could read.
    pub disclosures: Problems,
    /// The credential-like variables of the user whose values would go into the cluster.
    pub sensitive: Vec<Sensitive>,
    /// The local paths that lead out of the repository.
    pub outside: Vec<Outside>,
    /// What an agreement to this manifest is bound to, as hexadecimal BLAKE3; empty without a manifest.
    pub trust_hash: String,
    path: PathBuf,
    /// The texts that the values come from, the last one counts.
    written: Vec<Written>,
}

impl Parsed {
    /// Returns true when the user has to agree before anything is done: something of theirs would leave
    /// the repository, or their environment.
    pub fn needs_consent(&self) -> bool {
        let is_reached = |dev: &Dev| !dev.reverse.is_empty() || dev.mode != crate::Mode::Sync;
        let reached = self.manifest.iter().flat_map(|manifest| manifest.dev.values()).any(is_reached);
        !self.sensitive.is_empty() || !self.outside.is_empty() || reached
    }

    /// Returns the effective manifest as a tree: every value as it holds, in the order of the documentation.
    ///
    /// Values of credential-like variables are in it. Nothing when there is no manifest.
    pub fn effective(&self) -> Node {
        let nothing = Node { value: crate::Value::Null, span: Span::default() };
        self.manifest.as_ref().map_or(nothing, |manifest| print::tree(manifest, &self.path))
    }

    /// Returns where each value of [`Self::effective`] comes from, by its path, such as `dev.api.sync.folders[0]`.
    pub fn origins(&self) -> BTreeMap<String, Origin> {
        let effective = self.effective();
        let mut origins = BTreeMap::new();
        for written in &self.written {
            let mut own = BTreeMap::new();
            written.trace(&effective, &mut own);
            for (path, origin) in own {
                if origin.place.is_some() || !origins.contains_key(&path) {
                    origins.insert(path, origin);
                }
            }
        }
        origins
    }
}

/// A manifest, typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The name of the whole.
    pub name: Option<String>,
    /// A picture for Okteto's own pages.
    pub icon: Option<String>,
    /// The services that can be developed on, by [`Dev::name`], in the order of the text.
    pub dev: IndexMap<String, Dev>,
    /// Forwards of every session.
    pub forward: Vec<Forward>,
    /// The images to build, by name. Nothing is built yet.
    pub build: IndexMap<String, Build>,
    /// How everything gets into the cluster. Nothing of it runs yet.
    pub deploy: Option<Deploy>,
    /// How everything gets out of the cluster again. Nothing of it runs yet.
    pub destroy: Option<Destroy>,
    /// Tests that run in the cluster, by name. Nothing of it runs yet.
    pub test: IndexMap<String, Test>,
    /// Other repositories to deploy first, by name. Nothing of it runs yet.
    pub dependencies: IndexMap<String, Dependency>,
    /// What is elsewhere and belongs to it, by name.
    pub external: IndexMap<String, External>,
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

    /// Returns the manifest as YAML in one canonical form: read from the file at `path`, it is this manifest again.
    pub fn to_yaml(&self, path: &Path) -> String {
        to_yaml(&print::tree(self, path), &|_| None)
    }
}

/// Returns what `source` says, and all that is wrong with it.
pub fn parse(source: Source<'_>, context: &Context<'_>) -> Parsed {
    parse_one(source, context, true)
}

/// Reads one file; `follow` is false for one that another manifest names, so that no circle comes about.
fn parse_one(source: Source<'_>, context: &Context<'_>, follow: bool) -> Parsed {
    let file = Arc::new(SourceText::new(source.name, source.text));
    let mut dotenv = DotEnv::read(&paths::project_root(source.path), context.disk, context.variables);
    let dotenv_problems = mem::take(&mut dotenv.problems);
    let mut reader = Reader::new(Arc::clone(&file), source.path, context, &dotenv);
    let (root, faults) = yaml::read(source.text);
    for fault in faults {
        let yaml::Fault { message, path, span, hint } = fault;
        let file = Arc::clone(&file);
        reader.problems.push(Problem { severity: Severity::Error, message, path, span, hint, file });
    }
    for problem in dotenv_problems {
        reader.problems.push(problem);
    }
    let mut others = Vec::new();
    let mut version_one = None;
    let mut manifest = None;
    if let Some(root) = &root {
        let at = At::root(root);
        if dotenv.found {
            // It may be a link that leads out of the repository.
            reader.local(&At { path: ".env".to_owned(), ..at.clone() }, ".env");
        }
        if is_version_one(&at) {
            manifest = one_service(&mut reader, &at);
            version_one = manifest.as_ref().and_then(|manifest| manifest.dev.keys().next().cloned());
        } else {
            let mut parse_other = |reader: &mut Reader<'_>, item: &At<'_>, must_be: bool| {
                if follow {
                    others.extend(other_manifest(reader, item, must_be, context));
                }
            };
            manifest = whole(&mut reader, &at, &mut parse_other);
        }
    } else if !reader.problems.has_errors() {
        let hint = Some("write at least:\ndev:\n  NAME:\n    sync: [.:/app]".to_owned());
        let message = "the manifest is empty".to_owned();
        reader.report(Severity::Error, "", Span::default(), message, hint);
    }
    let trust_hash = root.as_ref().map(|root| trust::hash(root, &reader.findings)).unwrap_or_default();
    let Reader { problems, findings, used, from_files, .. } = reader;
    let root = root.unwrap_or(Node { value: crate::Value::Null, span: Span::default() });
    let mut parsed = Parsed {
        manifest,
        problems,
        disclosures: findings.disclosures,
        sensitive: findings.sensitive,
        outside: findings.outside,
        trust_hash,
        path: source.path.to_owned(),
        written: vec![Written { root, file: Arc::clone(&file), used, from_files, version_one }],
    };
    for other in others {
        parsed.join(other);
    }
    parsed.problems.sort(&file);
    parsed
}

impl Parsed {
    /// Takes the dev services of another manifest, and all that is to know about them.
    fn join(&mut self, other: Self) {
        for problem in &other.problems {
            self.problems.push(problem.clone());
        }
        for (manifest, more) in self.manifest.iter_mut().zip(other.manifest) {
            for (name, dev) in more.dev {
                if let Some(first) = manifest.dev.get(&name) {
                    let message =
                        format!("another dev service is called `{name}` already, in {}", first.place.path);
                    let Some(file) = other.written.first().map(|written| Arc::clone(&written.file)) else {
                        continue;
                    };
                    let (span, path) = (dev.place.span, dev.place.path);
                    let hint = Some("rename one of them".to_owned());
                    self.problems.push(Problem {
                        severity: Severity::Error,
                        message,
                        path,
                        span,
                        hint,
                        file,
                    });
                    continue;
                }
                manifest.dev.insert(name, dev);
            }
            manifest.forward.extend(more.forward);
        }
        for problem in &other.disclosures {
            self.disclosures.push(problem.clone());
        }
        self.sensitive.extend(other.sensitive);
        self.outside.extend(other.outside);
        self.trust_hash = trust::joined(&self.trust_hash, &other.trust_hash);
        self.written.splice(0..0, other.written);
    }
}

/// Reads the manifest that an item of `devs` names; one that `must_be` there is an error when it isn't.
fn other_manifest(
    reader: &mut Reader<'_>,
    item: &At<'_>,
    must_be: bool,
    context: &Context<'_>,
) -> Option<Parsed> {
    let text = reader.expanded(item)?;
    let path = reader.local(item, &text);
    let shown = quoted(&path.to_string_lossy());
    let failed = match context.disk.kind(&path) {
        Kind::File => match context.disk.read(&path, yaml::MAX_BYTES) {
            Ok(text) => {
                let name = path.to_string_lossy();
                return Some(parse_one(Source { name: &name, text: &text, path: &path }, context, false));
            }
            Err(error) => format!("the manifest {shown} can't be read: {error}"),
        },
        Kind::Folder => format!("{shown} is a folder, not a manifest"),
        Kind::Missing => format!("there is no manifest {shown}"),
    };
    if must_be {
        reader.error(item, failed, "correct the path, or remove it".to_owned());
    } else {
        reader.warn(item, failed, "write `dev` as a mapping of names".to_owned());
    }
    None
}

type ParseOther<'p> = dyn FnMut(&mut Reader<'_>, &At<'_>, bool) + 'p;

fn whole(reader: &mut Reader<'_>, at: &At<'_>, parse_other: &mut ParseOther<'_>) -> Option<Manifest> {
    if at.is_null() {
        reader.error(at, "the manifest is empty", "add a `dev` section".to_owned());
        return None;
    }
    let fields = reader.fields(at, &TOP)?;
    let mut manifest = Manifest {
        name: fields.get("name").and_then(|at| reader.expanded(at)),
        icon: fields.get("icon").and_then(|at| reader.string(at)),
        ..Manifest::default()
    };
    for at in fields.get("forward").map(|at| reader.list(at)).unwrap_or_default() {
        manifest.forward.extend(dev::forward(reader, &at, &GLOBAL_FORWARD));
    }
    manifest.dev = dev_section(reader, &fields, parse_other);
    reject_shared_ports(reader, &manifest);
    match fields.get("devs") {
        Some(at) if at.is_mapping() => {
            let hint = "did you mean `dev`?".to_owned();
            reader.error(at, "`devs` takes a list of other manifests, found a mapping", hint);
        }
        list => {
            for item in list.map(|at| reader.few(at, MAX_OTHERS)).unwrap_or_default() {
                parse_other(reader, &item, true);
            }
        }
    }
    // Nothing of these is acted on.
    reader.acted_on = false;
    manifest.build = sections::build(reader, fields.get("build"));
    manifest.deploy = fields.get("deploy").and_then(|at| sections::deploy(reader, at));
    manifest.destroy = fields.get("destroy").and_then(|at| sections::destroy(reader, at));
    manifest.test = sections::test(reader, fields.get("test"));
    manifest.dependencies = sections::dependencies(reader, fields.get("dependencies"));
    manifest.external = sections::external(reader, fields.get("external"));
    reader.acted_on = true;
    Some(manifest)
}

/// Reads the old layout: the fields of one dev service where sections should be.
fn one_service(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Manifest> {
    let name = at.node.field("name").map(|node| At { node, path: "name".to_owned(), key_span: None });
    let name = name.and_then(|at| reader.expanded(&at)).unwrap_or_default();
    let key = sanitized(&name);
    let dev = dev::read_version_one(reader, at, &key);
    (!name.is_empty()).then(|| Manifest { dev: IndexMap::from([(key, dev)]), ..Manifest::default() })
}

fn is_version_one(at: &At<'_>) -> bool {
    let entries = at.entries().unwrap_or_default();
    let section = |name: &str| {
        !matches!(name, "name" | "forward" | "namespace" | "context") && TOP.field(name).is_some()
    };
    let only_dev = |name: &str| VERSION_ONE.field(name).is_some() && TOP.field(name).is_none();
    entries.iter().any(|(name, _)| only_dev(name)) && !entries.iter().any(|(name, _)| section(name))
}

fn reject_shared_ports(reader: &mut Reader<'_>, manifest: &Manifest) {
    fn places(list: &[Forward]) -> impl Iterator<Item = (u16, &crate::Place)> {
        list.iter().map(|forward| (forward.local, &forward.place))
    }
    let shared = dev::reject_repeated_ports(reader, "local", &BTreeMap::new(), places(&manifest.forward));
    for one in manifest.dev.values() {
        dev::reject_repeated_ports(reader, "local", &shared, places(&one.forward));
    }
}

fn dev_section(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    parse_other: &mut ParseOther<'_>,
) -> IndexMap<String, Dev> {
    let mut devs: IndexMap<String, Dev> = IndexMap::new();
    let Some(at) = fields.get("dev") else { return devs };
    let Some(entries) = at.entries() else {
        if matches!(at.node.value, crate::Value::Sequence(_)) {
            for item in reader.few(at, MAX_OTHERS) {
                parse_other(reader, &item, false);
            }
        } else {
            let hint = "write one entry for each service:\ndev:\n  NAME:\n    sync: [.:/app]".to_owned();
            reader.error(at, format!("`dev` takes a mapping of names, found {}", at.node.kind()), hint);
        }
        return devs;
    };
    if entries.len() > MAX_DEVS {
        let message = format!("there are {} dev services; at most {MAX_DEVS} are read", entries.len());
        reader.error(at, message, None);
    }
    for (key, at) in entries.into_iter().take(MAX_DEVS) {
        let named = reader.kubernetes_name(key, &at, DEV.what, |name| devs.contains_key(name));
        let name = named.clone().unwrap_or_else(|| sanitized(key));
        let dev = dev::read(reader, &at, &name);
        if named.is_some() {
            devs.insert(name, dev);
        }
    }
    devs
}
