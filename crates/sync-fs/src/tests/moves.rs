//! Whole folders that are moved.

use std::fs;
use std::os::unix::fs::MetadataExt;

use towline_sync_core::message::{Content, Outcome, Reply, Request};
use towline_sync_core::snapshot::{Entry, Transition};

use super::live::Live;
use super::{Desk, file, lines, link, make, next_id, path};
use crate::hook::Moment;
use crate::options::ReplicaOptions;

/// What stands in every one of these roots: made by us, so that its stamps tell of every change.
const TREE: &[(&str, &str)] =
    &[("old/", ""), ("old/f", "f"), ("old/in/", ""), ("old/in/g", "g"), ("old/l", "->f")];
const MOVED: &[&str] = &["new/", "new/f f", "new/in/", "new/in/g g", "new/l -> f"];

fn desk(ignore: &[&str]) -> Desk {
    let mut desk = Desk::new(&[]).ignoring(ignore);
    for (at, content) in TREE {
        let at = at.strip_suffix('/');
        let outcome = match (at, content.strip_prefix("->")) {
            (Some(folder), _) => desk.apply(folder, None, Some(Entry::Directory), b""),
            (None, Some(target)) => desk.apply("old/l", None, Some(link(target)), b""),
            (None, None) => {
                let name = TREE.iter().find(|(_, text)| text == content).unwrap().0;
                desk.apply(name, None, Some(file(content.as_bytes())), content.as_bytes())
            }
        };
        assert_eq!(outcome, Outcome::Done);
    }
    desk
}

fn move_it(desk: &mut Desk) -> Option<Outcome> {
    desk.begin(next_id(), "new", None, Some(Entry::Directory), &Content::Moved { from: path("old") })
}

#[test]
fn a_folder_is_moved_whole() {
    let mut desk = desk(&[]);
    let inode = |desk: &Desk, at: &str| fs::metadata(desk.path().join(at)).unwrap().ino();
    let before = inode(&desk, "old/in/g");
    assert_eq!(move_it(&mut desk), Some(Outcome::Done));
    assert_eq!(lines(desk.path()), MOVED);
    assert_eq!(inode(&desk, "new/in/g"), before);
    let known: Vec<_> = desk.workspace().tree.known.iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(known, ["new", "new/f", "new/in", "new/in/g", "new/l"]);
    assert!(desk.workspace().take_suspects().is_empty() && desk.trash().is_empty());
    let rescan = desk.workspace().tree.rescan(&mut |_, _| Ok(())).unwrap();
    assert!(rescan.is_empty(), "{rescan:?}");
}

#[test]
fn a_folder_that_is_not_as_told_is_not_moved() {
    #[track_caller]
    fn check(ignore: &[&str], change: impl FnOnce(&Desk)) {
        let mut desk = desk(ignore);
        change(&desk);
        let before = lines(desk.path());
        assert!(!matches!(move_it(&mut desk), Some(Outcome::Done) | None));
        assert_eq!(lines(desk.path()), before);
    }
    check(&[], |desk| make(desk.path(), &["old/in/more m"]));
    check(&["*.log"], |desk| make(desk.path(), &["old/in/x.log ignored"]));
    check(&[], |desk| fs::write(desk.path().join("old/f"), "changed").unwrap());
    check(&[], |desk| fs::remove_file(desk.path().join("old/f")).unwrap());
    check(&[], |desk| fs::rename(desk.path().join("old/f"), desk.path().join("old/in/f")).unwrap());
    check(&[], |desk| fs::rename(desk.path().join("old"), desk.path().join("elsewhere")).unwrap());
    check(&[], |desk| make(desk.path(), &["new/"]));
    check(&[], |desk| make(desk.path(), &["new file"]));
    check(&["/new/in"], |_| ());
}

/// A root with two files made by us, one of which is to be moved.
fn with_file() -> Desk {
    let mut desk = Desk::new(&[]);
    for at in ["f", "g"] {
        assert_eq!(desk.apply(at, None, Some(file(at.as_bytes())), at.as_bytes()), Outcome::Done);
    }
    desk
}

fn move_file(desk: &mut Desk) -> Option<Outcome> {
    desk.begin(next_id(), "new", None, Some(file(b"f")), &Content::Moved { from: path("f") })
}

