//! The base on disk: a snapshot and a journal, both rows of checked records.
//!
//! A record is a head of 17 bytes and a body: version (1), body length (4, little endian), the first 8 bytes of the
//! body's BLAKE3, the first 4 bytes of the BLAKE3 of all before. A snapshot ends with a record that counts the others.
//! In a snapshot many entries share a record, in the order of their paths, each path without what it has in common with
//! the one before. A journal may end in the middle of a record (the machine went down while it was written): what is there of it is
//! dropped. Anything else that is wrong makes the whole unreadable, and an empty base deletes nothing.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::base::{Base, BaseDelta};
use crate::path::{MAX_PATH_BYTES, RelPath};
use crate::snapshot::Entry;

/// The version of this format.
pub const VERSION: u8 = 2;

const HEAD_BYTES: usize = 17;
/// A record of a snapshot gets no more rows when it is this long.
const FULL_BYTES: usize = 64 * 1024;
/// A row more, and what is around them: a path and a link's target.
const MAX_BODY_BYTES: usize = FULL_BYTES + 4 * MAX_PATH_BYTES;

/// Why a base can't be read. The caller begins with an empty one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Another version wrote it.
    #[error("record at byte {at} of the {part} has version {found}, this program knows {VERSION}")]
    Version {
        /// Snapshot or journal.
        part: &'static str,
        /// Where.
        at: usize,
        /// Which version.
        found: u8,
    },
    /// Its bytes are not those that were written.
    #[error("record at byte {at} of the {part} is damaged")]
    Damaged {
        /// Snapshot or journal.
        part: &'static str,
        /// Where.
        at: usize,
    },
    /// The snapshot ends too early.
    #[error("the snapshot is not complete")]
    Incomplete,
}

/// What a record says.
#[derive(Serialize, Deserialize)]
enum Record<'a> {
    Set(Cow<'a, RelPath>, Option<Cow<'a, Entry>>),
    Tombstone(Cow<'a, RelPath>),
    Forget,
    Epoch([u8; 16]),
    /// The last of a snapshot, with the number of those before.
    End(u64),
    /// Several entries of a snapshot.
    #[serde(borrow)]
    Rows(Vec<Row<'a>>),
}

/// What stands at a path.
#[derive(Serialize, Deserialize)]
struct Row<'a> {
    /// How many bytes of the path are those of the row before.
    shared: u16,
    /// The path's other bytes.
    rest: &'a str,
    entry: Cow<'a, Entry>,
}

/// Returns the bytes of a snapshot.
pub fn encode_base(base: &Base) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut count = 0;
    let mut add = |record: &Record<'_>| {
        append(&mut bytes, record);
        count += 1;
    };
    if let Some(epoch) = base.epoch() {
        add(&Record::Epoch(epoch));
    }
    let (mut rows, mut size, mut last) = (Vec::new(), 0, "");
    for (path, entry) in base.entries() {
        let path = path.as_str();
        let shared = path.bytes().zip(last.bytes()).take_while(|(one, other)| one == other).count();
        let shared = u16::try_from(path.floor_char_boundary(shared)).unwrap_or(0);
        let rest = &path[usize::from(shared)..];
        size += rest.len() + if let Entry::Symlink { target } = entry { target.len() + 10 } else { 50 };
        rows.push(Row { shared, rest, entry: Cow::Borrowed(entry) });
        last = path;
        if size >= FULL_BYTES {
            add(&Record::Rows(std::mem::take(&mut rows)));
            (size, last) = (0, "");
        }
    }
    if !rows.is_empty() {
        add(&Record::Rows(rows));
    }
    for path in base.tombstones() {
        add(&Record::Tombstone(Cow::Borrowed(path)));
    }
    append(&mut bytes, &Record::End(count));
    bytes
}

/// Returns the bytes to append to a journal.
pub fn encode_delta(delta: &BaseDelta) -> Vec<u8> {
    let record = match delta {
        BaseDelta::Set { path, entry } => Record::Set(Cow::Borrowed(path), entry.as_ref().map(Cow::Borrowed)),
        BaseDelta::Tombstone { path } => Record::Tombstone(Cow::Borrowed(path)),
        BaseDelta::Forget => Record::Forget,
        BaseDelta::Epoch(epoch) => Record::Epoch(*epoch),
    };
    let mut bytes = Vec::new();
    append(&mut bytes, &record);
    bytes
}

