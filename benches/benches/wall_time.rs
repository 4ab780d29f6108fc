//! How long things take here and now: informs, gates nothing.

use benches::{engine, monorepo};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use globset::{Glob, GlobSet, GlobSetBuilder};
use towline_ignore::Rules;
use towline_sync_core::base::Base;
use towline_sync_core::block::sign;
use towline_sync_core::delta::delta;
use towline_sync_core::reconcile::{Mode, Tree, View};

const PATHS: usize = 100_000;
const PATTERNS: usize = 300;
const FILES: usize = 50_000;
const FILE_BYTES: usize = 16 * 1024 * 1024;

fn main() {
    divan::main();
}

/// Decides about every path, and returns how many are ignored.
fn decide_all(rules: &Rules, paths: &[String]) -> usize {
    paths.iter().filter(|path| rules.decide(path).ignored).count()
}

#[divan::bench(sample_count = 10)]
fn ignore_simple(bencher: Bencher<'_, '_>) {
    let rules = Rules::from_lines(&monorepo::simple_patterns(PATTERNS)).unwrap();
    let paths = monorepo::paths(PATHS);
    bencher.counter(ItemsCount::new(PATHS)).bench(|| decide_all(&rules, &paths));
}

#[divan::bench(sample_count = 10)]
fn ignore_mixed(bencher: Bencher<'_, '_>) {
    let rules = Rules::from_lines(&monorepo::mixed_patterns(PATTERNS)).unwrap();
    let paths = monorepo::paths(PATHS);
    bencher.counter(ItemsCount::new(PATHS)).bench(|| decide_all(&rules, &paths));
}

/// The simple patterns as globs of their own, to compare with.
fn glob_set(lines: &[String]) -> GlobSet {
    let mut builder = GlobSetBuilder::new();
    for line in lines {
        let glob = line.strip_prefix('/').map_or_else(|| format!("**/{line}"), str::to_owned);
        for glob in [format!("{glob}/**"), glob] {
            builder.add(Glob::new(&glob).unwrap());
        }
    }
    builder.build().unwrap()
}

#[divan::bench(sample_count = 10)]
fn globset_simple(bencher: Bencher<'_, '_>) {
    let lines = monorepo::simple_patterns(PATTERNS);
    let set = glob_set(&lines);
    let paths = monorepo::paths(PATHS);
    let count = || paths.iter().filter(|path| set.is_match(path)).count();
    assert_eq!(count(), decide_all(&Rules::from_lines(&lines).unwrap(), &paths));
    bencher.counter(ItemsCount::new(PATHS)).bench(count);
}

#[divan::bench(sample_count = 10)]
fn ignore_compile(bencher: Bencher<'_, '_>) {
    let lines = monorepo::mixed_patterns(PATTERNS);
    bencher.counter(ItemsCount::new(PATTERNS)).bench(|| Rules::from_lines(&lines));
}

#[divan::bench(sample_count = 10)]
fn reconcile(bencher: Bencher<'_, '_>) {
    let [local, remote, base] = monorepo::trees(FILES);
    let view = View { mode: Mode::TwoWay, local: &local, remote: &remote, base: &base, opaque: true };
    bencher.counter(ItemsCount::new(FILES)).bench(|| view.plan());
}

/// The engine alone, of a first sync to an empty side: content comes along with the scan, or is fetched after it.
#[divan::bench(sample_count = 5, args = [true, false])]
fn engine_first_sync(bencher: Bencher<'_, '_>, eager: bool) {
    let [local, ..] = monorepo::trees(FILES);
    bencher
        .counter(ItemsCount::new(FILES))
        .bench(|| engine::run([&local, &Tree::new()], Base::default(), eager));
}

/// The engine alone, of a start when nothing has changed.
#[divan::bench(sample_count = 5)]
fn engine_nothing_changed(bencher: Bencher<'_, '_>) {
    let [.., base] = monorepo::trees(FILES);
    let agreed = engine::agreed(&base);
    bencher
        .counter(ItemsCount::new(FILES))
        .with_inputs(|| agreed.clone())
        .bench_values(|agreed| engine::run([&base, &base], agreed, false));
}

#[divan::bench(sample_count = 10)]
fn signature(bencher: Bencher<'_, '_>) {
    let (old, _) = monorepo::versions(FILE_BYTES);
    bencher.counter(BytesCount::new(FILE_BYTES)).bench(|| sign(old.as_slice(), old.len() as u64));
}

#[divan::bench(sample_count = 10)]
fn delta_of_a_large_file(bencher: Bencher<'_, '_>) {
    let (old, new) = monorepo::versions(FILE_BYTES);
    let signature = sign(old.as_slice(), old.len() as u64).unwrap();
    bencher.counter(BytesCount::new(FILE_BYTES)).bench(|| {
        let mut steps = 0;
        delta(&signature, new.as_slice(), |block| {
            steps += block.ops.len();
            Ok(())
        })
        .map(|()| steps)
    });
}
