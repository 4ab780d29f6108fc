//! The crate against recorded answers of the reference engine, and its laws.

mod corpus;
mod laws;
mod strict;
