//! A running session: one loop that feeds the machine with what the cluster, the stream, the folders and the command
//! say, and carries out what it wants.

mod folders;
mod workload;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use towline_cluster::port::{EVENTS, LEASES, PODS, Selection, Watch, WatchEvent};
use towline_link::{Link, Priority};
use towline_patcher::{SESSION_LABEL, Switch};
use towline_protocol::{
    ChannelRequest, ControlReply, ControlRequest, ProcessInput, ProcessSpec, TerminalSize, encode,
};
use towline_sync::Peer;

use crate::connection::{self, ask};
use crate::context::Context;
use crate::event::{Ending, Event};
use crate::forward::{self, Silent};
use crate::hybrid::{self, Here};
use crate::journal::{self, Journal, Written};
use crate::kinds;
use crate::machine::{Effect, Hold, Input, Machine};
use crate::original::{self, Parked};
use crate::output::Outlet;
use crate::pod::{self, text};
use crate::process::{self, Attach};
use crate::request::UpRequest;
use crate::state_file::{self, FolderState, SessionState};

/// The events that are kept to explain what a pod waits for.
const EVENTS_KEPT: usize = 200;

/// From the session's holder to its loop.
#[derive(Debug)]
pub(crate) enum Command {
    /// The user wants the deletions that sync of this folder stopped for.
    ApproveDeletions(usize),
    /// The user leaves; dev mode stays on.
    Leave,
}

/// The channels between the loop and the session's holder.
#[derive(Debug)]
pub(crate) struct Outlets {
    pub(crate) command_rx: mpsc::Receiver<Command>,
    /// For the user's command.
    pub(crate) input_rx: mpsc::Receiver<ProcessInput>,
    pub(crate) event_tx: mpsc::Sender<Event>,
    pub(crate) outlet: Outlet,
}

/// What a running session was begun with.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) context: Context,
    pub(crate) request: UpRequest,
    pub(crate) journal: Journal,
    pub(crate) config_map: Value,
    pub(crate) size: Option<TerminalSize>,
    pub(crate) fresh: bool,
}

/// Everything that reports to the loop.
enum News {
    Connection(connection::News),
    Folder(usize, towline_sync::News),
    Process(process::News),
    Pods(WatchEvent),
    Events(WatchEvent),
    Original(WatchEvent),
    Lease(WatchEvent),
    Command(Option<Command>),
    Second,
    Renew,
}

