//! Flow control: what may be sent on a channel, and what may be on its way on the whole link.
//!
//! A channel's receiver gives credit for as many bytes as it can hold and renews it as they are consumed, so that a
//! reader that stops stops only its own channel. Apart from that, the sender keeps few bytes under way: streams
//! through an API server pass buffers that nobody sees, and what waits in them can't be overtaken.

use std::time::{Duration, Instant};

/// What every channel may send each way before it has been given more, in bytes.
pub const INITIAL_WINDOW: u32 = 64 * 1024;
/// The least that may be under way on the link, in bytes.
pub const MIN_IN_FLIGHT: u64 = 64 * 1024;

/// A larger window is cut to this, in bytes.
const MAX_WINDOW: u32 = 1 << 29;
/// Credit above this many bytes is a mistake or an attack.
const MAX_CREDIT: u64 = 1 << 30;
/// Where the bound of [`InFlight`] begins, in bytes, and where at most when the first round trip is known.
const FIRST_IN_FLIGHT: u64 = 256 * 1024;
const LAST_FIRST_IN_FLIGHT: u64 = 2 * 1024 * 1024;
/// After so many measurements at the least bound it is tried whether the path has become longer.
const STUCK_SAMPLES: u32 = 32;
/// What a path is taken to carry before it was measured, in bytes a second.
const USUAL_RATE: u64 = 10_000_000;
/// How long bytes may wait in the path's buffers on top of its own delay.
const QUEUE_TARGET: Duration = Duration::from_millis(50);

/// A window grows at most by this factor at once.
const MAX_GROWTH: u32 = 8;
/// When nothing came for so long, what comes then is looked at by itself.
const PAUSE: Duration = Duration::from_millis(10);

/// What the peer lets us send on one channel.
#[derive(Debug, Clone)]
pub(crate) struct SendCredit(u64);

impl SendCredit {
    pub(crate) fn new() -> Self {
        Self(u64::from(INITIAL_WINDOW))
    }

    pub(crate) fn available(&self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Returns false when the sum makes no sense.
    pub(crate) fn grant(&mut self, bytes: u32) -> bool {
        self.0 += u64::from(bytes);
        self.0 <= MAX_CREDIT
    }

    pub(crate) fn spend(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(bytes as u64);
    }
}

/// What we let the peer send on one channel.
///
/// The window grows while it is what holds the peer back: when a good part of it is used up in less time than word
/// of that takes to the peer and back. A reader that is slower than the link never makes it grow.
#[derive(Debug, Clone)]
pub(crate) struct ReceiveWindow {
    window: u32,
    max: u32,
    /// The peer may send this many bytes more.
    allowance: u32,
    /// Received, not yet consumed.
    unconsumed: u32,
    /// To be granted with the next credit frame.
    owed: u32,
    /// Consumed since the window last grew, or could have.
    consumed: u32,
    since: Instant,
    received_at: Instant,
}

impl ReceiveWindow {
    /// Starts with [`INITIAL_WINDOW`] granted and the rest of `window` owed.
    pub(crate) fn new(window: u32, max: u32, now: Instant) -> Self {
        let window = window.clamp(INITIAL_WINDOW, MAX_WINDOW);
        let max = max.clamp(window, MAX_WINDOW);
        let owed = window - INITIAL_WINDOW;
        Self {
            window,
            max,
            allowance: INITIAL_WINDOW,
            unconsumed: 0,
            owed,
            consumed: 0,
            since: now,
            received_at: now,
        }
    }

    pub(crate) fn window(&self) -> u32 {
        self.window
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.unconsumed == 0
    }

    /// Returns false when the peer sent more than it was granted.
    pub(crate) fn receive(&mut self, now: Instant, bytes: usize) -> bool {
        let Some((bytes, rest)) =
            u32::try_from(bytes).ok().and_then(|bytes| Some((bytes, self.allowance.checked_sub(bytes)?)))
        else {
            return false;
        };
        // What trickled in before says nothing about how fast the rest will be taken.
        let pause = now.saturating_duration_since(std::mem::replace(&mut self.received_at, now));
        if self.unconsumed == 0 && self.consumed < self.window / 4 && pause > PAUSE {
            (self.consumed, self.since) = (0, now);
        }
        self.allowance = rest;
        self.unconsumed += bytes;
        true
    }

