//! Transitions, one by one.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use rustix::io::Errno;
use towline_sync_core::message::{Block, Body, Content, DeltaOp, Outcome, conflict_name};
use towline_sync_core::snapshot::{Entry, File, Hash, Opaque};

use super::{Desk, errno, file, lines, link, next_id, path, program};
use crate::commit::PLAIN;
use crate::hook::Moment;

const OLD: &[&str] = &["d/", "e/x ex", "f old", "l -> f", "p! prog"];

#[track_caller]
fn check(
    at: &str,
    from: Option<Entry>,
    to: Option<Entry>,
    content: &[u8],
    outcome: &Outcome,
    changed: &[(&str, &str)],
) {
    check_one(at, from.clone(), to.clone(), content, outcome, changed);
    PLAIN.set(true);
    check_one(at, from, to, content, outcome, changed);
    PLAIN.set(false);
}

#[track_caller]
fn check_one(
    at: &str,
    from: Option<Entry>,
    to: Option<Entry>,
    content: &[u8],
    outcome: &Outcome,
    changed: &[(&str, &str)],
) {
    check_with(at, outcome, changed, |desk| desk.apply(at, from.clone(), to.clone(), content));
    if let (Some(Entry::File(from)), Some(to @ Entry::File(_))) = (from, to) {
        check_with(at, outcome, changed, |desk| desk.replace(at, from, to, Body::Whole(content.to_vec())));
    }
}

#[track_caller]
fn check_with(
    at: &str,
    outcome: &Outcome,
    changed: &[(&str, &str)],
    apply: impl FnOnce(&mut Desk) -> Outcome,
) {
    let mut desk = Desk::new(OLD);
    let mut expected = lines(desk.path());
    for (old, new) in changed {
        expected.retain(|line| line != old);
        expected.extend((!new.is_empty()).then(|| (*new).to_owned()));
    }
    expected.sort();
    assert_eq!(apply(&mut desk), *outcome, "{at}");
    assert_eq!(lines(desk.path()), expected, "{at}");
    desk.assert_swept();
    if *outcome == Outcome::Done {
        // Our own deed is no news.
        let all: Vec<_> = ["d", "e", "e/x", "f", "l", "p", "new"].map(|at| (path(at), false)).into();
        assert_eq!(desk.workspace().tree.settle(&all.into_iter().collect()).unwrap(), []);
        assert_eq!(desk.workspace().tree.rescan(&mut |_, _| Ok(())).unwrap(), []);
    }
}

fn stale(actual: Option<Entry>) -> Outcome {
    Outcome::Stale { actual }
}

#[test]
fn creates() {
    check("new", None, Some(file(b"abc")), b"abc", &Outcome::Done, &[("", "new abc")]);
    check("new", None, Some(program(b"abc")), b"abc", &Outcome::Done, &[("", "new! abc")]);
    check("new", None, Some(file(b"")), b"", &Outcome::Done, &[("", "new ")]);
    check("e/new", None, Some(file(b"abc")), b"abc", &Outcome::Done, &[("", "e/new abc")]);
    check("new", None, Some(Entry::Directory), b"", &Outcome::Done, &[("", "new/")]);
    check("e/new", None, Some(link("../f")), b"", &Outcome::Done, &[("", "e/new -> ../f")]);
}

#[test]
fn replaces() {
    let done = &Outcome::Done;
    check("f", Some(file(b"old")), Some(file(b"new")), b"new", done, &[("f old", "f new")]);
    check("f", Some(file(b"old")), Some(program(b"new")), b"new", done, &[("f old", "f! new")]);
    check("p", Some(program(b"prog")), Some(file(b"new")), b"new", done, &[("p! prog", "p new")]);
    check("f", Some(file(b"old")), Some(Entry::Directory), b"", done, &[("f old", "f/")]);
    check("d", Some(Entry::Directory), Some(file(b"new")), b"new", done, &[("d/", "d new")]);
    check("d", Some(Entry::Directory), Some(link("f")), b"", done, &[("d/", "d -> f")]);
    check("f", Some(file(b"old")), Some(link("p")), b"", done, &[("f old", "f -> p")]);
    check("l", Some(link("f")), Some(link("p")), b"", done, &[("l -> f", "l -> p")]);
    check("l", Some(link("f")), Some(file(b"new")), b"new", done, &[("l -> f", "l new")]);
    check("l", Some(link("f")), Some(Entry::Directory), b"", done, &[("l -> f", "l/")]);
}

