//! `undo`: what sync has replaced or deleted comes back, here and, with `--to`, where an agent has it.

mod wanted;

use serde_json::{Value, json};
use towline_sync::{
    Discarded, Displaced, KnownPair, NotUndoneThere, SyncError, UndoThere, UndoThereError, Undone,
    UndoneThere, Was, Why,
};
use towline_sync_core::engine::Side;
use towline_sync_core::reconcile::Mode;
use towline_sync_core::snapshot::Entry;

use self::wanted::{There, Wanted, way_back};
use super::Outcome;
use super::args::Undo;
use super::ends::{Far, refused};
use super::kept::{Place, time};
use super::progress::size;
use super::report::line;
use super::signals::Signals;
use crate::diagnose::Failure;
use crate::exit_code;
use crate::ui::Ui;

/// Brings back what was replaced or deleted.
pub(super) async fn run(ui: &mut Ui, args: &Undo) -> Outcome {
    let mut wanted = Wanted::default();
    if args.paths.is_empty() {
        wanted.add_around(ui, args)?;
    }
    for path in &args.paths {
        wanted.add(ui, args, path)?;
    }
    if args.list {
        return Ok(list(ui, &wanted));
    }
    wanted.keep_latest();
    let Wanted { here, there } = wanted;
    let mut count = Count::default();
    let (mut reached, mut another) = (false, None);
    let mut left = Vec::new();
    for there in there.into_values() {
        match (&args.to, there.undoing) {
            (Some(command), Some(undoing)) if !there.all.is_empty() => {
                let mut signals = Signals::new()?;
                let far = FarUndo { pair: &there.pair, command };
                let bringing = far.bring_back(ui, undoing, &there.all, &mut count);
                match signals.unless_interrupted(bringing).await {
                    Some(Reached::Folder) => reached = true,
                    // Of several sessions of one folder the command reaches one.
                    Some(Reached::Another(failure)) => another = Some(failure),
                    Some(Reached::Nothing(failure)) => return Err(failure),
                    None => return Ok(exit_code::INTERRUPTED),
                }
            }
            (None, _) if !there.all.is_empty() => left.push((there.pair, there.all.len())),
            _ => {}
        }
    }
    if let Some(failure) = another.filter(|_| !reached) {
        return Err(failure);
    }
    bring_back(ui, here, &mut count);
    let Count { back, failed } = count;
    if failed > 0 {
        return Err(Failure::new(format!("{failed} of {} paths were not brought back", failed + back))
            .hint("what is kept of them stays: towline sync undo --list"));
    }
    if back == 0 && !ui.is_json() {
        ui.say("nothing was to be brought back");
    }
    for (pair, count) in left {
        let paths = if count == 1 { "1 path".to_owned() } else { format!("{count} paths") };
        if !ui.is_json() {
            ui.say(&format!("{paths} went on the other side; {}", way_back(&pair, &args.paths)));
        }
    }
    Ok(exit_code::OK)
}

/// How much was brought back.
#[derive(Debug, Default)]
struct Count {
    back: u32,
    failed: u32,
}

fn list(ui: &mut Ui, wanted: &Wanted) -> u8 {
    let mut any = false;
    for (place, all) in &wanted.here {
        for discarded in all {
            any = true;
            if ui.is_json() {
                ui.json(&line("discarded", discarded_json(place, discarded)));
                continue;
            }
            let path = match discarded.path.as_str() {
                "" => format!("{} (it is not known where)", place.root.display()),
                path => place.root.join(path).display().to_string(),
            };
            let what = match &discarded.what {
                Was::File { size: bytes, kept, .. } => {
                    format!("{}, kept as {}", size(*bytes), kept.display())
                }
                Was::Link(target) => format!("a link to {target}"),
            };
            ui.data(&path);
            ui.data(&format!("  {} {}: {what}", time(discarded.at), why_word(discarded.why)));
        }
    }
    for There { pair, all, .. } in wanted.there.values() {
        for displaced in all {
            any = true;
            if ui.is_json() {
                ui.json(&line("discarded", displaced_json(pair, displaced)));
                continue;
            }
            let what = match &displaced.was {
                Entry::Symlink { target } => format!("a link to {target}"),
                Entry::File(file) => size(file.size),
                Entry::Directory | Entry::Opaque(_) => String::new(),
            };
            ui.data(&pair.description.local.join(displaced.path.as_str()).display().to_string());
            let remote = &pair.description.remote;
            let why =
                if displaced.by_undo { "gave way to an older version" } else { why_word(displaced.why()) };
            ui.data(&format!(
                "  {} {why} on the other side: {what}, kept in the trash of {remote}",
                time(displaced.at)
            ));
        }
    }
    if !any && !ui.is_json() {
        ui.say("nothing that sync replaced or deleted is kept");
    }
    exit_code::OK
}

/// Brings back what is kept on this machine.
fn bring_back(ui: &mut Ui, wanted: Vec<(Place, Vec<Discarded>)>, count: &mut Count) {
    for (place, all) in wanted {
        let undo_place = place.undo_place();
        for discarded in all {
            let path = place.root.join(&discarded.path).display().to_string();
            match undo_place.undo(&discarded) {
                Ok(undone) => {
                    count.back += u32::from(undone != Undone::Same);
                    tell_undone(ui, &place, &discarded, &path, &undone);
                }
                Err(error) => {
                    count.failed += 1;
                    ui.warn(&format!("{path} was not brought back: {error}"));
                }
            }
        }
    }
}

