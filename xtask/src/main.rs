//! The repository's own checks and builds: `cargo xtask VERB`.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for people who read along")]

mod agent;
mod bench;
mod ci;
mod e2e;
mod elf;
mod reference;
mod run;
mod sim;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask VERB

  ci                         everything a change must pass, but for the real cluster
  tidy                       the house rules that neither the compiler nor clippy knows
  agent                      builds the static agent and checks that it needs nothing and is small enough
  reference                  writes docs/cli-reference.md from the help texts
  e2e [--adapter NAME] [ARG…]  the scenarios, on `embedded` (default), `kube` (needs KUBECONFIG) or `all`
  bench [WHAT]               `scenarios`, `wall-time`, `instructions` (--check, --accept), or the last two
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match dispatch(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(words: &[&str]) -> Result<()> {
    match words {
        ["ci"] => ci::run(),
        ["tidy"] => tidy::run(),
        ["agent"] => agent::run().map(drop),
        ["reference"] => reference::write(),
        ["e2e", rest @ ..] => e2e::run(rest),
        ["sim", rest @ ..] => sim::run(rest),
        ["crash", rest @ ..] => sim::crash(rest),
        ["bench", rest @ ..] => bench::run(rest),
        [] | ["help" | "-h" | "--help"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => bail!("unknown: {}\n\n{HELP}", words.join(" ")),
    }
}
