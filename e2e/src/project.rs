//! A project on this machine: a folder with a manifest and files, and the state folder of its user.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder that goes with it.
#[derive(Debug)]
pub struct Project {
    temp: TempDir,
}

impl Default for Project {
    fn default() -> Self {
        Self::new()
    }
}

impl Project {
    /// Makes an empty one; it is the root of a repository.
    pub fn new() -> Self {
        let temp = tempfile::Builder::new().prefix("towline-e2e-").tempdir().expect("a temporary folder");
        let project = Self { temp };
        fs::create_dir_all(project.path(".git")).expect("the folder is ours");
        fs::create_dir_all(project.home()).expect("the folder is ours");
        fs::set_permissions(project.home(), fs::Permissions::from_mode(0o700)).expect("the folder is ours");
        project
    }

    /// Returns the project's folder.
    pub fn folder(&self) -> PathBuf {
        self.temp.path().join("project")
    }

    /// Returns the state folder of its user.
    pub fn home(&self) -> PathBuf {
        self.temp.path().join("home")
    }

    /// Returns a path in the project.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder().join(path)
    }

    /// Writes a file, its folder with it.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("it has the project above it")).expect("the folder is ours");
        fs::write(path, text).expect("the file is ours");
        self
    }

    /// Makes a file a program.
    pub fn make_executable(&self, path: &str) -> &Self {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).expect("the file is ours");
        self
    }

    /// Reads a file; `None` when there is none.
    pub fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }

    /// Gives a file or folder another name.
    pub fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).expect("both are ours");
    }

    /// Removes a file.
    pub fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).expect("the file is ours");
    }

    /// Copies a folder of the source tree into the project.
    pub fn copy(&self, from: &Path) {
        copy(from, &self.folder());
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the folder is ours");
    for entry in fs::read_dir(from).expect("the example is there") {
        let entry = entry.expect("the example can be read");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("the example can be read").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("the folder is ours");
        }
    }
}
