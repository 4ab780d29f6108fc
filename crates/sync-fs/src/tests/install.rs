//! New entries in batches.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use rustix::io::Errno;
use towline_sync_core::codec::Encoder;
use towline_sync_core::delta::patch;
use towline_sync_core::message::{
    Block, Body, DeltaOp, Found, MAX_BATCH_BYTES, MAX_MESSAGE_BYTES, New, Outcome, Reply, Request, Wanted,
};
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::{Entry, File, Hash, Opaque};

use super::live::Live;
use super::{Desk, errno, file, lines, link, make, next_id, path};
use crate::hook::Moment;
use crate::make::Makers;
use crate::options::ReplicaOptions;

/// Long before any test.
const THEN: (i64, u32) = (1_500_000_000, 123_456_789);

/// Reads entries from the lines that `make` takes.
pub(crate) fn news(lines: &[&str]) -> Vec<New> {
    let new = |line: &&str| {
        let (name, entry, content) = if let Some((name, target)) = line.split_once(" -> ") {
            (name, link(target), "")
        } else if let Some(name) = line.strip_suffix('/') {
            (name, Entry::Directory, "")
        } else {
            let (name, content) = line.split_once(' ').unwrap();
            match name.strip_suffix('!') {
                Some(name) => (name, super::program(content.as_bytes()), content),
                None => (name, file(content.as_bytes()), content),
            }
        };
        let modified = matches!(entry, Entry::File(_)).then_some(THEN);
        let body = Body::Whole(content.as_bytes().to_vec());
        New { path: path(name), from: None, entry, body, modified }
    };
    lines.iter().map(new).collect()
}

impl Desk {
    pub(crate) fn install_lines(&mut self, lines: &[&str]) -> Vec<(u32, Outcome)> {
        self.install(&news(lines))
    }

    /// Replaces a file, in a batch of its own.
    pub(crate) fn replace(&mut self, at: &str, from: File, to: Entry, body: Body) -> Outcome {
        let new = New { path: path(at), from: Some(from), entry: to, body, modified: None };
        self.install(&[new]).pop().map_or(Outcome::Done, |(_, outcome)| outcome)
    }

    fn install(&mut self, news: &[New]) -> Vec<(u32, Outcome)> {
        let id = next_id();
        let mut installed = self.workspace().install_all(vec![(id, news.to_vec())]);
        installed.extend(self.workspace().flush_installs());
        assert_eq!(installed.len(), 1);
        let (answered, failed) = installed.remove(0);
        assert_eq!(answered, id);
        failed
    }
}

/// Installs into a tree and checks what stands after, what was refused, and that our own deed is no news.
#[track_caller]
fn check(before: &[&str], batch: &[&str], refused: &[(u32, Outcome)], after: &[&str]) {
    for plain in [false, true] {
        crate::commit::PLAIN.set(plain);
        for durable in [false, true] {
            let mut desk = Desk::new(before).with(|desk| desk.options.durable = durable);
            assert_eq!(desk.install(&news(batch)), refused, "{batch:?} plain {plain}");
            assert_eq!(lines(desk.path()), after, "{batch:?} plain {plain}");
            desk.assert_swept();
            assert_eq!(desk.workspace().tree.rescan(&mut |_, _| Ok(())).unwrap(), [], "{batch:?}");
        }
        crate::commit::PLAIN.set(false);
    }
}

fn stale(actual: Entry) -> Outcome {
    Outcome::Stale { actual: Some(actual) }
}

fn homeless(at: &str) -> Outcome {
    crate::commit::failed("open the folder of", &path(at), &Errno::NOENT.into())
}

#[test]
fn makes_whole_trees() {
    let all = ["a/", "a/b/", "a/b/x! run", "a/f 1", "a/l -> b/x", "a/z/", "e/", "g ", "h 2"];
    check(&[], &all, &[], &all);
    // Whatever the order, as long as folders come first.
    check(&[], &["e/", "a/", "h 2", "a/z/", "a/b/", "g ", "a/f 1", "a/l -> b/x", "a/b/x! run"], &[], &all);
    check(&["d/x 1"], &["d/y 2", "d/e/", "d/e/z 3"], &[], &["d/", "d/e/", "d/e/z 3", "d/x 1", "d/y 2"]);
}