    pub(crate) fn consume(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.unconsumed);
        self.unconsumed -= bytes;
        self.owed += bytes;
        self.consumed += bytes;
    }

    /// Grows the window when it was too small for this round trip; by at most `budget`. Returns by how much.
    pub(crate) fn grow(&mut self, now: Instant, round_trip: Option<Duration>, budget: u64) -> u32 {
        if self.consumed < self.window / 2 {
            return 0;
        }
        let took = now.saturating_duration_since(self.since).as_micros().max(1);
        (self.consumed, self.since) = (0, now);
        let round_trip = round_trip.map_or(0, |round_trip| round_trip.as_micros());
        let factor = u32::try_from(4 * round_trip / took).unwrap_or(u32::MAX).clamp(1, MAX_GROWTH);
        let more = self.window.saturating_mul(factor).min(self.max) - self.window;
        let more = more.min(u32::try_from(budget).unwrap_or(u32::MAX));
        self.window += more;
        self.owed += more;
        more
    }

    /// Returns whether a credit frame is worth its bytes.
    pub(crate) fn is_grant_due(&self) -> bool {
        self.owed >= self.window / 8
    }

    pub(crate) fn take_grant(&mut self) -> u32 {
        self.allowance += self.owed;
        std::mem::take(&mut self.owed)
    }
}

/// Bounds the bytes of data that were sent and not yet acknowledged on the whole link.
///
/// The bound follows what the path carries: the bytes that it delivers in twice its own round trip, or in
/// [`QUEUE_TARGET`] where that is longer. It changes only by what was measured while the bound itself held the
/// sender back, so that a quiet link keeps its bound.
///
/// A path that becomes longer looks like one that becomes slower, and the bound falls. At its least it is doubled for a
/// try now and then: when nothing takes longer for that, the path itself does.
#[derive(Debug, Clone)]
pub(crate) struct InFlight {
    sent: u64,
    acknowledged: u64,
    bound: u64,
    max: u64,
    sample: Option<Sample>,
    shortest: Option<Duration>,
    /// Measurements at the least bound.
    stuck: u32,
    trial: Option<Trial>,
}

/// The bound was doubled, to see whether that makes anything slower.
#[derive(Debug, Clone)]
struct Trial {
    /// How long it took before.
    elapsed: Duration,
    /// The next measurement still has to do with that.
    is_settled: bool,
}

/// Measures how long the path takes for the bytes that are under way.
#[derive(Debug, Clone)]
struct Sample {
    /// Ends when this many bytes are acknowledged.
    until: u64,
    began: Instant,
    acknowledged: u64,
    /// The bound held the sender back meanwhile.
    limited: bool,
}

impl InFlight {
    pub(crate) fn new(max: u64) -> Self {
        let max = max.max(MIN_IN_FLIGHT);
        let bound = FIRST_IN_FLIGHT.min(max);
        Self { sent: 0, acknowledged: 0, bound, max, sample: None, shortest: None, stuck: 0, trial: None }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.sent - self.acknowledged < self.bound
    }

    /// Returns whether more is on the way than what the peer would acknowledge together.
    pub(crate) fn is_path_busy(&self) -> bool {
        self.sent - self.acknowledged >= MIN_IN_FLIGHT
    }

    /// Notes that the sender has more than there is room for.
    pub(crate) fn held_back(&mut self) {
        if let Some(sample) = &mut self.sample {
            sample.limited = true;
        }
    }

    pub(crate) fn sent(&mut self, now: Instant, bytes: usize) {
        self.sent += bytes as u64;
        let (until, acknowledged) = (self.sent, self.acknowledged);
        self.sample.get_or_insert(Sample { until, began: now, acknowledged, limited: false });
    }