#[test]
fn deletes() {
    check("f", Some(file(b"old")), None, b"", &Outcome::Done, &[("f old", "")]);
    check("l", Some(link("f")), None, b"", &Outcome::Done, &[("l -> f", "")]);
    check("d", Some(Entry::Directory), None, b"", &Outcome::Done, &[("d/", "")]);
    check("gone", Some(file(b"x")), None, b"", &Outcome::Done, &[]);
    check("gone/x", Some(file(b"x")), None, b"", &Outcome::Done, &[]);
}

#[test]
fn does_nothing_where_something_else_stands() {
    check("f", None, Some(file(b"new")), b"new", &stale(Some(file(b"old"))), &[]);
    check("f", Some(file(b"other")), Some(file(b"new")), b"new", &stale(Some(file(b"old"))), &[]);
    check("f", Some(program(b"old")), Some(file(b"new")), b"new", &stale(Some(file(b"old"))), &[]);
    check("f", Some(file(b"other")), None, b"", &stale(Some(file(b"old"))), &[]);
    check("f", Some(Entry::Directory), None, b"", &stale(Some(file(b"old"))), &[]);
    check("f", None, Some(Entry::Directory), b"", &stale(Some(file(b"old"))), &[]);
    check("f", None, Some(link("p")), b"", &stale(Some(file(b"old"))), &[]);
    check("d", None, Some(file(b"new")), b"new", &stale(Some(Entry::Directory)), &[]);
    check("l", Some(file(b"old")), Some(file(b"new")), b"new", &stale(Some(link("f"))), &[]);
    check("new", Some(file(b"old")), Some(file(b"new")), b"new", &stale(None), &[]);
    check("e", Some(Entry::Directory), None, b"", &stale(Some(Entry::Directory)), &[]);
    check("e", Some(Entry::Directory), Some(file(b"new")), b"new", &stale(Some(Entry::Directory)), &[]);
}

#[test]
fn what_is_there_already_is_done() {
    check("f", Some(file(b"before")), Some(file(b"old")), b"old", &Outcome::Done, &[]);
    check("d", None, Some(Entry::Directory), b"", &Outcome::Done, &[]);
    check("l", None, Some(link("f")), b"", &Outcome::Done, &[]);
}

#[test]
fn content_must_be_what_was_announced() {
    for (content, number) in [(&b"abX"[..], Errno::IO), (b"abcd", Errno::PROTO), (b"ab", Errno::PROTO)] {
        let mut desk = Desk::new(OLD);
        let before = lines(desk.path());
        assert_eq!(errno(&desk.apply("new", None, Some(file(b"abc")), content)), number.raw_os_error());
        assert_eq!(lines(desk.path()), before);
        desk.assert_swept();
    }
}

#[test]
fn the_exec_bit_travels_alone() {
    let mut desk = Desk::new(&["f old"]);
    fs::set_permissions(desk.path().join("f"), fs::Permissions::from_mode(0o640)).unwrap();
    let mode = |desk: &Desk| fs::metadata(desk.path().join("f")).unwrap().permissions().mode() & 0o7777;
    let turn = |desk: &mut Desk, from, to| desk.begin(next_id(), "f", Some(from), Some(to), &Content::None);
    assert_eq!(turn(&mut desk, file(b"old"), program(b"old")), Some(Outcome::Done));
    assert_eq!(mode(&desk), 0o750);
    assert_eq!(turn(&mut desk, program(b"old"), file(b"old")), Some(Outcome::Done));
    assert_eq!(mode(&desk), 0o640);
    assert_eq!(turn(&mut desk, program(b"old"), file(b"old")), Some(Outcome::Done), "already so");
    let other = turn(&mut desk, program(b"abc"), file(b"abc"));
    assert_eq!(other, Some(stale(Some(file(b"old")))));
    assert_eq!(turn(&mut desk, file(b"old"), file(b"new")), Some(Outcome::NeedContent));
    // A replacement keeps the bits of what it replaces.
    assert_eq!(desk.apply("f", Some(file(b"old")), Some(file(b"new")), b"new"), Outcome::Done);
    assert_eq!(mode(&desk), 0o640);
}

