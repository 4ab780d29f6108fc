//! Scenarios of a development session, run against the embedded cluster and a real one.
//!
//! Each scenario drives the real `towline` program in a project of its own and reads what it says as JSON. Where both
//! clusters can do it, the same function runs on both: [`adapter::Adapter`] is what it knows of the cluster. A scenario
//! waits for events with a deadline, never for a time; one that fails shows the whole log.

#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "what was measured is told beside the test's own words")]

pub mod adapter;
pub mod app;
pub mod controller;
pub mod crds;
pub mod embedded;
pub mod gate;
pub mod http;
pub mod kinds;
pub mod kube;
pub mod log;
pub mod program;
pub mod project;
pub mod proxy;
pub mod pty;
pub mod scenario;
pub mod snapshot;
pub mod towline;
pub mod variables;
pub mod waiting;
pub mod workload;
