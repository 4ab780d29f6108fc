//! Every environment variable that is read, in one place. `docs/environment.md` is written from here.
#![expect(clippy::disallowed_methods, reason = "this is the one place")]

use std::ffi::OsString;
use std::path::PathBuf;

/// Where state lives, instead of the platform's state folder.
pub(crate) const TOWLINE_HOME: &str = "TOWLINE_HOME";
/// The kubeconfig context, like `--context`.
pub(crate) const TOWLINE_CONTEXT: &str = "TOWLINE_CONTEXT";
/// The namespace, like `--namespace`.
pub(crate) const TOWLINE_NAMESPACE: &str = "TOWLINE_NAMESPACE";
/// A file that holds the agent, instead of the one that belongs to this build.
pub(crate) const TOWLINE_AGENT: &str = "TOWLINE_AGENT";
/// Where Okteto's users have state; read when `TOWLINE_HOME` is not set.
pub(crate) const OKTETO_FOLDER: &str = "OKTETO_FOLDER";
/// As Okteto's users know it; read when `TOWLINE_CONTEXT` is not set.
pub(crate) const OKTETO_CONTEXT: &str = "OKTETO_CONTEXT";
/// As Okteto's users know it; read when `TOWLINE_NAMESPACE` is not set.
pub(crate) const OKTETO_NAMESPACE: &str = "OKTETO_NAMESPACE";
/// Kubernetes configuration files, separated as in `PATH`.
pub(crate) const KUBECONFIG: &str = "KUBECONFIG";
/// What to log, as in `tracing-subscriber`'s `EnvFilter`.
pub(crate) const RUST_LOG: &str = "RUST_LOG";

/// Returns a variable that is set, not empty, and text.
pub(crate) fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns a variable as the manifest sees it: empty is set too.
pub(crate) fn lookup(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns a variable that is set and not empty.
pub(crate) fn os(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Returns what `cargo run` has told this program about its package. Another cargo that sees it builds other things anew
/// than one that is called by hand.
pub(crate) fn of_cargo_run() -> impl Iterator<Item = OsString> {
    let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    std::env::vars_os().map(|(name, _)| name).filter(move |name| {
        name.to_str().is_some_and(|name| told.iter().any(|start| name.starts_with(start)))
    })
}

/// Returns the kubeconfig files that exist: those of `KUBECONFIG`, else `~/.kube/config`.
pub(crate) fn kubeconfig_files() -> Vec<PathBuf> {
    match os(KUBECONFIG) {
        Some(list) => std::env::split_paths(&list).filter(|file| !file.as_os_str().is_empty()).collect(),
        None => home_folder()
            .map(|home| home.join(".kube/config"))
            .filter(|file| file.exists())
            .into_iter()
            .collect(),
    }
}

/// Returns the user's home.
pub(crate) fn home_folder() -> Option<PathBuf> {
    etcetera::home_dir().ok()
}

/// Returns `user@machine`, as others see it in the Lease.
pub(crate) fn holder() -> String {
    let user = text("USER").or_else(|| text("LOGNAME")).unwrap_or_else(|| "someone".to_owned());
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let machine = if machine.trim().is_empty() { text("HOSTNAME").unwrap_or_default() } else { machine };
    let word =
        |text: &str| text.trim().replace(|c: char| !c.is_ascii_alphanumeric() && !"-._".contains(c), "-");
    format!("{}@{}", word(&user), word(&machine))
}