#[test]
fn folders_that_stand_take_in_what_is_new() {
    check(
        &["d/e/old 1", "d/f same", "d/g other"],
        &["d/", "d/e/", "d/e/new/", "d/e/new/x 2", "d/f same", "d/g mine", "d/h 3"],
        &[(5, stale(file(b"other")))],
        &["d/", "d/e/", "d/e/new/", "d/e/new/x 2", "d/e/old 1", "d/f same", "d/g other", "d/h 3"],
    );
}

#[test]
fn one_failure_fails_what_lies_below() {
    check(
        &["d theirs"],
        &["d/", "d/e/", "d/e/x 1", "d/y 2", "z 3"],
        &[(0, stale(file(b"theirs"))), (1, homeless("d/e")), (2, homeless("d/e/x")), (3, homeless("d/y"))],
        &["d theirs", "z 3"],
    );
    check(
        &[],
        &["a/", "a/out -> ../../x", "a/x 1", "none/y 2"],
        &[
            (
                1,
                Outcome::Failed(crate::tree::refusal(
                    Errno::PERM,
                    "a/out: the symbolic link can lead outside the folder",
                )),
            ),
            (3, homeless("none/y")),
        ],
        &["a/", "a/x 1"],
    );
    // The same name twice, and a child before its folder.
    check(
        &[],
        &["a/b 1", "a/", "a/", "a/c 1", "a/c 2"],
        &[(0, homeless("a/b")), (2, stale(Entry::Directory)), (4, stale(Entry::Opaque(Opaque::Name)))],
        &["a/", "a/c 1"],
    );
}

#[test]
fn many_batches_are_forced_to_the_disk_together() {
    let root_lines = &["old/"];
    let mut desk = Desk::new(root_lines).with(|desk| desk.options.durable = true);
    let first = next_id();
    assert_eq!(desk.workspace().install_all(vec![(first, news(&["a/", "a/x 1"]))]), []);
    let second = next_id();
    let more = news(&["a/b/", "a/b/y 2", "old/z 3", "old/w -> /x"]);
    assert_eq!(desk.workspace().install_all(vec![(second, more)]), []);
    assert_eq!(lines(desk.path()), ["old/"], "not before it is on the disk");
    let installed = desk.workspace().flush_installs();
    assert_eq!(
        installed.iter().map(|(id, failed)| (*id, failed.len())).collect::<Vec<_>>(),
        [(first, 0), (second, 1)]
    );
    assert_eq!(lines(desk.path()), ["a/", "a/b/", "a/b/y 2", "a/x 1", "old/", "old/z 3"]);
    desk.assert_swept();
    assert_eq!(desk.workspace().install_all(vec![(next_id(), news(&["c/", "c/x 1"]))]), []);
    desk.workspace().discard_installs();
    desk.assert_swept();
    assert_eq!(desk.workspace().flush_installs(), []);
}

#[test]
fn requests_that_are_done_together_are_answered_one_by_one() {
    let mut desk = Desk::new(&["old stands"]);
    let ids = [next_id(), next_id(), next_id(), next_id()];
    let mut large = news(&["large 1"]);
    large[0].entry =
        Entry::File(File { size: MAX_BATCH_BYTES as u64 + 1, hash: Hash([0; 32]), executable: false });
    // What lies in a folder of the first one moves with it.
    let all =
        [news(&["a/", "a/x 1"]), large, news(&[]), news(&["b 2", "a/y 3", "a/b/", "old new", "a/b/z 4"])];
    let answers = desk.workspace().install_all(ids.into_iter().zip(all).collect());
    let [(large, refused), answers @ ..] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((*large, refused.len(), refused[0].0), (ids[1], 1, 0));
    assert_eq!(answers, [(ids[0], vec![]), (ids[2], vec![]), (ids[3], vec![(3, stale(file(b"stands")))])]);
    assert_eq!(lines(desk.path()), ["a/", "a/b/", "a/b/z 4", "a/x 1", "a/y 3", "b 2", "old stands"]);
    desk.assert_swept();
    assert_eq!(desk.workspace().tree.rescan(&mut |_, _| Ok(())).unwrap(), []);
}

