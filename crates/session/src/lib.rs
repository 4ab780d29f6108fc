//! The life of `up` and `down`: one state machine, told as events. What other tools embed.
//!
//! [`plan`](plan::plan) reads, checks and asks the server, and writes nothing. [`up`](up::up) writes the record, then
//! the objects, and returns a [`Session`] that says what happens as [`Event`]s. [`down`](down::down) leads back from
//! the record in the cluster alone.
//!
//! **Architecture Invariant:** nothing here prints, reads an environment variable or parses a command line.

#![forbid(unsafe_code)]

mod again;
mod autocreate;
mod connection;
pub mod context;
pub mod controllers;
pub mod doctor;
pub mod down;
pub mod error;
pub mod event;
pub mod exec;
mod forward;
pub mod gc;
pub mod hybrid;
mod in_place;
pub mod journal;
mod kinds;
mod live;
pub mod machine;
pub mod obstacle;
mod original;
mod output;
mod own_command;
pub mod plan;
pub mod plan_view;
pub mod pod;
mod process;
pub mod request;
pub mod rights;
pub mod several;
pub mod state_file;
pub mod storage;
#[cfg(test)]
mod sweep;
pub mod translate;
pub mod up;

pub use context::{AgentSource, Context};
pub use controllers::truce::Gitops;
pub use error::SessionError;
pub use event::{Ending, Event, State};
pub use request::UpRequest;
pub use up::Session;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/embedding.md")]
mod embedding {}
