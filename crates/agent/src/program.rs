//! Finding a program as a shell does, so that what is missing is said before anything is started.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use towline_protocol::Refusal;

/// What a shell searches when nothing says where (`execvp(3)`).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const NOT_FOUND: i32 = 2;
const NOT_PERMITTED: i32 = 13;

/// Returns the file of a program named as on a command line. `path` is the `PATH` it will run with.
pub(crate) fn find(name: &str, path: Option<&OsStr>, workdir: &Path) -> Result<PathBuf, Refusal> {
    let missing =
        || Refusal { errno: NOT_FOUND, message: format!("command not found in the container: {name}") };
    if name.is_empty() {
        return Err(missing());
    }
    if name.contains('/') {
        let file = workdir.join(name);
        return match kind(&file) {
            Kind::Executable => Ok(file),
            Kind::Other => Err(not_executable(name)),
            Kind::Missing => Err(missing()),
        };
    }
    let mut seen_other = false;
    for folder in std::env::split_paths(path.unwrap_or(OsStr::new(DEFAULT_PATH))) {
        let file = workdir.join(folder).join(name);
        match kind(&file) {
            Kind::Executable => return Ok(file),
            Kind::Other => seen_other = true,
            Kind::Missing => {}
        }
    }
    Err(if seen_other { not_executable(name) } else { missing() })
}

fn not_executable(name: &str) -> Refusal {
    Refusal { errno: NOT_PERMITTED, message: format!("{name} is there and can't be executed") }
}

enum Kind {
    Executable,
    Other,
    Missing,
}

fn kind(file: &Path) -> Kind {
    match std::fs::metadata(file) {
        Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => Kind::Executable,
        Ok(_) => Kind::Other,
        Err(_) => Kind::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let temp = tempfile::tempdir().unwrap();
        let tool = temp.path().join("tool");
        std::fs::write(&tool, "#!/bin/sh\n").unwrap();
        std::fs::write(temp.path().join("plain"), "").unwrap();
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = std::env::join_paths([Path::new("/nowhere"), temp.path()]).unwrap();
        let errno = |name: &str| find(name, Some(&path), temp.path()).map_err(|refusal| refusal.errno);
        assert_eq!(errno("tool"), Ok(tool.clone()));
        assert_eq!(
            errno("./tool").map(|found| found.canonicalize().unwrap()),
            Ok(tool.canonicalize().unwrap())
        );
        assert_eq!(errno("plain"), Err(NOT_PERMITTED));
        assert_eq!(errno("none"), Err(NOT_FOUND));
        assert_eq!(errno("./none"), Err(NOT_FOUND));
        assert_eq!(errno(""), Err(NOT_FOUND));
        assert!(find("sh", None, temp.path()).is_ok());
    }
}
