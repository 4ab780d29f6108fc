//! The `towline` program as a process: started, read, ended.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::adapter::Adapter;
use crate::log::Log;
use crate::program;
use crate::project::Project;
use crate::variables;
use crate::waiting::PATIENCE;

/// How `towline` is called: from which folder, as whom, with which variables.
#[derive(Debug, Clone)]
pub struct Towline {
    folder: PathBuf,
    variables: Vec<(String, String)>,
    arguments: Vec<String>,
}

/// A call that is over.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output as it was.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Standard output as events.
    pub log: Log,
}

impl Finished {
    /// Fails unless the call ended with this code.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "often the code is all that matters")]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code; stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

impl Towline {
    /// Calls from a project's folder as its user.
    pub fn new(adapter: &dyn Adapter, project: &Project) -> Self {
        let words = [("PATH", variables::text("PATH").unwrap_or_default()), ("USER", "ann".to_owned())];
        let home = project.home().display().to_string();
        let folders = [("HOME", home.clone()), ("TOWLINE_HOME", home)];
        let mut all: Vec<_> =
            words.into_iter().chain(folders).map(|(name, value)| (name.to_owned(), value)).collect();
        all.extend(adapter.variables(&project.home()));
        Self { folder: project.folder(), variables: all, arguments: adapter.arguments() }
    }

    /// The same with another variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same in another namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.arguments.retain(|argument| !argument.starts_with("--namespace="));
        self.arguments.push(format!("--namespace={namespace}"));
        self
    }

    /// Returns the command for the arguments; what follows `--` stays last.
    pub fn command(&self, arguments: &[&str], form: &str) -> Command {
        let mut command = Command::new(program::towline());
        let output = format!("--output={form}");
        command
            .args(arguments.iter().take(1))
            .args(&self.arguments)
            .arg(output)
            .args(arguments.iter().skip(1))
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .kill_on_drop(true);
        command
    }

    /// Runs to the end, with nothing on standard input.
    pub async fn run(&self, arguments: &[&str]) -> Finished {
        self.run_with_input(arguments, b"").await
    }

    /// Runs to the end, with this on standard input.
    pub async fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Finished {
        let mut child = self
            .command(arguments, "json")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("towline can be started");
        let mut stdin = child.stdin.take().expect("it is piped");
        // A program that does not read its input closes it early.
        let feeding = async {
            let _ = stdin.write_all(input).await;
            drop(stdin);
        };
        let running = async { tokio::join!(feeding, child.wait_with_output()).1 };
        let output = tokio::time::timeout(PATIENCE, running)
            .await
            .unwrap_or_else(|_| panic!("towline {arguments:?} did not end within {PATIENCE:?}"))
            .expect("its output can be read");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let stdout = text(&output.stdout);
        let log = Log::read(&stdout);
        Finished { code: output.status.code(), stdout, stderr: text(&output.stderr), log }
    }

    /// Starts and lets run. Standard input stays open and empty.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut child = self
            .command(arguments, "json")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("towline can be started");
        let (line_tx, line_rx) = mpsc::channel(4096);
        let stdout = child.stdout.take().expect("it is piped");
        let mut stderr = child.stderr.take().expect("it is piped");
        let reader = tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if line_tx.send(line).await.is_err() {
                    return;
                }
            }
        });
        let talk = tokio::spawn(async move {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text).await;
            String::from_utf8_lossy(&text).into_owned()
        });
        let what = arguments.join(" ");
        Running { what, child, line_rx, log: Log::default(), read: 0, reader, talk }
    }
}

/// A call that goes on. It is killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    what: String,
    child: Child,
    line_rx: mpsc::Receiver<String>,
    log: Log,
    /// How many events were taken by [`Running::until`].
    read: usize,
    reader: JoinHandle<()>,
    talk: JoinHandle<String>,
}

impl Running {
    /// Returns the events so far.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Takes events up to one that is wanted and returns it; what was taken before is not looked at again.
    pub async fn until(&mut self, wanted: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let found = self.next_where(wanted, |event| is_wanted(event) || event["kind"] == "error").await;
        match found {
            Some(event) if is_wanted(&event) => event,
            _ => self.fail(&format!("ended before: {wanted}")).await,
        }
    }

    /// Takes events up to one that is wanted, or `None` when the program ends without it.
    pub async fn next_where(&mut self, wanted: &str, is_wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            while let Some(event) = self.log.events.get(self.read) {
                self.read += 1;
                if is_wanted(event) {
                    return Some(event.clone());
                }
            }
            match tokio::time::timeout_at(deadline, self.line_rx.recv()).await {
                Ok(Some(line)) => match serde_json::from_str(&line) {
                    Ok(event) => self.log.events.push(event),
                    Err(error) => self.fail(&format!("a line is no JSON ({error}): {line}")).await,
                },
                Ok(None) => return None,
                Err(_) => self.fail(&format!("not within {PATIENCE:?}: {wanted}")).await,
            }
        }
    }

    /// Takes events up to a state.
    pub async fn until_state(&mut self, state: &str) -> Value {
        self.until(&format!("state {state}"), |event| event["kind"] == "state" && event["state"] == state)
            .await
    }

    /// Takes events up to a file's arrival on a side, or its deletion there.
    pub async fn until_synced(&mut self, to: &str, path: &str, deleted: bool) {
        self.until_all_synced(to, &[(path, deleted)]).await;
    }

    /// The same for several files, in whatever order they come.
    pub async fn until_all_synced(&mut self, to: &str, files: &[(&str, bool)]) {
        let mut missing = files.to_vec();
        while !missing.is_empty() {
            let what = format!("synced to {to} (path, deleted): {missing:?}");
            let is_wanted = |event: &Value, (path, deleted): &(&str, bool)| {
                event["kind"] == "synced"
                    && event["to"] == to
                    && event["path"] == *path
                    && event["deleted"] == *deleted
            };
            let event = self.until(&what, |event| missing.iter().any(|file| is_wanted(event, file))).await;
            missing.retain(|file| !is_wanted(&event, file));
        }
    }

    /// Fails with everything that was told.
    async fn fail(&mut self, why: &str) -> ! {
        let _ = self.child.kill().await;
        let talk = (&mut self.talk).await.unwrap_or_default();
        panic!("towline {}: {why}\nevents:\n{}stderr:\n{talk}", self.what, self.log)
    }

    /// Ends it at once, as `kill -9` does.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it is our process");
    }

    /// Asks it to leave, as the end of a terminal session does.
    pub async fn terminate(&self) {
        let pid = self.child.id().expect("it still runs").to_string();
        let status = Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill is there");
        assert!(status.success());
    }

    /// Waits for the end and returns everything.
    pub async fn ended(mut self) -> Finished {
        while self.next_where("the end", |_| false).await.is_some() {}
        let status: ExitStatus = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("towline {} closed its output and goes on", self.what))
            .expect("it is our process");
        let stderr = (&mut self.talk).await.unwrap_or_default();
        let stdout = self.log.to_string();
        Finished { code: status.code(), stdout, stderr, log: std::mem::take(&mut self.log) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.reader.abort();
        self.talk.abort();
    }
}
