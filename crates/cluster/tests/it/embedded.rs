//! The embedded cluster: real files, real processes, no daemon.

mod objects;
mod pods;
mod sharing;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use towline_cluster::embedded::{Embedded, EmbeddedOptions, Image, open};
use towline_cluster::port::{
    DeleteOptions, Object, PODS, Patch, Resource, Selection, Watch, WatchEvent, WriteOptions,
};
use towline_cluster::{Cluster, ClusterError};

/// Far longer than anything here takes: only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A cluster in a folder of its own; its pods end with it.
struct World {
    folder: tempfile::TempDir,
    cluster: Arc<Embedded>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tool = folder.path().join("tool.sh");
        fs::write(&tool, "#!/bin/sh\necho tool from the image\n").unwrap();
        let agent = folder.path().join("agent.sh");
        let stand_in = "#!/bin/sh\necho agent \"$@\"\n[ \"$1\" = run ] && exec tail -f /dev/null\nexit 0\n";
        fs::write(&agent, stand_in).unwrap();
        for script in [&tool, &agent] {
            fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let page = folder.path().join("page");
        fs::write(&page, "production").unwrap();
        let image = Image {
            name: "shell".to_owned(),
            files: vec![("bin/tool".to_owned(), tool), ("app/page".to_owned(), page)],
            working_dir: "/app".to_owned(),
            command: vec!["tail".to_owned(), "-f".to_owned(), "/dev/null".to_owned()],
        };
        let cluster = open(Self::options(&folder, vec![image])).unwrap();
        Self { folder, cluster }
    }

    fn options(folder: &tempfile::TempDir, images: Vec<Image>) -> EmbeddedOptions {
        EmbeddedOptions {
            state_dir: folder.path().join("state"),
            agent: folder.path().join("agent.sh"),
            namespace: None,
            images,
            path_env: "/usr/bin:/bin".to_owned(),
        }
    }

    /// Opens the same folder as another command would: without the images.
    fn second(&self) -> Arc<Embedded> {
        open(Self::options(&self.folder, Vec::new())).unwrap()
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state/embedded")
    }

    async fn create(&self, resource: &'static Resource, body: Value) -> Result<Value, ClusterError> {
        self.cluster.create(resource, "default", &body, &WriteOptions::default()).await
    }

    async fn get(&self, resource: &'static Resource, name: &str) -> Result<Value, ClusterError> {
        self.cluster.get(&Object::new(resource, "default", name)).await
    }

    async fn merge(
        &self,
        resource: &'static Resource,
        name: &str,
        patch: Value,
    ) -> Result<Value, ClusterError> {
        let object = Object::new(resource, "default", name);
        self.cluster.patch(&object, &Patch::Merge(patch), &WriteOptions::default()).await
    }

    async fn delete(&self, resource: &'static Resource, name: &str) -> Result<(), ClusterError> {
        self.cluster.delete(&Object::new(resource, "default", name), &DeleteOptions::default()).await
    }

    async fn pods(&self) -> Vec<Value> {
        self.cluster.list(PODS, Some("default"), &Selection::default()).await.unwrap()
    }

    async fn watch(&self, resource: &'static Resource) -> Watch {
        self.cluster.watch(resource, "default", &Selection::default()).await.unwrap()
    }

    /// Waits until the objects of a kind are as wanted, by a watch alone. Returns them.
    async fn until(&self, resource: &'static Resource, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let mut watch = self.watch(resource).await;
        let mut known: Vec<Value> = Vec::new();
        let search = async {
            loop {
                match watch.next().await.unwrap() {
                    WatchEvent::Restarted(all) => known = all,
                    WatchEvent::Applied(one) => {
                        known.retain(|known| uid(known) != uid(&one));
                        known.push(one);
                    }
                    WatchEvent::Deleted(one) => known.retain(|known| uid(known) != uid(&one)),
                    WatchEvent::Interrupted(error) => panic!("{error}"),
                }
                if wanted(&known) {
                    return known.clone();
                }
            }
        };
        if let Ok(found) = tokio::time::timeout(PATIENCE, search).await {
            return found;
        }
        panic!("never as wanted: {:#?}", self.cluster.list(resource, None, &Selection::default()).await);
    }

    /// Waits until there is one pod and it is as wanted.
    async fn until_pod(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut pods = self.until(PODS, |pods| matches!(pods, [pod] if wanted(pod))).await;
        pods.remove(0)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Whatever a test leaves running has its home below the folder.
        let home = format!("HOME={}/", self.folder.path().display());
        for process in processes().into_iter().filter(|process| process.environment.contains(&home)) {
            let pid = rustix::process::Pid::from_raw(process.pid).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

struct Seen {
    pid: i32,
    environment: String,
}

fn processes() -> Vec<Seen> {
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| {
        let bytes = fs::read(format!("/proc/{pid}/environ")).ok()?;
        Some(Seen { pid, environment: String::from_utf8_lossy(&bytes).into_owned() })
    })
    .collect()
}

/// Returns the processes of a pod that still live.
fn processes_of(pod: &Value) -> Vec<i32> {
    let mark = format!("TOWLINE_CONTAINER={}/", &uid(pod)[..13]);
    processes()
        .into_iter()
        .filter(|process| process.environment.contains(&mark))
        .map(|process| process.pid)
        .collect()
}

fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap()
}

fn is_running(pod: &Value) -> bool {
    pod["status"]["containerStatuses"][0]["state"]["running"].is_object()
}

/// A Deployment with one container.
fn deployment(name: &str, replicas: u32, container: Value) -> Value {
    let mut container = container;
    container["name"] = json!("main");
    if container.get("image").is_none() {
        container["image"] = json!("shell");
    }
    json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
            },
        },
    })
}

/// A container that runs a line of shell.
fn shell(line: &str) -> Value {
    json!({"command": ["sh", "-c", line]})
}