impl Live {
    /// Runs until the session is over. Returns how it ended, and whether what it wrote is to be undone.
    pub(crate) async fn run(
        self,
        folders: Vec<towline_sync::Pair>,
        ports: Vec<(crate::request::Forward, tokio::net::TcpListener)>,
        outlets: Outlets,
    ) -> (Ending, Option<Journal>) {
        let Outlets { command_rx, input_rx, event_tx, outlet } = outlets;
        let (connection_tx, connection_rx) = mpsc::channel(64);
        let (folder_tx, folder_rx) = mpsc::channel(64);
        let (process_tx, process_rx) = mpsc::channel(8);
        let (link_tx, link_rx) = watch::channel(None::<Link>);
        let mut tasks = JoinSet::new();
        let mut folder_txs = Vec::new();
        for (index, syncer) in folders.into_iter().enumerate() {
            let (command_tx, command_rx) = mpsc::channel(4);
            let (news_tx, mut news_rx) = mpsc::channel(64);
            tasks.spawn(syncer.run(command_rx, news_tx));
            let folder_tx = folder_tx.clone();
            tasks.spawn(async move {
                while let Some(news) = news_rx.recv().await {
                    if folder_tx.send((index, news)).await.is_err() {
                        return;
                    }
                }
            });
            folder_txs.push(command_tx);
        }
        for (forward, listener) in ports {
            let (local, remote) = (forward.begins(), forward.leads());
            let _ = event_tx.send(Event::Forwarding { local, remote, reverse: false }).await;
            tasks.spawn(forward::serve(forward, listener, link_rx.clone(), event_tx.clone()));
        }
        let reparks = self.past_reparks();
        let hold = match &self.journal.record {
            record if record.in_place.is_some() => Hold::Template(self.request.on_change),
            record if !record.parks() => Hold::Beside,
            record => Hold::Off { parked: record.parked },
        };
        let (patience, answer) = (self.request.patience, self.request.answer);
        let mut machine = Machine::new(folder_txs.len(), hold, reparks, patience, answer);
        if self.request.main.is_some() {
            machine.start_again();
        }
        let state = self.state(&machine);
        let folder_count = folder_txs.len();
        let state_folder = state_file::folder(&self.context, &self.journal.record);
        let mut actor = Actor {
            machine,
            started: Instant::now(),
            event_tx,
            outlet,
            connection_tx,
            process_tx,
            link_tx,
            folder_txs,
            input_tx: None,
            connection: JoinSet::new(),
            attachment: JoinSet::new(),
            here: Here::default(),
            silent: Silent::default(),
            tasks,
            seen: Arc::new(AtomicU64::new(0)),
            pods: Vec::new(),
            events: Vec::new(),
            has_parked: false,
            applied: None,
            noted: String::new(),
            ending: None,
            link: None,
            told: vec![folders::Told::default(); folder_count],
            state,
            state_folder,
            state_changed: true,
            live: self,
        };
        let outcome = actor
            .drive(Receivers {
                command: command_rx,
                input: input_rx,
                connection: connection_rx,
                folder: folder_rx,
                process: process_rx,
            })
            .await;
        let ending = outcome.unwrap_or_else(|error| Ending::Failed { message: error.to_string(), code: 1 });
        actor.finish().await;
        let failed =
            actor.live.fresh && !actor.machine.was_ready() && matches!(ending, Ending::Failed { .. });
        let undo = failed || actor.machine.is_undone();
        (ending, undo.then_some(actor.live.journal))
    }

    /// Scale-backs of an earlier process of this session that still count, as times before our start.
    fn past_reparks(&self) -> Vec<Duration> {
        let now = jiff::Timestamp::now().as_second();
        let recent = self.journal.record.re_parks.iter().filter(|at| now - **at < 600);
        recent.map(|_| Duration::ZERO).collect()
    }

    fn state(&self, machine: &Machine) -> SessionState {
        let record = &self.journal.record;
        let pid = std::process::id();
        let forwards = self.request.forwards.iter().map(|one| (one.begins(), one.leads()));
        let reverses = self.request.reverses.iter().map(|one| (one.begins(), one.leads()));
        SessionState {
            version: 1,
            pid,
            started: state_file::start_of(pid).unwrap_or(0),
            session: record.session.clone(),
            namespace: record.namespace.clone(),
            workload: record.name.clone(),
            state: machine.state(),
            pod: None,
            folders: self
                .request
                .folders
                .iter()
                .map(|folder| FolderState {
                    local: folder.local.display().to_string(),
                    remote: folder.remote.clone(),
                    ..FolderState::default()
                })
                .collect(),
            forwards: forwards.chain(reverses).collect(),
        }
    }
}

/// Where the loop hears from its tasks and its holder.
struct Receivers {
    command: mpsc::Receiver<Command>,
    input: mpsc::Receiver<ProcessInput>,
    connection: mpsc::Receiver<connection::News>,
    folder: mpsc::Receiver<(usize, towline_sync::News)>,
    process: mpsc::Receiver<process::News>,
}

struct Actor {
    live: Live,
    machine: Machine,
    started: Instant,
    event_tx: mpsc::Sender<Event>,
    outlet: Outlet,
    connection_tx: mpsc::Sender<connection::News>,
    process_tx: mpsc::Sender<process::News>,
    /// loop --the stream, while there is one--> forwards
    link_tx: watch::Sender<Option<Link>>,
    /// loop --channels and decisions--> folders
    folder_txs: Vec<mpsc::Sender<towline_sync::Command>>,
    /// loop --keys, sizes, signals--> the attachment
    input_tx: Option<mpsc::Sender<ProcessInput>>,
    connection: JoinSet<()>,
    attachment: JoinSet<()>,
    /// The command, where it runs on this machine.
    here: Here,
    silent: Silent,
    tasks: JoinSet<()>,
    seen: Arc<AtomicU64>,
    pods: Vec<Value>,
    events: Vec<Value>,
    /// Whether this process has scaled the original down.
    has_parked: bool,
    /// The original's template as we last left it, where it is changed in place.
    applied: Option<Value>,
    /// The hash of the original's template that was last spoken of.
    noted: String,
    ending: Option<Ending>,
    link: Option<Link>,
    told: Vec<folders::Told>,
    state: SessionState,
    state_folder: PathBuf,
    state_changed: bool,
}