#[test]
fn copies_what_is_already_here() {
    let mut desk = Desk::new(OLD);
    let mut copy = |at: &str, from: &str, content: &[u8]| {
        let content_from = Content::Copy { from: path(from) };
        desk.begin(next_id(), at, None, Some(file(content)), &content_from).unwrap()
    };
    assert_eq!(copy("new", "f", b"old"), Outcome::Done);
    assert_eq!(copy("new2", "f", b"xyz"), Outcome::NeedContent);
    assert_eq!(copy("new2", "f", b"longer than it is"), Outcome::NeedContent);
    assert_eq!(copy("new2", "nothing", b"old"), Outcome::NeedContent);
    assert_eq!(copy("new2", "l", b"old"), Outcome::NeedContent, "a link is not followed");
    desk.assert_swept();
    // A rename that comes as a delete and a create finds the content in the trash.
    assert_eq!(desk.apply("e/x", Some(file(b"ex")), None, b""), Outcome::Done);
    let content = Content::Copy { from: path("e/x") };
    assert_eq!(desk.begin(next_id(), "y", None, Some(file(b"ex")), &content), Some(Outcome::Done));
    assert!(lines(desk.path()).contains(&"y ex".to_owned()));
}

#[test]
fn builds_on_the_version_that_is_replaced() {
    let old: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let mut new = b"front ".to_vec();
    new.extend(&old);
    let blocks = [
        Block { ops: vec![DeltaOp::Literal(b"front ".to_vec())], last: false },
        Block { ops: vec![DeltaOp::Copy { offset: 0, length: 500_000 }], last: false },
        Block { ops: vec![DeltaOp::Copy { offset: 500_000, length: 300_000 }], last: true },
    ];
    let attempt = |change: &dyn Fn(&Desk), blocks: &[Block]| {
        let mut desk = Desk::new(&[]);
        fs::write(desk.path().join("f"), &old).unwrap();
        desk.reopen();
        let id = next_id();
        assert_eq!(desk.begin(id, "f", Some(file(&old)), Some(file(&new)), &Content::Incoming), None);
        change(&desk);
        let outcome = desk.send(id, blocks);
        desk.assert_swept();
        (outcome, fs::read(desk.path().join("f")).unwrap())
    };
    assert!(attempt(&|_| (), &blocks) == (Outcome::Done, new.clone()));
    let edited = attempt(&|desk| fs::write(desk.path().join("f"), "edited").unwrap(), &blocks);
    assert_eq!(edited, (Outcome::NeedContent, b"edited".to_vec()));
    let mut wrong = blocks.clone();
    wrong[1].ops = vec![DeltaOp::Copy { offset: 4, length: 500_000 }];
    assert!(attempt(&|_| (), &wrong) == (Outcome::NeedContent, old.clone()));
    wrong[1].ops = vec![DeltaOp::Copy { offset: u64::MAX, length: 2 }];
    let (outcome, content) = attempt(&|_| (), &wrong);
    assert_eq!(errno(&outcome), Errno::PROTO.raw_os_error());
    assert!(content == old);
}

#[test]
fn never_writes_through_a_link_or_without_a_folder() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("x"), "theirs").unwrap();
    let mut desk = Desk::new(&["f old", "deep/er/x 1"]);
    symlink(outside.path(), desk.path().join("out")).unwrap();
    desk.reopen();
    for at in ["out/new", "out/x", "out/deep/x", "f/new", "nowhere/new"] {
        for to in [file(b"abc"), Entry::Directory, link("f")] {
            let number = errno(&desk.apply(at, None, Some(to), b"abc"));
            let expected = [Errno::LOOP, Errno::NOTDIR, Errno::NOENT].map(Errno::raw_os_error);
            assert!(expected.contains(&number), "{at}: {number}");
        }
    }
    assert_ne!(desk.apply("out/x", Some(file(b"theirs")), None, b""), Outcome::Done);
    assert_eq!(lines(outside.path()), ["x theirs"]);
    desk.assert_swept();
}

