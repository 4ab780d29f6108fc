//! The last agreed state of a folder, kept on this machine: a snapshot and a journal of what was added since.
//!
//! The base only lags behind the truth, never leads: losing the tail of the journal costs comparing, not files.
//! A file that can't be understood is put aside and the base begins empty, which deletes nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use towline_sync_core::base::{Base, BaseDelta};
use towline_sync_core::record::{self, RecordError};

use crate::error::SyncError;

const BASE: &str = "base";
const JOURNAL: &str = "journal";
const LOCK: &str = "lock";
/// Journal bytes after which a new snapshot is written.
const COMPACT_BYTES: u64 = 4 * 1024 * 1024;
/// More steps than this, if they are most of the base, are written as a new snapshot at once.
const MANY: usize = 1024;
/// A journal up to this length goes on in the next session; one that is longer costs more to read than it saves.
const RESUME_BYTES: u64 = 256 * 1024;

/// One folder's base on disk. Holds the folder's lock as long as it lives.
#[derive(Debug)]
pub(crate) struct BaseStore {
    folder: PathBuf,
    journal: File,
    journal_bytes: u64,
    /// Why the base begins anew though there was one.
    put_aside: Option<String>,
    _lock: File,
}

impl BaseStore {
    /// Opens the store in `folder`, creating it with mode 0700, and locks it for this process.
    pub(crate) fn open(folder: &Path, synced: &Path) -> Result<(Self, Base), SyncError> {
        let lock = lock(folder, synced)?;
        let loaded = load(folder).map_err(local("reading the sync base in", folder))?;
        let (base, resumed, put_aside) = match loaded {
            Ok(Loaded { base, resumable }) => (base, resumable, None),
            Err(error) => {
                put_aside(folder).map_err(local("putting aside the sync base in", folder))?;
                (Base::default(), None, Some(error.to_string()))
            }
        };
        let journal = match resumed {
            Some(length) => resume(folder, length),
            None => begin(folder, &base),
        };
        let (journal, journal_bytes) = journal.map_err(local("writing the sync base in", folder))?;
        let folder = folder.to_owned();
        Ok((Self { folder, journal, journal_bytes, put_aside, _lock: lock }, base))
    }

    /// Returns why the base begins anew though there was one, if it does.
    pub(crate) fn put_aside(&self) -> Option<&str> {
        self.put_aside.as_deref()
    }

    /// Adds what both sides now agree on; `base` is what comes of it.
    pub(crate) fn append(&mut self, deltas: &[BaseDelta], base: &Base) -> io::Result<()> {
        let is_most = deltas.len() > MANY && deltas.len() >= base.entries().len() / 2;
        let bytes: Vec<u8> =
            if is_most { Vec::new() } else { deltas.iter().flat_map(record::encode_delta).collect() };
        self.journal_bytes += bytes.len() as u64;
        if is_most || self.journal_bytes > COMPACT_BYTES {
            (self.journal, self.journal_bytes) = begin(&self.folder, base)?;
            return Ok(());
        }
        self.journal.write_all(&bytes)
    }
}

/// Locks the pair for this process, as long as what is returned lives. The folder is created with mode 0700.
pub(crate) fn lock(folder: &Path, synced: &Path) -> Result<File, SyncError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(local("creating", folder))?;
    let path = folder.join(LOCK);
    let mut lock = private(&path).map_err(local("opening", &path))?;
    if lock.try_lock().is_err() {
        return Err(SyncError::Busy { path: synced.to_owned(), pid: written_pid(&path) });
    }
    lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id())).map_err(local("writing", &path))?;
    Ok(lock)
}

