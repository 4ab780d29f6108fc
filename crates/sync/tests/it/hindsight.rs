//! What is known of a pair when it does not run, and the way back.

use std::fs;
use std::os::unix::fs::symlink;

use towline_sync::{Loss, UndoPlace, Undone, Verdict, Why, discarded, explain, keep_folder};
use towline_sync_core::engine::{Side, SyncEvent};

use crate::scene::Scene;

#[tokio::test]
async fn a_conflict_is_listed_with_whose_bytes_lost() {
    let scene = Scene::new();
    scene.write(&[("here/a", "1")]);
    scene.sync().await;
    scene.write(&[("here/a", "mine"), ("there/a", "theirs")]);
    scene.sync().await;
    let conflicts = scene.known().conflicts();
    let found: Vec<_> = conflicts.iter().map(|kept| (kept.path.as_str(), kept.lost, kept.why)).collect();
    assert_eq!(found, [("a", Side::Remote, Loss::Conflict)]);
    assert_eq!(fs::read_to_string(&conflicts[0].kept).unwrap(), "theirs");

    // A folder wins over a file: here it is the local side that loses.
    scene.write(&[("here/b", "mine"), ("there/b/c", "theirs")]);
    scene.sync().await;
    let conflicts = scene.known().conflicts();
    assert_eq!((conflicts[0].path.as_str(), conflicts[0].lost), ("b", Side::Local));
    assert_eq!(fs::read_to_string(&conflicts[0].kept).unwrap(), "mine");
}

#[tokio::test]
async fn what_sync_replaced_and_deleted_comes_back() {
    let scene = Scene::new();
    scene.write(&[("here/d/a", "old a"), ("here/b", "old b"), ("here/c", "c")]);
    scene.sync().await;
    scene.write(&[("there/b", "new b")]);
    fs::remove_dir_all(scene.there().join("d")).unwrap();
    scene.sync().await;
    assert!(!scene.here().join("d").exists());
    let all = discarded(&keep_folder(&scene.state()));
    let mut found: Vec<_> = all.iter().map(|gone| (gone.path.as_str(), gone.why)).collect();
    found.sort_by_key(|(path, _)| *path);
    assert_eq!(found, [("b", Why::Replaced), ("d/a", Why::Deleted)]);
    let place = UndoPlace { root: scene.here(), side: Side::Local, state: scene.state() };
    for gone in &all {
        assert!(matches!(place.undo(gone).unwrap(), Undone::Restored { .. }));
    }
    assert_eq!(fs::read_to_string(scene.here().join("d/a")).unwrap(), "old a");
    assert_eq!(fs::read_to_string(scene.here().join("b")).unwrap(), "old b");

    // It is an edit like any other for the next sync, and what stood there is still to be had.
    scene.sync().await;
    assert_eq!(fs::read_to_string(scene.there().join("b")).unwrap(), "old b");
    assert_eq!(fs::read_to_string(scene.there().join("d/a")).unwrap(), "old a");
    let kept = scene.known().conflicts();
    assert_eq!((kept[0].path.as_str(), kept[0].why), ("b", Loss::Undo));
    assert_eq!(fs::read_to_string(&kept[0].kept).unwrap(), "new b");
}

#[tokio::test]
async fn each_path_has_its_reason() {
    let mut scene = Scene::new();
    scene.ignore = vec!["*.log".to_owned(), "/target".to_owned()];
    scene.write(&[("here/a", "1"), ("here/x.log", "noise"), ("here/target/deep/file", "made")]);
    symlink("/etc/hostname", scene.here().join("outside")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, scene.here().join("pipe"), rustix::fs::Mode::RWXU).unwrap();
    let events = scene.sync().await;
    let messages: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            SyncEvent::Problem { path, message } => Some((path.as_str(), message.as_str())),
            _ => None,
        })
        .collect();
    // The command line knows these two by their words.
    let expected = [
        ("outside", "the symbolic link can lead outside the folder"),
        ("pipe", "devices, sockets and named pipes are not synced"),
    ];
    assert_eq!(messages, expected);

    let pair = scene.known();
    let verdict = |path: &str| explain(&pair, path).unwrap().verdict;
    let by = |path: &str, line: u32, pattern: &str| match verdict(path) {
        Verdict::Ignored { by, rule: Some(rule) } => {
            assert_eq!((rule.line, rule.pattern.as_str()), (line, pattern), "{path}");
            by.to_string()
        }
        other => panic!("{path}: {other:?}"),
    };
    assert_eq!(by("x.log", 1, "*.log"), "x.log");
    assert_eq!(by("target/deep/file", 2, "/target"), "target");
    assert_eq!(verdict(""), Verdict::Root);
    assert_eq!(verdict("a"), Verdict::InSync);
    assert_eq!(verdict("b"), Verdict::Missing);
    assert_eq!(verdict(".towline-stage/x"), Verdict::Private);
    assert!(matches!(verdict(".stfolder"), Verdict::Ignored { rule: None, .. }));
    assert!(matches!(verdict("a/../b"), Verdict::Impossible(_)));
    assert!(matches!(verdict("pipe"), Verdict::Problem { path, .. } if path == "pipe"));
    assert!(matches!(verdict("outside/below"), Verdict::Problem { path, .. } if path == "outside"));
    assert!(explain(&pair, ".git/config").unwrap().notes[0].contains("version control"));

    scene.write(&[("here/a", "2"), ("there/new", "3")]);
    let waits = |path: &str| match verdict(path) {
        Verdict::Waiting(why) => why,
        other => panic!("{path}: {other:?}"),
    };
    assert_eq!(waits("a"), "it was changed here since both sides last agreed");
    assert_eq!(waits("new"), "it was made there since both sides last agreed");
    fs::remove_file(scene.here().join("a")).unwrap();
    assert_eq!(waits("a"), "it was deleted here since both sides last agreed");
    assert_eq!(pair.holder(), None);
}

#[tokio::test]
async fn a_damaged_base_deletes_nothing() {
    let scene = Scene::new();
    scene.write(&[("here/a", "1"), ("here/b", "2")]);
    scene.sync().await;
    fs::remove_file(scene.there().join("a")).unwrap();
    fs::write(scene.state().join("base"), [1; 64]).unwrap();
    assert!(towline_sync::Pair::open(scene.options()).unwrap().began_anew().is_some());
    scene.sync().await;
    assert_eq!(fs::read_to_string(scene.here().join("a")).unwrap(), "1");
    assert_eq!(fs::read_to_string(scene.there().join("a")).unwrap(), "1");
}
