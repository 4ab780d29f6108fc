//! What a running session tells other commands of this machine, without a question to the cluster.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use towline_patcher::Record;

use crate::context::Context;
use crate::event::State;

/// One session of this machine, as its process last wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionState {
    /// The format; goes up when a field changes its meaning or disappears.
    pub version: u32,
    /// The process that holds the session.
    pub pid: u32,
    /// When that process started, in clock ticks since boot: a reused pid is another process.
    pub started: u64,
    /// The session's id.
    pub session: String,
    /// The namespace.
    pub namespace: String,
    /// The workload's name.
    pub workload: String,
    /// How far it is.
    pub state: State,
    /// The dev pod, once there is one.
    pub pod: Option<String>,
    /// Each folder's sync.
    pub folders: Vec<FolderState>,
    /// Each forward, either way: where it begins, and where it leads.
    pub forwards: Vec<(String, String)>,
}

/// One folder's sync.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FolderState {
    /// On this machine.
    pub local: String,
    /// In the container.
    pub remote: String,
    /// Whether both sides held the same when this was written.
    pub in_sync: bool,
    /// Files done in the current transfer.
    pub files: u64,
    /// Files in the current transfer.
    pub files_total: u64,
    /// Why it is stopped, if it is.
    pub halted: Option<String>,
    /// Paths that are not synced, and why.
    pub problems: Vec<(String, String)>,
    /// Conflicts so far: the path, and where the pod's bytes are kept.
    pub conflicts: Vec<(String, String)>,
}

/// Returns the folder of a session's files: `sessions/<cluster>/<namespace>/<lease>`, where the cluster is a hash of its
/// address: contexts of one name may lead to two clusters, and workloads of two kinds may have one name. What lies there
/// under another name is nobody's.
pub fn folder(context: &Context, record: &Record) -> PathBuf {
    let server = blake3::hash(context.cluster.target().server.as_bytes()).to_hex();
    let lease = towline_patcher::lease_name(&record.kind, &record.name);
    context.home.join("sessions").join(&server[..16]).join(&record.namespace).join(lease)
}

/// Writes the state whole, readable by this user only.
pub fn write(folder: &Path, state: &SessionState) -> io::Result<()> {
    use std::io::Write;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let new = folder.join("state.json.new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec_pretty(state)?)?;
    fs::rename(new, folder.join("state.json"))
}

/// Reads a session's state; `None` when there is none, or none that can be understood.
pub fn read(folder: &Path) -> Option<SessionState> {
    serde_json::from_slice(&fs::read(folder.join("state.json")).ok()?).ok()
}

/// Removes a session's state when it ends.
pub fn remove(folder: &Path) {
    let _ = fs::remove_file(folder.join("state.json"));
}

/// Returns the process of this machine that holds the record's session, if it still runs.
pub fn live_process(context: &Context, record: &Record) -> Option<SessionState> {
    let state = read(&folder(context, record))?;
    (state.session == record.session && state.pid != std::process::id() && is_running(&state))
        .then_some(state)
}

/// Tells whether the process that wrote the state still runs, and is no other with its number.
pub fn is_running(state: &SessionState) -> bool {
    start_of(state.pid).is_some_and(|started| started == state.started)
}

/// Returns when a process started, in clock ticks since boot (`proc_pid_stat(5)`, field 22).
pub fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields after the last one are numbers.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_one_session_of_one_cluster() {
        let temp = tempfile::tempdir().unwrap();
        let place = |machine: &str, kind: &str, name: &str| {
            let options = towline_cluster::embedded::EmbeddedOptions {
                state_dir: temp.path().join(machine),
                agent: temp.path().join("no-agent"),
                namespace: None,
                images: Vec::new(),
                path_env: String::new(),
            };
            let context = Context {
                cluster: towline_cluster::embedded::open(options).unwrap(),
                namespace: "default".to_owned(),
                home: temp.path().to_owned(),
                holder: "ann@laptop".to_owned(),
            };
            folder(&context, &record(kind, name))
        };
        let all = [
            ("a", "Deployment", "web"),
            ("a", "StatefulSet", "web"),
            ("a", "Deployment", "api"),
            ("b", "Deployment", "web"),
        ];
        let places: std::collections::BTreeSet<_> =
            all.map(|(machine, kind, name)| place(machine, kind, name)).into();
        assert_eq!(places.len(), all.len(), "{places:?}");
    }

    #[test]
    fn a_session_is_meant_by_its_workload_and_by_its_dev_service() {
        let check = |kind: &str, name: &str, expected: bool| {
            assert_eq!(crate::down::is_meant(&record(kind, "web"), name), expected, "{kind} {name}");
        };
        check("Deployment", "web", true);
        check("Deployment", "dev", true);
        check("Deployment", "api", false);
        check("Deployment", "deploy/web", true);
        check("Deployment", "statefulset/web", false);
        check("StatefulSet", "sts/web", true);
        check("StatefulSet", "statefulset/api", false);
        assert_eq!(crate::down::full_name(&record("StatefulSet", "web")), "statefulset/web");
    }

    fn record(kind: &str, name: &str) -> Record {
        let pod = serde_json::json!({"spec": {"containers": [{"name": "main"}]}});
        let original = serde_json::json!({
            "apiVersion": "apps/v1", "kind": kind,
            "metadata": {"name": name, "namespace": "default", "uid": "1", "resourceVersion": "1"},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": pod},
        });
        let plan = towline_patcher::DevPlan {
            session: "abcdefghij".to_owned(),
            dev_name: "dev".to_owned(),
            ..towline_patcher::DevPlan::default()
        };
        let clone = towline_patcher::clone_of(&original, &plan).unwrap();
        Record::new(&original, &plan, &clone, "test").unwrap()
    }

    #[test]
    fn a_process_is_known_by_its_number_and_its_start() {
        let own = start_of(std::process::id()).unwrap();
        let mut state = SessionState {
            version: 1,
            pid: std::process::id(),
            started: own,
            session: "s".into(),
            namespace: "n".into(),
            workload: "w".into(),
            state: State::Ready,
            pod: None,
            folders: Vec::new(),
            forwards: vec![("localhost:8080".into(), "container:80".into())],
        };
        assert!(is_running(&state));
        state.started += 1;
        assert!(!is_running(&state), "a reused number is another process");

        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("x/y");
        write(&folder, &state).unwrap();
        assert_eq!(read(&folder), Some(state));
        remove(&folder);
        assert_eq!(read(&folder), None);
    }
}
