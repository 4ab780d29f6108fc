//! What replicas say, checked before it is believed.

use crate::diff::diff;
use crate::engine::replica::State;
use crate::engine::{Engine, EngineError, Side, SyncEvent};
use crate::message::{Failure, Outcome, Reply, RootInfo};
use crate::path::{MAX_PATH_BYTES, RelPath};
use crate::snapshot::{Change, Entry, Opaque};

/// The longest file that is believed in, in bytes: the lengths of as many as a side may have add up in 64 bits.
const MAX_FILE_BYTES: u64 = 1 << 42;

impl Engine {
    /// Takes what a side says. After an error nothing of it was believed, and the side must be disconnected; what a
    /// side says that is not connected is ignored.
    pub fn handle_reply(&mut self, side: Side, reply: Reply) -> Result<(), EngineError> {
        let state = self.replicas[side as usize].state();
        let early = |what| Err(EngineError::OutOfTurn { side, what });
        match (state, reply) {
            (State::Away, _) => return Ok(()),
            (State::Opening, Reply::Opened(info)) => self.opened(side, &info),
            (State::Opening, Reply::OpenFailed(failure)) => {
                self.handle_disconnected(side);
                self.events.push_back(SyncEvent::OpenFailed { side, failure });
            }
            (_, Reply::Opened(_) | Reply::OpenFailed(_)) => return early("an answer to open"),
            (_, Reply::Problems(problems)) => self.problems.said(side, problems, &mut self.events),
            (_, Reply::Watching(mode)) => {
                self.replicas[side as usize].watching = Some(mode.clone());
                self.events.push_back(SyncEvent::Watching { side, mode });
            }
            (State::Opening, _) => return early("news before its root was open"),
            (_, Reply::Entries { entries, last }) => self.entries(side, entries, last)?,
            (_, Reply::Same(same)) => self.same(side, &same)?,
            (_, Reply::Contents(news)) => self.contents(side, news)?,
            (_, Reply::Fetched { id, files }) => self.fetched(side, id, files)?,
            (_, Reply::Installed { id, failed }) => self.installed(side, id, failed)?,
            (_, Reply::ScanFailed(failure)) => self.scan_failed(side, failure)?,
            (_, Reply::Changed(changes)) => self.changed(side, changes)?,
            (_, Reply::Applied { id, outcome }) => {
                let outcome = match outcome {
                    Outcome::Stale { actual } => Outcome::Stale { actual: self.believable_at(id, actual) },
                    other => other,
                };
                self.applied(side, id, outcome)?;
            }
            (_, Reply::Data { id, block }) => self.data(side, id, block)?,
            (_, Reply::Signed { id, signature }) => self.signed(side, id, signature)?,
            (_, Reply::NeedSignature { id }) => self.need_signature(side, id)?,
            (_, Reply::ReadFailed { id, actual, failure }) => {
                let actual = self.believable_at(id, actual);
                self.read_failed(side, id, actual.as_ref(), failure)?;
            }
        }
        self.start();
        self.settle();
        Ok(())
    }

    fn opened(&mut self, side: Side, info: &RootInfo) {
        self.replicas[side as usize].opened(info.writable);
        if side == Side::Remote {
            self.adopting = (self.base.epoch() != Some(info.epoch)).then_some(info.epoch);
        }
        if !info.writable {
            self.events.push_back(SyncEvent::Unwritable { side });
        }
        let message = (!info.writable).then(|| "can't be written: nothing is changed there".to_owned());
        self.problems.root(side, message, &mut self.events);
    }

    pub(super) fn entries(
        &mut self,
        side: Side,
        entries: Vec<(RelPath, Entry)>,
        last: bool,
    ) -> Result<(), EngineError> {
        let replica = &mut self.replicas[side as usize];
        if !replica.is_scanning() {
            return Err(EngineError::OutOfTurn { side, what: "entries" });
        }
        check_paths(side, entries.iter().map(|(path, _)| path))?;
        replica.scanned(entries.into_iter().map(|(path, entry)| {
            let entry = believable(&path, entry);
            (path, entry)
        }));
        self.check_count(side)?;
        if !last {
            return Ok(());
        }
        let replica = &mut self.replicas[side as usize];
        let tree = replica.scan_complete();
        if replica.writable {
            self.problems.root(side, None, &mut self.events);
        }
        let replica = &mut self.replicas[side as usize];
        if replica.state() == State::Scanning {
            replica.ready(tree);
            self.scan_eagerly();
            return Ok(());
        }
        for Change { path, entry } in diff(replica.tree(), &tree) {
            self.observe(side, &path, entry.as_ref());
        }
        let blocked = std::mem::take(&mut self.blocked);
        if self.running {
            self.dirty.extend(blocked);
        }
        Ok(())
    }

