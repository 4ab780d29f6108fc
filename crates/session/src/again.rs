//! When a command that ended is started again: at once at first, later and later while it goes on failing.

use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A command that ran for so long did not fail at its start.
const LONG: Duration = Duration::from_mins(1);

/// The starts of one command so far. Times are counted from the session's start.
#[derive(Debug, Default)]
pub(crate) struct Again {
    began: Duration,
    ends: u32,
    due: Option<Duration>,
}

impl Again {
    /// It runs.
    pub(crate) fn started(&mut self, now: Duration) {
        self.began = now;
        self.due = None;
    }

    /// It has ended, or could not be started: after a pause it is due.
    pub(crate) fn ended(&mut self, now: Duration) {
        if now.saturating_sub(self.began) >= LONG {
            self.ends = 0;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.ends.min(10)).min(LONGEST_PAUSE);
        self.ends = self.ends.saturating_add(1);
        self.due = Some(now + pause);
    }

    /// Tells, once, that it is time to start it.
    pub(crate) fn is_due(&mut self, now: Duration) -> bool {
        self.due.take_if(|due| *due <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_it_runs_for_long() {
        let mut again = Again::default();
        let mut now = Duration::ZERO;
        let mut pause = |again: &mut Again, ran: u64| {
            again.started(now);
            now += Duration::from_secs(ran);
            again.ended(now);
            let ended = now;
            while !again.is_due(now) {
                now += Duration::from_secs(1);
            }
            now.saturating_sub(ended).as_secs()
        };
        let pauses: Vec<u64> = (0..7).map(|_| pause(&mut again, 2)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(pause(&mut again, 60), 1);
        assert!(!again.is_due(Duration::MAX), "said once");
    }
}
