//! The program in the pod: supervise, sync, exec, forward.
fn main() {}