#[test]
fn refuses_what_is_not_its_own() {
    let mut desk = Desk::new(&["ig/x 1", "f.log log", "f old"]).ignoring(&["/ig", "*.log"]);
    let before = lines(desk.path());
    let opaque = Some(Entry::Opaque(Opaque::Special));
    for (at, from, to) in [
        (".towline-stage/incoming/x", None, Some(file(b"abc"))),
        (".towline-stage", Some(Entry::Directory), None),
        ("f.log", Some(file(b"log")), Some(file(b"abc"))),
        ("f.log", Some(file(b"log")), None),
        ("new.log", None, Some(file(b"abc"))),
        ("ig", Some(Entry::Directory), None),
        ("ig/new", None, Some(Entry::Directory)),
        ("f", Some(file(b"old")), opaque.clone()),
        ("f", opaque, None),
        ("link", None, Some(link("../x"))),
        ("link", None, Some(link("/etc/passwd"))),
        ("link", None, Some(link("a/../../x"))),
    ] {
        assert_eq!(errno(&desk.apply(at, from, to, b"abc")), Errno::PERM.raw_os_error(), "{at}");
    }
    let content = Content::Copy { from: path("f.log") };
    let copied = desk.begin(next_id(), "new", None, Some(file(b"log")), &content);
    assert_eq!(copied, Some(Outcome::NeedContent), "ignored files are not read");
    assert_eq!(lines(desk.path()), before);
}

#[test]
fn protects_what_runs_code() {
    let mut desk = Desk::new(&[".envrc x", ".git/hooks/pre-commit! x", "f old"]);
    fs::hard_link(desk.path().join(".envrc"), desk.path().join("alias")).unwrap();
    desk = desk.with(|desk| desk.options.protect = true);
    let before = lines(desk.path());
    for (at, from, to) in [
        (".git/config", None, Some(file(b"abc"))),
        (".GIT/config", None, Some(file(b"abc"))),
        ("git~1/x", None, Some(file(b"abc"))),
        (".envrc", Some(file(b"x")), Some(file(b"abc"))),
        (".vscode", None, Some(Entry::Directory)),
        (".git/hooks/pre-commit", Some(program(b"x")), None),
        ("alias", Some(file(b"x")), Some(file(b"abc"))),
    ] {
        assert_eq!(errno(&desk.apply(at, from, to, b"abc")), Errno::PERM.raw_os_error(), "{at}");
    }
    assert_eq!(lines(desk.path()), before);
    assert_eq!(desk.apply("f", Some(file(b"old")), Some(file(b"abc")), b"abc"), Outcome::Done);
    let mut pod = Desk::new(&[]);
    assert_eq!(pod.apply(".envrc", None, Some(file(b"abc")), b"abc"), Outcome::Done, "in a pod nothing is");
}

#[test]
fn a_folder_goes_with_what_may_go_with_it() {
    let outcome = |lines_before: &[&str], ignore: &[&str]| {
        let mut desk = Desk::new(lines_before).ignoring(ignore);
        let before = lines(desk.path());
        let outcome = desk.apply("d", Some(Entry::Directory), None, b"");
        let after = lines(desk.path());
        assert_eq!(before != after, outcome == Outcome::Done, "all or nothing");
        (outcome, after)
    };
    let rules = &["(?d)*.tmp", "(?d)cache", "*.log"];
    assert_eq!(outcome(&["d/a.tmp x", "d/cache/deep/x 1", "d/cache/l -> x"], rules), (Outcome::Done, vec![]));
    assert_eq!(outcome(&["d/a.tmp x", "d/b.log x"], rules).0, Outcome::Kept);
    assert_eq!(outcome(&["d/cache/x 1", "d/sub/b.log x"], rules).0, Outcome::Kept);
    let directory = || stale(Some(Entry::Directory));
    assert_eq!(outcome(&["d/a.tmp x", "d/new x"], rules).0, directory());
    assert_eq!(outcome(&["d/a.tmp x", "d/new/"], rules).0, directory());
}

