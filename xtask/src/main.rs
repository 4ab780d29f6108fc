//! The repository's own checks and builds.
fn main() {}
