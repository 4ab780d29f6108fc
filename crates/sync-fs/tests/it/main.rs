//! The laptop's side, real engine and real folder, against a pod that does what it likes.

#![expect(clippy::disallowed_methods, reason = "tests use the disk as users do: by paths")]

mod hostile;
mod laptop;