/// What the command led to.
enum Reached {
    /// The folder that was synced.
    Folder,
    /// Another one.
    Another(Failure),
    /// None, or not to the end.
    Nothing(Failure),
}

/// The other side of a pair, and the command that reaches its agent.
struct FarUndo<'a> {
    pair: &'a KnownPair,
    command: &'a str,
}

impl FarUndo<'_> {
    async fn bring_back(
        &self,
        ui: &mut Ui,
        undoing: UndoThere,
        wanted: &[Displaced],
        count: &mut Count,
    ) -> Reached {
        let remote = &self.pair.description.remote;
        ui.phase(&format!("bringing back what went in {remote}"));
        let (mut far, peer) = match Far::reach(self.command, false).await {
            Ok(reached) => reached,
            Err(failure) => return Reached::Nothing(failure),
        };
        ui.phase_done();
        if self.pair.description.mode == Mode::Mirror {
            ui.warn("the next sync in the same mode makes the other side equal to this one again: mirror");
        }
        let done = undoing.run(peer, wanted, |displaced, done| self.tell(ui, count, displaced, done)).await;
        match done {
            Ok(()) => {
                far.close().await;
                Reached::Folder
            }
            Err(error @ UndoThereError::Another) => {
                far.close().await;
                let failure = Failure::new(error.to_string());
                let failure = failure.hint("does --to lead to the same agent, and to the same folder?");
                Reached::Another(
                    failure.hint("what is known of the other one stays: towline sync undo --list"),
                )
            }
            Err(UndoThereError::Sync(SyncError::Agent { message })) => {
                Reached::Nothing(far.why_lost(&message).await)
            }
            Err(UndoThereError::Sync(error)) => Reached::Nothing(error.into()),
            Err(UndoThereError::Folder { failure }) => Reached::Nothing(refused(remote, &failure)),
        }
    }

    fn tell(
        &self,
        ui: &mut Ui,
        count: &mut Count,
        displaced: &Displaced,
        done: Result<UndoneThere, NotUndoneThere>,
    ) {
        let path = self.pair.description.local.join(displaced.path.as_str()).display().to_string();
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                count.failed += 1;
                return ui.warn(&format!("{path} was not brought back on the other side: {error}"));
            }
        };
        count.back += u32::from(done != UndoneThere::Same);
        if ui.is_json() {
            let result = if done == UndoneThere::Same { "same" } else { "restored" };
            let fields = json!({
                "folder": self.pair.description.remote, "side": Side::Remote.name(),
                "path": displaced.path.as_str(), "result": result, "displaced": Value::Null,
            });
            return ui.json(&line("undone", fields));
        }
        match done {
            UndoneThere::Same => {}
            UndoneThere::Restored { displaced: false } => {
                ui.say(&format!("{path} is back on the other side"));
            }
            UndoneThere::Restored { displaced: true } => {
                ui.say(&format!(
                    "{path} is as it was on the other side; what stood there is in the trash there"
                ));
            }
        }
    }
}

fn tell_undone(ui: &mut Ui, place: &Place, discarded: &Discarded, path: &str, undone: &Undone) {
    if ui.is_json() {
        let (result, displaced) = match undone {
            Undone::Restored { displaced } => ("restored", displaced.clone()),
            Undone::Same => ("same", None),
        };
        let fields = json!({
            "folder": place.root, "side": place.side.name(), "path": discarded.path, "result": result,
            "displaced": displaced,
        });
        return ui.json(&line("undone", fields));
    }
    match undone {
        Undone::Same => {}
        Undone::Restored { displaced: None } => ui.say(&format!("{path} is back")),
        Undone::Restored { displaced: Some(kept) } => {
            ui.say(&format!("{path} is as it was; what stood there is kept as {}", kept.display()));
        }
    }
}

fn discarded_json(place: &Place, discarded: &Discarded) -> Value {
    let (kind, kept, size, target) = match &discarded.what {
        Was::File { kept, size, .. } => ("file", Some(kept), Some(size), None),
        Was::Link(target) => ("link", None, None, Some(target)),
    };
    json!({
        "folder": place.root, "side": place.side.name(), "path": discarded.path, "at": time(discarded.at),
        "why": why_word(discarded.why), "type": kind, "kept": kept, "size": size, "target": target,
    })
}

fn displaced_json(pair: &KnownPair, displaced: &Displaced) -> Value {
    let (kind, size, target) = match &displaced.was {
        Entry::Symlink { target } => ("link", None, Some(target)),
        Entry::File(file) => ("file", Some(file.size), None),
        Entry::Directory | Entry::Opaque(_) => ("file", None, None),
    };
    let why = if displaced.by_undo { "undo" } else { why_word(displaced.why()) };
    json!({
        "folder": pair.description.remote, "side": Side::Remote.name(), "path": displaced.path.as_str(),
        "at": time(displaced.at), "why": why, "type": kind, "kept": Value::Null, "size": size, "target": target,
    })
}

fn why_word(why: Why) -> &'static str {
    match why {
        Why::Replaced => "replaced",
        Why::Deleted => "deleted",
        Why::Recovered => "recovered",
    }
}
