//! A cluster without a cluster: objects are files, pods are processes of this machine, and there is no daemon.
//!
//! For trying Towline, and for tests: it answers as the API server does (conflicts, field ownership, validation,
//! events), so that the rest of Towline can't tell the difference, and it can be made to fail on purpose. Every call
//! takes one lock, and whoever holds it also does what controllers and the kubelet would do, so that any number of
//! commands may use it at once and pods live on when none does. Linux only.
//!
//! What is different: pods share the host's network, file system and process ids (each sees its image's files below
//! a private folder), probes are not run (a pod that runs is ready), and only Deployments and `ReplicaSet`s start pods:
//! the other kinds that hold a pod template are kept, with the revisions of their templates, and run nothing.

mod api;
mod controllers;
mod defaults;
mod event;
mod faults;
mod fields;
mod garbage;
mod kinds;
mod launch;
mod log;
mod meta;
mod notice;
mod pod;
mod process;
mod revisions;
mod sandbox;
mod status;
mod store;
mod validate;
mod watch;
mod workload;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::AsyncRead;

use crate::error::ClusterError;
use crate::port::{
    Cluster, DeleteOptions, ExecStream, LogOptions, NAMESPACES, NODES, Object, PODS, Patch, Resource, Right,
    Selection, Target, Watch, WriteOptions,
};

pub use self::faults::{Faults, Moment};
use self::fields::Manager;
use self::launch::{LaunchError, Place};
use self::store::Store;

/// The field manager of what the port writes.
const MANAGER: &str = "towline";
/// The only node's name.
const NODE: &str = "embedded";

/// What an embedded cluster is made of.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Towline's state folder; the cluster lies in `embedded` below it.
    pub state_dir: PathBuf,
    /// An agent that runs on this machine: it takes the place of the one that a ConfigMap would bring.
    pub agent: PathBuf,
    /// The namespace when none is named; `default` when `None`.
    pub namespace: Option<String>,
    /// Images to be known from now on, here and to every later user of the folder.
    pub images: Vec<Image>,
    /// `PATH` for pods, behind their own `/bin`.
    pub path_env: String,
}

/// A container image: a folder of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// As in a pod's `image`; the tag `latest` may be left out there or here.
    pub name: String,
    /// Paths in the image (`bin/hello`), and the files on this machine that are copied there for each pod.
    pub files: Vec<(String, PathBuf)>,
    /// Where its processes start, in the image; empty is `/`.
    pub working_dir: String,
    /// What it runs when the pod names no command.
    pub command: Vec<String>,
}

/// The embedded cluster, as one field manager sees it. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
    manager: String,
    faults: Faults,
}

#[derive(Debug)]
struct Shared {
    target: Target,
    machine: Machine,
}

/// What pods need of this machine.
#[derive(Debug)]
struct Machine {
    root: PathBuf,
    agent: PathBuf,
    path_env: String,
}

/// Opens the embedded cluster of a state folder; it is made at the first use.
///
/// # Errors
///
/// [`ClusterError::Unreachable`] when the folder can't be made, read or locked.
pub fn open(options: EmbeddedOptions) -> Result<Arc<Embedded>, ClusterError> {
    let root = options.state_dir.join("embedded");
    let mut store = Store::lock(&root)?;
    set_up(&mut store)?;
    remember_images(&root, options.images)?;
    drop(store);
    let target = Target {
        context: "embedded".to_owned(),
        server: root.display().to_string(),
        namespace: options.namespace.unwrap_or_else(|| api::DEFAULT_NAMESPACE.to_owned()),
        embedded: true,
    };
    let machine = Machine { root, agent: options.agent, path_env: options.path_env };
    let shared = Arc::new(Shared { target, machine });
    Ok(Arc::new(Embedded { shared, manager: MANAGER.to_owned(), faults: Faults::default() }))
}

impl Embedded {
    /// Returns the same cluster for another field manager.
    #[must_use]
    pub fn with_manager(&self, manager: &str) -> Self {
        Self { manager: manager.to_owned(), ..self.clone() }
    }

    /// Returns the same cluster, failing as asked.
    #[must_use]
    pub fn with_faults(&self, faults: Faults) -> Self {
        Self { faults, ..self.clone() }
    }

