//! How operations go on and end.

use crate::engine::flight::{Flight, Form, Stage, read_id};
use crate::engine::queue::Operation;
use crate::engine::replica::take_from;
use crate::engine::{Engine, EngineError, Side, SyncEvent};
use crate::message::{Basis, Block, Content, Failure, Outcome, Request, RequestId, Signature, conflict_name};
use crate::path::RelPath;
use crate::snapshot::{Entry, Transition};

/// `ENOENT`: a folder on the way is not there.
const NO_ENTRY: i32 = 2;
/// `ENOTDIR`: something else stands in its place.
const NOT_A_FOLDER: i32 = 20;

impl Engine {
    /// Relays a piece of content from the side that reads to the side that applies.
    pub(super) fn data(&mut self, side: Side, read: RequestId, block: Block) -> Result<(), EngineError> {
        let id = read & !1;
        let flight = self.flights.get(id).filter(|flight| {
            read == read_id(id)
                && flight.reader() == side
                && matches!(flight.stage, Stage::Reading | Stage::Receiving)
        });
        let Some(flight) = flight else {
            return if self.flights.was_cancelled(side, read, block.last) {
                Ok(())
            } else {
                Err(EngineError::UnknownRequest { side, id: read })
            };
        };
        let before = flight.check.written();
        flight.check.push(&block).map_err(|source| EngineError::Content {
            side,
            path: flight.path.clone(),
            source,
        })?;
        let begins = !flight.stage.is_begun();
        if !block.last {
            flight.stage = Stage::Receiving;
        }
        let bytes = flight.check.written() - before;
        let (applier, bulk) = (flight.applier(), flight.bulk);
        if begins {
            let request = match &flight.operation {
                Operation::Apply(step) => {
                    Request::Apply { id, transition: step.clone(), content: Content::Incoming }
                }
                Operation::Keep(file) => Request::Keep { id, path: flight.path.clone(), file: *file },
            };
            self.outboxes[applier as usize].push(request);
        }
        if block.last {
            self.flights.finish(id);
        }
        self.flights.received(bytes);
        self.progress.bytes += bytes;
        self.progress.changed = true;
        self.outboxes[applier as usize].push_data(id, block, bulk);
        Ok(())
    }

    /// Has the receiver sign what it has: the source does not know it.
    pub(super) fn need_signature(&mut self, side: Side, read: RequestId) -> Result<(), EngineError> {
        let id = read & !1;
        let known = self.flights.get(id).filter(|flight| {
            read == read_id(id)
                && flight.reader() == side
                && flight.stage == Stage::Reading
                && flight.form == Form::Known
        });
        let Some(flight) = known else {
            return self.unless_cancelled(side, read);
        };
        let Operation::Apply(Transition { path, from: Some(Entry::File(expect)), .. }) = &flight.operation
        else {
            return Err(EngineError::UnknownRequest { side, id: read });
        };
        let sign = Request::Sign { id, path: path.clone(), expect: *expect };
        flight.stage = Stage::Signing;
        flight.form = Form::Signed;
        let signer = flight.side;
        self.outboxes[signer as usize].push(sign);
        Ok(())
    }

    /// Asks the source for the difference to what the receiver signed.
    pub(super) fn signed(
        &mut self,
        side: Side,
        id: RequestId,
        signature: Signature,
    ) -> Result<(), EngineError> {
        let known =
            self.flights.get(id).filter(|flight| flight.side == side && flight.stage == Stage::Signing);
        let Some(flight) = known else {
            return self.unless_cancelled(side, id);
        };
        let (Operation::Apply(step), Some(expect)) = (&flight.operation, flight.source) else {
            return Err(EngineError::UnknownRequest { side, id });
        };
        let basis = if let Some(Entry::File(from)) = &step.from { from.size } else { 0 };
        if !signature.is_sound(basis) {
            return Err(EngineError::Signature { side, path: flight.path.clone() });
        }
        flight.stage = Stage::Reading;
        let path = flight.path.clone();
        let read = Request::Read { id: read_id(id), path, expect, basis: Basis::Given(signature) };
        self.outboxes[side.other() as usize].push(read);
        Ok(())
    }

