//! One file for each verb.

mod completion;
mod doctor;
mod down;
mod exec;
mod gc;
mod ignore;
mod init;
mod logs;
mod manifest;
mod sessions;
mod status;
mod sync;
mod up;
mod up_detached;
mod up_follow;
mod up_plan;
mod validate;

use clap::Parser;
use clap::error::ErrorKind;
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Verb};
use crate::diagnose::Failure;
use crate::env_vars;
use crate::exit_code;
use crate::ui::Ui;

pub(crate) use self::doctor::Doctor;
pub(crate) use self::gc::Gc;
pub(crate) use self::ignore::Ignore;
pub(crate) use self::init::Init;
pub(crate) use self::manifest::Manifest;
pub(crate) use self::sync::Sync;

/// What is logged unless someone asks: of requests that failed, the client's log knows less than our own words.
const LOGGED: &str = "error,kube_client=off";

/// What a verb leaves: the process's exit code, or why not.
pub(crate) type Outcome = Result<u8, Failure>;

/// Reads the command line, does what it says and returns the exit code.
pub(crate) async fn run() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A reader that has gone wants no help.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => exit_code::OK,
                _ => exit_code::USAGE,
            };
        }
    };
    let filter = env_vars::text(env_vars::RUST_LOG).unwrap_or_else(|| LOGGED.to_owned());
    let filter = EnvFilter::new(filter);
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let output = match &cli.verb {
        Verb::Ignore(args) => args.output().or(cli.global.output),
        _ => cli.global.output,
    };
    let mut ui = Ui::new(output);
    let outcome = match &cli.verb {
        Verb::Up(args) => Box::pin(up::run(&mut ui, &cli.global, args)).await,
        Verb::Down(args) => down::run(&mut ui, &cli.global, args).await,
        Verb::Status(args) => status::run(&mut ui, &cli.global, args).await,
        Verb::Exec(args) => exec::run(&mut ui, &cli.global, args).await,
        Verb::Logs(args) => logs::run(&mut ui, &cli.global, args).await,
        Verb::Doctor(args) => Box::pin(doctor::run(&mut ui, &cli.global, args)).await,
        Verb::Gc(args) => gc::run(&mut ui, &cli.global, args).await,
        Verb::Sync(args) => sync::run(&mut ui, args).await,
        Verb::Ignore(args) => ignore::run(&mut ui, &cli.global, args),
        Verb::Init(args) => init::run(&mut ui, &cli.global, args).await,
        Verb::Validate(args) => validate::run(&mut ui, &cli.global, args),
        Verb::Manifest(args) => manifest::run(&mut ui, &cli.global, args),
        Verb::Completion(args) => Ok(completion::run(args)),
    };
    outcome.unwrap_or_else(|failure| {
        ui.failure(&failure);
        failure.code
    })
}
