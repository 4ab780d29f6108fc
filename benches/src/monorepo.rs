//! A monorepo that exists only as names: apps, packages, their dependencies and what they build.

use towline_sync_core::path::RelPath;
use towline_sync_core::reconcile::Tree;
use towline_sync_core::snapshot::{Entry, File, Hash};

use crate::Random;

const TOPS: [&str; 4] = ["apps", "packages", "services", "tools"];
const FOLDERS: [&str; 12] = [
    "src",
    "lib",
    "test",
    "node_modules",
    "dist",
    "components",
    "internal",
    "build",
    "assets",
    "api",
    "models",
    "utils",
];
pub(crate) const STEMS: [&str; 12] = [
    "index", "main", "user", "session", "button", "handler", "schema", "config", "client", "server", "types",
    "readme",
];
const EXTENSIONS: [&str; 12] =
    ["ts", "tsx", "js", "json", "md", "go", "rs", "py", "map", "log", "css", "svg"];

/// Returns the paths of `count` files, in the order of a walk that does not sort.
pub fn paths(count: usize) -> Vec<String> {
    let mut random = Random::new(1);
    (0..count)
        .map(|number| {
            let mut path = format!("{}/unit-{}", random.pick(&TOPS), random.below(200));
            for _ in 0..=random.below(6) {
                path.push('/');
                path.push_str(random.pick(&FOLDERS));
            }
            let (stem, extension) = (random.pick(&STEMS), random.pick(&EXTENSIONS));
            format!("{path}/{stem}-{number}.{extension}")
        })
        .collect()
}

/// Returns `count` ignore lines of the kinds that most lines in the wild are: names, endings, and
/// rooted folders.
pub fn simple_patterns(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| match number % 10 {
            0 => format!("/tools/unit-{number}"),
            1..=3 => format!("*.generated{number}"),
            4 if number < 10 => "*.map".to_owned(),
            5 if number < 10 => "node_modules".to_owned(),
            _ => format!(".cache-{number}"),
        })
        .collect()
}

/// Returns `count` ignore lines, a third of which are globs that no table can look up.
pub fn mixed_patterns(count: usize) -> Vec<String> {
    let mut lines = simple_patterns(count);
    for (number, line) in lines.iter_mut().enumerate().skip(6).step_by(3) {
        *line = match number % 4 {
            0 => format!("/packages/*/fixtures-{number}"),
            1 => format!("dist/**/chunk-{number}*.js"),
            2 => format!("(?d)generated-{number}/[a-f]?*/*.{{pb,grpc}}.go"),
            _ => format!("test_*_{number}"),
        };
    }
    lines
}

/// Returns the three trees of a sync of `count` files and their folders: here, there, and what both last
/// agreed on. One file in fifty differs here, one in seventy there, one in ninety is gone there.
///
/// # Panics
/// Never: the generated paths are valid.
pub fn trees(count: usize) -> [Tree; 3] {
    let mut base = Tree::new();
    for path in paths(count) {
        let path = RelPath::new(path).expect("generated paths are valid");
        for folder in path.ancestors() {
            base.insert(folder, Entry::Directory);
        }
        let file = File { hash: Hash::of(path.as_str().as_bytes()), size: 1000, executable: false };
        base.insert(path, Entry::File(file));
    }
    let mut sides = [base.clone(), base.clone()];
    for (side, step) in sides.iter_mut().zip([50, 70]) {
        for file in side.values_mut().filter_map(file_mut).step_by(step) {
            file.hash.0[0] ^= 1;
        }
    }
    let [local, mut remote] = sides;
    let gone: Vec<RelPath> = files(&remote).step_by(90).cloned().collect();
    for path in gone {
        remote.remove(&path);
    }
    [local, remote, base]
}

fn file_mut(entry: &mut Entry) -> Option<&mut File> {
    match entry {
        Entry::File(file) => Some(file),
        Entry::Directory | Entry::Symlink { .. } | Entry::Opaque(_) => None,
    }
}

fn files(tree: &Tree) -> impl Iterator<Item = &RelPath> {
    tree.iter().filter(|(_, entry)| matches!(entry, Entry::File(_))).map(|(path, _)| path)
}

/// Returns two versions of a file of `length` bytes: the newer has an edit in each of eight places, some of
/// which move what follows.
pub fn versions(length: usize) -> (Vec<u8>, Vec<u8>) {
    let mut random = Random::new(2);
    let old = random.bytes(length);
    let mut new = old.clone();
    for edit in 1..=8 {
        let at = edit * length / 9;
        if edit % 2 == 0 {
            new.splice(at..at, [edit.to_le_bytes()[0]; 5]);
        } else {
            new[at] ^= 0xff;
        }
    }
    (old, new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_what_they_say() {
        assert_eq!(paths(1000), paths(1000));
        assert_eq!(paths(1000).len(), 1000);
        assert_eq!(mixed_patterns(300).len(), 300);
        let [local, remote, base] = trees(1000);
        assert_eq!(files(&base).count(), 1000);
        assert_eq!((local.len(), remote.len()), (base.len(), base.len() - 12));
        assert_eq!(local.iter().filter(|&(path, entry)| base.get(path) != Some(entry)).count(), 20);
        let (old, new) = versions(9000);
        assert_eq!((old.len(), new.len()), (9000, 9020));
    }
}
