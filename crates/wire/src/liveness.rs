//! Asks the peer for a sign of life, and tells when there was none for too long.

use std::time::{Duration, Instant};

/// When to ping, and since when the peer is silent.
#[derive(Debug, Clone)]
pub(crate) struct Liveness {
    interval: Duration,
    dead_after: Duration,
    last_heard: Instant,
    next_ping: Instant,
    ping_due: bool,
    /// The token and time of the last ping that was sent; tokens count from 1.
    asked: (u64, Instant),
    answered: u64,
    round_trip: Option<Duration>,
}

impl Liveness {
    /// Starts with a ping at once; `misses` pings without any sign of life, and half an interval more, mean death.
    pub(crate) fn new(interval: Duration, misses: u32, now: Instant) -> Self {
        Self {
            interval,
            dead_after: interval * misses.max(1) + interval / 2,
            last_heard: now,
            next_ping: now + interval,
            ping_due: true,
            asked: (0, now),
            answered: 0,
            round_trip: None,
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.next_ping.min(self.last_heard + self.dead_after)
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    pub(crate) fn heard(&mut self, now: Instant) {
        self.last_heard = self.last_heard.max(now);
    }

    /// Asks at once, and gives the peer one interval from now on to answer.
    pub(crate) fn probe(&mut self, now: Instant) {
        self.ping_due = true;
        self.next_ping = now + self.interval;
        let grace = self.dead_after.saturating_sub(self.interval);
        self.last_heard = now.checked_sub(grace).unwrap_or(now);
    }

    /// Fails with the length of the silence when the peer is dead.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), Duration> {
        if now >= self.deadline() + self.interval {
            // Nobody woke us when it was time: the machine slept, and so the silence proves nothing.
            self.probe(now);
            return Ok(());
        }
        let silence = now.saturating_duration_since(self.last_heard);
        if silence >= self.dead_after {
            return Err(silence);
        }
        if now >= self.next_ping {
            self.ping_due = true;
            self.next_ping = now + self.interval;
        }
        Ok(())
    }

    pub(crate) fn is_ping_due(&self) -> bool {
        self.ping_due
    }

    /// Returns the token of a ping that is to be sent now.
    pub(crate) fn take_ping(&mut self, now: Instant) -> Option<u64> {
        if !std::mem::take(&mut self.ping_due) {
            return None;
        }
        self.asked = (self.asked.0 + 1, now);
        Some(self.asked.0)
    }

    /// Returns false when there was no such ping. Answers to several pings may come as one, to the last of them.
    pub(crate) fn handle_pong(&mut self, now: Instant, token: u64) -> bool {
        if token <= self.answered || token > self.asked.0 {
            return false;
        }
        self.answered = token;
        if token == self.asked.0 {
            self.round_trip = Some(now.saturating_duration_since(self.asked.1));
        }
        true
    }
}
