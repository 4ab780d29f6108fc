//! The sections that aren't about development, typed. Nothing of them runs yet; they are read, checked and shown.

mod build;
mod deploy;
mod test;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use indexmap::IndexMap;

pub(crate) use self::{
    build::build,
    deploy::{deploy, destroy},
    test::test,
};
use crate::{
    dev::variables,
    language::{COMMAND, DEPENDENCY, EXTERNAL, EXTERNAL_ENDPOINT},
    problem::{Place, Severity, quoted},
    quantity::duration,
    read::{At, Reader},
    suggest::nearest,
};

/// An image to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The folder that is built, or a repository's address.
    pub context: String,
    /// The Dockerfile.
    pub dockerfile: String,
    /// The stage of the Dockerfile; the last one when absent.
    pub target: Option<String>,
    /// The image's name.
    pub image: Option<String>,
    /// Arguments of the Dockerfile.
    pub args: BTreeMap<String, String>,
    /// Secrets of the build, by name.
    pub secrets: BTreeMap<String, BuildSecret>,
    /// Images to take layers from.
    pub cache_from: Vec<String>,
    /// Images to leave layers in.
    pub export_cache: Vec<String>,
    /// Builds that come first.
    pub depends_on: Vec<String>,
    /// Where it is written.
    pub place: Place,
}

/// Where a secret of a build comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildSecret {
    /// A local file, as it is written.
    File(String),
    /// A variable of the user.
    Variable(String),
}

/// A command with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What it is called: the command itself when it has no name.
    pub name: String,
    /// What runs in a shell.
    pub command: String,
}

/// How everything gets into the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deploy {
    /// The image that commands run in.
    pub image: Option<String>,
    /// The folder that commands run in.
    pub context: Option<String>,
    /// Whether commands run in the cluster.
    pub remote: Option<bool>,
    /// What runs, in order.
    pub commands: Vec<Command>,
    /// Compose files to deploy.
    pub compose: Option<Compose>,
    /// Paths that lead from outside to a Service, by the endpoint's name; one without a name has an empty one.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// Traffic of another namespace that comes to this one.
    pub divert: Option<Divert>,
}

/// Compose files to deploy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compose {
    /// The files, in order.
    pub files: Vec<ComposeFile>,
    /// Paths that lead from outside to a Service.
    pub endpoints: BTreeMap<String, Endpoint>,
}

/// A Compose file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComposeFile {
    /// The file, as it is written.
    pub file: String,
    /// Its services to deploy; all when empty.
    pub services: Vec<String>,
}

/// Paths that lead from outside to Services.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Labels of the Ingress.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the Ingress.
    pub annotations: BTreeMap<String, String>,
    /// The paths.
    pub rules: Vec<EndpointRule>,
}

/// A path that leads to a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRule {
    /// The path outside.
    pub path: String,
    /// The Service.
    pub service: String,
    /// The Service's port.
    pub port: u16,
}

/// Traffic of another namespace that comes to this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Divert {
    /// By an nginx ingress controller.
    Nginx {
        /// The namespace whose traffic comes here.
        namespace: String,
    },
    /// By Istio.
    Istio {
        /// What is diverted.
        virtual_services: Vec<VirtualService>,
        /// Hosts of this namespace.
        hosts: Vec<DivertHost>,
    },
}

/// A virtual service whose traffic is diverted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualService {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The routes that are diverted; all when empty.
    pub routes: Vec<String>,
}

/// A host of this namespace for a virtual service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DivertHost {
    /// The virtual service.
    pub virtual_service: String,
    /// Its namespace.
    pub namespace: String,
}

/// How everything gets out of the cluster again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Destroy {
    /// The image that commands run in.
    pub image: Option<String>,
    /// Whether commands run in the cluster.
    pub remote: Option<bool>,
    /// What runs, in order.
    pub commands: Vec<Command>,
}

/// A test that runs in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// The image that commands run in.
    pub image: Option<String>,
    /// The folder that is tested.
    pub context: String,
    /// What runs, in order.
    pub commands: Vec<Command>,
    /// Tests that come first.
    pub depends_on: Vec<String>,
    /// Folders that are kept between runs.
    pub caches: Vec<String>,
    /// Files that come back.
    pub artifacts: Vec<Artifact>,
    /// Names of hosts.
    pub hosts: Vec<Host>,
    /// Whether it is left out when nothing changed.
    pub skip_if_no_file_changes: bool,
    /// Where it is written.
    pub place: Place,
}

/// A file or folder that comes back from a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// In the test.
    pub path: String,
    /// On this machine.
    pub destination: String,
}

/// The name of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The name.
    pub name: String,
    /// The address.
    pub address: String,
}

