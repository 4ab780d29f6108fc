//! What a replica sees of a tree.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mkfifoat, mknodat};
use towline_sync_core::codec::Encoder;
use towline_sync_core::message::{Body, MAX_BATCH_BYTES, MAX_MESSAGE_BYTES, Open, Reply};
use towline_sync_core::path::STAGE_DIR;
use towline_sync_core::snapshot::{Change, Entry, Hash, Opaque};

use super::{Desk, entries, file, lines, link, make, path};
use crate::known::{Known, Seen};
use crate::options::ReplicaOptions;
use crate::report::Report;
use crate::symlink::stays_beneath;
use crate::tree::Tree;
use crate::workspace::Workspace;

fn scan(tree: &mut Tree) -> BTreeMap<String, Entry> {
    let mut found = BTreeMap::new();
    tree.scan(&mut |path, seen| {
        assert_eq!(found.insert(path.to_string(), seen.entry.clone()), None, "{path} twice");
        Ok(())
    })
    .unwrap();
    found
}

fn seen(desk: &mut Desk) -> Vec<String> {
    scan(&mut desk.workspace().tree).into_keys().collect()
}

#[test]
fn reports_every_kind() {
    let mut desk = Desk::new(&["a/b/c 1", "p! 2", "l -> a/b", "up -> ../x", "abs -> /etc", "a/ok -> ../p"]);
    mkfifoat(CWD, desk.path().join("fifo"), Mode::from_raw_mode(0o600)).unwrap();
    mknodat(CWD, desk.path().join("sock"), FileType::Socket, Mode::from_raw_mode(0o600), 0).unwrap();
    fs::hard_link(desk.path().join("p"), desk.path().join("hard")).unwrap();
    fs::write(desk.path().join(std::ffi::OsStr::from_bytes(b"a/bad\xff")), "x").unwrap();
    let mut expected: BTreeMap<String, Entry> = BTreeMap::new();
    let opaque = |opaque| Entry::Opaque(opaque);
    for (at, entry) in [
        ("a", Entry::Directory),
        ("a/b", Entry::Directory),
        ("a/b/c", file(b"1")),
        ("a/ok", link("../p")),
        ("abs", opaque(Opaque::OutsideLink)),
        ("fifo", opaque(Opaque::Special)),
        ("hard", super::program(b"2")),
        ("l", link("a/b")),
        ("p", super::program(b"2")),
        ("sock", opaque(Opaque::Special)),
        ("up", opaque(Opaque::OutsideLink)),
    ] {
        expected.insert(at.to_owned(), entry);
    }
    assert_eq!(scan(&mut desk.workspace().tree), expected);
    let problems = desk.workspace().tree.problems.take_changed().unwrap();
    let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["abs", "fifo", "sock", "up", "a/bad\u{fffd}"]);
    assert_eq!(desk.workspace().tree.problems.take_changed(), None, "said once");
    // A folder that holds such a name can't go.
    assert_eq!(desk.apply("a/b/c", Some(file(b"1")), None, b""), towline_sync_core::message::Outcome::Done);
}

#[test]
fn ignored_paths_are_walked_only_for_what_is_not() {
    let all = ["ig/deep/keep 1", "ig/deep/x 1", "ig/other/x 1", "no/x 1", "no/y.log 1", "top.log 1"];
    let mut desk = Desk::new(&all).ignoring(&["!/ig/deep/keep", "ig", "*.log"]);
    assert_eq!(seen(&mut desk), ["ig", "ig/deep", "ig/deep/keep", "no", "no/x"]);
    // With a rule that lets the walk skip it, the folder is not even opened.
    let mut desk = Desk::new(&all).ignoring(&["/ig", "*.log"]);
    assert_eq!(seen(&mut desk), ["no", "no/x"]);
}

#[test]
fn the_last_childs_end_is_not_the_end_of_its_ignored_folder() {
    let mut desk = Desk::new(&["ig/deep/keep 1", "ig/x 1"]).ignoring(&["!/ig/deep/keep", "ig"]);
    fs::remove_file(desk.path().join("ig/deep/keep")).unwrap();
    let gone = Change { path: path("ig/deep/keep"), entry: None };
    assert_eq!(desk.workspace().tree.settle(&[(path("ig/deep/keep"), false)].into()).unwrap(), [gone]);
    assert_eq!(desk.workspace().tree.rescan(&mut |_, _| Ok(())).unwrap(), []);
    assert_eq!(seen(&mut desk), ["ig", "ig/deep"]);
    fs::write(desk.path().join("ig/x"), "changed").unwrap();
    assert_eq!(desk.workspace().tree.settle(&[(path("ig/x"), true)].into()).unwrap(), []);
    // A new one brings its folders along.
    let mut desk = Desk::new(&["ig/deep/x 1"]).ignoring(&["!/ig/deep/keep", "ig"]);
    make(desk.path(), &["ig/deep/keep 1"]);
    let changes = desk.workspace().tree.settle(&[(path("ig/deep/keep"), false)].into()).unwrap();
    let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(paths, ["ig", "ig/deep", "ig/deep/keep"]);
}

