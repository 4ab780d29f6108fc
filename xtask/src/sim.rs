//! `cargo xtask sim` and `cargo xtask crash`: the tests that try much, fast and with every check on.

use std::path::Path;

use anyhow::{Context, Result};

use crate::run;

/// A file system in memory: what is forced to the disk there takes no time.
const MEMORY: &str = "/dev/shm";

/// What is tried: the package, its test program, and which of its tests.
const SUITES: &[(&str, &[&str], &[&str])] = &[
    ("towline-sync-core", &["--test", "it"], &["planner", "oracle", "structure", "worlds"]),
    ("towline-sync-fs", &["--test", "it"], &["hostile"]),
    ("towline-sync-fs", &["--lib"], &["race"]),
];

/// Runs everything, `times` as much as every change must pass.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let times = match words {
        [] => "1",
        [times] => {
            times.parse::<u64>().with_context(|| format!("not a number: {times}"))?;
            times
        }
        _ => anyhow::bail!("sim takes a number at most"),
    };
    for (package, program, tests) in SUITES {
        let words = [&["--", "--nocapture"], *tests].concat();
        test(times, package, program, &words)?;
    }
    test(times, "towline-sync-fs", &["--test", "crash"], &[])
}

/// Kills a sync at every system call of these scripts, or of all.
pub(crate) fn crash(scripts: &[&str]) -> Result<()> {
    let words = if scripts.is_empty() { vec![] } else { [&["--"], scripts].concat() };
    test("1", "towline-sync-fs", &["--test", "crash"], &words)
}

fn test(times: &str, package: &str, program: &[&str], words: &[&str]) -> Result<()> {
    let mut command = run::cargo(["test", "--locked", "--profile", "sim", "-p", package]);
    command.args(program).args(words).env("TOWLINE_SIM", times);
    if Path::new(MEMORY).is_dir() {
        command.env("TMPDIR", MEMORY);
    }
    run::status(command)
}
