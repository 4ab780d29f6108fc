//! Numbers that look random and come from a seed, and how many of them are tried.

use std::cell::Cell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// Returns how many cases a suite tries: `quick` of them, or with `TOWLINE_SIM=n` that many times `full`.
#[expect(clippy::disallowed_methods, reason = "says how much is tried")]
pub(crate) fn count(quick: u64, full: u64) -> u64 {
    std::env::var("TOWLINE_SIM").map_or(quick, |times| full * times.parse::<u64>().unwrap())
}

/// Tries every seed of a suite, or the one of `TOWLINE_SEED` with a trace. A seed that fails is named.
#[expect(clippy::disallowed_methods, reason = "says which seed to look at")]
pub(crate) fn each_seed(suite: &str, seeds: Range<u64>, mut check: impl FnMut(u64, bool)) {
    if let Ok(seed) = std::env::var("TOWLINE_SEED") {
        return check(seed.parse().unwrap(), true);
    }
    let (began, count) = (std::time::Instant::now(), seeds.end - seeds.start);
    for seed in seeds {
        let tried = catch_unwind(AssertUnwindSafe(|| check(seed, false)));
        if let Err(panic) = tried {
            println!("failing seed of {suite}: {seed}; trace it with TOWLINE_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{suite}: {count} in {seconds:.1} s, {:.0} a second",
        u32::try_from(count).map_or(0.0, f64::from) / seconds
    );
}

thread_local! {
    static IS_WANTED: Cell<bool> = const { Cell::new(false) };
}

/// Tells whether this panics, and prints nothing of it: the first panic in a log is the failure's.
pub(crate) fn panics(run: impl FnOnce()) -> bool {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IS_WANTED.get() {
                loud(panic);
            }
        }));
    });
    IS_WANTED.set(true);
    let panicked = catch_unwind(AssertUnwindSafe(run)).is_err();
    IS_WANTED.set(false);
    panicked
}

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    /// True once in `of` times.
    pub(crate) fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}
