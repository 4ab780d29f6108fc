//! The two ends of a sync: what is wrong with them before anything is begun, and how the far one is reached.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use towline_link::{Compression, Config};
use towline_sync::agent::Agent;
use towline_sync::folders::{Relation, other_syncers, relation, resolve};
use towline_sync::{PairOptions, Peer};
use towline_sync_core::engine::EngineConfig;
use towline_sync_core::message::Open;

use super::args::Sync;
use crate::diagnose::Failure;
use crate::exit_code;
use crate::place;

/// How long the agent may take to introduce itself: who reaches it may have to log in first.
const HANDSHAKE: Duration = Duration::from_mins(1);
/// How long a command may take to end when its input has.
const ENDING: Duration = Duration::from_secs(5);

/// Two folders that may be synced.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) source: PathBuf,
    /// The other end, as a person names it.
    pub(super) far_name: String,
    /// The other end, if it is a folder of this machine.
    pub(super) destination: Option<PathBuf>,
    pub(super) ignore: Vec<String>,
    pub(super) ignore_file: Option<PathBuf>,
    /// The pair's private folder.
    pub(super) state: PathBuf,
    /// What the user should know, though nothing stops for it.
    pub(super) warnings: Vec<String>,
}

impl Ends {
    /// Looks at what the command line names.
    pub(super) fn check(args: &Sync) -> Result<Self, Failure> {
        let source = folder(args.source.as_deref().unwrap_or(Path::new(".")))?;
        let home = place::home()?;
        let (destination, far_name) = match (&args.destination, &args.to) {
            (Some(destination), _) => {
                let folder = destination_folder(&source, destination)?;
                let name = folder.display().to_string();
                (Some(folder), name)
            }
            (None, to) => (None, to.clone().unwrap_or_default()),
        };
        let mut warnings = Vec::new();
        check_other_syncers(args, &source, destination.as_deref(), &mut warnings)?;
        let ignore_file = ignore_file(args, &source)?;
        let mut ignore = match &ignore_file {
            Some(file) => towline_sync::ignore_lines(file).map_err(|error| {
                Failure::new(format!("{}: {error}", file.display()))
                    .hint("nothing is synced by rules that are not understood")
            })?,
            None => Vec::new(),
        };
        for folder in std::iter::once(source.as_path()).chain(destination.as_deref()) {
            if let Some(rule) = own_files(folder, &home)? {
                ignore.insert(0, rule);
                warnings.push(format!("{} holds Towline's own files and is left alone", home.display()));
            }
        }
        let state = state_folder(&home, &source, &far_name);
        Ok(Self { source, far_name, destination, ignore, ignore_file, state, warnings })
    }

    /// Returns what the engine is to be told.
    pub(super) fn options(&self, args: &Sync) -> PairOptions {
        let root =
            self.destination.as_ref().map_or_else(|| "/".to_owned(), |folder| folder.display().to_string());
        PairOptions {
            local: self.source.clone(),
            ignore: self.ignore.clone(),
            remote: Open {
                root,
                ignore: self.ignore.clone(),
                excluded: Vec::new(),
                create: true,
                watch: args.watch,
            },
            state: self.state.clone(),
            engine: EngineConfig { mode: args.mode.into(), eager: true, ..EngineConfig::default() },
            protect: false,
        }
    }

    /// Reaches the other end.
    pub(super) async fn reach(&self, args: &Sync) -> Result<(Far, Peer), Failure> {
        let Some(command) = &args.to else {
            return Ok((Far::Here, Peer::here(towline_sync::replica_options(&self.far_keep()))?));
        };
        Far::reach(command, args.compress).await
    }

    /// Returns where the other side's replica keeps what it displaces, if it is one of this machine.
    pub(super) fn far_keep(&self) -> PathBuf {
        self.state.join("far")
    }
}

/// The other end of a sync.
#[derive(Debug)]
pub(super) enum Far {
    /// A folder of this machine.
    Here,
    /// An agent.
    Agent(Box<Reached>),
}

/// An agent, and the process that reaches it.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) agent: Agent,
    process: Child,
}

