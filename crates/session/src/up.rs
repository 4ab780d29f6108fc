//! `up`: from a plan to a running session. Record first, then objects; whatever fails before the session is ready is
//! undone before it is reported.

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use towline_cluster::ClusterError;
use towline_cluster::port::{CONFIG_MAPS, DEPLOYMENTS, DeleteOptions, Object, WriteOptions};
use towline_patcher::{DevClone, MANAGED_BY, MANAGED_BY_LABEL, Record, SESSION_LABEL};
use towline_protocol::{ProcessInput, ProcessOutput, TerminalSize};
use towline_sync::{Pair, PairOptions};
use towline_sync_core::engine::EngineConfig;
use towline_sync_core::message::Open;
use towline_sync_core::path::RelPath;

use crate::autocreate;
use crate::context::{AgentSource, Context};
use crate::controllers::pause;
use crate::down;
use crate::error::SessionError;
use crate::event::{Ending, Event, State};
use crate::forward;
use crate::in_place::{self, Entered, Wish};
use crate::journal::{Journal, Written};
use crate::live::{Command, Live, Outlets};
use crate::original::{self, Parked};
use crate::output::{self, Untaken};
use crate::plan::{UpPlan, no_drift};
use crate::pod::text;
use crate::request::{Folder, Forward};
use crate::storage;

/// A running session. Dropping it leaves: the loop ends, dev mode stays on in the cluster.
#[derive(Debug)]
pub struct Session {
    event_rx: mpsc::Receiver<Event>,
    output: Option<Untaken>,
    command_tx: mpsc::Sender<Command>,
    input_tx: mpsc::Sender<ProcessInput>,
    task: JoinHandle<Result<Ending, SessionError>>,
}

/// The user's side of the command: keys, sizes and signals.
#[derive(Debug, Clone)]
pub struct ProcessHandle {
    input_tx: mpsc::Sender<ProcessInput>,
}

impl ProcessHandle {
    /// Sends input to the command, waiting while the command does not read; `false` once the session is over.
    pub async fn send(&self, input: ProcessInput) -> bool {
        self.input_tx.send(input).await.is_ok()
    }

    /// Sends input to the command if it can take it now; `false` where it can't, or the session is over.
    pub fn try_send(&self, input: ProcessInput) -> bool {
        self.input_tx.try_send(input).is_ok()
    }
}

impl Session {
    /// Returns the next event, or `None` after the last.
    pub async fn next_event(&mut self) -> Option<Event> {
        self.event_rx.recv().await
    }

    /// Returns the command's output, once. What is not read in time waits in the pod's scrollback, and the session
    /// waits with it for the command's end: read it, or drop it. Of an output that nobody takes the beginning is kept,
    /// and the rest dropped; taken late, it says how much is missing.
    pub fn take_output(&mut self) -> Option<mpsc::Receiver<ProcessOutput>> {
        self.output.take().map(Untaken::take)
    }

    /// Returns a handle for the command's input.
    pub fn process(&self) -> ProcessHandle {
        ProcessHandle { input_tx: self.input_tx.clone() }
    }

    /// Says that the deletions for which sync of a folder stopped are wanted.
    pub async fn approve_deletions(&self, folder: usize) {
        let _ = self.command_tx.send(Command::ApproveDeletions(folder)).await;
    }

    /// Asks the session to end, dev mode staying on. Events go on until `None`.
    pub async fn leave(&self) {
        let _ = self.command_tx.send(Command::Leave).await;
    }

    /// Waits for the end, after the last event.
    pub async fn ended(self) -> Result<Ending, SessionError> {
        drop((self.event_rx, self.output, self.command_tx, self.input_tx));
        self.task.await.unwrap_or_else(|error| Err(SessionError::Failed { message: error.to_string() }))
    }
}

/// Begins the session of a plan.
///
/// Ports and folders of this machine are taken before the first write. `size` is the user's terminal, if there is
/// one: the command then runs on a pty.
pub async fn up(
    context: &Context,
    plan: UpPlan,
    size: Option<TerminalSize>,
) -> Result<Session, SessionError> {
    Ok(Prepared::new(context, plan).await?.hold().await?.begin(size))
}

/// A plan for which everything of this machine is taken. Nothing has been written yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    context: Context,
    plan: UpPlan,
    ports: Vec<(Forward, TcpListener)>,
    folders: Vec<Pair>,
}

