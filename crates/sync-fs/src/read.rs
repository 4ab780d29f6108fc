//! Reads files and tells whether they held still meanwhile.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use towline_sync_core::message::MAX_SMALL_BYTES;
use towline_sync_core::snapshot::{self, Entry, Hash};

use crate::disk::{Stat, is_still, open_file, stat_of};
use crate::known::{Seen, now};

/// The most read at once, in bytes.
pub(crate) const BUFFER_BYTES: usize = 128 * 1024;
/// How often a file that changes while it is read is read again.
const ATTEMPTS: usize = 3;

/// Reads and hashes the file `name` in `folder`.
///
/// A file that never holds still is returned as it was read last and marked racy: whoever writes it causes another
/// event, and it is read again.
pub(crate) fn hash_file(folder: BorrowedFd<'_>, name: &str) -> io::Result<Seen> {
    read_file(folder, name, false).map(|(seen, _)| seen)
}

/// Reads and hashes the file `name` in `folder`; with `keep`, a small file's content is returned.
pub(crate) fn read_file(
    folder: BorrowedFd<'_>,
    name: &str,
    keep: bool,
) -> io::Result<(Seen, Option<Vec<u8>>)> {
    let mut attempt = 1;
    loop {
        let taken = now();
        let (mut file, before) = open_file(folder, name)?;
        let (hash, size, content) = if before.size <= MAX_SMALL_BYTES {
            let content = read_small(&mut file, before.size)?;
            (Hash::of(&content), content.len() as u64, Some(content))
        } else {
            let (hash, size) = hash_reader(&mut file, before.size)?;
            (hash, size, None)
        };
        let still = size == before.size && is_still(file.as_fd(), &before)?;
        let after = if still { before } else { stat_of(file.as_fd())? };
        if still || attempt == ATTEMPTS {
            let mut seen = Seen::new(file_entry(hash, size, &after), after, taken);
            seen.racy |= !still;
            return Ok((seen, content.filter(|_| keep && still)));
        }
        attempt += 1;
    }
}

/// Returns the entry of a file with this content.
pub(crate) fn file_entry(hash: Hash, size: u64, stat: &Stat) -> Entry {
    Entry::File(snapshot::File { hash, size, executable: stat.is_executable() })
}

/// Hashes everything that `file` has, and counts it.
pub(crate) fn hash_reader(file: &mut File, size: u64) -> io::Result<(Hash, u64)> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = buffer_for(size);
    let mut length = 0;
    loop {
        let count = read_some(file, &mut buffer)?;
        if count == 0 {
            return Ok((Hash(*hasher.finalize().as_bytes()), length));
        }
        hasher.update(&buffer[..count]);
        length += count as u64;
    }
}

/// Reads all of a small file that had `size` bytes; more than that says that it has grown.
pub(crate) fn read_small(file: &mut File, size: u64) -> io::Result<Vec<u8>> {
    let room = usize::try_from(size).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))? + 1;
    let mut content = vec![0; room];
    let mut length = 0;
    while length < room {
        let count = read_some(file, &mut content[length..])?;
        length += count;
        // A regular file gives less than was asked for only at its end.
        if count == 0 || length + 1 == room {
            break;
        }
    }
    content.truncate(length);
    Ok(content)
}

/// Returns a buffer that a file of `size` bytes needs.
pub(crate) fn buffer_for(size: u64) -> Vec<u8> {
    vec![
        0;
        usize::try_from(size).map_or(BUFFER_BYTES, |size| size.saturating_add(1).clamp(512, BUFFER_BYTES))
    ]
}

/// Reads what is there, at most a buffer; 0 at the end.
pub(crate) fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