impl Actor {
    async fn drive(&mut self, mut receivers: Receivers) -> Result<Ending, towline_cluster::ClusterError> {
        let context = self.live.context.clone();
        let record = self.live.journal.record.clone();
        let of_session =
            Selection { name: None, labels: vec![(SESSION_LABEL.to_owned(), record.session.clone())] };
        let named = |name: &str| Selection { name: Some(name.to_owned()), labels: Vec::new() };
        let cluster = &context.cluster;
        let namespace = context.namespace.as_str();
        let mut pods = cluster.watch(PODS, namespace, &of_session).await?;
        let mut original = cluster.watch(kinds::of_record(&record), namespace, &named(&record.name)).await?;
        let mut lease = cluster.watch(LEASES, namespace, &named(&self.live.journal.identity().0)).await?;
        // Without the right to see events the pod's own status has to do.
        let mut events: Watch = match cluster.watch(EVENTS, namespace, &Selection::default()).await {
            Ok(watch) => watch,
            Err(_) => Box::pin(futures::stream::pending()),
        };
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut renew = tokio::time::interval(Duration::from_secs(journal::RENEW_SECONDS));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        renew.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut pending = None;
        loop {
            self.write_state();
            if let Some(ending) = self.ending.take() {
                return Ok(ending);
            }
            let news = tokio::select! {
                biased;
                command = receivers.command.recv() => News::Command(command),
                fed = feed(&mut receivers.input, &mut pending, self.input_tx.as_ref()) => {
                    pending = fed;
                    continue;
                }
                Some(event) = lease.next() => News::Lease(event),
                Some(news) = receivers.connection.recv() => News::Connection(news),
                Some(news) = receivers.process.recv() => News::Process(news),
                Some((index, news)) = receivers.folder.recv() => News::Folder(index, news),
                Some(event) = pods.next() => News::Pods(event),
                Some(event) = original.next() => News::Original(event),
                Some(event) = events.next() => News::Events(event),
                _ = second.tick() => News::Second,
                _ = renew.tick() => News::Renew,
            };
            self.take(news).await;
        }
    }

    async fn take(&mut self, news: News) {
        match news {
            News::Connection(news) => self.connection_news(news).await,
            News::Folder(index, news) => self.folder_news(index, news).await,
            News::Process(news) => self.process_news(news).await,
            News::Pods(event) => {
                remember(&mut self.pods, event, usize::MAX);
                self.look_at_pod().await;
            }
            News::Events(event) => self.events_news(event).await,
            News::Original(event) => self.original_news(event).await,
            News::Lease(event) => self.lease_news(event).await,
            News::Command(Some(Command::ApproveDeletions(index))) => {
                if let Some(folder_tx) = self.folder_txs.get(index) {
                    let _ = folder_tx.send(towline_sync::Command::ApproveDeletions).await;
                }
            }
            News::Command(Some(Command::Leave) | None) => self.feed(Input::Leave).await,
            News::Second => self.feed(Input::Tick).await,
            News::Renew => match self.live.journal.renew(&self.live.context).await {
                Ok(Written::Ours) => {}
                Ok(Written::Lost(message)) => self.feed(Input::LeaseLost { message }).await,
                Err(error) => tracing::warn!(%error, "the Lease could not be renewed"),
            },
        }
    }

