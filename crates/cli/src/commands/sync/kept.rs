//! `conflicts` and `explain`: what is known of pairs without them running.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use towline_sync::folders::resolve;
use towline_sync::{
    Conflict, Discarded, KnownPair, Loss, UndoPlace, Verdict, discarded, explain, keep_folder,
};
use towline_sync_core::engine::Side;

use super::Outcome;
use super::args::{Conflicts, Explain};
use super::report::line;
use crate::diagnose::Failure;
use crate::exit_code;
use crate::place;
use crate::ui::Ui;

/// A folder of this machine that is one side of a pair.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) pair: KnownPair,
    pub(super) side: Side,
    pub(super) root: PathBuf,
}

impl Place {
    /// Returns all there are, those of the pair that was begun last first.
    fn all() -> Result<Vec<Self>, Failure> {
        let pairs = KnownPair::all(&place::home()?.join("sync"));
        let places = pairs.into_iter().flat_map(|pair| {
            let local = (Side::Local, Some(pair.description.local.clone()));
            let remote = (Side::Remote, pair.description.remote_folder.clone());
            [local, remote]
                .into_iter()
                .filter_map(|(side, root)| Some((side, root?)))
                .map(|(side, root)| Self { pair: pair.clone(), side, root })
                .collect::<Vec<_>>()
        });
        Ok(places.collect())
    }

    /// Returns those that hold `path`, each with the path from its root on.
    pub(super) fn holding(path: &Path) -> Result<Vec<(Self, String)>, Failure> {
        let path = real(path)?;
        let inside = |place: Self| {
            let rest = path.strip_prefix(&place.root).ok()?.to_string_lossy().into_owned();
            Some((place, rest))
        };
        let found: Vec<_> = Self::all()?.into_iter().filter_map(inside).collect();
        if found.is_empty() {
            return Err(Failure::new(format!(
                "{} lies in no folder that was synced from here",
                path.display()
            ))
            .hint("folders are known once they were synced: towline sync SRC DST, towline up"));
        }
        Ok(found)
    }

    /// Returns the other side of the pair, where that is on this machine too.
    pub(super) fn partner(&self) -> Option<Self> {
        let (side, root) = match self.side {
            Side::Local => (Side::Remote, self.pair.description.remote_folder.clone()?),
            Side::Remote => (Side::Local, self.pair.description.local.clone()),
        };
        Some(Self { pair: self.pair.clone(), side, root })
    }

    pub(super) fn discarded(&self) -> Vec<Discarded> {
        match self.side {
            Side::Local => discarded(&keep_folder(&self.pair.state)),
            Side::Remote => discarded(&self.pair.state.join("far")),
        }
    }

    pub(super) fn undo_place(&self) -> UndoPlace {
        UndoPlace { root: self.root.clone(), side: self.side, state: self.pair.state.clone() }
    }
}

/// Returns a path without links on the way to it; the last of it may be one.
fn real(path: &Path) -> Result<PathBuf, Failure> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(resolve(
            &std::path::absolute(path)?.parent().map_or_else(|| parent.to_owned(), Path::to_owned),
        )?
        .join(name)),
        _ => Ok(resolve(path)?),
    }
}

