//! The towline command.

#![forbid(unsafe_code)]

mod agent;
mod args;
mod commands;
mod diagnose;
mod env_vars;
mod exit_code;
mod place;
mod project;
mod sanitize;
mod terminal;
mod trust;
mod ui;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = towline_session::hybrid::helper(std::env::args_os()) {
        return code;
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            anstream::eprintln!("error: can't start: {error}");
            return ExitCode::from(exit_code::INTERNAL);
        }
    };
    let code = runtime.block_on(commands::run());
    // A read of standard input can't be called off, and nobody waits for it any more.
    runtime.shutdown_background();
    ExitCode::from(code)
}
