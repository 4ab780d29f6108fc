//! How many instructions it takes to decide about paths: the same number every run.
#![expect(
    missing_docs,
    unused_qualifications,
    clippy::exit,
    reason = "the macros of the harness expand to it"
)]

use std::hint::black_box;

use benches::ignore::{Folder, RuleSet};
use gungraun::{library_benchmark, library_benchmark_group, main};
use towline_ignore::Rules;

const FILES: usize = 20_000;

fn rules(set: RuleSet) -> Rules {
    let lines: Vec<String> = set.lines().into_iter().map(str::to_owned).collect();
    Rules::from_lines(&lines).unwrap()
}

fn paths(set: RuleSet) -> (Rules, Vec<String>) {
    (rules(set), Folder::grow(FILES).paths())
}

#[library_benchmark]
#[bench::example(setup = paths, args = (RuleSet::Example))]
#[bench::grown(setup = paths, args = (RuleSet::Grown))]
fn whole_paths((rules, paths): (Rules, Vec<String>)) -> (usize, Rules, Vec<String>) {
    let ignored = paths.iter().filter(|path| black_box(&rules).decide(path).ignored).count();
    (ignored, rules, paths)
}

fn tree(set: RuleSet) -> (Rules, Folder) {
    (rules(set), Folder::grow(FILES))
}

#[library_benchmark]
#[bench::example(setup = tree, args = (RuleSet::Example))]
#[bench::grown(setup = tree, args = (RuleSet::Grown))]
fn walk((rules, tree): (Rules, Folder)) -> (usize, Rules, Folder) {
    let kept = kept(&tree, &black_box(&rules).folder(""));
    (kept, rules, tree)
}

fn kept(folder: &Folder, rules: &towline_ignore::Folder<'_>) -> usize {
    let files = folder.files.iter().filter(|name| !rules.decide(name).ignored).count();
    let folders = folder.folders.iter().filter(|(name, _)| !rules.decide(name).skip_dir);
    files + folders.map(|(name, folder)| kept(folder, &rules.enter(name))).sum::<usize>()
}

fn lines(set: RuleSet) -> Vec<String> {
    set.lines().into_iter().map(str::to_owned).collect()
}

#[library_benchmark]
#[bench::example(setup = lines, args = (RuleSet::Example))]
#[bench::grown(setup = lines, args = (RuleSet::Grown))]
fn compile(lines: Vec<String>) -> Rules {
    black_box(Rules::from_lines(&lines)).unwrap()
}

library_benchmark_group!(name = ignore, benchmarks = [whole_paths, walk, compile]);

main!(library_benchmark_groups = ignore);
