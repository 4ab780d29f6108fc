//! The sync base as it lies on disk: a snapshot and a journal, cut at the length in the first two bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use towline_sync_core::record::{decode, encode_base};

fuzz_target!(|data: &[u8]| {
    let Some((cut, rest)) = data.split_first_chunk::<2>() else { return };
    let (snapshot, journal) = rest.split_at(usize::from(u16::from_le_bytes(*cut)).min(rest.len()));
    if let Ok(base) = decode(snapshot, journal) {
        let again = decode(&encode_base(&base), &[]).expect("an encoded base decodes");
        assert_eq!(base.entries(), again.entries());
        assert!(base.tombstones().eq(again.tombstones()));
        assert_eq!(base.epoch(), again.epoch());
    }
});
