//! The sync engine: two replicas and a base in, requests, events and records out.
//!
//! A driver hands in every [`Reply`](crate::message::Reply) with [`Engine::handle_reply`] and then drains [`Engine::poll_request`],
//! [`Engine::poll_record`] and [`Engine::poll_event`]. The engine has a picture of each side, made of what that side
//! said; a path whose pictures differ is decided by [`reconcile`](crate::reconcile) and becomes an operation on one
//! side. Every operation names what it expects to find, so a picture that is out of date costs a round trip and never a
//! file. Replies of one replica must be handed in in the order in which it gave them.

mod batch;
mod eager;
mod error;
mod flight;
mod guard;
mod intake;
mod moves;
mod outbox;
mod outcome;
mod past;
mod planner;
mod problems;
mod queue;
mod replica;
mod status;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::base::{Base, BaseDelta};
use crate::message::{Failure, MAX_SMALL_BYTES, Open, Request, WatchMode};
use crate::path::RelPath;
use crate::reconcile::{Mode, View};
use crate::snapshot::{Entry, Hash};

pub use error::EngineError;
pub use status::{Halt, Phase, SyncStatus};

use batch::Batches;
use eager::Eager;
use flight::Flights;
use guard::Guard;
use outbox::Outbox;
use past::Past;
use problems::Problems;
use queue::Queue;
use replica::{Replica, State};
use status::Progress;

/// A side that takes longer to answer is busy, not far away.
const LONGEST_ROUND_TRIP: Duration = Duration::from_millis(500);

/// One of the two replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// On the user's machine: authoritative where nothing was agreed on.
    Local,
    /// In the pod; not trusted.
    Remote,
}

impl Side {
    /// Both, local first.
    pub const BOTH: [Self; 2] = [Self::Local, Self::Remote];

    /// Returns the other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Local => Self::Remote,
            Self::Remote => Self::Local,
        }
    }

    /// Returns the side's name in lower case, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
        }
    }
}

/// How the engine works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Which way changes travel.
    pub mode: Mode,
    /// The most small operations under way at once, for each side; more where the other side is far away.
    pub small_operations: usize,
    /// The most bytes of small files under way at once, for each side; more where the other side is far away.
    pub small_bytes: u64,
    /// The most bytes of small files that wait at once for their content from the local side: an edit waits as long.
    pub unread_bytes: u64,
    /// Files up to this many bytes travel together; [`MAX_SMALL_BYTES`] at most.
    pub batched_size: u64,
    /// Files above this many bytes wait for each other, and never in front of small ones.
    pub bulk_size: u64,
    /// The most large files under way at once, for each side; more where the other side is far away.
    pub bulk_operations: usize,
    /// From this many bytes on, a changed file that travels by itself is sent as the difference to the receiver's
    /// version.
    pub delta_size: u64,
    /// This many files may go at once without asking, whatever their share.
    pub deletions_free: usize,
    /// This share of all files may go at once without asking, in percent.
    pub deletions_percent: usize,
    /// The most entries a side may have.
    pub max_entries: usize,
    /// Whether a first sync waits with the local scan until the remote side is known, and then sends files while they
    /// are scanned: for callers whose remote side is there at once.
    pub eager: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            mode: Mode::TwoWay,
            small_operations: 1024,
            small_bytes: 8 * 1024 * 1024,
            unread_bytes: 2 * 1024 * 1024,
            batched_size: MAX_SMALL_BYTES,
            bulk_size: 256 * 1024,
            bulk_operations: 2,
            delta_size: 64 * 1024,
            deletions_free: 50,
            deletions_percent: 30,
            max_entries: 1_000_000,
            eager: false,
        }
    }
}

