//! A pod's private folder: what the image and the volumes are for a process that sees the host's file system.
//!
//! `<root>/pods/<id>/` holds `rootfs` (the first container's; the others' are `rootfs-<name>`), `run` (the agent's
//! socket), `log` and `record.json`. Nothing is ever written outside: paths of containers are resolved below their
//! `rootfs`, and a mount below a link is refused.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::store::{Store, create_private_folder, remove_file};
use super::{Image, meta};
use crate::error::ClusterError;
use crate::port::{CONFIG_MAPS, PERSISTENT_VOLUME_CLAIMS, SECRETS};

/// How much of the uid names the folder: a unix socket's path below it may have 107 bytes in all.
const ID_LENGTH: usize = 13;

/// Where a pod's files are.
#[derive(Debug, Clone)]
pub(super) struct Sandbox {
    id: String,
    folder: PathBuf,
}

/// Why a container can't have its files.
#[derive(Debug)]
pub(super) enum MountError {
    /// Something that may come to be is not there; said as the kubelet says it.
    Refused(String),
    /// The store failed.
    Cluster(ClusterError),
}

impl From<ClusterError> for MountError {
    fn from(error: ClusterError) -> Self {
        Self::Cluster(error)
    }
}

impl Sandbox {
    /// Names the folder of a pod.
    pub(super) fn of(root: &Path, pod: &Value) -> Self {
        let id = meta::uid(pod).get(..ID_LENGTH).unwrap_or("unknown").to_owned();
        Self { folder: folder_of_all(root).join(&id), id }
    }

    /// Returns the folder's name.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Returns the whole folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns what is `/` for a container of the pod.
    pub(super) fn rootfs(&self, pod: &Value, container: &str) -> PathBuf {
        let first = meta::text(pod, "/spec/containers/0/name");
        let name = if container == first { "rootfs".to_owned() } else { format!("rootfs-{container}") };
        self.folder.join(name)
    }

