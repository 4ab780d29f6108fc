//! Both sides changed one path: what both shall have, and whose bytes must be kept first.

use crate::snapshot::{Entry, File};

/// Returns what both sides shall have where both differ from `base` and from each other.
///
/// A change wins over a deletion, a folder over anything else, the exec bit and the content merge where each side
/// changed one of them, and else the local side wins.
pub fn resolve(local: Option<&Entry>, remote: Option<&Entry>, base: Option<&Entry>) -> Option<Entry> {
    match (local, remote) {
        (None, other) | (other, None) => other.cloned(),
        (Some(Entry::Directory), _) | (_, Some(Entry::Directory)) => Some(Entry::Directory),
        (Some(Entry::File(local)), Some(Entry::File(remote))) => {
            let base = match base {
                Some(Entry::File(base)) => Some(base),
                _ => None,
            };
            let content = if base.is_some_and(|base| base.hash == local.hash) { remote } else { local };
            let executable = match base {
                Some(base) if base.executable == local.executable => remote.executable,
                _ => local.executable,
            };
            Some(Entry::File(File { executable, ..*content }))
        }
        (local, _) => local.cloned(),
    }
}

/// Returns the file whose bytes would be gone from the tree, unseen by the other side, if `to` took its place.
pub fn lost_bytes(entry: Option<&Entry>, to: Option<&Entry>, base: Option<&Entry>) -> Option<File> {
    let Some(Entry::File(file)) = entry else { return None };
    let held = |other: Option<&Entry>| matches!(other, Some(Entry::File(other)) if other.hash == file.hash);
    (!held(to) && !held(base)).then_some(*file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Hash;

    #[expect(clippy::unnecessary_wraps, reason = "the rules are about what may be missing")]
    fn file(content: u8, executable: bool) -> Option<Entry> {
        Some(Entry::File(File { hash: Hash([content; 32]), size: 1, executable }))
    }

    #[expect(clippy::unnecessary_wraps, reason = "the rules are about what may be missing")]
    fn link(target: &str) -> Option<Entry> {
        Some(Entry::Symlink { target: target.into() })
    }

    #[test]
    fn resolutions() {
        let folder = Some(Entry::Directory);
        let check =
            |local: Option<Entry>, remote: Option<Entry>, base: Option<Entry>, expected: Option<Entry>| {
                assert_eq!(
                    resolve(local.as_ref(), remote.as_ref(), base.as_ref()),
                    expected,
                    "{local:?} {remote:?} {base:?}"
                );
            };
        check(file(1, false), file(2, false), file(0, false), file(1, false));
        check(None, file(2, false), file(0, false), file(2, false));
        check(file(1, false), None, file(0, false), file(1, false));
        check(file(0, true), file(2, false), file(0, false), file(2, true));
        check(file(1, false), file(0, true), file(0, false), file(1, true));
        check(file(1, true), file(1, false), file(0, false), file(1, true));
        check(file(1, false), file(1, true), file(0, true), file(1, false));
        check(file(1, false), file(1, true), None, file(1, false));
        check(folder.clone(), file(2, false), file(0, false), folder.clone());
        check(file(1, false), folder.clone(), None, folder);
        check(link("a"), file(2, false), None, link("a"));
        check(link("a"), link("b"), None, link("a"));
    }

    #[test]
    fn only_bytes_that_nobody_else_has_are_kept() {
        let check = |entry: Option<Entry>, to: Option<Entry>, base: Option<Entry>, expected: bool| {
            assert_eq!(lost_bytes(entry.as_ref(), to.as_ref(), base.as_ref()).is_some(), expected);
        };
        check(file(1, false), file(2, false), file(0, false), true);
        check(file(1, false), None, None, true);
        check(file(1, false), Some(Entry::Directory), None, true);
        check(file(1, false), file(1, true), None, false);
        check(file(1, false), file(2, false), file(1, true), false);
        check(Some(Entry::Directory), file(2, false), None, false);
        check(None, file(2, false), None, false);
    }
}
