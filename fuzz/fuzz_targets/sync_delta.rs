//! Two versions of a file make a delta that rebuilds the newer, in any pieces; hostile signatures and blocks do no harm.
#![no_main]

use libfuzzer_sys::fuzz_target;
use towline_sync_core::block::{Signature, SignatureBuilder, sign};
use towline_sync_core::codec::Decoder;
use towline_sync_core::delta::{BlockWriter, DeltaCheck, Differ, delta, patch};
use towline_sync_core::message::{Block, DeltaOp};

fn blocks(signature: &Signature, new: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    delta(signature, new, |block| {
        blocks.push(block);
        Ok(())
    })
    .expect("reading from memory does not fail");
    blocks
}

/// The same, from content that comes in pieces.
fn blocks_of_pieces(signature: &Signature, new: &[u8], length: usize) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut writer = BlockWriter::new(|block| {
        blocks.push(block);
        Ok(())
    });
    let mut differ = Differ::new(signature);
    for piece in new.chunks(length) {
        differ.push(piece, &mut |step| writer.step(step)).expect("nothing fails");
    }
    differ.finish(&mut |step| writer.step(step)).expect("nothing fails");
    writer.finish().expect("nothing fails");
    blocks
}

/// Returns the steps with neighbouring literals as one.
fn steps(blocks: Vec<Block>) -> Vec<DeltaOp> {
    let mut steps: Vec<DeltaOp> = Vec::new();
    for op in blocks.into_iter().flat_map(|block| block.ops) {
        match (steps.last_mut(), op) {
            (Some(DeltaOp::Literal(before)), DeltaOp::Literal(bytes)) => before.extend(bytes),
            (_, op) => steps.push(op),
        }
    }
    steps
}

fuzz_target!(|data: &[u8]| {
    let Some(([low, high, repeats], rest)) = data.split_first_chunk::<3>() else { return };
    let (old, new) = rest.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(rest.len()));
    // Versions longer than a block share content only if the input repeats; make them so. Above 256 KiB there are
    // blocks that are no anchors.
    let old = old.repeat(usize::from(*repeats) * 8 + 1);
    let new = [new, &old, new, &old[old.len() / 3..]].concat();
    let size = new.len() as u64;
    let length = usize::from(*low) * 97 + 1;

    let signature = sign(old.as_slice(), old.len() as u64).expect("the size is right");
    let mut builder = SignatureBuilder::new(old.len() as u64);
    old.chunks(length).for_each(|piece| builder.push(piece));
    assert_eq!(builder.finish().as_ref(), Ok(&signature));
    let whole = blocks(&signature, &new);
    assert_eq!(steps(blocks_of_pieces(&signature, &new, length)), steps(whole.clone()));
    assert_eq!(patch(&old, size, whole).as_deref(), Ok(new.as_slice()));

    // A signature from a peer: refused, or what it stands for is copied from within its file.
    let mut decoder = Decoder::new();
    decoder.push(rest);
    if let Ok(Some(signature)) = decoder.next::<Signature>() {
        assert_eq!(Signature::new(signature.size(), signature.sums()).as_ref(), Ok(&signature));
    }
    // The right length, made of what came.
    let sums: Vec<u8> = rest.iter().copied().cycle().take(signature.sums().len()).collect();
    if let Ok(hostile) = Signature::new(old.len() as u64, &sums) {
        let mut check = DeltaCheck::new(size, hostile.size());
        for block in blocks_of_pieces(&hostile, &new, length) {
            check.push(&block).expect("within the older version and the newer's length");
        }
        assert_eq!(check.written(), size);
    }
    // Blocks from a peer.
    let mut decoder = Decoder::new();
    decoder.push(rest);
    let hostile = std::iter::from_fn(|| decoder.next::<Block>().ok().flatten());
    if let Ok(built) = patch(&old, size, hostile) {
        assert_eq!(built.len() as u64, size);
    }
});
