//! How many instructions things take: the same number every run, so that a change can be held against it.
#![expect(
    missing_docs,
    unused_qualifications,
    clippy::exit,
    reason = "the macros of the harness expand to it"
)]

use std::hint::black_box;

use benches::monorepo;
use gungraun::{library_benchmark, library_benchmark_group, main};
use towline_ignore::Rules;
use towline_sync_core::block::sign;
use towline_sync_core::delta::delta;
use towline_sync_core::message::Signature;
use towline_sync_core::reconcile::{Mode, Tree, View};

fn rules() -> (Rules, Vec<String>) {
    (Rules::from_lines(&monorepo::mixed_patterns(300)).unwrap(), monorepo::paths(2_000))
}

#[library_benchmark]
#[bench::monorepo(setup = rules)]
fn ignore_decide((rules, paths): (Rules, Vec<String>)) -> usize {
    paths.iter().filter(|path| black_box(&rules).decide(path).ignored).count()
}

fn trees() -> [Tree; 3] {
    monorepo::trees(2_000)
}

#[library_benchmark]
#[bench::monorepo(setup = trees)]
fn reconcile([local, remote, base]: [Tree; 3]) -> usize {
    let view = View { mode: Mode::TwoWay, local: &local, remote: &remote, base: &base };
    black_box(view.plan()).local.len()
}

fn versions() -> (Signature, Vec<u8>) {
    let (old, new) = monorepo::versions(1 << 20);
    (sign(old.as_slice(), old.len() as u64).unwrap(), new)
}

#[library_benchmark]
#[bench::one_mebibyte(setup = versions)]
fn delta_of_a_file((signature, new): (Signature, Vec<u8>)) -> usize {
    let mut steps = 0;
    let emitted = delta(&signature, new.as_slice(), |block| {
        steps += block.ops.len();
        Ok(())
    });
    black_box(emitted).unwrap();
    steps
}

library_benchmark_group!(name = pure, benchmarks = [ignore_decide, reconcile, delta_of_a_file]);

main!(library_benchmark_groups = pure);
