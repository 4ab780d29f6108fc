//! Operations under way: how they begin, and how they are given up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::delta::DeltaCheck;
use crate::engine::batch::travels_with_others;
use crate::engine::queue::{Operation, Queued};
use crate::engine::{Engine, EngineConfig, Side};
use crate::message::{Basis, Block, Content, Request, RequestId};
use crate::path::{RelPath, below};
use crate::snapshot::{Entry, File, Transition};

/// The most cancelled requests whose late answers are recognised.
const MAX_CANCELLED: usize = 100_000;

/// What a replica makes at best in a second: for so long as word of it is on its way, so much more is under way.
const OPERATIONS_PER_SECOND: u128 = 40_000;
const BYTES_PER_SECOND: u128 = 400_000_000;

/// The most large files under way at once, however far away the other side is.
const MAX_BULK: usize = 16;

/// What an operation waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The receiver's block sums.
    Signing,
    /// Content that is fetched together with that of others.
    Fetching,
    /// Content from the other side.
    Reading,
    /// More of it: who applies it was told when the first came, and will answer.
    Receiving,
    /// The end, of which the answer tells.
    Finishing,
}

impl Stage {
    /// Tells whether who applies knows of the operation.
    pub(super) fn is_begun(self) -> bool {
        matches!(self, Self::Receiving | Self::Finishing)
    }
}

/// How a file's content travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// All of it, so no `NeedContent` is due.
    Whole,
    /// As the difference to a version whose blocks its source may know.
    Known,
    /// As the difference to a version that the receiver was asked to sign, which is done once.
    Signed,
}

/// One operation under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) path: RelPath,
    /// Whose entry is dealt with.
    pub(super) side: Side,
    pub(super) operation: Operation,
    pub(super) stage: Stage,
    pub(super) check: DeltaCheck,
    /// What the source holds, while it is read.
    pub(super) source: Option<File>,
    /// What the receiver has instead, or had.
    pub(super) basis: Option<File>,
    /// Bytes of content it takes.
    pub(super) bytes: u64,
    pub(super) bulk: bool,
    /// Under way since before all was known: it takes nothing else's room.
    pub(super) early: bool,
    /// The other side has what this step leads to.
    pub(super) agreed: bool,
    pub(super) form: Form,
    /// What is moved here.
    pub(super) moved_from: Option<RelPath>,
}

impl Flight {
    /// Returns an operation that no content has to come for.
    pub(super) fn new(path: RelPath, side: Side, operation: Operation) -> Self {
        Self {
            path,
            side,
            operation,
            stage: Stage::Finishing,
            check: DeltaCheck::new(0, 0),
            source: None,
            basis: None,
            bytes: 0,
            bulk: false,
            early: false,
            agreed: false,
            form: Form::Known,
            moved_from: None,
        }
    }

    /// Returns how many bytes have still to come from where they are read, if it is a small one.
    fn unread_bytes(&self) -> u64 {
        if self.bulk || self.stage == Stage::Finishing { 0 } else { self.bytes }
    }

    /// Returns who answers with `Applied`.
    pub(super) fn applier(&self) -> Side {
        match self.operation {
            Operation::Keep(_) => Side::Local,
            Operation::Apply(_) => self.side,
        }
    }

    /// Returns who sends the content.
    pub(super) fn reader(&self) -> Side {
        match self.operation {
            Operation::Keep(_) => self.side,
            Operation::Apply(_) => self.side.other(),
        }
    }
}

/// All operations under way. The id of an `Apply`, `Keep` or `Sign` is even; that of its `Read` is one more.
#[derive(Debug, Default)]
pub(super) struct Flights {
    by_id: BTreeMap<RequestId, Flight>,
    by_path: BTreeMap<RelPath, RequestId>,
    /// Requests that were given up and may still be answered.
    cancelled: [BTreeSet<RequestId>; 2],
    next: RequestId,
    small: [usize; 2],
    small_bytes: [u64; 2],
    /// Of these, whose content has not come from where it is read.
    unread_bytes: [u64; 2],
    bulk: [usize; 2],
    bulk_bytes: [u64; 2],
    /// How many wait for content from where it is read.
    reading: usize,
    bytes_left: u64,
    pub(super) round_trip: Duration,
}

/// Returns the id of the `Read` that belongs to an operation.
pub(super) fn read_id(id: RequestId) -> RequestId {
    id | 1
}

impl Flights {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Returns how many bytes of content are still to come.
    pub(super) fn bytes_left(&self) -> u64 {
        self.bytes_left
    }

