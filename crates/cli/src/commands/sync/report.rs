//! What a sync says while it goes on, and at the end.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use towline_link::Traffic;
use towline_session::Event;
use towline_session::event::EVENT_VERSION;
use towline_sync::{Counters, keep_folder};
use towline_sync_core::engine::SyncEvent;

use super::ends::Ends;
use super::progress::{Progress, size};
use crate::ui::{self, Ui};

/// So many bytes are worth a line of their own while a sync watches.
const MUCH: u64 = 8_000_000;
/// A program is told how far it is this often, and at the end.
const TOLD: Duration = Duration::from_millis(100);
/// So many paths that were not synced are named in the end.
const NAMED: usize = 5;

/// Tells people or programs what happens.
#[derive(Debug)]
pub(super) struct Report {
    names: [String; 2],
    conflicts: PathBuf,
    watch: bool,
    progress: Progress,
    /// When a program was told last how far it is.
    told: Option<Instant>,
    /// What is not synced, and why.
    problems: BTreeMap<String, String>,
    /// What was done since both sides were last equal.
    lately: [Lately; 2],
    rested: bool,
    /// The live line tells of a transfer.
    transferring: bool,
}

#[derive(Debug, Default)]
struct Lately {
    paths: u64,
    deleted: u64,
    /// The last.
    path: String,
}

impl Report {
    pub(super) fn new(ends: &Ends, watch: bool) -> Self {
        Self {
            names: [ends.source.display().to_string(), ends.far_name.clone()],
            conflicts: keep_folder(&ends.state).join("conflicts"),
            watch,
            progress: Progress::default(),
            told: None,
            problems: BTreeMap::new(),
            lately: Default::default(),
            rested: false,
            transferring: false,
        }
    }

    /// Tells what happened.
    pub(super) fn tell(&mut self, ui: &mut Ui, event: SyncEvent) {
        let folder = 0;
        match event {
            SyncEvent::Progress { files, files_total, bytes, bytes_total } => {
                if ui.is_json() {
                    if files == files_total || self.told.is_none_or(|told| told.elapsed() >= TOLD) {
                        self.told = Some(Instant::now());
                        ui.event(&Event::SyncProgress { folder, files, files_total, bytes, bytes_total });
                    }
                } else if ui.is_live() {
                    let is_much = !self.rested || bytes_total.saturating_sub(bytes) > MUCH;
                    if !self.transferring && is_much && files < files_total {
                        self.transferring = true;
                        ui.phase("bringing over what differs");
                    }
                    let words =
                        self.progress.words(Instant::now(), [files, files_total], [bytes, bytes_total]);
                    ui.phase_detail(&words);
                }
            }
            SyncEvent::InSync => self.in_sync(ui),
            SyncEvent::Conflict { path, kept_as } => {
                let kept = self.conflicts.join(kept_as).display().to_string();
                if ui.is_json() {
                    ui.event(&Event::Conflict { folder, path: path.to_string(), kept });
                } else {
                    ui.warn(&format!(
                        "{path} was changed on both sides: the version that lost is kept as {kept}"
                    ));
                }
            }
            SyncEvent::Halted { side, reason, missing, of } => {
                let message = format!("{reason} ({missing} of {of} files)");
                if ui.is_json() {
                    ui.event(&Event::SyncHalted { folder, message });
                } else {
                    let name = &self.names[side as usize];
                    ui.warn(&format!("nothing more flows from {name}: {message}"));
                    if self.watch {
                        ui.say("if the deletions are wanted: end this, and run the same with --approve-deletions");
                    }
                }
            }
            SyncEvent::Resumed if !ui.is_json() => ui.say("it goes on"),
            SyncEvent::Problem { path, message } => {
                if ui.is_json() {
                    ui.event(&Event::SyncProblem { folder, path: path.clone(), message: message.clone() });
                } else {
                    ui.warn(&format!("{path} is not synced: {message}"));
                }
                self.problems.insert(path, message);
            }
            SyncEvent::Solved { path } => {
                let was_known = self.problems.remove(&path).is_some();
                if was_known && ui.is_json() {
                    ui.json(&line("syncSolved", json!({"folder": folder, "path": path})));
                } else if was_known && self.watch {
                    ui.say(&format!("{path} is synced again"));
                }
            }
            SyncEvent::Applied { side, path, deleted } => {
                let path = path.to_string();
                if ui.is_json() {
                    ui.event(&Event::Synced { folder, to: side.into(), path, deleted });
                } else {
                    let lately = &mut self.lately[side as usize];
                    lately.paths += 1;
                    lately.deleted += u64::from(deleted);
                    lately.path = path;
                }
            }
            _ => {}
        }
    }

