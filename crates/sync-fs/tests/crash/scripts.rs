//! What users did before the sync that is killed: six scripts, each from the same beginning.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// What is done to one of the folders. Contents are made of a word, so that each is known wherever it turns up.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Edit {
    /// A file of so many bytes, in place of what is there.
    File(&'static str, &'static str, usize),
    Program(&'static str, &'static str),
    Link(&'static str, &'static str),
    Folder(&'static str),
    Remove(&'static str),
    Rename(&'static str, &'static str),
}

use Edit::{File, Folder, Link, Program, Remove, Rename};

/// A script: its name, and what is done here and there.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) name: &'static str,
    pub(crate) local: &'static [Edit],
    pub(crate) remote: &'static [Edit],
}

/// What both folders have in the beginning.
pub(crate) const BEGINNING: &[Edit] = &[
    File("readme", "readme 1", 40),
    File("src/main", "main 1", 500),
    File("src/lib/one", "one 1", 3000),
    File("src/lib/two", "two 1", 30),
    File("data/large", "large 1", 300_000),
    File("old/a", "old a", 20),
    File("old/b/c", "old c", 20),
    Program("bin/run", "run 1"),
    Link("bin/link", "run"),
    Folder("empty"),
];

pub(crate) const SCRIPTS: &[Script] = &[
    Script {
        name: "new",
        local: &[
            File("new/a", "new a", 10),
            File("new/deep/er/b", "new b", 2000),
            File("new/large", "new large", 400_000),
            Program("new/tool", "new tool"),
            Link("new/link", "a"),
            Folder("new/empty"),
        ],
        remote: &[File("out/log", "log", 100), File("out/build/x", "build x", 70_000), Link("out/l", "log")],
    },
    Script {
        name: "edits",
        local: &[
            File("readme", "readme 2", 45),
            File("data/large", "large 2", 300_100),
            File("src/lib/one", "one 2", 3001),
            Link("bin/link", "other"),
        ],
        remote: &[File("src/main", "main 2", 400), Program("src/lib/two", "two 2")],
    },
    Script {
        name: "conflicts",
        local: &[
            File("readme", "readme local", 50),
            File("src/main", "main local", 300),
            Remove("src/lib/one"),
            File("data/large", "large local", 280_000),
            File("both", "both local", 10),
        ],
        remote: &[
            File("readme", "readme remote", 60),
            Remove("src/main"),
            File("src/lib/one", "one remote", 2500),
            File("data/large", "large remote", 290_000),
            File("both", "both remote", 11),
        ],
    },
    Script {
        name: "deletions",
        local: &[Remove("old"), Remove("readme"), Remove("empty")],
        remote: &[Remove("src/lib"), Remove("bin"), Remove("data/large")],
    },
    Script {
        name: "types",
        local: &[
            Remove("readme"),
            File("readme/inside", "readme folder", 20),
            Remove("old"),
            File("old", "old file", 30),
            Program("src/main", "main 1"),
        ],
        remote: &[
            Remove("bin/link"),
            File("bin/link", "link file", 25),
            Remove("src/lib"),
            Link("src/lib", "main"),
            Remove("empty"),
            File("empty", "empty file", 5),
        ],
    },
    Script {
        name: "renames",
        local: &[Rename("src", "source"), Rename("data/large", "data/huge"), File("copy", "one 1", 3000)],
        remote: &[Rename("old", "older"), Rename("readme", "doc"), Program("bin/again", "run 1")],
    },
];

/// Returns a content that begins with a word.
pub(crate) fn content(word: &str, length: usize) -> Vec<u8> {
    // Versions of one file have most in common.
    let name = word.split(' ').next().unwrap_or_default();
    let mut state = name.bytes().fold(1_u32, |state, byte| state.wrapping_mul(31).wrapping_add(byte.into()));
    let noise = std::iter::repeat_with(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    format!("{word}\n").into_bytes().into_iter().chain(noise).take(length).collect()
}

pub(crate) fn make(root: &Path, edits: &[Edit]) {
    for edit in edits {
        let above = |path: &str| fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        let write = |path: &str, content: &[u8], mode: u32| {
            above(path);
            fs::write(root.join(path), content).unwrap();
            fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
        };
        match *edit {
            File(path, word, length) => write(path, &content(word, length), 0o644),
            Program(path, word) => write(path, &content(word, 100.max(word.len() + 1)), 0o755),
            Link(path, target) => {
                above(path);
                if root.join(path).symlink_metadata().is_ok() {
                    fs::remove_file(root.join(path)).unwrap();
                }
                symlink(target, root.join(path)).unwrap();
            }
            Folder(path) => fs::create_dir_all(root.join(path)).unwrap(),
            Remove(path) if root.join(path).is_dir() => fs::remove_dir_all(root.join(path)).unwrap(),
            Remove(path) => fs::remove_file(root.join(path)).unwrap(),
            Rename(from, to) => fs::rename(root.join(from), root.join(to)).unwrap(),
        }
    }
}