fn local(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SyncError {
    let path = path.to_owned();
    move |source| SyncError::State { what, path, source }
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Writes a file that takes the place of the old one whole, and is on the disk before.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<File> {
    let new = path.with_extension("new");
    let mut file = private(&new)?;
    file.set_len(0)?;
    file.write_all(content)?;
    file.sync_data()?;
    fs::rename(&new, path)?;
    Ok(file)
}

/// Writes a snapshot and an empty journal after it. The snapshot replaces the old one whole; a journal that belongs
/// to the old snapshot and survives a crash in between only repeats what the new snapshot has.
fn begin(folder: &Path, base: &Base) -> io::Result<(File, u64)> {
    replace(&folder.join(BASE), &record::encode_base(base))?;
    let journal = private(&folder.join(JOURNAL))?;
    journal.set_len(0)?;
    Ok((journal, 0))
}

/// Goes on with a journal of which `length` bytes are whole records.
fn resume(folder: &Path, length: u64) -> io::Result<(File, u64)> {
    let mut journal = private(&folder.join(JOURNAL))?;
    journal.set_len(length)?;
    journal.seek(SeekFrom::End(0))?;
    Ok((journal, length))
}

/// Reads a base; the inner error says that it is there and can't be understood. Without the lock it may be older than
/// the truth.
pub(crate) fn read(folder: &Path) -> io::Result<Result<Base, RecordError>> {
    Ok(load(folder)?.map(|loaded| loaded.base))
}

/// A base as it was found.
struct Loaded {
    base: Base,
    /// How long its journal is, if it is to go on.
    resumable: Option<u64>,
}

fn load(folder: &Path) -> io::Result<Result<Loaded, RecordError>> {
    let read = |name| match fs::read(folder.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    };
    let snapshot = read(BASE)?;
    Ok(record::read(&snapshot, &read(JOURNAL)?).map(|(base, length)| {
        let length = length as u64;
        let resumable = (!snapshot.is_empty() && length <= RESUME_BYTES).then_some(length);
        Loaded { base, resumable }
    }))
}

/// Returns the process that has the pair, if one does. It is not asked by trying the lock: who begins in that moment
/// would find it taken.
pub(crate) fn holder(folder: &Path) -> Option<u32> {
    let lock = fs::canonicalize(folder.join(LOCK)).ok()?;
    let pid = written_pid(&lock);
    let mut open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    open.any(|fd| fs::read_link(fd.path()).is_ok_and(|file| file == lock)).then_some(pid)
}

fn written_pid(lock: &Path) -> u32 {
    fs::read_to_string(lock).ok().and_then(|pid| pid.trim().parse().ok()).unwrap_or(0)
}

/// Moves what can't be understood out of the way, for whoever wants to look at it.
fn put_aside(folder: &Path) -> io::Result<()> {
    for name in [BASE, JOURNAL] {
        match fs::rename(folder.join(name), folder.join(format!("{name}.unreadable"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
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

    /// A store and its base, as a session has them.
    struct Kept(BaseStore, Base);

    impl Kept {
        fn open(folder: &Path) -> Self {
            let (store, base) = BaseStore::open(folder, folder).unwrap();
            Self(store, base)
        }

        fn append(&mut self, path: &str) {
            self.1.apply(&delta(path));
            self.0.append(&[delta(path)], &self.1).unwrap();
        }
    }

    #[test]
    fn what_was_appended_is_there_after_a_restart() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("a/b");
        let mut kept = Kept::open(&folder);
        kept.append("one");
        kept.append("two");
        let wanted = kept.1.clone();
        drop(kept);
        assert_eq!(Kept::open(&folder).1, wanted);
    }

    #[test]
    fn a_journal_that_grew_long_becomes_a_snapshot() {
        let temp = tempfile::tempdir().unwrap();
        let mut kept = Kept::open(temp.path());
        kept.0.journal_bytes = COMPACT_BYTES;
        kept.append("one");
        assert_eq!(fs::metadata(temp.path().join("journal")).unwrap().len(), 0);
        kept.append("two");
        assert_ne!(fs::metadata(temp.path().join("journal")).unwrap().len(), 0);
        let wanted = kept.1.clone();
        drop(kept);
        assert_eq!(Kept::open(temp.path()).1, wanted);
    }

    #[test]
    fn a_short_journal_goes_on_behind_its_last_whole_record() {
        let temp = tempfile::tempdir().unwrap();
        let mut kept = Kept::open(temp.path());
        kept.append("one");
        drop(kept);
        let journal = temp.path().join("journal");
        let torn = [fs::read(&journal).unwrap(), b"torn".to_vec()].concat();
        fs::write(&journal, torn).unwrap();
        let before = fs::metadata(temp.path().join("base")).unwrap().modified().unwrap();
        let mut kept = Kept::open(temp.path());
        kept.append("two");
        let wanted = kept.1.clone();
        assert_eq!(wanted.entries().len(), 2);
        drop(kept);
        assert_eq!(fs::metadata(temp.path().join("base")).unwrap().modified().unwrap(), before);
        assert_eq!(Kept::open(temp.path()).1, wanted);
    }

    #[test]
    fn a_torn_tail_is_dropped_and_garbage_begins_anew() {
        let temp = tempfile::tempdir().unwrap();
        let mut kept = Kept::open(temp.path());
        kept.append("one");
        let wanted = kept.1.clone();
        kept.append("two");
        drop(kept);
        let journal = temp.path().join("journal");
        let length = fs::metadata(&journal).unwrap().len();
        File::options().write(true).open(&journal).unwrap().set_len(length - 3).unwrap();
        assert_eq!(Kept::open(temp.path()).1, wanted);

        fs::write(temp.path().join("base"), b"not a base").unwrap();
        let anew = Kept::open(temp.path());
        assert_eq!(anew.1, Base::default());
        assert!(anew.0.put_aside().is_some());
        assert_eq!(fs::read(temp.path().join("base.unreadable")).unwrap(), b"not a base");
        assert!(temp.path().join("journal.unreadable").exists());
        drop(anew);
        assert_eq!(Kept::open(temp.path()).0.put_aside(), None);
    }

    #[test]
    fn one_process_at_a_time() {
        let temp = tempfile::tempdir().unwrap();
        let held = Kept::open(temp.path());
        let error = BaseStore::open(temp.path(), Path::new("/src")).unwrap_err();
        assert!(matches!(error, SyncError::Busy { pid, .. } if pid == std::process::id()), "{error}");
        assert_eq!(holder(temp.path()), Some(std::process::id()));
        drop(held);
        assert_eq!(holder(temp.path()), None);
    }
}
