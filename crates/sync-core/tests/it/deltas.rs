//! Deltas of all kinds of edits: that they rebuild the newer version, and what they cost.

use std::collections::HashSet;

use proptest::prelude::*;
use proptest::sample::Index;
use towline_sync_core::block::{Signature, SignatureBuilder, sign};
use towline_sync_core::delta::{Differ, MAX_BLOCK_OPS, Step, delta, patch};
use towline_sync_core::message::{Block, DeltaOp, MAX_BLOCK_BYTES};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Returns bytes that look random and are the same every time.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn signature(old: &[u8]) -> Signature {
    sign(old, old.len() as u64).unwrap()
}

/// What a step does; literals that follow each other are one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Made {
    Copy { offset: u64, length: u64 },
    Literal { offset: u64, length: u64 },
}

/// Returns the steps for content that comes in pieces of these lengths.
fn steps(old: &Signature, new: &[u8], pieces: &[usize]) -> Vec<Made> {
    let mut made: Vec<Made> = Vec::new();
    let mut emit = |step: Step<'_>| {
        match step {
            Step::Copy { offset, length } => made.push(Made::Copy { offset, length }),
            Step::Literal { offset, bytes } => {
                let at = usize::try_from(offset).unwrap();
                assert!(!bytes.is_empty() && *bytes == new[at..at + bytes.len()]);
                match made.last_mut() {
                    Some(Made::Literal { length, .. }) => *length += bytes.len() as u64,
                    _ => made.push(Made::Literal { offset, length: bytes.len() as u64 }),
                }
            }
        }
        Ok(())
    };
    let mut differ = Differ::new(old);
    let mut rest = new;
    for piece in pieces.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at(rest.len().min(*piece));
        differ.push(now, &mut emit).unwrap();
        rest = later;
    }
    differ.finish(&mut emit).unwrap();
    made
}

/// What a delta costs.
#[derive(Debug)]
struct Cost {
    /// Bytes of literals.
    literal: usize,
    /// How many places they are in: literals that follow each other are one.
    places: usize,
    /// All of it, encoded, in bytes.
    wire: usize,
}

/// Makes a delta and builds the newer version with it.
#[track_caller]
fn check(old: &[u8], new: &[u8]) -> Cost {
    let mut blocks = Vec::new();
    delta(&signature(old), new, |block| {
        blocks.push(block);
        Ok(())
    })
    .unwrap();
    let is_literal = |op: &DeltaOp| matches!(op, DeltaOp::Literal(_));
    let kinds: Vec<bool> = blocks.iter().flat_map(|block| &block.ops).map(is_literal).collect();
    let literal = |op: &DeltaOp| if let DeltaOp::Literal(bytes) = op { bytes.len() } else { 0 };
    let literals = |block: &Block| -> usize { block.ops.iter().map(literal).sum() };
    let cost = Cost {
        literal: blocks.iter().map(literals).sum(),
        places: kinds.chunk_by(PartialEq::eq).filter(|run| run[0]).count(),
        wire: blocks.iter().map(|block| postcard::to_stdvec(block).unwrap().len()).sum(),
    };
    assert!(
        blocks.iter().all(|block| literals(block) <= MAX_BLOCK_BYTES && block.ops.len() <= MAX_BLOCK_OPS)
    );
    assert!(blocks.iter().rev().skip(1).all(|block| !block.last) && blocks.last().unwrap().last);
    let built = patch(old, new.len() as u64, blocks).unwrap();
    assert!(built == new, "{} → {} bytes", old.len(), new.len());
    cost
}

#[track_caller]
fn check_wire(old: &[u8], new: &[u8], most: usize) {
    let cost = check(old, new);
    assert!(cost.wire <= most, "{} → {} bytes: {cost:?}, more than {most}", old.len(), new.len());
}

/// Bytes of a block of a file of this size, as the documentation of `block` has it.
fn block_of(size: usize) -> usize {
    match size / KIB {
        ..64 => 128,
        64..256 => 512,
        256..2048 => KIB,
        2048..16_384 => 2 * KIB,
        _ => 4 * KIB,
    }
}