    pub(super) fn at(&self, path: &RelPath) -> Option<&Flight> {
        self.by_path.get(path).and_then(|id| self.by_id.get(id))
    }

    /// Tells whether something is under way at the path, below it, or for the folder it stands for.
    pub(super) fn touch(&self, path: &RelPath) -> bool {
        self.at(path).is_some() || below(&self.by_path, path).next().is_some()
    }

    pub(super) fn get(&mut self, id: RequestId) -> Option<&mut Flight> {
        self.by_id.get_mut(&id)
    }

    /// Takes a block of content into account.
    pub(super) fn received(&mut self, bytes: u64) {
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
    }

    /// Makes every step under way one that nothing is concluded from.
    pub(super) fn disagree(&mut self) {
        for flight in self.by_id.values_mut() {
            flight.agreed = false;
        }
    }

    /// Returns an id that names no operation.
    pub(super) fn name(&mut self) -> RequestId {
        let id = self.next;
        self.next += 2;
        id
    }

    pub(super) fn add(&mut self, flight: Flight) -> RequestId {
        let id = self.name();
        let side = flight.side as usize;
        if flight.bulk {
            self.bulk[side] += 1;
            self.bulk_bytes[side] += flight.bytes;
        } else if !flight.early {
            self.small[side] += 1;
            self.small_bytes[side] += flight.bytes;
        }
        self.reading += usize::from(flight.stage != Stage::Finishing);
        self.unread_bytes[side] += flight.unread_bytes();
        self.bytes_left += flight.bytes;
        self.by_path.insert(flight.path.clone(), id);
        self.by_id.insert(id, flight);
        id
    }

    /// Takes note that all the content of an operation has been read.
    pub(super) fn finish(&mut self, id: RequestId) {
        if let Some(flight) = self.by_id.get_mut(&id)
            && flight.stage != Stage::Finishing
        {
            self.reading -= 1;
            self.unread_bytes[flight.side as usize] -= flight.unread_bytes();
            flight.stage = Stage::Finishing;
        }
    }

    /// Takes an operation out that is over.
    pub(super) fn land(&mut self, id: RequestId) -> Option<Flight> {
        let flight = self.by_id.remove(&id)?;
        self.by_path.remove(&flight.path);
        let side = flight.side as usize;
        if flight.bulk {
            self.bulk[side] -= 1;
            self.bulk_bytes[side] -= flight.bytes;
        } else if !flight.early {
            self.small[side] -= 1;
            self.small_bytes[side] -= flight.bytes;
        }
        self.reading -= usize::from(flight.stage != Stage::Finishing);
        self.unread_bytes[side] -= flight.unread_bytes();
        self.received(flight.bytes - flight.check.written().min(flight.bytes));
        Some(flight)
    }

    fn has_room(&self, side: Side, bulk: bool, config: &EngineConfig) -> bool {
        let index = side as usize;
        if bulk {
            let is_near = self.bulk[index] < config.bulk_operations;
            return is_near || (self.bulk[index] < MAX_BULK && self.bulk_bytes[index] < self.more_bytes());
        }
        let more = self.within_round_trip(OPERATIONS_PER_SECOND);
        self.small[index] < config.small_operations + usize::try_from(more).unwrap_or(usize::MAX)
            && self.small_bytes[index] < config.small_bytes + self.more_bytes()
            // What the remote side reads is a round trip away, too.
            && (side == Side::Local || self.unread_bytes[index] < config.unread_bytes)
    }

    /// Tells whether nothing waits for content.
    pub(super) fn are_all_finishing(&self) -> bool {
        self.reading == 0
    }

    /// Returns how many bytes more than elsewhere are under way at once, for the remote side's distance.
    pub(super) fn more_bytes(&self) -> u64 {
        self.within_round_trip(BYTES_PER_SECOND)
    }

    fn within_round_trip(&self, per_second: u128) -> u64 {
        u64::try_from(per_second * self.round_trip.as_micros() / 1_000_000).unwrap_or(u64::MAX)
    }

    /// Tells whether a request was given up; `ends` with its last answer.
    pub(super) fn was_cancelled(&mut self, side: Side, id: RequestId, ends: bool) -> bool {
        let cancelled = &mut self.cancelled[side as usize];
        if ends { cancelled.remove(&id) } else { cancelled.contains(&id) }
    }

    pub(super) fn cancel(&mut self, side: Side, id: RequestId) {
        let cancelled = &mut self.cancelled[side as usize];
        cancelled.insert(id);
        if cancelled.len() > MAX_CANCELLED {
            cancelled.pop_first();
        }
    }
}

