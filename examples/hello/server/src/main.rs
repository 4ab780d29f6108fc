//! A page over HTTP, for trying a development session.
fn main() {}
