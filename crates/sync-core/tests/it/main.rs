//! The engine with whole replicas in memory: laws of the planner, scenes, and thousands of random worlds.

mod disk;
mod laws;
mod random;
mod scenes;
mod worlds;
