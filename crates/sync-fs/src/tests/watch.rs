//! What a replica tells by itself.

use std::fs;
use std::os::fd::AsRawFd;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use towline_sync_core::message::{Basis, Block, Content, DeltaOp, Open, Outcome, Reply, Request, WatchMode};
use towline_sync_core::snapshot::{Entry, Transition};

use super::live::Live;
use super::{file, make, next_id, path};
use crate::inbox::Dirty;
use crate::options::ReplicaOptions;

fn live(lines: &[&str]) -> Live {
    Live::new(lines, ReplicaOptions::default())
}

#[test]
fn tells_of_edits() {
    let mut live = live(&["a/x 1", "f 1"]);
    fs::write(live.path().join("f"), "2").unwrap();
    live.converge();
    fs::write(live.path().join("a/new"), "3").unwrap();
    live.converge();
    fs::rename(live.path().join("a/new"), live.path().join("g")).unwrap();
    live.converge();
    fs::rename(live.path().join("a"), live.path().join("b")).unwrap();
    live.converge();
    fs::write(live.path().join("b/x"), "in the moved folder").unwrap();
    live.converge();
    fs::remove_dir_all(live.path().join("b")).unwrap();
    live.converge();
    fs::set_permissions(live.path().join("f"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    live.converge();
}

#[test]
fn sees_into_new_folders() {
    let mut live = live(&[]);
    for round in 0..20 {
        // Made and filled faster than anybody can watch it.
        let deep = format!("d{round}/e/f/g/h");
        make(live.path(), &[&format!("{deep}/x 1"), &format!("d{round}/y 1")]);
        live.converge();
        fs::write(live.path().join(&deep).join("late"), "2").unwrap();
        live.converge();
    }
}

#[test]
fn misses_nothing_while_a_folder_is_being_found() {
    let mut live = Live::configured(&[], ReplicaOptions::default(), &[], |workspace| {
        let root = workspace.tree.root.path().to_owned();
        workspace.tree.listed = Some(Box::new(move |folder| {
            if let Some(folder) = folder {
                fs::write(root.join(folder.as_str()).join("just-too-late"), "1").unwrap();
            }
        }));
    });
    make(live.path(), &["d/e/"]);
    live.wait(|reply| matches!(reply, Reply::Changed(all) if all.iter().any(|c| c.path == path("d/e"))));
    live.converge();
    assert!(live.mirror.contains_key(&path("d/e/just-too-late")));
}

#[test]
fn what_leaves_is_watched_no_more() {
    let (table_tx, table_rx) = sync_channel(1);
    let mut live = Live::configured(&["d/e/f/", "g/"], ReplicaOptions::default(), &[], move |workspace| {
        table_tx.send(workspace.tree.watches.clone().unwrap()).unwrap();
    });
    let table = table_rx.recv().unwrap();
    let watches = || {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", table.inotify().as_raw_fd())).unwrap();
        info.lines().filter(|line| line.starts_with("inotify wd:")).count()
    };
    assert_eq!(watches(), 5);
    let outside = tempfile::tempdir().unwrap();
    fs::rename(live.path().join("d"), outside.path().join("d")).unwrap();
    live.converge();
    // The answer to this comes after all that the change led to.
    live.scan();
    assert_eq!(watches(), 2);
}

#[test]
fn a_folder_that_comes_back_is_watched_anew() {
    let mut live = live(&["d/x 1"]);
    for round in 0..5 {
        fs::remove_dir_all(live.path().join("d")).unwrap();
        make(live.path(), &["d/sub/x 1"]);
        live.converge();
        fs::write(live.path().join("d/sub/x"), round.to_string()).unwrap();
        live.converge();
    }
}

#[test]
fn storms_end_in_the_truth() {
    let names = || prop::sample::select(vec!["a", "b", "c", "d/a", "d/b", "d/e/a", "d/e"]);
    let edits = prop::collection::vec((names(), names(), 0..6u8), 200..400);
    let mut runner = TestRunner::deterministic();
    for _ in 0..5 {
        let mut live = live(&["d/e/x 1"]);
        let edits = edits.new_tree(&mut runner).unwrap().current();
        for (at, to, what) in edits {
            let (file, other) = (live.path().join(at), live.path().join(to));
            // Where something is in the way, nothing happens.
            let _unless = match what {
                0 => fs::create_dir_all(&file),
                1 => fs::remove_file(&file),
                2 => fs::remove_dir_all(&file),
                3 => fs::rename(&file, &other),
                _ => fs::write(&file, to),
            };
        }
        live.converge();
    }
}

#[test]
fn our_own_deeds_are_no_news() {
    let mut live = live(&["f old", "gone x"]);
    let contents: Vec<(String, Option<Entry>, Vec<u8>)> = (0..50)
        .map(|number| (format!("n{number}"), None, number.to_string().into_bytes()))
        .chain([("f".to_owned(), Some(file(b"old")), b"new".to_vec())])
        .collect();
    let mut asked = Vec::new();
    let mut apply = |at: &str, from: Option<Entry>, to: Option<Entry>, content: Content| {
        let id = next_id();
        asked.push(id);
        let transition = Transition { path: path(at), from, to };
        live.replica.request(Request::Apply { id, transition, content });
        id
    };
    apply("dir", None, Some(Entry::Directory), Content::None);
    apply("gone", Some(file(b"x")), None, Content::None);
    let mut data = Vec::new();
    for (at, from, content) in &contents {
        let id = apply(at, from.clone(), Some(file(content)), Content::Incoming);
        data.push((id, Block { ops: vec![DeltaOp::Literal(content.clone())], last: true }));
    }
    for (id, block) in data {
        live.replica.request(Request::Data { id, block });
    }
    let mut left = asked.len();
    live.wait(|reply| {
        if let Reply::Applied { outcome, .. } = reply {
            assert_eq!(*outcome, Outcome::Done);
            left -= 1;
        }
        left == 0
    });
    // A mark of our own: when it is told, everything before it has been looked at.
    fs::write(live.path().join("dir/mark"), "").unwrap();
    live.wait(|reply| matches!(reply, Reply::Changed(changes) if changes.iter().any(|c| c.path == path("dir/mark"))));
    assert_eq!(live.changes.keys().map(ToString::to_string).collect::<Vec<_>>(), ["dir/mark"]);
}

#[test]
fn lost_events_lead_to_a_scan() {
    let mut live = Live::configured(&["d/x 1", "f 1"], ReplicaOptions::default(), &[], |workspace| {
        // Without a watch there is no event.
        workspace.tree.watches = None;
    });
    fs::write(live.path().join("d/x"), "missed").unwrap();
    fs::remove_file(live.path().join("f")).unwrap();
    live.replica.lose_events();
    live.converge();
}

#[test]
fn only_what_is_not_as_believed_is_told() {
    let lines: Vec<String> = (0..400).map(|number| format!("d{}/f{number} {number}", number % 7)).collect();
    let mut live = live(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let truth = live.mirror.clone();
    assert_eq!(live.scan(), 0);
    assert_eq!(live.mirror, truth);
    live.mirror.insert(path("d0/f0"), file(b"wrong"));
    live.mirror.insert(path("d1/not-there"), file(b""));
    live.mirror.remove(&path("d2/f2"));
    let told = live.scan();
    assert!((1..300).contains(&told), "{told}");
    assert_eq!(live.mirror, truth);
    live.mirror = [(path("of-another"), Entry::Directory)].into();
    assert_eq!(live.scan(), truth.len());
    assert_eq!(live.mirror, truth);
}

#[test]
fn where_there_are_no_events_it_scans_from_time_to_time() {
    let limits = crate::Limits { poll: Duration::from_millis(5), ..crate::Limits::default() };
    let options = ReplicaOptions { limits, ..ReplicaOptions::default() };
    let mut live = Live::configured(&["f 1"], options, &[], |workspace| {
        workspace.tree.watches.as_ref().unwrap().pretend_full();
    });
    let mode = live.wait(|reply| matches!(reply, Reply::Watching(WatchMode::Polling { .. })));
    let Reply::Watching(WatchMode::Polling { reason }) = mode else { unreachable!() };
    assert!(reason.contains("sysctl fs.inotify.max_user_watches="), "{reason}");
    fs::write(live.path().join("f"), "2").unwrap();
    make(live.path(), &["d/e/x 1"]);
    live.converge();
}

#[test]
fn a_vanished_root_is_said_and_ends_nothing() {
    let limits = crate::Limits { poll: Duration::from_millis(5), ..crate::Limits::default() };
    let options = ReplicaOptions { limits, ..ReplicaOptions::default() };
    let mut live = Live::new(&["a 1", "b 1"], options);
    let moved = tempfile::tempdir().unwrap();
    let aside = moved.path().join("aside");
    fs::write(live.path().join("a"), "changed").unwrap();
    live.converge();
    fs::rename(live.path(), &aside).unwrap();
    fs::create_dir(live.path()).unwrap();
    fs::write(aside.join("b"), "behind our back").unwrap();
    let said = |reply: &Reply, count: usize| matches!(reply, Reply::Problems(all) if all.len() == count);
    let Reply::Problems(problems) = live.wait(|reply| said(reply, 1)) else { unreachable!() };
    assert_eq!(problems[0].path, ".");
    assert!(problems[0].message.contains("another folder"), "{problems:?}");
    live.replica.request(Request::Scan { eager: false });
    live.wait(|reply| matches!(reply, Reply::ScanFailed(_)));
    let id = next_id();
    let transition = Transition { path: path("a"), from: Some(file(b"changed")), to: None };
    live.replica.request(Request::Apply { id, transition, content: Content::None });
    live.wait(|reply| matches!(reply, Reply::Applied { outcome: Outcome::Failed(_), .. }));
    assert_eq!(live.mirror.len(), 2, "nothing was told to be gone");
    fs::remove_dir(live.path()).unwrap();
    fs::rename(&aside, live.path()).unwrap();
    live.converge();
    live.wait(|reply| said(reply, 0));
}

#[test]
fn ignored_changes_are_not_told() {
    let mut live = Live::configured(&["ig/x 1", "f 1"], ReplicaOptions::default(), &["/ig", "*.log"], |_| ());
    fs::write(live.path().join("ig/x"), "2").unwrap();
    fs::write(live.path().join("a.log"), "2").unwrap();
    fs::write(live.path().join("f"), "2").unwrap();
    live.wait(|reply| matches!(reply, Reply::Changed(_)));
    assert_eq!(live.changes.keys().map(ToString::to_string).collect::<Vec<_>>(), ["f"]);
}

#[test]
fn who_did_not_ask_is_told_by_scans_alone() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("f"), "1").unwrap();
    let (reply_tx, reply_rx) = sync_channel(16);
    let replica = crate::spawn(ReplicaOptions::default(), move |reply| reply_tx.send(reply).is_ok()).unwrap();
    replica.request(Request::Open(Open {
        root: root.path().to_str().unwrap().to_owned(),
        ignore: Vec::new(),
        excluded: Vec::new(),
        create: false,
        watch: false,
    }));
    let next = || reply_rx.recv_timeout(Duration::from_secs(20)).unwrap();
    let scan = || {
        replica.request(Request::Scan { eager: false });
        let Reply::Entries { entries, last: true } = next() else { panic!("the scan was told of first") };
        entries.len()
    };
    assert!(matches!(next(), Reply::Opened(_)));
    assert_eq!(scan(), 1);
    fs::write(root.path().join("g"), "1").unwrap();
    assert_eq!(scan(), 2);
    // Nothing came in between, and nothing comes after.
    replica.close();
    assert!(reply_rx.recv().is_err());
}

#[test]
fn ends_when_nobody_listens() {
    let root = tempfile::tempdir().unwrap();
    let (ended_tx, ended_rx) = sync_channel::<()>(0);
    let replica = crate::spawn(ReplicaOptions::default(), move |_| {
        let _kept_until_the_thread_ends = &ended_tx;
        false
    })
    .unwrap();
    replica.request(Request::Open(Open {
        root: root.path().to_str().unwrap().to_owned(),
        ignore: Vec::new(),
        excluded: Vec::new(),
        create: false,
        watch: true,
    }));
    let ended = ended_rx.recv_timeout(Duration::from_secs(20));
    assert_eq!(ended, Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
    replica.request(Request::Scan { eager: false });
    replica.close();
}

#[test]
fn a_session_waits_for_the_last_one_to_end() {
    let first = live(&["f 1"]);
    let open = Request::Open(Open {
        root: first.path().to_str().unwrap().to_owned(),
        ignore: Vec::new(),
        excluded: Vec::new(),
        create: false,
        watch: true,
    });
    let second = |handover| {
        let (reply_tx, reply_rx) = sync_channel(16);
        let limits = crate::Limits { handover, ..crate::Limits::default() };
        let options = ReplicaOptions { limits, ..ReplicaOptions::default() };
        let replica = crate::spawn(options, move |reply| reply_tx.send(reply).is_ok()).unwrap();
        replica.request(open.clone());
        (replica, reply_rx)
    };
    let (_impatient, reply_rx) = second(Duration::ZERO);
    let reply = reply_rx.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(matches!(reply, Reply::OpenFailed(failure) if failure.message.contains("another sync session")));
    let (_patient, reply_rx) = second(Duration::from_secs(20));
    let Live { root: _root, replica, .. } = first;
    replica.close();
    let reply = reply_rx.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(matches!(reply, Reply::Opened(_)), "{reply:?}");
}

#[test]
fn what_comes_before_a_root_is_refused() {
    let (reply_tx, reply_rx) = sync_channel(16);
    let replica = crate::spawn(ReplicaOptions::default(), move |reply| reply_tx.send(reply).is_ok()).unwrap();
    let expect = towline_sync_core::snapshot::File {
        hash: towline_sync_core::snapshot::Hash::of(b""),
        size: 0,
        executable: false,
    };
    replica.request(Request::Scan { eager: false });
    replica.request(Request::Read { id: 1, path: path("f"), expect, basis: Basis::None });
    replica.request(Request::Sign { id: 2, path: path("f"), expect });
    replica.request(Request::Keep { id: 3, path: path("f"), file: expect });
    replica.request(Request::Cancel { id: 4 });
    let open = Open {
        root: "/nowhere/at/all".to_owned(),
        ignore: Vec::new(),
        excluded: Vec::new(),
        create: false,
        watch: true,
    };
    replica.request(Request::Open(open));
    let next = || reply_rx.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(matches!(next(), Reply::ScanFailed(_)));
    assert!(matches!(next(), Reply::ReadFailed { id: 1, .. }));
    assert!(matches!(next(), Reply::ReadFailed { id: 2, .. }));
    assert!(matches!(next(), Reply::Applied { id: 3, outcome: Outcome::Failed(_) }));
    assert!(matches!(next(), Reply::OpenFailed(failure) if failure.errno == 2));
}

impl crate::Replica {
    /// Does what the kernel's word of lost events does.
    fn lose_events(&self) {
        self.inbox.dirty(Dirty { everything: true, ..Dirty::default() });
    }
}
