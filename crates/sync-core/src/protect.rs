//! Paths that are never written from the pod: what they hold runs code on the laptop.
//!
//! A name is judged by what any common file system would take it for: letters of either case, code points that HFS+
//! ignores, dots and spaces that NTFS drops, streams after a colon, and 8.3 short names. Judging too much by its name
//! costs a message; too little would hand over the laptop.

use crate::path::RelPath;

/// How the name of a rule is matched.
enum Name {
    Exact(&'static str),
    /// With anything after it.
    Prefix(&'static str),
    /// Inside a folder of the first name.
    Inside(&'static str, &'static str),
}

use Name::{Exact, Inside, Prefix};

const VERSION_CONTROL: &str = "version control runs hooks and programs named in its configuration";
const EDITOR: &str = "editors run tasks and settings from it";
const SHELL: &str = "shells load it when they enter the folder";
const KEYS: &str = "it says who may log in and how";
const TOOL: &str = "build tools run what it names";
const OWN: &str = "it says what is synced and how the container runs";

const RULES: &[(Name, &str)] = &[
    (Exact(".git"), VERSION_CONTROL),
    (Exact(".jj"), VERSION_CONTROL),
    (Exact(".hg"), VERSION_CONTROL),
    (Exact(".svn"), VERSION_CONTROL),
    (Exact(".husky"), VERSION_CONTROL),
    (Prefix(".pre-commit-config"), VERSION_CONTROL),
    (Exact(".ssh"), KEYS),
    (Exact(".envrc"), SHELL),
    (Exact(".direnv"), SHELL),
    (Exact(".vscode"), EDITOR),
    (Exact(".idea"), EDITOR),
    (Prefix(".devcontainer"), EDITOR),
    (Inside(".cargo", "config"), TOOL),
    (Exact(".npmrc"), TOOL),
    (Prefix(".yarnrc"), TOOL),
    (Exact(".stignore"), OWN),
    (Exact(".okteto"), OWN),
    (Prefix("okteto.y"), OWN),
    (Prefix("okteto-"), OWN),
    (Prefix("towline.y"), OWN),
];

/// Returns why the path is never written from the pod, or `None` where it may be.
pub fn protected(path: &RelPath) -> Option<&'static str> {
    if is_plain(path.as_str()) { None } else { judge(path) }
}

/// Tells at a glance that no name of the path can be one of the rules, or be taken for one. Most paths are like that.
fn is_plain(path: &str) -> bool {
    path.split('/').all(|name| {
        let begins = |start: [u8; 2]| name.len() >= 2 && name.as_bytes()[..2].eq_ignore_ascii_case(&start);
        !name.starts_with('.')
            && !begins(*b"ok")
            && !begins(*b"to")
            && name.bytes().all(|byte| matches!(byte, b' '..=b'}') && byte != b'\\' && byte != b':')
    })
}

fn judge(path: &RelPath) -> Option<&'static str> {
    let mut parent = String::new();
    // A backslash parts names on Windows.
    for name in path.as_str().split(['/', '\\']) {
        let name = fold(name);
        for (rule, why) in RULES {
            let hit = match rule {
                Exact(rule) => name == *rule || is_short_name(&name, rule),
                Prefix(rule) => name.starts_with(rule) || is_short_name(&name, rule),
                Inside(folder, rule) => {
                    (parent == *folder || is_short_name(&parent, folder))
                        && (name.starts_with(rule) || is_short_name(&name, rule))
                }
            };
            if hit {
                return Some(why);
            }
        }
        parent = name;
    }
    None
}

/// Returns the outermost folder or file on the way to `path` that is protected, itself included.
pub fn protected_root(path: &RelPath) -> Option<RelPath> {
    let mut found = protected(path).map(|_| path.clone())?;
    while let Some(parent) = found.parent().filter(|parent| protected(parent).is_some()) {
        found = parent;
    }
    Some(found)
}

/// Returns what a file system that is generous with names would take `name` for.
fn fold(name: &str) -> String {
    // NTFS: what follows a colon names a stream of the same file.
    let name = name.split(':').next().unwrap_or(name);
    let folded: String = name
        .chars()
        // Through upper case: the long s and the Kelvin sign are letters of the alphabet there.
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .filter(|c| !is_ignorable(*c))
        .collect();
    folded.trim_end_matches(['.', ' ']).to_owned()
}

/// Tells whether HFS+ leaves the code point out when it compares names, a terminal shows nothing for it, or it only
/// puts a mark on a letter.
fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{300}'..='\u{36f}' | '\u{180b}'..='\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
        || c.is_control()
}

