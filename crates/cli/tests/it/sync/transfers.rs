//! What is done, and what would be.

use std::fs;

use insta::assert_snapshot;
use serde_json::Value;

use super::scene::Scene;

/// The last line of the standard output of a run, as JSON.
fn last_json(report: &str) -> Value {
    let line = report.lines().take_while(|line| *line != "--- stderr").last().unwrap();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {report}"))
}

#[test]
fn two_folders_are_made_equal() {
    let scene = Scene::new();
    assert_snapshot!(scene.sync(&["src", "dst"]), @"
    exit 0
    --- stderr
    looking through [TEMP]/project/src and [TEMP]/project/dst
    in sync: 3 paths brought over, 0 deleted, 8 B, [SECONDS]
    ");
    assert_eq!(scene.read("dst/d/b"), "two\n");
    fs::remove_file(scene.path("dst/a")).unwrap();
    scene.env.write("dst/new", "three\n");
    assert_snapshot!(scene.sync(&["src", "dst"]), @"
    exit 0
    --- stderr
    looking through [TEMP]/project/src and [TEMP]/project/dst
    in sync: 1 path brought over, 1 deleted, 6 B, [SECONDS]
    ");
    assert!(!scene.path("src/a").exists());
    assert_eq!(scene.read("src/new"), "three\n");
    assert_snapshot!(scene.sync(&["src", "dst"]), @"
    exit 0
    --- stderr
    looking through [TEMP]/project/src and [TEMP]/project/dst
    in sync, nothing was to be done, [SECONDS]
    ");
}

#[test]
fn an_agent_is_the_other_end() {
    let scene = Scene::new();
    for (far, compress) in [("far", None), ("far-packed", Some("--compress"))] {
        let to = format!("towline-agent serve --root {far}");
        scene.env.write("src/long", &"the same line again\n".repeat(10_000));
        let arguments: Vec<_> = ["src", "--to", &to, "--stats"].into_iter().chain(compress).collect();
        let report = scene.sync(&arguments);
        assert!(report.starts_with("exit 0\n"), "{report}");
        let stats = last_json(&report);
        assert_eq!(stats["kind"], "stats");
        assert_eq!(scene.read(&format!("{far}/long")), scene.read("src/long"));
        let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{stats}"));
        let (sent, plain) =
            (number(&stats["wire"]["sentBytes"]), number(&stats["wire"]["sentBytesUnpacked"]));
        assert!(plain > 200_000.0, "{stats}");
        // The first of what is sent is packed in any case.
        assert!(sent < 100_000.0, "{stats}");
        assert!(
            number(&stats["remote"]["peakKibibytes"]) > 0.0 && number(&stats["seconds"]) > 0.0,
            "{stats}"
        );
    }
}

#[test]
fn packing_knows_what_an_earlier_file_held() {
    let scene = Scene::new();
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b"0123456789abcdef"[usize::try_from(state >> 60).unwrap()]
    })
    .take(90_000)
    .collect();
    let noise = String::from_utf8(noise).unwrap();
    for name in ["1", "2", "3", "4", "5"] {
        scene.env.write(&format!("src/{name}"), &format!("{name}{noise}"));
    }
    let report = scene.sync(&["src", "--to", "towline-agent serve --root far", "--stats", "--compress"]);
    let sent = last_json(&report)["wire"]["sentBytes"].as_f64().unwrap();
    assert!(sent < 90_000.0, "{sent} bytes for half of 90,000, once: {report}");
}

#[test]
fn an_edit_of_a_large_file_is_sent_as_a_difference() {
    let scene = Scene::new();
    let lines: Vec<_> = (0..100_000).map(|n| format!("line {n}\n")).collect();
    let mut text = lines.concat();
    scene.env.write("src/large", &text);
    let arguments = ["src", "--to", "towline-agent serve --root far", "--stats"];
    scene.sync(&arguments);
    text.insert_str(500_000, "one more\n");
    scene.env.write("src/large", &text);
    let stats = last_json(&scene.sync(&arguments));
    assert_eq!(scene.read("far/large"), text);
    assert_eq!(stats["delta"]["files"], 1, "{stats}");
    assert!(stats["delta"]["savedBytes"].as_u64().unwrap() > 900_000, "{stats}");
    assert!(stats["wire"]["sentBytes"].as_u64().unwrap() < 100_000, "{stats}");
}

#[test]
fn what_would_be_done_is_said_and_not_done() {
    let scene = Scene::new();
    assert_snapshot!(scene.sync(&["src", "dst", "--dry-run"]), @"
    exit 0
    --- stdout
    create   remote a
    create   remote d/
    create   remote d/b
    --- stderr
    looking through [TEMP]/project/src and [TEMP]/project/dst
    in [TEMP]/project/dst: 3 × create
    8 B of content; nothing was done
    ");
    assert!(!scene.path("dst").exists());
    scene.sync(&["src", "dst"]);
    scene.env.write("src/a", "mine\n").write("dst/a", "theirs\n").write("dst/d/b", "changed there\n");
    scene.env.write("src/new", "n\n");
    let touched =
        || ["src", "dst", "dst/d"].map(|path| fs::metadata(scene.path(path)).unwrap().modified().unwrap());
    let before = touched();
    assert_snapshot!(scene.sync(&["src", "dst", "--dry-run", "--output", "json"]), @r#"
    exit 0
    --- stdout
    {"action":"conflict","kind":"planned","path":"a","size":5,"time":"[TIME]","to":"remote","type":"file","version":1}
    {"action":"create","kind":"planned","path":"new","size":2,"time":"[TIME]","to":"remote","type":"file","version":1}
    {"action":"update","kind":"planned","path":"d/b","size":14,"time":"[TIME]","to":"local","type":"file","version":1}
    {"bytes":21,"halted":[],"kind":"plannedTotal","local":{"conflict":0,"create":0,"delete":0,"update":1},"remote":{"conflict":1,"create":1,"delete":0,"update":0},"time":"[TIME]","version":1}
    "#);
    assert_eq!(scene.read("dst/a"), "theirs\n");
    // Through an agent it is the same, and its folder is not made.
    let report = scene.sync(&["src", "--to", "towline-agent serve --root far", "--dry-run"]);
    assert!(report.starts_with("exit 0\n") && report.contains("create   remote d/b\n"), "{report}");
    assert!(!scene.path("far").exists());
    let report = scene.sync(&["src", "--to", "towline-agent serve --root dst", "--dry-run"]);
    assert!(report.starts_with("exit 0\n"), "{report}");
    assert_eq!(touched(), before, "nothing was put there, not for a moment either");
}

#[test]
fn so_many_deletions_are_asked_about() {
    let scene = Scene::new();
    scene.sync(&["src", "dst"]);
    fs::remove_file(scene.path("dst/a")).unwrap();
    fs::remove_dir_all(scene.path("dst/d")).unwrap();
    let report = scene.sync(&["src", "dst", "--dry-run"]);
    assert!(report.starts_with("exit 4\n"), "{report}");
    let report = scene.sync(&["src", "dst"]);
    assert!(report.starts_with("exit 4\n") && report.contains("--approve-deletions"), "{report}");
    assert_eq!(scene.read("src/a"), "one\n");
    let report = scene.sync(&["src", "dst", "--approve-deletions"]);
    assert!(report.starts_with("exit 0\n"), "{report}");
    assert!(!scene.path("src/a").exists());
}

#[test]
fn our_own_files_are_not_synced() {
    let mut scene = Scene::new();
    let home = scene.path("src/.state");
    fs::DirBuilder::new().create(&home).unwrap();
    fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    scene.env.set("TOWLINE_HOME", &home.display().to_string());
    let report = scene.sync(&["src", "dst"]);
    assert!(report.starts_with("exit 0\n") && report.contains("holds Towline's own files"), "{report}");
    assert!(scene.path("dst/a").exists() && !scene.path("dst/.state").exists());
}