/// Returns the base that a snapshot and the journal after it hold; both empty make an empty base.
pub fn decode(snapshot: &[u8], journal: &[u8]) -> Result<Base, RecordError> {
    read(snapshot, journal).map(|(base, _)| base)
}

/// Returns the base that a snapshot and the journal after it hold, and how many bytes of the journal are whole records:
/// more can be appended after them.
pub fn read(snapshot: &[u8], journal: &[u8]) -> Result<(Base, usize), RecordError> {
    let mut records = Records { part: "snapshot", bytes: snapshot, at: 0 };
    let mut base = if snapshot.is_empty() { Base::default() } else { read_snapshot(&mut records)? };
    let mut records = Records { part: "journal", bytes: journal, at: 0 };
    while let Some(record) = records.next()? {
        base.apply(&delta(record).ok_or_else(|| records.damaged())?);
    }
    Ok((base, records.at))
}

fn read_snapshot(records: &mut Records<'_>) -> Result<Base, RecordError> {
    let (mut epoch, mut entries, mut tombstones, mut count) = (None, Vec::new(), Vec::new(), 0);
    loop {
        match records.next()?.ok_or(RecordError::Incomplete)? {
            Record::Epoch(found) => epoch = Some(found),
            Record::Rows(rows) => {
                read_rows(rows, &mut entries).ok_or_else(|| records.damaged())?;
            }
            Record::Tombstone(path) => tombstones.push(path.into_owned()),
            Record::End(end) if end == count && records.at == records.bytes.len() => {
                return Ok(Base::from_parts(epoch, entries, &tombstones));
            }
            Record::Set(..) | Record::Forget | Record::End(_) => return Err(records.damaged()),
        }
        count += 1;
    }
}

fn read_rows(rows: Vec<Row<'_>>, entries: &mut Vec<(RelPath, Entry)>) -> Option<()> {
    entries.reserve(rows.len());
    let mut path = String::new();
    for Row { shared, rest, entry } in rows {
        path.truncate(path.get(..shared.into())?.len());
        path.push_str(rest);
        entries.push((RelPath::new(path.as_str()).ok()?, entry.into_owned()));
    }
    Some(())
}

/// Returns what to apply; a snapshot's own records are nothing for a journal.
fn delta(record: Record<'_>) -> Option<BaseDelta> {
    Some(match record {
        Record::Set(path, entry) => {
            BaseDelta::Set { path: path.into_owned(), entry: entry.map(Cow::into_owned) }
        }
        Record::Tombstone(path) => BaseDelta::Tombstone { path: path.into_owned() },
        Record::Forget => BaseDelta::Forget,
        Record::Epoch(epoch) => BaseDelta::Epoch(epoch),
        Record::End(_) | Record::Rows(_) => return None,
    })
}

fn append(bytes: &mut Vec<u8>, record: &Record<'_>) {
    // Only sequences of unknown length fail to serialise, and a record has none.
    let body = postcard::to_allocvec(record).expect("a record has no unknown length");
    let start = bytes.len();
    bytes.push(VERSION);
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&blake3::hash(&body).as_bytes()[..8]);
    let head = blake3::hash(&bytes[start..]);
    bytes.extend_from_slice(&head.as_bytes()[..4]);
    bytes.extend_from_slice(&body);
}

