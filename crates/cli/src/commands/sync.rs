//! `towline sync`.

mod args;
mod dry_run;
mod ends;
mod kept;
mod progress;
mod report;
mod signals;
mod transfer;

use self::args::SyncVerb;
use super::Outcome;
use crate::ui::Ui;

pub(crate) use self::args::Sync;

// The exit codes that only sync has, documented in `docs/exit-codes.md`.

/// Both sides are equal but for paths that the system refused.
const INCOMPLETE: u8 = 3;
/// So much is gone on one side that it may be a mistake.
const HALTED: u8 = 4;
/// Another sync uses the pair, or one of its folders.
const IN_USE: u8 = 5;
/// The other end can't be reached, is none that can be spoken with, or is gone.
const LOST: u8 = 6;

/// Does what is asked of two folders.
pub(crate) async fn run(ui: &mut Ui, args: &Sync) -> Outcome {
    match &args.verb {
        Some(SyncVerb::Undo(undo)) => kept::undo(ui, undo),
        Some(SyncVerb::Conflicts(conflicts)) => kept::conflicts(ui, conflicts),
        Some(SyncVerb::Explain(explain)) => kept::explain_paths(ui, explain),
        None if args.dry_run => dry_run::run(ui, args).await,
        None => transfer::run(ui, args).await,
    }
}