impl Far {
    /// Reaches the agent behind a command.
    pub(super) async fn reach(command: &str, compress: bool) -> Result<(Self, Peer), Failure> {
        let mut process = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::new(format!("can't run sh: {error}")).code(exit_code::LOST))?;
        let (Some(stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(
                Failure::new("the command has no standard input and output").code(exit_code::INTERNAL)
            );
        };
        let compression = if compress { Compression::Always } else { Compression::Auto };
        let config = Config { compression, handshake_deadline: HANDSHAKE, ..Config::default() };
        let connected = match Agent::connect(stdout, stdin, config).await {
            Ok(agent) => agent.folder().await.map(|peer| (agent, peer)),
            Err(error) => Err(error),
        };
        match connected {
            Ok((agent, peer)) => Ok((Self::Agent(Box::new(Reached { agent, process })), peer)),
            Err(error) => Err(unreachable(command, &error.to_string(), ended(&mut process).await)),
        }
    }

    /// Says why the other side is gone.
    pub(super) async fn why_lost(&mut self, message: &str) -> Failure {
        let Self::Agent(reached) = self else {
            return Failure::new(message).code(exit_code::LOST);
        };
        let Reached { agent, process } = &mut **reached;
        agent.close();
        let why = tokio::time::timeout(ENDING, agent.ended()).await.unwrap_or_default();
        let failure = match ended(process).await {
            Some(status) => Failure::new(format!(
                "the other side is gone: the command of --to ended with {} before its time",
                words(status)
            ))
            .code(code(status)),
            None => Failure::new(format!("the other side is gone: {message}: {why}")).code(exit_code::LOST),
        };
        failure.hint("what was whole is in its place; the same command goes on where this one stopped")
    }

    /// Lets the other side tidy up and waits for it.
    pub(super) async fn close(self) {
        if let Self::Agent(reached) = self {
            let Reached { agent, mut process } = *reached;
            drop(agent);
            // The command ends when its input does.
            let _ = tokio::time::timeout(ENDING, process.wait()).await;
        }
    }
}

/// Waits for a command whose streams are closed; `None` when it does not end by itself.
async fn ended(process: &mut Child) -> Option<ExitStatus> {
    tokio::time::timeout(ENDING, process.wait()).await.ok()?.ok()
}

fn unreachable(command: &str, error: &str, status: Option<ExitStatus>) -> Failure {
    let failure = match status {
        Some(status) if !status.success() => Failure::new(format!(
            "no agent answers behind --to: the command ended with {} ({error})",
            words(status)
        ))
        .code(code(status)),
        Some(_) => Failure::new(format!("no agent answers behind --to: the command ended at once ({error})"))
            .code(exit_code::LOST),
        None => Failure::new(format!("no agent answers behind --to: {error}")).code(exit_code::LOST),
    };
    let failure = failure.hint(format!("does this reach an agent? {command}"));
    if error.contains("it says") {
        failure
            .hint("nothing but the agent may write to standard output: silence banners and shell start files")
    } else if error.contains("version") || error.contains("wire format") {
        failure.hint("copy the towline-agent of this build there")
    } else {
        failure.hint("the command's standard input and output must lead to: towline-agent serve --root DIR")
    }
}

fn words(status: ExitStatus) -> String {
    status.code().map_or_else(|| status.to_string(), |code| format!("code {code}"))
}

/// Passes a command's code on, as long as it says that something is wrong.
fn code(status: ExitStatus) -> u8 {
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .filter(|code| *code != 0)
        .unwrap_or(exit_code::LOST)
}

/// Makes a failure of a replica's refusal to open its folder.
pub(super) fn refused(name: &str, failure: &towline_sync_core::message::Failure) -> Failure {
    /// "Device or resource busy" on Linux.
    const BUSY: i32 = 16;
    let refused = Failure::new(format!("{name} can't be synced: {}", failure.message));
    if failure.errno == BUSY {
        refused
            .hint("two syncs of one folder would undo each other's work: end the other first")
            .code(exit_code::IN_USE)
    } else {
        refused
    }
}

/// Returns the source as a path without links; it must be a folder.
fn folder(path: &Path) -> Result<PathBuf, Failure> {
    let absolute = path.canonicalize().map_err(|error| {
        Failure::new(format!("{}: {error}", path.display()))
            .hint("is it spelled right? sync makes DST, never SRC")
    })?;
    if absolute.is_dir() { Ok(absolute) } else { Err(not_a_folder(path)) }
}

