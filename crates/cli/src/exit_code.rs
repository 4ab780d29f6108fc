//! The exit codes, documented in `docs/exit-codes.md`. A remote command's own code is passed on as it is.

/// Done.
pub(crate) const OK: u8 = 0;
/// The user's input or the cluster said no.
pub(crate) const REFUSED: u8 = 1;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 2;
/// `sync`: both sides are equal but for paths that the system refused.
pub(crate) const INCOMPLETE: u8 = 3;
/// `sync`: so much is gone on one side that it may be a mistake.
pub(crate) const HALTED: u8 = 4;
/// `sync`: another sync uses the pair, or one of its folders.
pub(crate) const IN_USE: u8 = 5;
/// `sync`: the other end can't be reached, is none that can be spoken with, or is gone.
pub(crate) const LOST: u8 = 6;
/// A defect of ours.
pub(crate) const INTERNAL: u8 = 70;
/// The command is not in the container, as a shell says it.
pub(crate) const NOT_FOUND: u8 = 127;
/// Left by Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;
