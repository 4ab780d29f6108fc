//! `undo`, `conflicts` and `explain`.

use std::fs;

use insta::assert_snapshot;

use super::scene::Scene;

/// A pair in which DST has replaced, deleted and lost something.
fn with_a_past() -> Scene {
    let mut scene = Scene::new();
    scene.env.write("src/.stignore", "# noise\n*.log\n").write("src/x.log", "noise").write("src/c", "old\n");
    scene.sync(&["src", "dst"]);
    scene.env.write("src/a", "mine\n").write("dst/a", "theirs\n").write("dst/c", "new\n");
    fs::remove_file(scene.path("dst/d/b")).unwrap();
    scene.sync(&["src", "dst"]);
    let pair = fs::read_dir(scene.env.home().join("sync")).unwrap().next().unwrap().unwrap().file_name();
    scene.env.hide(&pair.to_string_lossy(), "[PAIR]");
    scene
}

#[test]
fn conflicts_are_listed() {
    let scene = with_a_past();
    assert_snapshot!(scene.sync(&["conflicts"]), @"
    exit 0
    --- stdout
    [TEMP]/project/src/a
      [TIME] the version of [TEMP]/project/dst lost a conflict
      kept as [TEMP]/home/sync/[PAIR]/keep/conflicts/f9a976046bdea801-a
    --- stderr
    to take one of these: copy it over the path; to be rid of it: remove the file
    ");
    assert!(scene.sync(&["conflicts", "dst/a"]).contains("lost a conflict"));
    assert!(scene.sync(&["conflicts", "src/d"]).contains("there is no conflict"));
    assert_snapshot!(scene.sync(&["conflicts", "src", "--output", "json"]), @r#"
    exit 0
    --- stdout
    {"at":"[TIME]","kept":"[TEMP]/home/sync/[PAIR]/keep/conflicts/f9a976046bdea801-a","kind":"conflictKept","local":"[TEMP]/project/src","lost":"remote","path":"a","remote":"[TEMP]/project/dst","time":"[TIME]","version":1,"why":"conflict"}
    "#);
}

#[test]
fn what_went_comes_back() {
    let scene = with_a_past();
    assert_snapshot!(scene.sync(&["undo", "src/d"]), @"
    exit 0
    --- stderr
    [TEMP]/project/src/d/b is back
    ");
    assert_eq!(scene.read("src/d/b"), "two\n");
    let report = scene.sync(&["undo", "src/c", "--output", "json"]);
    assert!(
        report.contains("\"result\":\"restored\"") && report.contains("\"displaced\":\"[TEMP]"),
        "{report}"
    );
    assert_eq!(scene.read("src/c"), "old\n");
    let report = scene.sync(&["undo", "--list", "src"]);
    assert!(report.contains("src/c\n  [TIME] replaced: 4 B, kept as"), "{report}");
    let report = scene.sync(&["undo", "src/x.log"]);
    assert!(report.starts_with("exit 1\n") && report.contains("is kept of src/x.log"), "{report}");
    let report = scene.sync(&["undo", "/usr/bin"]);
    assert!(
        report.starts_with("exit 1\n") && report.contains("lies in no folder that was synced"),
        "{report}"
    );

    // The next sync brings it to the other side like any edit.
    assert!(scene.sync(&["src", "dst"]).starts_with("exit 0\n"));
    assert_eq!((scene.read("dst/d/b"), scene.read("dst/c")), ("two\n".to_owned(), "old\n".to_owned()));
    // DST is a folder of this machine too, and keeps what it had.
    let report = scene.sync(&["undo", "dst/c"]);
    assert!(report.contains("dst/c is as it was"), "{report}");
    assert_eq!(scene.read("dst/c"), "new\n");
}

#[test]
fn what_was_deleted_here_is_kept_as_the_other_side_had_it() {
    let scene = with_a_past();
    fs::remove_file(scene.path("src/c")).unwrap();
    scene.sync(&["src", "dst"]);
    assert!(!scene.path("dst/c").exists());
    let report = scene.sync(&["undo", "--list", "src"]);
    assert!(report.contains("project/dst/c\n  [TIME] deleted: 4 B, kept as"), "{report}");
    let mut command = scene.env.command(&["sync", "undo", "--list"]);
    let output = command.current_dir(scene.path("src")).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("dst/c\n"), "{output:?}");

    // Something is kept of this path on both sides; what nothing is kept of here comes back there.
    fs::remove_file(scene.path("src/a")).unwrap();
    scene.sync(&["src", "dst"]);
    let report = scene.sync(&["undo", "src/a"]);
    assert!(report.contains("project/dst/a is back"), "{report}");
    scene.sync(&["src", "dst"]);
    assert_eq!(scene.read("src/a"), "mine\n");
}

#[test]
fn the_last_sync_is_undone_as_a_whole() {
    let scene = with_a_past();
    let mut command = scene.env.command(&["sync", "undo"]);
    let output = command.current_dir(scene.path("src")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!((scene.read("src/d/b"), scene.read("src/c")), ("two\n".to_owned(), "old\n".to_owned()));
    assert_eq!(scene.read("src/a"), "mine\n", "what did not go is not touched");
}

#[test]
fn each_path_has_its_reason() {
    let scene = with_a_past();
    assert_snapshot!(scene.sync(&["explain", "src/x.log", "dst/a"]), @"
    exit 0
    --- stdout
    [TEMP]/project/src/x.log
      [TEMP]/project/src ↔ [TEMP]/project/dst
      it is ignored: .stignore, line 2, says *.log of x.log
      nothing syncs it now; it was begun last at [TIME]
    [TEMP]/project/dst/a
      [TEMP]/project/src ↔ [TEMP]/project/dst
      it is what both sides last agreed on
      [TIME] a version that lost is kept as [TEMP]/home/sync/[PAIR]/keep/conflicts/f9a976046bdea801-a
      nothing syncs it now; it was begun last at [TIME]
    ");
    let report = scene.sync(&["explain", "src/x.log", "--output", "json"]);
    assert!(report.contains(r#""rule":{"file":".stignore","line":2,"pattern":"*.log"}"#), "{report}");
    scene.env.write("src/a", "edited\n");
    let report = scene.sync(&["explain", "src/a"]);
    assert!(report.contains("it was changed here since both sides last agreed"), "{report}");
    let report = scene.sync(&["explain", "/usr"]);
    assert!(report.starts_with("exit 1\n"), "{report}");
    assert!(scene.sync(&["explain"]).starts_with("exit 2\n"));
}
