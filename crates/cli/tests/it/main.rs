//! The `towline` program as a user has it: what it prints and how it ends.

mod cluster;
mod command_line;
mod ignore;
mod init;
mod manifest;
mod sync;

use towline_testkit::TestEnv;

/// Returns the installed program in an empty project.
fn environment() -> TestEnv {
    TestEnv::new(env!("CARGO_BIN_EXE_towline"))
}
