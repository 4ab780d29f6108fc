//! The environment variables of the suite, in one place.
#![expect(clippy::disallowed_methods, reason = "this is the one place")]

use std::path::PathBuf;

/// An image with a shell, `httpd`, `wget` and `cat`, as busybox has them.
pub const IMAGE: &str = "TOWLINE_E2E_IMAGE";
/// An image that holds a single static program and no shell.
pub const SCRATCH_IMAGE: &str = "TOWLINE_E2E_SCRATCH_IMAGE";
/// The `towline` program; built from this source tree when it is not set.
pub const PROGRAM: &str = "TOWLINE_BIN";

/// At one of how many writes the crash sweep kills; 1 is every write, which takes minutes.
pub const CRASHES: &str = "TOWLINE_E2E_CRASHES";

/// Returns a variable that is set and not empty.
pub fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns a variable as a path.
pub fn path(name: &str) -> Option<PathBuf> {
    text(name).map(PathBuf::from)
}

/// Returns the image with a shell.
pub fn image() -> String {
    text(IMAGE).unwrap_or_else(|| "docker.io/library/busybox:dev".to_owned())
}

/// Returns the image without one.
pub fn scratch_image() -> String {
    text(SCRATCH_IMAGE).unwrap_or_else(|| "localhost/pause:dev".to_owned())
}

/// Returns at one of how many writes the crash sweep kills.
pub fn one_of() -> usize {
    text(CRASHES).map_or(7, |number| number.parse().expect("a number of writes"))
}
