//! Which symbolic links can be synced: those that can't lead out of the root.

use towline_sync_core::path::{MAX_PATH_BYTES, RelPath};

/// Tells whether a link at `path` with this text stays beneath the root, whatever other such links stand there.
///
/// It must be relative and climb only at its beginning: the folders above a synced link are real, so climbing from
/// there is exact, and each name that follows is a real entry or again such a link. A `..` after a name could climb
/// out of the place where another link led.
pub(crate) fn stays_beneath(path: &RelPath, target: &str) -> bool {
    if target.is_empty() || target.len() >= MAX_PATH_BYTES || target.starts_with('/') || target.contains('\0')
    {
        return false;
    }
    let depth = path.components().count() - 1;
    let mut climbed = 0;
    let mut descended = false;
    for name in target.split('/') {
        match name {
            "" | "." => {}
            ".." if descended => return false,
            ".." => climbed += 1,
            _ => descended = true,
        }
    }
    climbed <= depth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, target: &str, expected: bool) {
        assert_eq!(stays_beneath(&RelPath::new(path).unwrap(), target), expected, "{path} -> {target}");
    }

    #[test]
    fn only_links_that_stay() {
        check("a", "b", true);
        check("a", "./b//c/", true);
        check("d/a", "../b", true);
        check("d/e/a", "../../b", true);
        check("a", "..", false);
        check("d/a", "../..", false);
        check("d/a", "../../root/x", false);
        check("d/a", "./../../x", false);
        check("a", "/etc/passwd", false);
        check("a", "d/../b", false);
        check("a", "d/../../b", false);
        check("a", "", false);
        check("a", &"x/".repeat(2048), false);
    }
}
