//! The manifest of the current project: found, read, checked.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use towline_manifest::{Context, Dev, Disk, Kind, Manifest, Parsed, Problem, Severity, Source};

use crate::agent;
use crate::args::Global;
use crate::diagnose::Failure;
use crate::env_vars;
use crate::place;
use crate::ui::Ui;

/// A manifest and where it lies.
#[derive(Debug)]
pub(crate) struct Project {
    /// The file, absolute.
    pub(crate) path: PathBuf,
    /// What it says, and what is wrong with it.
    pub(crate) parsed: Parsed,
    /// Whether it is the example that came with the sources.
    pub(crate) example: bool,
}

/// This machine's disk.
pub(crate) struct LocalDisk;

impl Disk for LocalDisk {
    fn kind(&self, path: &Path) -> Kind {
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => Kind::Folder,
            Ok(_) => Kind::File,
            Err(_) => Kind::Missing,
        }
    }

    fn read(&self, path: &Path, limit: usize) -> io::Result<String> {
        let mut text = String::new();
        fs::File::open(path)?.take(limit as u64 + 1).read_to_string(&mut text)?;
        Ok(text)
    }

    fn canonical(&self, path: &Path) -> Option<PathBuf> {
        path.canonicalize().ok()
    }
}

impl Project {
    /// Finds and reads the manifest: the file that is named, else one here or in a folder above up to the
    /// repository's root, else the example where nothing else is meant.
    pub(crate) fn open(global: &Global) -> Result<Self, Failure> {
        let (path, example) = find(global)?;
        let text = fs::read_to_string(&path)
            .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        let here = std::env::current_dir().unwrap_or_default();
        let name = path.strip_prefix(&here).unwrap_or(&path).display().to_string();
        let root = towline_manifest::project_root(&path);
        let repository = root.ancestors().find(|folder| folder.join(".git").exists()).map(Path::to_owned);
        let source = Source { name: &name, text: &text, path: &path };
        let context =
            Context { variables: &env_vars::lookup, disk: &LocalDisk, repository: repository.as_deref() };
        let parsed = towline_manifest::parse(source, &context);
        Ok(Self { path, parsed, example })
    }

    /// Returns the manifest if nothing is wrong with it; warnings are shown, errors are the failure.
    pub(crate) fn manifest(&self, ui: &mut Ui) -> Result<&Manifest, Failure> {
        // What is wrong with a section that nothing is done about is said by `validate`.
        let matters = |problem: &&Problem| problem.severity == Severity::Error || !is_idle(&problem.path);
        ui.problems(self.parsed.problems.iter().filter(matters));
        let count = self.parsed.problems.errors().count();
        match &self.parsed.manifest {
            Some(manifest) if count == 0 => Ok(manifest),
            _ => {
                let problems = if count == 1 { "a problem" } else { "problems" };
                Err(Failure::new(format!("{} has {problems}; nothing was changed", self.path.display())))
            }
        }
    }

    /// Returns the dev services that are meant: the named ones, all, or the only one.
    pub(crate) fn devs<'m>(
        &self,
        manifest: &'m Manifest,
        names: &[String],
        all: bool,
    ) -> Result<Vec<&'m Dev>, Failure> {
        if all && !manifest.dev.is_empty() {
            return Ok(manifest.dev.values().collect());
        }
        let mut devs: Vec<&Dev> = Vec::new();
        for name in names {
            let dev = self.dev(manifest, Some(name))?;
            if devs.iter().all(|known| known.name != dev.name) {
                devs.push(dev);
            }
        }
        if devs.is_empty() { self.dev(manifest, None).map(|dev| vec![dev]) } else { Ok(devs) }
    }

    /// Returns the dev service that is meant: the named one, or the only one.
    pub(crate) fn dev<'m>(&self, manifest: &'m Manifest, name: Option<&str>) -> Result<&'m Dev, Failure> {
        let known = || manifest.dev.keys().cloned().collect::<Vec<_>>().join(", ");
        match name {
            Some(name) => manifest.dev(name).map_err(|unknown| {
                let failure = Failure::new(unknown.to_string());
                match &unknown.nearest {
                    Some(nearest) => failure.hint(format!("did you mean {nearest}? there is: {}", known())),
                    None => failure.hint(format!("there is: {}", known())),
                }
            }),
            None if manifest.dev.len() == 1 => {
                Ok(manifest.dev.values().next().unwrap_or_else(|| unreachable!("there is exactly one")))
            }
            None if manifest.dev.is_empty() => {
                Err(Failure::new(format!("{} has no dev section", self.path.display()))
                    .hint("say what to develop on: dev: {NAME: {command: …, sync: [\".:/app\"]}}"))
            }
            None => Err(Failure::new("the manifest has several dev services")
                .hint(format!("name one or more, of {}, or all: towline up --all", known()))
                .code(crate::exit_code::USAGE)),
        }
    }
}

/// Tells whether a field belongs to a section that nothing is done about yet.
fn is_idle(path: &str) -> bool {
    let idle = ["build", "dependencies", "deploy", "destroy", "external", "test"];
    path.split(['.', '[']).next().is_some_and(|section| idle.contains(&section))
}

/// Says how many ignore rules are in force, and of which files.
pub(crate) fn ignore_words(rules: usize, files: &[PathBuf]) -> String {
    if files.is_empty() {
        return "no .stignore".to_owned();
    }
    let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    format!("{rules} ignore {} of {}", if rules == 1 { "rule" } else { "rules" }, files.join(", then "))
}

fn find(global: &Global) -> Result<(PathBuf, bool), Failure> {
    let here =
        std::env::current_dir().map_err(|error| Failure::new(format!("no current folder: {error}")))?;
    if let Some(file) = &global.file {
        let path = here.join(file);
        return match path.canonicalize() {
            Ok(path) if path.is_file() => Ok((path, false)),
            Ok(path) => Err(Failure::new(format!("{} is not a file", path.display()))),
            Err(error) => Err(Failure::new(format!("{}: {error}", file.display()))
                .hint("name a manifest that is there: -f FILE")),
        };
    }
    let mut compose = None;
    for folder in here.ancestors() {
        let there = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
        if let Some(path) = towline_manifest::candidates().into_iter().find_map(there) {
            return Ok((path, false));
        }
        compose = compose.or_else(|| towline_manifest::compose_candidates().into_iter().find_map(there));
        if folder.join(".git").exists() {
            break;
        }
    }
    if place::is_embedded(global)
        && let Some(example) = agent::example()
    {
        return Ok((example.join("okteto.yml"), true));
    }
    let failure = Failure::new(format!("no manifest in {} or the folders above it", here.display()));
    let failure = match compose {
        Some(file) => failure.hint(format!("{} says what to deploy, not what to develop on", file.display())),
        None => failure,
    };
    Err(failure.hint("make an okteto.yml that fits: towline init").hint("or name one: -f FILE"))
}