/// Another repository to deploy first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dependency {
    /// The repository's address.
    pub repository: String,
    /// The manifest in it.
    pub manifest: Option<String>,
    /// The branch.
    pub branch: Option<String>,
    /// Variables for its deployment.
    pub variables: BTreeMap<String, String>,
    /// How long to wait for it.
    pub timeout: Option<Duration>,
    /// Whether to wait for it.
    pub wait: bool,
    /// The namespace that it goes to.
    pub namespace: Option<String>,
}

/// What is elsewhere and belongs to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct External {
    /// A picture for Okteto's own pages.
    pub icon: Option<String>,
    /// A file of words about it, as it is written.
    pub notes: Option<String>,
    /// Where it is.
    pub endpoints: Vec<ExternalEndpoint>,
}

/// Where something outside is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalEndpoint {
    /// What it is called; may be empty.
    pub name: String,
    /// Its address.
    pub url: String,
}

/// Returns the commands of a list; a command without a name is called what it says.
fn commands(reader: &mut Reader<'_>, at: Option<&At<'_>>) -> Vec<Command> {
    let list = at.map(|at| reader.list(at)).unwrap_or_default();
    list.iter().filter_map(|item| command(reader, item)).collect()
}

fn command(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Command> {
    if !at.is_mapping() {
        let command = reader.string(at)?;
        return Some(Command { name: command.clone(), command });
    }
    let fields = reader.fields(at, &COMMAND)?;
    let command = fields.get("command").and_then(|at| reader.string(at))?;
    let name = fields.get("name").and_then(|at| reader.string(at)).unwrap_or_else(|| command.clone());
    Some(Command { name, command })
}

/// How many names that nobody has get a hint: each costs a look at all names.
const MAX_HINTS: usize = 20;

/// Reports names that come before themselves, and those that nobody has.
fn check_order<'d>(
    reader: &mut Reader<'_>,
    what: &str,
    entries: impl Iterator<Item = (&'d String, &'d Vec<String>, &'d Place)>,
) {
    let entries: BTreeMap<&str, (&Vec<String>, &Place)> =
        entries.map(|(name, before, place)| (name.as_str(), (before, place))).collect();
    let mut hints = 0;
    for (before, place) in entries.values() {
        for wanted in before.iter().filter(|wanted| !entries.contains_key(wanted.as_str())) {
            hints += 1;
            let meant = (hints <= MAX_HINTS).then(|| nearest(wanted, entries.keys().copied())).flatten();
            let hint = meant.map(|word| format!("did you mean `{word}`?"));
            let message = format!("there is no {what} called {}", quoted(wanted));
            reader.report(Severity::Warning, &place.path, place.span, message, hint);
        }
    }
    let mut done = BTreeSet::new();
    for name in entries.keys() {
        for waits in circles(name, &entries, &mut done) {
            let Some((_, place)) = entries.get(waits) else { continue };
            let message = format!("the {what} {} waits for itself", quoted(waits));
            let hint = Some("take it out of the circle of `depends_on`".to_owned());
            reader.report(Severity::Error, &place.path, place.span, message, hint);
        }
    }
}

/// Returns one name of each circle that `start` leads to and that is not `done` yet; each name is looked at once.
fn circles<'d>(
    start: &'d str,
    entries: &BTreeMap<&'d str, (&'d Vec<String>, &'d Place)>,
    done: &mut BTreeSet<&'d str>,
) -> BTreeSet<&'d str> {
    let mut found = BTreeSet::new();
    let mut open = BTreeSet::new();
    // Names with the number of those before them that were looked at.
    let mut path: Vec<(&str, usize)> = Vec::new();
    if done.insert(start) {
        open.insert(start);
        path.push((start, 0));
    }
    while let Some((name, at)) = path.last_mut() {
        let next = entries.get(*name).and_then(|(before, _)| before.get(*at));
        *at += 1;
        match next.map(String::as_str) {
            None => {
                open.remove(*name);
                path.pop();
            }
            Some(next) if open.contains(next) => {
                found.insert(next);
            }
            Some(next) => {
                if done.insert(next) {
                    open.insert(next);
                    path.push((next, 0));
                }
            }
        }
    }
    found
}

