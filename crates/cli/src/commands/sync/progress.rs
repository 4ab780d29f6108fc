//! How far a transfer is, in words for the live line.

use std::time::{Duration, Instant};

/// Between two looks at the speed.
const STEP: Duration = Duration::from_millis(250);
/// How much of the speed is what was measured last, in percent.
const WEIGHT: f64 = 0.3;

/// Watches how fast the bytes go.
#[derive(Debug, Default)]
pub(super) struct Progress {
    last: Option<(Instant, u64)>,
    /// Bytes a second, as it went lately.
    speed: Option<f64>,
}

impl Progress {
    /// Takes how far it is, and returns that in words.
    pub(super) fn words(&mut self, now: Instant, files: [u64; 2], bytes: [u64; 2]) -> String {
        match self.last {
            Some((then, done)) if bytes[0] >= done => {
                let passed = now.duration_since(then);
                if passed >= STEP {
                    #[expect(clippy::cast_precision_loss, reason = "for people")]
                    let latest = (bytes[0] - done) as f64 / passed.as_secs_f64();
                    let known = self.speed.unwrap_or(latest);
                    self.speed = Some(known + WEIGHT * (latest - known));
                    self.last = Some((now, bytes[0]));
                }
            }
            // The first, or another transfer.
            _ => *self = Self { last: Some((now, bytes[0])), speed: None },
        }
        let mut parts =
            vec![format!("{} of {} files, {} of {}", files[0], files[1], size(bytes[0]), size(bytes[1]))];
        if let Some(speed) = self.speed.filter(|speed| *speed >= 1.0) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a speed is neither"
            )]
            parts.push(format!("{}/s", size(speed as u64)));
            #[expect(clippy::cast_precision_loss, reason = "for people")]
            let left = bytes[1].saturating_sub(bytes[0]) as f64 / speed;
            parts.push(format!("{} left", time(Duration::from_secs_f64(left.min(1e6)))));
        }
        parts.join(", ")
    }
}

/// Returns a number of bytes as people read it, in powers of ten.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut tenths = bytes / 100;
    let mut unit = 0;
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Returns a time as people read it.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        for (bytes, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (1_000_000, "1.0 MB"),
            (192_345_678, "192.3 MB"),
            (5_000_000_000_000_000, "5000.0 TB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
        for (seconds, expected) in [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min")] {
            assert_eq!(time(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn the_rate_and_the_time_left_follow_what_was_measured() {
        let mut progress = Progress::default();
        let began = Instant::now();
        let mut at = |milliseconds, done| {
            progress.words(began + Duration::from_millis(milliseconds), [1, 9], [done, 100_000_000])
        };
        assert_eq!(at(0, 0), "1 of 9 files, 0 B of 100.0 MB");
        assert_eq!(at(100, 5_000_000), "1 of 9 files, 5.0 MB of 100.0 MB");
        assert_eq!(at(1000, 10_000_000), "1 of 9 files, 10.0 MB of 100.0 MB, 10.0 MB/s, 9 s left");
        assert_eq!(at(2000, 40_000_000), "1 of 9 files, 40.0 MB of 100.0 MB, 16.0 MB/s, 3 s left");
        assert_eq!(at(2100, 0), "1 of 9 files, 0 B of 100.0 MB");
    }
}
