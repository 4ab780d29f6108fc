//! A sync is killed at every system call that changes something, and has each of them fail once.
//!
//! Two processes sync two folders over pipes; one of them is traced and hit. Right after that, every file of both
//! folders is whole and known. Then a sync that nobody disturbs must lead to just what an undisturbed one leads to:
//! the same trees, the same kept conflicts, no leftovers. Needs `strace`; without it there is nothing to be seen.
//!
//! `TOWLINE_SIM=1` goes through all calls that change something, and otherwise a few are picked. Arguments name scripts.
//! With `TOWLINE_PROGRAMS`, a folder with `towline` and `towline-agent`, it is these that are run: one of all their
//! processes is hit, and what both folders last agreed on is what the command keeps of it.

#![expect(clippy::print_stdout, reason = "a test with a main of its own")]
#![expect(clippy::disallowed_methods, reason = "says how much is tried")]

mod actors;
mod scripts;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tempfile::TempDir;
use towline_sync_core::path::STAGE_DIR;

use scripts::{BEGINNING, SCRIPTS, Script, make};

/// What changes a disk or tells the other side something. strace counts the calls of each kind by themselves.
const CALLS: &[&str] = &[
    "openat",
    "write",
    "pwrite64",
    "rename",
    "renameat",
    "renameat2",
    "unlinkat",
    "mkdirat",
    "symlinkat",
    "linkat",
    "fchmod",
    "fsync",
    "fdatasync",
    "syncfs",
    "ftruncate",
    "fallocate",
    "utimensat",
    "copy_file_range",
    "exit_group",
];
/// How calls fail, and which may fail in this way. Not `write`, which wakes threads, too, and then can't fail so.
const ERRORS: &[(&str, &[&str])] = &[
    ("ENOSPC", &["openat", "mkdirat", "symlinkat", "linkat", "renameat", "renameat2", "copy_file_range"]),
    (
        "EIO",
        &["fsync", "fdatasync", "syncfs", "unlinkat", "utimensat", "read", "pread64", "statx", "readlinkat"],
    ),
    ("EACCES", &["openat2", "renameat", "renameat2", "unlinkat", "mkdirat", "fchmod", "statx"]),
    ("EMFILE", &["openat2", "getdents64"]),
];
/// Calls that only look: of these, one in so many is hit.
const LOOKS: (&[&str], usize) =
    (&["openat", "openat2", "getdents64", "read", "pread64", "statx", "readlinkat"], 5);
/// With little time, one row in so many is gone through,
const QUICK_ROWS: usize = 11;
/// and so many of its points.
const QUICK_POINTS: usize = 2;
/// No process makes so many calls here.
const MOST: usize = 2000;

/// Who is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Engine,
    Replica,
}

/// What happens to the victim at its so many-th call of a kind.
#[derive(Debug, Clone, Copy)]
enum Hit {
    Kill(&'static str),
    Fail(&'static str, &'static str),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["engine", place] => match actors::engine(Path::new(place)) {
            Ok(code) => code,
            Err(error) => {
                println!("{error}");
                ExitCode::FAILURE
            }
        },
        ["replica"] => actors::replica(),
        ref names => suite(names),
    }
}

