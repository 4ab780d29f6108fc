//! The kube adapter against a scripted API server on loopback.
//!
//! Time is paused, so that pauses and limits can be measured and cost nothing.

mod answers;
mod config;
mod exec;
mod repeats;
mod requests;
mod server;
mod watch;
