//! What the link carries while it holds us up, what packing costs, and what follows: to pack or not to.

use std::time::{Duration, Instant};

use crate::config::Compression;

/// The shortest time that is judged.
const INTERVAL: Duration = Duration::from_millis(10);
/// The least that must have gone out in it, in bytes.
const INTERVAL_BYTES: u64 = 32 * 1024;
/// How much of a slow link's time may be given out at once: what is given out can't be overtaken.
const GIVEN_OUT: Duration = Duration::from_millis(20);
/// The bounds of the same, in bytes.
const MIN_ROOM: usize = 16 * 1024;
const MAX_ROOM: usize = 256 * 1024;
/// What comes after a pause is packed up to so many bytes, whatever the link carries: it takes a few milliseconds.
const BURST_BYTES: usize = 4 << 20;
/// How long the pause must be.
const BURST_PAUSE: Duration = Duration::from_millis(250);
/// What packing is taken to manage before it was measured, in bytes a second.
const USUAL_SPEED: u64 = 200_000_000;
/// So often in a row a link must be found slow before anything is packed: something that starts is slow, too.
const SLOW_TIMES: u32 = 3;
/// For as long as the link was fast it must be slow before that counts, but no longer than this: a processor that
/// others use makes it slow for a moment.
const LONGEST_FAST: Duration = Duration::from_millis(300);
/// Packing that holds the link up is interrupted after so much time to see what the link carries without.
const FIRST_TRIAL: Duration = Duration::from_millis(100);
const LAST_TRIAL: Duration = Duration::from_secs(5);
/// Packing is tried for so long before it is held against what went out without.
const ATTEMPT: Duration = Duration::from_millis(50);
/// After an attempt that did not pay, the next comes after so much time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(4);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// There is nothing to send.
    Nothing,
    Sending,
    /// The link takes nothing.
    Waiting,
}

/// Whether data is packed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Raw,
    /// To see whether packing pays: it does not where the other end, or a processor that both share, is what holds us
    /// up. Without it so many raw bytes a second went out.
    Attempt {
        raw: u64,
        bytes: u64,
        took: Duration,
    },
    /// To see what the link carries; packing made this much of it, in raw bytes a second.
    Trial {
        packed: u64,
    },
    Packed,
}

/// Watches one direction.
#[derive(Debug)]
pub(crate) struct Pace {
    compression: Compression,
    mode: Mode,
    doing: Doing,
    since: Instant,
    interval: Interval,
    /// Bytes of the burst that are still packed.
    burst: usize,
    /// So many judgements after it are still about what was packed.
    unseen: u32,
    /// What the link took when it last held us up, in bytes a second; `None` when it does not.
    link: Option<u64>,
    /// What packing manages, in raw bytes a second.
    speed: u64,
    /// How many bytes of data a hundred bytes of the stream stand for.
    ratio: usize,
    /// How often in a row the link was found slow while nothing was packed, and what went out meanwhile.
    slow_times: u32,
    slow_bytes: u64,
    slow_took: Duration,
    /// How much longer it was fast than slow lately.
    fast: Duration,
    /// No attempt before so much time has passed, and how long the next pause will be.
    pause: Duration,
    next_pause: Duration,
    /// Packing was the bottleneck for this long.
    unhindered: Duration,
    next_trial: Duration,
}

/// What happened since the last judgement.
#[derive(Debug, Default)]
struct Interval {
    sending: Duration,
    waiting: Duration,
    /// Taken by the stream.
    stream_bytes: u64,
    /// What was given out, unpacked and as it travels.
    raw_bytes: usize,
    given_bytes: usize,
    packing: Duration,
    packed_raw_bytes: u64,
}

impl Pace {
    pub(crate) fn new(compression: Compression, now: Instant) -> Self {
        let mode = if compression == Compression::Always { Mode::Packed } else { Mode::Raw };
        Self {
            compression,
            mode,
            doing: Doing::Nothing,
            since: now,
            interval: Interval::default(),
            burst: BURST_BYTES,
            unseen: 0,
            link: None,
            speed: USUAL_SPEED,
            ratio: 100,
            slow_times: 0,
            slow_bytes: 0,
            slow_took: Duration::ZERO,
            fast: Duration::ZERO,
            pause: Duration::ZERO,
            next_pause: FIRST_PAUSE,
            unhindered: Duration::ZERO,
            next_trial: FIRST_TRIAL,
        }
    }

    pub(crate) fn is_packing(&self) -> bool {
        match self.mode {
            Mode::Packed | Mode::Attempt { .. } => true,
            Mode::Raw => self.compression == Compression::Auto && self.burst > 0,
            Mode::Trial { .. } => false,
        }
    }

    /// Returns how many bytes may be given to the stream at once.
    pub(crate) fn room(&self) -> usize {
        let Some(link) = self.link else { return MAX_ROOM };
        let room = u128::from(link) * GIVEN_OUT.as_micros() / 1_000_000;
        usize::try_from(room).unwrap_or(MAX_ROOM).clamp(MIN_ROOM, MAX_ROOM)
    }

    /// Returns how many bytes of data make so many on the stream, as things went lately.
    pub(crate) fn unpacked(&self, stream_bytes: usize) -> usize {
        if self.is_packing() { stream_bytes.saturating_mul(self.ratio) / 100 } else { stream_bytes }
    }

    /// Takes what was given out: what it stands for and what travels.
    pub(crate) fn given(&mut self, raw_bytes: usize, stream_bytes: usize) {
        self.interval.raw_bytes += raw_bytes;
        self.interval.given_bytes += stream_bytes;
    }