    /// Takes the end of an operation.
    pub(super) fn applied(&mut self, side: Side, id: RequestId, outcome: Outcome) -> Result<(), EngineError> {
        let known = self.flights.get(id).filter(|flight| {
            flight.applier() == side
                && match flight.stage {
                    Stage::Signing | Stage::Fetching | Stage::Reading => false,
                    // All the content must be there before it can be done.
                    Stage::Receiving => outcome != Outcome::Done,
                    Stage::Finishing => true,
                }
        });
        if known.is_none() {
            return self.unless_cancelled(side, id);
        }
        let Some(flight) = self.land(id) else { return Ok(()) };
        if outcome != Outcome::Done {
            self.stop_reader(id, &flight);
            self.outboxes[side as usize].drop_bulk(id);
            self.progress.bytes -= flight.check.written().min(self.progress.bytes);
        }
        self.progress.changed = true;
        if let (Some(from), Operation::Apply(Transition { to: Some(entry), .. })) =
            (&flight.moved_from, &flight.operation)
        {
            self.moved(side, from, &flight.path, entry, outcome == Outcome::Done);
            return Ok(());
        }
        match (&flight.operation, outcome) {
            (Operation::Apply(step), Outcome::Done) => self.done(&flight, step),
            (Operation::Keep(file), Outcome::Done) => {
                self.progress.files += 1;
                self.conflicts += 1;
                let kept_as = conflict_name(&flight.path, file.hash);
                self.kept.insert((flight.path.clone(), file.hash));
                self.events.push_back(SyncEvent::Conflict { path: flight.path.clone(), kept_as });
            }
            (Operation::Apply(step), Outcome::Stale { actual }) => {
                if actual == step.from {
                    // A folder that has got something inside, of which nobody may ever tell.
                    self.try_again(&flight.path, "could not be changed, though it is as expected");
                } else {
                    self.observe(side, &flight.path, actual.as_ref());
                    self.surprised(&flight.path);
                }
            }
            (Operation::Apply(step), Outcome::Kept) if step.to.is_none() => {
                // It stays as long as it holds what is not synced: no problem, and nothing to try again.
                self.blocked.insert(flight.path.clone());
            }
            (Operation::Apply(_), Outcome::NeedContent) if flight.form != Form::Whole => {
                self.whole.insert(flight.path.clone());
            }
            (_, Outcome::Failed(failure)) => self.failed(side, &flight.path, &failure),
            (_, Outcome::Kept) => {
                self.block(&flight.path, "is a folder on one side that holds what is not synced");
            }
            (_, Outcome::NeedContent | Outcome::Stale { .. }) => {
                self.block(&flight.path, "its content could not be verified");
            }
        }
        Ok(())
    }

    fn done(&mut self, flight: &Flight, step: &Transition) {
        let Transition { path, to, .. } = step;
        self.progress.files += 1;
        self.progress.bytes += flight.bytes - flight.check.written().min(flight.bytes);
        self.replicas[flight.side as usize].set(path, to.as_ref());
        self.past[flight.side as usize].made(step);
        if flight.agreed {
            // The other side had it when this began. If it has something else by now, that is a change since.
            self.agree(path, to.clone());
        }
        // What could not be made before this was there can be now.
        take_from(&mut self.blocked, path, &mut self.dirty);
        if to.is_none() {
            let above = path.ancestors().filter(|above| self.blocked.remove(above));
            self.dirty.extend(above);
        }
        self.surprises.remove(path);
        // What a first sync sends ahead is not told path by path.
        if !flight.early {
            let deleted = to.is_none();
            self.events.push_back(SyncEvent::Applied { side: flight.side, path: path.clone(), deleted });
        }
    }

    /// Takes the news that a file is not what it was when it was to be read or signed.
    pub(super) fn read_failed(
        &mut self,
        side: Side,
        request: RequestId,
        actual: Option<&Entry>,
        failure: Option<Failure>,
    ) -> Result<(), EngineError> {
        let id = request & !1;
        let known = self.flights.get(id).filter(|flight| match flight.stage {
            Stage::Signing => request == id && flight.side == side,
            Stage::Reading | Stage::Receiving => request == read_id(id) && flight.reader() == side,
            Stage::Fetching | Stage::Finishing => false,
        });
        if known.is_none() {
            return self.unless_cancelled(side, request);
        }
        let Some(flight) = self.land(id) else { return Ok(()) };
        let path = &flight.path;
        if flight.stage.is_begun() {
            // The reader is done by itself; the applier is not. They may be one side.
            self.flights.cancel(flight.applier(), id);
            self.outboxes[flight.applier() as usize].cancel(id);
            self.progress.bytes -= flight.check.written().min(self.progress.bytes);
        }
        if let Some(failure) = failure {
            self.failed(side, path, &failure);
        } else {
            self.observe(side, path, actual);
            self.surprised(path);
        }
        Ok(())
    }

    fn failed(&mut self, side: Side, path: &RelPath, failure: &Failure) {
        let Failure { errno, message } = failure;
        let message = if *errno == 0 {
            format!("{} side: {message}", side.name())
        } else {
            format!("{} side: {message} (errno {errno})", side.name())
        };
        if matches!(*errno, NO_ENTRY | NOT_A_FOLDER) {
            // The folder above is gone, or was for a moment, which nobody may ever tell of.
            self.try_again(path, &message);
        } else {
            self.block(path, &message);
        }
    }

    pub(super) fn unless_cancelled(&mut self, side: Side, id: RequestId) -> Result<(), EngineError> {
        if self.flights.was_cancelled(side, id, true) {
            Ok(())
        } else {
            Err(EngineError::UnknownRequest { side, id })
        }
    }
}