    /// Creates those of the objects that are not there yet, in the order given, as the manager `example`. An object
    /// that names no namespace goes into the default one. Returns the names of those created.
    ///
    /// # Errors
    ///
    /// Those of [`Cluster::create`], and [`ClusterError::Config`] for an object of an unknown kind.
    pub async fn apply(&self, objects: &[Value]) -> Result<Vec<Object>, ClusterError> {
        let seeder = self.with_manager("example");
        let mut created = Vec::new();
        for body in objects {
            let (version, kind) = (meta::text(body, "/apiVersion"), meta::text(body, "/kind"));
            let resource = kinds::of_manifest(version, kind).ok_or_else(|| ClusterError::Config {
                message: format!("no kind {kind} in {version} in the embedded cluster"),
            })?;
            let namespace = match meta::namespace(body) {
                "" => self.shared.target.namespace.as_str(),
                namespace => namespace,
            };
            match seeder.create(resource, namespace, body, &WriteOptions::default()).await {
                Ok(object) => {
                    created.push(Object::new(resource, meta::namespace(&object), meta::name(&object)));
                }
                Err(ClusterError::AlreadyExists { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(created)
    }

    /// Runs a call: rights, planned failures, then the work under the lock, and what controllers make of it.
    async fn call<T: Send + 'static>(
        &self,
        verb: &'static str,
        object: Object,
        work: impl FnOnce(&mut Store, &Machine) -> Result<T, ClusterError> + Send + 'static,
    ) -> Result<T, ClusterError> {
        let resource = object.resource;
        self.admit(verb, resource, "", object)?;
        let death = self.faults.dies(verb);
        if death == Some(Moment::Before) {
            return std::future::pending().await;
        }
        let failure = self.faults.next(verb, resource.plural);
        if let Some((Moment::Before, error)) = failure {
            return Err(error);
        }
        let shared = Arc::clone(&self.shared);
        let result = locked(&shared, move |store, machine| {
            if matches!(verb, "get" | "list") {
                controllers::run(store, machine)?;
                return work(store, machine);
            }
            let result = work(store, machine)?;
            // The write took place. What the controllers could not do now is done, or told, by the next call.
            let _ = controllers::run(store, machine);
            Ok(result)
        })
        .await;
        if death.is_some() {
            return std::future::pending().await;
        }
        match failure {
            Some((_, error)) => Err(error),
            None => result,
        }
    }

    fn admit(
        &self,
        verb: &'static str,
        resource: &'static Resource,
        subresource: &'static str,
        object: Object,
    ) -> Result<(), ClusterError> {
        let right = Right { verb, group: resource.group, resource: resource.plural, subresource };
        if !self.faults.is_denied(&right) {
            return Ok(());
        }
        let slash = if subresource.is_empty() { "" } else { "/" };
        let message = format!(
            "cannot {verb} resource \"{}{slash}{subresource}\" in API group \"{}\" in the namespace \"{}\"",
            resource.plural, resource.group, object.namespace
        );
        Err(ClusterError::Forbidden { verb, object, message })
    }
}

#[async_trait]
impl Cluster for Embedded {
    fn target(&self) -> &Target {
        &self.shared.target
    }

    async fn kind(
        &self,
        group: &str,
        version: Option<&str>,
        name: &str,
    ) -> Result<Option<&'static Resource>, ClusterError> {
        if let Some((_, error)) = self.faults.next("get", "apiresources") {
            return Err(error);
        }
        Ok(kinds::find(group, version, name))
    }

    async fn get(&self, object: &Object) -> Result<Value, ClusterError> {
        let wanted = object.clone();
        self.call("get", object.clone(), move |store, _| api::read(store, &wanted)).await
    }

    async fn list(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        selection: &Selection,
    ) -> Result<Vec<Value>, ClusterError> {
        let selection = selection.clone();
        let namespace = namespace.map(str::to_owned);
        let object = ClusterError::kind_of(resource, namespace.as_deref().unwrap_or_default());
        self.call("list", object, move |store, _| select(store, resource, namespace.as_deref(), &selection))
            .await
    }

    async fn watch(
        &self,
        resource: &'static Resource,
        namespace: &str,
        selection: &Selection,
    ) -> Result<Watch, ClusterError> {
        self.admit("watch", resource, "", ClusterError::kind_of(resource, namespace))?;
        if let Some((_, error)) = self.faults.next("watch", resource.plural) {
            return Err(error);
        }
        let shared = Arc::clone(&self.shared);
        watch::open(shared, resource, namespace.to_owned(), selection.clone(), self.faults.clone())
    }

    async fn create(
        &self,
        resource: &'static Resource,
        namespace: &str,
        body: &Value,
        options: &WriteOptions,
    ) -> Result<Value, ClusterError> {
        let object = Object::new(resource, namespace, meta::name(body));
        let (namespace, body, manager) =
            (namespace.to_owned(), body.clone(), Manager::update(&*self.manager));
        let dry_run = options.dry_run;
        self.call("create", object, move |store, _| {
            let created = api::create(store, resource, &namespace, &body, &manager, dry_run)?;
            if !dry_run && !meta::items(&created, "/metadata/ownerReferences").is_empty() {
                garbage::mark(store)?;
            }
            Ok(created)
        })
        .await
    }

    async fn replace(
        &self,
        object: &Object,
        body: &Value,
        options: &WriteOptions,
    ) -> Result<Value, ClusterError> {
        let (wanted, body, manager) = (object.clone(), body.clone(), Manager::update(&*self.manager));
        let dry_run = options.dry_run;
        let work =
            move |store: &mut Store, _: &Machine| api::replace(store, &wanted, &body, &manager, dry_run);
        self.call("update", object.clone(), work).await
    }

    async fn patch(
        &self,
        object: &Object,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<Value, ClusterError> {
        let (wanted, patch, manager) = (object.clone(), patch.clone(), Manager::update(&*self.manager));
        let dry_run = options.dry_run;
        let work =
            move |store: &mut Store, _: &Machine| api::patch(store, &wanted, &patch, &manager, dry_run);
        self.call("patch", object.clone(), work).await
    }

    async fn delete(&self, object: &Object, options: &DeleteOptions) -> Result<(), ClusterError> {
        let (wanted, options) = (object.clone(), options.clone());
        self.call("delete", object.clone(), move |store, _| api::delete(store, &wanted, &options)).await
    }

    async fn can(&self, _namespace: &str, rights: &[Right]) -> Result<Vec<bool>, ClusterError> {
        if let Some((_, error)) = self.faults.next("create", "selfsubjectaccessreviews") {
            return Err(error);
        }
        Ok(rights.iter().map(|right| !self.faults.is_denied(right)).collect())
    }

    async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        argv: &[String],
    ) -> Result<ExecStream, ClusterError> {
        let object = Object::new(PODS, namespace, pod);
        self.admit("create", PODS, "exec", object.clone())?;
        if let Some((_, error)) = self.faults.next("create", "pods/exec") {
            return Err(error);
        }
        let program = argv.first().cloned().unwrap_or_default();
        let failed = move |message: String| ClusterError::Exec { pod: object.name.clone(), program, message };
        let (wanted, argv) = (Object::new(PODS, namespace, pod), argv.to_vec());
        let container = container.to_owned();
        let launch = locked(&self.shared, move |store, machine| {
            controllers::run(store, machine)?;
            let pod = api::read(store, &wanted)?;
            if !status::is_running(&pod, &container) {
                return Err(failed(format!("container {container} is not running")));
            }
            let lists = ["/spec/containers", "/spec/initContainers"].into_iter();
            let mut containers = lists.flat_map(|list| meta::items(&pod, list));
            let spec = containers.find(|spec| spec["name"] == *container).cloned().unwrap_or_default();
            let image = image_of(store.root(), meta::text(&spec, "/image"))?;
            let Some(image) = image else { return Err(failed("its image is not known any more".to_owned())) };
            let place = Place { machine, store, pod: &pod, container: &spec, image: &image };
            let launch = place.other_process(&argv).map_err(|error| match error {
                LaunchError::Configuration(message) | LaunchError::Start(message) => failed(message),
                LaunchError::Cluster(error) => error,
            })?;
            Ok((launch, pod))
        });
        let (launch, pod) = launch.await?;
        let failed = |message: String| ClusterError::Exec {
            pod: meta::name(&pod).to_owned(),
            program: launch.path.display().to_string(),
            message,
        };
        let mut command = tokio::process::Command::new(&launch.path);
        command
            .args(&launch.arguments)
            .env_clear()
            .envs(launch.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&launch.workdir).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(stdin), Some(stdout), Some(stderr)) => {
                Ok(ExecStream { stdin: Box::new(stdin), stdout: Box::new(stdout), stderr: Box::new(stderr) })
            }
            _ => Err(failed("no pipes to it".to_owned())),
        }
    }

