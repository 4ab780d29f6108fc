//! What is kept on the disk between sessions.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use tempfile::TempDir;
use towline_sync_core::message::{Reply, Request};
use towline_sync_core::path::STAGE_DIR;
use towline_sync_core::snapshot::{Entry, Hash};

use super::install::news;
use super::live::Live;
use super::read::noise;
use super::{Desk, file, next_id, path};
use crate::cache::Horizon;
use crate::inbox::Dirty;
use crate::known::Known;
use crate::options::ReplicaOptions;

fn kept(keep: &TempDir) -> ReplicaOptions {
    ReplicaOptions { keep: Some(keep.path().to_owned()), ..ReplicaOptions::default() }
}

fn cache_file(keep: &Path) -> PathBuf {
    let all = fs::read_dir(keep).unwrap().map(|entry| entry.unwrap().path());
    let mut all = all.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("scan-"));
    let only = all.next().expect("it was saved");
    assert_eq!(all.next(), None);
    only
}

/// Of a time at which all is settled.
fn later() -> Horizon {
    Horizon::told((i64::MAX / 2, 0))
}

/// Opens the root of `desk` with this cache in place and returns what it believes of `f`, a file that holds `real`.
fn believed(desk: &mut Desk) -> Entry {
    desk.reopen();
    desk.workspace().tree.known.get(&path("f")).unwrap().entry.clone()
}

/// Makes a desk whose cache says a lie of `f`: who believes it has not read.
fn lied_to(keep: &TempDir) -> Desk {
    let mut desk =
        Desk::new(&["f real", "ü/ä 1", "ü/ö 2", "d/sub/x 1"]).with(|desk| desk.options = kept(keep));
    let mut seen = desk.workspace().tree.known.get(&path("f")).unwrap().clone();
    seen.entry = file(b"lied");
    desk.workspace().tree.record(&path("f"), &seen);
    desk.workspace().save(Some(&later()), &Dirty::default());
    desk
}

#[test]
fn an_unchanged_file_is_not_read_again() {
    let keep = tempfile::tempdir().unwrap();
    let mut desk = lied_to(&keep);
    assert_eq!(fs::metadata(cache_file(keep.path())).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(believed(&mut desk), file(b"lied"));
    let all = desk.workspace().tree.known.at_or_below(None);
    assert_eq!(
        all.iter().map(ToString::to_string).collect::<Vec<_>>(),
        super::entries(desk.path()).into_keys().map(String::from).collect::<Vec<_>>()
    );
    // Nothing is news to the cache.
    assert!(!desk.workspace().tree.known.is_changed());
}

#[test]
fn no_change_hides() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 5] = [
        ("content", |at| fs::write(at, "real").unwrap()),
        ("mode", |at| fs::set_permissions(at, fs::Permissions::from_mode(0o600)).unwrap()),
        ("time", |at| {
            let long_ago = SystemTime::now() - Duration::from_hours(1);
            fs::File::options().write(true).open(at).unwrap().set_modified(long_ago).unwrap();
        }),
        ("another file", |at| {
            fs::copy(at, at.with_extension("new")).unwrap();
            fs::rename(at.with_extension("new"), at).unwrap();
        }),
        ("another file of the same time", |at| {
            let old = fs::metadata(at).unwrap();
            fs::write(at.with_extension("new"), "real").unwrap();
            let new = fs::File::options().write(true).open(at.with_extension("new")).unwrap();
            new.set_modified(old.modified().unwrap()).unwrap();
            fs::rename(at.with_extension("new"), at).unwrap();
        }),
    ];
    for (what, change) in changes {
        let keep = tempfile::tempdir().unwrap();
        let mut desk = lied_to(&keep);
        let at = desk.path().join("f");
        let before = fs::metadata(&at).unwrap();
        // The clock of the disk ticks before the next change shows.
        loop {
            change(&at);
            let now = fs::metadata(&at).unwrap();
            if (now.ctime(), now.ctime_nsec()) != (before.ctime(), before.ctime_nsec()) {
                break;
            }
        }
        assert_eq!(believed(&mut desk), file(b"real"), "{what}");
    }
}

