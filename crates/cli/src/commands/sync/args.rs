//! The command line of `towline sync`. The comments here are the help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use towline_sync_core::reconcile::Mode;

/// Makes two folders equal, or keeps them so; needs no cluster.
///
/// What both sides last had is remembered on this machine, so that a deletion is told from a file that is new. On a
/// conflict the bytes of SRC keep the name and the others are kept apart. The first time nothing is deleted or
/// overwritten in SRC. The rules of SRC/.stignore are in force on both sides. See docs/sync.md.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct Sync {
    #[command(subcommand)]
    pub(super) verb: Option<SyncVerb>,
    /// The folder on this machine; its content counts where nothing was agreed on yet. (A folder named like one of the
    /// commands below is written ./undo.)
    #[arg(value_name = "SRC", required = true)]
    pub(super) source: Option<PathBuf>,
    /// The other folder, made when it is missing.
    #[arg(value_name = "DST", required_unless_present = "to")]
    pub(super) destination: Option<PathBuf>,
    /// A command whose standard input and output reach `towline-agent serve --root DIR`: by ssh, docker exec, kubectl exec.
    #[arg(long, value_name = "COMMAND", conflicts_with = "destination")]
    pub(super) to: Option<String>,
    /// Goes on, until interrupted, with every change as it is made.
    #[arg(long, conflicts_with = "once")]
    pub(super) watch: bool,
    /// Ends when both sides are equal; this is what is done without --watch.
    #[arg(long)]
    pub(super) once: bool,
    /// Shows what would be done, and does nothing.
    #[arg(long, conflicts_with_all = ["watch", "stats", "approve_deletions"])]
    pub(super) dry_run: bool,
    /// Which way changes travel.
    #[arg(long, value_enum, default_value_t = SyncMode::TwoWay)]
    pub(super) mode: SyncMode,
    /// Ignore rules, instead of SRC/.stignore.
    #[arg(long, value_name = "FILE")]
    pub(super) ignore: Option<PathBuf>,
    /// Packs all that goes to the agent; without it the first 4 MiB after a pause, and more where the link is slow.
    #[arg(long, conflicts_with = "destination")]
    pub(super) compress: bool,
    /// How often both sides are looked through although nothing is known to have changed: 30s, 5m, 1h.
    #[arg(long, value_name = "TIME", value_parser = interval, default_value = "5m")]
    pub(super) rescan_interval: Duration,
    /// With --watch, starts COMMAND again when it ends.
    #[arg(long, requires = "to", requires = "watch")]
    pub(super) retry: bool,
    /// Says at the end what it took: files, bytes, time, processor and memory of both ends; a JSON object where no terminal reads it.
    #[arg(long)]
    pub(super) stats: bool,
    /// Agrees to deletions that sync would otherwise stop for.
    #[arg(long)]
    pub(super) approve_deletions: bool,
    /// Syncs two folders although another program seems to keep them equal, too.
    #[arg(long)]
    pub(super) beside_others: bool,
}

/// What can be asked about folders that were synced.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum SyncVerb {
    Undo(Undo),
    Conflicts(Conflicts),
    Explain(Explain),
}

/// Brings back what sync has replaced or deleted.
///
/// What stands there now is kept in its turn. Without PATH it is what was replaced or deleted since the sync of the
/// folder around here was last begun. What went in a folder that an agent has comes back there with --to; of each path it
/// is the version that went last, on either side.
#[derive(Debug, Clone, Args)]
pub(super) struct Undo {
    /// What to bring back, in the version that went last; of a folder, all that is kept of what was in it.
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    /// Brings back what an agent has replaced or deleted, too: the command that it was synced with or, for the container of
    /// `towline up`, any that reaches its agent.
    #[arg(long, value_name = "COMMAND")]
    pub(super) to: Option<String>,
    /// Only shows what could be brought back, every version of it.
    #[arg(long)]
    pub(super) list: bool,
}

/// Shows whose bytes are kept because both sides had changed a file.
#[derive(Debug, Clone, Args)]
pub(super) struct Conflicts {
    /// Only of this file or folder.
    #[arg(value_name = "PATH")]
    pub(super) path: Option<PathBuf>,
}

/// Says why a path is synced, or not.
#[derive(Debug, Clone, Args)]
pub(super) struct Explain {
    /// The path, in either folder; it need not exist.
    #[arg(value_name = "PATH", required = true)]
    pub(super) paths: Vec<PathBuf>,
}

/// Which way changes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum SyncMode {
    /// Both ways.
    TwoWay,
    /// From SRC; what changes in DST stays there until the same path changes in SRC.
    LocalToRemote,
    /// To SRC, never over a change made there.
    RemoteToLocal,
    /// DST is made equal to SRC.
    Mirror,
}

impl From<SyncMode> for Mode {
    fn from(mode: SyncMode) -> Self {
        match mode {
            SyncMode::TwoWay => Self::TwoWay,
            SyncMode::LocalToRemote => Self::LocalToRemote,
            SyncMode::RemoteToLocal => Self::RemoteToLocal,
            SyncMode::Mirror => Self::Mirror,
        }
    }
}

/// Reads a time such as `5m`; a number alone is in seconds.
fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| format!("{text}s"));
    let span: jiff::SignedDuration =
        seconds.as_deref().unwrap_or(text).parse().map_err(|_| "a time such as 30s, 5m or 1h".to_owned())?;
    let time = Duration::try_from(span).map_err(|_| "a time that is not negative".to_owned())?;
    if time < Duration::from_secs(1) { Err("a second or more".to_owned()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        for (text, expected) in [
            ("30s", Some(30)),
            ("30", Some(30)),
            ("5m", Some(300)),
            ("1h30m", Some(5400)),
            ("0", None),
            ("-5m", None),
            ("10ms", None),
            ("soon", None),
            ("", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(interval(text).ok(), expected.map(Duration::from_secs), "{text}");
        }
    }
}
