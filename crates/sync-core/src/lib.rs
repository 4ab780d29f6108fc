//! Two snapshots and their ancestor go in, transitions come out.
//!
//! The engine runs on the laptop only and decides everything. Each folder, here or in a pod, is a *replica*:
//! a program that scans, watches, reads, stages and applies when a [`message::Request`] tells it to, and answers
//! with [`message::Reply`]. Both replicas speak the same language, so the engine is symmetric, knows no file
//! system, no clock and no socket, and two of anything can be tied together.
//!
//! **Architecture Invariant:** nothing here names `std::fs`, `std::net`, tokio or a clock.

#![forbid(unsafe_code)]

pub mod base;
pub mod block;
pub mod codec;
pub mod conflict;
pub mod delta;
pub mod diff;
pub mod engine;
pub mod message;
pub mod outline;
pub mod path;
pub mod protect;
pub mod reconcile;
pub mod record;
pub mod snapshot;
