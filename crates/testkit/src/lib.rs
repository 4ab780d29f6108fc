//! What several crates' tests share: the program in an environment of its own, and output that is the same every time.

#![forbid(unsafe_code)]

mod environment;
pub mod filter;

pub use environment::TestEnv;
