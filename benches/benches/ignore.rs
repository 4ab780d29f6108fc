//! How long it takes to decide about the paths of a monorepo, beside ripgrep's `ignore` and `globset` with rules
//! that decide alike.

use benches::ignore::{Folder, RuleSet};
use divan::Bencher;
use divan::counter::ItemsCount;
use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use towline_ignore::Rules;

const FILES: usize = 1_000_000;
const SETS: [RuleSet; 2] = [RuleSet::Example, RuleSet::Grown];

fn main() {
    divan::main();
}

fn ours(set: RuleSet) -> Rules {
    Rules::from_lines(&set.lines().into_iter().map(str::to_owned).collect::<Vec<_>>()).unwrap()
}

/// A pattern line without the prefixes that other languages lack.
struct Line {
    ignores: bool,
    /// The glob of what the line names; not of what lies below it.
    glob: String,
    /// Only what lies below.
    below: bool,
}

fn line(text: &str) -> Line {
    let text = text.strip_prefix("(?d)").unwrap_or(text);
    let (ignores, text) = text.strip_prefix('!').map_or((true, text), |rest| (false, rest));
    let (below, text) = text.strip_suffix('/').map_or((false, text), |rest| (true, rest));
    let (rooted, text) = text.strip_prefix('/').map_or((false, text), |rest| (true, rest));
    // Elsewhere `/**/` may stand for `/`.
    let text = text.strip_prefix("**/").unwrap_or(text).replace("/**/", "/*/**/");
    let glob = if rooted { text } else { format!("**/{text}") };
    Line { ignores, glob, below }
}

/// The last line that matches decides there, the first here.
fn ripgrep(set: RuleSet) -> Gitignore {
    let mut builder = GitignoreBuilder::new("");
    for text in set.lines().into_iter().rev() {
        let Line { ignores, glob, below } = line(text);
        let sign = if ignores { "" } else { "!" };
        let tail = if below { "/**" } else { "" };
        builder.add_line(None, &format!("{sign}/{glob}{tail}")).unwrap();
    }
    builder.build().unwrap()
}

/// Globs, and for each whether it ignores; in the order of the lines.
struct Globs {
    set: GlobSet,
    ignores: Vec<bool>,
}

impl Globs {
    /// Compiles what the lines name and, for whole paths, what lies below that.
    fn new(set: RuleSet, whole: bool) -> Self {
        let mut builder = GlobSetBuilder::new();
        let mut flags = Vec::new();
        for text in set.lines() {
            let Line { ignores, glob, below } = line(text);
            let mut add = |glob: &str| {
                builder.add(GlobBuilder::new(glob).literal_separator(true).build().unwrap());
                flags.push(ignores);
            };
            if !below {
                add(&glob);
            }
            if below || whole {
                add(&format!("{glob}/**"));
            }
        }
        Self { set: builder.build().unwrap(), ignores: flags }
    }

    fn ignores(&self, path: &str, matches: &mut Vec<usize>) -> bool {
        self.set.matches_candidate_into(&Candidate::new(path), matches);
        matches.iter().min().is_some_and(|&first| self.ignores[first])
    }
}

/// Whole paths as they come, of files that may lie in ignored folders.
mod paths {
    use super::{Bencher, FILES, Folder, Globs, ItemsCount, RuleSet, SETS, ours, ripgrep};

    fn bench(bencher: Bencher<'_, '_>, set: RuleSet, mut ignores: impl FnMut(&str) -> bool) {
        let paths = Folder::grow(FILES).paths();
        let mut count = || paths.iter().filter(|path| ignores(path)).count();
        let rules = ours(set);
        assert_eq!(count(), paths.iter().filter(|path| rules.decide(path).ignored).count());
        bencher.counter(ItemsCount::new(FILES)).bench_local(count);
    }

    #[divan::bench(args = SETS, sample_count = 5)]
    fn towline(bencher: Bencher<'_, '_>, set: RuleSet) {
        let rules = ours(set);
        bench(bencher, set, |path| rules.decide(path).ignored);
    }