#[test]
fn an_answer_fits_a_message() {
    let mut desk = Desk::new(&[]);
    let folder = "d".repeat(200);
    let news: Vec<New> =
        (0..4000).flat_map(|number| news(&[&format!("{folder}/{folder}/{folder}/{number} 1")])).collect();
    let failed = desk.install(&news);
    assert_eq!(failed.len(), 4000);
    let reply = Reply::Installed { id: 1, failed };
    let bytes = Encoder::new().encode(&[reply]).len();
    assert!(bytes < MAX_MESSAGE_BYTES);
}

#[test]
fn content_is_verified() {
    let mut batch = news(&["d/", "d/x abc", "d/y abc", "d/z abc"]);
    batch[1].body = Body::Whole(b"abX".to_vec());
    batch[2].body = Body::Whole(b"ab".to_vec());
    let mut desk = Desk::new(&[]);
    assert_eq!(desk.install(&batch), [(1, Outcome::NeedContent), (2, Outcome::NeedContent)]);
    assert_eq!(lines(desk.path()), ["d/", "d/z abc"]);
    desk.assert_swept();
}

#[test]
fn several_threads_make_what_one_makes() {
    let mut text = Vec::new();
    for folder in 0..20 {
        text.push(format!("d{folder}/"));
        text.extend((0..20).map(|number| format!("d{folder}/f{number} content {folder} {number}")));
    }
    text.extend((0..40).map(|number| format!("f{number}! run {number}")));
    text.push("old other".to_owned());
    let text: Vec<&str> = text.iter().map(String::as_str).collect();
    let mut batch = news(&text);
    // What came damaged, and a name that is there already.
    batch[5].body = Body::Whole(b"content 0 X".to_vec());
    let mut after: Vec<_> =
        text.iter().enumerate().filter(|(at, _)| *at != 5).map(|(_, line)| *line).collect();
    *after.last_mut().unwrap() = "old stands";
    after.sort_unstable();
    let last = u32::try_from(batch.len() - 1).unwrap();
    for threads in [1, 2, 4] {
        let mut desk = Desk::new(&["old stands"]);
        desk.workspace().makers = Makers::new(threads);
        let refused = [(5, Outcome::NeedContent), (last, stale(file(b"stands")))];
        assert_eq!(desk.install(&batch), refused, "{threads} threads");
        assert_eq!(desk.workspace().makers.helpers(), threads - 1);
        let mut made = lines(desk.path());
        made.sort_unstable();
        assert_eq!(made, after, "{threads} threads");
        desk.assert_swept();
        assert_eq!(desk.workspace().tree.rescan(&mut |_, _| Ok(())).unwrap(), [], "{threads} threads");
    }
}

#[test]
fn files_keep_their_time_and_get_their_mode() {
    let mut desk = Desk::new(&["old/"]);
    let mut batch = news(&["d/", "d/x 1", "d/p! 2", "old/y 3", "old/z 4"]);
    batch[4].modified = Some((0, 0x3fff_ffff));
    assert_eq!(desk.install(&batch), []);
    let umask = desk.workspace().umask;
    let stat = |at: &str| fs::metadata(desk.root.path().join(at)).unwrap();
    for (at, mode) in [("d/x", 0o666), ("d/p", 0o777), ("old/y", 0o666), ("d", 0o777)] {
        assert_eq!(stat(at).permissions().mode() & 0o777, mode & !umask, "{at}");
    }
    for at in ["d/x", "d/p", "old/y"] {
        assert_eq!((stat(at).mtime(), stat(at).mtime_nsec()), (THEN.0, i64::from(THEN.1)), "{at}");
    }
    assert_ne!(stat("old/z").mtime(), 0, "a time that is none is not taken");
}

