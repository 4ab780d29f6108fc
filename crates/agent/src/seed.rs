//! Fills an empty volume from the image's folder of the same name, before the dev container starts.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// Copies a tree: folders, files with their modes, links as they are. What is there already stays as it is, so that
/// a second start of the pod changes nothing. A missing `from` is an empty one.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| at(from, &error))?,
    };
    for entry in entries {
        let entry = entry.map_err(|error| at(from, &error))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(|error| at(&source, &error))?;
        let done = if kind.is_dir() {
            match fs::create_dir(&target) {
                Ok(()) => copy(&source, &target).and_then(|()| same_mode(&source, &target)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    match fs::symlink_metadata(&target) {
                        Ok(there) if there.is_dir() => copy(&source, &target),
                        _ => Ok(()),
                    }
                }
                Err(error) => Err(error),
            }
        } else if kind.is_symlink() {
            unless_there(fs::read_link(&source).and_then(|link| symlink(link, &target)))
        } else if kind.is_file() {
            file(&source, &target)
        } else {
            Ok(())
        };
        match done {
            // A file of the image that this user may not read stays unread in the image too.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                crate::log::line(&at(&source, &error).to_string());
            }
            other => other.map_err(|error| at(&source, &error))?,
        }
    }
    Ok(())
}

fn file(source: &Path, target: &Path) -> io::Result<()> {
    if target.symlink_metadata().is_ok() {
        return Ok(());
    }
    // Complete or not there: a container that is killed meanwhile is started anew.
    let mut new = target.to_owned().into_os_string();
    new.push(".towline-new");
    fs::copy(source, &new)?;
    fs::rename(&new, target)
}

fn same_mode(source: &Path, target: &Path) -> io::Result<()> {
    let mode = fs::metadata(source)?.permissions().mode() & 0o777;
    fs::set_permissions(target, fs::Permissions::from_mode(mode | 0o700))
}

fn unless_there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_copied_once() {
        let temp = tempfile::tempdir().unwrap();
        let (from, to) = (temp.path().join("from"), temp.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("a/b/run"), "x").unwrap();
        fs::set_permissions(from.join("a/b/run"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("b/run", from.join("a/link")).unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("a/link")).unwrap(), "x");
        assert_eq!(fs::metadata(to.join("a/b/run")).unwrap().permissions().mode() & 0o777, 0o755);

        fs::write(to.join("a/b/run"), "edited").unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("a/b/run")).unwrap(), "edited");
        copy(&temp.path().join("none"), &to).unwrap();
    }
}
