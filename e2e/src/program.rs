//! The programs that scenarios start, built once.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::variables;

/// What cargo tells the tests that it runs. Build scripts that watch such variables would see others than in a build
/// by hand, and half the tree would be built twice.
const OF_CARGO_TEST: &[&str] =
    &["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
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
    let mut command = Command::new(program);
    command.arg("--quiet").args(arguments).current_dir(tree());
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(of_cargo_test) {
            command.env_remove(name);
        }
    }
    let status = command.status();
    assert!(status.as_ref().is_ok_and(std::process::ExitStatus::success), "cargo {arguments:?}: {status:?}");
}

fn of_cargo_test(name: &str) -> bool {
    OF_CARGO_TEST.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_test_is_told_by_cargo_is_known_among_the_users_settings() {
        for name in ["CARGO_PKG_VERSION", "CARGO_MANIFEST_DIR", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"] {
            assert!(of_cargo_test(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_INCREMENTAL", "PATH"] {
            assert!(!of_cargo_test(name), "{name}");
        }
        let told: Vec<_> = env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
        assert!(told.iter().any(|name| of_cargo_test(name)), "cargo tells a test nothing any more");
    }
}