impl Prepared {
    pub(crate) async fn new(context: &Context, plan: UpPlan) -> Result<Self, SessionError> {
        if !plan.obstacles.is_empty() {
            return Err(SessionError::Obstacles { obstacles: plan.obstacles });
        }
        let ports = forward::bind(&plan.request.forwards).await?;
        let folders = plan
            .request
            .folders
            .iter()
            .map(|folder| {
                let remote = Open {
                    root: folder.remote.clone(),
                    ignore: folder.ignore.clone(),
                    excluded: mounts_below(
                        &plan.clone,
                        crate::plan::template_of(&plan.record),
                        &plan.record.container,
                        &folder.remote,
                    ),
                    create: true,
                    watch: true,
                };
                Ok(Pair::open(PairOptions {
                    local: folder.local.clone(),
                    ignore: folder.ignore.clone(),
                    remote,
                    state: sync_folder(context, &plan.record, folder),
                    engine: EngineConfig::default(),
                    protect: true,
                })?
                .rescan_every(folder.rescan))
            })
            .collect::<Result<Vec<_>, SessionError>>()?;
        Ok(Self { context: context.clone(), plan, ports, folders })
    }

    /// Takes the Lease.
    pub(crate) async fn hold(self) -> Result<Holding, SessionError> {
        let journal = match &self.plan.resumed {
            Some((lease, _)) => Journal::take_over(&self.context, lease).await?,
            None => Journal::create(&self.context, self.plan.record.clone()).await?,
        };
        Ok(Holding { prepared: self, journal })
    }
}

/// A plan whose Lease is held. Nothing else has been written yet.
#[derive(Debug)]
pub(crate) struct Holding {
    prepared: Prepared,
    journal: Journal,
}

impl Holding {
    /// Goes back to what was before the Lease was taken; a session that went on before stays as it was. `why` goes into
    /// the error when that fails.
    pub(crate) async fn let_go(self, why: &str) -> Result<(), SessionError> {
        if self.prepared.plan.resumed.is_some() {
            return Ok(());
        }
        let (event_tx, _) = mpsc::channel(1);
        undo(&self.prepared.context, self.journal, &event_tx, why).await
    }

    /// Begins the session. `size` is the terminal of its command.
    pub(crate) fn begin(self, size: Option<TerminalSize>) -> Session {
        let Self { prepared: Prepared { context, plan, ports, folders }, mut journal } = self;
        let (event_tx, event_rx) = mpsc::channel(256);
        let (outlet, untaken) = output::channel();
        let (command_tx, command_rx) = mpsc::channel(16);
        let (input_tx, input_rx) = mpsc::channel(64);
        let fresh = plan.resumed.is_none();
        let task = tokio::spawn(async move {
            let _ = event_tx.send(Event::State { state: State::Activating }).await;
            if let Some((_, held)) = &plan.resumed
                && held.record.parked
                && crate::journal::is_alive(held)
            {
                original::fence(&context, &held.record).await?;
            }
            if let Err(error) = begin(&context, &plan, &mut journal, &event_tx).await {
                if fresh {
                    undo(&context, journal, &event_tx, &error.to_string()).await?;
                }
                return Err(error);
            }
            let config_map = agent_object(&plan.request.agent, &journal.record);
            let live =
                Live { context: context.clone(), request: plan.request, journal, config_map, size, fresh };
            let outlets = Outlets { command_rx, input_rx, event_tx: event_tx.clone(), outlet };
            let (ending, to_undo) = live.run(folders, ports, outlets).await;
            if let (Ending::Failed { message, .. } | Ending::Undone { message }, Some(journal)) =
                (&ending, to_undo)
            {
                undo(&context, journal, &event_tx, message).await?;
            }
            Ok(ending)
        });
        Session { event_rx, output: Some(untaken), command_tx, input_tx, task }
    }
}

