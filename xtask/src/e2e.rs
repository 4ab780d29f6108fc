//! `cargo xtask e2e`: one set of scenarios, on the embedded cluster and on a real one.

use anyhow::{Result, bail};

use crate::{agent, run};

/// Where scenarios run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Adapter {
    Embedded,
    Kube,
}

/// Builds what the scenarios start, then runs them.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let (adapters, rest) = choose(arguments)?;
    run::status(run::cargo(["build", "-p", "cli", "--locked"]))?;
    run::status(run::cargo(["build", "-p", "towline-agent", "-p", "hello", "--locked"]))?;
    for adapter in adapters {
        let words: &[&str] = match adapter {
            Adapter::Embedded => &["--test", "embedded"],
            Adapter::Kube => &["--features", "e2e/kube", "--test", "kube"],
        };
        // The whole workspace is named so that nothing is built with other features than by `cargo test --workspace`.
        let words = ["test", "--workspace", "--locked"].iter().chain(words).chain(&["--"]).chain(rest);
        let mut test = run::cargo(words.copied());
        test.env("TOWLINE_BIN", run::target_folder()?.join("debug/towline"));
        if adapter == Adapter::Kube {
            if std::env::vars_os().all(|(name, value)| name != "KUBECONFIG" || value.is_empty()) {
                bail!("KUBECONFIG is not set: name a cluster that may be played with");
            }
            test.env("TOWLINE_AGENT", agent::run()?);
        }
        let (outcome, output) = run::shown(test)?;
        if outcome.is_err() {
            println!("{}", reasons(&output));
        }
        outcome?;
    }
    Ok(())
}

/// Returns why tests failed, a few lines for each: what comes last is what is kept of a long log.
fn reasons(output: &str) -> String {
    const LINES: usize = 8;
    const LENGTH: usize = 400;
    let mut found = String::from("== why scenarios failed, in short");
    let mut left = 0;
    for line in output.lines() {
        let test = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"));
        if let Some(test) = test {
            found.extend(["\n-- ", test]);
            left = 0;
        } else if line.starts_with("thread '") && line.contains("panicked at ") {
            left = LINES;
        } else if line == "stack backtrace:" {
            left = 0;
        }
        if left > 0 && !line.is_empty() {
            left -= 1;
            found.push('\n');
            found.extend(line.chars().take(LENGTH));
        }
    }
    found
}

fn choose<'a>(arguments: &'a [&'a str]) -> Result<(Vec<Adapter>, &'a [&'a str])> {
    match arguments {
        ["--adapter", "embedded", rest @ ..] => Ok((vec![Adapter::Embedded], rest)),
        ["--adapter", "kube", rest @ ..] => Ok((vec![Adapter::Kube], rest)),
        ["--adapter", "all", rest @ ..] => Ok((vec![Adapter::Embedded, Adapter::Kube], rest)),
        ["--adapter", ..] => bail!("--adapter is one of embedded, kube, all"),
        rest => Ok((vec![Adapter::Embedded], rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_in_few_lines() {
        let long = "x".repeat(1000);
        let more = "more\n".repeat(20);
        let output = format!(
            "test a ... FAILED\nfailures:\n\n---- a stdout ----\nwell\n\nthread 'a' (7) panicked at e2e/src/a.rs:1:2:\n\
             not as wanted: {long}\n{more}\n---- b stdout ----\n\nfailures:\n    a\n"
        );
        let told = reasons(&output);
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines[1..3], ["-- a", "thread 'a' (7) panicked at e2e/src/a.rs:1:2:"]);
        assert!(lines[3].starts_with("not as wanted: xxx") && lines[3].len() == 400);
        assert_eq!((lines.len(), lines[4], lines[10]), (11, "more", "-- b"));
    }

    #[test]
    fn adapters_are_chosen_and_the_rest_goes_to_the_tests() {
        let check = |line: &str, adapters: &[Adapter], rest: &[&str]| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (chosen, left) = choose(&words).unwrap();
            assert_eq!((chosen.as_slice(), left), (adapters, rest), "{line}");
        };
        check("", &[Adapter::Embedded], &[]);
        check("--adapter kube", &[Adapter::Kube], &[]);
        check(
            "--adapter all forward --nocapture",
            &[Adapter::Embedded, Adapter::Kube],
            &["forward", "--nocapture"],
        );
        check("down", &[Adapter::Embedded], &["down"]);
        assert!(choose(&["--adapter", "both"]).is_err());
        assert!(choose(&["--adapter"]).is_err());
    }
}