    #[divan::bench(args = SETS, sample_count = 5)]
    fn ripgrep_ignore(bencher: Bencher<'_, '_>, set: RuleSet) {
        let rules = ripgrep(set);
        bench(bencher, set, |path| rules.matched_path_or_any_parents(path, false).is_ignore());
    }

    #[divan::bench(args = SETS, sample_count = 1)]
    fn globset(bencher: Bencher<'_, '_>, set: RuleSet) {
        let rules = Globs::new(set, true);
        let mut matches = Vec::new();
        bench(bencher, set, |path| rules.ignores(path, &mut matches));
    }
}

/// A walk that does not list ignored folders.
mod walk {
    use super::{Bencher, FILES, Folder, Globs, ItemsCount, RuleSet, SETS, ours, ripgrep};

    /// What a walk came to.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Seen {
        listed: usize,
        entries: usize,
        kept: usize,
    }

    /// Walks with a function of a folder's path, a name in it and whether that is a folder.
    fn walk(
        folder: &Folder,
        path: &mut String,
        ignores: &mut dyn FnMut(&str, bool) -> bool,
        seen: &mut Seen,
    ) {
        seen.listed += 1;
        let length = path.len();
        let names = folder.files.iter().map(|name| (name, None));
        for (name, folder) in names.chain(folder.folders.iter().map(|(name, folder)| (name, Some(folder)))) {
            path.push_str(name);
            seen.entries += 1;
            if !ignores(path, folder.is_some()) {
                seen.kept += 1;
                if let Some(folder) = folder {
                    path.push('/');
                    walk(folder, path, ignores, seen);
                }
            }
            path.truncate(length);
        }
    }

    /// The same with our folders. Both rule sets allow to skip every folder that they ignore.
    fn walk_ours(folder: &Folder, rules: &towline_ignore::Folder<'_>, seen: &mut Seen) {
        seen.listed += 1;
        for name in &folder.files {
            seen.entries += 1;
            seen.kept += usize::from(!rules.decide(name).ignored);
        }
        for (name, folder) in &folder.folders {
            seen.entries += 1;
            if !rules.decide(name).ignored {
                seen.kept += 1;
                walk_ours(folder, &rules.enter(name), seen);
            }
        }
    }

    fn walked(tree: &Folder, ignores: &mut dyn FnMut(&str, bool) -> bool) -> Seen {
        let mut seen = Seen::default();
        walk(tree, &mut String::new(), ignores, &mut seen);
        seen
    }

    fn bench(bencher: Bencher<'_, '_>, set: RuleSet, mut ignores: impl FnMut(&str, bool) -> bool) {
        let tree = Folder::grow(FILES);
        let rules = ours(set);
        let expected = walked(&tree, &mut |path, _| rules.decide(path).ignored);
        assert_eq!(walked(&tree, &mut ignores), expected);
        bencher.counter(ItemsCount::new(expected.entries)).bench_local(|| walked(&tree, &mut ignores));
    }

    #[divan::bench(args = SETS, sample_count = 5)]
    fn towline(bencher: Bencher<'_, '_>, set: RuleSet) {
        let tree = Folder::grow(FILES);
        let rules = ours(set);
        let expected = walked(&tree, &mut |path, _| rules.decide(path).ignored);
        let walk = || {
            let mut seen = Seen::default();
            walk_ours(&tree, &rules.folder(""), &mut seen);
            seen
        };
        assert_eq!(walk(), expected);
        bencher.counter(ItemsCount::new(expected.entries)).bench_local(walk);
    }

    #[divan::bench(args = SETS, sample_count = 5)]
    fn ripgrep_ignore(bencher: Bencher<'_, '_>, set: RuleSet) {
        let rules = ripgrep(set);
        bench(bencher, set, |path, is_folder| rules.matched(path, is_folder).is_ignore());
    }

    #[divan::bench(args = SETS, sample_count = 5)]
    fn globset(bencher: Bencher<'_, '_>, set: RuleSet) {
        let rules = Globs::new(set, false);
        let mut matches = Vec::new();
        bench(bencher, set, |path, _| rules.ignores(path, &mut matches));
    }
}