/// Writes the objects, the record being there already.
pub(crate) async fn begin(
    context: &Context,
    plan: &UpPlan,
    journal: &mut Journal,
    event_tx: &mpsc::Sender<Event>,
) -> Result<(), SessionError> {
    announce_storage(context, plan, journal).await?;
    let mut paused = Vec::new();
    let pausing = pause::set(context, journal, &plan.truce.pauses, &mut |event| paused.push(event)).await;
    for event in paused {
        let _ = event_tx.send(event).await;
    }
    pausing?;
    let config_map = agent_object(&plan.request.agent, &plan.record);
    if plan.request.plan.agent.image.is_none() {
        ensure_agent(context, &config_map).await?;
        let object = format!("ConfigMap {}", text(&config_map, "/metadata/name"));
        let _ = event_tx.send(Event::Object { action: "created", object }).await;
    }
    if let Some(claim) = &plan.claim
        && storage::ensure_claim(context, claim).await?
    {
        let object = format!("PersistentVolumeClaim {}", text(claim, "/metadata/name"));
        let _ = event_tx.send(Event::Object { action: "created", object }).await;
    }
    if plan.resumed.is_none() || !journal.record.is_of(&plan.clone) {
        storage::ensure_secret(context, journal, &plan.request.secrets, plan.resumed.is_some()).await?;
    }
    if autocreate::ensure_service(context, journal).await? {
        let object = format!("Service {}", journal.record.service.as_deref().unwrap_or_default());
        let _ = event_tx.send(Event::Object { action: "created", object }).await;
    }
    let gone = || SessionError::Failed { message: "the original was deleted meanwhile".to_owned() };
    let object = format!("{} {}", plan.record.kind, plan.record.name);
    if journal.record.in_place.is_some() {
        return match in_place::enter(context, journal, &plan.request.plan, &Wish::Anew).await? {
            Entered::Done(_) => {
                let _ = event_tx.send(Event::Object { action: "changed", object }).await;
                Ok(())
            }
            Entered::Lost(message) => Err(SessionError::Failed { message }),
            Entered::Gone => Err(gone()),
            Entered::NoWayBack(fields) => Err(in_place::no_way_back(&object, &fields)),
        };
    }
    if plan.record.down_first.is_some() {
        match original::park(context, journal).await? {
            Parked::Done => {}
            Parked::Lost(message) => return Err(SessionError::Failed { message }),
            Parked::Gone => return Err(gone()),
        }
        let _ = event_tx.send(Event::Object { action: "scaled", object }).await;
        original::wait_until_gone(context, &plan.original, &plan.record.session).await?;
    }
    let created = ensure_clone(context, journal, &plan.clone, &plan.record).await?;
    if created {
        let object = format!("Deployment {}", plan.record.clone);
        let _ = event_tx.send(Event::Object { action: "created", object }).await;
    }
    Ok(())
}

/// Writes into the record of a session that goes on what it is about to make beside what it had.
async fn announce_storage(
    context: &Context,
    plan: &UpPlan,
    journal: &mut Journal,
) -> Result<(), SessionError> {
    let (claim, secret) = (plan.record.claim.clone(), plan.record.secret.clone());
    let record = &mut journal.record;
    if (claim.is_none() || record.claim == claim) && (secret.is_none() || record.secret == secret) {
        return Ok(());
    }
    record.claim = claim.or(record.claim.take());
    record.secret = secret.or(record.secret.take());
    match journal.write(context).await? {
        Written::Ours => Ok(()),
        Written::Lost(message) => Err(SessionError::Failed { message }),
    }
}

/// Undoes a session that never was ready, or that is not to go on. `why` goes into the error when not all could be
/// undone.
pub(crate) async fn undo(
    context: &Context,
    mut journal: Journal,
    event_tx: &mpsc::Sender<Event>,
    why: &str,
) -> Result<(), SessionError> {
    let mut events = Vec::new();
    let mut tell = |event| events.push(event);
    let undone = async {
        if journal.record.claim_is_new {
            storage::remove_claim(context, &journal.record.name, &mut tell).await?;
        }
        down::revert(context, &mut journal, &mut tell).await
    }
    .await;
    for event in events {
        let _ = event_tx.send(event).await;
    }
    match undone {
        Ok(_) => Ok(()),
        Err(error) => {
            let name = &journal.record.name;
            let message = format!("{why}; and it could not all be undone ({error}): run towline down {name}");
            Err(SessionError::Failed { message })
        }
    }
}

