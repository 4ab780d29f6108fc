//! Okteto's own answers to a corpus of manifests, and where ours differ on purpose.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use crate::disk::{lines, read};

/// Why our answer to a manifest isn't the one of Okteto's parser.
const DIFFERENCES: [(&str, bool, &str); 8] = [
    (
        "39-volume-local.yml",
        true,
        "the old spelling of a synced folder doesn't add the default one beside it",
    ),
    (
        "42-sync-root.yml",
        false,
        "no container can be synced at its root; Okteto finds out only in its picker",
    ),
    ("43-sync-rel.yml", false, "a relative remote path has no meaning; Okteto finds out only in its picker"),
    (
        "45-sync-missing.yml",
        false,
        "a folder that is missing can't be synced; Okteto finds out in its picker",
    ),
    ("50-ipp.yml", false, "Kubernetes would refuse the pull policy; Okteto finds out only in its picker"),
    ("51-nonroot-root.yml", false, "the kubelet would refuse the pod; Okteto finds out only in its picker"),
    ("59-tolerations-aff.yml", true, "`tolerationSeconds` is a field of Kubernetes that Okteto can't parse"),
    ("69-build-null.yml", true, "the `build` section is kept as it is: it says nothing about development"),
];

fn expected() -> Vec<Value> {
    let text = fs::read_to_string(folder().join("expected.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus"))
}

#[test]
fn every_manifest_is_accepted_or_refused_as_expected() {
    let differences: BTreeMap<_, _> =
        DIFFERENCES.iter().map(|(file, accepted, _)| (*file, *accepted)).collect();
    let mut wrong = String::new();
    for row in expected() {
        let file = row["file"].as_str().unwrap();
        let parsed = read(&fs::read_to_string(folder().join(file)).unwrap());
        let theirs = row["accepted"].as_bool().unwrap();
        let ours = !parsed.problems.has_errors();
        let wanted = differences.get(file).copied().unwrap_or(theirs);
        if ours != wanted {
            wrong += &format!("{file}: accepted is {ours}, should be {wanted}\n{}", lines(&parsed));
        }
        let stays_different = differences.contains_key(file);
        // A difference is either from the parser's answer or from the check that Okteto rarely runs.
        let late = row["refused_when_used"].as_bool().unwrap();
        assert!(!stays_different || ours != theirs || late, "{file} is no difference any more");
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
        let parsed = read(&fs::read_to_string(folder().join(file)).unwrap());
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