#[test]
fn an_edit_costs_a_block() {
    for size in [4 * KIB, 60 * KIB + 77, 200 * KIB, MIB + 5, 5 * MIB, 24 * MIB + 1234] {
        let (old, block) = (noise(size as u64, size), block_of(size));
        let ops = 32;
        check_wire(&old, &old, 12);
        check_wire(&old, &[b"x", &old[..]].concat(), 16);
        check_wire(&old, &[&old[..], b"appended"].concat(), 24);
        check_wire(&old, &old[1..], block + ops);
        check_wire(&old, &old[..size / 3], block + ops);
        check_wire(&old, &old[size / 3..], block + ops);
        for at in [1, size / 2 + 3, size - 2] {
            check_wire(&old, &[&old[..at], &noise(1, 30), &old[at..]].concat(), block + 30 + ops);
            check_wire(&old, &[&old[..at], &old[at + 1..]].concat(), block + ops);
            let mut overwritten = old.clone();
            overwritten[at] ^= 1;
            check_wire(&old, &overwritten, block + ops);
        }
    }
}

#[test]
fn only_what_differs_travels() {
    let old = noise(1, 20 * MIB);
    let block = block_of(20 * MIB);
    // Ten pages of a database, here and there.
    let mut pages = old.clone();
    for page in 0..10 {
        pages[page * 1_500_000..][..8 * KIB].copy_from_slice(&noise(page as u64, 8 * KIB));
    }
    check_wire(&old, &pages, 10 * (8 * KIB + block + 16));
    // A part that is longer than what is looked ahead, replaced by one of another length.
    let replaced = [&old[..MIB], &noise(2, 300_000), &old[3 * MIB..]].concat();
    check_wire(&old, &replaced, 300_000 + 2 * block + 32);
    // A part that moved: what lies around anchors is found, all of it but the ends.
    let moved = [&old[7 * MIB + 5..9 * MIB], &old[..7 * MIB + 5], &old[9 * MIB..]].concat();
    check_wire(&old, &moved, 4 * block + 64);
    assert_eq!(check(&old, &noise(3, 3 * MIB)).literal, 3 * MIB);
    assert_eq!(check(&old, b"").literal, 0);
    assert_eq!(check(b"", &old[..MIB]).literal, MIB);
    assert_eq!(check(b"short", &old[..MIB]).literal, MIB);
    assert!(check(&vec![0; 2_000_000], &vec![0; 3_000_000]).literal < 1024);
    assert!(check(&vec![0; 20 * MIB], &vec![0; 30 * MIB]).wire < 5000);
}

#[test]
fn overwrites_in_place_need_no_anchor() {
    // A byte in every anchor: there is none left to be found, and the blocks between are where they were.
    let size = 5 * MIB;
    let (old, block, stride) = (noise(7, size), block_of(size), 8);
    let mut new = old.clone();
    new.iter_mut().step_by(block * stride).for_each(|byte| *byte ^= 1);
    let anchors = size.div_ceil(block * stride);
    assert_eq!(check(&old, &new).literal, anchors * block);
    let old = signature(&old);
    assert_eq!(steps(&old, &new, &[1000]), steps(&old, &new, &[size]));
}

#[test]
fn an_edit_among_likenesses() {
    // Rows that are alike, again and again, and nowhere for long.
    let old: Vec<u8> = (0..600_000u32).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    for at in [1000, 300_000] {
        let new = [&old[..at], b"something else", &old[at + 10..]].concat();
        check_wire(&old, &new, 2 * KIB);
    }
}

#[test]
fn many_edits_of_a_small_text() {
    let old: Vec<u8> =
        (0..1500).flat_map(|line| format!("    let value_{line} = {};\n", line * 31).into_bytes()).collect();
    let mut new = old.clone();
    for at in (500..old.len()).step_by(4000) {
        new.splice(at..at + 7, *b"something longer");
    }
    let edits = old.len() / 4000 + 1;
    check_wire(&old, &new, edits * (2 * 256 + 32));
}

#[test]
fn a_signature_that_hits_everywhere_costs_no_more() {
    // Each anchor has another rolling sum, and no strong sum is right: the same for each place in the filter.
    let size = 200 << 20;
    let mut sums = signature(&vec![0; size]).sums().to_vec();
    for (number, group) in (0u32..).zip(sums.chunks_mut(4 + 16 * 3)) {
        group[..4].copy_from_slice(&number.to_le_bytes());
    }
    let hostile = Signature::new(size as u64, &sums).unwrap();
    let new = noise(4, 2 * MIB);
    let length = new.len() as u64;
    assert_eq!(steps(&hostile, &new, &[100_000]), [Made::Literal { offset: 0, length }]);
}