#[test]
fn refuses_what_is_not_its_own() {
    let mut desk = Desk::new(&["ig/x 1", "m/", ".git/hooks/", "f old"])
        .ignoring(&["/ig", "*.log"])
        .with(|desk| desk.options.protect = true);
    desk.workspace().tree.mounts = [path("m")].into();
    let before = lines(desk.path());
    let refused = |outcomes: Vec<(u32, Outcome)>| -> Vec<i32> {
        outcomes.iter().map(|(_, outcome)| errno(outcome)).collect()
    };
    let (perm, busy) = (Errno::PERM.raw_os_error(), Errno::BUSY.raw_os_error());
    let own = news(&[
        ".towline-stage/x 1",
        ".towline-stage/",
        "new.log 1",
        "ig/new 1",
        "ig/new/",
        "l -> ../x",
        ".git/config 1",
        ".GIT/",
        ".vscode/",
        "okteto.yml 1",
    ]);
    assert_eq!(refused(desk.install(&own)), [perm; 10]);
    assert_eq!(refused(desk.install(&news(&["m/x 1"]))), [busy]);
    let opaque = New { entry: Entry::Opaque(Opaque::Special), ..news(&["x 1"]).remove(0) };
    assert_eq!(refused(desk.install(&[opaque])), [perm]);
    assert_eq!(lines(desk.path()), before);
    // Another name of a protected folder is not written into either.
    let alias = desk.path().join("alias");
    fs::rename(desk.path().join(".git"), &alias).unwrap();
    assert_eq!(refused(desk.install(&news(&["alias/", "alias/x 1", "alias/hooks/y 1"]))), [perm; 2]);
    assert_eq!(fs::read_dir(&alias).unwrap().count(), 1);
    desk.assert_swept();
}

#[test]
fn limits_hold() {
    let mut desk = Desk::new(&[]).with(|desk| desk.options.limits.file_size = 2);
    assert_eq!(errno(&desk.install(&news(&["x 123"]))[0].1), Errno::FBIG.raw_os_error());
    let mut huge = news(&["x ", "y "]);
    for new in &mut huge {
        let content = vec![0; MAX_BATCH_BYTES / 2 + 1];
        new.entry = file(&content);
        new.body = Body::Whole(content);
    }
    let outcomes = desk.install(&huge);
    assert_eq!(outcomes.iter().map(|(_, outcome)| errno(outcome)).collect::<Vec<_>>(), [27, 27]);
    let mut many: Vec<New> = Vec::new();
    for number in 0..500 {
        many.extend(news(&[&format!("d{number}/"), &format!("d{number}/e/")]));
    }
    // So many that not all folders can be held open, in the order that is worst for it.
    for number in 0..500 {
        many.extend(news(&[&format!("d{number}/e/x 1")]));
    }
    assert_eq!(desk.install(&many), []);
    assert_eq!(lines(desk.path()).len(), 1500);
}

#[test]
fn never_through_a_link() {
    let outside = tempfile::tempdir().unwrap();
    let mut desk = Desk::new(&["f old"]);
    symlink(outside.path(), desk.path().join("out")).unwrap();
    let outcomes = desk.install(&news(&["out/", "out/x 1", "out2/", "out2/x 1"]));
    assert_eq!(outcomes.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1]);
    let number = errno(&desk.install(&news(&["out/x 1"]))[0].1);
    assert!([Errno::LOOP, Errno::NOTDIR].map(Errno::raw_os_error).contains(&number), "{number}");
    assert_eq!(lines(outside.path()), Vec::<String>::new());
    desk.assert_swept();
}

