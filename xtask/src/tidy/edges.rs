//! The map of the packages: an arrow that is not drawn here does not exist, and one that is does.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Finding;
use super::rules::{PURE, YAML};

/// Every arrow between the crates, from the top down.
const MAP: &[(&str, &[&str])] = &[
    (
        "cli",
        &[
            "towline-cluster",
            "towline-link",
            "towline-manifest",
            "towline-patcher",
            "towline-protocol",
            "towline-session",
            "towline-sync",
            "towline-sync-core",
        ],
    ),
    (
        "towline-session",
        &[
            "towline-cluster",
            "towline-ignore",
            "towline-link",
            "towline-manifest",
            "towline-patcher",
            "towline-protocol",
            "towline-sync",
            "towline-sync-core",
            "towline-wire",
        ],
    ),
    (
        "towline-sync",
        &["towline-ignore", "towline-link", "towline-protocol", "towline-sync-core", "towline-sync-fs"],
    ),
    ("towline-agent", &["towline-link", "towline-protocol", "towline-sync-core", "towline-sync-fs"]),
    ("towline-cluster", &["towline-protocol"]),
    ("towline-link", &["towline-protocol", "towline-wire"]),
    ("towline-sync-fs", &["towline-ignore", "towline-sync-core"]),
    ("towline-patcher", &["towline-protocol"]),
    ("towline-manifest", &[]),
    ("towline-ignore", &[]),
    ("towline-sync-core", &[]),
    ("towline-wire", &[]),
    ("towline-protocol", &[]),
];
/// Arrows of tests alone: the engine is simulated with the wire it speaks through.
const IN_TESTS: &[(&str, &str)] = &[("towline-sync-core", "towline-wire")];
/// What serves the others: nothing of the map leads here, but for `testkit` in tests.
const SUPPORT: &[&str] = &["towline-testkit", "benches", "e2e", "xtask", "hello"];
const TESTKIT: &str = "towline-testkit";
/// What would make a pure crate impure by itself.
const IMPURE: &[&str] =
    &["tokio", "tokio-util", "kube", "k8s-openapi", "rustix", "notify", "futures", "tracing"];

/// Checks the packages of `cargo metadata --no-deps`; `read` returns a file's text.
pub(super) fn check(metadata: &Value, read: &dyn Fn(&str) -> String) -> Vec<Finding> {
    let mut findings = Vec::new();
    let root = metadata["workspace_root"].as_str().unwrap_or_default();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let file = package["manifest_path"].as_str().unwrap_or_default();
        let text = read(file);
        let short = file.strip_prefix(root).unwrap_or(file).trim_start_matches('/');
        let mut say = |word: &str, message: String| {
            let line = text.lines().position(|line| line.starts_with(word)).map_or(1, |number| number + 1);
            findings.push(Finding::new(short, line, message));
        };
        let drawn = MAP.iter().find(|(from, _)| *from == name).map(|(_, to)| *to);
        if drawn.is_none() && !SUPPORT.contains(&name) {
            say("name", format!("package {name} is not on the map"));
        }
        let mut found = BTreeSet::new();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = dependency["name"].as_str().unwrap_or_default();
            let in_tests = dependency["kind"] == "dev";
            let ours = dependency["path"].is_string();
            let pure = PURE.iter().any(|pure| name.strip_prefix("towline-") == Some(pure));
            if ours && !in_tests {
                found.insert(to);
            }
            match drawn {
                Some(drawn)
                    if ours
                        && !drawn.contains(&to)
                        && !(in_tests && (to == TESTKIT || IN_TESTS.contains(&(name, to)))) =>
                {
                    say(to, format!("the arrow from {name} to {to} is not on the map"));
                }
                None if ours && SUPPORT.contains(&to) && to != TESTKIT => {
                    say(to, format!("nothing leads to {to}, not even from {name}"));
                }
                _ => {}
            }
            if pure && !in_tests && IMPURE.contains(&to) {
                say(to, format!("{name} is pure and can't use {to}"));
            }
            if !in_tests && name != "towline-manifest" && YAML.contains(&to.replace('-', "_").as_str()) {
                say(to, format!("only towline-manifest reads YAML, and {name} has {to}"));
            }
        }
        for to in drawn.into_iter().flatten().filter(|to| !found.contains(*to)) {
            say("[dependencies]", format!("the arrow from {name} to {to} is on the map only"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A workspace of one package with these dependencies: name, kind, whether it is ours.
    fn findings(name: &str, dependencies: &[(&str, Option<&str>, bool)]) -> Vec<String> {
        let dependencies: Vec<Value> = dependencies
            .iter()
            .map(|(name, kind, ours)| json!({"name": name, "kind": kind, "path": ours.then_some("p")}))
            .collect();
        let metadata = json!({
            "workspace_root": "/w",
            "packages": [{"name": name, "manifest_path": "/w/a/Cargo.toml", "dependencies": dependencies}],
        });
        let text = "[package]\nname = \"a\"\n[dependencies]\ntowline-wire = \"1\"\ntokio = \"1\"\nserde-saphyr = \"1\"\n";
        check(&metadata, &|_| text.to_owned()).iter().map(ToString::to_string).collect()
    }

    fn expect(name: &str, dependencies: &[(&str, Option<&str>, bool)], wanted: &[&str]) {
        let found = findings(name, dependencies);
        assert_eq!(found.len(), wanted.len(), "{found:?}");
        for (found, part) in found.iter().zip(wanted) {
            assert!(found.contains(part), "{found:?}");
        }
    }

    #[test]
    fn arrows_are_those_of_the_map() {
        let link = [("towline-protocol", None, true), ("towline-wire", None, true)];
        expect("towline-link", &link, &[]);
        expect(
            "towline-link",
            &link[..1],
            &["a/Cargo.toml:3: the arrow from towline-link to towline-wire is on the map only"],
        );
        expect(
            "towline-ignore",
            &[("towline-wire", None, true)],
            &["a/Cargo.toml:4: the arrow from towline-ignore to"],
        );
        expect("towline-ignore", &[("towline-wire", Some("dev"), true)], &["not on the map"]);
        expect("towline-ignore", &[("towline-testkit", Some("dev"), true)], &[]);
        expect("towline-ignore", &[("towline-testkit", None, true)], &["not on the map"]);
    }

    #[test]
    fn new_packages_are_drawn_first() {
        expect("towline-new", &[], &["a/Cargo.toml:2: package towline-new is not on the map"]);
    }

    #[test]
    fn nothing_leads_to_what_serves() {
        expect("e2e", &[("towline-wire", None, true), ("towline-testkit", None, true)], &[]);
        expect("e2e", &[("xtask", None, true)], &["nothing leads to xtask"]);
    }

    #[test]
    fn pure_crates_need_nothing_impure() {
        expect("towline-wire", &[("tokio", None, false)], &["a/Cargo.toml:5: towline-wire is pure"]);
        expect("towline-wire", &[("tokio", Some("dev"), false)], &[]);
    }

    #[test]
    fn one_crate_reads_yaml() {
        expect("towline-manifest", &[("serde-saphyr", None, false)], &[]);
        expect(
            "xtask",
            &[("serde-saphyr", None, false)],
            &["a/Cargo.toml:6: only towline-manifest reads YAML"],
        );
        expect("xtask", &[("serde_yaml", Some("dev"), false)], &[]);
    }

    #[test]
    fn arrows_point_down() {
        for (number, (from, drawn)) in MAP.iter().enumerate() {
            for to in *drawn {
                assert!(MAP[number..].iter().any(|(below, _)| below == to), "{from} to {to}");
            }
        }
    }
}
