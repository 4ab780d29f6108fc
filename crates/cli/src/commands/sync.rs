//! `towline sync`.

mod args;
mod dry_run;
mod ends;
mod kept;
mod progress;
mod report;
mod signals;
mod transfer;
mod undo;

use self::args::SyncVerb;
use super::Outcome;
use crate::ui::Ui;

pub(crate) use self::args::Sync;

/// Does what is asked of two folders.
pub(crate) async fn run(ui: &mut Ui, args: &Sync) -> Outcome {
    match &args.verb {
        Some(SyncVerb::Undo(undo)) => undo::run(ui, undo).await,
        Some(SyncVerb::Conflicts(conflicts)) => kept::conflicts(ui, conflicts),
        Some(SyncVerb::Explain(explain)) => kept::explain_paths(ui, explain),
        None if args.dry_run => dry_run::run(ui, args).await,
        None => transfer::run(ui, args).await,
    }
}