#[test]
fn limits_hold() {
    let refused = |change: &dyn Fn(&mut Desk)| {
        let mut desk = Desk::new(&[]).with(|desk| change(desk));
        let number = errno(&desk.apply("new", None, Some(file(b"abc")), b"abc"));
        assert_eq!(lines(desk.path()), Vec::<String>::new());
        desk.assert_swept();
        number
    };
    assert_eq!(refused(&|desk| desk.options.limits.file_size = 2), Errno::FBIG.raw_os_error());
    assert_eq!(refused(&|desk| desk.options.limits.incoming = 0), Errno::MFILE.raw_os_error());
    let mut desk = Desk::new(&[]);
    desk.options.limits.file_size = u64::MAX;
    desk.reopen();
    let huge = Entry::File(File { hash: Hash::of(b""), size: u64::MAX / 2, executable: false });
    assert_eq!(errno(&desk.apply("new", None, Some(huge), b"")), Errno::NOSPC.raw_os_error());
}

#[test]
fn a_refusal_of_the_disk_changes_nothing() {
    type Case = (&'static str, Option<Entry>, Option<Entry>);
    let cases: [Case; 6] = [
        ("new", None, Some(file(b"abc"))),
        ("f", Some(file(b"old")), Some(file(b"abc"))),
        ("f", Some(file(b"old")), Some(Entry::Directory)),
        ("d", Some(Entry::Directory), Some(link("f"))),
        ("f", Some(file(b"old")), None),
        ("d", Some(Entry::Directory), None),
    ];
    for error in [Errno::NOSPC, Errno::DQUOT, Errno::ACCESS, Errno::ROFS, Errno::BUSY, Errno::NAMETOOLONG] {
        for moment in [Moment::Write, Moment::Staged, Moment::Checked] {
            for (at, from, to) in cases.clone() {
                let mut desk = Desk::new(OLD);
                let before = lines(desk.path());
                desk.hook(move |now, _| if now == moment { Err(error.into()) } else { Ok(()) });
                let outcome = desk.apply(at, from, to, b"abc");
                if outcome != Outcome::Done {
                    assert_eq!(errno(&outcome), error.raw_os_error(), "{at} {moment:?}");
                    assert_eq!(lines(desk.path()), before, "{at} {moment:?}");
                }
                desk.assert_swept();
                desk.hook(|_, _| Ok(()));
                assert_eq!(desk.workspace().incoming.len(), 0);
            }
        }
    }
    let mut desk = Desk::new(OLD);
    fs::set_permissions(desk.path().join("e"), fs::Permissions::from_mode(0o555)).unwrap();
    let long = format!("e/{}", "x".repeat(255));
    assert_eq!(desk.apply(&long, None, Some(file(b"abc")), b"abc"), Outcome::Done, "255 bytes are a name");
}

#[test]
fn what_is_displaced_is_kept() {
    let mut desk = Desk::new(&["a 1", "b 22", "l -> a"]);
    assert_eq!(desk.apply("a", Some(file(b"1")), Some(file(b"new")), b"new"), Outcome::Done);
    assert_eq!(desk.apply("b", Some(file(b"22")), None, b""), Outcome::Done);
    assert_eq!(desk.apply("l", Some(link("a")), None, b""), Outcome::Done);
    assert_eq!(desk.trash(), ["1", "22"]);
    let index = fs::read_to_string(desk.path().join(".towline-stage/trash/index")).unwrap();
    let index: Vec<&str> = index.lines().map(|line| line.split_once(",\"why\"").unwrap().1).collect();
    let hash = |content: &[u8]| Hash::of(content).to_hex();
    assert_eq!(
        index,
        [
            format!(
                ":\"replaced\",\"path\":\"a\",\"hash\":\"{}\",\"size\":1,\"executable\":false}}",
                hash(b"1")
            ),
            format!(
                ":\"deleted\",\"path\":\"b\",\"hash\":\"{}\",\"size\":2,\"executable\":false}}",
                hash(b"22")
            ),
            ":\"deleted\",\"path\":\"l\",\"link\":\"a\"}".to_owned(),
        ]
    );
}

#[test]
fn the_trash_is_bounded() {
    let mut desk = Desk::new(&["a 1111", "b 2222", "c 3333", "d 333333333333"]).with(|desk| {
        desk.options.trash_limit = 10;
    });
    for (at, content) in [("a", &b"1111"[..]), ("b", b"2222"), ("c", b"3333"), ("d", b"333333333333")] {
        assert_eq!(desk.apply(at, Some(file(content)), None, b""), Outcome::Done);
    }
    assert_eq!(desk.trash(), ["2222", "3333"], "the oldest goes first, what is too large is not kept");
    desk.options.trash_limit = 5;
    desk.reopen();
    assert_eq!(desk.trash(), ["3333"]);
}

#[test]
fn a_laptop_keeps_things_outside_the_tree() {
    let keep = tempfile::tempdir().unwrap();
    let mut desk = Desk::new(&["f old"]).with(|desk| {
        desk.options.keep = Some(keep.path().join("a/b"));
        fs::remove_dir_all(desk.path().join(".towline-stage")).unwrap();
        desk.options.durable = true;
    });
    assert_eq!(desk.apply("f", Some(file(b"old")), Some(file(b"new")), b"new"), Outcome::Done);
    assert_eq!(desk.trash(), ["old"]);

    let id = next_id();
    let theirs = File { hash: Hash::of(b"theirs"), size: 6, executable: true };
    assert_eq!(desk.workspace().keep(id, &path("e/f"), theirs), []);
    let block = |bytes: &[u8]| Block { ops: vec![DeltaOp::Literal(bytes.to_vec())], last: true };
    assert_eq!(desk.send(id, &[block(b"theirs")]), Outcome::Done);
    let kept = keep.path().join("a/b/conflicts").join(conflict_name(&path("e/f"), theirs.hash));
    assert_eq!(fs::read(&kept).unwrap(), b"theirs");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(keep.path().join("a/b")).unwrap().permissions().mode() & 0o777, 0o700);

    let id = next_id();
    assert_eq!(desk.workspace().keep(id, &path("e/f"), theirs), []);
    assert_eq!(errno(&desk.send(id, &[block(b"xxxxxx")])), Errno::IO.raw_os_error());
    assert_eq!(fs::read_dir(keep.path().join("a/b/conflicts")).unwrap().count(), 1);

    desk.workspace.take().unwrap().close();
    assert_eq!(lines(desk.path()), ["f new"]);
    assert!(!desk.path().join(".towline-stage").exists(), "nothing of ours stays at the root");
}

