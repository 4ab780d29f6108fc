//! `cargo xtask bench`: wall times inform, instruction counts are held against the repository's own.

mod instructions;
mod scenarios;

use anyhow::{Result, bail};

use crate::run;

pub(crate) use instructions::check;

/// What measures time, for people.
const WALL_TIME: &[&str] = &["wall_time", "delta", "wire", "ignore"];

/// Runs benchmarks; what `wall-time` is given goes to its harness.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    match arguments {
        [] => {
            wall_time(&[])?;
            instructions::print()
        }
        ["wall-time", rest @ ..] => wall_time(rest),
        ["scenarios"] => scenarios::print(),
        ["instructions"] => instructions::print(),
        ["instructions", "--check"] => check(),
        ["instructions", "--accept"] => instructions::accept(),
        _ => bail!("cargo xtask bench [wall-time [ARG…] | scenarios | instructions [--check | --accept]]"),
    }
}

fn wall_time(arguments: &[&str]) -> Result<()> {
    for name in WALL_TIME {
        let words = ["bench", "-p", "benches", "--locked", "--bench", name, "--"];
        run::status(run::cargo(words.into_iter().chain(arguments.iter().copied())))?;
    }
    Ok(())
}