pub(super) fn is_at_or_below(path: &str, above: &str) -> bool {
    above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Shows whose bytes are kept.
pub(super) fn conflicts(ui: &mut Ui, args: &Conflicts) -> Outcome {
    let found: Vec<(KnownPair, Conflict)> = match &args.path {
        Some(path) => {
            let mut found = Vec::new();
            for (place, rest) in Place::holding(path)? {
                let kept =
                    place.pair.conflicts().into_iter().filter(|kept| is_at_or_below(&kept.path, &rest));
                found.extend(kept.map(|kept| (place.pair.clone(), kept)));
            }
            found
        }
        None => KnownPair::all(&place::home()?.join("sync"))
            .into_iter()
            .flat_map(|pair| pair.conflicts().into_iter().map(move |kept| (pair.clone(), kept)))
            .collect(),
    };
    for (pair, kept) in &found {
        if ui.is_json() {
            ui.json(&line("conflictKept", conflict_json(pair, kept)));
            continue;
        }
        let whose = match kept.lost {
            Side::Local => pair.description.local.display().to_string(),
            Side::Remote => pair.description.remote.clone(),
        };
        let why = match kept.why {
            Loss::Conflict => "lost a conflict",
            Loss::Undo => "gave way to an older version",
        };
        let path = pair.description.local.join(&kept.path);
        ui.data(&format!("{}", path.display()));
        ui.data(&format!("  {} the version of {whose} {why}", time(kept.at)));
        ui.data(&format!("  kept as {}", kept.kept.display()));
    }
    if !ui.is_json() {
        ui.say(&match found.len() {
            0 => "there is no conflict".to_owned(),
            _ => "to take one of these: copy it over the path; to be rid of it: remove the file".to_owned(),
        });
    }
    Ok(exit_code::OK)
}

fn conflict_json(pair: &KnownPair, kept: &Conflict) -> Value {
    let why = match kept.why {
        Loss::Conflict => "conflict",
        Loss::Undo => "undo",
    };
    json!({
        "local": pair.description.local, "remote": pair.description.remote, "path": kept.path,
        "lost": kept.lost.name(), "at": time(kept.at), "kept": kept.kept, "why": why,
    })
}

/// Says why paths are synced, or not.
pub(super) fn explain_paths(ui: &mut Ui, args: &Explain) -> Outcome {
    for path in &args.paths {
        for (place, rest) in Place::holding(path)? {
            explain_path(ui, &place, &rest)?;
        }
    }
    Ok(exit_code::OK)
}

fn explain_path(ui: &mut Ui, place: &Place, rest: &str) -> Result<(), Failure> {
    let description = &place.pair.description;
    let explanation = explain(&place.pair, rest).map_err(|error| {
        Failure::new(format!("nothing is synced: the ignore rules can't be understood: {error}"))
            .hint("correct that line")
    })?;
    let (verdict, words) = words(&explanation.verdict);
    let holder = place.pair.holder();
    if ui.is_json() {
        let rule = match &explanation.verdict {
            Verdict::Ignored { rule: Some(rule), .. } => {
                json!({"file": rule.file, "line": rule.line, "pattern": rule.pattern})
            }
            _ => Value::Null,
        };
        let conflicts: Vec<_> =
            explanation.conflicts.iter().map(|kept| conflict_json(&place.pair, kept)).collect();
        let fields = json!({
            "local": description.local, "remote": description.remote, "path": rest, "verdict": verdict,
            "message": words, "rule": rule, "notes": explanation.notes, "conflicts": conflicts, "process": holder,
        });
        ui.json(&line("explained", fields));
        return Ok(());
    }
    ui.data(place.root.join(rest).display().to_string().trim_end_matches('/'));
    ui.data(&format!("  {} ↔ {}", description.local.display(), description.remote));
    ui.data(&format!("  {words}"));
    for note in &explanation.notes {
        ui.data(&format!("  {note}"));
    }
    for kept in &explanation.conflicts {
        ui.data(&format!("  {} a version that lost is kept as {}", time(kept.at), kept.kept.display()));
    }
    ui.data(&match holder {
        Some(pid) => format!("  process {pid} syncs it now"),
        None => format!("  nothing syncs it now; it was begun last at {}", time(description.began)),
    });
    Ok(())
}

fn words(verdict: &Verdict) -> (&'static str, String) {
    match verdict {
        Verdict::Root => ("root", "it is the folder that is synced".to_owned()),
        Verdict::Impossible(why) => ("impossible", format!("it can't be synced: {why}")),
        Verdict::Private => ("private", "it is Towline's own and never synced".to_owned()),
        Verdict::Ignored { by, rule: None } => {
            ("ignored", format!("it is never synced: {by} is a name that sync programs use themselves"))
        }
        Verdict::Ignored { by, rule: Some(rule) } => {
            let file = rule.file.as_deref().unwrap_or("the ignore rules");
            ("ignored", format!("it is ignored: {file}, line {}, says {} of {by}", rule.line, rule.pattern))
        }
        Verdict::Problem { path, message } => ("problem", format!("it is not synced: {path}: {message}")),
        Verdict::InSync => ("inSync", "it is what both sides last agreed on".to_owned()),
        Verdict::Waiting(why) => ("waiting", why.clone()),
        Verdict::Missing => ("missing", "no side is known to have it".to_owned()),
    }
}

/// Returns a time as the events have it.
pub(super) fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}
