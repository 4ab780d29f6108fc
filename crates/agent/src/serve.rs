//! One client: the channels it opens, each carried by its own task. They all end with the client.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use towline_link::message::{MessageReader, MessageWriter};
use towline_link::{Channel, Config, Connection, Hello, Link, LinkOptions, Role};
use towline_protocol::{
    AgentStatus, ChannelRequest, ControlReply, ControlRequest, ProcessInput, ProcessOutput, ProcessSpec,
    ProcessState, Refusal, Started, Usage, decode,
};
use towline_sync_fs::ReplicaOptions;

use crate::forward::{self, Listeners};
use crate::job::{Job, Keep};
use crate::reaper::Reaper;
use crate::scrollback::Stream;
use crate::sync;

/// How long a process whose client is gone may take to end after SIGHUP.
pub(crate) const FAREWELL: Duration = Duration::from_secs(2);

/// What all clients share.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    /// Random, made when this pid 1 started.
    pub(crate) instance: [u8; 16],
    /// BLAKE3 of our own binary.
    pub(crate) program: [u8; 32],
    pub(crate) prefix: Option<PathBuf>,
    pub(crate) reaper: Reaper,
    pub(crate) main: Arc<Mutex<Option<Job>>>,
    pub(crate) listeners: Listeners,
    /// the command --its output--> our own standard output
    pub(crate) copy_tx: std::sync::mpsc::SyncSender<(Stream, Vec<u8>)>,
    /// clients --what outlives them--> the supervisor, which runs it
    pub(crate) task_tx: mpsc::UnboundedSender<Task>,
}

