//! What can be brought back, and where it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use towline_sync::{Discarded, Displaced, KnownPair, UndoThere};
use towline_sync_core::engine::Side;

use crate::commands::sync::args::Undo;
use crate::commands::sync::kept::{Place, is_at_or_below};
use crate::commands::sync::transfer::busy;
use crate::diagnose::Failure;
use crate::ui::Ui;

/// What can be brought back.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Where the bytes are on this machine.
    pub(super) here: Vec<(Place, Vec<Discarded>)>,
    /// Where an agent has them, by the pair's private folder.
    pub(super) there: BTreeMap<PathBuf, There>,
}

/// What an agent has of a pair.
#[derive(Debug)]
pub(super) struct There {
    pub(super) pair: KnownPair,
    /// Nobody syncs the pair meanwhile: if it is to be brought back.
    pub(super) undoing: Option<UndoThere>,
    pub(super) all: Vec<Displaced>,
}

impl Wanted {
    /// Adds what went since the sync of the folder around here was last begun; to be listed, everything.
    pub(super) fn add_around(&mut self, ui: &mut Ui, args: &Undo) -> Result<(), Failure> {
        let mut places = holding(Path::new("."), args)?;
        if !args.list {
            // The last sync of this folder, whichever it was.
            places.truncate(1);
        }
        for (place, _) in places {
            let began = place.pair.description.began;
            self.add_there(ui, args, &place, |displaced| args.list || displaced.at >= began)?;
            // What was deleted here is kept as the other side had it.
            let partner = place.partner().filter(|_| args.list);
            for place in std::iter::once(place).chain(partner) {
                let mut all = place.discarded();
                all.retain(|discarded| args.list || discarded.at >= began);
                self.here.push((place, all));
            }
        }
        Ok(())
    }

    /// Adds what is kept of a path and of what lies below it.
    pub(super) fn add(&mut self, ui: &mut Ui, args: &Undo, path: &Path) -> Result<(), Failure> {
        let mut any = false;
        let mut ways = Vec::new();
        for (place, rest) in holding(path, args)? {
            let is_meant = |displaced: &Displaced| {
                (args.list || !displaced.by_undo) && is_at_or_below(displaced.path.as_str(), &rest)
            };
            let is_there = self.add_there(ui, args, &place, is_meant)?;
            if is_there && !args.list && args.to.is_none() {
                ways.push(way_back(&place.pair, &args.paths));
            } else {
                any |= is_there;
            }
            let partner = place.partner();
            // What nothing is kept of here may be kept on the other side: there it went when it was deleted here.
            let kept = std::iter::once(place).chain(partner).filter_map(|place| {
                let mut all = place.discarded();
                all.retain(|discarded| is_at_or_below(&discarded.path, &rest));
                (!all.is_empty()).then_some((place, all))
            });
            let before = self.here.len();
            self.here.extend(kept.take(if args.list { 2 } else { 1 }));
            any |= self.here.len() > before;
        }
        if any {
            return Ok(());
        }
        let failure =
            Failure::new(format!("nothing that sync replaced or deleted is kept of {}", path.display()));
        if ways.is_empty() {
            return Err(failure.hint("see all there is: towline sync undo --list"));
        }
        let failure = Failure::new(format!("{} here: it went on the other side", failure.message));
        Err(ways.into_iter().fold(failure, Failure::hint))
    }

    /// Adds what an agent has of a pair, if one has the other side; tells whether there is any.
    fn add_there(
        &mut self,
        ui: &mut Ui,
        args: &Undo,
        place: &Place,
        is_meant: impl Fn(&Displaced) -> bool,
    ) -> Result<bool, Failure> {
        let pair = &place.pair;
        if place.side == Side::Remote || pair.description.remote_folder.is_some() {
            return Ok(false);
        }
        if !self.there.contains_key(&pair.state) {
            let undoing = match &args.to {
                Some(_) if !args.list => Some(UndoThere::open(pair).map_err(busy)?),
                _ => None,
            };
            let there = There { pair: pair.clone(), undoing, all: Vec::new() };
            self.there.insert(pair.state.clone(), there);
        }
        let Some(there) = self.there.get_mut(&pair.state) else { return Ok(false) };
        let displaced = match pair.displaced() {
            Ok(displaced) => displaced,
            Err(error) => {
                let remote = &pair.description.remote;
                ui.warn(&format!("what went on the other side ({remote}) is not known: {error}"));
                return Ok(false);
            }
        };
        let before = there.all.len();
        there.all.extend(displaced.into_iter().filter(is_meant));
        Ok(there.all.len() > before)
    }

    /// Leaves of each path the version that went last, on either side; what is not to be brought back on the other side
    /// does not count.
    pub(super) fn keep_latest(&mut self) {
        for (_, all) in &mut self.here {
            let mut seen = BTreeSet::new();
            all.retain(|discarded| !discarded.path.is_empty() && seen.insert(discarded.path.clone()));
        }
        for (state, there) in &mut self.there {
            let mut seen = BTreeSet::new();
            there.all.retain(|displaced| !displaced.by_undo && seen.insert(displaced.path.clone()));
            for (_, here) in self.here.iter_mut().filter(|(place, _)| place.pair.state == *state) {
                let went: BTreeMap<_, _> =
                    there.all.iter().map(|displaced| (displaced.path.as_str(), displaced.at)).collect();
                here.retain(|discarded| {
                    let later = went.get(discarded.path.as_str());
                    there.undoing.is_none() || later.is_none_or(|at| discarded.at >= *at)
                });
                let comes: BTreeSet<_> = here.iter().map(|discarded| discarded.path.as_str()).collect();
                there.all.retain(|displaced| !comes.contains(displaced.path.as_str()));
            }
        }
    }
}

/// Returns the places that hold a path, those of the pair that `--to` names if it is given.
fn holding(path: &Path, args: &Undo) -> Result<Vec<(Place, String)>, Failure> {
    let places = Place::holding(path)?;
    let Some(command) = &args.to else { return Ok(places) };
    let (with_agent, _): (Vec<_>, Vec<_>) =
        places.into_iter().partition(|(place, _)| place.pair.description.remote_folder.is_none());
    let (named, others): (Vec<_>, Vec<_>) =
        with_agent.into_iter().partition(|(place, _)| place.pair.description.remote == *command);
    if !named.is_empty() {
        return Ok(named);
    }
    let (sessions, others): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|(place, _)| is_session(&place.pair));
    if !sessions.is_empty() {
        return Ok(sessions);
    }
    let failure = Failure::new(format!("{} was not synced with --to '{command}'", path.display()));
    let hint = |(place, _): &(Place, String)| format!("it was with --to '{}'", place.pair.description.remote);
    Err(others.iter().map(hint).fold(failure, Failure::hint))
}

/// Tells whether a pair is of a session (`towline up`), which knows the folder in the container and no command.
fn is_session(pair: &KnownPair) -> bool {
    pair.description.remote == pair.description.remote_root
}

/// Says how what went on the other side comes back, of `paths` or all of it.
pub(super) fn way_back(pair: &KnownPair, paths: &[PathBuf]) -> String {
    let remote = &pair.description.remote;
    if is_session(pair) {
        return format!("it is in the trash of {remote} in the container, see docs/sync.md: The way back");
    }
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    let words =
        [&["towline", "sync", "undo"], &paths.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat();
    format!("bring it back there: {} --to '{remote}'", words.join(" "))
}
