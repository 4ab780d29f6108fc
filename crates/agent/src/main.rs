//! The program in the pod: pid 1 of the dev container, and the relay that reaches it.
//!
//! **Architecture Invariant:** no cluster client, no manifest, no argument parser; one static binary of at most
//! 1,000,000 bytes, because it travels in a ConfigMap. It listens on one unix socket in a private folder; TCP only
//! where a reverse forward was asked for, and beyond loopback only where that was asked for too.

#![forbid(unsafe_code)]

mod args;
mod connect;
mod forward;
mod job;
mod log;
mod program;
mod reaper;
mod scrollback;
mod seed;
mod serve;
mod socket;
mod spawn;
mod standalone;
mod stdio;
mod supervise;
mod sync;
mod thread;

use std::process::ExitCode;

use crate::args::Command;

/// The C library's own is many times slower in a static binary.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let command = match args::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(message) => {
            log::line(&format!("{message}\n{}", args::USAGE));
            return ExitCode::from(2);
        }
    };
    let result = match command {
        Command::Run(place) => supervise::run(&place),
        Command::Connect(place) => connect::run(&place),
        Command::Serve { root } => standalone::run(&root),
        Command::Seed { from, to } => seed::copy(&from, &to),
        Command::TtyExec(argv) => Err(spawn::tty_exec(&argv)),
        Command::Version => {
            log::answer(env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::line(&error.to_string());
            // 126 is what a shell says of a program that is there and can't be started.
            ExitCode::from(if error.kind() == std::io::ErrorKind::InvalidInput { 126 } else { 1 })
        }
    }
}
