//! Keeps a folder here and a folder there equal.
//!
//! A [`Pair`] is the engine of `towline-sync-core` tied to two replicas of `towline-sync-fs`: one on this machine, and
//! one in this process too, or behind any `AsyncRead + AsyncWrite` that reaches `towline-agent serve`. It says what
//! happens as [`News`]; where it lives and when it is connected is the caller's business.
//!
//! What a pair would do is told by [`preview()`]; what it did, without it running, by [`KnownPair`], [`explain()`] and
//! [`discarded`]; [`UndoPlace`] brings back what it replaced or deleted on this machine, [`UndoThere`] at the far end of a
//! stream.
//!
//! The examples `folders` (two folders in this process) and `stream` (a folder over any stream) are the shortest
//! programs that use it.
//!
//! **Architecture Invariant:** nothing here prints, reads an environment variable, or knows Kubernetes.

#![forbid(unsafe_code)]

pub mod agent;
pub mod folders;

mod base_store;
mod displaced;
mod error;
mod explain;
mod ignore;
mod ledger;
mod pair;
mod peer;
mod preview;
mod record;
mod serve;
mod trash;
mod undo;
mod undo_there;

pub use displaced::Displaced;
pub use error::SyncError;
pub use explain::{Explanation, Rule, Verdict, explain};
pub use ignore::{ignore_lines, load_ignore};
pub use ledger::Counters;
pub use pair::{Command, News, Pair, PairOptions, keep_folder, replica_options};
pub use peer::Peer;
pub use preview::{Action, Preview, PreviewError, Step, preview};
pub use record::{Conflict, Description, KnownPair, Loss};
pub use serve::serve;
pub use towline_sync_fs::{ReplicaOptions, Usage, usage};
pub use trash::{Discarded, Was, Why, discarded};
pub use undo::{UndoError, UndoPlace, Undone};
pub use undo_there::{NotUndoneThere, UndoThere, UndoThereError, UndoneThere};
