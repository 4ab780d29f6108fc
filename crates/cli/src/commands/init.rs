//! `towline init`. The comments on [`Init`] are its help.

mod ecosystem;
mod proposal;
mod survey;
mod workloads;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use towline_manifest::{Context, Source};

use self::proposal::Proposal;
use super::Outcome;
use crate::args::Global;
use crate::diagnose::Failure;
use crate::env_vars;
use crate::exit_code;
use crate::project::LocalDisk;
use crate::ui::Ui;

/// Writes an okteto.yml and a .stignore that fit the repository, after showing them.
///
/// Looks at languages, lock files, the Dockerfile, and at the Deployments of the namespace where a cluster can be
/// reached. Nothing that is there is overwritten without --force.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct Init {
    /// The repository; the current folder when left out.
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// Writes without asking.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Shows what would be written, and writes nothing.
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    /// Overwrites files that are there.
    #[arg(long)]
    pub(crate) force: bool,
    /// The workload to develop on; else the Deployment that is called like the folder, else the folder's name.
    #[arg(long, value_name = "WORKLOAD")]
    pub(crate) name: Option<String>,
    /// The image to develop in; else that of the Dockerfile, else the language's own.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// What to run; else what the project says.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) command: Option<String>,
    /// The folder in the container; else that of the Dockerfile, else /app.
    #[arg(long, value_name = "PATH")]
    pub(crate) workdir: Option<String>,
    /// A forward, such as 8080:80; may be given again.
    #[arg(long, value_name = "PORTS")]
    pub(crate) forward: Vec<String>,
    /// Asks no cluster.
    #[arg(long)]
    pub(crate) no_cluster: bool,
}

/// A file that would be written.
struct NewFile {
    path: PathBuf,
    text: String,
    /// Something is there already.
    exists: bool,
}

/// Looks at the repository, shows what fits it, and writes it.
pub(crate) async fn run(ui: &mut Ui, global: &Global, args: &Init) -> Outcome {
    let folder = args.folder.clone().unwrap_or_else(|| PathBuf::from("."));
    let folder = folder.canonicalize().map_err(|error| {
        Failure::new(format!("{}: {error}", folder.display())).hint("name a folder that is there")
    })?;
    if !folder.is_dir() {
        return Err(Failure::new(format!("{} is not a folder", folder.display())));
    }
    let projects = survey::projects(&folder);
    let workloads = if args.no_cluster { None } else { workloads::list(global).await };
    let proposal = Proposal::new(&folder, &projects, workloads.as_deref(), args);
    for line in proposal.findings() {
        ui.say(&line);
    }
    if !args.no_cluster && workloads.is_none() {
        ui.say("no cluster was asked, or none answered: services are called like their folders");
    }
    let files = files(global, &folder, &proposal)?;
    check(&files[0], &proposal)?;
    let (clash, new): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.exists && !args.force);
    for file in clash.iter().chain(&new) {
        let what = match (file.exists, args.force) {
            (true, false) => "is there and stays as it is",
            (true, true) => "is there and would be overwritten",
            (false, _) => "would be written",
        };
        ui.say(&format!("{} {what}", file.path.display()));
    }
    if !ui.is_json() {
        for file in &new {
            ui.data(&format!("# {}\n{}", file.path.display(), file.text));
        }
    }
    let manifest_stays = clash.iter().any(|file| file.path == manifest_path(global, &folder));
    if manifest_stays && !args.dry_run {
        return Err(Failure::new(format!(
            "{} is there already; nothing was written",
            clash[0].path.display()
        ))
        .hint("to write it anew: towline init --force")
        .hint("to see what it would be: towline init --dry-run"));
    }
    let wanted = if args.dry_run { false } else { args.yes || agreed(ui, &new)? };
    if wanted {
        for file in &new {
            fs::write(&file.path, &file.text).map_err(|error| {
                Failure::new(format!("{} can't be written: {error}", file.path.display()))
            })?;
            ui.say(&format!("{} is written", file.path.display()));
        }
    }
    if ui.is_json() {
        let list = |files: &[NewFile]| -> Vec<_> {
            files
                .iter()
                .map(|file| json!({"path": file.path.display().to_string(), "text": file.text}))
                .collect()
        };
        ui.json(&json!({
            "version": 1, "kind": "init", "written": wanted, "files": list(&new), "kept": list(&clash),
            "findings": proposal.findings(),
        }));
    }
    Ok(exit_code::OK)
}

fn agreed(ui: &mut Ui, new: &[NewFile]) -> Result<bool, Failure> {
    let details: Vec<_> = new.iter().map(|file| file.path.display().to_string()).collect();
    match ui.confirm("these files are new:", &details, "write them")? {
        Some(true) => Ok(true),
        Some(false) => Err(Failure::new("nothing was written")),
        None => Err(Failure::new("nobody can be asked here; nothing was written")
            .hint("to write without a question: towline init --yes")
            .hint("to see no more than what it would be: towline init --dry-run")),
    }
}

/// Returns where the manifest goes: where one is already, else where it is looked for first.
fn manifest_path(global: &Global, folder: &Path) -> PathBuf {
    let there = || {
        towline_manifest::candidates().into_iter().map(|name| folder.join(name)).find(|path| path.is_file())
    };
    match &global.file {
        Some(file) => folder.join(file),
        None => there().unwrap_or_else(|| folder.join("okteto.yml")),
    }
}

/// Returns the manifest first, then an ignore file for each folder that is synced.
fn files(global: &Global, folder: &Path, proposal: &Proposal) -> Result<Vec<NewFile>, Failure> {
    let manifest = manifest_path(global, folder);
    if manifest.parent().is_none_or(|folder| !folder.is_dir()) {
        return Err(Failure::new(format!("there is no folder for {}", manifest.display())));
    }
    let mut files = vec![(manifest, proposal.manifest())];
    for (root, text) in proposal.ignore_files() {
        files.push((folder.join(root).join(".stignore"), text));
    }
    let exists = |path: &Path| path.symlink_metadata().is_ok();
    Ok(files.into_iter().map(|(path, text)| NewFile { exists: exists(&path), path, text }).collect())
}

/// Says what is wrong with a manifest before it is shown: a flag of the command line, as a rule.
fn check(manifest: &NewFile, proposal: &Proposal) -> Result<(), Failure> {
    let source = Source { name: "okteto.yml", text: &manifest.text, path: &manifest.path };
    let context = Context { variables: &env_vars::lookup, disk: &LocalDisk, repository: None };
    let parsed = towline_manifest::parse(source, &context);
    match parsed.problems.errors().next() {
        None => Ok(()),
        Some(problem) => {
            let mut failure = Failure::new(format!("{} ({})", problem.message, problem.path));
            failure.hints.extend(problem.hint.clone());
            failure.detail = Some(proposal.manifest());
            Err(failure.code(exit_code::USAGE))
        }
    }
}