#[test]
fn what_is_damaged_or_of_others_is_as_good_as_nothing() {
    let keep = tempfile::tempdir().unwrap();
    let mut desk = lied_to(&keep);
    let at = cache_file(keep.path());
    let good = fs::read(&at).unwrap();
    for index in 0..good.len() {
        let mut bad = good.clone();
        bad[index] ^= 1;
        fs::write(&at, &bad).unwrap();
        assert_eq!(desk.workspace().load_cache().len(), 0, "byte {index}");
        fs::write(&at, &good[..index]).unwrap();
        assert_eq!(desk.workspace().load_cache().len(), 0, "cut at {index}");
    }
    fs::write(&at, &good).unwrap();
    assert_eq!(desk.workspace().load_cache().len(), 7);
    let mut desk = desk.ignoring(&["*.log"]);
    assert_eq!(believed(&mut desk), file(b"real"), "other rules");
}

#[test]
fn what_may_still_change_unseen_is_not_kept() {
    let keep = tempfile::tempdir().unwrap();
    let mut desk = lied_to(&keep);
    let mut saved = |horizon: Option<&Horizon>, unsettled: &Dirty| {
        let seen = desk.workspace().tree.known.get(&path("f")).unwrap().clone();
        desk.workspace().tree.record(&path("f"), &seen);
        desk.workspace().save(horizon, unsettled);
        let loaded = desk.workspace().load_cache();
        // Of a folder nothing is believed that a listing does not show.
        let files = loaded.iter().filter(|(_, seen)| seen.hash().is_some());
        let paths: Vec<String> = files.map(|(path, _)| path.to_string()).collect();
        paths
    };
    let none = Dirty::default();
    let all = ["d/sub/x", "f", "ü/ä", "ü/ö"];
    assert_eq!(saved(Some(&later()), &none), all);
    assert_eq!(saved(None, &none), [""; 0], "racy");
    assert_eq!(saved(Some(&Horizon::told((0, 0))), &none), [""; 0], "younger");
    let dirty = |paths: &[&str]| Dirty {
        paths: paths.iter().map(|at| (path(at), true)).collect(),
        everything: false,
    };
    assert_eq!(saved(Some(&later()), &dirty(&["f", "d"])), ["ü/ä", "ü/ö"]);
    assert_eq!(saved(Some(&later()), &Dirty { everything: true, ..Dirty::default() }), [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_saved_is_loaded(names in prop::collection::btree_set("[a-cä-ö]{1,4}(/[a-cä-ö]{1,3}){0,3}", 0..30)) {
        let keep = tempfile::tempdir().unwrap();
        let mut desk = Desk::new(&["f x"]).with(|desk| desk.options = kept(&keep));
        let mut seen = desk.workspace().tree.known.get(&path("f")).unwrap().clone();
        seen.racy = false;
        let all: Vec<_> = names.iter().map(|name| {
            seen.stat.modified.0 -= 1_000_000_000;
            (path(name), seen.clone())
        }).collect();
        let known = &mut desk.workspace().tree.known;
        *known = Known::default();
        for (at, seen) in &all {
            known.insert(at, seen);
        }
        desk.workspace().save(None, &Dirty::default());
        let loaded: Vec<_> = desk.workspace().load_cache().iter().collect();
        let mut all = all;
        all.sort_by(|one, other| one.0.cmp(&other.0));
        prop_assert_eq!(loaded, all);
    }
}

#[test]
fn an_edit_between_sessions_is_compared_as_it_is_read() {
    let keep = tempfile::tempdir().unwrap();
    let mut desk = Desk::new(&["f 1"]).with(|desk| desk.options = kept(&keep));
    let old = noise(300_000);
    fs::write(desk.path().join("f"), &old).unwrap();
    desk.reopen();
    desk.workspace().save(Some(&later()), &Dirty::default());
    let new = [b"in front", &old[..]].concat();
    fs::write(desk.path().join("f"), &new).unwrap();
    desk.reopen();
    let memory = &desk.workspace().tree.memory;
    assert!(memory.delta(Hash::of(&old), Hash::of(&new)).is_some());
}

#[test]
fn what_is_installed_is_known_to_the_next_session() {
    let keep = tempfile::tempdir().unwrap();
    let mut live = Live::new(&["old 1"], kept(&keep));
    let id = next_id();
    live.replica.request(Request::Install { id, entries: news(&["d/", "d/x 1", "y 2"]) });
    live.wait(|reply| matches!(reply, Reply::Installed { .. }));
    let root = live.root;
    // The clock of the disk ticks.
    let since = SystemTime::now();
    while since.elapsed().unwrap_or_default() < Duration::from_millis(30) {}
    live.replica.close();
    assert!(!root.path().join(STAGE_DIR).exists());
    let mut desk = Desk { root, options: kept(&keep), ignore: Vec::new(), workspace: None };
    desk.reopen();
    assert!(!desk.workspace().tree.known.is_changed(), "all was remembered");
}

#[test]
fn the_staging_folder_stands_only_while_it_is_needed() {
    let keep = tempfile::tempdir().unwrap();
    let mut desk = Desk::new(&["f 1"]);
    fs::remove_dir_all(desk.path().join(STAGE_DIR)).unwrap();
    desk = desk.with(|desk| desk.options = kept(&keep));
    let stage = desk.path().join(STAGE_DIR);
    assert!(!stage.exists());
    assert_eq!(
        desk.apply("f", Some(file(b"1")), Some(file(b"2")), b"2"),
        towline_sync_core::message::Outcome::Done
    );
    assert!(stage.exists());
    // Something is on its way.
    let content = towline_sync_core::message::Content::Incoming;
    let id = next_id();
    assert_eq!(desk.begin(id, "g", None, Some(file(b"abc")), &content), None);
    desk.workspace().tidy();
    assert!(stage.exists());
    desk.workspace().cancel(id);
    // Something of the user's waits there.
    let own = stage.join(desk.workspace().store().unwrap().stage_name.clone().unwrap());
    fs::write(own.join("displaced/x"), "mine").unwrap();
    assert!(desk.workspace().tidy());
    assert!(stage.exists());
    fs::remove_file(own.join("displaced/x")).unwrap();
    assert!(!desk.workspace().tidy());
    assert!(!stage.exists());
    assert_eq!(desk.install_lines(&["d/", "d/x 1"]), []);
    assert!(stage.exists());
    desk.workspace().tidy();
    assert!(!stage.exists());

    let keep = tempfile::tempdir().unwrap();
    let mut live = Live::new(&["f 1"], kept(&keep));
    assert!(!live.path().join(STAGE_DIR).exists());
    live.replica.request(Request::Install { id, entries: news(&["d/"]) });
    live.wait(|reply| matches!(reply, Reply::Installed { .. }));
    let until = SystemTime::now() + Duration::from_secs(20);
    while live.path().join(STAGE_DIR).exists() {
        assert!(SystemTime::now() < until, "it stays");
        std::thread::yield_now();
    }
}

#[test]
fn one_session_at_a_time_whatever_it_keeps() {
    let keep = tempfile::tempdir().unwrap();
    let desk = Desk::new(&[]);
    let refused = crate::workspace::Workspace::open(kept(&keep), desk.request()).err().unwrap();
    assert!(refused.message.contains("another sync session is using this folder"), "{refused:?}");
    assert_eq!(refused.errno, rustix::io::Errno::BUSY.raw_os_error());
    let mut desk = desk.with(|desk| desk.options = kept(&keep));
    assert!(desk.workspace().store.is_some());
    assert!(crate::workspace::Workspace::open(ReplicaOptions::default(), desk.request()).is_err());
    let refused = crate::workspace::Workspace::open(kept(&keep), desk.request()).err().unwrap();
    assert_eq!(refused.errno, rustix::io::Errno::BUSY.raw_os_error(), "{refused:?}");
}

#[test]
fn sessions_that_keep_theirs_elsewhere_work_side_by_side() {
    let (keep, other_keep) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut desk = Desk::new(&["f 1"]);
    fs::remove_dir_all(desk.path().join(STAGE_DIR)).unwrap();
    desk = desk.with(|desk| desk.options = kept(&keep));
    let (mut other, _) = crate::workspace::Workspace::open(kept(&other_keep), desk.request()).unwrap();
    let content = towline_sync_core::message::Content::Incoming;
    let id = next_id();
    assert_eq!(desk.begin(id, "g", None, Some(file(b"abc")), &content), None);
    // What is on its way in one is not swept by another that comes, opens its own folder, and goes.
    assert!(other.stage().is_ok());
    other.close();
    let (third, _) = crate::workspace::Workspace::open(kept(&other_keep), desk.request()).unwrap();
    third.close();
    let blocks = [towline_sync_core::message::Block {
        ops: vec![towline_sync_core::message::DeltaOp::Literal(b"abc".to_vec())],
        last: true,
    }];
    assert_eq!(desk.send(id, &blocks), towline_sync_core::message::Outcome::Done);
    desk.workspace().tidy();
    assert!(!desk.path().join(STAGE_DIR).exists());
}
