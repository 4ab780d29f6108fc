//! The last agreed state of a folder, kept on this machine: a snapshot and a journal of what was added since.
//!
//! The base only lags behind the truth, never leads: losing the tail of the journal costs comparing, not files.
//! A file that can't be understood is put aside and the base begins empty, which deletes nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use towline_sync_core::base::{Base, BaseDelta};
use towline_sync_core::record;

use crate::error::SyncError;

/// Journal bytes after which a new snapshot is written.
const COMPACT_BYTES: u64 = 4 * 1024 * 1024;

/// One folder's base on disk. Holds the folder's lock as long as it lives.
#[derive(Debug)]
pub(crate) struct BaseStore {
    folder: PathBuf,
    journal: File,
    journal_bytes: u64,
    base: Base,
    _lock: File,
}

impl BaseStore {
    /// Opens the store in `folder`, creating it with mode 0700, and locks it for this process.
    pub(crate) fn open(folder: &Path, synced: &Path) -> Result<Self, SyncError> {
        let local = |what, path: &Path| {
            let path = path.to_owned();
            move |source| SyncError::State { what, path, source }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(local("creating", folder))?;
        let lock_path = folder.join("lock");
        let mut lock = private(&lock_path).map_err(local("opening", &lock_path))?;
        if lock.try_lock().is_err() {
            let pid =
                fs::read_to_string(&lock_path).ok().and_then(|pid| pid.trim().parse().ok()).unwrap_or(0);
            return Err(SyncError::Busy { path: synced.to_owned(), pid });
        }
        lock.set_len(0)
            .and_then(|()| write!(lock, "{}", std::process::id()))
            .map_err(local("writing", &lock_path))?;

        let base = load(folder).map_err(local("reading the sync base in", folder))?;
        let (journal, journal_bytes) =
            begin(folder, &base).map_err(local("writing the sync base in", folder))?;
        Ok(Self { folder: folder.to_owned(), journal, journal_bytes, base, _lock: lock })
    }

    /// Returns the base as it stands.
    pub(crate) fn base(&self) -> &Base {
        &self.base
    }

    /// Adds what both sides now agree on.
    pub(crate) fn append(&mut self, delta: &BaseDelta) -> io::Result<()> {
        self.base.apply(delta);
        let bytes = record::encode_delta(delta);
        self.journal.write_all(&bytes)?;
        self.journal_bytes += bytes.len() as u64;
        if self.journal_bytes > COMPACT_BYTES {
            (self.journal, self.journal_bytes) = begin(&self.folder, &self.base)?;
        }
        Ok(())
    }
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Writes a snapshot and an empty journal after it. The snapshot replaces the old one whole; a journal that belongs
/// to the old snapshot and survives a crash in between only repeats what the new snapshot has.
fn begin(folder: &Path, base: &Base) -> io::Result<(File, u64)> {
    let new = folder.join("base.new");
    let mut file = private(&new)?;
    file.set_len(0)?;
    file.write_all(&record::encode_base(base))?;
    file.sync_data()?;
    fs::rename(&new, folder.join("base"))?;
    let journal = private(&folder.join("journal"))?;
    journal.set_len(0)?;
    Ok((journal, 0))
}

fn load(folder: &Path) -> io::Result<Base> {
    let read = |name| match fs::read(folder.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    };
    let snapshot = read("base")?;
    let journal = read("journal")?;
    match record::decode(&snapshot, &journal) {
        Ok(base) => Ok(base),
        Err(error) => {
            tracing::warn!(%error, folder = %folder.display(), "the sync base can't be read and begins anew");
            fs::rename(folder.join("base"), folder.join("base.unreadable"))?;
            Ok(Base::default())
        }
    }
}

#[cfg(test)]
mod tests {
    use towline_sync_core::base::BaseDelta;
    use towline_sync_core::path::RelPath;
    use towline_sync_core::snapshot::Entry;

    use super::*;

    fn delta(path: &str) -> BaseDelta {
        BaseDelta::Set { path: RelPath::new(path).unwrap(), entry: Some(Entry::Directory) }
    }

    #[test]
    fn what_was_appended_is_there_after_a_restart() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("a/b");
        let mut store = BaseStore::open(&folder, temp.path()).unwrap();
        store.append(&delta("one")).unwrap();
        store.append(&delta("two")).unwrap();
        let wanted = store.base().clone();
        drop(store);
        assert_eq!(BaseStore::open(&folder, temp.path()).unwrap().base(), &wanted);
    }

    #[test]
    fn a_torn_tail_is_dropped_and_garbage_begins_anew() {
        let temp = tempfile::tempdir().unwrap();
        let mut store = BaseStore::open(temp.path(), temp.path()).unwrap();
        store.append(&delta("one")).unwrap();
        let wanted = store.base().clone();
        store.append(&delta("two")).unwrap();
        drop(store);
        let journal = temp.path().join("journal");
        let length = fs::metadata(&journal).unwrap().len();
        File::options().write(true).open(&journal).unwrap().set_len(length - 3).unwrap();
        assert_eq!(BaseStore::open(temp.path(), temp.path()).unwrap().base(), &wanted);

        fs::write(temp.path().join("base"), b"not a base").unwrap();
        assert_eq!(BaseStore::open(temp.path(), temp.path()).unwrap().base(), &Base::default());
        assert!(temp.path().join("base.unreadable").exists());
    }

    #[test]
    fn one_process_at_a_time() {
        let temp = tempfile::tempdir().unwrap();
        let _held = BaseStore::open(temp.path(), temp.path()).unwrap();
        let error = BaseStore::open(temp.path(), Path::new("/src")).unwrap_err();
        assert!(matches!(error, SyncError::Busy { pid, .. } if pid == std::process::id()), "{error}");
    }
}