#[test]
fn a_file_is_moved() {
    let mut desk = with_file();
    let stat = |desk: &Desk, at: &str| {
        let it = fs::metadata(desk.path().join(at)).unwrap();
        (it.ino(), it.mtime(), it.mtime_nsec())
    };
    let before = stat(&desk, "f");
    assert_eq!(move_file(&mut desk), Some(Outcome::Done));
    assert_eq!(lines(desk.path()), ["g g", "new f"]);
    assert_eq!(stat(&desk, "new"), before);
    assert!(desk.workspace().take_suspects().is_empty() && desk.trash().is_empty());
    let rescan = desk.workspace().tree.rescan(&mut |_, _| Ok(())).unwrap();
    assert!(rescan.is_empty(), "{rescan:?}");
}

#[test]
fn a_file_that_is_not_as_told_is_not_moved() {
    #[track_caller]
    fn check(change: impl FnOnce(&Desk)) {
        let mut desk = with_file();
        change(&desk);
        let before = lines(desk.path());
        assert!(!matches!(move_file(&mut desk), Some(Outcome::Done) | None));
        assert_eq!(lines(desk.path()), before);
    }
    check(|desk| fs::write(desk.path().join("f"), "F").unwrap());
    check(|desk| fs::remove_file(desk.path().join("f")).unwrap());
    check(|desk| fs::rename(desk.path().join("g"), desk.path().join("f")).unwrap());
    check(|desk| {
        fs::remove_file(desk.path().join("f")).unwrap();
        make(desk.path(), &["f/in f"]);
    });
    check(|desk| make(desk.path(), &["new/"]));
    check(|desk| make(desk.path(), &["new file"]));
}

#[test]
fn a_file_that_is_written_at_the_last_moment_is_told_of() {
    let mut desk = with_file();
    let root = desk.path().to_owned();
    desk.hook(move |moment, _| {
        if moment == Moment::Checked {
            fs::write(root.join("f"), "late").unwrap();
        }
        Ok(())
    });
    assert_eq!(move_file(&mut desk), Some(Outcome::Done));
    assert_eq!(lines(desk.path()), ["g g", "new late"]);
    let suspects = desk.workspace().take_suspects();
    let changes = desk.workspace().tree.settle(&suspects).unwrap();
    let told: Vec<_> = changes.iter().map(|change| (change.path.as_str(), &change.entry)).collect();
    assert_eq!(told, [("new", &Some(file(b"late")))]);
}

#[test]
fn what_comes_in_at_the_last_moment_is_told_of() {
    let mut desk = desk(&[]);
    let root = desk.path().to_owned();
    desk.hook(move |moment, _| {
        if moment == Moment::Checked {
            make(&root, &["old/in/late l"]);
        }
        Ok(())
    });
    assert_eq!(move_it(&mut desk), Some(Outcome::Done));
    let suspects = desk.workspace().take_suspects();
    let changes = desk.workspace().tree.settle(&suspects).unwrap();
    let told: Vec<_> = changes.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(told, ["new", "new/in/late"]);
}

#[test]
fn a_moved_folder_is_watched_under_its_new_name() {
    let mut live = Live::new(&[], ReplicaOptions::default());
    let apply = |live: &mut Live, at: &str, content| {
        let transition = Transition { path: path(at), from: None, to: Some(Entry::Directory) };
        live.replica.request(Request::Apply { id: next_id(), transition, content });
    };
    apply(&mut live, "old", Content::None);
    apply(&mut live, "old/in", Content::None);
    live.wait(|reply| matches!(reply, Reply::Applied { .. }));
    live.wait(|reply| matches!(reply, Reply::Applied { .. }));
    // Both are watched when what is made in them is told.
    make(live.path(), &["old/in/f 1"]);
    live.wait_for("old/in/f", &file(b"1"));
    fs::remove_file(live.path().join("old/in/f")).unwrap();
    while live.mirror.contains_key("old/in/f") {
        live.wait(|reply| matches!(reply, Reply::Changed(_)));
    }
    apply(&mut live, "new", Content::Moved { from: path("old") });
    let moved = live.wait(|reply| matches!(reply, Reply::Applied { .. }));
    assert!(matches!(moved, Reply::Applied { outcome: Outcome::Done, .. }), "{moved:?}");
    make(live.path(), &["new/in/f 2"]);
    live.wait_for("new/in/f", &file(b"2"));
}
