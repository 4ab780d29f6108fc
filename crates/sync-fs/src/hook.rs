//! Named moments of an apply, at which tests step in: to change the disk, to fail, or to die.

use std::io;

use towline_sync_core::path::RelPath;

/// A moment of an apply. Between any two of them the process may be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// Content is about to be written to the staging folder.
    Write,
    /// The staged content is complete and verified.
    Staged,
    /// The target was found to be what was expected; it is replaced next.
    Checked,
    /// The new version has the name; the old one is not yet judged.
    Exchanged,
    /// The old version was moved away and is not yet judged.
    Displaced,
    /// The old version is as expected and goes to the trash next.
    Judged,
}

/// Does nothing, unless a test says otherwise.
#[derive(Default)]
pub(crate) struct Hook {
    #[cfg(test)]
    pub(crate) step: Option<Step>,
}

#[cfg(test)]
pub(crate) type Step = Box<dyn FnMut(Moment, &RelPath) -> io::Result<()> + Send>;

impl Hook {
    #[cfg(test)]
    pub(crate) fn at(&mut self, moment: Moment, path: &RelPath) -> io::Result<()> {
        self.step.as_mut().map_or(Ok(()), |step| step(moment, path))
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the same shape as under test")]
    #[inline]
    pub(crate) fn at(&mut self, _moment: Moment, _path: &RelPath) -> io::Result<()> {
        Ok(())
    }
}