/// Walks a row of records.
struct Records<'a> {
    part: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    /// Returns the next record, or `None` where the bytes end, be it inside a record.
    fn next(&mut self) -> Result<Option<Record<'a>>, RecordError> {
        let rest = &self.bytes[self.at..];
        let Some((head, rest)) = rest.split_at_checked(HEAD_BYTES) else { return Ok(None) };
        if blake3::hash(&head[..13]).as_bytes()[..4] != head[13..] {
            return Err(self.damaged());
        }
        if head[0] != VERSION {
            return Err(RecordError::Version { part: self.part, at: self.at, found: head[0] });
        }
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > MAX_BODY_BYTES {
            return Err(self.damaged());
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        if blake3::hash(body).as_bytes()[..8] != head[5..13] {
            return Err(self.damaged());
        }
        let Ok((record, [])) = postcard::take_from_bytes(body) else { return Err(self.damaged()) };
        self.at += HEAD_BYTES + length;
        Ok(Some(record))
    }

    fn damaged(&self) -> RecordError {
        RecordError::Damaged { part: self.part, at: self.at }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::{File, Hash};

    fn deltas() -> impl Strategy<Value = Vec<BaseDelta>> {
        let path = || "[a-c]{1,2}(/[a-c]{1,2}){0,2}".prop_map(|path| RelPath::new(path).unwrap());
        let entry = prop_oneof![
            Just(Entry::Directory),
            "[a-z]{1,8}".prop_map(|target| Entry::Symlink { target }),
            (any::<[u8; 32]>(), any::<u64>(), any::<bool>()).prop_map(
                |(hash, size, executable)| Entry::File(File { hash: Hash(hash), size, executable })
            ),
        ];
        let delta = prop_oneof![
            8 => (path(), proptest::option::of(entry)).prop_map(|(path, entry)| BaseDelta::Set { path, entry }),
            3 => path().prop_map(|path| BaseDelta::Tombstone { path }),
            1 => Just(BaseDelta::Forget),
            1 => any::<[u8; 16]>().prop_map(BaseDelta::Epoch),
        ];
        proptest::collection::vec(delta, 0..40)
    }

    fn replay(deltas: &[BaseDelta]) -> Base {
        let mut base = Base::default();
        for delta in deltas {
            base.apply(delta);
        }
        base
    }

    fn journal(deltas: &[BaseDelta]) -> Vec<u8> {
        deltas.iter().flat_map(encode_delta).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(first in deltas(), second in deltas()) {
            let base = replay(&first);
            let snapshot = encode_base(&base);
            prop_assert_eq!(&decode(&snapshot, &[]).unwrap(), &base);
            let all = [first, second.clone()].concat();
            prop_assert_eq!(decode(&snapshot, &journal(&second)).unwrap(), replay(&all));
        }

        #[test]
        fn a_torn_journal_is_a_shorter_one(deltas in deltas(), cut in any::<prop::sample::Index>()) {
            let whole = journal(&deltas);
            let cut = cut.index(whole.len() + 1);
            let base = decode(&[], &whole[..cut]).unwrap();
            prop_assert!((0..=deltas.len()).any(|n| journal(&deltas[..n]).len() <= cut && replay(&deltas[..n]) == base));
        }

        #[test]
        fn a_flipped_bit_is_never_believed(deltas in deltas(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let base = replay(&deltas);
            for mut bytes in [encode_base(&base), journal(&deltas)] {
                if bytes.is_empty() {
                    continue;
                }
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
                prop_assert!(decode(&bytes, &[]).is_err());
                prop_assert!(decode(&[], &bytes).is_err());
            }
        }

        #[test]
        fn garbage_never_panics(snapshot: Vec<u8>, journal: Vec<u8>) {
            let _ = decode(&snapshot, &journal);
        }
    }

    #[test]
    fn a_cut_snapshot_is_an_error() {
        let base =
            replay(&[BaseDelta::Epoch([1; 16]), BaseDelta::Tombstone { path: RelPath::new("a").unwrap() }]);
        let bytes = encode_base(&base);
        for cut in 1..bytes.len() {
            assert!(decode(&bytes[..cut], &[]).is_err(), "{cut}");
        }
        assert!(decode(&[&bytes[..], &bytes[..]].concat(), &[]).is_err());
        assert_eq!(decode(&[], &[]), Ok(Base::default()));
    }

    #[test]
    fn golden_bytes() {
        let file = File { hash: Hash([7; 32]), size: 300, executable: true };
        let delta = BaseDelta::Set { path: RelPath::new("a/b").unwrap(), entry: Some(Entry::File(file)) };
        let bytes = encode_delta(&delta);
        let body = [&[0, 3][..], b"a/b", &[1, 1], &[7; 32], &[0xac, 2, 1]].concat();
        assert_eq!(bytes[..5], [2, 42, 0, 0, 0]);
        assert_eq!(bytes[17..], body);
        assert_eq!(encode_delta(&BaseDelta::Forget)[17..], [2]);
        assert_eq!(encode_base(&Base::default())[17..], [4, 0]);
        let mut base = Base::default();
        base.apply(&BaseDelta::Set { path: RelPath::new("a").unwrap(), entry: Some(Entry::Directory) });
        base.apply(&delta);
        let rows = [&[5, 2, 0, 1, b'a', 0, 1, 2][..], b"/b", &[1], &[7; 32], &[0xac, 2, 1]].concat();
        assert_eq!(encode_base(&base)[17..17 + rows.len()], rows);
    }
}
