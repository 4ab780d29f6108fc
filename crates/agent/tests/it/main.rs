//! The real program, spoken to as the laptop does: `run`, and `connect` with its standard input and output.

mod command;
mod exec;
mod inherit;
mod life;
mod ports;
mod socket;
mod stand;
mod sync;