/// Something that happened, for people and programs that watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncEvent {
    /// Both sides were looked through; transfer begins.
    Scanned,
    /// How far the present work is.
    Progress {
        /// Operations done.
        files: u64,
        /// Operations done and to do.
        files_total: u64,
        /// Bytes of content done.
        bytes: u64,
        /// Bytes of content done and to do.
        bytes_total: u64,
    },
    /// Nothing is left to do.
    InSync,
    /// Both sides changed the path; the loser's bytes were kept.
    Conflict {
        /// Where.
        path: RelPath,
        /// The name in the folder of kept files, see [`conflict_name`](crate::message::conflict_name).
        kept_as: String,
    },
    /// So much is gone on one side that nothing more flows from there until somebody says so.
    Halted {
        /// The side where files are missing.
        side: Side,
        /// In words.
        reason: String,
        /// How many files are missing.
        missing: u64,
        /// Of how many.
        of: u64,
    },
    /// What was halted goes on.
    Resumed,
    /// A path is not synced.
    Problem {
        /// Where.
        path: String,
        /// Why.
        message: String,
    },
    /// A path that was a problem is none any more.
    Solved {
        /// Where.
        path: String,
    },
    /// A step was made on one side.
    Applied {
        /// Where it was made.
        side: Side,
        /// The path.
        path: RelPath,
        /// Whether it was a deletion.
        deleted: bool,
    },
    /// How a side notices changes.
    Watching {
        /// Which side.
        side: Side,
        /// How.
        mode: WatchMode,
    },
    /// A side's root is there and nothing can be created in it.
    Unwritable {
        /// Which side.
        side: Side,
    },
    /// A side could not be looked through for the first time; it is tried again.
    ScanFailed {
        /// Which side.
        side: Side,
        /// Why.
        failure: Failure,
    },
    /// A side's root can't be used.
    OpenFailed {
        /// Which side.
        side: Side,
        /// Why.
        failure: Failure,
    },
}

/// The state machine that keeps two replicas equal.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    base: Base,
    replicas: [Replica; 2],
    /// The remote is another folder than the base speaks of, and the base has not been told yet.
    adopting: Option<[u8; 16]>,
    /// Both sides are known and what differs is being worked on.
    running: bool,
    /// Paths to decide anew.
    dirty: BTreeSet<RelPath>,
    /// Operations to begin, by the side they change.
    queues: [Queue; 2],
    /// Operations that can't begin before their folder is there, or before their children are gone.
    waiting: [BTreeSet<RelPath>; 2],
    flights: Flights,
    batches: Batches,
    eager: Eager,
    /// Paths left alone until something about them changes or a side is scanned.
    blocked: BTreeSet<RelPath>,
    /// How often a path turned out to be something else than expected, since it last was at rest.
    surprises: BTreeMap<RelPath, u32>,
    /// Paths whose content must be sent whole, as a copy or a difference did not work.
    whole: BTreeSet<RelPath>,
    /// New folders that could not be made by moving an old one.
    unmovable: BTreeSet<RelPath>,
    /// What each side has in its trash, likely.
    past: [Past; 2],
    /// Conflicts whose bytes are kept.
    kept: BTreeSet<(RelPath, Hash)>,
    /// Steps that were under way when a side went; whether they were made is seen when it is back.
    unacknowledged: BTreeMap<RelPath, (Side, Option<Entry>)>,
    guard: Guard,
    /// Sides whose first scan failed.
    unscanned: [bool; 2],
    problems: Problems,
    progress: Progress,
    conflicts: u64,
    replaced: u64,
    outboxes: [Outbox; 2],
    events: VecDeque<SyncEvent>,
    records: VecDeque<BaseDelta>,
}

impl Engine {
    /// Returns an engine that knows neither side yet.
    pub fn new(config: EngineConfig, base: Base) -> Self {
        Self {
            config,
            base,
            replicas: Default::default(),
            adopting: None,
            running: false,
            dirty: BTreeSet::new(),
            queues: Default::default(),
            waiting: Default::default(),
            flights: Flights::default(),
            batches: Batches::default(),
            eager: Eager::default(),
            blocked: BTreeSet::new(),
            surprises: BTreeMap::new(),
            whole: BTreeSet::new(),
            unmovable: BTreeSet::new(),
            past: Default::default(),
            kept: BTreeSet::new(),
            unacknowledged: BTreeMap::new(),
            guard: Guard::default(),
            unscanned: [false; 2],
            problems: Problems::default(),
            progress: Progress::default(),
            conflicts: 0,
            replaced: 0,
            outboxes: Default::default(),
            events: VecDeque::new(),
            records: VecDeque::new(),
        }
    }

