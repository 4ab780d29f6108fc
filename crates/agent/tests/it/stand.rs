//! An agent in a temporary folder, and clients of it.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use towline_link::message::{MessageError, MessageReader, MessageWriter};
use towline_link::{
    Channel, ChannelReader, ChannelWriter, Config, Connection, Hello, Incoming, Link, LinkError, LinkOptions,
    Priority, ResetReason, Role, establish,
};
use towline_protocol::{
    AgentStatus, ChannelRequest, ControlReply, ControlRequest, ExitStatus, ProcessInput, ProcessOutput,
    ProcessSpec, Refusal, Started, TerminalSize, encode,
};

/// More than anything here takes, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// Runs a test, which must end.
pub(crate) async fn in_time<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, test).await.expect("it takes too long")
}

/// Looks again and again until something is as it should be. For what nobody tells us of: other processes.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..2000 {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never came: {what}");
}

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_towline-agent"));
    command.kill_on_drop(true);
    command
}

/// A running agent.
pub(crate) struct Agent {
    pub(crate) temp: TempDir,
    pub(crate) run_dir: PathBuf,
    pub(crate) process: Child,
}

impl Agent {
    pub(crate) async fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let run_dir = temp.path().join("run");
        fs::create_dir(&run_dir).unwrap();
        Self::start(temp, run_dir, |_| {}).await
    }

    /// Starts an agent and waits until it listens.
    pub(crate) async fn start(temp: TempDir, run_dir: PathBuf, configure: impl FnOnce(&mut Command)) -> Self {
        let mut command = program();
        command.arg("run").arg("--run-dir").arg(&run_dir);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir(temp.path());
        configure(&mut command);
        let process = command.spawn().unwrap();
        let socket = run_dir.join("agent/socket");
        until("the socket", || {
            fs::symlink_metadata(&socket).ok().filter(|meta| meta.file_type().is_socket())
        })
        .await;
        Self { temp, run_dir, process }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id().expect("it runs")
    }

    pub(crate) async fn client(&self) -> Client {
        Client::new(&self.run_dir).await.unwrap()
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let status = std::process::Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(status.unwrap().success());
}

/// A line of `/proc/PID/status`.
pub(crate) fn status_line(pid: u32, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':').map(|value| value.trim().to_owned()))
}

/// Whether a process is there and not a zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    status_line(pid, "State").is_some_and(|state| !state.starts_with('Z'))
}

/// One stream to the agent.
pub(crate) struct Client {
    pub(crate) link: Link,
    pub(crate) incoming: Incoming,
    pub(crate) peer: Hello,
    driver: JoinSet<LinkError>,
    pub(crate) relay: Child,
}

impl Client {
    pub(crate) async fn new(run_dir: &Path) -> Result<Self, String> {
        let mut command = program();
        command.arg("connect").arg("--run-dir").arg(run_dir);
        Self::over(command).await
    }