/// Returns the other repositories, by name; in a list each is called what its address ends with.
pub(crate) fn dependencies(reader: &mut Reader<'_>, at: Option<&At<'_>>) -> IndexMap<String, Dependency> {
    let mut all = IndexMap::new();
    let Some(at) = at else { return all };
    if let Some(entries) = at.entries() {
        for (name, at) in entries {
            let dependency = if at.is_mapping() {
                dependency(reader, &at)
            } else {
                let repository = reader.given(&at, "the repository").and_then(|at| reader.expanded(at));
                repository.map(|repository| Dependency { repository, ..Dependency::default() })
            };
            all.extend(dependency.map(|dependency| (name.to_owned(), dependency)));
        }
        return all;
    }
    for item in reader.list(at) {
        let Some(repository) = reader.expanded(&item) else { continue };
        let Some(name) = repository_name(&repository) else {
            let hint = "write such as https://example.com/team/repository".to_owned();
            reader.error(&item, format!("{} is not the address of a repository", quoted(&repository)), hint);
            continue;
        };
        all.insert(name, Dependency { repository, ..Dependency::default() });
    }
    all
}

fn dependency(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Dependency> {
    let fields = reader.fields(at, &DEPENDENCY)?;
    let mut text = |name| fields.get(name).and_then(|at| reader.expanded(at));
    let (repository, manifest, branch, namespace) =
        (text("repository"), text("manifest"), text("branch"), text("namespace"));
    let timeout = fields.get("timeout").and_then(|at| length(reader, at));
    Some(Dependency {
        repository: repository?,
        manifest,
        branch,
        variables: fields.get("variables").map(|at| variables(reader, at)).unwrap_or_default(),
        timeout,
        wait: fields.get("wait").and_then(|at| reader.boolean(at)).unwrap_or(false),
        namespace,
    })
}

/// Returns the length of time that `at` spells.
pub(crate) fn length(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Duration> {
    let text = reader.string(at)?;
    let length = duration(&text).filter(|length| !length.is_zero());
    if length.is_none() {
        let hint = "write seconds, or an amount such as 90s, 1m30s or 1.5h".to_owned();
        reader.error(at, format!("{} is not a length of time", quoted(&text)), hint);
    }
    length
}

/// Returns the last part of a repository's address, without `.git`.
fn repository_name(address: &str) -> Option<String> {
    let path = match address.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?.1,
        None => address.split_once(':').map_or(address, |(_, path)| path),
    };
    let name = path.trim_end_matches('/').rsplit_once('/')?.1;
    let name = name.strip_suffix(".git").unwrap_or(name);
    (!name.is_empty()).then(|| name.to_owned())
}

/// Returns what is elsewhere, by name.
pub(crate) fn external(reader: &mut Reader<'_>, at: Option<&At<'_>>) -> IndexMap<String, External> {
    let mut all = IndexMap::new();
    for (name, at) in at.map(|at| reader.named(at)).unwrap_or_default() {
        let Some(fields) = reader.given(&at, "its `endpoints`").and_then(|at| reader.fields(at, &EXTERNAL))
        else {
            continue;
        };
        let mut text = |name| fields.get(name).and_then(|at| reader.expanded(at));
        let (icon, notes) = (text("icon"), text("notes"));
        let mut endpoints: Vec<ExternalEndpoint> = Vec::new();
        for item in fields.get("endpoints").map(|at| reader.list(at)).unwrap_or_default() {
            let Some(endpoint) = external_endpoint(reader, &item) else { continue };
            if endpoints.iter().any(|other| other.name == endpoint.name) {
                let message = match endpoint.name.as_str() {
                    "" => "another endpoint has no name either".to_owned(),
                    name => format!("another endpoint is called {} already", quoted(name)),
                };
                reader.error(&item, message, "give each a `name` of its own".to_owned());
            }
            endpoints.push(endpoint);
        }
        if let Some(list) = fields.get("endpoints")
            && endpoints.is_empty()
        {
            reader.error(
                list,
                "there is no endpoint",
                "write where it is: endpoints: [{name: …, url: …}]".to_owned(),
            );
        }
        all.insert(name.to_owned(), External { icon, notes, endpoints });
    }
    all
}

fn external_endpoint(reader: &mut Reader<'_>, at: &At<'_>) -> Option<ExternalEndpoint> {
    let fields = reader.fields(at, &EXTERNAL_ENDPOINT)?;
    let name = fields.get("name").and_then(|at| reader.expanded(at)).unwrap_or_default();
    let url = fields.get("url").and_then(|at| reader.expanded(at))?;
    Some(ExternalEndpoint { name, url })
}

#[cfg(test)]
mod tests {
    use super::repository_name;

    #[test]
    fn a_repository_is_called_what_its_address_ends_with() {
        for (address, expected) in [
            ("https://example.com/team/movies", Some("movies")),
            ("https://example.com/team/movies.git", Some("movies")),
            ("https://example.com/a/b/movies/", Some("movies")),
            ("git@example.com:team/movies.git", Some("movies")),
            ("https://example.com/movies", None),
            ("movies", None),
            ("", None),
            ("https://", None),
        ] {
            assert_eq!(repository_name(address).as_deref(), expected, "{address}");
        }
    }
}
