//! The sync base as it lies on disk: any bytes, and a sound journal that is cut off or flipped somewhere.
#![no_main]

use libfuzzer_sys::fuzz_target;
use towline_sync_core::base::{Base, BaseDelta};
use towline_sync_core::path::RelPath;
use towline_sync_core::record::{decode, encode_base, encode_delta};
use towline_sync_core::snapshot::{Entry, File, Hash};

/// Makes a step of a piece of the input: its first byte says which, the rest is the path.
fn step(piece: &[u8]) -> Option<BaseDelta> {
    let (&which, name) = piece.split_first()?;
    let path = || RelPath::new(String::from_utf8_lossy(name)).ok();
    let set = |entry| path().map(|path| BaseDelta::Set { path, entry });
    match which % 6 {
        0 => set(Some(Entry::Directory)),
        1 => set(Some(Entry::File(File { hash: Hash::of(name), size: 1, executable: which > 99 }))),
        2 => set(None),
        3 => path().map(|path| BaseDelta::Tombstone { path }),
        4 => Some(BaseDelta::Forget),
        _ => Some(BaseDelta::Epoch([which; 16])),
    }
}

fn assert_alike(one: &Base, other: &Base) {
    assert_eq!(one.entries(), other.entries());
    assert!(one.tombstones().eq(other.tombstones()));
    assert_eq!((one.epoch(), one.files()), (other.epoch(), other.files()));
}

fuzz_target!(|data: &[u8]| {
    let Some((place, rest)) = data.split_first_chunk::<2>() else { return };
    let place = usize::from(u16::from_le_bytes(*place));

    let (snapshot, journal) = rest.split_at(place.min(rest.len()));
    if let Ok(base) = decode(snapshot, journal) {
        assert_alike(&decode(&encode_base(&base), &[]).expect("an encoded base decodes"), &base);
    }

    let steps: Vec<BaseDelta> = rest.split(|byte| *byte == 0).filter_map(step).collect();
    let mut base = Base::default();
    steps.iter().for_each(|step| base.apply(step));
    let mut journal: Vec<u8> = steps.iter().flat_map(encode_delta).collect();
    assert_alike(&decode(&[], &journal).expect("a sound journal decodes"), &base);
    assert_alike(&decode(&encode_base(&base), &[]).expect("an encoded base decodes"), &base);

    // What is damaged is refused or read up to the damage, and never makes more of it.
    let at = place % journal.len().max(1);
    if let Some(byte) = journal.get_mut(at) {
        *byte ^= 1 << (place % 8);
    }
    let _ = decode(&[], &journal);
    let _ = decode(&[], &journal[..at]);
});
