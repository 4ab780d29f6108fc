//! The programs that scenarios start, built once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::variables;

const STATIC_TARGET: &str = "x86_64-unknown-linux-musl";

/// Returns the `towline` program.
pub fn towline() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM
        .get_or_init(|| variables::path(variables::PROGRAM).unwrap_or_else(|| host_build().join("towline")))
}

/// Returns the agent for this machine, which pods of the embedded cluster run.
pub fn host_agent() -> PathBuf {
    host_build().join("towline-agent")
}

/// Returns the example's server, the image `hello` of the embedded cluster.
pub fn hello() -> PathBuf {
    host_build().join("hello")
}

/// Returns the static agent, which pods of a real cluster run.
pub fn static_agent() -> &'static Path {
    static AGENT: OnceLock<PathBuf> = OnceLock::new();
    AGENT.get_or_init(|| {
        variables::path("TOWLINE_AGENT").unwrap_or_else(|| {
            cargo(&["run", "-p", "xtask", "--", "agent"]);
            target().join("agent").join(STATIC_TARGET).join("agent/towline-agent")
        })
    })
}

/// Returns the root of the source tree.
pub fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the source tree is where it was built")
}

fn target() -> PathBuf {
    variables::path("CARGO_TARGET_DIR").unwrap_or_else(|| tree().join("target"))
}

fn host_build() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        cargo(&["build", "-p", "cli"]);
        cargo(&["build", "-p", "towline-agent", "-p", "hello"]);
        target().join("debug")
    })
}

fn cargo(arguments: &[&str]) {
    let program = variables::path("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program).arg("--quiet").args(arguments).current_dir(tree()).status();
    assert!(status.as_ref().is_ok_and(std::process::ExitStatus::success), "cargo {arguments:?}: {status:?}");
}
