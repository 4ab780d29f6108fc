//! The exit codes, documented in `docs/exit-codes.md`. A remote command's own code is passed on as it is.

/// Done.
pub(crate) const OK: u8 = 0;
/// The user's input or the cluster said no.
pub(crate) const REFUSED: u8 = 1;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 2;
/// A defect of ours.
pub(crate) const INTERNAL: u8 = 70;
/// The command is not in the container, as a shell says it.
pub(crate) const NOT_FOUND: u8 = 127;
/// Left by Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;