#[test]
fn what_the_user_makes_meanwhile_stays() {
    // Between our last look and our rename.
    for theirs in ["d theirs", "d/", "d/x theirs", "d/x/"] {
        let mut desk = Desk::new(&[]);
        let root = desk.path().to_owned();
        desk.hook(move |moment, at| {
            if moment == Moment::Checked && at.as_str() == "d" {
                make(&root, &[theirs]);
            }
            Ok(())
        });
        let failed = desk.install(&news(&["d/", "d/x mine", "d/y mine"]));
        let standing = lines(desk.path());
        assert!(standing.contains(&theirs.to_owned()), "{theirs}: {standing:?}");
        let ours = usize::from(standing.contains(&"d/x mine".to_owned()));
        assert_eq!(failed.len(), [3, 1, 0][usize::from(theirs != "d theirs") + ours], "{theirs}: {failed:?}");
        desk.assert_swept();
        // What is theirs is news.
        let suspects = desk.workspace().take_suspects();
        let told = desk.workspace().tree.settle(&suspects).unwrap();
        if theirs != "d/" {
            assert!(!told.is_empty(), "{theirs}");
        }
        assert_eq!(desk.workspace().tree.rescan(&mut |_, _| Ok(())).unwrap(), [], "{theirs}");
    }
}

#[test]
fn killed_at_any_moment_entries_are_whole() {
    let batch = ["a/", "a/b/", "a/b/x 1", "a/y 2", "old/z 3", "c/", "c/w 4"];
    let mut kills = 0;
    for at in ["a", "a/b", "a/b/x", "a/y", "old/z", "c", "c/w"] {
        for moment in [Moment::Write, Moment::Staged, Moment::Checked] {
            let mut desk = Desk::new(&["old/"]);
            desk.hook(move |now, path: &RelPath| {
                if now == moment && path.as_str() == at {
                    resume_unwind(Box::new(()));
                }
                Ok(())
            });
            kills += usize::from(catch_unwind(AssertUnwindSafe(|| desk.install(&news(&batch)))).is_err());
            desk.reopen();
            desk.assert_swept();
            let now = lines(desk.path());
            let whole = [("a/", 4), ("c/", 2), ("old/z 3", 1)];
            let expected: usize = 1 + whole
                .iter()
                .map(|(top, count)| usize::from(now.contains(&(*top).to_owned())) * count)
                .sum::<usize>();
            assert_eq!(now.len(), expected, "{at} {moment:?}: {now:?}");
            assert_eq!(desk.install(&news(&batch)), [], "{at} {moment:?}");
            assert_eq!(lines(desk.path()).len(), 8);
        }
    }
    assert!(kills > 14, "{kills}");
}

#[test]
fn new_folders_are_watched_from_their_first_moment() {
    let mut live = Live::new(&["old/"], ReplicaOptions::default());
    let id = next_id();
    let entries = news(&["d/", "d/e/", "d/e/x 1", "old/y 2", "f 3"]);
    live.replica.request(Request::Install { id, entries });
    let reply = live.wait(|reply| matches!(reply, Reply::Installed { .. }));
    assert_eq!(reply, Reply::Installed { id, failed: Vec::new() });
    fs::write(live.path().join("d/e/late"), "3").unwrap();
    live.wait(|reply| matches!(reply, Reply::Changed(all) if all.iter().any(|c| c.path == path("d/e/late"))));
    assert_eq!(live.changes.keys().map(ToString::to_string).collect::<Vec<_>>(), ["d/e/late"]);
}

#[test]
fn content_waits_for_room() {
    // Held up in the first entry until all the rest has come.
    let (go_tx, go_rx) = std::sync::mpsc::channel::<()>();
    let mut go_rx = Some(go_rx);
    let mut live = Live::configured(&[], ReplicaOptions::default(), &[], move |workspace| {
        let go_rx = go_rx.take();
        workspace.hook.step = Some(Box::new(move |_, at| {
            if let (Some(go_rx), "0") = (&go_rx, at.as_str()) {
                let _gone = go_rx.recv();
            }
            Ok(())
        }));
    });
    live.room().recv_timeout(std::time::Duration::from_secs(20)).unwrap();
    let content = vec![7; 60_000];
    for number in 0..60 {
        let mut batch = news(&[&format!("{number} ")]);
        batch[0].entry = file(&content);
        batch[0].body = Body::Whole(content.clone());
        live.replica.request(Request::Install { id: number, entries: batch });
    }
    let room_rx = live.room();
    assert!(room_rx.try_recv().is_err(), "3.6 MB are enough");
    drop(go_tx);
    room_rx.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
    live.wait(|reply| matches!(reply, Reply::Installed { id: 59, .. }));
}