    fn same(&mut self, side: Side, same: &[u8]) -> Result<(), EngineError> {
        match self.replicas[side as usize].same(same) {
            Some(Ok(())) => self.check_count(side),
            Some(Err(source)) => Err(EngineError::Same { side, source }),
            None => Err(EngineError::OutOfTurn { side, what: "what is the same as nothing that was told" }),
        }
    }

    fn scan_failed(&mut self, side: Side, failure: Failure) -> Result<(), EngineError> {
        let replica = &mut self.replicas[side as usize];
        if !replica.is_scanning() {
            return Err(EngineError::OutOfTurn { side, what: "the end of a scan" });
        }
        replica.scan_failed();
        let is_first = replica.state() == State::Scanning;
        let message = format!("can't be scanned: {}", failure.message);
        self.problems.root(side, Some(message), &mut self.events);
        if is_first {
            self.unscanned[side as usize] = true;
            self.events.push_back(SyncEvent::ScanFailed { side, failure });
        }
        Ok(())
    }

    fn changed(&mut self, side: Side, changes: Vec<Change>) -> Result<(), EngineError> {
        check_paths(side, changes.iter().map(|change| &change.path))?;
        if self.replicas[side as usize].len() + changes.len() > self.config.max_entries {
            let fresh = changes.iter().filter(|change| change.entry.is_some()).count();
            if self.replicas[side as usize].len() + fresh > self.config.max_entries {
                return Err(EngineError::TooManyEntries { side, limit: self.config.max_entries });
            }
        }
        for Change { path, entry } in changes {
            let entry = entry.map(|entry| believable(&path, entry));
            self.observe(side, &path, entry.as_ref());
        }
        Ok(())
    }

    fn check_count(&self, side: Side) -> Result<(), EngineError> {
        let limit = self.config.max_entries;
        if self.replicas[side as usize].len() > limit {
            return Err(EngineError::TooManyEntries { side, limit });
        }
        Ok(())
    }

    /// Returns what an answer says stands at the path it is about.
    pub(super) fn believable_at(&mut self, id: u64, actual: Option<Entry>) -> Option<Entry> {
        let path = &self.flights.get(id & !1)?.path;
        actual.map(|entry| believable(path, entry))
    }
}

fn check_paths<'a>(side: Side, mut paths: impl Iterator<Item = &'a RelPath>) -> Result<(), EngineError> {
    match paths.find(|path| path.is_private()) {
        Some(path) => Err(EngineError::PrivatePath { side, path: path.clone() }),
        None => Ok(()),
    }
}

/// Takes a link that leaves the root for what it is, whatever it was said to be, and a file for unreadable that is
/// longer than any.
fn believable(path: &RelPath, entry: Entry) -> Entry {
    match entry {
        Entry::File(file) if file.size > MAX_FILE_BYTES => Entry::Opaque(Opaque::Unreadable),
        Entry::Symlink { target } if !stays_inside(path, &target) => Entry::Opaque(Opaque::OutsideLink),
        other => other,
    }
}

/// Tells whether a link at `path` to `target` leads nowhere above the root, by its text.
fn stays_inside(path: &RelPath, target: &str) -> bool {
    if target.is_empty() || target.len() > MAX_PATH_BYTES || target.starts_with('/') || target.contains('\0')
    {
        return false;
    }
    let mut depth = path.components().count() - 1;
    for name in target.split('/') {
        match name {
            "" | "." => {}
            ".." => match depth.checked_sub(1) {
                Some(above) => depth = above,
                None => return false,
            },
            _ => depth += 1,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, target: &str, expected: bool) {
        assert_eq!(stays_inside(&RelPath::new(path).unwrap(), target), expected, "{path} -> {target}");
    }

    #[test]
    fn links_that_leave_the_root() {
        check("a", "b", true);
        check("a/b", "../c", true);
        check("a/b", "./../c/../d", true);
        check("a", "../c", false);
        check("a/b", "../../c", false);
        check("a/b", "c/../../../d", false);
        check("a", "/etc/passwd", false);
        check("a", "", false);
        check("a", "x\0y", false);
    }
}
