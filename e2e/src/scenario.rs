//! The scenarios. Each takes a cluster with an empty namespace and fails by panicking.

pub mod autocreate;
pub mod canary;
pub mod contention;
pub mod crashes;
pub mod edits;
pub mod hybrid;
pub mod interactive;
pub mod kill;
pub mod loss;
pub mod monorepo;
pub mod refusal;
pub mod restricted;
pub mod rights;
pub mod session;
pub mod several;
pub mod storage;
pub mod truce;
pub mod workloads;
