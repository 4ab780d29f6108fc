//! The engine with whole replicas in memory: laws of the planner, scenes, and thousands of random worlds.

#![expect(clippy::print_stdout, reason = "a failing world says its seed, and what happens in it")]

mod deltas;
mod disk;
mod distance;
mod laws;
mod line;
mod oracle;
mod planner;
mod random;
mod scenes;
mod structure;
mod worlds;
