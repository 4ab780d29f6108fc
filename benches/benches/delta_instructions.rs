//! How many instructions signatures and deltas take: the same number every run.
#![expect(
    missing_docs,
    unused_qualifications,
    clippy::exit,
    reason = "the macros of the harness expand to it"
)]

use std::hint::black_box;

use benches::Random;
use gungraun::{library_benchmark, library_benchmark_group, main};
use towline_sync_core::block::{Signature, SignatureBuilder, sign};
use towline_sync_core::delta::{Differ, Step};

const LARGE_BYTES: usize = 20 << 20;
const SMALL_BYTES: usize = 4096;

fn noise(length: usize) -> Vec<u8> {
    Random::new(1).bytes(length)
}

#[library_benchmark]
#[bench::small(setup = noise, args = (SMALL_BYTES))]
#[bench::large(setup = noise, args = (LARGE_BYTES))]
fn signature(bytes: Vec<u8>) -> usize {
    let mut builder = SignatureBuilder::new(bytes.len() as u64);
    builder.push(black_box(&bytes));
    builder.finish().unwrap().sums().len()
}

/// Returns the signature of a file of `length` bytes and a newer version: with bytes put in at `at`.
fn inserted(length: usize, at: usize) -> (Signature, Vec<u8>) {
    let mut bytes = noise(length);
    let signature = sign(bytes.as_slice(), length as u64).unwrap();
    bytes.splice(at..at, *b"thirty bytes that are put here");
    (signature, bytes)
}

fn others(length: usize) -> (Signature, Vec<u8>) {
    let old = noise(length);
    (sign(old.as_slice(), length as u64).unwrap(), Random::new(2).bytes(length))
}

#[library_benchmark]
#[bench::small_insert(setup = inserted, args = (SMALL_BYTES, 300))]
#[bench::large_insert(setup = inserted, args = (LARGE_BYTES, 300))]
#[bench::large_append(setup = inserted, args = (LARGE_BYTES, LARGE_BYTES))]
#[bench::others(setup = others, args = (1 << 20))]
fn delta((signature, new): (Signature, Vec<u8>)) -> usize {
    let mut literals = 0;
    let mut emit = |step: Step<'_>| {
        if let Step::Literal { bytes, .. } = step {
            literals += bytes.len();
        }
        Ok(())
    };
    let mut differ = Differ::new(&signature);
    differ.push(black_box(&new), &mut emit).unwrap();
    differ.finish(&mut emit).unwrap();
    literals
}

library_benchmark_group!(name = deltas, benchmarks = [signature, delta]);

main!(library_benchmark_groups = deltas);
