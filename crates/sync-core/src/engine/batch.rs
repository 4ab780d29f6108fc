//! Many small entries that one side lacks or has in another version, made with two messages instead of three for each.
//!
//! Each of them is a flight of its own, so that whatever concerns one path is the same as ever; a batch is how they
//! travel. Its flights are at [`Stage::Fetching`] until their content is here and `Install` is on its way.

use std::collections::BTreeMap;

use crate::delta::{DeltaCheck, DeltaError};
use crate::engine::flight::{Flight, Form};
use crate::engine::queue::{Operation, Queued};
use crate::engine::{Engine, EngineError, Side};
use crate::message::{
    Body, Found, MAX_BATCH_BYTES, MAX_SMALL_BYTES, New, Outcome, Request, RequestId, Wanted,
};
use crate::snapshot::{Entry, File, Transition};

/// The most entries in one batch.
pub(super) const MAX_BATCH_ENTRIES: usize = 1024;

/// Batches being gathered, and those under way.
#[derive(Debug, Default)]
pub(super) struct Batches {
    open: [Open; 2],
    by_id: BTreeMap<RequestId, Batch>,
}

/// A batch for one side that can take more.
#[derive(Debug, Default)]
struct Open {
    members: Vec<RequestId>,
    bytes: usize,
}

/// A batch that was sent.
#[derive(Debug)]
struct Batch {
    /// Who makes the entries.
    side: Side,
    /// The flights, in the order of what was asked last.
    members: Vec<RequestId>,
    /// Those of them whose content is fetched, none where none is needed; `None` once the entries are being made.
    fetching: Option<Vec<RequestId>>,
}

impl Batches {
    /// Takes a batch in whose entries are being made.
    pub(super) fn sent(&mut self, id: RequestId, side: Side, members: Vec<RequestId>) {
        self.by_id.insert(id, Batch { side, members, fetching: None });
    }
}

/// Tells whether an operation can travel with others: `source` is what the other side has at its path, and files have
/// at most `limit` bytes.
pub(super) fn travels_with_others(queued: &Queued, source: Option<&Entry>, limit: u64) -> bool {
    let Operation::Apply(step) = &queued.operation else { return false };
    if source != step.to.as_ref() {
        return false;
    }
    match (&step.from, &step.to) {
        (None, Some(Entry::Directory | Entry::Symlink { .. })) => true,
        (None | Some(Entry::File(_)), Some(Entry::File(file))) => {
            queued.bytes == file.size && file.size <= limit.min(MAX_SMALL_BYTES)
        }
        _ => false,
    }
}

impl Engine {
    /// Adds a flight to the batch that its side is to make next.
    pub(super) fn join_batch(&mut self, flight: Flight) {
        let (side, bytes) = (flight.side, usize::try_from(flight.bytes).unwrap_or(MAX_BATCH_BYTES));
        let open = &self.batches.open[side as usize];
        if open.members.len() >= MAX_BATCH_ENTRIES || open.bytes + bytes > MAX_BATCH_BYTES {
            self.send_batch(side);
        }
        let id = self.flights.add(flight);
        let open = &mut self.batches.open[side as usize];
        open.members.push(id);
        open.bytes += bytes;
    }

    /// Sends what was gathered for a side.
    pub(super) fn send_batch(&mut self, side: Side) {
        let Open { members, .. } = std::mem::take(&mut self.batches.open[side as usize]);
        if members.is_empty() {
            return;
        }
        let id = self.flights.name();
        let (mut files, mut fetching) = (Vec::new(), Vec::new());
        for member in &members {
            if let Some(wanted) = self.flights.get(*member).and_then(|flight| wanted(flight)) {
                files.push(wanted);
                fetching.push(*member);
            }
        }
        let waits = self.is_fetching(side);
        self.batches.by_id.insert(id, Batch { side, members, fetching: Some(fetching) });
        if !files.is_empty() {
            self.outboxes[side.other() as usize].push(Request::Fetch { id, files });
        } else if !waits {
            self.install(id, Vec::new());
        }
    }

    /// Tells whether content is fetched for a batch that a side is to make.
    pub(super) fn is_fetching(&self, side: Side) -> bool {
        self.batches.by_id.values().any(|batch| batch.side == side && batch.fetching.is_some())
    }

    /// Takes the content of a batch.
    pub(super) fn fetched(
        &mut self,
        side: Side,
        id: RequestId,
        files: Vec<Option<Found>>,
    ) -> Result<(), EngineError> {
        let batch = self.batches.by_id.get_mut(&id).filter(|batch| batch.side == side.other());
        let asked = batch.and_then(|batch| batch.fetching.take_if(|fetching| !fetching.is_empty()));
        let Some(fetching) = asked else {
            return self.unless_cancelled(side, id);
        };
        if files.len() != fetching.len() {
            return Err(EngineError::OutOfTurn { side, what: "another number of files than was asked for" });
        }
        let mut contents = Vec::with_capacity(files.len());
        for (member, found) in fetching.into_iter().zip(files) {
            let Some(flight) = self.flights.get(member) else { continue };
            let Some(found) = found else {
                self.not_fetched(member);
                continue;
            };
            let Some(file) = flight.source else { continue };
            let basis = flight.basis.filter(|_| flight.form != Form::Whole).map_or(0, |basis| basis.size);
            let mut check = DeltaCheck::new(file.size, basis);
            let fits = match &found.body {
                Body::Whole(bytes) if bytes.len() as u64 == file.size => Ok(()),
                Body::Whole(_) => Err(DeltaError::TooShort),
                Body::Delta(ops) => check.push_ops(ops, true),
                Body::Past { .. } => {
                    return Err(EngineError::OutOfTurn { side, what: "another version than was named" });
                }
            };
            fits.map_err(|source| EngineError::Content { side, path: flight.path.clone(), source })?;
            contents.push((member, found));
        }
        self.install(id, contents);
        self.install_waiting(side.other());
        Ok(())
    }

