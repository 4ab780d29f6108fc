//! Reads `sync`, and the other fields that pair a local path with a remote one.

use std::{collections::BTreeMap, time::Duration};

use super::{SecretFile, Sync, SyncFolder};
use crate::{
    disk::Kind,
    language::SYNC,
    problem::quoted,
    read::{At, Reader},
};

/// Where the default folder goes in the container.
const DEFAULT_REMOTE: &str = "/okteto";
const SECRET_MODE: u32 = 0o644;

/// Returns what `sync` says, with folders that the caller adds to or gives a default.
pub(super) fn sync(reader: &mut Reader<'_>, at: Option<&At<'_>>) -> Sync {
    let mut sync = Sync::default();
    let Some(at) = at else { return sync };
    if !at.is_mapping() {
        sync.compression = Some(true);
        sync.folders = folder_list(reader, at);
        return sync;
    }
    let Some(fields) = reader.fields(at, &SYNC) else { return sync };
    if let Some(at) = fields.get("folders") {
        sync.folders = folder_list(reader, at);
    }
    sync.compression = fields.get("compression").and_then(|at| reader.boolean(at));
    sync.verbose = fields.get("verbose").and_then(|at| reader.boolean(at)).unwrap_or(false);
    if let Some(at) = fields.get("rescanInterval") {
        let seconds = reader.integer(at, 1, 86_400).and_then(|seconds| u64::try_from(seconds).ok());
        sync.rescan_interval = seconds.map_or(sync.rescan_interval, Duration::from_secs);
    }
    sync
}

fn folder_list(reader: &mut Reader<'_>, at: &At<'_>) -> Vec<SyncFolder> {
    reader.list(at).iter().filter_map(|item| folder(reader, item)).collect()
}

/// Returns the folder that `local:remote` spells.
fn folder(reader: &mut Reader<'_>, at: &At<'_>) -> Option<SyncFolder> {
    let text = reader.expanded(at)?;
    pair(reader, at, &text)
}

fn pair(reader: &mut Reader<'_>, at: &At<'_>, text: &str) -> Option<SyncFolder> {
    let Some((local, remote)) = text.rsplit_once(':').filter(|(local, _)| !local.is_empty()) else {
        let hint = "write local:remote, such as .:/app".to_owned();
        reader.error(at, format!("expected local:remote, found {}", quoted(text)), hint);
        return None;
    };
    if local.starts_with('/') && !remote.starts_with('/') {
        let hint = format!("did you mean {remote}:{local}? this machine's folder comes first");
        reader.error(at, format!("the remote path {} is not absolute", quoted(remote)), hint);
        return None;
    }
    folder_of(reader, at, local, remote)
}

/// Returns the folder that is kept when the manifest names none: all of it, in the working directory.
pub(super) fn default_folder(
    reader: &mut Reader<'_>,
    at: &At<'_>,
    workdir: Option<&str>,
) -> Option<SyncFolder> {
    folder_of(reader, at, ".", workdir.unwrap_or(DEFAULT_REMOTE))
}

fn folder_of(reader: &mut Reader<'_>, at: &At<'_>, local: &str, remote: &str) -> Option<SyncFolder> {
    let remote = remote_path(reader, at, remote, "a folder in the container");
    let local = reader.local(at, local);
    match reader.disk.kind(&local) {
        Kind::Folder => {}
        Kind::File => {
            let hint = "name the folder that holds it".to_owned();
            reader.error(at, format!("{} is a file; only folders are synced", shown(&local)), hint);
        }
        Kind::Missing => {
            let hint = "create it, or correct the path before the colon".to_owned();
            reader.error(at, format!("the local folder {} does not exist", shown(&local)), hint);
        }
    }
    Some(SyncFolder { local, remote: remote?, place: at.place() })
}

/// Reports folders that are given twice, on either side.
pub(super) fn reject_repeated_folders(reader: &mut Reader<'_>, list: &[SyncFolder]) {
    let mut locals = BTreeMap::new();
    let mut remotes = BTreeMap::new();
    for folder in list {
        let first_local = locals.insert(&folder.local, &folder.place.path);
        let first_remote = remotes.insert(&folder.remote, &folder.place.path);
        let (what, first) = match (first_local, first_remote) {
            (Some(first), _) => (shown(&folder.local), first),
            (None, Some(first)) => (quoted(&folder.remote), first),
            (None, None) => continue,
        };
        let message = format!("{what} is synced twice: {first} has it already");
        reader.report(crate::Severity::Error, &folder.place.path, folder.place.span, message, None);
    }
}

/// Returns an absolute path in the container in its shortest spelling.
pub(super) fn remote_path(reader: &mut Reader<'_>, at: &At<'_>, text: &str, what: &str) -> Option<String> {
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let wrong = if !text.starts_with('/') {
        "is not absolute"
    } else if parts.is_empty() {
        "is the root of the container"
    } else if parts.contains(&"..") {
        "contains `..`"
    } else if text.contains('\0') {
        "contains a zero byte"
    } else {
        return Some(format!("/{}", parts.join("/")));
    };
    let hint = format!("{what} is named by a path such as /app");
    reader.error(at, format!("the remote path {} {wrong}", quoted(text)), hint);
    None
}

/// Returns the file that `local:remote[:mode]` spells.
pub(super) fn secret(reader: &mut Reader<'_>, at: &At<'_>) -> Option<SecretFile> {
    let text = reader.expanded(at)?;
    let (pair, mode) = match text.rsplit_once(':') {
        Some((pair, mode)) if !mode.is_empty() && mode.bytes().all(|byte| (b'0'..=b'7').contains(&byte)) => {
            (pair, u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o777))
        }
        _ => (text.as_str(), Some(SECRET_MODE)),
    };
    let (Some((local, remote)), Some(mode)) = (pair.rsplit_once(':'), mode) else {
        let hint = "write local:remote or local:remote:mode, such as token:/etc/token:400".to_owned();
        reader.error(at, format!("expected local:remote, found {}", quoted(&text)), hint);
        return None;
    };
    let remote = remote_path(reader, at, remote, "a file in the container");
    let local = reader.local(at, local);
    if reader.disk.kind(&local) != Kind::File {
        reader.error(at, format!("there is no file {}", shown(&local)), None);
    }
    Some(SecretFile { local, remote: remote?, mode })
}

/// Returns the paths of `volumes`; a `local:remote` there is an old spelling of a synced folder.
pub(super) fn volumes(reader: &mut Reader<'_>, at: &At<'_>, synced: &mut Vec<SyncFolder>) -> Vec<String> {
    let mut paths = Vec::new();
    for item in reader.list(at) {
        let Some(text) = reader.expanded(&item) else { continue };
        if text.contains(":/") {
            let hint = "write it under `sync`".to_owned();
            reader.warn(&item, "a local path in `volumes` is an old way to sync a folder", hint);
            synced.extend(pair(reader, &item, &text));
        } else {
            paths.extend(remote_path(reader, &item, &text, "a volume"));
        }
    }
    paths
}

fn shown(path: &std::path::Path) -> String {
    quoted(&path.to_string_lossy())
}