fn not_a_folder(path: &Path) -> Failure {
    Failure::new(format!("{} is not a folder", path.display())).hint("sync works on whole folders")
}

fn destination_folder(source: &Path, destination: &Path) -> Result<PathBuf, Failure> {
    match destination.metadata() {
        Ok(meta) if !meta.is_dir() => return Err(not_a_folder(destination)),
        Err(_) if destination.is_symlink() => {
            return Err(Failure::new(format!(
                "{} is a symbolic link that leads nowhere",
                destination.display()
            ))
            .hint("remove it, or make the folder that it leads to"));
        }
        _ => {}
    }
    let words = |what: &str| {
        Failure::new(format!("{} {what} {}", destination.display(), source.display()))
            .hint("choose folders that are apart")
    };
    match relation(source, destination)? {
        Relation::Apart => Ok(resolve(destination)?),
        Relation::Same => Err(words("is the same folder as")),
        Relation::Inside => Err(words("lies inside of")),
        Relation::Around => Err(words("holds")),
    }
}

fn check_other_syncers(
    args: &Sync,
    source: &Path,
    destination: Option<&Path>,
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
    let here = other_syncers(source);
    let there = destination.map(other_syncers).unwrap_or_default();
    for (syncer, marker) in &here {
        if there.iter().any(|(other, _)| other == syncer) && !args.beside_others {
            return Err(Failure::new(format!("{syncer} seems to sync both folders: both have {marker}"))
                .hint("two programs that keep the same folders equal undo each other's work: end that one")
                .hint("if it does not sync these two with each other: --beside-others"));
        }
    }
    let both = here.iter().map(|found| (source, found));
    let both = both.chain(there.iter().filter_map(|found| Some((destination?, found))));
    for (folder, (syncer, marker)) in both {
        warnings.push(format!("{syncer} seems to sync {}, too: it has {marker}", folder.display()));
    }
    Ok(())
}

fn ignore_file(args: &Sync, source: &Path) -> Result<Option<PathBuf>, Failure> {
    let Some(file) = &args.ignore else {
        let file = source.join(".stignore");
        // A link that leads nowhere is there: what it should say is not known, and that is an error.
        return Ok(file.symlink_metadata().is_ok().then_some(file));
    };
    // Asked for and not there is no reason to sync without rules.
    file.symlink_metadata().map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    Ok(Some(std::path::absolute(file)?))
}

/// Returns the rule that leaves our own files alone, if they lie in a folder that is synced.
fn own_files(folder: &Path, home: &Path) -> Result<Option<String>, Failure> {
    if folder.starts_with(home) {
        return Err(Failure::new(format!("{} lies in Towline's own folder", folder.display()))
            .hint("choose another place for that with TOWLINE_HOME"));
    }
    let Ok(inside) = home.strip_prefix(folder) else { return Ok(None) };
    let mut rule = String::from("/");
    for character in inside.to_string_lossy().chars() {
        if "*?[]{}\\".contains(character) {
            rule.push('\\');
        }
        rule.push(character);
    }
    Ok(Some(rule))
}

fn state_folder(home: &Path, source: &Path, far: &str) -> PathBuf {
    let mut hasher = blake3::Hasher::new();
    hasher.update(source.as_os_str().as_encoded_bytes()).update(b"\0").update(far.as_bytes());
    home.join("sync").join(&hasher.finalize().to_hex()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_files_are_left_alone() {
        let check = |folder: &str, home: &str, expected: Option<&str>| {
            let rule = own_files(Path::new(folder), Path::new(home));
            assert_eq!(rule.unwrap().as_deref(), expected, "{folder} {home}");
        };
        check("/a", "/b/towline", None);
        check("/a/b", "/a/bc", None);
        check("/a", "/a/.state/tow[l]ine*", Some("/.state/tow\\[l\\]ine\\*"));
        assert!(own_files(Path::new("/a/towline/sync"), Path::new("/a/towline")).is_err());
        assert!(own_files(Path::new("/a/towline"), Path::new("/a/towline")).is_err());
    }
}
