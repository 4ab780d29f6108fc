//! Only the delta: who has an old version of a file signs it, who has the new one sends the difference, and the first
//! builds the new version from it.
//!
//! ```text
//! cargo run -p towline-sync-core --example delta
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use towline_sync_core::block::{Signature, sign};
use towline_sync_core::delta::{delta, patch};
use towline_sync_core::message::DeltaOp;
use towline_sync_core::snapshot::Hash;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let old: Vec<u8> = (0..1_000_000_u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
    let mut new = old.clone();
    new.splice(500_000..500_004, *b"changed, and longer");

    // The receiver signs what it has. The size and the sums are all that the sender has to be told.
    let signature = sign(old.as_slice(), old.len() as u64)?;
    let received = Signature::new(signature.size(), signature.sums())?;

    // The sender makes blocks: ranges of the old version, and bytes that are not in it.
    let mut blocks = Vec::new();
    delta(&received, new.as_slice(), |block| {
        blocks.push(block);
        Ok(())
    })?;
    let literal = |op: &DeltaOp| match op {
        DeltaOp::Literal(bytes) => bytes.len(),
        DeltaOp::Copy { .. } => 0,
    };
    let sent: usize = blocks.iter().flat_map(|block| &block.ops).map(literal).sum();

    // The receiver builds the new version. Sums can be made to collide: the hash says whether it is the right one.
    let built = patch(&old, new.len() as u64, blocks)?;
    if Hash::of(&built) != Hash::of(&new) {
        return Err("the file must be sent whole".into());
    }
    println!(
        "{} bytes signed with {}, {} bytes of {} sent",
        old.len(),
        signature.sums().len(),
        sent,
        new.len()
    );
    if sent > 10_000 {
        return Err("far more was sent than was changed".into());
    }
    Ok(())
}