    async fn logs(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        options: &LogOptions,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, ClusterError> {
        let object = Object::new(PODS, namespace, pod);
        self.admit("get", PODS, "log", object.clone())?;
        if let Some((_, error)) = self.faults.next("get", "pods/log") {
            return Err(error);
        }
        let (options, container) = (options.clone(), container.to_owned());
        let source = locked(&self.shared, {
            let options = options.clone();
            move |store, machine| {
                controllers::run(store, machine)?;
                let pod = api::read(store, &object)?;
                log::find(store, &object, &pod, &container, &options)
            }
        });
        log::open(&source.await?, &options)
    }
}

/// Runs `work` under the lock, on a thread that may wait.
async fn locked<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&mut Store, &Machine) -> Result<T, ClusterError> + Send + 'static,
) -> Result<T, ClusterError> {
    let shared = Arc::clone(shared);
    let task = tokio::task::spawn_blocking(move || {
        let mut store = Store::lock(&shared.machine.root)?;
        work(&mut store, &shared.machine)
    });
    task.await.unwrap_or_else(|error| {
        Err(ClusterError::Unreachable { server: "embedded".to_owned(), message: error.to_string() })
    })
}

fn select(
    store: &Store,
    resource: &Resource,
    namespace: Option<&str>,
    selection: &Selection,
) -> Result<Vec<Value>, ClusterError> {
    let mut objects = store.list(resource, namespace)?;
    objects.retain(|object| {
        let labels = selection.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        selection.name.as_deref().is_none_or(|name| meta::name(object) == name)
            && meta::has_labels(object, labels)
    });
    Ok(objects)
}