/// Sees to it that the clone stands as planned. Tells whether it was created now.
pub(crate) async fn ensure_clone(
    context: &Context,
    journal: &mut Journal,
    clone: &DevClone,
    wanted: &Record,
) -> Result<bool, SessionError> {
    let object = Object::new(DEPLOYMENTS, &context.namespace, &wanted.clone);
    match context.cluster.get(&object).await {
        Ok(found) if !journal.record.made(&found) => {
            return Err(SessionError::Failed { message: format!("{object} is there and not ours") });
        }
        Ok(_) if journal.record.is_of(clone) => return Ok(false),
        Ok(found) => {
            let options =
                DeleteOptions { uid: Some(text(&found, "/metadata/uid")), ..DeleteOptions::default() };
            match context.cluster.delete(&object, &options).await {
                Ok(()) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
            let of_session =
                json!({"spec": {"selector": {"matchLabels": {SESSION_LABEL: journal.record.session}}}});
            original::wait_until_gone(context, &of_session, "").await?;
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    journal.record.clone_spec_hash.clone_from(&wanted.clone_spec_hash);
    journal.record.config_map.clone_from(&wanted.config_map);
    journal.record.container.clone_from(&wanted.container);
    if let Written::Lost(message) = journal.write(context).await? {
        return Err(SessionError::Failed { message });
    }
    let options = WriteOptions::default();
    let stored = match context.cluster.create(DEPLOYMENTS, &context.namespace, &clone.object, &options).await
    {
        Ok(stored) => stored,
        Err(ClusterError::AlreadyExists { .. } | ClusterError::Ambiguous { .. }) => {
            let stored = context.cluster.get(&object).await?;
            if !journal.record.made(&stored) {
                return Err(SessionError::Failed { message: format!("{object} is there and not ours") });
            }
            stored
        }
        Err(error) => return Err(error.into()),
    };
    no_drift(&format!("Deployment {}", wanted.clone), &clone.object, &stored)?;
    Ok(true)
}

/// Sees to it that the agent's ConfigMap is there, and is what its name says.
pub(crate) async fn ensure_agent(context: &Context, config_map: &Value) -> Result<(), SessionError> {
    let object = Object::new(CONFIG_MAPS, &context.namespace, text(config_map, "/metadata/name"));
    let found = match context.cluster.get(&object).await {
        Ok(found) => found,
        Err(error) if error.is_not_found() => {
            let options = WriteOptions::default();
            match context.cluster.create(CONFIG_MAPS, &context.namespace, config_map, &options).await {
                Ok(created) => created,
                Err(ClusterError::AlreadyExists { .. } | ClusterError::Ambiguous { .. }) => {
                    context.cluster.get(&object).await?
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(error) => return Err(error.into()),
    };
    let same = |field| found.get(field) == config_map.get(field);
    if same("binaryData") && same("data") && same("immutable") {
        return Ok(());
    }
    Err(SessionError::Refused {
        what: object.to_string(),
        why: "it does not hold the agent that its name stands for".to_owned(),
        hint: format!("find out who wrote it, then: kubectl delete configmap {}", object.name),
    })
}

/// Makes the ConfigMap that carries the agent.
fn agent_object(agent: &AgentSource, record: &Record) -> Value {
    use base64::Engine;
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": record.config_map,
            "namespace": record.namespace,
            "labels": {(MANAGED_BY_LABEL): MANAGED_BY, "dev.okteto.com": "true"},
        },
        "immutable": true,
    });
    match agent {
        AgentSource::Binary { bytes, .. } => {
            object["binaryData"] = json!({"agent": base64::engine::general_purpose::STANDARD.encode(bytes)});
        }
        AgentSource::Host { hash } => object["data"] = json!({"agent": hash}),
    }
    object
}

/// Returns the folder of this machine that holds a synced folder's base, trash and conflicts.
pub(crate) fn sync_folder(context: &Context, record: &Record, folder: &Folder) -> PathBuf {
    let local = folder.local.to_string_lossy();
    let parts = [&context.cluster.target().server, &record.namespace, &record.uid, &*local, &folder.remote];
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part.as_bytes());
        hasher.update(b"\0");
    }
    context.home.join("sync").join(&hasher.finalize().to_hex()[..16])
}

/// Returns the mount points of the dev container below a synced folder: other volumes, which are not ours to sync.
pub(crate) fn mounts_below(clone: &DevClone, template: &str, container: &str, remote: &str) -> Vec<RelPath> {
    let containers = clone.object.pointer(&format!("{template}/spec/containers")).and_then(Value::as_array);
    let prefix = format!("{}/", remote.trim_end_matches('/'));
    containers
        .into_iter()
        .flatten()
        .filter(|found| text(found, "/name") == container)
        .filter_map(|found| found.get("volumeMounts")?.as_array())
        .flatten()
        .filter_map(|mount| {
            let path = text(mount, "/mountPath");
            RelPath::new(path.strip_prefix(&prefix)?.trim_end_matches('/')).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_inside_a_synced_folder_are_left_alone() {
        let mounts = |paths: &[&str]| {
            let mounts: Vec<Value> =
                paths.iter().map(|path| json!({"name": "v", "mountPath": path})).collect();
            json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "volumeMounts": mounts}]}}}})
        };
        let object = mounts(&["/app/data", "/app", "/application", "/other", "/app/a/b/"]);
        let clone = DevClone { object, changes: Vec::new(), down_first: None };
        let found: Vec<String> =
            mounts_below(&clone, "/spec/template", "app", "/app").into_iter().map(String::from).collect();
        assert_eq!(found, ["data", "a/b"]);
    }
}