    /// Returns the folder for the agent's socket.
    pub(super) fn run(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// Returns the file of what a container wrote in one of its runs, counted from 0.
    pub(super) fn log(&self, container: &str, attempt: u32) -> PathBuf {
        self.folder.join("log").join(format!("{container}.{attempt}.log"))
    }

    /// Returns the file that gets a run's exit code.
    pub(super) fn report(&self, container: &str, attempt: u32) -> PathBuf {
        self.folder.join("log").join(format!("{container}.{attempt}.exit"))
    }

    /// Returns the file with what is known of the pod's processes.
    pub(super) fn record(&self) -> PathBuf {
        self.folder.join("record.json")
    }

    /// Makes the folders and all mounts of all containers.
    pub(super) fn mount_all(&self, store: &Store, pod: &Value) -> Result<(), MountError> {
        for folder in [self.run(), self.folder.join("log"), self.folder.join("volumes")] {
            create_private_folder(&folder).map_err(|error| refused(&folder, &error))?;
        }
        // A folder that several mounts share lies where the first container sees it.
        let containers =
            meta::items(pod, "/spec/containers").iter().chain(meta::items(pod, "/spec/initContainers"));
        let mut shared = BTreeMap::new();
        for container in containers {
            let rootfs = self.rootfs(pod, meta::text(container, "/name"));
            create_private_folder(&rootfs).map_err(|error| refused(&rootfs, &error))?;
            let mut mounts: Vec<&Value> = meta::items(container, "/volumeMounts").iter().collect();
            mounts.sort_by_key(|mount| meta::text(mount, "/mountPath").split('/').count());
            for mount in mounts {
                self.mount(store, pod, mount, &rootfs, &mut shared)?;
            }
        }
        Ok(())
    }

    fn mount(
        &self,
        store: &Store,
        pod: &Value,
        mount: &Value,
        rootfs: &Path,
        shared: &mut BTreeMap<String, PathBuf>,
    ) -> Result<(), MountError> {
        let name = meta::text(mount, "/name");
        let path = inside(rootfs, meta::text(mount, "/mountPath"));
        let sub_path = meta::text(mount, "/subPath");
        let failed = |error: &io::Error| refused(&path, error);
        make_parents(rootfs, &path).map_err(|error| failed(&error))?;
        let volume = meta::items(pod, "/spec/volumes").iter().find(|volume| volume["name"] == name);
        let Some(volume) = volume else { return Err(MountError::Refused(format!("no volume {name}"))) };
        let namespace = meta::namespace(pod);
        if volume["configMap"].is_object() || volume["secret"].is_object() {
            let files = projected_files(store, namespace, name, volume)?;
            return place_files(&files, &path, sub_path).map_err(|error| failed(&error));
        }
        if let Some(claim) = volume.pointer("/persistentVolumeClaim/claimName").and_then(Value::as_str) {
            let Some(claim) = store.get(PERSISTENT_VOLUME_CLAIMS, namespace, claim)? else {
                return Err(MountError::Refused(format!("persistentvolumeclaim \"{claim}\" not found")));
            };
            let folder = inside(&store.root().join("volumes").join(meta::uid(&claim)), sub_path);
            return link(&folder, &path).map_err(|error| failed(&error));
        }
        let only_name = volume.as_object().is_some_and(|volume| volume.len() == 1);
        if !(volume["emptyDir"].is_object() || only_name) {
            let what = format!(
                "volume {name}: only emptyDir, configMap, secret and persistentVolumeClaim are known here"
            );
            return Err(MountError::Refused(what));
        }
        if sub_path.is_empty() {
            if let Some(folder) = shared.get(name) {
                return link(folder, &path).map_err(|error| failed(&error));
            }
            shared.insert(name.to_owned(), path.clone());
            return create_private_folder(&path).map_err(|error| failed(&error));
        }
        let whole = shared.entry(name.to_owned()).or_insert_with(|| self.folder.join("volumes").join(name));
        link(&inside(whole, sub_path), &path).map_err(|error| failed(&error))
    }

    /// Copies the image's files to where the container looks for them; not below its mounts, which hide them.
    pub(super) fn unpack(&self, image: &Image, pod: &Value, container: &Value) -> io::Result<()> {
        let rootfs = self.rootfs(pod, meta::text(container, "/name"));
        let mounts: Vec<PathBuf> = meta::items(container, "/volumeMounts")
            .iter()
            .map(|mount| inside(&rootfs, meta::text(mount, "/mountPath")))
            .collect();
        for (path, source) in &image.files {
            let target = inside(&rootfs, path);
            if mounts.iter().any(|mount| target.starts_with(mount)) {
                continue;
            }
            make_parents(&rootfs, &target)?;
            fs::copy(source, &target)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", source.display())))?;
        }
        Ok(())
    }
}

/// Returns the folder that holds all pods' folders.
pub(super) fn folder_of_all(root: &Path) -> PathBuf {
    root.join("pods")
}

/// Tells whether a folder's name is one that [`Sandbox::of`] gives.
pub(super) fn is_id(name: &str) -> bool {
    name.len() == ID_LENGTH
        && name.bytes().enumerate().all(
            |(index, byte)| {
                if index == 8 { byte == b'-' } else { byte.is_ascii_hexdigit() }
            },
        )
}

/// Resolves a container's path below a folder, whatever it is made of.
pub(super) fn inside(root: &Path, path: &str) -> PathBuf {
    let mut parts: Vec<&std::ffi::OsStr> = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::ParentDir => {
                parts.pop();
            }
            _ => {}
        }
    }
    parts.into_iter().fold(root.to_owned(), |path, part| path.join(part))
}

/// Makes the folders that lead to `path`, none of which may be a link.
fn make_parents(rootfs: &Path, path: &Path) -> io::Result<()> {
    create_private_folder(rootfs)?;
    let Some(below) = path.parent().and_then(|parent| parent.strip_prefix(rootfs).ok()) else {
        return Ok(());
    };
    let mut folder = rootfs.to_owned();
    for part in below {
        folder.push(part);
        match fs::symlink_metadata(&folder) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(io::Error::other("a mount inside another shared mount is not known here")),
            Err(_) => create_private_folder(&folder)?,
        }
    }
    Ok(())
}

/// Makes `path` lead to a folder, which is made when it is missing.
fn link(folder: &Path, path: &Path) -> io::Result<()> {
    create_private_folder(folder)?;
    if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        fs::remove_dir(path)?;
    } else {
        remove_file(path)?;
    }
    symlink(folder, path)
}

