//! Reading ignore files.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use towline_ignore::{LoadError, LoadOptions, MAX_TEXT, Platform, Rules};

/// Returns the rules of an ignore file in the language of `.stignore`, what it includes flattened in.
///
/// # Errors
///
/// A file that can't be read or understood is an error: without its rules, what it protects would be synced.
pub fn ignore_lines(file: &Path) -> Result<Vec<String>, LoadError> {
    ignore_rules(file).map(|rules| rules.lines())
}

/// Returns the same rules, each with the place that it comes from.
pub(crate) fn ignore_rules(file: &Path) -> Result<Rules, LoadError> {
    let base = file.parent().unwrap_or(Path::new(""));
    load_ignore(base, &file.file_name().unwrap_or_default().to_string_lossy())
}

/// Loads the ignore file `name` below `base`, which nothing that it includes may lie outside of. Places are told relative to
/// `base`.
///
/// # Errors
///
/// As of [`ignore_lines`]. A file that is not there has no rules; a link to nothing is an error.
pub fn load_ignore(base: &Path, name: &str) -> Result<Rules, LoadError> {
    let mut read = |asked: &str| {
        let path = base.join(asked);
        // The file itself may be a link to anywhere.
        if asked != name && !path.canonicalize()?.starts_with(if_empty_here(base).canonicalize()?) {
            return Err(io::Error::other("it is a link that leads outside the synchronized folder"));
        }
        read_text(&path)
    };
    let platform = if cfg!(target_os = "macos") {
        Platform::MacOs
    } else if cfg!(windows) {
        Platform::Windows
    } else {
        Platform::Unix
    };
    towline_ignore::load(name, &mut read, LoadOptions { platform, includes_outside: false })
}

fn if_empty_here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// Reads a file, and not much more of it than ignore files may have.
fn read_text(path: &Path) -> io::Result<String> {
    let meta = fs::metadata(path).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound && path.is_symlink() {
            io::Error::other("it is a link to nothing")
        } else {
            error
        }
    })?;
    if meta.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !meta.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_TEXT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_cannot_be_read_is_never_no_rules() {
        let temp = tempfile::tempdir().unwrap();
        let (root, outside) = (temp.path().join("root"), temp.path().join("outside"));
        let file = root.join(".stignore");
        let check = |expected: Result<&[&str], &str>| match (ignore_lines(&file), expected) {
            (Ok(lines), Ok(expected)) => assert_eq!(lines, expected),
            (Err(error), Err(expected)) => {
                let words = error.to_string();
                assert!(words.contains(expected), "{words}");
            }
            (loaded, expected) => panic!("{loaded:?}, not {expected:?}"),
        };
        fs::create_dir(&root).unwrap();
        check(Ok(&[]));
        symlink("nothing", &file).unwrap();
        check(Err(".stignore: it is a link to nothing"));
        fs::write(&outside, "#include inc\nx").unwrap();
        fs::remove_file(&file).unwrap();
        symlink(&outside, &file).unwrap();
        check(Err(".stignore:1: the included file inc does not exist"));
        fs::write(root.join("inc"), "y").unwrap();
        check(Ok(&["y", "x"]));
        fs::remove_file(root.join("inc")).unwrap();
        symlink(&outside, root.join("inc")).unwrap();
        check(Err(".stignore:1: cannot read the included file inc: it is a link that leads outside"));
        fs::remove_file(root.join("inc")).unwrap();
        fs::create_dir(root.join("inc")).unwrap();
        check(Err(".stignore:1: cannot read the included file inc: is a directory"));
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        check(Err("cannot read the ignore file .stignore: is a directory"));
        fs::remove_dir(&file).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(&file).unwrap();
        check(Err("cannot read the ignore file .stignore: it is not a file"));
        fs::remove_file(&file).unwrap();
        fs::write(&file, vec![b'\xff'; MAX_TEXT + 1]).unwrap();
        check(Err("too much for one set of ignore rules"));
    }
}