#[test]
fn excluded_paths_are_left_alone() {
    let desk = Desk::new(&["data/x 1", "f 1"]);
    drop(desk.workspace);
    let open = Open {
        root: desk.root.path().to_str().unwrap().to_owned(),
        ignore: Vec::new(),
        excluded: vec![path("data")],
        create: false,
        watch: true,
    };
    let (mut workspace, _) = Workspace::open(ReplicaOptions::default(), open).unwrap();
    assert_eq!(scan(&mut workspace.tree).into_keys().collect::<Vec<_>>(), ["f"]);
}

#[test]
fn a_mount_is_neither_entered_nor_replaced() {
    let mut desk = Desk::new(&["m/x 1", "f 1"]);
    desk.workspace().tree.mounts = [path("m"), path("f")].into();
    let found = scan(&mut desk.workspace().tree);
    let mount = || Entry::Opaque(Opaque::Mount);
    assert_eq!(found, [("f".to_owned(), mount()), ("m".to_owned(), mount())].into());
    for (at, from) in [("f", Some(file(b"1"))), ("m/x", Some(file(b"1"))), ("m/new", None)] {
        let number = super::errno(&desk.apply(at, from, Some(file(b"abc")), b"abc"));
        assert_eq!(number, rustix::io::Errno::BUSY.raw_os_error(), "{at}");
    }
    assert_eq!(lines(desk.path()), ["f 1", "m/", "m/x 1"]);
}

#[test]
fn only_an_absence_is_an_end() {
    let mut desk = Desk::new(&["d/x 1", "d/sub/y 1", "f 1"]);
    // The kernel says no to a name that is a folder's no more: an opaque thing hides what was below, and ends nothing.
    fs::rename(desk.path().join("d"), desk.path().join(".towline-stage/d")).unwrap();
    mkfifoat(CWD, desk.path().join("d"), Mode::from_raw_mode(0o600)).unwrap();
    let changes = desk.workspace().tree.rescan(&mut |_, _| Ok(())).unwrap();
    assert_eq!(changes, [Change { path: path("d"), entry: Some(Entry::Opaque(Opaque::Special)) }]);
}

#[test]
fn a_root_that_is_another_one_is_no_empty_root() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("root");
    make(&root, &["a 1", "b 1"]);
    let request = Open {
        root: root.to_str().unwrap().to_owned(),
        ignore: Vec::new(),
        excluded: Vec::new(),
        create: false,
        watch: true,
    };
    let (mut workspace, _) = Workspace::open(ReplicaOptions::default(), request).unwrap();
    assert_eq!(scan(&mut workspace.tree).len(), 2);
    let refused = |workspace: &mut Workspace| {
        let error = |result: io::Result<Vec<Change>>| result.unwrap_err().to_string();
        let all = [(path("a"), true)].into();
        assert!(workspace.tree.scan(&mut |_, _| Ok(())).is_err());
        (error(workspace.tree.rescan(&mut |_, _| Ok(()))), error(workspace.tree.settle(&all)))
    };
    fs::rename(&root, home.path().join("moved")).unwrap();
    refused(&mut workspace);
    fs::create_dir(&root).unwrap();
    let (rescan, settle) = refused(&mut workspace);
    assert_eq!(rescan, "another folder stands there now");
    assert_eq!(settle, rescan);
    fs::remove_dir(&root).unwrap();
    fs::rename(home.path().join("moved"), &root).unwrap();
    assert_eq!(workspace.tree.rescan(&mut |_, _| Ok(())).unwrap(), []);
}

