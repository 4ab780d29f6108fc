//! Objects as files: one JSON file each, every access under one lock, every write atomic.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::meta;
use crate::error::ClusterError;
use crate::port::Resource;

/// The folder that stands for "no namespace": no namespace can have this name.
const CLUSTER_SCOPE: &str = "_cluster";
/// Holds the counter; its renames are what watches wait for.
const VERSION_FILE: &str = "version";

/// The locked store. Other processes and threads wait until it is dropped.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
    lock: File,
}

impl Store {
    /// Waits for the lock on the folder, which is made when it is missing.
    pub(super) fn lock(root: &Path) -> Result<Self, ClusterError> {
        create_private_folder(root).map_err(|error| unreachable(root, "create", &error))?;
        let path = root.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| unreachable(&path, "open", &error))?;
        lock.lock().map_err(|error| unreachable(&path, "lock", &error))?;
        Ok(Self { root: root.to_owned(), lock })
    }

    /// Returns the store's folder.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Reads one object.
    pub(super) fn get(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, ClusterError> {
        if !meta::is_subdomain(name) || (resource.namespaced && !meta::is_label(namespace)) {
            return Ok(None);
        }
        read_json(&self.path(resource, namespace, name))
    }

    /// Reads all objects of a kind, by namespace and name; `None` means all namespaces.
    pub(super) fn list(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
    ) -> Result<Vec<Value>, ClusterError> {
        let namespaces = match namespace {
            _ if !resource.namespaced => vec![CLUSTER_SCOPE.to_owned()],
            Some(namespace) if meta::is_label(namespace) => vec![namespace.to_owned()],
            Some(_) => Vec::new(),
            None => names_in(&self.root)?.into_iter().filter(|name| meta::is_label(name)).collect(),
        };
        let mut objects = Vec::new();
        for namespace in namespaces {
            let folder = self.root.join(namespace).join(resource.plural);
            for file in names_in(&folder)? {
                if file.strip_suffix(".json").is_some_and(meta::is_subdomain) {
                    objects.extend(read_json(&folder.join(file))?);
                }
            }
        }
        Ok(objects)
    }

    /// Stores an object under the name in its metadata, with the next resource version.
    pub(super) fn put(&mut self, resource: &Resource, object: &mut Value) -> Result<(), ClusterError> {
        let version = self.advance()?;
        object["metadata"]["resourceVersion"] = Value::String(version.to_string());
        let path = self.path(resource, meta::namespace(object), meta::name(object));
        if let Some(folder) = path.parent() {
            create_private_folder(folder).map_err(|error| unreachable(folder, "create", &error))?;
        }
        write_atomic(&path, object.to_string().as_bytes())
            .map_err(|error| unreachable(&path, "write", &error))
    }

    /// Removes an object; removing what is gone is no error.
    pub(super) fn remove(
        &mut self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<(), ClusterError> {
        self.advance()?;
        let path = self.path(resource, namespace, name);
        remove_file(&path).map_err(|error| unreachable(&path, "remove", &error))
    }

    /// Returns the last resource version given.
    pub(super) fn version(&self) -> Result<u64, ClusterError> {
        let path = self.root.join(VERSION_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(unreachable(&path, "read", &error)),
        };
        text.trim().parse().map_err(|_| unreachable(&path, "read", &io::Error::other("no number")))
    }

    /// Counts on; the counter is stored before the object that gets its value, so that no value is given twice.
    fn advance(&mut self) -> Result<u64, ClusterError> {
        let path = self.root.join(VERSION_FILE);
        let next = self.version()?.saturating_add(1);
        write_atomic(&path, next.to_string().as_bytes())
            .map_err(|error| unreachable(&path, "write", &error))?;
        Ok(next)
    }

    fn path(&self, resource: &Resource, namespace: &str, name: &str) -> PathBuf {
        let namespace = if resource.namespaced { namespace } else { CLUSTER_SCOPE };
        self.root.join(namespace).join(resource.plural).join(format!("{name}.json"))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Closing the file would do, but a child between fork and exec may hold a copy of it for a moment.
        let _ = self.lock.unlock();
    }
}

/// Makes a folder and its parents, for us alone.
pub(super) fn create_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file for us alone: all of it or nothing.
pub(super) fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // The lock is held: nobody else uses this name. No object's file ends like this.
    let staged = path.with_added_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&staged)?;
    file.write_all(bytes)?;
    drop(file);
    fs::rename(&staged, path)
}

/// Removes a file that may be gone already.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Reads a JSON file; `None` when there is no such file.
pub(super) fn read_json(path: &Path) -> Result<Option<Value>, ClusterError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreachable(path, "read", &error)),
    };
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(value) if value.get("metadata").is_none_or(Value::is_object) && value.is_object() => {
            Ok(Some(value))
        }
        Ok(_) => Err(unreachable(path, "read", &io::Error::other("not an object"))),
        Err(error) => Err(unreachable(path, "read", &error.into())),
    }
}

/// Returns the names in a folder, sorted; none when there is no such folder.
pub(super) fn names_in(folder: &Path) -> Result<Vec<String>, ClusterError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(unreachable(folder, "list", &error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreachable(folder, "list", &error))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// A disk that does not do what it should is to us what a dead API server is.
pub(super) fn unreachable(path: &Path, verb: &str, error: &io::Error) -> ClusterError {
    ClusterError::Unreachable {
        server: "embedded".to_owned(),
        message: format!("cannot {verb} {}: {error}", path.display()),
    }
}