impl Engine {
    /// Begins operations as long as there is room for more under way.
    pub(super) fn pump(&mut self) {
        for side in Side::BOTH {
            if !self.may_change(side) {
                continue;
            }
            for bulk in [false, true] {
                while self.flights.has_room(side, bulk, &self.config) {
                    let Some(queued) = self.queues[side as usize].peek(bulk).cloned() else { break };
                    if queued.is_deletion() {
                        // What is to be copied from here, into a folder that is still on its way, comes before it.
                        self.send_batch(side);
                        if self.is_fetching(side) || !self.dirty.is_empty() {
                            break;
                        }
                    }
                    self.queues[side as usize].remove(&queued.path);
                    if self.is_possible(side, &queued) {
                        if !self.begin_move(side, &queued) {
                            self.begin(side, queued, bulk);
                        }
                    } else {
                        self.waiting[side as usize].insert(queued.path);
                    }
                }
            }
            self.send_batch(side);
        }
    }

    /// Tells whether the folder of what is made is there, and whether what is in a folder that goes is gone, or will be
    /// when the requests before this one are carried out.
    fn is_possible(&self, side: Side, queued: &Queued) -> bool {
        let Operation::Apply(step) = &queued.operation else { return true };
        let tree = self.replicas[side as usize].tree();
        let becomes = |flight: &Flight, folder: bool| match &flight.operation {
            Operation::Apply(step) => flight.side == side && (step.to == Some(Entry::Directory)) == folder,
            Operation::Keep(_) => false,
        };
        if step.to.is_some()
            && let Some(parent) = step.path.parent()
        {
            let ready = match self.flights.at(&parent) {
                Some(flight) if becomes(flight, true) => {
                    // What does not travel in batches would overtake one that waits for content.
                    flight.stage == Stage::Finishing || self.is_small(side, queued)
                }
                Some(flight) if becomes(flight, false) => false,
                _ => tree.get(&parent) == Some(&Entry::Directory),
            };
            if !ready {
                return false;
            }
        }
        if step.from != Some(Entry::Directory) {
            return true;
        }
        let goes = |path: &RelPath| {
            self.flights.at(path).is_some_and(|flight| {
                flight.side == side
                    && matches!(&flight.operation, Operation::Apply(Transition { to: None, .. }))
            })
        };
        below(tree, &step.path).all(|(path, entry)| matches!(entry, Entry::Opaque(_)) || goes(path))
            && below(&self.flights.by_path, &step.path).all(|(path, id)| {
                self.flights.by_id.get(id).is_none_or(|flight| flight.side != side) || goes(path)
            })
    }

    fn is_small(&self, side: Side, queued: &Queued) -> bool {
        let source = self.replicas[side.other() as usize].tree().get(&queued.path);
        travels_with_others(queued, source, self.config.batched_size)
    }

    fn begin(&mut self, side: Side, queued: Queued, bulk: bool) {
        let small = self.is_small(side, &queued);
        let Queued { path, operation, bytes } = queued;
        let mut flight = Flight {
            check: DeltaCheck::new(bytes, 0),
            bytes,
            bulk,
            form: if self.whole.contains(&path) { Form::Whole } else { Form::Known },
            ..Flight::new(path.clone(), side, operation)
        };
        if small {
            flight.stage = Stage::Fetching;
            flight.agreed = true;
            if let Operation::Apply(Transition { from, to: Some(Entry::File(file)), .. }) = &flight.operation
            {
                flight.source = Some(*file);
                let past = || self.past[side as usize].at(&path);
                flight.basis = match from {
                    Some(Entry::File(from)) if from.size > 0 => Some(*from),
                    _ => past(),
                };
                if flight.basis.is_none() {
                    flight.form = Form::Whole;
                }
            }
            self.join_batch(flight);
            return;
        }
        let step = match &flight.operation {
            Operation::Keep(file) => {
                let file = *file;
                self.read(flight, file, Basis::None);
                return;
            }
            Operation::Apply(step) => step.clone(),
        };
        let source = self.replicas[side.other() as usize].tree().get(&path);
        flight.agreed = source == step.to.as_ref();
        let has_content = matches!((&step.from, &step.to), (Some(Entry::File(from)), Some(Entry::File(to))) if from.hash == to.hash);
        let (to, source) = match (&step.to, source) {
            (Some(Entry::File(to)), Some(Entry::File(source))) if !has_content => (*to, *source),
            _ => {
                self.apply(flight, step, Content::None);
                return;
            }
        };
        if to.size == 0 {
            let id = self.apply(flight, step, Content::Incoming);
            self.outboxes[side as usize].push_data(id, Block { ops: Vec::new(), last: true }, false);
            return;
        }
        if flight.form != Form::Whole {
            // What is on its way out is found in its place or in the trash, as what has gone.
            let holders = || self.replicas[side as usize].holders(to.hash);
            let stays = holders().find(|holder| self.flights.at(holder).is_none());
            let gone = || self.past[side as usize].has(to.hash).then_some(&path);
            if let Some(from) = stays.or_else(|| holders().next()).or_else(gone).cloned() {
                self.apply(flight, step, Content::Copy { from });
                return;
            }
        }
        let basis = match &step.from {
            Some(Entry::File(basis))
                if flight.form != Form::Whole && to.size.min(basis.size) >= self.config.delta_size =>
            {
                flight.check = DeltaCheck::new(to.size, basis.size);
                Basis::Known(basis.hash)
            }
            _ => {
                flight.check = DeltaCheck::new(to.size, 0);
                flight.form = Form::Whole;
                Basis::None
            }
        };
        self.read(flight, source, basis);
    }

