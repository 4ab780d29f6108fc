//! The patcher as its callers see it: clones of whole workloads, the journal, and a model of an API server on which
//! sessions begin, end and die while others write.

#![recursion_limit = "256"]

mod clone;
mod crash;
mod deployments;
mod in_place;
mod journal;
mod server;
mod storage;
mod world;