fn suite(names: &[&str]) -> ExitCode {
    if Command::new("strace").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("left out: strace is not installed");
        return ExitCode::SUCCESS;
    }
    let names: Vec<&str> = names.iter().copied().filter(|name| !name.starts_with('-')).collect();
    let all = std::env::var("TOWLINE_SIM").is_ok();
    let errors = ERRORS.iter().flat_map(|(error, calls)| calls.iter().map(|call| Hit::Fail(error, call)));
    let hits: Vec<Hit> = CALLS.iter().map(|call| Hit::Kill(call)).chain(errors).collect();
    let victims =
        if programs().is_some() { &[Victim::Engine][..] } else { &[Victim::Engine, Victim::Replica] };
    let chosen = SCRIPTS.iter().filter(|script| names.is_empty() || names.contains(&script.name));
    let rows: Vec<(&Script, Victim, Hit)> = chosen
        .flat_map(|script| victims.iter().map(move |victim| (script, *victim)))
        .flat_map(|(script, victim)| hits.iter().map(move |hit| (script, victim, *hit)))
        .step_by(if all { 1 } else { QUICK_ROWS })
        .collect();
    let (began, next, points, failed) =
        (Instant::now(), AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((script, victim, hit)) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let tried = std::panic::catch_unwind(|| row(script, *victim, *hit, all, &points));
                    failed.fetch_add(usize::from(tried.is_err()), Ordering::Relaxed);
                }
            });
        }
    });
    let (points, failed) = (points.into_inner(), failed.into_inner());
    println!("crash points: {points} in {:.1} s", began.elapsed().as_secs_f64());
    // A suite that hits nothing proves nothing.
    let failed = failed + usize::from(names.is_empty() && points < if all { 1000 } else { 20 });
    println!("{points} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Goes through the points of one script, one victim and one kind of hit.
fn row(script: &Script, victim: Victim, hit: Hit, all: bool, points: &AtomicUsize) {
    let scene = Scene::new(script);
    let expected = scene.undisturbed();
    let (Hit::Kill(call) | Hit::Fail(_, call)) = hit;
    let step = match (all, LOOKS.0.contains(&call)) {
        (true, false) => 1,
        (true, true) => LOOKS.1,
        (false, _) => 3,
    };
    for (tried, number) in (1..MOST).step_by(step).enumerate() {
        if !all && tried == QUICK_POINTS {
            return;
        }
        let place = scene.fresh();
        let (status, trace) = run(place, Some((victim, hit, number)));
        if trace.is_empty() {
            return;
        }
        points.fetch_add(1, Ordering::Relaxed);
        let case = format!("{} {victim:?} {hit:?} {number} ({status}):\n{trace}", script.name);
        let said = fs::read_to_string(place.join("said")).unwrap();
        assert!(!said.contains("hangs"), "{case}\n{said}");
        scene.check_whole(place, &case);
        let (status, _) = run(place, None);
        let said = fs::read_to_string(place.join("said")).unwrap();
        assert!(status.success(), "{case}\nafter it: {status}: {said}");
        let now = Outcome::of(place);
        assert_eq!(now, expected, "{case}");
    }
    panic!("{} {victim:?} {hit:?}: no end", script.name);
}

/// A script's folders before the sync.
struct Scene {
    before: TempDir,
    /// Where they are put for each sync: what is known of a folder is known by its path.
    place: TempDir,
    /// Every content that is anywhere.
    known: BTreeSet<Vec<u8>>,
}

/// What a sync leads to.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    trees: [BTreeMap<PathBuf, String>; 2],
    conflicts: BTreeMap<PathBuf, String>,
    leftovers: Vec<PathBuf>,
}

impl Scene {
    fn new(script: &Script) -> Self {
        let [before, temp] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let place = temp.path();
        for side in ["local", "remote", "keep"] {
            fs::create_dir(place.join(side)).unwrap();
        }
        make(&place.join("local"), BEGINNING);
        let (status, _) = run(place, None);
        assert!(status.success(), "{status}: {}", fs::read_to_string(place.join("said")).unwrap());
        make(&place.join("local"), script.local);
        make(&place.join("remote"), script.remote);
        let files = ["local", "remote"].map(|side| contents(&place.join(side)));
        let known = files.into_iter().flatten().map(|(_, content)| content).collect();
        copy(place, before.path());
        Self { before, place: temp, known }
    }

    fn fresh(&self) -> &Path {
        let place = self.place.path();
        empty(place);
        copy(self.before.path(), place);
        place
    }

    fn undisturbed(&self) -> Outcome {
        let place = self.fresh();
        let (status, _) = run(place, None);
        assert!(status.success(), "{status}");
        let outcome = Outcome::of(place);
        assert_eq!(outcome.trees[0], outcome.trees[1]);
        outcome
    }

    /// Every file has a content that somebody wrote.
    fn check_whole(&self, place: &Path, case: &str) {
        for side in ["local", "remote"] {
            for (path, content) in contents(&place.join(side)) {
                assert!(self.known.contains(&content), "{side} {} is torn: {case}", path.display());
            }
        }
    }
}

impl Outcome {
    fn of(place: &Path) -> Self {
        let trees = ["local", "remote"].map(|side| tree(&place.join(side)));
        let mut leftovers = Vec::new();
        for folder in ["local", "remote"].map(|side| place.join(side).join(STAGE_DIR)) {
            for part in ["incoming", "displaced"].map(|part| folder.join(part)) {
                let inside = fs::read_dir(part).into_iter().flatten();
                leftovers.extend(inside.map(|entry| entry.unwrap().path()));
            }
        }
        let kept = fs::read_dir(place.join("home/sync")).into_iter().flatten();
        let kept = kept.map(|entry| entry.unwrap().path().join("keep")).chain([place.join("keep")]);
        let conflicts = kept.flat_map(|keep| tree(&keep.join("conflicts"))).collect();
        Self { trees, conflicts, leftovers }
    }
}

