//! Keeps a folder here and a folder there equal.
//!
//! A [`Pair`] is the engine of `towline-sync-core` tied to two replicas of `towline-sync-fs`: one on this machine, and
//! one in this process too, or behind any `AsyncRead + AsyncWrite` that reaches `towline-agent serve`. It says what
//! happens as [`News`]; where it lives and when it is connected is the caller's business.
//!
//! **Architecture Invariant:** nothing here prints, reads an environment variable, or knows Kubernetes.

#![forbid(unsafe_code)]

pub mod agent;
mod base_store;
mod error;
mod ignore;
mod pair;
mod peer;

pub use error::SyncError;
pub use ignore::ignore_lines;
pub use pair::{Command, News, Pair, PairOptions, keep_folder, replica_options};
pub use peer::Peer;
pub use towline_sync_fs::{Usage, usage};