/// Makes what is always there.
fn set_up(store: &mut Store) -> Result<(), ClusterError> {
    let manager = Manager::update("kube-apiserver");
    if store.get(NAMESPACES, "", api::DEFAULT_NAMESPACE)?.is_none() {
        let body = json!({"metadata": {
            "name": api::DEFAULT_NAMESPACE, "labels": {"kubernetes.io/metadata.name": api::DEFAULT_NAMESPACE},
        }});
        api::create(store, NAMESPACES, "", &body, &manager, false)?;
    }
    if store.get(NODES, "", NODE)?.is_none() {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let labels = json!({
            "kubernetes.io/arch": architecture, "kubernetes.io/os": "linux", "kubernetes.io/hostname": NODE,
        });
        let body = json!({"metadata": {"name": NODE, "labels": labels}, "spec": {}});
        let node = api::create(store, NODES, "", &body, &manager, false)?;
        let status = json!({
            "nodeInfo": {"architecture": architecture, "operatingSystem": "linux"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        });
        api::set_status(store, NODES, &node, status, "kubelet")?;
    }
    Ok(())
}

/// Adds images to those known: other commands restart the pods that use them.
fn remember_images(root: &Path, given: Vec<Image>) -> Result<(), ClusterError> {
    let known = known_images(root)?;
    let mut images = known.clone();
    for image in given {
        images.retain(|known| known.name != image.name);
        images.push(image);
    }
    if images == known {
        return Ok(());
    }
    let path = root.join("images.json");
    let text = json!({"images": images}).to_string();
    store::write_atomic(&path, text.as_bytes()).map_err(|error| store::unreachable(&path, "write", &error))
}

fn known_images(root: &Path) -> Result<Vec<Image>, ClusterError> {
    let path = root.join("images.json");
    let Some(mut value) = store::read_json(&path)? else { return Ok(Vec::new()) };
    serde_json::from_value(value["images"].take())
        .map_err(|error| store::unreachable(&path, "read", &error.into()))
}

/// Finds the image that a pod names.
fn image_of(root: &Path, name: &str) -> Result<Option<Image>, ClusterError> {
    let plain = |name: &str| name.strip_suffix(":latest").unwrap_or(name).to_owned();
    Ok(known_images(root)?.into_iter().find(|image| plain(&image.name) == plain(name)))
}