/// Tells whether `name` may be the 8.3 name that Windows gives to `rule`: up to six of its letters, or two and four
/// hexadecimal digits, then `~` and a number.
fn is_short_name(name: &str, rule: &str) -> bool {
    let Some((stem, number)) = name.split_once('~') else { return false };
    let number = number.split('.').next().unwrap_or(number);
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    let long: String = rule.chars().filter(|c| !matches!(c, '.' | ' ')).collect();
    let start = long.get(..long.len().min(6)).unwrap_or(&long);
    if stem == start {
        return true;
    }
    // More digits leave fewer letters.
    if number.len() > 1 && stem.len() >= 2 && start.starts_with(stem) {
        return true;
    }
    stem.len() == 6
        && stem.is_ascii()
        && long.starts_with(&stem[..2])
        && stem[2..].bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_plain_is_not_protected(path in "[.gGitokTO~1:/\\\\ \u{200c}acrnfwy-]{1,12}") {
            if let Ok(path) = RelPath::new(path) {
                prop_assert!(!is_plain(path.as_str()) || judge(&path).is_none(), "{path}");
            }
        }
    }

    #[test]
    fn no_rule_is_plain() {
        for (rule, _) in RULES {
            let (Exact(name) | Prefix(name) | Inside(name, _)) = rule;
            assert!(!is_plain(name), "{name}");
        }
    }

    #[track_caller]
    fn check(path: &str, expected: bool) {
        assert_eq!(protected(&RelPath::new(path).unwrap()).is_some(), expected, "{path:?}");
    }

    #[test]
    fn every_spelling_is_protected() {
        for path in [
            ".git",
            ".git/config",
            "sub/.git/hooks/pre-commit",
            ".GIT",
            ".Git/config",
            ".giT",
            ".gıt",
            ".gİt/..x",
            ".g\u{200c}it",
            ".gi\u{200d}t",
            "\u{feff}.git",
            ".git\u{200e}",
            ".\u{206a}git",
            ".git\u{202e}/config",
            ".git ",
            ".git.",
            ".git...",
            ".git . .",
            ".git::$INDEX_ALLOCATION",
            ".git:x",
            ".git::$DATA/config",
            "git~1",
            "GIT~1",
            "git~1/config",
            "GIT~12",
            "gi7eba~1",
            "GI7EBA~9",
            "git~1.",
            "git~1:x",
            "a\\.git\\config",
            ".git\\config",
            ".jj",
            ".JJ/repo",
            "jj~1",
            ".hg",
            ".HG/hgrc",
            "hg~1",
            ".svn",
            ".SVN",
            "svn~1",
            ".ssh",
            ".ssh/authorized_keys",
            ".\u{17f}\u{17f}h",
            ".S\u{17f}H",
            "ssh~1",
            ".envrc",
            ".ENVRC",
            "envrc~1",
            ".direnv",
            "direnv~1",
            ".vscode/tasks.json",
            ".VSCode",
            "vscode~1",
            ".vſcode",
            ".idea",
            ".IDEA/x",
            "idea~1",
            ".devcontainer",
            ".devcontainer/x",
            ".devcontainer.json",
            "DEVCON~1",
            "devcon~1.jso",
            ".cargo/config",
            ".cargo/config.toml",
            ".CARGO/Config.TOML",
            "cargo~1/config",
            "x/.cargo/CONFIG~1.TOM",
            ".npmrc",
            "npmrc~1",
            ".yarnrc",
            ".yarnrc.yml",
            ".YARNRC.yml",
            ".hu\u{17f}ky",
            ".hus\u{212a}y/pre-commit",
            ".husky",
            ".pre-commit-config.yaml",
            "PRE-CO~1.YAM",
            ".stignore",
            ".StIgnore",
            ".okteto",
            "okteto.yml",
            "okteto.yaml",
            "Okteto.YML",
            "sub/okteto.yml",
            "okteto-pipeline.yml",
            "towline.yml",
        ] {
            check(path, true);
        }
    }

    #[test]
    fn plain_files_are_not() {
        for path in [
            "git",
            "src/git.rs",
            ".gitignore",
            ".gitattributes",
            ".github/workflows/ci.yml",
            "a.git",
            ".gitt",
            "g~1",
            "cargo/config",
            ".cargo/credentials",
            "config.toml",
            ".cargo",
            ".env",
            "package.json",
            "digit~1",
            "git~",
            "git~x",
            "ssh",
            ".sshx",
            "idea",
            ".vscode-test/x",
            "okteto",
            "a b",
            "~1",
            "é~1",
            "éé00~1",
        ] {
            check(path, false);
        }
    }

    #[test]
    fn the_outermost_is_named() {
        let root = |path: &str| protected_root(&RelPath::new(path).unwrap()).map(String::from);
        assert_eq!(root("a/.git/hooks/x").as_deref(), Some("a/.git"));
        assert_eq!(root(".cargo/config.toml").as_deref(), Some(".cargo/config.toml"));
        assert_eq!(root("a/b"), None);
    }
}
