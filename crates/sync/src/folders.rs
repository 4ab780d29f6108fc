//! Two folders of this machine before they are tied together: what they are to each other, and who else syncs them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What two folders are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// They have nothing to do with each other.
    Apart,
    /// They are one folder under two names.
    Same,
    /// The second lies in the first.
    Inside,
    /// The first lies in the second.
    Around,
}

/// Tells what two folders are to each other, whatever links and bind mounts lead to them. The second need not exist.
///
/// # Errors
///
/// When the system does not tell where they are.
pub fn relation(one: &Path, other: &Path) -> std::io::Result<Relation> {
    let (one, other) = (resolve(one)?, resolve(other)?);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let places = [&one, &other].map(|path| place(path, &table));
    if is_same_folder(&one, &other) || places[0] == places[1] {
        return Ok(Relation::Same);
    }
    let holds = |outer: &(String, PathBuf), inner: &(String, PathBuf)| {
        outer.0 == inner.0 && inner.1.starts_with(&outer.1)
    };
    let is_above =
        |outer: &Path, inner: &Path| inner.ancestors().skip(1).any(|path| is_same_folder(path, outer));
    if is_above(&one, &other) || holds(&places[0], &places[1]) {
        Ok(Relation::Inside)
    } else if is_above(&other, &one) || holds(&places[1], &places[0]) {
        Ok(Relation::Around)
    } else {
        Ok(Relation::Apart)
    }
}

/// Returns the path without links, as far as it exists, and as it is from there.
///
/// # Errors
///
/// When the system does not tell where it is.
pub fn resolve(path: &Path) -> std::io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    for ancestor in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), path.strip_prefix(ancestor)) {
            // Joining nothing would add a slash.
            return Ok(if rest.as_os_str().is_empty() { real } else { real.join(rest) });
        }
    }
    Ok(path)
}

fn is_same_folder(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

/// Returns where a path is in its file system: the device, and the path from the file system's own root. Two mounts of
/// one place have one such answer.
fn place(path: &Path, mountinfo: &str) -> (String, PathBuf) {
    let mut best: Option<(PathBuf, String, PathBuf)> = None;
    for line in mountinfo.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let &[_, _, device, root, point, ..] = fields.as_slice() else { continue };
        let (root, point) = (PathBuf::from(unescape(root)), PathBuf::from(unescape(point)));
        // Of several on one point, the last counts.
        let is_nearer = best.as_ref().is_none_or(|(known, ..)| point.starts_with(known));
        if path.starts_with(&point) && is_nearer {
            best = Some((point, device.to_owned(), root));
        }
    }
    match best {
        Some((point, device, root)) => {
            let rest = path.strip_prefix(&point).unwrap_or(path);
            (device, root.join(rest))
        }
        None => (String::new(), path.to_owned()),
    }
}

/// Undoes the kernel's octal escapes (`\040` for a space).
fn unescape(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let code = code.filter(u8::is_ascii);
        text.push(code.map_or('\\', char::from));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    text.push_str(rest);
    text
}

/// What programs that sync leave in the folders that they sync: the name (`*` at the end: whatever begins with it), the
/// program.
const MARKERS: &[(&str, &str)] = &[
    (".stfolder", "Syncthing"),
    (".mutagen*", "Mutagen"),
    (".unison*", "Unison"),
    (".dropbox*", "Dropbox"),
    (".sync_*", "Nextcloud"),
    ("._sync_*", "ownCloud"),
    (".owncloudsync.log*", "ownCloud"),
    (".seafile-data", "Seafile"),
    (".tmp.drivedownload", "Google Drive"),
    (".SyncTrash", "Resilio Sync"),
    (".lsyncd*", "lsyncd"),
];

/// Returns the names of the other programs that seem to sync a folder, by what they leave in it, each with the name of
/// what it left.
pub fn other_syncers(folder: &Path) -> Vec<(&'static str, String)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<(&'static str, String)> = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let syncer = MARKERS.iter().find(|(marker, _)| match marker.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == *marker,
        });
        if let Some((_, syncer)) = syncer
            && !found.iter().any(|(known, _)| known == syncer)
        {
            found.push((syncer, name));
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_told_apart_whatever_they_are_called() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        for folder in ["a/sub", "ab", "far"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::os::unix::fs::symlink(root.join("a"), root.join("alias")).unwrap();
        std::os::unix::fs::symlink(root.join("a/sub"), root.join("far/deep")).unwrap();
        let check = |one: &str, other: &str, expected: Relation| {
            assert_eq!(relation(&root.join(one), &root.join(other)).unwrap(), expected, "{one} {other}");
        };
        check("a", "ab", Relation::Apart);
        check("a", "new", Relation::Apart);
        check("a", "a", Relation::Same);
        check("a", "a/../a/.", Relation::Same);
        check("a", "alias", Relation::Same);
        check("alias", "a", Relation::Same);
        check("a", "a/sub", Relation::Inside);
        check("a", "a/new/er", Relation::Inside);
        check("a", "alias/new", Relation::Inside);
        check("a", "far/deep", Relation::Inside);
        check("a/sub", "a", Relation::Around);
        check("far/deep", "alias", Relation::Around);
    }

    #[test]
    fn bind_mounts_are_seen_through() {
        let table = "25 1 8:1 / / rw - ext4 d rw\n\
                     26 25 8:1 /a/sub /mnt/my\\040bind rw - ext4 d rw\n\
                     27 25 0:9 / /mnt/other rw - tmpfs t rw";
        let check = |path: &str, device: &str, inside: &str| {
            assert_eq!(place(Path::new(path), table), (device.to_owned(), PathBuf::from(inside)), "{path}");
        };
        check("/a/sub/x", "8:1", "/a/sub/x");
        check("/mnt/my bind/x", "8:1", "/a/sub/x");
        check("/mnt/my", "8:1", "/mnt/my");
        check("/mnt/other/a", "0:9", "/a");
        check("/mnt/otherwise", "8:1", "/mnt/otherwise");
    }

    #[test]
    fn other_syncers_are_known_by_what_they_leave() {
        let temp = tempfile::tempdir().unwrap();
        assert!(other_syncers(temp.path()).is_empty());
        for name in
            [".stfolder", ".unison.a.tmp", ".mutagen-temporary-x", ".mutagen.yml.lock", ".sync", "stfolder"]
        {
            fs::write(temp.path().join(name), "").unwrap();
        }
        let names: Vec<_> = other_syncers(temp.path()).into_iter().map(|(syncer, _)| syncer).collect();
        assert_eq!(names, ["Mutagen", "Syncthing", "Unison"]);
    }
}
