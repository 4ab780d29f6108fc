//! Runs containers' processes apart from us: they outlive us, and how they end is written down for whoever asks.
//!
//! A small shell is the parent of each. It waits, and writes the exit code into a file; so nothing is lost when no
//! command of ours runs, and the code of a process is known to processes that are not its parents. A process is
//! named by its id and the time it started, so that no signal ever goes to another that got the same id.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::store::remove_file;

/// In the environment of all of a container's processes, so that all can be found: `<pod>/<container>`.
pub(super) const MARK: &str = "TOWLINE_CONTAINER";

/// `$1`: where the exit code goes, `$2`: the log, the rest: the program. It says the program's process id, which is
/// its own child's. The program runs in the foreground, since a shell makes what runs behind it deaf to SIGINT;
/// caught signals are the default again for a child, so that only the shell itself outlives them.
const SUPERVISOR: &str = r#"
report=$1 log=$2
shift 2
exec 3>&1 >>"$log" 2>&1
trap : TERM INT HUP QUIT
/bin/sh -c 'echo $$ >&3; exec 3>&-; exec "$@"' sh "$@"
echo $? >"$report"
"#;

/// How long a killed process may take to go; the kernel needs milliseconds.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// One process among all that ever had its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pid: i32,
    /// In clock ticks since the machine started.
    start: u64,
}

/// A container's processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Running {
    /// The machine's start: process ids mean nothing after the next.
    boot: String,
    /// The process group, named by the shell's id.
    group: i32,
    supervisor: Option<Process>,
    main: Option<Process>,
}

/// What has become of a container's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It runs; this process ends when that changes.
    Alive(Process),
    /// It ended with this code: 128 plus the signal after one, as shells count.
    Ended(i32),
}

/// What is to be run.
#[derive(Debug)]
pub(super) struct Program<'a> {
    /// An absolute path.
    pub(super) path: &'a Path,
    pub(super) arguments: &'a [String],
    /// All of it: nothing of ours is passed on.
    pub(super) environment: &'a [(String, String)],
    pub(super) workdir: &'a Path,
    /// Where the exit code is to be written.
    pub(super) report: &'a Path,
    pub(super) log: &'a Path,
}

/// Starts a program in a process group of its own, on no terminal. Must be called within a Tokio runtime, which
/// reaps the shell.
pub(super) fn start(program: &Program<'_>) -> io::Result<Running> {
    remove_file(program.report)?;
    let (reader, writer) = io::pipe()?;
    let mut command = tokio::process::Command::new("/bin/sh");
    command.args(["-c", SUPERVISOR, "sh"]).args([program.report, program.log, program.path]);
    command
        .args(program.arguments)
        .env_clear()
        .envs(program.environment.iter().map(|(name, value)| (name, value)));
    command.current_dir(program.workdir).process_group(0);
    command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::null());
    let child = command.spawn()?;
    // Ours is closed with it, so that the shell's end is the end of the pipe.
    drop(command);
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let supervisor = pid.and_then(identify);
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line)?;
    let main = line.trim().parse().ok().and_then(identify);
    let group = pid.ok_or_else(|| io::Error::other("no process id"))?;
    Ok(Running { boot: boot_id(), group, supervisor, main })
}

impl Running {
    /// Tells whether the process still runs; `report` is where its exit code was to be written.
    pub(super) fn life(&self, report: &Path) -> Life {
        if let Some(code) = read_report(report) {
            return Life::Ended(code);
        }
        if let Some(process) = self.living().next() {
            return Life::Alive(process);
        }
        // It may have been written just before the shell ended. Else the shell was killed, and with it the answer.
        Life::Ended(read_report(report).unwrap_or(137))
    }

    /// Asks the process group to end.
    pub(super) fn terminate(&self) {
        let in_group = |process: Process| Stat::of(process.pid).is_some_and(|stat| stat.group == self.group);
        if self.living().any(in_group)
            && let Some(group) = Pid::from_raw(self.group)
        {
            // It may have ended in between, which is what was wanted.
            let _ = kill_process_group(group, Signal::TERM);
        }
    }

    /// The shell first: it writes the report after the program has ended.
    fn living(&self) -> impl Iterator<Item = Process> {
        let same_boot = self.boot == boot_id();
        [self.supervisor, self.main]
            .into_iter()
            .flatten()
            .filter(move |process| same_boot && process.is_alive())
    }
}

impl Process {
    fn is_alive(self) -> bool {
        identify(self.pid) == Some(self)
    }

    /// Returns a descriptor that becomes readable when the process ends; `None` when it has ended.
    pub(super) fn watch(self) -> Option<OwnedFd> {
        let descriptor = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::NONBLOCK).ok()?;
        // Asked after opening: now it can't be another process with the same id.
        self.is_alive().then_some(descriptor)
    }
}

/// Kills every process that carries the mark: of a container, or of a whole pod when `mark` ends in a slash.
/// Tells whether all of them are gone.
pub(super) fn kill_marked(mark: &str) -> bool {
    // A process may start another while we look; each round finds those of the round before.
    for _ in 0..20 {
        let found = find_marked(mark);
        if found.is_empty() {
            return true;
        }
        for process in &found {
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
        if !wait_for_end(&found) {
            return false;
        }
    }
    false
}

fn find_marked(mark: &str) -> Vec<OwnedFd> {
    let wanted = format!("{MARK}={mark}");
    let carries_mark = |pid: i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| {
            if wanted.ends_with('/') {
                entry.starts_with(wanted.as_bytes())
            } else {
                entry == wanted.as_bytes()
            }
        })
    };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if !carries_mark(pid) {
            continue;
        }
        let Some(descriptor) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok())
        else {
            continue;
        };
        // Asked again after opening: now it can't be another process with the same id.
        if carries_mark(pid) && Stat::of(pid).is_some_and(|stat| stat.lives) {
            found.push(descriptor);
        }
    }
    found
}

fn wait_for_end(processes: &[OwnedFd]) -> bool {
    let patience = Timespec { tv_sec: KILL_PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    processes.iter().all(|process| {
        let mut set = [PollFd::new(process, PollFlags::IN)];
        matches!(poll(&mut set, Some(&patience)), Ok(1))
    })
}

fn read_report(report: &Path) -> Option<i32> {
    // Without the line's end it is not whole yet.
    fs::read_to_string(report).ok()?.strip_suffix('\n')?.parse().ok()
}

/// What `/proc/PID/stat` says (`proc_pid_stat(5)`).
#[derive(Debug)]
struct Stat {
    lives: bool,
    group: i32,
    start: u64,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the name in brackets, which may hold anything.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let state = *fields.first()?;
        Some(Self {
            lives: !matches!(state, "Z" | "X" | "x"),
            group: fields.get(2)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    }
}

fn identify(pid: i32) -> Option<Process> {
    let stat = Stat::of(pid)?;
    stat.lives.then_some(Process { pid, start: stat.start })
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Tells whether the file can be run.
pub(super) fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Finds a program in the folders of a `PATH`.
pub(super) fn find_in_path(program: &OsStr, path: &str) -> Option<std::path::PathBuf> {
    let folders = path.split(':').filter(|folder| !folder.is_empty());
    folders.map(|folder| Path::new(folder).join(program)).find(|candidate| is_executable(candidate))
}
