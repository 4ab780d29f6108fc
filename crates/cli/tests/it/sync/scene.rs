//! Two folders, the program, and the agent.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use serde_json::Value;
use towline_testkit::TestEnv;

use crate::environment;

/// More than anything here takes, even on a busy machine.
const DEADLINE: Duration = Duration::from_mins(1);

pub(crate) struct Scene {
    pub(crate) env: TestEnv,
}

impl Scene {
    /// Returns a project with the files `src/a` and `src/d/b`.
    pub(crate) fn new() -> Self {
        let mut env = environment();
        env.write("src/a", "one\n").write("src/d/b", "two\n");
        let path = format!("{}:/usr/bin:/bin", agent().parent().expect("it is in a folder").display());
        env.set("PATH", &path);
        Self { env }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.env.project().join(path)
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| format!("{path}: {error}"))
    }

    /// Runs `towline sync`, and returns what [`TestEnv::run`] does, without the times that things took.
    pub(crate) fn sync(&self, arguments: &[&str]) -> String {
        without_seconds(&self.env.run(&[&["sync"], arguments].concat()))
    }

    /// Starts `towline sync --output json`.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.env.command(&[&["sync", "--output", "json"], arguments].concat());
        Running::start(&mut command)
    }
}

/// Returns the agent of this build, built if it is not there.
fn agent() -> &'static Path {
    static AGENT: OnceLock<PathBuf> = OnceLock::new();
    AGENT.get_or_init(|| {
        let towline = Path::new(env!("CARGO_BIN_EXE_towline"));
        let folder = towline.parent().expect("it is in a folder");
        let (profile, target) = (folder.file_name(), folder.parent().expect("a profile is in a folder"));
        let profile = profile.and_then(|name| name.to_str()).filter(|name| *name != "debug").unwrap_or("dev");
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--offline",
                "-p",
                "towline-agent",
                "--profile",
                profile,
                "--target-dir",
            ])
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.expect("cargo runs this").success(), "the agent can't be built");
        folder.join("towline-agent")
    })
}

/// Replaces a time in seconds at the end of a line.
fn without_seconds(report: &str) -> String {
    let mut text = String::new();
    for line in report.lines() {
        let seconds = line.strip_suffix(" s").and_then(|line| line.rsplit_once(", "));
        match seconds {
            Some((before, seconds)) if seconds.parse::<f64>().is_ok() => {
                text.push_str(before);
                text.push_str(", [SECONDS]");
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// A program that goes on. It is killed when it takes too long, and when this is dropped.
pub(crate) struct Running {
    process: Child,
    lines: Receiver<Value>,
    /// Dropped when it has ended.
    watchdog: Option<Sender<()>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let (line_tx, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let value = serde_json::from_str(&line.unwrap()).unwrap();
                if line_tx.send(value).is_err() {
                    return;
                }
            }
        });
        let (watchdog, bark) = channel::<()>();
        let pid = process.id();
        std::thread::spawn(move || {
            if bark.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
                signal(pid, "KILL");
            }
        });
        Self { process, lines, watchdog: Some(watchdog) }
    }

    /// Waits for the next event of a kind that fits.
    pub(crate) fn until(&self, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Vec::new();
        while let Ok(event) = self.lines.recv_timeout(DEADLINE) {
            if event["kind"] == kind && fits(&event) {
                return event;
            }
            seen.push(event.to_string());
        }
        panic!("no {kind} came, but:\n{}", seen.join("\n"));
    }

    /// Waits until both sides are equal.
    pub(crate) fn until_in_sync(&self) {
        self.until("inSync", |_| true);
    }

    /// Waits until this path was brought to a side.
    pub(crate) fn until_synced(&self, to: &str, path: &str) {
        self.until("synced", |event| event["to"] == to && event["path"] == path);
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.process.id(), name);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it ends, and returns its exit code and what it said on standard error.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let mut words = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut words).unwrap();
        let code = self.process.wait().unwrap().code();
        self.watchdog = None;
        (code, words)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.watchdog.is_some() {
            // It may have ended.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// Sends a signal.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(sent.unwrap().success());
}
