//! `cargo xtask bench`: wall times inform, instruction counts can be compared.

use anyhow::Result;

use crate::run;

/// Runs the benchmarks; `arguments` go to their harness.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    bench("wall_time", arguments)?;
    if run::is_there("valgrind", &["--version"]) && run::is_there("gungraun-runner", &["--version"]) {
        return bench("instructions", arguments);
    }
    println!("instruction counts: left out, they need valgrind and gungraun-runner");
    Ok(())
}

fn bench(name: &str, arguments: &[&str]) -> Result<()> {
    let words = ["bench", "-p", "benches", "--locked", "--bench", name, "--"];
    run::status(run::cargo(words.into_iter().chain(arguments.iter().copied())))
}
