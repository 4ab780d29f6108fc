//! The bytes of every message: what was encoded comes back, and stays what it is.

mod golden;
mod laws;