    fn in_sync(&mut self, ui: &mut Ui) {
        ui.phase_done();
        self.transferring = false;
        if ui.is_json() {
            return ui.event(&Event::InSync { folder: 0 });
        }
        let was_rested = std::mem::replace(&mut self.rested, true);
        let lately = std::mem::take(&mut self.lately);
        if !was_rested {
            if self.watch {
                ui.say("in sync: every change is brought over as it is made, until Ctrl-C");
            }
            return;
        }
        let time = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
        for (name, lately) in self.names.iter().zip(lately).filter(|(_, lately)| lately.paths > 0) {
            let Lately { paths, deleted, path } = lately;
            let what = match (paths, deleted) {
                (1, 0) => path,
                (1, _) => format!("{path} deleted"),
                (_, 0) => format!("{paths} paths, the last {path}"),
                _ => format!("{paths} paths, {deleted} of them deleted, the last {path}"),
            };
            ui.say(&format!("{time} → {name}: {what}"));
        }
    }

    /// Says once that the other side began with versions of its own.
    pub(super) fn replaced(&self, ui: &mut Ui, count: u64) {
        ui.warn(&format!(
            "{} of {} had another version, which gave way: see towline sync undo --list",
            paths(count),
            self.names[1]
        ));
    }

    /// Returns what the system refused, in words, if it refused anything. What is left alone by design is not meant.
    pub(super) fn refused(&self) -> Option<String> {
        let refused: Vec<_> = self
            .problems
            .iter()
            .filter(|(_, message)| !is_by_design(message))
            .map(|(path, _)| path.as_str())
            .collect();
        if refused.is_empty() {
            return None;
        }
        let named = refused[..refused.len().min(NAMED)].join(", ");
        let more = if refused.len() > NAMED { ", …" } else { "" };
        Some(format!("not synced: {}: {named}{more}", paths(refused.len() as u64)))
    }
}

/// Says at the end what was done.
pub(super) fn sum_up(ui: &mut Ui, counters: &Counters, began: Instant) {
    if ui.is_json() {
        return;
    }
    let seconds = began.elapsed().as_secs_f64();
    let Counters { applied, deleted, conflicts, bytes, .. } = counters;
    let mut words = if applied + deleted == 0 {
        "in sync, nothing was to be done".to_owned()
    } else {
        format!("in sync: {} brought over, {deleted} deleted, {}", paths(*applied), size(*bytes))
    };
    if *conflicts > 0 {
        words = format!("{words}, conflicts: {conflicts} (see: towline sync conflicts)");
    }
    ui.say(&format!("{words}, {seconds:.1} s"));
}

/// Says what it took.
pub(super) fn stats(ui: &mut Ui, counters: &Counters, usage: &Usage, began: Instant) {
    let object = line(
        "stats",
        json!({
            "seconds": began.elapsed().as_secs_f64(),
            "files": counters.files, "bytes": counters.bytes,
            "applied": counters.applied, "deleted": counters.deleted, "conflicts": counters.conflicts,
            "copiedFiles": counters.copied_files,
            "delta": {"files": counters.delta_files, "savedBytes": counters.delta_bytes},
            "wire": usage.wire.map(|wire| json!({
                "sentBytes": wire.sent, "receivedBytes": wire.received,
                "sentBytesUnpacked": wire.sent_unpacked, "receivedBytesUnpacked": wire.received_unpacked,
            })),
            "local": usage.local.json(),
            "remote": usage.remote.as_ref().map(End::json),
        }),
    );
    if ui.is_json() || !std::io::stdout().is_terminal() {
        return ui.json(&object);
    }
    ui.data(&format!("paths    {} brought over, {} deleted", counters.applied, counters.deleted));
    ui.data(&format!(
        "content  {}; {} files copied where they were, {} files sent as a difference, which saved {}",
        size(counters.bytes),
        counters.copied_files,
        counters.delta_files,
        size(counters.delta_bytes)
    ));
    if let Some(wire) = usage.wire {
        ui.data(&format!("wire     {} sent, {} received", size(wire.sent), size(wire.received)));
    }
    for (name, end) in [("here ", Some(&usage.local)), ("there", usage.remote.as_ref())] {
        if let Some(end) = end {
            let memory = size(end.peak_kibibytes * 1024);
            ui.data(&format!("{name}    {:.2} s of processor time, {memory} of memory", end.cpu_seconds));
        }
    }
}

/// What a sync has used.
#[derive(Debug)]
pub(super) struct Usage {
    pub(super) wire: Option<Traffic>,
    pub(super) local: End,
    pub(super) remote: Option<End>,
}

/// What one end has used.
#[derive(Debug)]
pub(super) struct End {
    pub(super) cpu_seconds: f64,
    pub(super) peak_kibibytes: u64,
}

impl End {
    fn json(&self) -> Value {
        json!({"cpuSeconds": self.cpu_seconds, "peakKibibytes": self.peak_kibibytes})
    }
}

fn paths(count: u64) -> String {
    if count == 1 { "1 path".to_owned() } else { format!("{count} paths") }
}

/// Tells whether a path is left alone because it is what it is, not because something went wrong.
fn is_by_design(message: &str) -> bool {
    ["devices, sockets and named pipes are not synced", "the symbolic link can lead outside the folder"]
        .contains(&message)
}

/// Returns a line of JSON output.
pub(super) fn line(kind: &str, fields: Value) -> Value {
    let mut object = json!({"version": EVENT_VERSION, "time": ui::now(), "kind": kind});
    if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
        object.extend(fields);
    }
    object
}