    /// Connects through a command of the caller's; fails with what that said.
    pub(crate) async fn over(mut command: Command) -> Result<Self, String> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut relay = command.spawn().unwrap();
        let (stdin, stdout) = (relay.stdin.take().unwrap(), relay.stdout.take().unwrap());
        let hello = Hello { program: [0; 32], version: "test".to_owned(), nonce: [7; 16] };
        let options = LinkOptions { hello, role: Role::Client, config: Config::default() };
        if let Ok(Connection { link, incoming, peer, driver }) = establish(stdout, stdin, options).await {
            let mut tasks = JoinSet::new();
            tasks.spawn(driver.run());
            return Ok(Self { link, incoming, peer, driver: tasks, relay });
        }
        let mut words = String::new();
        relay.stderr.take().unwrap().read_to_string(&mut words).await.unwrap();
        Err(words)
    }

    /// Is gone without a word, as when the network is.
    pub(crate) async fn vanish(mut self) {
        self.relay.start_kill().unwrap();
        self.relay.wait().await.unwrap();
        self.driver.shutdown().await;
    }

    pub(crate) async fn open(&self, request: &ChannelRequest) -> Channel {
        self.link.open(encode(request), Priority::Interactive).await.unwrap()
    }

    pub(crate) async fn ask(&self, question: ControlRequest) -> ControlReply {
        self.ask_all(&[question]).await.remove(0)
    }

    pub(crate) async fn ask_all(&self, questions: &[ControlRequest]) -> Vec<ControlReply> {
        let (reader, writer) = self.open(&ChannelRequest::Control).await.split();
        let (mut reader, mut writer) = (MessageReader::new(reader), MessageWriter::new(writer));
        for question in questions {
            writer.send(question).await.unwrap();
        }
        let mut replies = Vec::new();
        for _ in questions {
            replies.push(reader.next().await.unwrap().expect("an answer"));
        }
        replies
    }

    pub(crate) async fn status(&self) -> AgentStatus {
        match self.ask(ControlRequest::Status).await {
            ControlReply::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn start(&self, spec: ProcessSpec) -> Result<Started, Refusal> {
        match self.ask(ControlRequest::Start(spec)).await {
            ControlReply::Started(started) => Ok(started),
            ControlReply::Failed(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn attach(&self, seen: u64, size: Option<TerminalSize>) -> Process {
        Process::new(self.open(&ChannelRequest::Attach { seen, size }).await)
    }

    pub(crate) async fn exec(&self, spec: ProcessSpec) -> Process {
        Process::new(self.open(&ChannelRequest::Exec(spec)).await)
    }
}

/// A shell's script, with pipes.
pub(crate) fn script(script: &str) -> ProcessSpec {
    ProcessSpec {
        argv: ["sh", "-c", script].map(str::to_owned).into(),
        environment: Vec::new(),
        workdir: None,
        terminal: None,
    }
}

/// A shell's script, on a terminal.
pub(crate) fn on_terminal(text: &str) -> ProcessSpec {
    ProcessSpec { terminal: Some(TerminalSize { rows: 24, columns: 80 }), ..script(text) }
}

/// An attachment or an exec.
pub(crate) struct Process {
    reader: MessageReader<ChannelReader>,
    writer: MessageWriter<ChannelWriter>,
    /// Everything that came, both streams.
    pub(crate) seen: u64,
    pub(crate) output: Vec<u8>,
    pub(crate) errors: Vec<u8>,
    pub(crate) skipped: u64,
}

impl Process {
    pub(crate) fn new(channel: Channel) -> Self {
        let (reader, writer) = channel.split();
        Self {
            reader: MessageReader::new(reader),
            writer: MessageWriter::new(writer),
            seen: 0,
            output: Vec::new(),
            errors: Vec::new(),
            skipped: 0,
        }
    }

    pub(crate) async fn send(&mut self, input: ProcessInput) {
        self.writer.send(&input).await.unwrap();
    }

    pub(crate) async fn input(&mut self, text: &str) {
        self.send(ProcessInput::Input(text.into())).await;
    }

    /// Takes in the next message; the end of the process as `Err`.
    pub(crate) async fn next(&mut self) -> Result<(), Result<ExitStatus, Refusal>> {
        match self.reader.next().await.unwrap().expect("not the end") {
            ProcessOutput::Output(bytes) => {
                self.seen += bytes.len() as u64;
                self.output.extend(bytes);
            }
            ProcessOutput::Error(bytes) => {
                self.seen += bytes.len() as u64;
                self.errors.extend(bytes);
            }
            ProcessOutput::Skipped(count) => {
                self.seen += count;
                self.skipped += count;
            }
            ProcessOutput::Exited(status) => return Err(Ok(status)),
            ProcessOutput::Failed(refusal) => return Err(Err(refusal)),
        }
        Ok(())
    }

    /// Waits for this text in the output, and returns all of it so far.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        loop {
            let output = String::from_utf8_lossy(&self.output);
            if output.contains(text) {
                return output.into_owned();
            }
            self.next().await.unwrap_or_else(|end| panic!("{end:?} before {text:?}"));
        }
    }

    /// Reads all that comes until it has ended, and that nothing comes after.
    pub(crate) async fn end(&mut self) -> Result<ExitStatus, Refusal> {
        loop {
            if let Err(end) = self.next().await {
                assert!(
                    self.reader.next::<ProcessOutput>().await.unwrap().is_none(),
                    "a message after the last"
                );
                return end;
            }
        }
    }

    pub(crate) async fn code(&mut self) -> i32 {
        match self.end().await {
            Ok(ExitStatus::Code(code)) => code,
            other => panic!("{other:?}, output {:?}", String::from_utf8_lossy(&self.output)),
        }
    }

    /// Why the agent refused the channel.
    pub(crate) async fn refusal(&mut self) -> String {
        reason(self.reader.next::<ProcessOutput>().await.expect_err("a refusal"))
    }
}

pub(crate) fn reason(error: MessageError) -> String {
    match error {
        MessageError::Io(error) => ResetReason::of(&error).unwrap_or_else(|| panic!("{error}")).0.clone(),
        other => panic!("{other}"),
    }
}