#[test]
fn an_eager_scan_brings_small_files_along() {
    let mut desk = Desk::new(&["a/b/c 1", "a/p! 2", "l -> a/b", "abs -> /etc", "known x", "e/"]);
    let large = vec![7; 65_537];
    fs::write(desk.path().join("a/large"), &large).unwrap();
    fs::write(desk.path().join("a/edge"), &large[1..]).unwrap();
    fs::write(desk.path().join("a/empty"), "").unwrap();
    let tree = &mut desk.workspace().tree;
    tree.known = Known::default();
    let mut told = Vec::new();
    let mut report = Report::new(true);
    tree.scan_with(true, &mut |item| {
        report.push(item, &mut |reply| told.push(reply));
        Ok(())
    })
    .unwrap();
    report.end(&mut |reply| told.push(reply));
    let mut found = BTreeMap::new();
    let mut with_content = Vec::new();
    for reply in &told {
        match reply {
            Reply::Contents(news) => {
                for new in news {
                    for folder in new.path.ancestors() {
                        assert_eq!(found.get(&folder), Some(&Entry::Directory), "{folder} comes first");
                    }
                    found.insert(new.path.clone(), new.entry.clone());
                    if let (Entry::File(file), Body::Whole(content)) = (&new.entry, &new.body) {
                        assert_eq!(file.hash, Hash::of(content));
                        let time = fs::metadata(desk.root.path().join(new.path.as_str())).unwrap();
                        let time = (time.mtime(), u32::try_from(time.mtime_nsec()).unwrap());
                        assert_eq!(new.modified, Some(time));
                        with_content.push(new.path.to_string());
                    }
                }
            }
            Reply::Entries { entries, .. } => {
                for (path, entry) in entries {
                    assert!(path.parent().is_none_or(|folder| found.contains_key(&folder)));
                    found.insert(path.clone(), entry.clone());
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(told.last(), Some(Reply::Entries { last: true, .. })));
    with_content.sort();
    assert_eq!(with_content, ["a/b/c", "a/edge", "a/empty", "a/p", "known"]);
    let mut expected = entries(desk.root.path());
    expected.insert(path("abs"), Entry::Opaque(Opaque::OutsideLink));
    assert_eq!(found, expected);
    // What is known is not read again.
    let tree = &mut desk.workspace().tree;
    let mut seen = tree.known.get(&path("known")).unwrap().clone();
    seen.racy = false;
    tree.record(&path("known"), &seen);
    let mut contents = Vec::new();
    tree.scan_with(true, &mut |item| {
        contents.extend(item.content.as_ref().map(|_| item.path.to_string()));
        Ok(())
    })
    .unwrap();
    assert!(!contents.contains(&"known".to_owned()) && contents.len() == 4, "{contents:?}");
}

#[test]
fn messages_of_a_scan_are_bounded() {
    let mut told = Vec::new();
    let mut report = Report::new(true);
    for number in 0..5000 {
        let content = (number % 10 == 0).then(|| vec![0; 60_000]);
        let seen = Seen::new(file(b""), crate::disk::Stat::UNKNOWN, (0, 0));
        let path = path(&format!("{}/{number}", "d".repeat(250)));
        report.push(&mut crate::scan::Item { path, seen, content, position: None }, &mut |reply| {
            told.push(reply);
        });
    }
    report.end(&mut |reply| told.push(reply));
    let mut count = 0;
    for reply in &told {
        match reply {
            Reply::Contents(news) => {
                count += news.len();
                assert!(news.iter().map(|new| new.body.carried()).sum::<usize>() <= MAX_BATCH_BYTES);
            }
            Reply::Entries { entries, .. } => count += entries.len(),
            other => panic!("{other:?}"),
        }
        assert!(Encoder::new().encode(std::slice::from_ref(reply)).len() < MAX_MESSAGE_BYTES);
    }
    assert_eq!(count, 5000);
}

#[test]
fn a_walk_by_many_finds_what_stands() {
    let mut desk = Desk::new(&[]);
    let mut all = Vec::new();
    for number in 0..300 {
        all.push(format!("d{}/e{}/f{}/x {number}", number % 7, number % 31, number));
    }
    make(desk.path(), &all.iter().map(String::as_str).collect::<Vec<_>>());
    let found: BTreeMap<_, _> =
        scan(&mut desk.workspace().tree).into_iter().map(|(at, entry)| (path(&at), entry)).collect();
    assert_eq!(found, entries(desk.path()));
    // An error of one walker ends all.
    let error = desk.workspace().tree.scan(&mut |path, _| {
        if path.as_str().ends_with('x') { Err(io::Error::other("enough")) } else { Ok(()) }
    });
    assert_eq!(error.unwrap_err().to_string(), "enough");
    assert_eq!(desk.workspace().tree.known.at_or_below(None).len(), found.len(), "what was known stays");
}

#[test]
fn no_edit_hides_behind_its_time() {
    let mut desk = Desk::new(&["f 1111"]);
    let at = desk.path().join("f");
    // Of the same length and with the same time, at once after it was looked at.
    let old = fs::metadata(&at).unwrap().modified().unwrap();
    fs::write(&at, "2222").unwrap();
    fs::File::options().write(true).open(&at).unwrap().set_modified(old).unwrap();
    let changed = Change { path: path("f"), entry: Some(file(b"2222")) };
    assert_eq!(desk.workspace().tree.rescan(&mut |_, _| Ok(())).unwrap(), [changed]);
    // A clock that is years off only costs a second look.
    for (years, content) in [(10, "3333"), (-10_i64, "4444")] {
        fs::write(&at, content).unwrap();
        let span = Duration::from_hours(24 * 365 * years.unsigned_abs());
        let time = if years > 0 { SystemTime::now() + span } else { SystemTime::now() - span };
        fs::File::options().write(true).open(&at).unwrap().set_modified(time).unwrap();
        let told = desk.workspace().tree.rescan(&mut |_, _| Ok(())).unwrap();
        assert_eq!(told, [Change { path: path("f"), entry: Some(file(content.as_bytes())) }]);
    }
}

#[test]
fn unchanged_files_are_not_read_again() {
    let mut desk = Desk::new(&["f 1"]);
    let at = desk.path().join("f");
    let long_ago = SystemTime::now() - Duration::from_hours(1);
    fs::File::options().write(true).open(&at).unwrap().set_modified(long_ago).unwrap();
    desk.reopen();
    let mut seen = desk.workspace().tree.known.get(&path("f")).unwrap().clone();
    // As if the stat had been taken an hour after the change: then it is believed.
    seen.racy = false;
    seen.entry = file(b"believed");
    desk.workspace().tree.record(&path("f"), &seen);
    assert_eq!(scan(&mut desk.workspace().tree)["f"], file(b"believed"));
}

#[test]
fn moves_are_seen_as_moves() {
    let mut desk = Desk::new(&["a/x 1", "a/sub/y 2", "f 3"]);
    fs::rename(desk.path().join("a"), desk.path().join("b")).unwrap();
    let dirty = [(path("a"), false), (path("b"), false)].into();
    let changes = desk.workspace().tree.settle(&dirty).unwrap();
    let mut told: BTreeMap<_, _> =
        changes.iter().map(|change| (change.path.as_str(), change.entry.is_some())).collect();
    assert_eq!(told.len(), 8);
    told.retain(|_, stands| *stands);
    assert_eq!(told.into_keys().collect::<Vec<_>>(), ["b", "b/sub", "b/sub/y", "b/x"]);
    let gone: Vec<&str> =
        changes.iter().filter(|change| change.entry.is_none()).map(|change| change.path.as_str()).collect();
    assert_eq!(gone, ["a/x", "a/sub/y", "a/sub", "a"], "children before their folder");
    assert!(changes[..4].iter().all(|change| change.entry.is_some()), "what came is told first");
}

#[test]
fn a_change_of_kind_ends_what_was_below() {
    let mut desk = Desk::new(&["a/x 1", "b 2"]);
    fs::remove_dir_all(desk.path().join("a")).unwrap();
    symlink("b", desk.path().join("a")).unwrap();
    let changes = desk.workspace().tree.settle(&[(path("a/x"), false)].into()).unwrap();
    assert_eq!(
        changes,
        [Change { path: path("a"), entry: Some(link("b")) }, Change { path: path("a/x"), entry: None }]
    );
}

#[test]
fn the_token_lives_with_the_folder() {
    let mut options = ReplicaOptions::default();
    let keep = tempfile::tempdir().unwrap();
    for kept in [None, Some(keep.path().to_owned())] {
        options.keep = kept;
        let desk = Desk::new(&["f 1"]);
        drop(desk.workspace);
        let home = desk.root;
        let open = |root: &std::path::Path| {
            let root = root.to_str().unwrap().to_owned();
            let request = Open { root, ignore: Vec::new(), excluded: Vec::new(), create: true, watch: true };
            let (workspace, info) = Workspace::open(options.clone(), request).unwrap();
            workspace.close();
            info.epoch
        };
        let token = open(home.path());
        assert_ne!(token, [0; 16]);
        assert_eq!(open(home.path()), token);
        assert_ne!(open(&home.path().join("new/folder")), token);
    }
}

#[test]
fn one_session_at_a_time() {
    let desk = Desk::new(&[]);
    let Err(failure) = Workspace::open(ReplicaOptions::default(), desk.request()) else {
        panic!("two sessions in one folder");
    };
    assert!(failure.message.contains("another sync session"), "{failure:?}");
    assert_eq!(failure.errno, rustix::io::Errno::BUSY.raw_os_error());
}

#[test]
fn a_staging_folder_that_is_not_ours_is_refused() {
    let outside = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    let request = || Open {
        root: home.path().to_str().unwrap().to_owned(),
        ignore: Vec::new(),
        excluded: Vec::new(),
        create: false,
        watch: true,
    };
    symlink(outside.path(), home.path().join(STAGE_DIR)).unwrap();
    assert!(Workspace::open(ReplicaOptions::default(), request()).is_err());
    assert_eq!(lines(outside.path()), Vec::<String>::new());
    fs::remove_file(home.path().join(STAGE_DIR)).unwrap();

    fs::create_dir(home.path().join(STAGE_DIR)).unwrap();
    fs::set_permissions(home.path().join(STAGE_DIR), fs::Permissions::from_mode(0o777)).unwrap();
    Workspace::open(ReplicaOptions::default(), request()).unwrap();
    let mode = fs::metadata(home.path().join(STAGE_DIR)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_root_stays_below_its_prefix() {
    let pod = tempfile::tempdir().unwrap();
    let options = ReplicaOptions { prefix: Some(pod.path().to_owned()), ..ReplicaOptions::default() };
    let open = |root: &str| {
        let request = Open {
            root: root.to_owned(),
            ignore: Vec::new(),
            excluded: Vec::new(),
            create: true,
            watch: true,
        };
        Workspace::open(options.clone(), request).map(|(workspace, _)| workspace.tree.root.path().to_owned())
    };
    assert_eq!(open("/app/src").unwrap(), pod.path().join("app/src"));
    assert!(open("/../x").is_err());
    assert!(open("/app/../../x").is_err());
}

fn names() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned)
}

fn targets() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["..", ".", "a", "b", "c", ""]), 1..6)
        .prop_map(|parts| parts.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever links are let through together, none of them leads out.
    #[test]
    fn links_that_are_synced_never_lead_out(
        links in prop::collection::vec((prop::collection::vec(names(), 1..4), targets()), 1..12)
    ) {
        let home = tempfile::tempdir().unwrap();
        let root: PathBuf = home.path().canonicalize().unwrap().join("x/root");
        fs::create_dir_all(&root).unwrap();
        let mut made = Vec::new();
        for (at, target) in links {
            let at = path(&at.join("/"));
            let file = root.join(at.as_str());
            let parent = file.parent().unwrap();
            // Folders above a synced link are real.
            let real = fs::create_dir_all(parent).is_ok() && parent.canonicalize().unwrap() == parent;
            if real && stays_beneath(&at, &target) && symlink(&target, &file).is_ok() {
                made.push(file);
            }
        }
        for file in made {
            if let Ok(led) = file.canonicalize() {
                prop_assert!(led.starts_with(&root), "{file:?} leads to {led:?}");
            }
        }
    }

    /// Events on the paths that changed tell the same as a look at everything.
    #[test]
    fn settling_finds_what_a_scan_finds(
        edits in prop::collection::vec((prop::collection::vec(names(), 1..4), 0..5u8), 1..20)
    ) {
        let mut desk = Desk::new(&["a/a 1", "a/b/c 2", "b 3"]);
        let mut dirty = BTreeMap::new();
        for (at, what) in edits {
            let at = at.join("/");
            let file = desk.path().join(&at);
            // Where something is in the way, nothing happens.
            let _unless = match what {
                0 => fs::create_dir(&file),
                1 => fs::remove_file(&file),
                2 => fs::remove_dir_all(&file),
                3 => fs::write(&file, &at),
                _ => fs::rename(&file, desk.path().join("c")).inspect(|()| {
                    dirty.insert(path("c"), false);
                }),
            };
            dirty.insert(path(&at), true);
        }
        let tree = &mut desk.workspace.as_mut().unwrap().tree;
        tree.settle(&dirty).unwrap();
        prop_assert_eq!(tree.rescan(&mut |_, _| Ok(())).unwrap(), []);
        let all: BTreeMap<_, _> = tree
            .known
            .at_or_below(None)
            .into_iter()
            .map(|at| (at.clone(), tree.known.get(&at).unwrap().entry.clone()))
            .collect();
        prop_assert_eq!(all, entries(desk.root.path()));
    }
}
