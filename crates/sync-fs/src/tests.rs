//! Behaviour on a real disk.
