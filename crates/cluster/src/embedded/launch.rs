//! What a container runs: its environment, its program, its folder, and the agent in the agent's place.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use towline_protocol::AGENT_PATH;

use super::process::{MARK, find_in_path, is_executable};
use super::sandbox::{Sandbox, contents, inside};
use super::store::{Store, create_private_folder};
use super::{Image, Machine, meta};
use crate::error::ClusterError;
use crate::expand;
use crate::port::{CONFIG_MAPS, Resource, SECRETS};

/// A process to be started in a container.
#[derive(Debug)]
pub(super) struct Launch {
    /// An absolute path on the host.
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) workdir: PathBuf,
}

/// Why there is nothing to start.
#[derive(Debug)]
pub(super) enum LaunchError {
    /// `CreateContainerConfigError`: something that may come to be is not there.
    Configuration(String),
    /// `StartError`: the program can't be run.
    Start(String),
    /// The store failed.
    Cluster(ClusterError),
}

impl From<ClusterError> for LaunchError {
    fn from(error: ClusterError) -> Self {
        Self::Cluster(error)
    }
}

/// Where a container's parts are.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) machine: &'a Machine,
    pub(super) store: &'a Store,
    pub(super) pod: &'a Value,
    pub(super) container: &'a Value,
    pub(super) image: &'a Image,
}

impl Place<'_> {
    /// Works out what the container's own process is.
    pub(super) fn own_process(&self) -> Result<Launch, LaunchError> {
        let environment = self.environment()?;
        let list = |key: &str| -> Vec<String> {
            let items = meta::items(self.container, key).iter().filter_map(Value::as_str);
            items.map(|text| expand(text, |name| last(&environment, name))).collect()
        };
        let mut argv = list("/command");
        if argv.is_empty() {
            argv.clone_from(&self.image.command);
        }
        argv.extend(list("/args"));
        self.process(&argv, environment, "run")
    }

    /// Works out what another process in the container is.
    pub(super) fn other_process(&self, argv: &[String]) -> Result<Launch, LaunchError> {
        self.process(argv, self.environment()?, "connect")
    }

    fn process(
        &self,
        argv: &[String],
        environment: Vec<(String, String)>,
        default_verb: &str,
    ) -> Result<Launch, LaunchError> {
        let sandbox = self.sandbox();
        let rootfs = sandbox.rootfs(self.pod, meta::text(self.container, "/name"));
        let folder = match meta::text(self.container, "/workingDir") {
            "" => &self.image.working_dir,
            folder => folder,
        };
        let workdir = inside(&rootfs, folder);
        create_private_folder(&workdir).map_err(|error| cannot_start(&workdir, &error))?;
        let Some((program, arguments)) = argv.split_first() else {
            return Err(LaunchError::Configuration("no command specified".to_owned()));
        };
        let (path, arguments) = if program == AGENT_PATH {
            (self.machine.agent.clone(), agent_arguments(arguments, default_verb, &sandbox.run(), &rootfs))
        } else {
            let variable = environment.iter().rfind(|(name, _)| name == "PATH");
            let search = variable.map_or("", |(_, value)| value.as_str());
            (find_program(program, &rootfs, &workdir, search)?, arguments.to_vec())
        };
        if !is_executable(&path) {
            let message = format!("exec: \"{}\": no such file or not executable", path.display());
            return Err(LaunchError::Start(message));
        }
        Ok(Launch { path, arguments, environment, workdir })
    }

    fn sandbox(&self) -> Sandbox {
        Sandbox::of(self.store.root(), self.pod)
    }

    /// Resolves the container's environment; later entries of a name win.
    fn environment(&self) -> Result<Vec<(String, String)>, LaunchError> {
        let sandbox = self.sandbox();
        let name = meta::text(self.container, "/name");
        let rootfs = sandbox.rootfs(self.pod, name);
        let mut found = vec![
            ("PATH".to_owned(), self.machine.path_env.clone()),
            ("HOME".to_owned(), rootfs.display().to_string()),
            ("HOSTNAME".to_owned(), meta::name(self.pod).to_owned()),
        ];
        for source in meta::items(self.container, "/envFrom") {
            let prefix = meta::text(source, "/prefix");
            for (resource, key) in [(CONFIG_MAPS, "configMapRef"), (SECRETS, "secretRef")] {
                if let Some(object) = self.referenced(resource, &source[key])? {
                    for (name, bytes) in contents(&object) {
                        found.push((format!("{prefix}{name}"), String::from_utf8_lossy(&bytes).into_owned()));
                    }
                }
            }
        }
        for variable in meta::items(self.container, "/env") {
            let value = match variable.get("valueFrom").filter(|source| source.is_object()) {
                None => Some(expand(meta::text(variable, "/value"), |name| last(&found, name))),
                Some(source) => self.value_from(source)?,
            };
            found.extend(value.map(|value| (meta::text(variable, "/name").to_owned(), value)));
        }
        let bin = rootfs.join("bin").display().to_string();
        for (_, value) in found.iter_mut().filter(|(name, _)| name == "PATH") {
            *value = format!("{bin}:{value}");
        }
        found.push((MARK.to_owned(), format!("{}/{name}", sandbox.id())));
        // A process can't be given a zero byte, and a name ends at the first equals sign.
        found
            .retain(|(name, value)| !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
        Ok(found)
    }

    fn value_from(&self, source: &Value) -> Result<Option<String>, LaunchError> {
        for (resource, key) in [(CONFIG_MAPS, "configMapKeyRef"), (SECRETS, "secretKeyRef")] {
            let reference = &source[key];
            if !reference.is_object() {
                continue;
            }
            let Some(object) = self.referenced(resource, reference)? else { return Ok(None) };
            let wanted = meta::text(reference, "/key");
            return match contents(&object).remove(wanted) {
                Some(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
                None if reference["optional"] == true => Ok(None),
                None => Err(LaunchError::Configuration(format!(
                    "couldn't find key {wanted} in {} {}/{}",
                    resource.kind,
                    meta::namespace(self.pod),
                    meta::name(&object)
                ))),
            };
        }
        let field = meta::text(source, "/fieldRef/fieldPath");
        let value = match field {
            "metadata.name" => meta::name(self.pod),
            "metadata.namespace" => meta::namespace(self.pod),
            "metadata.uid" => meta::uid(self.pod),
            "spec.nodeName" => meta::text(self.pod, "/spec/nodeName"),
            "spec.serviceAccountName" => match meta::text(self.pod, "/spec/serviceAccountName") {
                "" => "default",
                name => name,
            },
            "status.podIP" | "status.hostIP" | "status.podIPs" | "status.hostIPs" => "127.0.0.1",
            _ => self.annotation_or_label(field).ok_or_else(|| {
                LaunchError::Configuration(
                    "only configMapKeyRef, secretKeyRef and fieldRef are known here".to_owned(),
                )
            })?,
        };
        Ok(Some(value.to_owned()))
    }

    /// Reads `metadata.labels['key']` and `metadata.annotations['key']`; empty when the pod has no such.
    fn annotation_or_label(&self, field: &str) -> Option<&str> {
        let (map, key) = field.strip_prefix("metadata.")?.strip_suffix("']")?.split_once("['")?;
        matches!(map, "labels" | "annotations")
            .then(|| self.pod["metadata"][map].get(key).and_then(Value::as_str).unwrap_or_default())
    }

    fn referenced(&self, resource: &Resource, reference: &Value) -> Result<Option<Value>, LaunchError> {
        if !reference.is_object() {
            return Ok(None);
        }
        let name = meta::text(reference, "/name");
        match self.store.get(resource, meta::namespace(self.pod), name)? {
            Some(object) => Ok(Some(object)),
            None if reference["optional"] == true => Ok(None),
            None => Err(LaunchError::Configuration(format!(
                "{} \"{name}\" not found",
                resource.kind.to_lowercase()
            ))),
        }
    }
}

/// Puts the pod's folders on the host in place of those in a container.
fn agent_arguments(arguments: &[String], default_verb: &str, run: &Path, rootfs: &Path) -> Vec<String> {
    let mut kept = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if matches!(argument.as_str(), "--run-dir" | "--prefix") {
            rest.next();
        } else {
            kept.push(argument.clone());
        }
    }
    if kept.is_empty() {
        kept.push(default_verb.to_owned());
    }
    let verb = kept[0].clone();
    if matches!(verb.as_str(), "run" | "connect") {
        kept.extend(["--run-dir".to_owned(), run.display().to_string()]);
    }
    if matches!(verb.as_str(), "run" | "seed") {
        kept.extend(["--prefix".to_owned(), rootfs.display().to_string()]);
    }
    kept
}

