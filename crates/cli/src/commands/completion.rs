//! `towline completion`.

use clap::CommandFactory;

use crate::args::{Cli, Completion};
use crate::exit_code;

/// Prints a script that the shell reads.
pub(crate) fn run(args: &Completion) -> u8 {
    clap_complete::generate(args.shell, &mut Cli::command(), "towline", &mut std::io::stdout());
    exit_code::OK
}
