//! The command line. The comments here are the help.
#![expect(clippy::doc_markdown, reason = "backticks would show in the help")]

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Develops in the cluster with the files of this machine.
///
/// `towline up` turns a running workload into a development container, keeps the local folder and the container's
/// folder the same in both directions, forwards ports and runs your command. `towline down` puts everything back
/// exactly as it was.
#[derive(Debug, Parser)]
#[command(name = "towline", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What every verb understands.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The manifest; else okteto.yml, okteto.yaml or one of these in .okteto/, here or in a folder above.
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The namespace; else $TOWLINE_NAMESPACE, $OKTETO_NAMESPACE, the context's own.
    #[arg(short, long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// The kubeconfig context, or `embedded`; else $TOWLINE_CONTEXT, $OKTETO_CONTEXT, the kubeconfig's current one.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// How to say what happens: for people, as plain lines, or one JSON object a line.
    #[arg(long, global = true, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Output>,
    /// Accepts a cluster whose certificate is not checked (`insecure-skip-tls-verify`).
    #[arg(long, global = true)]
    pub(crate) allow_insecure_cluster: bool,
}

impl Global {
    /// Returns the same with another manifest, where one is named.
    pub(crate) fn with_file(&self, file: Option<&PathBuf>) -> Self {
        Self { file: file.cloned().or_else(|| self.file.clone()), ..self.clone() }
    }
}

/// The forms of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For a terminal.
    Human,
    /// Lines without colour or movement.
    Plain,
    /// One object a line, see docs/events.md.
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Up(Up),
    Down(Down),
    Status(Status),
    Exec(Exec),
    Logs(Logs),
    Gc(crate::commands::Gc),
    Doctor(crate::commands::Doctor),
    Sync(crate::commands::Sync),
    Ignore(crate::commands::Ignore),
    Init(crate::commands::Init),
    Validate(Validate),
    Manifest(crate::commands::Manifest),
    Completion(Completion),
}

/// Turns a workload into a development container, or goes on with one.
///
/// Runs until the command ends; dev mode stays on until `towline down`. On a terminal, Enter ~ . leaves at once.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct Up {
    /// The dev services of the manifest; may be left out when there is only one.
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// All dev services of the manifest.
    #[arg(long, conflicts_with = "names")]
    pub(crate) all: bool,
    /// Runs instead of the manifest's command.
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
    /// Returns when everything is ready; the session goes on in the background.
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) detach: bool,
    /// Shows what would change in the cluster, and changes nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Takes the workload from whoever holds it.
    #[arg(long)]
    pub(crate) takeover: bool,
    /// What to do about controllers that would undo dev mode: Argo CD, Flux, KEDA. See docs/controllers.md.
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub(crate) gitops: Gitops,
    /// Changes the workload's own pod template instead of making a clone.
    #[arg(long, conflicts_with = "swap")]
    pub(crate) in_place: bool,
    /// Makes a clone of the workload and turns the workload off, where that is not its kind's own way.
    #[arg(long)]
    pub(crate) swap: bool,
    /// What to do when somebody else changes a workload that is changed in place.
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub(crate) on_change: OnChange,
    /// Agrees to the manifest with this hash, as the question about it shows it.
    #[arg(long, value_name = "HASH")]
    pub(crate) trust_manifest: Option<String>,
    /// Agrees to deletions that sync would otherwise stop for.
    #[arg(long)]
    pub(crate) approve_deletions: bool,
    /// Set for the process that `--detach` leaves behind.
    #[arg(long, hide = true)]
    pub(crate) detached: bool,
}

/// What to do about controllers that would undo dev mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Gitops {
    /// Leave them alone; where dev mode would not last, don't begin.
    #[default]
    Leave,
    /// Ask about each, where there is something to pause.
    Ask,
    /// Set their own pause until dev mode ends.
    Pause,
}

/// What to do when somebody else changes a workload that is changed in place.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum OnChange {
    /// Takes the change into the session: the dev container is made anew.
    #[default]
    Rebase,
    /// Goes on as it is: the change comes into force with `towline down`.
    Keep,
    /// Ends dev mode.
    Leave,
}

/// Ends dev mode: the original workload runs again as before, nothing of ours is left.
///
/// Needs no manifest and no file of this machine: the record in the cluster leads back.
#[derive(Debug, Clone, Args)]
pub(crate) struct Down {
    /// The workload or dev service; may be left out when only one is in dev mode.
    pub(crate) name: Option<String>,
    /// Ends all sessions of the namespace.
    #[arg(long, conflicts_with = "name")]
    pub(crate) all: bool,
    /// Ends sessions of others that are still alive, without asking.
    #[arg(long)]
    pub(crate) force: bool,
    /// Removes the volume claim that keeps files between sessions as well, with all that is in it.
    #[arg(long)]
    pub(crate) volumes: bool,
}

/// Shows who develops on what, and how far sync is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Status {
    /// The workload or dev service; all when left out.
    pub(crate) name: Option<String>,
}

/// Runs a command in the development container, a shell if none is given.
#[derive(Debug, Clone, Args)]
pub(crate) struct Exec {
    /// The workload or dev service; may be left out when only one is in dev mode.
    pub(crate) name: Option<String>,
    /// The command.
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

/// Shows the output of the development container.
#[derive(Debug, Clone, Args)]
pub(crate) struct Logs {
    /// The workload or dev service; may be left out when only one is in dev mode.
    pub(crate) name: Option<String>,
    /// Goes on as new lines come. (`-f` is the manifest.)
    #[arg(long)]
    pub(crate) follow: bool,
    /// Only the last lines.
    #[arg(long, value_name = "LINES")]
    pub(crate) tail: Option<u32>,
    /// Of the container's previous run.
    #[arg(long)]
    pub(crate) previous: bool,
}

/// Checks the manifest and says everything that is wrong with it.
///
/// Ends with 0 when it is valid, 1 when it is not, 2 when the command line is wrong.
#[derive(Debug, Clone, Args)]
pub(crate) struct Validate {
    /// The manifest, like --file.
    #[arg(value_name = "FILE", conflicts_with = "file")]
    pub(crate) manifest: Option<PathBuf>,
}

/// Prints the completions of a shell.
#[derive(Debug, Clone, Args)]
pub(crate) struct Completion {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}
