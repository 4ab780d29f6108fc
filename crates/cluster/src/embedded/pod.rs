//! Does what the scheduler and the kubelet do: places pods, runs their containers, restarts and ends them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::controllers::Pending;
use super::event::{self, Kind};
use super::launch::{LaunchError, Place};
use super::process::{self, Life, Process, Program, Running};
use super::sandbox::{self, MountError, Sandbox};
use super::store::{self, Store};
use super::{Machine, NODE, api, image_of, meta, status};
use crate::error::ClusterError;
use crate::port::{NODES, PERSISTENT_VOLUME_CLAIMS, PODS};

/// The pause before the second restart; each further one is twice as long. The kubelet begins with ten seconds.
const FIRST_BACK_OFF_MILLISECONDS: i64 = 1_000;
const MAX_BACK_OFF_MILLISECONDS: i64 = 30_000;
/// A run that lasted so long makes good for all failures before, as for the kubelet.
const GOOD_RUN_MILLISECONDS: i64 = 600_000;

/// What is known of a pod's processes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct PodRecord {
    mounted: bool,
    terminated: bool,
    /// What is told of a pod that can't start for now.
    obstacle: Option<String>,
    containers: BTreeMap<String, ContainerRecord>,
}

/// What is known of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ContainerRecord {
    /// How often it was started anew.
    pub(super) attempt: u32,
    /// Runs that ended soon, in a row.
    failures: u32,
    /// Whether its image's files are there.
    unpacked: bool,
    pub(super) phase: Phase,
    /// How the run before ended.
    pub(super) last: Option<Ended>,
}

/// How far a container has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Nothing happened yet.
    #[default]
    New,
    /// It can't start for now.
    Waiting { reason: String, message: String, since: i64 },
    /// It is being started; found at the beginning of a call, that call's predecessor was killed.
    Starting,
    /// It runs.
    Running { running: Running, since: String },
    /// It ended, and may be started anew from a time on.
    Ended { ended: Ended, again: Option<i64> },
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) started: String,
    pub(super) finished: String,
}

impl ContainerRecord {
    /// Returns the process that runs in it.
    pub(super) fn process(&self, report: &Path) -> Option<Process> {
        let Phase::Running { running, .. } = &self.phase else { return None };
        match running.life(report) {
            Life::Alive(process) => Some(process),
            Life::Ended(_) => None,
        }
    }

    /// Tells whether it ended well, for good.
    pub(super) fn completed(&self) -> bool {
        matches!(&self.phase, Phase::Ended { ended, again: None } if ended.code == 0)
    }
}

/// Reads what is known of one container.
pub(super) fn record_of(sandbox: &Sandbox, container: &str) -> Result<ContainerRecord, ClusterError> {
    Ok(read_record(sandbox)?.containers.remove(container).unwrap_or_default())
}

/// Brings all pods one step on.
pub(super) fn sync_all(store: &mut Store, machine: &Machine) -> Result<Pending, ClusterError> {
    let mut pending = Pending::default();
    bind_claims(store)?;
    let pods = store.list(PODS, None)?;
    let mut folders = BTreeSet::new();
    for pod in pods {
        folders.insert(Sandbox::of(store.root(), &pod).id().to_owned());
        let sandbox = Sandbox::of(store.root(), &pod);
        let record = read_record(&sandbox)?;
        let mut worker = Worker { store, machine, sandbox, record, pod, pending: &mut pending };
        worker.sync()?;
    }
    // A pod's object goes first, so that what a crash leaves is a folder without one.
    for name in store::names_in(&sandbox::folder_of_all(store.root()))? {
        if sandbox::is_id(&name) && !folders.contains(&name) && process::kill_marked(&format!("{name}/")) {
            // Best effort: the next call finds it again.
            let _ = fs::remove_dir_all(sandbox::folder_of_all(store.root()).join(name));
        }
    }
    Ok(pending)
}

