//! How many instructions things take: the same number every run, so that a change can be held against it.
#![expect(
    missing_docs,
    unused_qualifications,
    clippy::exit,
    reason = "the macros of the harness expand to it"
)]

use std::hint::black_box;

use benches::{engine, monorepo};
use gungraun::{library_benchmark, library_benchmark_group, main};
use towline_ignore::Rules;
use towline_sync_core::base::Base;
use towline_sync_core::codec::{Decoder, Encoder};
use towline_sync_core::diff::diff;
use towline_sync_core::message::Reply;
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
    let view = View { mode: Mode::TwoWay, local: &local, remote: &remote, base: &base, opaque: true };
    black_box(view.plan()).local.len()
}

#[library_benchmark]
#[bench::monorepo(setup = trees)]
fn difference([local, remote, _]: [Tree; 3]) -> usize {
    black_box(diff(&remote, &local)).len()
}

// The whole way of the engine's: from a scan to rest.
#[library_benchmark]
#[bench::eager(setup = trees)]
fn engine_first_sync([local, ..]: [Tree; 3]) -> usize {
    engine::run([&local, &Tree::new()], Base::default(), true)
}

fn rested() -> (Tree, Base) {
    let [.., base] = trees();
    let agreed = engine::agreed(&base);
    (base, agreed)
}

#[library_benchmark]
#[bench::monorepo(setup = rested)]
fn engine_nothing_changed((tree, base): (Tree, Base)) -> usize {
    engine::run([&tree, &tree], base, false)
}

fn entries() -> Vec<Reply> {
    let [local, ..] = trees();
    let entries: Vec<_> = local.into_iter().collect();
    entries.chunks(500).map(|part| Reply::Entries { entries: part.to_vec(), last: false }).collect()
}

#[library_benchmark]
#[bench::entries(setup = entries)]
fn encode_messages(replies: Vec<Reply>) -> usize {
    let mut encoder = Encoder::new();
    replies.chunks(1).map(|reply| black_box(encoder.encode(reply)).len()).sum()
}

fn encoded() -> Vec<u8> {
    let mut encoder = Encoder::new();
    entries().chunks(1).flat_map(|reply| encoder.encode(reply).to_vec()).collect()
}

#[library_benchmark]
#[bench::entries(setup = encoded)]
fn decode_messages(bytes: Vec<u8>) -> usize {
    let mut decoder = Decoder::new();
    decoder.push(&bytes);
    let mut messages = 0;
    while let Some(reply) = decoder.next::<Reply>().unwrap() {
        black_box(reply);
        messages += 1;
    }
    messages
}

library_benchmark_group!(
    name = pure,
    benchmarks = [
        ignore_decide,
        reconcile,
        difference,
        engine_first_sync,
        engine_nothing_changed,
        encode_messages,
        decode_messages
    ]
);

main!(library_benchmark_groups = pure);