/// Bytes of the older version, and the newer version made of them by edits of all kinds.
fn versions() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let bytes = prop_oneof![
        prop::collection::vec(0u8..3, 0..9000),
        (any::<u64>(), 0usize..40_000).prop_map(|(seed, length)| noise(seed, length)),
        (any::<u64>(), 300_000usize..600_000).prop_map(|(seed, length)| noise(seed, length)),
        (any::<u8>(), 0usize..5000).prop_map(|(byte, length)| vec![byte; length]),
    ];
    let edit = (0..5, any::<[Index; 3]>(), 0usize..3000, prop::collection::vec(0u8..3, 0..300));
    (bytes, prop::collection::vec(edit, 0..5)).prop_map(|(old, edits)| {
        let mut new = old.clone();
        for (kind, at, length, insert) in edits {
            let [at, other, _] = at.map(|at| at.index(new.len() + 1));
            let end = (at + length).min(new.len());
            match kind {
                0 => drop(new.splice(at..end, insert)),
                1 => drop(new.splice(at..at, insert)),
                2 => drop(new.drain(at..end)),
                3 => new[at..end].reverse(),
                _ => {
                    let moved: Vec<u8> = new.drain(at..end).collect();
                    let other = other.min(new.len());
                    new.splice(other..other, moved);
                }
            }
        }
        (old, new)
    })
}

/// Looks for every anchor at every offset, and for nothing else.
fn naive_literals(old: &[u8], new: &[u8]) -> usize {
    let block = block_of(old.len());
    let stride = if old.len() < 64 * KIB { 2 } else { 1 };
    let known: HashSet<&[u8]> = old.chunks_exact(block).step_by(stride).collect();
    let (mut at, mut literal) = (0, 0);
    while at < new.len() {
        if new.get(at..at + block).is_some_and(|window| known.contains(window)) {
            at += block;
        } else {
            (at, literal) = (at + 1, literal + 1);
        }
    }
    literal
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_delta_rebuilds_the_newer_version((old, new) in versions()) {
        let cost = check(&old, &new);
        // Where anchors are near each other, following is not worse than looking everywhere. Only where content
        // repeats, something is found sooner than the block that follows: at most a block in each place.
        if old.len() < 256 * KIB {
            let (naive, block) = (naive_literals(&old, &new), block_of(old.len()));
            let blocks: HashSet<&[u8]> = old.chunks_exact(block).collect();
            let places = if blocks.len() < old.len() / block { cost.places } else { 1 };
            prop_assert!(cost.literal <= naive + block * places, "{cost:?}, {naive} naive");
        }
    }

    #[test]
    fn the_steps_are_the_same_for_any_pieces(
        (old, new) in versions(),
        pieces in prop::collection::vec(prop_oneof![1usize..40, 1usize..5000, 1usize..300_000], 1..20),
    ) {
        let old = signature(&old);
        prop_assert_eq!(steps(&old, &new, &pieces), steps(&old, &new, &[usize::MAX]));
    }

    #[test]
    fn any_sums_do_no_harm(
        size in prop_oneof![0u64..5000, 0u64..400_000, 1 << 21..1u64 << 22, any::<u64>()],
        seed: u64,
        new in prop::collection::vec(0u8..2, 0..20_000),
    ) {
        let refused = Signature::new(size, &[1; 7]).is_err();
        prop_assert!(refused || size > 0);
        if size < 1 << 23 {
            // As many as it says it wants.
            let wanted = (0..60_000).find(|length| Signature::new(size, &vec![0; *length]).is_ok());
            let sums = noise(seed, wanted.unwrap());
            let made = steps(&Signature::new(size, &sums).unwrap(), &new, &[999]);
            let length = |made: &Made| match made {
                Made::Copy { offset, length } => {
                    assert!(offset + length <= size && *length > 0);
                    *length
                }
                Made::Literal { length, .. } => *length,
            };
            prop_assert_eq!(made.iter().map(length).sum::<u64>(), new.len() as u64);
        }
    }
}

#[test]
fn one_pass_gives_the_newer_signature_too() {
    let (old, new) = (noise(5, 700_000), noise(6, 900_001));
    let mut differ = Differ::new(&signature(&old));
    let mut newer = SignatureBuilder::new(new.len() as u64);
    let mut hasher = blake3::Hasher::new();
    for piece in new.chunks(60_000) {
        let space = differ.space(piece.len() + 5);
        space[..piece.len()].copy_from_slice(piece);
        hasher.update(&space[..piece.len()]);
        newer.push(&space[..piece.len()]);
        differ.filled(piece.len(), &mut |_| Ok(())).unwrap();
    }
    assert_eq!(newer.finish().unwrap(), signature(&new));
    assert_eq!(hasher.finalize(), blake3::hash(&new));
}