/// Claims are folders here, and there at once.
fn bind_claims(store: &mut Store) -> Result<(), ClusterError> {
    for claim in store.list(PERSISTENT_VOLUME_CLAIMS, None)? {
        let status = json!({"phase": "Bound"});
        api::set_status(store, PERSISTENT_VOLUME_CLAIMS, &claim, status, "kube-controller-manager")?;
    }
    Ok(())
}

fn read_record(sandbox: &Sandbox) -> Result<PodRecord, ClusterError> {
    let path = sandbox.record();
    let Some(value) = store::read_json(&path)? else { return Ok(PodRecord::default()) };
    serde_json::from_value(value).map_err(|error| store::unreachable(&path, "read", &error.into()))
}

/// One pod while it is worked on.
struct Worker<'a> {
    store: &'a mut Store,
    machine: &'a Machine,
    sandbox: Sandbox,
    record: PodRecord,
    pod: Value,
    pending: &'a mut Pending,
}

impl Worker<'_> {
    fn sync(&mut self) -> Result<(), ClusterError> {
        if meta::is_deleting(&self.pod) {
            return self.end();
        }
        if matches!(meta::text(&self.pod, "/status/phase"), "Succeeded" | "Failed") {
            return Ok(());
        }
        if self.schedule()? && self.mount()? && self.sync_init_containers()? {
            for container in meta::items(&self.pod, "/spec/containers").to_vec() {
                self.sync_container(
                    &container,
                    meta::text(&self.pod, "/spec/restartPolicy").to_owned().as_str(),
                )?;
            }
        }
        let status = status::of_pod(
            &self.pod,
            self.sandbox.id(),
            self.record.obstacle.as_deref(),
            &self.record.containers,
        );
        self.pod = api::set_status(self.store, PODS, &self.pod, status, "kubelet")?;
        Ok(())
    }

    /// Puts the pod on the node; tells whether it is there.
    fn schedule(&mut self) -> Result<bool, ClusterError> {
        if !meta::text(&self.pod, "/spec/nodeName").is_empty() {
            return Ok(true);
        }
        let node = self.store.get(NODES, "", NODE)?.unwrap_or_default();
        let fits = meta::has_labels(&node, meta::strings(&self.pod, "/spec/nodeSelector"));
        let mut missing_claim = None;
        for volume in meta::items(&self.pod, "/spec/volumes") {
            let claim = meta::text(volume, "/persistentVolumeClaim/claimName");
            if !claim.is_empty()
                && self.store.get(PERSISTENT_VOLUME_CLAIMS, meta::namespace(&self.pod), claim)?.is_none()
            {
                missing_claim = Some(format!("persistentvolumeclaim \"{claim}\" not found"));
            }
        }
        let why = if fits {
            missing_claim
        } else {
            Some("1 node(s) didn't match Pod's node affinity/selector".to_owned())
        };
        if let Some(why) = why {
            self.obstruct(
                "default-scheduler",
                "FailedScheduling",
                &format!("0/1 nodes are available: {why}."),
            )?;
            return Ok(false);
        }
        self.pod["spec"]["nodeName"] = json!(NODE);
        self.store.put(PODS, &mut self.pod)?;
        let name = format!("{}/{}", meta::namespace(&self.pod), meta::name(&self.pod));
        let message = format!("Successfully assigned {name} to {NODE}");
        event::emit(self.store, &self.pod, "default-scheduler", Kind::Normal, "Scheduled", &message)?;
        Ok(true)
    }

    /// Sets up the pod's folders; tells whether they are there.
    fn mount(&mut self) -> Result<bool, ClusterError> {
        if !self.record.mounted {
            match self.sandbox.mount_all(self.store, &self.pod) {
                Ok(()) => {}
                Err(MountError::Cluster(error)) => return Err(error),
                Err(MountError::Refused(message)) => {
                    self.obstruct("kubelet", "FailedMount", &message)?;
                    return Ok(false);
                }
            }
            self.record.mounted = true;
            self.record.obstacle = None;
            self.save()?;
        }
        Ok(true)
    }

    /// Says once why the pod can't start for now.
    fn obstruct(&mut self, component: &str, reason: &str, message: &str) -> Result<(), ClusterError> {
        if self.record.obstacle.as_deref() != Some(message) {
            self.record.obstacle = Some(message.to_owned());
            self.save()?;
            event::emit(self.store, &self.pod, component, Kind::Warning, reason, message)?;
        }
        Ok(())
    }

    /// Runs the init containers one after the other; tells whether all are done.
    fn sync_init_containers(&mut self) -> Result<bool, ClusterError> {
        let policy = if self.pod["spec"]["restartPolicy"] == "Never" { "Never" } else { "OnFailure" };
        for container in meta::items(&self.pod, "/spec/initContainers").to_vec() {
            let goes_on = container["restartPolicy"] == "Always";
            self.sync_container(&container, if goes_on { "Always" } else { policy })?;
            let record = self.record.containers.get(meta::text(&container, "/name"));
            let started = |record: &ContainerRecord| matches!(record.phase, Phase::Running { .. });
            if !record.is_some_and(|record| record.completed() || (goes_on && started(record))) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Brings one container as far as it gets now.
    fn sync_container(&mut self, container: &Value, policy: &str) -> Result<(), ClusterError> {
        let name = meta::text(container, "/name").to_owned();
        loop {
            let record = self.record.containers.entry(name.clone()).or_default();
            match record.phase.clone() {
                Phase::New | Phase::Waiting { .. } => {
                    if !self.start(container, &name, policy)? {
                        return Ok(());
                    }
                }
                Phase::Starting => {
                    process::kill_marked(&self.mark(&name));
                    self.enter(&name, Phase::New)?;
                }
                Phase::Running { running, since } => {
                    let report = self.sandbox.report(&name, record.attempt);
                    match running.life(&report) {
                        Life::Alive(process) => {
                            self.pending.processes.push(process);
                            return Ok(());
                        }
                        Life::Ended(code) => {
                            // Nothing of a container outlives its first process.
                            process::kill_marked(&self.mark(&name));
                            let reason = if code == 0 { "Completed" } else { "Error" };
                            self.finish(&name, policy, code, reason, "", &since)?;
                        }
                    }
                }
                Phase::Ended { again: None, .. } => return Ok(()),
                Phase::Ended { ended, again: Some(again) } => {
                    if meta::now_milliseconds() < again {
                        self.pending.at(again);
                        return Ok(());
                    }
                    record.attempt = record.attempt.saturating_add(1);
                    record.last = Some(ended);
                    self.enter(&name, Phase::New)?;
                }
            }
        }
    }

    /// Starts a container; tells whether its phase is another now, to be looked at again.
    fn start(&mut self, container: &Value, name: &str, policy: &str) -> Result<bool, ClusterError> {
        let image_name = meta::text(container, "/image");
        let Some(image) = image_of(self.store.root(), image_name)? else {
            self.wait_for_image(name, image_name)?;
            return Ok(false);
        };
        let record = self.record.containers.entry(name.to_owned()).or_default();
        let attempt = record.attempt;
        if !record.unpacked {
            if let Err(error) = self.sandbox.unpack(&image, &self.pod, container) {
                let message = format!("failed to unpack image \"{image_name}\": {error}");
                self.wait(name, "CreateContainerError", &message)?;
                return Ok(false);
            }
            self.record.containers.entry(name.to_owned()).or_default().unpacked = true;
            let message = format!("Container image \"{image_name}\" already present on machine");
            event::emit(self.store, &self.pod, "kubelet", Kind::Normal, "Pulled", &message)?;
        }
        let (store, machine) = (&*self.store, self.machine);
        let place = Place { machine, store, pod: &self.pod, container, image: &image };
        let launch = match place.own_process() {
            Ok(launch) => launch,
            Err(LaunchError::Cluster(error)) => return Err(error),
            Err(LaunchError::Configuration(message)) => {
                self.wait(name, "CreateContainerConfigError", &message)?;
                return Ok(false);
            }
            Err(LaunchError::Start(message)) => {
                self.fail_start(name, policy, &message)?;
                return Ok(true);
            }
        };
        self.enter(name, Phase::Starting)?;
        let program = Program {
            path: &launch.path,
            arguments: &launch.arguments,
            environment: &launch.environment,
            workdir: &launch.workdir,
            report: &self.sandbox.report(name, attempt),
            log: &self.sandbox.log(name, attempt),
        };
        match process::start(&program) {
            Ok(running) => {
                self.enter(name, Phase::Running { running, since: meta::now() })?;
                let message = format!("Started container {name}");
                event::emit(self.store, &self.pod, "kubelet", Kind::Normal, "Started", &message)?;
            }
            Err(error) => {
                self.fail_start(name, policy, &format!("exec: \"{}\": {error}", launch.path.display()))?;
            }
        }
        Ok(true)
    }

    fn fail_start(&mut self, name: &str, policy: &str, message: &str) -> Result<(), ClusterError> {
        let told = format!("Error: failed to start container \"{name}\": {message}");
        event::emit(self.store, &self.pod, "kubelet", Kind::Warning, "Failed", &told)?;
        // What can't start now won't in a moment: there is no first restart without a pause.
        let record = self.record.containers.entry(name.to_owned()).or_default();
        record.failures = record.failures.max(1);
        let message = format!("failed to create containerd task: {message}");
        self.finish(name, policy, 128, "StartError", &message, &meta::now())
    }

    /// Notes that a run ended, and when the next begins.
    fn finish(
        &mut self,
        name: &str,
        policy: &str,
        code: i32,
        reason: &str,
        message: &str,
        started: &str,
    ) -> Result<(), ClusterError> {
        let now = meta::now_milliseconds();
        let record = self.record.containers.entry(name.to_owned()).or_default();
        if meta::parse_time(started).is_some_and(|started| now - started >= GOOD_RUN_MILLISECONDS) {
            record.failures = 0;
        }
        let pause = back_off(record.failures);
        record.failures = record.failures.saturating_add(1);
        let again = match policy {
            "Never" => None,
            "OnFailure" if code == 0 => None,
            _ => Some(now.saturating_add(pause)),
        };
        let ended = Ended {
            code,
            reason: reason.to_owned(),
            message: message.to_owned(),
            started: started.to_owned(),
            finished: meta::now(),
        };
        self.enter(name, Phase::Ended { ended, again })?;
        if again.is_some() && pause > 0 {
            let message = format!(
                "Back-off restarting failed container {name} in pod {}",
                status::full_name(&self.pod)
            );
            event::emit(self.store, &self.pod, "kubelet", Kind::Warning, "BackOff", &message)?;
        }
        Ok(())
    }

    fn wait_for_image(&mut self, name: &str, image: &str) -> Result<(), ClusterError> {
        let now = meta::now_milliseconds();
        let told = match self.record.containers.get(name).map(|record| &record.phase) {
            Some(Phase::Waiting { reason, since, .. }) => Some((reason.clone(), *since)),
            _ => None,
        };
        match told {
            Some((reason, since)) if reason == "ErrImagePull" => {
                if now - since < FIRST_BACK_OFF_MILLISECONDS {
                    self.pending.at(since + FIRST_BACK_OFF_MILLISECONDS);
                    return Ok(());
                }
                let message = format!("Back-off pulling image \"{image}\"");
                event::emit(self.store, &self.pod, "kubelet", Kind::Normal, "BackOff", &message)?;
                self.wait(name, "ImagePullBackOff", &message)
            }
            Some((reason, _)) if reason == "ImagePullBackOff" => Ok(()),
            _ => {
                let pulling = format!("Pulling image \"{image}\"");
                event::emit(self.store, &self.pod, "kubelet", Kind::Normal, "Pulling", &pulling)?;
                let cause = format!(
                    "failed to resolve reference \"{image}\": not found among the images of the embedded cluster"
                );
                let failed = format!("Failed to pull image \"{image}\": {cause}");
                event::emit(self.store, &self.pod, "kubelet", Kind::Warning, "Failed", &failed)?;
                self.pending.at(now + FIRST_BACK_OFF_MILLISECONDS);
                self.wait(name, "ErrImagePull", &cause)
            }
        }
    }

    /// Notes what a container waits for, and tells it once.
    fn wait(&mut self, name: &str, reason: &str, message: &str) -> Result<(), ClusterError> {
        let record = self.record.containers.entry(name.to_owned()).or_default();
        let known = matches!(&record.phase, Phase::Waiting { reason: r, message: m, .. } if r == reason && m == message);
        if known {
            return Ok(());
        }
        let waiting = Phase::Waiting {
            reason: reason.to_owned(),
            message: message.to_owned(),
            since: meta::now_milliseconds(),
        };
        self.enter(name, waiting)?;
        let pulls = matches!(reason, "ErrImagePull" | "ImagePullBackOff");
        let told = format!("Error: {}", if pulls { reason } else { message });
        event::emit(self.store, &self.pod, "kubelet", Kind::Warning, "Failed", &told)
    }

    /// Ends a pod that is being deleted: asks, waits as long as it may take, kills, cleans up.
    fn end(&mut self) -> Result<(), ClusterError> {
        let deadline =
            meta::parse_time(meta::text(&self.pod, "/metadata/deletionTimestamp")).unwrap_or_default();
        let containers: Vec<(String, ContainerRecord)> =
            self.record.containers.iter().map(|(name, record)| (name.clone(), record.clone())).collect();
        let mut alive = Vec::new();
        for (name, record) in &containers {
            if let Phase::Running { running, .. } = &record.phase
                && let Some(process) = record.process(&self.sandbox.report(name, record.attempt))
            {
                alive.push(process);
                if !self.record.terminated {
                    running.terminate();
                    let message = format!("Stopping container {name}");
                    event::emit(self.store, &self.pod, "kubelet", Kind::Normal, "Killing", &message)?;
                }
            }
        }
        if !self.record.terminated && self.sandbox.folder().exists() {
            self.record.terminated = true;
            self.save()?;
        }
        let now = meta::now_milliseconds();
        if !alive.is_empty() && now < deadline {
            self.pending.processes.extend(alive);
            self.pending.at(deadline);
            return Ok(());
        }
        if !process::kill_marked(&format!("{}/", self.sandbox.id())) {
            self.pending.at(now + 1_000);
            return Ok(());
        }
        if meta::items(&self.pod, "/metadata/finalizers").is_empty() {
            self.store.remove(PODS, meta::namespace(&self.pod), meta::name(&self.pod))?;
        }
        // Best effort: a folder without a pod is found again.
        let _ = fs::remove_dir_all(self.sandbox.folder());
        Ok(())
    }

    fn enter(&mut self, name: &str, phase: Phase) -> Result<(), ClusterError> {
        self.record.containers.entry(name.to_owned()).or_default().phase = phase;
        self.save()
    }

    fn save(&self) -> Result<(), ClusterError> {
        let path = self.sandbox.record();
        let write = || -> io::Result<()> {
            store::create_private_folder(self.sandbox.folder())?;
            store::write_atomic(&path, &serde_json::to_vec(&self.record)?)
        };
        write().map_err(|error| store::unreachable(&path, "write", &error))
    }

    fn mark(&self, container: &str) -> String {
        format!("{}/{container}", self.sandbox.id())
    }
}

/// Returns the pause after this many failures: none after the first.
fn back_off(failures: u32) -> i64 {
    let Some(doublings) = failures.checked_sub(1) else { return 0 };
    let factor = 1_i64.checked_shl(doublings.min(20)).unwrap_or(i64::MAX);
    FIRST_BACK_OFF_MILLISECONDS.saturating_mul(factor).min(MAX_BACK_OFF_MILLISECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        for (failures, expected) in
            [(0, 0), (1, 1_000), (2, 2_000), (5, 16_000), (6, 30_000), (u32::MAX, 30_000)]
        {
            assert_eq!(back_off(failures), expected, "{failures}");
        }
    }
}
