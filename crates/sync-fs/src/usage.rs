//! What this process has used of the machine: a sync shows its price.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What a process has used since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Processor time of all its threads.
    pub cpu: Duration,
    /// The most memory that was resident at once, in KiB.
    pub peak_kibibytes: u64,
}

/// Returns what this process has used. What the kernel does not tell is 0.
pub fn usage() -> Usage {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let (seconds, nanoseconds) = (time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0));
    Usage { cpu: Duration::new(seconds, nanoseconds), peak_kibibytes: peak() }
}

#[expect(clippy::disallowed_methods, reason = "the kernel's own table")]
fn peak() -> u64 {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return 0 };
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_time_and_memory() {
        let before = usage();
        assert!(before.peak_kibibytes > 0);
        let mut hasher = blake3::Hasher::new();
        while usage().cpu == before.cpu {
            hasher.update(&[0; 4096]);
        }
        assert!(usage().cpu > before.cpu, "{:?}", hasher.finalize());
    }
}