#[test]
fn what_comes_before_a_root_is_refused() {
    let (reply_tx, reply_rx) = std::sync::mpsc::sync_channel(16);
    let replica = crate::spawn(ReplicaOptions::default(), move |reply| reply_tx.send(reply).is_ok()).unwrap();
    replica.request(Request::Install { id: 1, entries: news(&["a/", "a/x 1"]) });
    replica.request(Request::Fetch { id: 2, files: vec![wanted("f", expect(b"1"))] });
    let next = || reply_rx.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
    let Reply::Installed { id: 1, failed } = next() else { panic!("no answer") };
    assert_eq!(
        failed.iter().map(|(index, outcome)| (*index, errno(outcome))).collect::<Vec<_>>(),
        [(0, 9), (1, 9)]
    );
    assert_eq!(next(), Reply::Fetched { id: 2, files: vec![None] });
}

fn expect(content: &[u8]) -> File {
    File { hash: Hash::of(content), size: content.len() as u64, executable: false }
}

fn wanted(at: &str, file: File) -> Wanted {
    Wanted { path: path(at), file, basis: None }
}

#[test]
fn small_files_are_fetched_together() {
    let lines = &["f real", "d/x 1", "d/p! 2", "l -> f", "x.log secret", "no/y 1"];
    let mut desk = Desk::new(lines).ignoring(&["*.log", "/no"]);
    let large = vec![7; 70_000];
    fs::write(desk.path().join("large"), &large).unwrap();
    let believed = desk.path().join("believed");
    fs::write(&believed, "once").unwrap();
    desk.reopen();
    let mut seen = desk.workspace().tree.known.get(&path("believed")).unwrap().clone();
    seen.racy = false;
    seen.entry = file(b"1234");
    desk.workspace().tree.record(&path("believed"), &seen);
    let asked = [
        ("f", expect(b"real"), true),
        ("d/x", expect(b"1"), true),
        ("d/p", File { executable: true, ..expect(b"2") }, true),
        ("d/p", expect(b"2"), false),
        ("f", expect(b"fake"), false),
        ("f", expect(b"longer"), false),
        ("d", expect(b""), false),
        ("l", expect(b"real"), false),
        ("none", expect(b""), false),
        ("x.log", expect(b"secret"), false),
        ("no/y", expect(b"1"), false),
        ("large", expect(&large), false),
        // With the stat that is known, the content is what is known.
        ("believed", expect(b"1234"), true),
        ("believed", expect(b"once"), false),
        ("f", expect(b"real"), true),
    ];
    let files: Vec<_> = asked.iter().map(|(at, file, _)| wanted(at, *file)).collect();
    let fetched = desk.workspace().tree.fetch(&files);
    for ((at, expected, there), found) in asked.iter().zip(&fetched) {
        assert_eq!(found.is_some(), *there, "{at} {expected:?}");
        if let Some(found) = found {
            assert_eq!(found.body, Body::Whole(fs::read(desk.path().join(at)).unwrap()));
            let stat = fs::metadata(desk.path().join(at)).unwrap();
            assert_eq!(
                found.modified.map(|time| (time.0, i64::from(time.1))),
                Some((stat.mtime(), stat.mtime_nsec()))
            );
        }
    }
}

