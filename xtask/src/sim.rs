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
    crash_suite(times, &[])
}

/// Kills a sync at every system call of these scripts, or of all.
pub(crate) fn crash(scripts: &[&str]) -> Result<()> {
    let words = if scripts.is_empty() { vec![] } else { [&["--"], scripts].concat() };
    crash_suite("1", &words)
}

/// Kills the engine and its replicas by themselves, and then the programs that people run.
fn crash_suite(times: &str, words: &[&str]) -> Result<()> {
    let suite = ("towline-sync-fs", &["--test", "crash"][..]);
    test(times, suite.0, suite.1, words)?;
    let mut build = run::cargo(["build", "--locked", "-p", "cli", "-p", "towline-agent"]);
    build.args(["--bin", "towline", "--bin", "towline-agent"]);
    run::status(build)?;
    let programs = run::target_folder()?.join("debug");
    let mut command = suite_command(times, suite.0, suite.1, words);
    command.env("TOWLINE_PROGRAMS", programs);
    run::status(command)
}

fn test(times: &str, package: &str, program: &[&str], words: &[&str]) -> Result<()> {
    run::status(suite_command(times, package, program, words))
}

fn suite_command(times: &str, package: &str, program: &[&str], words: &[&str]) -> std::process::Command {
    let mut command = run::cargo(["test", "--locked", "--profile", "sim", "-p", package]);
    command.args(program).args(words).env("TOWLINE_SIM", times);
    if Path::new(MEMORY).is_dir() {
        command.env("TMPDIR", MEMORY);
    }
    command
}