/// Something that goes on when its client is gone.
pub(crate) type Task = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl Agent {
    /// Speaks with one client until it is gone.
    pub(crate) async fn serve(self, socket: UnixStream) {
        let (reader, writer) = socket.into_split();
        let mut nonce = [0; 16];
        if let Err(error) = fill_random(&mut nonce) {
            return crate::log::line(&format!("no random numbers: {error}"));
        }
        let hello = Hello { program: self.program, version: towline_protocol::VERSION.to_owned(), nonce };
        let options = LinkOptions { hello, role: Role::Agent, config: Config::default() };
        let Connection { link, mut incoming, driver, .. } =
            match towline_link::establish(reader, writer, options).await {
                Ok(connection) => connection,
                Err(error) => {
                    return crate::log::line(&format!("a client did not introduce itself: {error}"));
                }
            };
        let mut channels = JoinSet::new();
        let driving = driver.run();
        tokio::pin!(driving);
        loop {
            tokio::select! {
                _ = &mut driving => return,
                Some((opening, channel)) = incoming.accept() => {
                    let (agent, link) = (self.clone(), link.clone());
                    channels.spawn(async move { agent.channel(&opening, channel, link).await });
                }
                Some(_) = channels.join_next() => {}
            }
        }
    }

    async fn channel(self, opening: &[u8], channel: Channel, link: Link) {
        match decode(opening) {
            Ok(ChannelRequest::Control) => self.control(channel, &link).await,
            Ok(ChannelRequest::Attach { seen, size }) => match self.main() {
                Some(job) => {
                    if let Some(size) = size {
                        job.input(ProcessInput::Resize(size)).await;
                    }
                    let _away = Away(job.clone());
                    attach(&job, seen, channel).await;
                }
                None => channel.reset("no command was started"),
            },
            Ok(ChannelRequest::Exec(spec)) => self.exec(&spec, channel).await,
            Ok(ChannelRequest::Forward { host, port }) => forward::dial(&host, port, channel).await,
            Ok(ChannelRequest::Sync) => {
                let options = ReplicaOptions { prefix: self.prefix, ..ReplicaOptions::default() };
                sync::serve(channel, options).await;
            }
            Ok(ChannelRequest::Reverse { .. }) => channel.reset("the agent opens reverse forwards itself"),
            Err(error) => channel.reset(&format!("can't understand the channel: {error}")),
        }
    }

    async fn control(&self, channel: Channel, link: &Link) {
        let (reader, writer) = channel.split();
        let (mut reader, mut writer) = (MessageReader::new(reader), MessageWriter::new(writer));
        while let Ok(Some(request)) = reader.next::<ControlRequest>().await {
            let reply = match request {
                ControlRequest::Status => ControlReply::Status(self.status()),
                ControlRequest::Start(spec) => match self.start(&spec) {
                    Ok(started) => ControlReply::Started(started),
                    Err(refusal) => ControlReply::Failed(refusal),
                },
                ControlRequest::Usage => usage(),
                ControlRequest::Environment => match std::fs::read("/proc/self/environ") {
                    Ok(environment) => ControlReply::Environment(environment),
                    Err(error) => failed(&error, "can't read the container's environment"),
                },
                ControlRequest::Stop { grace_milliseconds } => {
                    if let Some(job) = self.main() {
                        end(&job, Signal::TERM, Duration::from_millis(grace_milliseconds.into())).await;
                    }
                    ControlReply::Stopped
                }
                ControlRequest::Listen { port, everywhere } => {
                    match self.listeners.listen(port, everywhere, link) {
                        Ok(serving) => {
                            if let Some(serving) = serving {
                                let _ = self.task_tx.send(Box::pin(serving));
                            }
                            ControlReply::Listening
                        }
                        Err(error) => failed(&error, &format!("can't listen on port {port} in the pod")),
                    }
                }
            };
            if writer.send(&reply).await.is_err() {
                return;
            }
        }
    }

    fn status(&self) -> AgentStatus {
        AgentStatus {
            instance: self.instance,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            workdir: std::env::current_dir().map(|folder| folder.display().to_string()).unwrap_or_default(),
            process: self.main().map_or(ProcessState::Idle, |job| job.state()),
        }
    }

    /// Starts the user's command unless it runs. Nothing is awaited between the look and the start.
    fn start(&self, spec: &ProcessSpec) -> Result<Started, Refusal> {
        let mut main = self.main.lock().unwrap_or_else(PoisonError::into_inner);
        if main.as_ref().is_some_and(|job| matches!(job.state(), ProcessState::Running { .. })) {
            return Ok(Started::Already);
        }
        let (job, carrying) =
            Job::start(spec, self.prefix.as_ref(), &self.reaper, Keep::Last(self.copy_tx.clone()))?;
        let _ = self.task_tx.send(Box::pin(carrying));
        // Arguments may hold secrets, and the log has other readers.
        crate::log::line(&format!("started {:?}", spec.argv.first().map_or("", String::as_str)));
        *main = Some(job);
        Ok(Started::Now)
    }

    pub(crate) fn main(&self) -> Option<Job> {
        self.main.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn exec(&self, spec: &ProcessSpec, channel: Channel) {
        let (job, carrying) = match Job::start(spec, self.prefix.as_ref(), &self.reaper, Keep::All) {
            Ok(started) => started,
            Err(refusal) => {
                let (_reader, writer) = channel.split();
                let mut writer = MessageWriter::new(writer);
                if writer.send(&ProcessOutput::Failed(refusal)).await.is_ok() {
                    let _ = writer.finish().await;
                }
                return;
            }
        };
        let _hang_up = HangUp { job: job.clone(), task_tx: self.task_tx.clone() };
        // It goes on while it says goodbye, which outlives the channel.
        let _ = self.task_tx.send(Box::pin(carrying));
        attach(&job, 0, channel).await;
    }
}

fn failed(error: &io::Error, what: &str) -> ControlReply {
    ControlReply::Failed(Refusal {
        errno: error.raw_os_error().unwrap_or(0),
        message: format!("{what}: {error}"),
    })
}

/// Returns what this process has used.
pub(crate) fn usage() -> ControlReply {
    let usage = towline_sync_fs::usage();
    ControlReply::Usage(Usage {
        cpu_milliseconds: usage.cpu.as_millis().try_into().unwrap_or(u64::MAX),
        peak_kibibytes: usage.peak_kibibytes,
    })
}

/// Ends a process when its channel does, however that comes about.
struct HangUp {
    job: Job,
    task_tx: mpsc::UnboundedSender<Task>,
}

impl Drop for HangUp {
    fn drop(&mut self) {
        self.job.abandon();
        let job = self.job.clone();
        let _ = self.task_tx.send(Box::pin(async move { end(&job, Signal::HUP, FAREWELL).await }));
    }
}

/// Says that the command goes on without the one who looked at it, however that came about.
struct Away(Job);

impl Drop for Away {
    fn drop(&mut self) {
        if matches!(self.0.state(), ProcessState::Running { .. }) {
            crate::log::line("the laptop is away; the command goes on. towline down ends dev mode");
        }
    }
}

/// Asks a process to end, and makes it after a while.
pub(crate) async fn end(job: &Job, signal: Signal, grace: Duration) {
    job.signal(signal);
    if tokio::time::timeout(grace, job.ended()).await.is_err() {
        job.signal(Signal::KILL);
        // Output that nobody takes must not keep us: killed is ended.
        let _ = tokio::time::timeout(FAREWELL, job.ended()).await;
    }
}

/// Ties a channel to a process: its output from `seen` on, and what the client sends.
async fn attach(job: &Job, mut seen: u64, channel: Channel) {
    let (reader, writer) = channel.split();
    let (mut reader, mut writer) = (MessageReader::new(reader), MessageWriter::new(writer));
    let writing = async {
        loop {
            let output = job.output(&mut seen).await;
            let last = matches!(output, ProcessOutput::Exited(_));
            writer.send(&output).await.map_err(io::Error::other)?;
            if last {
                return writer.finish().await.map_err(io::Error::other);
            }
        }
    };
    let reading = async {
        loop {
            match reader.next::<ProcessInput>().await {
                Ok(Some(input)) => job.input(input).await,
                // Half a channel is enough for a client that only listens.
                Ok(None) => std::future::pending().await,
                Err(_gone) => return,
            }
        }
    };
    tokio::select! {
        _ = writing => {}
        () = reading => {}
    }
}

/// Fills with random bytes of the kernel's.
pub(crate) fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(())
}