/// Runs a sync, and its victim under strace. Returns how the engine ended, and what was traced.
fn run(place: &Path, hit: Option<(Victim, Hit, usize)>) -> (ExitStatus, String) {
    let own = match programs() {
        Some(programs) => programs.join("towline"),
        None => std::env::current_exe().unwrap(),
    };
    let trace = place.join("trace");
    let traced = |victim: Victim| match hit {
        Some((hit_victim, hit, number)) if hit_victim == victim => {
            let mut command = Command::new("strace");
            let (call, how) = match hit {
                Hit::Kill(call) => (call, "signal=KILL".to_owned()),
                Hit::Fail(error, call) => (call, format!("error={error}")),
            };
            command.args(["-f", "-q", "-s", "80", "-o"]).arg(&trace).args(["-e", &format!("trace={call}")]);
            if matches!(hit, Hit::Fail(..)) {
                // Faster, and no signals can be sent.
                command.arg("--seccomp-bpf");
            }
            command.args(["-e", &format!("inject={call}:{how}:when={number}")]).arg(&own);
            command
        }
        _ => Command::new(&own),
    };
    if let Some(programs) = programs() {
        let status = run_programs(place, &programs, traced(Victim::Engine));
        return (status, hits(&trace));
    }
    let mut replica = traced(Victim::Replica);
    replica.arg("replica").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut replica = replica.spawn().unwrap();
    let said = fs::File::create(place.join("said")).unwrap();
    let mut engine = traced(Victim::Engine);
    engine.arg("engine").arg(place).stderr(said);
    engine.stdin(replica.stdout.take().unwrap()).stdout(replica.stdin.take().unwrap());
    let mut running = engine.spawn().unwrap();
    // It holds the pipes open.
    drop(engine);
    let status = running.wait().unwrap();
    replica.wait().unwrap();
    assert_ne!(status.signal(), Some(11), "{status}");
    (status, hits(&trace))
}

/// Returns the lines of a trace that say what was hit.
fn hits(trace: &Path) -> String {
    let trace = fs::read_to_string(trace).unwrap_or_default();
    let hits = trace.lines().filter(|line| line.contains("INJECTED") || line.contains("killed by SIGKILL"));
    hits.take(4).collect::<Vec<_>>().join("\n")
}

/// Returns the folder of the programs that are to be run instead of these two processes.
fn programs() -> Option<PathBuf> {
    std::env::var_os("TOWLINE_PROGRAMS").map(PathBuf::from)
}

/// Runs `towline sync`, by a command that may trace it.
fn run_programs(place: &Path, programs: &Path, mut command: Command) -> ExitStatus {
    let (mut all_ended, inherited) = std::io::pipe().unwrap();
    let agent = format!("{}/towline-agent serve --root remote", programs.display());
    command
        .args(["sync", "local", "--to", &agent])
        .current_dir(place)
        .env("TOWLINE_HOME", place.join("home"));
    command.stdin(Stdio::null()).stdout(fs::File::create(place.join("said")).unwrap()).stderr(inherited);
    let mut running = command.spawn().unwrap();
    // It holds the pipe open, as does each process that is still there.
    drop(command);
    let mut said = Vec::new();
    all_ended.read_to_end(&mut said).unwrap();
    fs::write(place.join("said"), said).unwrap();
    running.wait().unwrap()
}

/// Returns every file's content, but for our own folder.
fn contents(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    walk(root, Path::new(""), &mut |path, at| {
        if at.symlink_metadata().unwrap().is_file() {
            found.push((path.to_owned(), fs::read(at).unwrap()));
        }
    });
    found
}

/// Returns what stands at each path, in words.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    walk(root, Path::new(""), &mut |path, at| {
        let kind = at.symlink_metadata().unwrap();
        let what = if kind.is_symlink() {
            format!("-> {}", fs::read_link(at).unwrap().display())
        } else if kind.is_dir() {
            "folder".to_owned()
        } else {
            let bytes = fs::read(at).unwrap();
            let word = String::from_utf8_lossy(bytes.split(|byte| *byte == b'\n').next().unwrap_or_default());
            format!("{word} of {} bytes, mode {:o}", bytes.len(), kind.permissions().mode() & 0o100)
        };
        found.insert(path.to_owned(), what);
    });
    found
}

fn walk(root: &Path, below: &Path, take: &mut impl FnMut(&Path, &Path)) {
    for entry in fs::read_dir(root.join(below)).into_iter().flatten() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        if path == Path::new(STAGE_DIR) {
            continue;
        }
        take(&path, &entry.path());
        if entry.file_type().unwrap().is_dir() {
            walk(root, &path, take);
        }
    }
}

/// Takes everything out of a folder but the folders that are synced: those must stay the same ones.
fn empty(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("local") || path.ends_with("remote") {
            empty(&path);
        } else if path.symlink_metadata().unwrap().is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_symlink() {
            symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else if kind.is_dir() {
            fs::create_dir_all(&target).unwrap();
            fs::set_permissions(&target, entry.metadata().unwrap().permissions()).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