    /// Has the content read for an operation; whoever applies it is told when it comes.
    fn read(&mut self, mut flight: Flight, expect: File, basis: Basis) {
        flight.stage = Stage::Reading;
        flight.source = Some(expect);
        let (reader, path) = (flight.reader(), flight.path.clone());
        let id = self.flights.add(flight);
        self.outboxes[reader as usize].push(Request::Read { id: read_id(id), path, expect, basis });
    }

    fn apply(&mut self, flight: Flight, transition: Transition, content: Content) -> RequestId {
        let side = flight.side;
        let id = self.flights.add(flight);
        self.outboxes[side as usize].push(Request::Apply { id, transition, content });
        id
    }

    /// Takes an operation out that is over; its path, and what waited for it, is decided anew.
    pub(super) fn land(&mut self, id: RequestId) -> Option<Flight> {
        let flight = self.flights.land(id)?;
        self.dirty.insert(flight.path.clone());
        self.wake(flight.side, &flight.path);
        Some(flight)
    }

    /// Gives up what is read from a path that is no longer what it was.
    pub(super) fn cancel_read(&mut self, side: Side, path: &RelPath) {
        let Some(id) = self.flights.by_path.get(path).copied() else { return };
        let unread = self
            .flights
            .get(id)
            .is_some_and(|flight| flight.stage != Stage::Finishing && flight.reader() == side);
        if unread && let Some(flight) = self.land(id) {
            self.give_up(id, &flight, None);
        }
    }

    /// Tells those who work on an operation to stop. `gone` needs not be told.
    pub(super) fn give_up(&mut self, id: RequestId, flight: &Flight, gone: Option<Side>) {
        self.progress.bytes -= flight.check.written().min(self.progress.bytes);
        let applier = flight.applier();
        if gone != Some(applier) {
            if flight.stage.is_begun() || flight.stage == Stage::Signing {
                self.flights.cancel(applier, id);
            }
            if flight.stage.is_begun() {
                self.outboxes[applier as usize].cancel(id);
            }
        }
        if gone != Some(flight.reader()) {
            self.stop_reader(id, flight);
        }
    }

    /// Tells who reads for an operation that no more is wanted.
    pub(super) fn stop_reader(&mut self, id: RequestId, flight: &Flight) {
        if matches!(flight.stage, Stage::Reading | Stage::Receiving) {
            let reader = flight.reader();
            self.flights.cancel(reader, read_id(id));
            self.outboxes[reader as usize].cancel(read_id(id));
        }
    }

    /// Gives up everything that a side that is gone had a part in.
    pub(super) fn drop_flights(&mut self, side: Side) {
        let lost = |flight: &Flight| {
            flight.applier() == side || (flight.stage != Stage::Finishing && flight.reader() == side)
        };
        let ids: Vec<_> =
            self.flights.by_id.iter().filter(|(_, flight)| lost(flight)).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(flight) = self.flights.land(id) else { continue };
            self.give_up(id, &flight, Some(side));
            if let Some(from) = &flight.moved_from {
                let held = self.held_by_move(from, &flight.path);
                self.unacknowledged
                    .extend(held.into_iter().map(|(path, entry)| (path, (flight.side, entry))));
            }
            if let Operation::Apply(step) = &flight.operation
                && flight.agreed
                && flight.side == side
            {
                self.unacknowledged.insert(step.path.clone(), (side, step.to.clone()));
            }
        }
        self.flights.cancelled[side as usize].clear();
    }
}