    /// Has those batches made that need no content and waited for the one before: folders must not be overtaken by
    /// what is in them.
    fn install_waiting(&mut self, side: Side) {
        let next = |batches: &Batches| {
            let (id, batch) =
                batches.by_id.iter().find(|(_, batch)| batch.side == side && batch.fetching.is_some())?;
            batch.fetching.as_ref().is_some_and(Vec::is_empty).then_some(*id)
        };
        while let Some(id) = next(&self.batches) {
            self.install(id, Vec::new());
        }
    }

    /// Leaves out a file that is not what it was: the news of what it is now is on its way, or comes with a scan.
    fn not_fetched(&mut self, member: RequestId) {
        if let Some(flight) = self.land(member) {
            self.surprised(&flight.path);
        }
    }

    /// Has the entries of a batch made, as far as they are still wanted.
    fn install(&mut self, id: RequestId, contents: Vec<(RequestId, Found)>) {
        let Some(batch) = self.batches.by_id.get_mut(&id) else { return };
        let side = batch.side;
        batch.fetching = None;
        let mut contents = contents.into_iter().peekable();
        let (mut entries, mut kept) = (Vec::new(), Vec::new());
        for member in std::mem::take(&mut batch.members) {
            let content = contents.next_if(|(of, _)| *of == member).map(|(_, found)| found);
            let Some(flight) = self.flights.get(member) else { continue };
            let Operation::Apply(Transition { path, to: Some(entry), .. }) = &flight.operation else {
                continue;
            };
            let from = replaced(flight);
            let Found { mut body, modified } = match (entry, content) {
                (Entry::File(file), None) if file.size > 0 => continue,
                (_, Some(found)) => found,
                (_, None) => Found { body: Body::NONE, modified: None },
            };
            if let (Body::Delta(ops), Some(basis)) =
                (&mut body, flight.basis.filter(|_| flight.basis != from))
            {
                body = Body::Past { of: basis.hash, ops: std::mem::take(ops) };
            }
            // What is replaced changes now, by the clock of those who have built something of it.
            let modified = if from.is_none() { modified } else { None };
            entries.push(New { path: path.clone(), from, entry: entry.clone(), body, modified });
            self.flights.finish(member);
            kept.push(member);
        }
        if entries.is_empty() {
            self.batches.by_id.remove(&id);
            return;
        }
        batch.members = kept;
        let folders: Vec<_> =
            entries.iter().filter(|new| new.entry == Entry::Directory).map(|new| new.path.clone()).collect();
        self.outboxes[side as usize].push_batch(Request::Install { id, entries });
        // What goes into a folder that is on its way can follow it.
        for folder in folders {
            self.wake(side, &folder);
        }
    }

    /// Takes the end of a batch.
    pub(super) fn installed(
        &mut self,
        side: Side,
        id: RequestId,
        failed: Vec<(u32, Outcome)>,
    ) -> Result<(), EngineError> {
        if self.eager.is_pending(id) {
            return self.eagerly_installed(side, id, &failed);
        }
        let known = self.batches.by_id.get(&id);
        if !known.is_some_and(|batch| batch.side == side && batch.fetching.is_none()) {
            return self.unless_cancelled(side, id);
        }
        let Some(batch) = self.batches.by_id.remove(&id) else { return Ok(()) };
        let mut failed: BTreeMap<usize, Outcome> =
            failed.into_iter().map(|(index, outcome)| (index as usize, outcome)).collect();
        for (index, member) in batch.members.into_iter().enumerate() {
            if self.flights.get(member).is_some() {
                let outcome = match failed.remove(&index).unwrap_or(Outcome::Done) {
                    Outcome::Stale { actual } => {
                        Outcome::Stale { actual: self.believable_at(member, actual) }
                    }
                    other => other,
                };
                self.applied(side, member, outcome)?;
            }
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(EngineError::OutOfTurn { side, what: "the failure of an entry that was not asked for" })
        }
    }

    /// Forgets the batches that a side that is gone had a part in; their flights are given up one by one.
    pub(super) fn drop_batches(&mut self, side: Side) {
        self.batches.open = Default::default();
        let gone: Vec<_> = self
            .batches
            .by_id
            .iter()
            .filter(|(_, batch)| batch.side == side || batch.fetching.is_some())
            .map(|(id, batch)| (*id, batch.side, batch.fetching.is_some()))
            .collect();
        for (id, maker, fetching) in gone {
            self.batches.by_id.remove(&id);
            // Whoever is still there may answer what was asked before.
            let asked = if fetching { maker.other() } else { maker };
            if asked != side {
                self.flights.cancel(asked, id);
            }
        }
    }
}

/// Returns the file whose content a flight waits for.
fn wanted(flight: &Flight) -> Option<Wanted> {
    let file = flight.source.filter(|source| source.size > 0)?;
    let basis = flight.basis.filter(|_| flight.form != Form::Whole);
    Some(Wanted { path: flight.path.clone(), file, basis: basis.map(|basis| basis.hash) })
}

/// Returns the file that a flight is to replace.
fn replaced(flight: &Flight) -> Option<File> {
    match &flight.operation {
        Operation::Apply(Transition { from: Some(Entry::File(from)), .. }) => Some(*from),
        _ => None,
    }
}
