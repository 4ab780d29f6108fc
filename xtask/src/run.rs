//! Starting other programs, cargo above all, and saying what is started.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

/// What `cargo run` tells the program it starts. Build scripts that watch such variables would see others than in a
/// build by hand, and half the tree would be built twice.
const OF_CARGO_RUN: &[&str] =
    &["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];

/// Returns the root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Prepares a program to be run at the repository's root.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(of_cargo_run) {
            command.env_remove(name);
        }
    }
    command
}

fn of_cargo_run(name: &str) -> bool {
    OF_CARGO_RUN.iter().any(|prefix| name.starts_with(prefix))
}

/// Prepares cargo, at the repository's root.
pub(crate) fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = command("cargo");
    command.args(arguments);
    command
}

/// Runs a program, its output being ours.
pub(crate) fn status(mut command: Command) -> Result<()> {
    let line = spelled(&command);
    println!("$ {line}");
    let status = command.status().with_context(|| format!("can't run {line}"))?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

/// Runs a program, showing what it prints; returns whether it succeeded, and its standard output.
pub(crate) fn shown(mut command: Command) -> Result<(Result<()>, String)> {
    let line = spelled(&command);
    println!("$ {line}");
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("can't run {line}"))?;
    let mut output = String::new();
    for read in BufReader::new(child.stdout.take().context("it is piped")?).split(b'\n') {
        let read = read?;
        let text = String::from_utf8_lossy(&read);
        println!("{text}");
        output.push_str(&text);
        output.push('\n');
    }
    let status = child.wait()?;
    let outcome = if status.success() { Ok(()) } else { Err(anyhow!("{line}: {status}")) };
    Ok((outcome, output))
}

/// Runs a program and returns what it prints.
pub(crate) fn output(mut command: Command) -> Result<String> {
    let line = spelled(&command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("can't run {line}"))?;
    if !output.status.success() {
        bail!("{line}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).with_context(|| format!("{line} did not print text"))
}

/// Tells whether a program is installed, by asking it something harmless.
pub(crate) fn is_there(program: &str, harmless: &[&str]) -> bool {
    let mut command = command(program);
    command.args(harmless).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Returns what cargo knows of the workspace's own packages.
pub(crate) fn metadata() -> Result<Value> {
    let text = output(cargo(["metadata", "--no-deps", "--format-version", "1", "--locked"]))?;
    Ok(serde_json::from_str(&text)?)
}

/// Returns the folder that cargo builds in.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let metadata = metadata()?;
    Ok(metadata["target_directory"].as_str().context("cargo metadata names no target folder")?.into())
}

fn spelled(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cargo_run_adds_is_taken_away() {
        assert!(of_cargo_run("CARGO_PKG_VERSION"));
        assert!(of_cargo_run("CARGO_MANIFEST_DIR"));
        assert!(!of_cargo_run("CARGO_HOME"));
        assert!(!of_cargo_run("CARGO_INCREMENTAL"));
        assert!(!of_cargo_run("RUSTFLAGS"));
    }

    #[test]
    fn a_failure_names_what_failed() {
        let mut command = command("sh");
        command.args(["-c", "echo because >&2; exit 3"]);
        let error = output(command).unwrap_err().to_string();
        assert!(error.contains("exit 3") && error.contains("because"), "{error}");
    }
}