    /// Takes a round trip measured by a ping.
    pub(crate) fn measured(&mut self, round_trip: Duration) {
        if self.shortest.is_none() {
            let fits = u128::from(USUAL_RATE) * round_trip.as_micros() / 1_000_000;
            let fits = u64::try_from(fits).unwrap_or(u64::MAX).min(LAST_FIRST_IN_FLIGHT).min(self.max);
            self.bound = self.bound.max(fits);
        }
        self.shortest = Some(self.shortest.map_or(round_trip, |shortest| shortest.min(round_trip)));
    }

    /// Returns the shortest round trip so far: that of the path itself, without what waits in it.
    pub(crate) fn shortest_round_trip(&self) -> Option<Duration> {
        self.shortest
    }

    /// Returns false when more was acknowledged than sent, or less than before.
    pub(crate) fn acknowledge(&mut self, now: Instant, received: u64) -> bool {
        if received > self.sent || received < self.acknowledged {
            return false;
        }
        self.acknowledged = received;
        if let Some(sample) = self.sample.take_if(|sample| sample.until <= received)
            && sample.limited
        {
            let elapsed = now.saturating_duration_since(sample.began).max(Duration::from_micros(1));
            self.measured(elapsed);
            if self.is_trying(elapsed) {
                return true;
            }
            let target = self.shortest.map_or(QUEUE_TARGET, |shortest| {
                // Nothing waited on the way: what the path carries may be anything above.
                let trips = if elapsed <= shortest * 5 / 4 { 4 } else { 2 };
                QUEUE_TARGET.max(trips * shortest)
            });
            let delivered = u128::from(received - sample.acknowledged);
            let fits = delivered * target.as_micros() / elapsed.as_micros();
            let fits = u64::try_from(fits).unwrap_or(u64::MAX);
            self.bound = fits.clamp(self.bound / 2, self.bound * 4).clamp(MIN_IN_FLIGHT, self.max);
        }
        true
    }