    /// Begins to talk to a side, for the first time or after it was gone: it is opened and scanned.
    pub fn connect(&mut self, side: Side, open: Open) {
        self.handle_disconnected(side);
        self.replicas[side as usize].begin();
        let outbox = &mut self.outboxes[side as usize];
        outbox.push(Request::Open(open));
        if side == Side::Local && self.is_first_sync() {
            self.eager.waiting = true;
            self.scan_eagerly();
        } else {
            let scan = self.replicas[side as usize].believe(self.base.entries().clone());
            self.outboxes[side as usize].push(scan);
        }
    }

    /// Takes note that a side is gone. What it was asked is forgotten, its picture is renewed when it is back.
    pub fn handle_disconnected(&mut self, side: Side) {
        self.replicas[side as usize].end();
        self.unscanned[side as usize] = false;
        self.outboxes[side as usize] = Outbox::default();
        self.drop_batches(side);
        self.drop_eager(side);
        self.drop_flights(side);
        self.past[side as usize] = Past::default();
        self.running = false;
        self.progress.stop();
        self.dirty.clear();
        for side in Side::BOTH {
            self.queues[side as usize] = Queue::default();
            self.waiting[side as usize].clear();
        }
    }

    /// Looks through a side again, as a safeguard against changes that nobody reported; blocked paths are tried anew.
    pub fn rescan(&mut self, side: Side) {
        if let Some(scan) = self.replicas[side as usize].rescan() {
            self.unscanned[side as usize] = false;
            self.outboxes[side as usize].push(scan);
        }
    }

    /// Tells the engine that a second has gone by, by which it knows what happens at once and what does not, and what
    /// to try again; to be called while [`needs_ticks`](Self::needs_ticks).
    pub fn tick(&mut self) {
        self.guard.tick();
        for side in Side::BOTH {
            if self.unscanned[side as usize] {
                self.rescan(side);
            }
        }
    }

    /// Tells whether [`tick`](Self::tick) is to be called each second.
    pub fn needs_ticks(&self) -> bool {
        self.guard.is_waiting() || self.unscanned.contains(&true)
    }

    /// Lets the deletions travel that sync stopped for.
    pub fn approve_deletions(&mut self) {
        if self.guard.approve() {
            self.events.push_back(SyncEvent::Resumed);
        }
        self.settle();
    }

    /// Returns the next request and whom it is for.
    pub fn poll_request(&mut self) -> Option<(Side, Request)> {
        Side::BOTH.into_iter().find_map(|side| Some((side, self.outboxes[side as usize].pop()?)))
    }

    /// Returns what happened next.
    pub fn poll_event(&mut self) -> Option<SyncEvent> {
        self.events.pop_front().or_else(|| self.poll_progress())
    }

    /// Returns what both sides last agreed on.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// Returns what to append to the base's journal next.
    pub fn poll_record(&mut self) -> Option<BaseDelta> {
        self.records.pop_front()
    }

    /// Returns how many bytes of content wait in the requests for a side. While it is much, a driver should not take
    /// replies of the other side.
    pub fn queued_bytes(&self, side: Side) -> usize {
        self.outboxes[side as usize].bytes()
    }

    /// Tells whether so much content is on its way that a driver should not take replies of the local side.
    pub fn is_full(&self) -> bool {
        self.eager.bytes() > self.config.small_bytes + self.flights.more_bytes()
    }

    /// Says how long the remote side takes to answer at least: so much more is under way at once.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.flights.round_trip = round_trip.min(LONGEST_ROUND_TRIP);
    }

    /// Tells whether everything that is to be done has been asked for, and only answers are waited for.
    pub fn is_all_asked(&self) -> bool {
        let is_idle = |side: Side| {
            self.queues[side as usize].len() == 0
                && self.waiting[side as usize].is_empty()
                && self.outboxes[side as usize].is_empty()
        };
        self.flights.are_all_finishing() && self.eager.is_idle() && Side::BOTH.into_iter().all(is_idle)
    }

    fn view(&self) -> View<'_> {
        View {
            mode: self.config.mode,
            local: self.replicas[0].tree(),
            remote: self.replicas[1].tree(),
            base: self.base.entries(),
            opaque: self.replicas.iter().any(Replica::has_opaque),
        }
    }

    fn record(&mut self, delta: BaseDelta) {
        self.base.apply(&delta);
        self.records.push_back(delta);
    }

    fn both_ready(&self) -> bool {
        self.replicas.iter().all(|replica| replica.state() == State::Ready)
    }
}
