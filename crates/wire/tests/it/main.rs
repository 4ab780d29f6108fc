//! The wire as its owner sees it: bytes in any pieces, virtual time, two ends in one thread.

mod frames;
mod hellos;
mod links;
mod packing;
mod pair;
mod violations;
