//! `cargo xtask ci`: every check, cheap ones first, each with the time it took.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::{agent, bench, reference, run, sim, tidy};

/// What a step does.
type Step = fn() -> Result<()>;

/// The steps in their order.
const STEPS: &[(&str, Step)] = &[
    ("fmt", fmt),
    ("tidy", tidy::run),
    ("deny", deny),
    ("clippy", clippy),
    ("test", test),
    ("sim", || sim::run(&[])),
    ("doc", doc),
    ("reference", reference::check),
    ("agent", || agent::run().map(drop)),
    ("fuzz", fuzz),
    ("instructions", bench::check),
];

/// Runs all steps, and stops at the first that fails.
pub(crate) fn run() -> Result<()> {
    let mut times = Vec::new();
    for (name, step) in STEPS {
        println!("== {name}");
        let began = Instant::now();
        let result = step();
        times.push((*name, began.elapsed()));
        if result.is_err() {
            println!("{}", table(&times));
        }
        result.with_context(|| format!("step {name} failed"))?;
    }
    println!("{}", table(&times));
    Ok(())
}

fn fmt() -> Result<()> {
    run::status(run::cargo(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    let all = ["--workspace", "--all-targets", "--features", "e2e/kube", "--locked"];
    run::status(run::cargo(["clippy"].into_iter().chain(all).chain(["--", "-D", "warnings"])))
}

fn test() -> Result<()> {
    run::status(run::cargo(["test", "--workspace", "--locked"]))
}

fn doc() -> Result<()> {
    let mut command = run::cargo(["doc", "--workspace", "--no-deps", "--locked"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    run::status(command)
}

/// The targets compile; running them needs nightly and `cargo fuzz`.
fn fuzz() -> Result<()> {
    let target = run::target_folder()?;
    let mut command = run::cargo(["check", "--manifest-path", "fuzz/Cargo.toml", "--locked", "--target-dir"]);
    command.arg(target);
    run::status(command)
}

fn deny() -> Result<()> {
    if !run::is_there("cargo-deny", &["--version"]) {
        println!("left out: cargo-deny is not installed (cargo install --locked cargo-deny)");
        return Ok(());
    }
    run::status(run::cargo(["deny", "--locked", "check", "licenses", "bans", "sources"]))
}

fn table(times: &[(&str, Duration)]) -> String {
    let rows = times.iter().map(|(name, time)| format!("{name:>12} {:>7.1} s", time.as_secs_f64()));
    let all: Duration = times.iter().map(|(_, time)| time).sum();
    rows.chain([format!("{:>12} {:>7.1} s", "all", all.as_secs_f64())]).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_adds_up() {
        let table = table(&[("fmt", Duration::from_millis(1500)), ("test", Duration::from_mins(1))]);
        assert_eq!(table, "         fmt     1.5 s\n        test    60.0 s\n         all    61.5 s");
    }
}
