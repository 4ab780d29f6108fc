//! The crate from outside: what it accepts, what it says, what it never does.

#![expect(
    clippy::format_push_string,
    clippy::format_collect,
    reason = "clearer than `write!` where speed is nothing"
)]

mod corpus;
mod disk;
mod language;
mod laws;
mod meaning;
mod messages;
mod sections;
mod trust;