    /// Feeds the machine and carries out what it wants; what comes of that is fed in turn.
    async fn feed(&mut self, input: Input) {
        let mut inputs = std::collections::VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for effect in self.machine.handle(self.started.elapsed(), input) {
                if let Some(input) = self.carry_out(effect).await {
                    inputs.push_back(input);
                }
            }
        }
    }

    async fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Connect { pod, after } => {
                self.drop_stream().await;
                let container = self.live.journal.record.container.clone();
                let task = connection::run(
                    self.live.context.clone(),
                    pod,
                    container,
                    self.live.journal.record.config_map.clone(),
                    after,
                    self.connection_tx.clone(),
                );
                self.connection.spawn(task);
            }
            Effect::Disconnect => self.drop_stream().await,
            Effect::OpenFolders => self.open_folders().await,
            Effect::StartProcess if self.live.request.hybrid.is_some() => self.start_here(),
            Effect::StartProcess => {
                let (attach, input_rx) = self.attachment()?;
                let plan = &self.live.request.plan;
                let spec = ProcessSpec {
                    argv: self.live.request.command.clone(),
                    environment: self.live.request.process_environment.clone(),
                    workdir: plan.workdir.clone(),
                    terminal: self.live.size,
                };
                let command = spec.argv.clone();
                self.attachment.spawn(process::start(spec, attach, input_rx, self.process_tx.clone()));
                self.tell(Event::CommandStarted { command }).await;
            }
            // It never was away.
            Effect::Attach if self.live.request.hybrid.is_some() => {}
            Effect::Attach => {
                let (attach, input_rx) = self.attachment()?;
                self.attachment.spawn(process::stay(attach, input_rx, self.process_tx.clone()));
            }
            Effect::Park => return Some(self.park().await),
            Effect::TakeUp => return Some(self.take_up().await),
            Effect::Report(event) => self.tell(event).await,
            Effect::End(ending) => self.ending = Some(ending),
        }
        None
    }

    async fn park(&mut self) -> Input {
        let again = self.live.journal.record.parked;
        if again {
            self.live.journal.record.re_parked(jiff::Timestamp::now().as_second());
        }
        match original::park(&self.live.context, &mut self.live.journal).await {
            Ok(Parked::Done) => {
                self.has_parked = true;
                let record = &self.live.journal.record;
                let object = format!("{} {}", record.kind, record.name);
                let action = if record.switch() == Switch::Suspend { "suspended" } else { "scaled" };
                self.tell(Event::Object { action, object }).await;
                Input::Parked
            }
            Ok(Parked::Lost(message)) => Input::LeaseLost { message },
            Ok(Parked::Gone) => Input::Original { replicas: None, by: None },
            Err(error) => Input::ParkFailed {
                message: format!("the original could not be scaled down, and gets traffic too: {error}"),
            },
        }
    }

    /// Makes the ends of a new attachment; `None` when the stream went away meanwhile.
    fn attachment(&mut self) -> Option<(Attach, mpsc::Receiver<ProcessInput>)> {
        let link = self.link.clone()?;
        self.attachment.abort_all();
        let (input_tx, input_rx) = mpsc::channel(64);
        self.input_tx = Some(input_tx);
        let attach =
            Attach { link, seen: self.seen.clone(), outlet: self.outlet.clone(), size: self.live.size };
        Some((attach, input_rx))
    }

    /// Starts the command on this machine, unless it is about to be started.
    fn start_here(&mut self) {
        let Some(link) = self.link.clone() else { return };
        let (outlet, event_tx) = (self.outlet.clone(), self.event_tx.clone());
        let outlets = hybrid::Outlets { outlet, event_tx, news_tx: self.process_tx.clone() };
        if let Some(input_tx) = self.here.start(&self.live.request, self.live.size, link, outlets) {
            self.input_tx = Some(input_tx);
        }
    }

    async fn drop_stream(&mut self) {
        self.connection.abort_all();
        self.attachment.abort_all();
        if self.live.request.hybrid.is_none() {
            self.input_tx = None;
        }
        if self.link.take().is_some() {
            self.link_tx.send_replace(None);
            for folder_tx in &self.folder_txs {
                let _ = folder_tx.send(towline_sync::Command::Disconnect).await;
            }
        }
    }

    async fn open_folders(&mut self) {
        let Some(link) = self.link.clone() else { return };
        self.told.fill(folders::Told::default());
        for folder_tx in &self.folder_txs {
            // Small edits must not wait behind a large file of another folder, so folders share the bulk class.
            if let Ok(channel) = link.open(encode(&ChannelRequest::Sync), Priority::Bulk).await {
                let (reader, writer) = channel.split();
                let peer = Peer::stream(reader, writer);
                let _ = folder_tx.send(towline_sync::Command::Connect(peer)).await;
            }
        }
        for reverse in self.live.request.reverses.clone() {
            // A Service's connections come to the pod's own address.
            let everywhere = self.live.request.hybrid.is_some();
            let listen = ControlRequest::Listen { port: reverse.remote, everywhere };
            let event = match ask(&link, &listen).await {
                Ok(ControlReply::Listening) => {
                    Event::Forwarding { local: reverse.leads(), remote: reverse.begins(), reverse: true }
                }
                Ok(ControlReply::Failed(refusal)) => Event::Warning {
                    message: format!("reverse port {} of the pod: {refusal}", reverse.remote),
                },
                Ok(_) | Err(_) => continue,
            };
            self.tell(event).await;
        }
    }

    async fn connection_news(&mut self, news: connection::News) {
        match news {
            connection::News::Up { link, status } => {
                self.link_tx.send_replace(Some(link.clone()));
                self.link = Some(link);
                let process = match self.live.request.hybrid {
                    Some(_) => self.here.state(),
                    None => status.process,
                };
                self.feed(Input::Connected { instance: status.instance, process }).await;
            }
            connection::News::Incoming { port, channel } => {
                let reverse =
                    self.live.request.reverses.iter().find(|reverse| reverse.remote == port).copied();
                let Some(reverse) = reverse else {
                    channel.reset("no such reverse forward");
                    return;
                };
                let (silent, event_tx) = (self.silent.clone(), self.event_tx.clone());
                self.tasks.spawn(forward::serve_reverse(reverse, channel, silent, event_tx));
            }
            connection::News::Down { reason } => {
                self.drop_stream().await;
                self.feed(Input::Disconnected { reason }).await;
            }
        }
    }

    async fn process_news(&mut self, news: process::News) {
        match news {
            process::News::Started => {
                self.here.has_started();
                self.feed(Input::ProcessStarted).await;
            }
            process::News::Failed { message, code } => {
                self.feed(Input::ProcessFailed { message, code }).await;
            }
            process::News::Exited(status) => self.feed(Input::ProcessExited(status)).await,
            process::News::Broken(reason) if self.live.request.hybrid.is_some() => {
                tracing::debug!(reason, "the container's variables could not be had");
                // By the next stream, if not by the one that is there.
                self.start_here();
            }
            // The stream that carried it says so too, and with a better reason.
            process::News::Broken(reason) => tracing::debug!(reason, "an attachment broke"),
        }
    }

    async fn look_at_pod(&mut self) {
        let container = &self.live.journal.record.container;
        let view = pod::choose(&self.pods).map(|chosen| pod::view(chosen, container, &self.events));
        let name = view.as_ref().map(|view| view.name.clone());
        if self.state.pod != name {
            self.state.pod = name;
            self.state_changed = true;
        }
        self.feed(Input::Pod(view)).await;
    }

    async fn events_news(&mut self, event: WatchEvent) {
        let failed = match &event {
            WatchEvent::Applied(event) => self.cannot_create(event),
            WatchEvent::Restarted(events) => events.iter().find_map(|event| self.cannot_create(event)),
            WatchEvent::Deleted(_) | WatchEvent::Interrupted(_) => None,
        };
        let agent_missing = matches!(&event, WatchEvent::Applied(event)
            if text(event, "/reason") == "FailedMount"
                && text(event, "/message").contains(&self.live.journal.record.config_map));
        remember(&mut self.events, event, EVENTS_KEPT);
        if agent_missing {
            // The last session before ours took it with it in the moment we found it there.
            if let Err(error) = crate::up::ensure_agent(&self.live.context, &self.live.config_map).await {
                tracing::warn!(%error, "the agent's ConfigMap is missing and could not be created");
            }
        }
        if let Some(message) = failed {
            self.feed(Input::CannotCreatePod(message)).await;
        }
        if !self.pods.is_empty() {
            self.look_at_pod().await;
        }
    }

    /// Returns what keeps the clone's ReplicaSet from making a pod.
    fn cannot_create(&self, event: &Value) -> Option<String> {
        let record = &self.live.journal.record;
        let (kind, name) = (text(event, "/involvedObject/kind"), text(event, "/involvedObject/name"));
        let ours = match record.in_place {
            None => kind == "ReplicaSet" && name.starts_with(record.clone.as_str()),
            Some(_) => {
                (kind == "ReplicaSet" || kind == record.kind) && name.starts_with(record.name.as_str())
            }
        };
        (ours && text(event, "/reason") == "FailedCreate").then(|| text(event, "/message"))
    }

    async fn lease_news(&mut self, event: WatchEvent) {
        let written = match event {
            WatchEvent::Applied(lease) => self.live.journal.seen(&lease),
            WatchEvent::Restarted(found) => match found.first() {
                Some(lease) => self.live.journal.seen(lease),
                None => Written::Lost("dev mode was ended".to_owned()),
            },
            WatchEvent::Deleted(_) => Written::Lost("dev mode was ended".to_owned()),
            WatchEvent::Interrupted(_) => return,
        };
        if let Written::Lost(message) = written {
            self.feed(Input::LeaseLost { message }).await;
        }
    }

    async fn tell(&mut self, event: Event) {
        if let Event::State { state } = &event {
            self.state.state = *state;
            self.state_changed = true;
        }
        // Nobody listens only when the holder has dropped the session; the loop sees that by its commands.
        let _ = self.event_tx.send(event).await;
    }

    fn write_state(&mut self) {
        if std::mem::take(&mut self.state_changed)
            && let Err(error) = state_file::write(&self.state_folder, &self.state)
        {
            tracing::warn!(%error, "the state file could not be written");
        }
    }

    /// Lets go of everything; folders may finish what they are writing.
    async fn finish(&mut self) {
        self.here.stop().await;
        self.drop_stream().await;
        self.folder_txs.clear();
        state_file::remove(&self.state_folder);
        let ending = async { while self.connection.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(2), ending).await;
        let folders = self.live.request.folders.len();
        let flushed = async {
            for _ in 0..folders * 2 {
                let _ = self.tasks.join_next().await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), flushed).await;
    }
}

