//! Why a path is synced, or not: from what is written down of the pair, and one look at the folders of this machine.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use towline_ignore::{LoadError, Rules};
use towline_sync_core::base::Base;
use towline_sync_core::engine::Side;
use towline_sync_core::path::RelPath;
use towline_sync_core::protect;
use towline_sync_core::reconcile::Mode;
use towline_sync_core::snapshot::{Entry, File};

use crate::ignore::ignore_rules;
use crate::record::{Conflict, KnownPair};
use crate::undo::hash_of;

/// What is to be said about one path of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// How it stands.
    pub verdict: Verdict,
    /// Why it is never, or not only, what the verdict says: it is written by neither side, or one way alone.
    pub notes: Vec<String>,
    /// Bytes of this path that are kept apart.
    pub conflicts: Vec<Conflict>,
}

/// How a path stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is the folder that is synced.
    Root,
    /// No path can be like this.
    Impossible(String),
    /// It is Towline's own.
    Private,
    /// It is left alone, as an ignore rule says. The path that the rule is about is it, or lies above it.
    Ignored {
        /// What the rule is about.
        by: RelPath,
        /// The line; nothing where the name is one that is never synced.
        rule: Option<Rule>,
    },
    /// Something is wrong with it, or was when the pair was last at rest.
    Problem {
        /// The path that it is about: this one, or one above it.
        path: String,
        /// What.
        message: String,
    },
    /// It is what both sides agreed on.
    InSync,
    /// It is not what both sides last agreed on: the next sync brings it over, or back.
    Waiting(String),
    /// Neither side is known to have it.
    Missing,
}

/// The line of an ignore file that decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The file, if it is known.
    pub file: Option<String>,
    /// The line in it, from 1.
    pub line: u32,
    /// The pattern.
    pub pattern: String,
}

/// Explains a path, given from the folder's root on; nothing is the folder itself.
///
/// # Errors
///
/// When the ignore rules can't be read or understood: then nothing is synced at all.
pub fn explain(pair: &KnownPair, path: &str) -> Result<Explanation, LoadError> {
    let mut explanation = Explanation { verdict: Verdict::Root, notes: Vec::new(), conflicts: Vec::new() };
    if path.is_empty() {
        return Ok(explanation);
    }
    let path = match RelPath::new(path) {
        Ok(path) => path,
        Err(error) => {
            explanation.verdict = Verdict::Impossible(error.to_string());
            return Ok(explanation);
        }
    };
    explanation.conflicts = pair.conflicts().into_iter().filter(|kept| kept.path == path.as_str()).collect();
    explanation.verdict = if path.is_private() {
        Verdict::Private
    } else if let Some(ignored) = ignored(pair, &path)? {
        ignored
    } else {
        explanation.notes = notes(pair, &path);
        problem(pair, &path).unwrap_or_else(|| compare(pair, &path))
    };
    Ok(explanation)
}

fn ignored(pair: &KnownPair, path: &RelPath) -> Result<Option<Verdict>, LoadError> {
    let description = &pair.description;
    let (rules, are_placed) = match &description.ignore_file {
        Some(file) => (ignore_rules(file)?, true),
        None => (Rules::from_lines(&description.ignore)?, false),
    };
    let mut above: Vec<_> = path.ancestors().collect();
    above.reverse();
    for folder in &above {
        let decision = rules.decide(folder.as_str());
        if decision.skip_dir {
            let rule = decision.rule.map(|rule| named(rule, are_placed));
            return Ok(Some(Verdict::Ignored { by: folder.clone(), rule }));
        }
    }
    let decision = rules.decide(path.as_str());
    let rule = decision.rule.map(|rule| named(rule, are_placed));
    Ok(decision.ignored.then(|| Verdict::Ignored { by: path.clone(), rule }))
}

fn named(rule: towline_ignore::RuleRef<'_>, is_placed: bool) -> Rule {
    let file = is_placed.then(|| rule.file.to_owned());
    Rule { file, line: rule.line, pattern: rule.pattern.to_owned() }
}

fn notes(pair: &KnownPair, path: &RelPath) -> Vec<String> {
    let mut notes = Vec::new();
    let remote = &pair.description.remote;
    let mode = pair.description.mode;
    if mode != Mode::Mirror
        && mode != Mode::LocalToRemote
        && let (Some(root), Some(why)) = (protect::protected_root(path), protect::protected(path))
    {
        notes.push(format!("{root} is never written from {remote}: {why}"));
    }
    match mode {
        Mode::TwoWay => {}
        Mode::LocalToRemote => notes.push(format!("changes made in {remote} stay there")),
        Mode::RemoteToLocal => notes.push("changes made here stay here".to_owned()),
        Mode::Mirror => notes.push(format!("changes made in {remote} are undone")),
    }
    notes
}

fn problem(pair: &KnownPair, path: &RelPath) -> Option<Verdict> {
    let problems = pair.problems();
    let mut candidates = std::iter::once(path.clone()).chain(path.ancestors());
    let found = candidates
        .find_map(|candidate| problems.iter().find(|problem| problem.path == candidate.as_str()).cloned());
    found.map(|problem| Verdict::Problem { path: problem.path, message: problem.message })
}

fn compare(pair: &KnownPair, path: &RelPath) -> Verdict {
    let base = match pair.base() {
        Ok(base) => base,
        Err(error) => return Verdict::Waiting(format!("what both sides agreed on can't be read ({error})")),
    };
    let description = &pair.description;
    let sides = [
        Some((Side::Local, "here", description.local.as_path())),
        description.remote_folder.as_deref().map(|folder| (Side::Remote, "there", folder)),
    ];
    let agreed = base.entries().get(path);
    let mut anything = agreed.is_some();
    for (side, word, root) in sides.into_iter().flatten() {
        let found = match look(&root.join(path.as_str())) {
            Ok(found) => found,
            Err(error) => return Verdict::Problem { path: path.to_string(), message: error.to_string() },
        };
        anything |= found.is_some();
        if found.as_ref() == agreed {
            continue;
        }
        return Verdict::Waiting(difference(&base, side, word, found.is_some(), agreed.is_some()));
    }
    if anything { Verdict::InSync } else { Verdict::Missing }
}

fn difference(base: &Base, side: Side, word: &str, is_there: bool, was_agreed: bool) -> String {
    if base.entries().is_empty() && side == Side::Local {
        return "the two sides have not agreed on anything yet".to_owned();
    }
    match (is_there, was_agreed) {
        (true, true) => format!("it was changed {word} since both sides last agreed"),
        (true, false) => format!("it was made {word} since both sides last agreed"),
        (false, _) => format!("it was deleted {word} since both sides last agreed"),
    }
}

/// Looks at one path of this machine. What has no entry of its own is reported by a session, not here.
fn look(path: &Path) -> io::Result<Option<Entry>> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let kind = meta.file_type();
    if kind.is_dir() {
        Ok(Some(Entry::Directory))
    } else if kind.is_symlink() {
        let target = fs::read_link(path)?.to_string_lossy().into_owned();
        Ok(Some(Entry::Symlink { target }))
    } else if kind.is_file() {
        let hash = hash_of(fs::File::open(path)?)?;
        let executable = meta.permissions().mode() & 0o100 != 0;
        Ok(Some(Entry::File(File { hash, size: meta.len(), executable })))
    } else {
        Err(io::Error::other("devices, sockets and named pipes are not synced"))
    }
}
