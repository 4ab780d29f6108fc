//! Sessions against the embedded cluster, which fails where a test wants it to.

mod gc;
mod plan;
mod takeover;
mod truce;
mod world;
