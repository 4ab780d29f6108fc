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
/// Where the bound of [`InFlight`] begins, in bytes.
const FIRST_IN_FLIGHT: u64 = 256 * 1024;
/// How long bytes may wait in the path's buffers on top of its own delay.
const QUEUE_TARGET: Duration = Duration::from_millis(50);

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
#[derive(Debug, Clone)]
pub(crate) struct ReceiveWindow {
    window: u32,
    /// The peer may send this many bytes more.
    allowance: u32,
    /// Received, not yet consumed.
    unconsumed: u32,
    /// To be granted with the next credit frame.
    owed: u32,
}

impl ReceiveWindow {
    /// Starts with [`INITIAL_WINDOW`] granted and the rest of `window` owed.
    pub(crate) fn new(window: u32) -> Self {
        let window = window.clamp(INITIAL_WINDOW, MAX_WINDOW);
        Self { window, allowance: INITIAL_WINDOW, unconsumed: 0, owed: window - INITIAL_WINDOW }
    }

    pub(crate) fn window(&self) -> u32 {
        self.window
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.unconsumed == 0
    }

    /// Returns false when the peer sent more than it was granted.
    pub(crate) fn receive(&mut self, bytes: usize) -> bool {
        let Some((bytes, rest)) =
            u32::try_from(bytes).ok().and_then(|bytes| Some((bytes, self.allowance.checked_sub(bytes)?)))
        else {
            return false;
        };
        self.allowance = rest;
        self.unconsumed += bytes;
        true
    }

    pub(crate) fn consume(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.unconsumed);
        self.unconsumed -= bytes;
        self.owed += bytes;
    }

    /// Returns whether a credit frame is worth its bytes.
    pub(crate) fn is_grant_due(&self) -> bool {
        self.owed >= self.window / 4
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
#[derive(Debug, Clone)]
pub(crate) struct InFlight {
    sent: u64,
    acknowledged: u64,
    bound: u64,
    max: u64,
    sample: Option<Sample>,
    shortest: Option<Duration>,
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
        Self { sent: 0, acknowledged: 0, bound, max, sample: None, shortest: None }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.sent - self.acknowledged < self.bound
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
        self.shortest = Some(self.shortest.map_or(round_trip, |shortest| shortest.min(round_trip)));
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
            let target = self.shortest.map_or(QUEUE_TARGET, |shortest| QUEUE_TARGET.max(2 * shortest));
            let delivered = u128::from(received - sample.acknowledged);
            let fits = delivered * target.as_micros() / elapsed.as_micros();
            let fits = u64::try_from(fits).unwrap_or(u64::MAX);
            self.bound = fits.clamp(self.bound / 2, self.bound * 2).clamp(MIN_IN_FLIGHT, self.max);
        }
        true
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
        check(1_000_000, 5, MIN_IN_FLIGHT..=80_000);
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
        let mut window = ReceiveWindow::new(INITIAL_WINDOW);
        assert!(!window.is_grant_due());
        assert!(window.receive(INITIAL_WINDOW as usize));
        assert!(!window.receive(1));
        window.consume(INITIAL_WINDOW as usize / 4);
        assert!(window.is_grant_due());
        assert_eq!(window.take_grant(), INITIAL_WINDOW / 4);
        assert!(window.receive(INITIAL_WINDOW as usize / 4));
        assert!(!window.receive(1));
        window.consume(usize::MAX);
        assert!(window.is_empty());
        assert_eq!(window.take_grant(), INITIAL_WINDOW);
    }
}
