//! Okteto's own answers to a corpus of manifests, and where ours differ on purpose.
//!
//! For each manifest the corpus says what Okteto's parser and its schema answer, and whether a check that only its
//! picker of dev services makes refuses it (`late`). What either of the first two accepts, we accept, but for what would
//! make no sense.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use crate::disk::{lines, read};

/// Where our answer is not the one of Okteto's parser or of its schema, and why.
const DIFFERENCES: [(&str, bool, &str); 7] = [
    ("35-dup-key.yml", false, "a key that is given twice means one of two things"),
    ("37-v1.yml", true, "older projects are written like this"),
    ("42-sync-root.yml", false, "no container can be synced at its root"),
    ("43-sync-rel.yml", false, "a relative path in the container has no meaning"),
    ("45-sync-missing.yml", false, "a folder that is not there can't be synced"),
    ("50-ipp.yml", false, "Kubernetes would refuse the pull policy"),
    ("51-nonroot-root.yml", false, "the kubelet would refuse the pod"),
];

/// What Okteto's late check refuses and we don't, and why.
const LATE: [(&str, &str); 3] = [
    ("39-volume-local.yml", "the old spelling of a synced folder doesn't add the default one beside it"),
    ("46-sub-nopv.yml", "no volume is needed for folders inside others"),
    ("49-secrets-dup.yml", "files are not told apart by the last part of their names"),
];

pub(crate) fn expected() -> Vec<Value> {
    let text = fs::read_to_string(folder().join("expected.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus"))
}

/// Returns the text of a manifest of the corpus.
pub(crate) fn text(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap()
}

#[test]
fn every_manifest_is_accepted_or_refused_as_expected() {
    let differences: BTreeMap<_, _> =
        DIFFERENCES.iter().map(|(file, accepted, _)| (*file, *accepted)).collect();
    let mut wrong = String::new();
    for row in expected() {
        let file = row["file"].as_str().unwrap();
        let parsed = read(&text(file));
        let either = row["parser"].as_bool().unwrap() || row["schema"].as_bool().unwrap();
        let ours = !parsed.problems.has_errors();
        let wanted = differences.get(file).copied().unwrap_or(either);
        if ours != wanted {
            wrong += &format!("{file}: accepted is {ours}, should be {wanted}\n{}", lines(&parsed));
        }
        assert!(!differences.contains_key(file) || wanted != either, "{file} is no difference any more");
        let late = row["late"].as_bool().unwrap();
        let known = LATE.iter().any(|(name, _)| *name == file);
        assert_eq!(known, late && ours, "{file}: accepted though it is refused late");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_both_accept_means_the_same() {
    for row in expected() {
        let file = row["file"].as_str().unwrap();
        if row.get("sync").is_none() || file == "39-volume-local.yml" {
            continue;
        }
        let parsed = read(&text(file));
        if parsed.problems.has_errors() {
            continue;
        }
        let manifest = parsed.manifest.unwrap();
        let dev = &manifest.dev["api"];
        let folders: Vec<[String; 2]> = dev
            .sync
            .folders
            .iter()
            .map(|folder| [folder.local.to_string_lossy().replace("/repo", "<dir>"), folder.remote.clone()])
            .collect();
        assert_eq!(serde_json::json!(folders), row["sync"], "{file}: sync");
        assert_eq!(serde_json::json!(dev.sync.rescan_interval.as_secs()), row["rescan"], "{file}: rescan");
        assert_eq!(
            serde_json::json!(dev.sync.compression.unwrap_or(false)),
            row["compression"],
            "{file}: compression"
        );
        assert_eq!(serde_json::json!(dev.sync.verbose), row["verbose"], "{file}: verbose");
        assert_eq!(serde_json::json!(dev.command), row["command"], "{file}: command");
        let environment: BTreeMap<_, _> =
            dev.environment.iter().map(|variable| (&variable.name, &variable.value)).collect();
        assert_eq!(serde_json::json!(environment), row["environment"], "{file}: environment");
        let timeout = [dev.timeout.default.as_secs(), dev.timeout.resources.as_secs()];
        assert_eq!(serde_json::json!(timeout), row["timeout"], "{file}: timeout");
    }
}

#[test]
fn what_is_printed_is_the_same_manifest() {
    for row in expected() {
        let file = row["file"].as_str().unwrap();
        let parsed = read(&text(file));
        if parsed.problems.has_errors() {
            continue;
        }
        let manifest = parsed.manifest.unwrap();
        let printed = manifest.to_yaml(Path::new("/repo/okteto.yml"));
        let again = read(&printed);
        assert!(!again.problems.has_errors(), "{file}\n{printed}\n{}", lines(&again));
        assert_eq!(again.manifest.as_ref(), Some(&manifest), "{file}\n{printed}");
        assert_eq!(again.manifest.unwrap().to_yaml(Path::new("/repo/okteto.yml")), printed, "{file}");
    }
}