#[test]
fn a_fetch_is_bounded() {
    let content = vec![7; 60_000];
    let mut desk = Desk::new(&[]);
    fs::write(desk.path().join("f"), &content).unwrap();
    let files = vec![wanted("f", expect(&content)); 10];
    let fetched = desk.workspace().tree.fetch(&files);
    assert_eq!(fetched.iter().filter(|file| file.is_some()).count(), MAX_BATCH_BYTES / 60_000);
}

/// Lines that differ.
fn listing(lines: u32) -> Vec<u8> {
    (0..lines).flat_map(|line| format!("line {line}\n").into_bytes()).collect()
}

#[test]
fn an_edit_is_fetched_as_a_difference() {
    let keep = tempfile::tempdir().unwrap();
    let desk = Desk::new(&[]);
    let (old, name) = (listing(1000), desk.path().join("f"));
    fs::write(&name, &old).unwrap();
    let mut desk = desk.with(|desk| desk.options.keep = Some(keep.path().join("keep")));
    let mut new = old.clone();
    new.splice(5000..5001, *b"something else");
    for settled in [true, false] {
        fs::write(&name, &new).unwrap();
        if settled {
            // The file is compared when it is hashed; otherwise when it is fetched.
            let dirty = [(path("f"), true)].into();
            assert_eq!(desk.workspace().tree.settle(&dirty).unwrap().len(), 1);
        }
        let basis = Some(Hash::of(&old));
        let fetched =
            desk.workspace().tree.fetch(&[Wanted { basis, ..wanted("f", expect(&new)) }]).pop().unwrap();
        let Some(Found { body: Body::Delta(ops), .. }) = fetched else { panic!("{fetched:?}") };
        let literals: usize = ops.iter().map(DeltaOp::carried).sum();
        assert!(literals < 600, "{literals}");
        let block = Block { ops: ops.clone(), last: true };
        assert_eq!(patch(&old, new.len() as u64, [block]).unwrap(), new);
        // The receiver makes the same of it.
        let mut other = Desk::new(&[]);
        fs::write(other.path().join("f"), &old).unwrap();
        other.reopen();
        assert_eq!(other.replace("f", expect(&old), file(&new), Body::Delta(ops)), Outcome::Done);
        assert_eq!(fs::read(other.path().join("f")).unwrap(), new);
        other.assert_swept();
        new.extend(b"more");
    }
    let unknown = Some(Hash::of(b"never seen"));
    let fetched = desk.workspace().tree.fetch(&[Wanted { basis: unknown, ..wanted("f", expect(&new)) }]);
    assert_eq!(fetched[0], None, "it is not what is there");
}

#[test]
fn what_is_known_of_contents_outlives_the_session() {
    let keep = tempfile::tempdir().unwrap();
    let desk = Desk::new(&[]);
    let old = listing(300);
    fs::write(desk.path().join("f"), &old).unwrap();
    let mut desk = desk.with(|desk| desk.options.keep = Some(keep.path().join("keep")));
    assert!(desk.workspace().tree.memory.signature(Hash::of(&old)).is_some());
    desk.workspace().save(None, &crate::inbox::Dirty::default());
    desk.reopen();
    fs::write(desk.path().join("f"), b"other").unwrap();
    desk.reopen();
    assert!(desk.workspace().tree.memory.signature(Hash::of(&old)).is_some());
}

#[test]
fn a_difference_that_lies_changes_nothing() {
    let copy = |offset, length| DeltaOp::Copy { offset, length };
    let literal = |text: &str| DeltaOp::Literal(text.as_bytes().to_vec());
    for (ops, expected) in [
        (vec![copy(0, 2), literal("X")], Outcome::NeedContent),
        (vec![copy(0, 4)], Outcome::NeedContent),
        (vec![copy(0, 3), literal("d")], Outcome::NeedContent),
        (vec![copy(u64::MAX, 3)], Outcome::NeedContent),
        (vec![copy(0, u64::MAX)], Outcome::NeedContent),
        (vec![], Outcome::NeedContent),
        (vec![literal("new")], Outcome::Done),
        (vec![literal("n"), copy(2, 1), literal("")], Outcome::NeedContent),
    ] {
        let mut desk = Desk::new(&["f old"]);
        let done = expected == Outcome::Done;
        assert_eq!(desk.replace("f", expect(b"old"), file(b"new"), Body::Delta(ops)), expected);
        assert_eq!(lines(desk.path()), [if done { "f new" } else { "f old" }]);
        desk.assert_swept();
    }
}