#[test]
fn the_trash_may_lie_on_another_disk() {
    // Memory, as every Linux has it.
    let keep = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut desk =
        Desk::new(&["f old", "g old2"]).with(|desk| desk.options.keep = Some(keep.path().to_owned()));
    assert_eq!(desk.apply("f", Some(file(b"old")), Some(file(b"new")), b"new"), Outcome::Done);
    assert_eq!(desk.apply("g", Some(file(b"old2")), None, b""), Outcome::Done);
    assert_eq!(desk.trash(), ["old", "old2"]);
    assert_eq!(lines(desk.path()), ["f new"]);
    desk.assert_swept();
}

#[test]
fn many_files_are_forced_to_the_disk_together() {
    let mut desk = Desk::new(&[]).with(|desk| desk.options.durable = true);
    for number in 0..20 {
        let id = next_id();
        let at = format!("f{number:02}");
        assert_eq!(desk.begin(id, &at, None, Some(file(at.as_bytes())), &Content::Incoming), None);
        let block = Block { ops: vec![DeltaOp::Literal(at.clone().into_bytes())], last: true };
        assert_eq!(desk.workspace().data(id, &block), [], "not before it is on the disk");
    }
    assert_eq!(lines(desk.path()), Vec::<String>::new());
    let answers = desk.workspace().flush();
    assert_eq!(answers.len(), 20);
    assert!(answers.iter().all(|(_, outcome)| *outcome == Outcome::Done), "{answers:?}");
    assert_eq!(lines(desk.path()).len(), 20);
}

#[test]
fn what_is_cancelled_leaves_nothing() {
    for durable in [false, true] {
        let mut desk = Desk::new(&[]).with(|desk| desk.options.durable = durable);
        let id = next_id();
        assert_eq!(desk.begin(id, "new", None, Some(file(b"abc")), &Content::Incoming), None);
        let last = durable;
        let ops = vec![DeltaOp::Literal(if last { b"abc".to_vec() } else { b"ab".to_vec() })];
        assert_eq!(desk.workspace().data(id, &Block { ops, last }), []);
        desk.workspace().cancel(id);
        assert_eq!(desk.workspace().data(id, &Block { ops: Vec::new(), last: true }), []);
        assert_eq!(desk.workspace().flush(), []);
        assert_eq!(lines(desk.path()), Vec::<String>::new());
        desk.assert_swept();
    }
}
