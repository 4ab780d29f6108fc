//! Two versions of a file make a delta that rebuilds the newer; hostile signatures and blocks do no harm.
#![no_main]

use libfuzzer_sys::fuzz_target;
use towline_sync_core::block::sign;
use towline_sync_core::codec::Decoder;
use towline_sync_core::delta::{DeltaCheck, delta};
use towline_sync_core::message::{Block, DeltaOp, Signature};

/// Builds the newer version as a replica does: nothing is taken from a block that the check refuses.
fn rebuild(old: &[u8], size: usize, blocks: &[Block]) -> Option<Vec<u8>> {
    let mut check = DeltaCheck::new(size as u64, old.len() as u64);
    let mut new = Vec::new();
    for block in blocks {
        check.push(block).ok()?;
        for op in &block.ops {
            match op {
                DeltaOp::Literal(bytes) => new.extend_from_slice(bytes),
                DeltaOp::Copy { offset, length } => {
                    let start = usize::try_from(*offset).expect("checked");
                    let length = usize::try_from(*length).expect("checked");
                    new.extend_from_slice(&old[start..start + length]);
                }
            }
        }
        assert!(new.len() <= size, "the check let a file grow past its size");
        assert_eq!(check.written(), new.len() as u64);
    }
    Some(new)
}

fn blocks(signature: &Signature, new: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    delta(signature, new, |block| {
        blocks.push(block);
        Ok(())
    })
    .expect("reading from memory does not fail");
    blocks
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, rest)) = data.split_first_chunk::<2>() else { return };
    let (old, new) = rest.split_at(usize::from(u16::from_le_bytes(*cut)).min(rest.len()));
    // Versions longer than a block share content only if the input repeats; make them so.
    let old = old.repeat(64);
    let new = [new, &old, new].concat();
    let signature = sign(old.as_slice(), old.len() as u64).expect("the size is right");
    assert_eq!(rebuild(&old, new.len(), &blocks(&signature, &new)).as_deref(), Some(new.as_slice()));

    let mut decoder = Decoder::new();
    decoder.push(rest);
    if let Ok(Some(signature)) = decoder.next::<Signature>() {
        let _ = blocks(&signature, &new);
    }
    let mut decoder = Decoder::new();
    decoder.push(rest);
    let mut hostile = Vec::new();
    while let Ok(Some(block)) = decoder.next::<Block>() {
        hostile.push(block);
    }
    let _ = rebuild(&old, new.len(), &hostile);
});