/// Takes the next input for the command, or hands the one taken before to the attachment once that has room. Returns
/// what is still to be handed over. Input for a command that is not there yet, or no more, goes nowhere.
async fn feed(
    input_rx: &mut mpsc::Receiver<ProcessInput>,
    pending: &mut Option<ProcessInput>,
    input_tx: Option<&mpsc::Sender<ProcessInput>>,
) -> Option<ProcessInput> {
    if pending.is_none() {
        match input_rx.recv().await {
            Some(input) => return Some(input),
            None => return std::future::pending().await,
        }
    }
    let room = match input_tx {
        Some(input_tx) => input_tx.reserve().await.ok(),
        None => None,
    };
    if let (Some(room), Some(input)) = (room, pending.take()) {
        room.send(input);
    }
    None
}

/// Keeps a list of objects as a watch tells it.
fn remember(objects: &mut Vec<Value>, event: WatchEvent, limit: usize) {
    let same =
        |known: &Value, object: &Value| known.pointer("/metadata/uid") == object.pointer("/metadata/uid");
    match event {
        WatchEvent::Restarted(all) => *objects = all,
        WatchEvent::Applied(object) => match objects.iter_mut().find(|known| same(known, &object)) {
            Some(known) => *known = object,
            None => objects.push(object),
        },
        WatchEvent::Deleted(object) => objects.retain(|known| !same(known, &object)),
        WatchEvent::Interrupted(_) => {}
    }
    if objects.len() > limit {
        objects.drain(..objects.len() - limit);
    }
}