/// Returns the files of a ConfigMap or Secret volume: path, bytes, mode.
fn projected_files(
    store: &Store,
    namespace: &str,
    name: &str,
    volume: &Value,
) -> Result<Vec<(String, Vec<u8>, u32)>, MountError> {
    let (resource, source, from) = if volume["configMap"].is_object() {
        (CONFIG_MAPS, &volume["configMap"], meta::text(volume, "/configMap/name"))
    } else {
        (SECRETS, &volume["secret"], meta::text(volume, "/secret/secretName"))
    };
    let optional = source["optional"] == true;
    let mode =
        |value: &Value| value.as_u64().and_then(|mode| u32::try_from(mode).ok()).map(|mode| mode & 0o777);
    let default_mode = mode(&source["defaultMode"]).unwrap_or(0o644);
    let Some(object) = store.get(resource, namespace, from)? else {
        if optional {
            return Ok(Vec::new());
        }
        let kind = resource.kind.to_lowercase();
        let what = format!("MountVolume.SetUp failed for volume \"{name}\" : {kind} \"{from}\" not found");
        return Err(MountError::Refused(what));
    };
    let contents = contents(&object);
    let items = meta::items(source, "/items");
    if items.is_empty() {
        return Ok(contents.into_iter().map(|(key, bytes)| (key, bytes, default_mode)).collect());
    }
    let mut files = Vec::new();
    for item in items {
        let key = meta::text(item, "/key");
        match contents.get(key) {
            Some(bytes) => {
                let mode = mode(&item["mode"]).unwrap_or(default_mode);
                files.push((meta::text(item, "/path").to_owned(), bytes.clone(), mode));
            }
            None if optional => {}
            None => {
                let what = format!(
                    "MountVolume.SetUp failed for volume \"{name}\" : references non-existent config key: {key}"
                );
                return Err(MountError::Refused(what));
            }
        }
    }
    Ok(files)
}

/// Returns all that a ConfigMap or a Secret holds.
pub(super) fn contents(object: &Value) -> BTreeMap<String, Vec<u8>> {
    let is_secret = object["kind"] == "Secret";
    let decode = |text: &str| BASE64_STANDARD.decode(text).unwrap_or_default();
    let plain = meta::strings(object, "/data")
        .into_iter()
        .map(|(key, text)| (key.to_owned(), if is_secret { decode(text) } else { text.as_bytes().to_vec() }));
    let binary =
        meta::strings(object, "/binaryData").into_iter().map(|(key, text)| (key.to_owned(), decode(text)));
    plain.chain(binary).collect()
}

fn place_files(files: &[(String, Vec<u8>, u32)], path: &Path, sub_path: &str) -> io::Result<()> {
    if sub_path.is_empty() {
        create_private_folder(path)?;
        for (name, bytes, mode) in files {
            let file = inside(path, name);
            make_parents(path, &file)?;
            write_with_mode(&file, bytes, *mode)?;
        }
        return Ok(());
    }
    let found = files.iter().find(|(name, ..)| name == sub_path);
    let (_, bytes, mode) =
        found.ok_or_else(|| io::Error::other(format!("no file {sub_path} in the volume")))?;
    write_with_mode(path, bytes, *mode)
}

fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // A file without the right to write can't be opened again.
    remove_file(path)?;
    fs::write(path, bytes)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn refused(path: &Path, error: &io::Error) -> MountError {
    MountError::Refused(format!("cannot set up {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_path_never_leaves_its_root() {
        let check = |path: &str, expected: &str| {
            assert_eq!(inside(Path::new("/r"), path), Path::new(expected), "{path}");
        };
        check("/app/data", "/r/app/data");
        check("app/./data/", "/r/app/data");
        check("/app/../etc", "/r/etc");
        check("../../etc/passwd", "/r/etc/passwd");
        check("/..", "/r");
        check("", "/r");
    }

    #[test]
    fn only_folders_of_pods_are_taken_for_such() {
        assert!(is_id("0123abcd-ef01"));
        for name in ["configmaps", "0123abcd-ef0", "0123abcdxef01", "", "0123abcd-ef01-"] {
            assert!(!is_id(name), "{name}");
        }
    }
}
