//! `--dry-run`: what would be done.

use serde_json::json;
use towline_sync::{Action, Peer, Preview, PreviewError, Step, keep_folder, preview, replica_options};
use towline_sync_core::engine::Side;
use towline_sync_core::snapshot::Entry;

use super::Outcome;
use super::args::Sync;
use super::ends::{Ends, Far, refused};
use super::progress::size;
use super::report::line;
use super::signals::Signals;
use crate::diagnose::Failure;
use crate::exit_code;
use crate::ui::Ui;

/// Says what a sync would do.
pub(super) async fn run(ui: &mut Ui, args: &Sync) -> Outcome {
    let mut signals = Signals::new()?;
    let ends = Ends::check(args)?;
    for warning in &ends.warnings {
        ui.warn(warning);
    }
    ui.phase(&format!("looking through {} and {}", ends.source.display(), ends.far_name));
    let Some(preview) = signals.unless_interrupted(look(args, &ends)).await else {
        return Ok(exit_code::INTERRUPTED);
    };
    ui.phase_done();
    tell(ui, &ends, &preview?)
}

/// Looks through both sides.
async fn look(args: &Sync, ends: &Ends) -> Result<Preview, Failure> {
    let local = Peer::here(replica_options(&keep_folder(&ends.state)))?;
    let (far, remote) = match &ends.destination {
        Some(_) => (Far::Here, Peer::here(replica_options(&ends.far_keep()))?),
        None => ends.reach(args).await?,
    };
    let preview = preview(&ends.options(args), local, remote).await;
    far.close().await;
    preview.map_err(|error| match error {
        PreviewError::Sync(error) => error.into(),
        PreviewError::Folder { side: Side::Local, failure, .. } => {
            refused(&ends.source.display().to_string(), &failure)
        }
        PreviewError::Folder { failure, .. } => refused(&ends.far_name, &failure),
    })
}

fn tell(ui: &mut Ui, ends: &Ends, preview: &Preview) -> Outcome {
    for problem in &preview.problems {
        if ui.is_json() {
            ui.json(&line(
                "syncProblem",
                json!({"folder": 0, "path": problem.path, "message": problem.message}),
            ));
        } else {
            ui.warn(&format!("{} is not synced: {}", problem.path, problem.message));
        }
    }
    for step in &preview.steps {
        let (action, side, path) = (word(step), step.side.name(), step.transition.path.as_str());
        if ui.is_json() {
            let fields = json!({
                "action": action, "to": side, "path": path, "type": kind(step), "size": step.size(),
            });
            ui.json(&line("planned", fields));
        } else {
            let slash = if kind(step) == "folder" { "/" } else { "" };
            ui.data(&format!("{action:<8} {side:<6} {path}{slash}"));
        }
    }
    let total = |side: Side, word: &str| {
        preview.steps.iter().filter(|step| step.side == side && self::word(step) == word).count()
    };
    let bytes: u64 =
        preview.steps.iter().filter(|step| step.action() != Action::Delete).map(Step::size).sum();
    let [local, remote] = [Side::Local, Side::Remote].map(|side| WORDS.map(|word| (word, total(side, word))));
    if ui.is_json() {
        let object = |counts: [(&str, usize); 4]| {
            counts
                .into_iter()
                .map(|(word, count)| (word.to_owned(), count.into()))
                .collect::<serde_json::Map<_, _>>()
        };
        let fields = json!({
            "local": object(local), "remote": object(remote), "bytes": bytes,
            "halted": preview.halted.iter().map(|halt| {
                json!({"side": halt.side.name(), "missing": halt.missing, "of": halt.of})
            }).collect::<Vec<_>>(),
        });
        ui.json(&line("plannedTotal", fields));
    } else if preview.steps.is_empty() {
        ui.say("both sides are equal: nothing would be done");
    } else {
        for (name, counts) in [(ends.far_name.as_str(), remote), (&*ends.source.display().to_string(), local)]
        {
            let words: Vec<_> = counts
                .iter()
                .filter(|(_, count)| *count > 0)
                .map(|(word, count)| format!("{count} × {word}"))
                .collect();
            if !words.is_empty() {
                ui.say(&format!("in {name}: {}", words.join(", ")));
            }
        }
        ui.say(&format!("{} of content; nothing was done", size(bytes)));
    }
    match preview.halted.first() {
        Some(halt) => Err(Failure::new(format!(
            "sync would stop: {} of {} files are gone on the {} side, which may be a mistake",
            halt.missing,
            halt.of,
            halt.side.name()
        ))
        .hint("if the deletions are wanted, run it with --approve-deletions")
        .code(exit_code::HALTED)),
        None => Ok(exit_code::OK),
    }
}

const WORDS: [&str; 4] = ["create", "update", "delete", "conflict"];

fn word(step: &Step) -> &'static str {
    match step.action() {
        _ if step.conflict => "conflict",
        Action::Create => "create",
        Action::Update => "update",
        Action::Delete => "delete",
    }
}

fn kind(step: &Step) -> &'static str {
    match step.transition.to.as_ref().or(step.transition.from.as_ref()) {
        Some(Entry::Directory) => "folder",
        Some(Entry::Symlink { .. }) => "link",
        _ => "file",
    }
}