    /// Takes how long it took to pack so many bytes.
    pub(crate) fn packed(&mut self, raw_bytes: usize, took: Duration) {
        self.burst = self.burst.saturating_sub(raw_bytes);
        self.interval.packing += took;
        self.interval.packed_raw_bytes += raw_bytes as u64;
    }

    /// The stream took so many bytes.
    pub(crate) fn wrote(&mut self, now: Instant, bytes: usize) {
        self.pass(now, Doing::Sending);
        self.interval.stream_bytes += bytes as u64;
        let Interval { sending, waiting, stream_bytes, .. } = self.interval;
        if sending + waiting >= INTERVAL && stream_bytes >= INTERVAL_BYTES {
            let interval = std::mem::take(&mut self.interval);
            self.judge(&interval);
        }
    }

    /// There is something to send.
    pub(crate) fn begin(&mut self, now: Instant) {
        if self.doing == Doing::Nothing {
            self.pass(now, Doing::Sending);
        }
    }

    /// There is something to send, and the link takes nothing.
    pub(crate) fn blocked(&mut self, now: Instant) {
        self.pass(now, Doing::Waiting);
    }

    /// There is nothing to send.
    pub(crate) fn idle(&mut self, now: Instant) {
        self.pass(now, Doing::Nothing);
    }

    fn pass(&mut self, now: Instant, next: Doing) {
        let passed = now.saturating_duration_since(self.since);
        match self.doing {
            Doing::Nothing if passed >= BURST_PAUSE => self.burst = BURST_BYTES,
            Doing::Nothing => {}
            Doing::Sending => self.interval.sending += passed,
            Doing::Waiting => self.interval.waiting += passed,
        }
        self.since = now;
        self.doing = next;
    }

    fn judge(&mut self, interval: &Interval) {
        let took = interval.sending + interval.waiting;
        let carried = per_second(interval.stream_bytes, took);
        let raw = per_second(interval.raw_bytes as u64, took);
        self.link = (interval.waiting >= took / 4).then_some(carried);
        if interval.packed_raw_bytes > 0 {
            let speed = per_second(interval.packed_raw_bytes, interval.packing);
            self.speed = self.speed / 4 * 3 + speed / 4;
        }
        if let Some(ratio) = (interval.raw_bytes * 100).checked_div(interval.given_bytes) {
            self.ratio = ratio.clamp(100, 800);
        }
        if self.compression != Compression::Auto {
            return;
        }
        self.mode = match (self.mode, self.link) {
            // How slow the link is without packing is seen when what was packed is through.
            (Mode::Raw, _) if interval.packed_raw_bytes > 0 => {
                self.unseen = SLOW_TIMES;
                Mode::Raw
            }
            (Mode::Raw, _) if self.unseen > 0 => {
                self.unseen -= 1;
                Mode::Raw
            }
            (Mode::Raw, link) => self.judge_raw(link, interval.raw_bytes as u64, took),
            (Mode::Attempt { raw: before, bytes, took: so_far }, _) => {
                let (bytes, took) = (bytes + interval.raw_bytes as u64, so_far + took);
                self.judge_attempt(before, bytes, took)
            }
            (Mode::Trial { packed }, Some(link)) if link < packed => {
                self.next_trial = (self.next_trial * 2).min(LAST_TRIAL);
                Mode::Packed
            }
            (Mode::Trial { .. }, _) => Mode::Raw,
            (Mode::Packed, Some(_)) => {
                self.unhindered = Duration::ZERO;
                Mode::Packed
            }
            (Mode::Packed, None) => {
                self.unhindered += took;
                if self.unhindered >= self.next_trial { Mode::Trial { packed: raw } } else { Mode::Packed }
            }
        };
        if self.mode != Mode::Packed {
            self.unhindered = Duration::ZERO;
        }
    }

    /// Goes on without packing, until the link was slow for a while.
    fn judge_raw(&mut self, link: Option<u64>, bytes: u64, took: Duration) -> Mode {
        self.pause = self.pause.saturating_sub(took);
        // Packing has to be clearly faster than the link, as something else needs the processor too.
        let is_fast = link.is_none_or(|link| link >= self.speed / 2);
        self.fast =
            if is_fast { (self.fast + took).min(LONGEST_FAST) } else { self.fast.saturating_sub(took) };
        if is_fast || !self.fast.is_zero() || !self.pause.is_zero() {
            (self.slow_times, self.slow_bytes, self.slow_took) = (0, 0, Duration::ZERO);
            return Mode::Raw;
        }
        self.slow_times += 1;
        self.slow_bytes += bytes;
        self.slow_took += took;
        if self.slow_times < SLOW_TIMES {
            return Mode::Raw;
        }
        let raw = per_second(self.slow_bytes, self.slow_took);
        (self.slow_times, self.slow_bytes, self.slow_took) = (0, 0, Duration::ZERO);
        Mode::Attempt { raw, bytes: 0, took: Duration::ZERO }
    }

    /// Packs on when clearly more went out than without.
    fn judge_attempt(&mut self, raw: u64, bytes: u64, took: Duration) -> Mode {
        if took < ATTEMPT {
            return Mode::Attempt { raw, bytes, took };
        }
        if per_second(bytes, took) / 5 >= raw / 4 {
            self.next_pause = FIRST_PAUSE;
            return Mode::Packed;
        }
        self.pause = self.next_pause;
        self.next_pause = (self.next_pause * 2).min(LAST_PAUSE);
        Mode::Raw
    }
}

fn per_second(bytes: u64, took: Duration) -> u64 {
    u64::try_from(u128::from(bytes) * 1_000_000 / took.as_micros().max(1)).unwrap_or(u64::MAX)
}