    /// Returns whether the bound stays as it is for a try.
    fn is_trying(&mut self, elapsed: Duration) -> bool {
        match self.trial.take() {
            Some(Trial { elapsed, is_settled: false }) => {
                self.trial = Some(Trial { elapsed, is_settled: true });
                true
            }
            Some(before) => {
                if elapsed <= before.elapsed * 5 / 4 {
                    self.shortest = Some(elapsed);
                }
                false
            }
            None if self.bound > MIN_IN_FLIGHT => {
                self.stuck = 0;
                false
            }
            None => {
                self.stuck += 1;
                let is_begun = self.stuck == STUCK_SAMPLES;
                if is_begun {
                    self.stuck = 0;
                    self.bound = (2 * MIN_IN_FLIGHT).min(self.max);
                    self.trial = Some(Trial { elapsed, is_settled: false });
                }
                is_begun
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends as much as allowed over a path of this rate and delay for a while; returns the bound in the end.
    fn settle(bytes_per_second: u32, delay: Duration, max: u64) -> u64 {
        let start = Instant::now();
        let mut in_flight = InFlight::new(max);
        in_flight.measured(delay);
        let mut under_way = std::collections::VecDeque::new();
        let (mut now, mut idle_from) = (start, start);
        for _ in 0..20_000 {
            while in_flight.has_room() {
                in_flight.sent(now, 16 * 1024);
                idle_from = idle_from.max(now) + Duration::from_secs(16 * 1024) / bytes_per_second;
                under_way.push_back((idle_from + delay, in_flight.sent));
            }
            in_flight.held_back();
            let (at, received) = under_way.pop_front().unwrap();
            now = at;
            assert!(in_flight.acknowledge(now, received));
        }
        in_flight.bound
    }

    #[test]
    fn the_bound_follows_what_the_path_carries() {
        let check = |rate, delay, expected: std::ops::RangeInclusive<u64>| {
            let bound = settle(rate, Duration::from_millis(delay), 8 << 20);
            assert!(expected.contains(&bound), "{rate} B/s, {delay} ms: {bound}");
        };
        check(1_000_000, 5, MIN_IN_FLIGHT..=2 * MIN_IN_FLIGHT);
        check(10_000_000, 5, 300_000..=1_000_000);
        check(10_000_000, 100, 1_500_000..=3_000_000);
        check(1_000_000_000, 100, 8 << 20..=8 << 20);
    }

    #[test]
    fn acknowledgements_must_make_sense() {
        let now = Instant::now();
        let mut in_flight = InFlight::new(1 << 20);
        in_flight.sent(now, 100);
        assert!(in_flight.acknowledge(now, 60));
        assert!(!in_flight.acknowledge(now, 59));
        assert!(!in_flight.acknowledge(now, 101));
    }

    #[test]
    fn a_window_is_renewed_by_what_was_consumed() {
        let now = Instant::now();
        let mut window = ReceiveWindow::new(INITIAL_WINDOW, INITIAL_WINDOW, now);
        assert!(!window.is_grant_due());
        assert!(window.receive(now, INITIAL_WINDOW as usize));
        assert!(!window.receive(now, 1));
        window.consume(INITIAL_WINDOW as usize / 4);
        assert!(window.is_grant_due());
        assert_eq!(window.take_grant(), INITIAL_WINDOW / 4);
        assert!(window.receive(now, INITIAL_WINDOW as usize / 4));
        assert!(!window.receive(now, 1));
        window.consume(usize::MAX);
        assert!(window.is_empty());
        assert_eq!(window.take_grant(), INITIAL_WINDOW);
    }

    #[test]
    fn a_window_grows_at_the_first_burst_after_a_pause() {
        let (mut now, round_trip) = (Instant::now(), Some(Duration::from_millis(100)));
        let mut window = ReceiveWindow::new(1 << 20, 24 << 20, now);
        window.take_grant();
        let mut take = |after: Duration| {
            now += Duration::from_secs(10);
            assert!(window.receive(now, 1 << 19));
            window.consume(1 << 19);
            window.grow(now + after, round_trip, 1 << 30)
        };
        assert_eq!(take(Duration::from_secs(1)), 0, "the reader is slow");
        assert_eq!(take(Duration::from_millis(10)), 7 << 20);
    }

    /// Has a reader take everything at this rate, from a peer that is this far away, for a while; returns the window.
    fn grown(bytes_per_second: u32, round_trip: Duration, budget: u64) -> u32 {
        let (mut now, mut budget) = (Instant::now(), budget);
        let mut window = ReceiveWindow::new(1 << 20, 24 << 20, now);
        for _ in 0..100 {
            // In a round trip comes what the reader takes, and no more than the window.
            let taken = u128::from(bytes_per_second) * round_trip.as_micros() / 1_000_000;
            let count = u32::try_from(taken).unwrap().clamp(1000, window.window());
            window.allowance = u32::MAX / 2;
            assert!(window.receive(now, count.try_into().unwrap()));
            window.consume(count.try_into().unwrap());
            now += (Duration::from_secs(count.into()) / bytes_per_second).max(round_trip);
            let more = window.grow(now, Some(round_trip), budget);
            budget -= u64::from(more);
        }
        window.window()
    }

    #[test]
    fn a_window_grows_with_what_its_reader_takes_in_a_round_trip() {
        let check = |rate, delay, budget, expected: std::ops::RangeInclusive<u32>| {
            let window = grown(rate, Duration::from_millis(delay), budget);
            assert!(expected.contains(&window), "{rate} B/s, {delay} ms: {window}");
        };
        check(100_000_000, 150, 1 << 30, 24 << 20..=24 << 20);
        check(100_000_000, 150, 1 << 20, 2 << 20..=2 << 20);
        check(20_000_000, 100, 1 << 30, 4 << 20..=8 << 20);
        check(1_000_000, 100, 1 << 30, 1 << 20..=1 << 20);
        check(1_000_000_000, 1, 1 << 30, 1 << 20..=4 << 20);
    }
}
