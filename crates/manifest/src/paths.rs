//! Where a manifest is looked for, and what a local path in it means. Lexical: nothing touches a disk.

use std::path::{Component, Path, PathBuf};

/// The folder that may hold a manifest beside the project's root.
const DOT_FOLDER: &str = ".okteto";

/// Returns the manifest's possible names below a folder, the first that exists wins.
pub const fn candidates() -> [&'static str; 12] {
    [
        "okteto.yml",
        "okteto.yaml",
        ".okteto/okteto.yml",
        ".okteto/okteto.yaml",
        "okteto-pipeline.yml",
        "okteto-pipeline.yaml",
        "okteto-pipelines.yml",
        "okteto-pipelines.yaml",
        ".okteto/okteto-pipeline.yml",
        ".okteto/okteto-pipeline.yaml",
        ".okteto/okteto-pipelines.yml",
        ".okteto/okteto-pipelines.yaml",
    ]
}

/// Returns the possible names below a folder of the Compose files that Okteto takes in place of a manifest.
pub const fn compose_candidates() -> [&'static str; 10] {
    [
        "okteto-stack.yml",
        "okteto-stack.yaml",
        "stack.yml",
        "stack.yaml",
        "okteto-compose.yml",
        "okteto-compose.yaml",
        "docker-compose.yml",
        "docker-compose.yaml",
        "compose.yml",
        "compose.yaml",
    ]
}

/// Returns the folder that relative local paths count from: the manifest's own, or the one above
/// when the manifest is in `.okteto`.
pub fn project_root(manifest: &Path) -> PathBuf {
    let folder = manifest_folder(manifest);
    if folder.file_name().is_some_and(|name| name == DOT_FOLDER) {
        return match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
    }
    folder
}

/// Returns the local path that `local` in `manifest` means, without `.` and `..` where they can go.
///
/// A path that starts with `..` counts from the manifest's own folder, as Okteto does; any other
/// relative one from [`project_root`].
pub fn resolve_local(manifest: &Path, local: &str) -> PathBuf {
    let path = Path::new(local);
    let base = if matches!(path.components().next(), Some(Component::ParentDir)) {
        manifest_folder(manifest)
    } else {
        project_root(manifest)
    };
    normalized(&base.join(path))
}

/// Returns where the ignore rules of a sync folder may stand, in the order in which they count: of those that exist,
/// the first whose pattern matches a path decides about it.
pub fn stignore_places(manifest: &Path, sync_root: &Path) -> Vec<PathBuf> {
    let mut places = vec![sync_root.join(".stignore")];
    let folder = manifest_folder(manifest);
    if folder.file_name().is_some_and(|name| name == DOT_FOLDER) {
        let second = folder.join(".stignore");
        if !places.contains(&second) {
            places.push(second);
        }
    }
    places
}

/// Returns `path` without `.`, with each `..` applied to what stands before it.
pub(crate) fn normalized(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => match result.components().next_back() {
                Some(Component::Normal(_)) => {
                    result.pop();
                }
                Some(Component::RootDir | Component::Prefix(_)) => {}
                _ => result.push(".."),
            },
            other => result.push(other),
        }
    }
    if result.as_os_str().is_empty() { PathBuf::from(".") } else { result }
}

/// Returns true when `path` is neither `root` nor below it, going by the names alone.
pub(crate) fn is_outside(root: &Path, path: &Path) -> bool {
    let (root, path) = (normalized(root), normalized(path));
    if root == Path::new(".") {
        return path.is_absolute() || path.starts_with("..");
    }
    !path.starts_with(root)
}

fn manifest_folder(manifest: &Path) -> PathBuf {
    match manifest.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_count_from_the_projects_root() {
        for (manifest, local, expected) in [
            ("/repo/okteto.yml", ".", "/repo"),
            ("/repo/okteto.yml", "src/./a", "/repo/src/a"),
            ("/repo/okteto.yml", "../lib", "/lib"),
            ("/repo/.okteto/okteto.yml", ".", "/repo"),
            ("/repo/.okteto/okteto.yml", "apps/api", "/repo/apps/api"),
            ("/repo/.okteto/okteto.yml", "..", "/repo"),
            ("/repo/.okteto/okteto.yml", "../apps", "/repo/apps"),
            ("/repo/.okteto/okteto.yml", "./../apps", "/apps"),
            ("/repo/.okteto/okteto.yml", "/etc", "/etc"),
            ("okteto.yml", ".", "."),
            (".okteto/okteto.yml", "src", "src"),
            (".okteto/okteto.yml", "../src", "src"),
            ("/okteto.yml", "../../x", "/x"),
        ] {
            assert_eq!(resolve_local(Path::new(manifest), local), Path::new(expected), "{manifest} {local}");
        }
    }

    #[test]
    fn both_places_of_the_ignore_file_are_known() {
        let of = |manifest: &str, root: &str| stignore_places(Path::new(manifest), Path::new(root));
        assert_eq!(of("/r/okteto.yml", "/r/a"), [Path::new("/r/a/.stignore")]);
        assert_eq!(
            of("/r/.okteto/okteto.yml", "/r"),
            [Path::new("/r/.stignore"), Path::new("/r/.okteto/.stignore")]
        );
        assert_eq!(of("/r/.okteto/okteto.yml", "/r/.okteto"), [Path::new("/r/.okteto/.stignore")]);
    }

    #[test]
    fn outside_is_found_in_any_spelling() {
        for (root, path, outside) in [
            ("/repo", "/repo", false),
            ("/repo", "/repo/a", false),
            ("/repo", "/repo/a/../b", false),
            ("/repo", "/repo/a/../../repo/b", false),
            ("/repo", "/repository", true),
            ("/repo", "/repo/..", true),
            ("/repo", "/repo/../x", true),
            ("/repo", "/repo/a/../../x", true),
            ("/repo", "/", true),
            ("/repo", "/etc", true),
            ("/repo/", "/repo/./a", false),
            (".", "a", false),
            (".", ".", false),
            (".", "../a", true),
            (".", "a/../../b", true),
            (".", "/a", true),
            ("/", "/anything", false),
        ] {
            assert_eq!(is_outside(Path::new(root), Path::new(path)), outside, "{root} {path}");
        }
    }
}
