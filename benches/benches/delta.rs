//! How fast signatures and deltas are, beside the hash that every file is read with anyway.

use benches::Random;
use divan::Bencher;
use divan::counter::BytesCount;
use towline_sync_core::block::{SignatureBuilder, sign};
use towline_sync_core::delta::{Differ, Step};

const FILE_BYTES: usize = 64 << 20;
const PIECE_BYTES: usize = 256 << 10;
const SMALL_FILES: usize = 4096;
const SMALL_BYTES: usize = 4096;

fn main() {
    divan::main();
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    Random::new(seed).bytes(length)
}

#[divan::bench(sample_count = 10)]
fn hash(bencher: Bencher<'_, '_>) {
    let bytes = noise(1, FILE_BYTES);
    bencher.counter(BytesCount::new(FILE_BYTES)).bench(|| {
        let mut hasher = blake3::Hasher::new();
        for piece in bytes.chunks(PIECE_BYTES) {
            hasher.update(piece);
        }
        hasher.finalize()
    });
}

#[divan::bench(sample_count = 10)]
fn signature(bencher: Bencher<'_, '_>) {
    let bytes = noise(1, FILE_BYTES);
    bencher.counter(BytesCount::new(FILE_BYTES)).bench(|| {
        let mut builder = SignatureBuilder::new(FILE_BYTES as u64);
        bytes.chunks(PIECE_BYTES).for_each(|piece| builder.push(piece));
        builder.finish()
    });
}

#[divan::bench(sample_count = 10)]
fn signatures_of_small_files(bencher: Bencher<'_, '_>) {
    let bytes = noise(1, SMALL_FILES * SMALL_BYTES);
    bencher.counter(BytesCount::new(SMALL_FILES * SMALL_BYTES)).bench(|| {
        let sign = |file: &[u8]| {
            let mut builder = SignatureBuilder::new(SMALL_BYTES as u64);
            builder.push(file);
            builder.finish().map_or(0, |signature| signature.sums().len())
        };
        bytes.chunks(SMALL_BYTES).map(sign).sum::<usize>()
    });
}

/// Compares as a reader of a file does: into the differ's own space. The copy stands for the read.
fn literals(old: &[u8], new: &[u8]) -> usize {
    let signature = sign(old, old.len() as u64).unwrap();
    compare(&mut Differ::new(&signature), new)
}

fn compare(differ: &mut Differ, new: &[u8]) -> usize {
    let mut literals = 0;
    for piece in new.chunks(PIECE_BYTES) {
        differ.space(piece.len()).copy_from_slice(piece);
        let mut emit = |step: Step<'_>| {
            if let Step::Literal { bytes, .. } = step {
                literals += bytes.len();
            }
            Ok(())
        };
        differ.filled(piece.len(), &mut emit).unwrap();
    }
    literals
}

#[track_caller]
fn bench_delta(bencher: Bencher<'_, '_>, old: &[u8], new: &[u8], most: usize) {
    let found = literals(old, new);
    assert!(found <= most, "{found} bytes of literals, more than {most}");
    let signature = sign(old, old.len() as u64).unwrap();
    bencher
        .counter(BytesCount::new(new.len()))
        .with_inputs(|| Differ::new(&signature))
        .bench_local_refs(|differ| compare(differ, new));
}

#[divan::bench(sample_count = 10)]
fn delta_equal(bencher: Bencher<'_, '_>) {
    let old = noise(1, FILE_BYTES);
    bench_delta(bencher, &old, &old, 0);
}

#[divan::bench(sample_count = 10)]
fn delta_insert_in_front(bencher: Bencher<'_, '_>) {
    let old = noise(1, FILE_BYTES);
    bench_delta(bencher, &old, &[b"x", &old[..]].concat(), 1);
}

#[divan::bench(sample_count = 10)]
fn delta_overwrite_in_the_middle(bencher: Bencher<'_, '_>) {
    let old = noise(1, FILE_BYTES);
    let mut new = old.clone();
    new[FILE_BYTES / 2] ^= 1;
    bench_delta(bencher, &old, &new, 4096);
}

#[divan::bench(sample_count = 10)]
fn delta_of_random_others(bencher: Bencher<'_, '_>) {
    let old = noise(1, FILE_BYTES);
    bench_delta(bencher, &old, &noise(2, FILE_BYTES), FILE_BYTES);
}

/// Hash, new signature and delta in one pass.
#[divan::bench(sample_count = 10)]
fn all_in_one_pass(bencher: Bencher<'_, '_>) {
    let old = noise(1, FILE_BYTES);
    let new = [b"x", &old[..]].concat();
    let signature = sign(old.as_slice(), old.len() as u64).unwrap();
    bencher.counter(BytesCount::new(new.len())).bench_local(|| {
        let mut differ = Differ::new(&signature);
        let mut builder = SignatureBuilder::new(new.len() as u64);
        let mut hasher = blake3::Hasher::new();
        for piece in new.chunks(PIECE_BYTES) {
            let space = differ.space(piece.len());
            space.copy_from_slice(piece);
            hasher.update(space);
            builder.push(space);
            differ.filled(piece.len(), &mut |_| Ok(())).unwrap();
        }
        (hasher.finalize(), builder.finish())
    });
}