#[test]
fn what_was_thrown_away_is_built_upon() {
    let mut desk = Desk::new(&["f old"]);
    assert_eq!(desk.apply("f", Some(file(b"old")), None, b""), Outcome::Done);
    let ops = vec![DeltaOp::Copy { offset: 0, length: 2 }, DeltaOp::Literal(b"k".to_vec())];
    let mut batch = news(&["f olk", "g olk", "h olX"]);
    for (new, of) in batch.iter_mut().zip([&b"old"[..], b"other", b"old"]) {
        new.body = Body::Past { of: Hash::of(of), ops: ops.clone() };
    }
    assert_eq!(desk.install(&batch), [(1, Outcome::NeedContent), (2, Outcome::NeedContent)]);
    assert_eq!(lines(desk.path()), ["f olk"]);
    desk.assert_swept();
}

#[test]
fn a_batch_that_is_no_batch_is_refused() {
    let whole = || Body::Whole(b"new".to_vec());
    let from = Some(expect(b"old"));
    let mut desk = Desk::new(&["f old", "ig old", ".git/config old", "m/f old"]).ignoring(&["/ig"]);
    desk.workspace().tree.mounts = [path("m")].into();
    let before = lines(desk.path());
    for (at, entry) in
        [("f", Entry::Directory), ("f", link("x")), ("ig", file(b"new")), ("m/f", file(b"new"))]
    {
        let new = New { path: path(at), from, entry, body: whole(), modified: None };
        errno(&desk.install(&[new])[0].1);
    }
    // Nothing can be replaced in a folder that is being made.
    let mut batch = news(&["d/", "d/f new"]);
    batch[1].from = from;
    assert_eq!(desk.install(&batch), [(1, Outcome::Stale { actual: None })]);
    fs::remove_dir(desk.path().join("d")).unwrap();
    assert_eq!(lines(desk.path()), before);
    let mut desk = desk.with(|desk| desk.options.protect = true);
    let alias = desk.path().join("alias");
    fs::hard_link(desk.path().join(".git/config"), alias).unwrap();
    for at in [".git/config", "alias"] {
        errno(&desk.replace(at, expect(b"old"), file(b"new"), whole()));
    }
    desk.assert_swept();
}

#[test]
fn a_replaced_file_keeps_its_mode_and_its_events_are_no_news() {
    let mut desk = Desk::new(&["f old"]);
    fs::set_permissions(desk.path().join("f"), fs::Permissions::from_mode(0o640)).unwrap();
    desk.reopen();
    let whole = |text: &str| Body::Whole(text.as_bytes().to_vec());
    assert_eq!(desk.replace("f", expect(b"old"), super::program(b"new"), whole("new")), Outcome::Done);
    assert_eq!(fs::metadata(desk.path().join("f")).unwrap().permissions().mode() & 0o7777, 0o750);
    assert_eq!(
        desk.replace("f", expect(b"old"), super::program(b"new"), whole("?")),
        Outcome::Done,
        "so already"
    );
    let seen = desk.workspace().tree.known.get(&path("f")).unwrap().clone();
    assert!(!seen.racy, "every later write shows in its time");
    assert_eq!(seen.stat.modified.0, fs::metadata(desk.path().join("f")).unwrap().mtime());
    assert_eq!(desk.trash(), ["old"]);
    // Written at once, with a content of the same length.
    fs::write(desk.path().join("f"), "oof").unwrap();
    let dirty = [(path("f"), true)].into();
    assert_eq!(desk.workspace().tree.settle(&dirty).unwrap().len(), 1);
}