/// Finds a program: in the image, else on the host.
fn find_program(program: &str, rootfs: &Path, workdir: &Path, search: &str) -> Result<PathBuf, LaunchError> {
    let candidates = if program.starts_with('/') {
        vec![inside(rootfs, program), PathBuf::from(program)]
    } else if program.contains('/') {
        vec![workdir.join(program)]
    } else {
        find_in_path(OsStr::new(program), search).into_iter().collect()
    };
    candidates.into_iter().find(|path| is_executable(path)).ok_or_else(|| {
        let place = if program.contains('/') {
            "no such file or directory"
        } else {
            "executable file not found in $PATH"
        };
        LaunchError::Start(format!("exec: \"{program}\": {place}"))
    })
}

/// Returns the value that counts of a name.
fn last<'e>(environment: &'e [(String, String)], name: &str) -> Option<&'e str> {
    environment.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn cannot_start(path: &Path, error: &io::Error) -> LaunchError {
    LaunchError::Start(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn the_agent_gets_the_pods_folders_on_the_host() {
        let check = |given: &[&str], verb: &str, expected: &[&str]| {
            let arguments = agent_arguments(&texts(given), verb, Path::new("/p/run"), Path::new("/p/rootfs"));
            assert_eq!(arguments, texts(expected), "{given:?}");
        };
        let run = ["run", "--run-dir", "/p/run", "--prefix", "/p/rootfs"];
        check(&[], "run", &run);
        check(&["run", "--run-dir", "/.towline/run"], "run", &run);
        check(&["seed", "/a", "/b"], "run", &["seed", "/a", "/b", "--prefix", "/p/rootfs"]);
        check(&["connect", "--run-dir", "/.towline/run"], "connect", &["connect", "--run-dir", "/p/run"]);
        check(&["version"], "connect", &["version"]);
        check(&[], "connect", &["connect", "--run-dir", "/p/run"]);
    }
}
