//! Everything that a hostile pod has been known to try, and what comes of it: an error, or a path that is left alone.
//!
//! Whatever it does, nothing outside the folder changes, nothing that runs code is written, and nothing is lost.

use serde::Serialize;
use towline_sync_core::block::sign;
use towline_sync_core::codec::Encoder;
use towline_sync_core::engine::{Phase, Side};
use towline_sync_core::message::{
    Block, Body, DeltaOp, Failure, Found, New, Outcome, Problem, Reply, Request, RootInfo, WatchMode,
};
use towline_sync_core::snapshot::{Change, Entry, File, Hash, Opaque};

use crate::laptop::{Laptop, MAX_ENTRIES, file, file_of, path};

/// What comes of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The pod is shown the door.
    Refused,
    /// Nothing is made of it; what else the pod has still comes.
    LeftAlone,
    /// The pod withholds what it announced: it is waited for.
    Waits,
}

/// Makes the case, then looks what came of it.
#[track_caller]
fn check(case: &str, end: End, mut laptop: Laptop, attack: impl FnOnce(&mut Laptop)) {
    attack(&mut laptop);
    laptop.rest();
    laptop.check(case);
    assert_eq!(laptop.new_entries(), Vec::<String>::new(), "{case}");
    match (end, &laptop.refused) {
        (End::Refused, None) => panic!("{case}: not refused, {:?}", laptop.engine.status()),
        (End::LeftAlone | End::Waits, Some(why)) => panic!("{case}: refused: {why}"),
        (End::Refused, Some(_)) => {}
        (End::Waits, None) => assert_eq!(laptop.engine.status().phase, Phase::Syncing, "{case}"),
        (End::LeftAlone, None) => {
            laptop.bend = None;
            let honest = laptop.pod.put("honest", file(b"honest"), b"honest");
            laptop.hear(&[Reply::Changed(vec![honest])]);
            laptop.rest();
            assert_eq!(
                laptop.read("honest").as_deref(),
                Some("honest"),
                "{case}: {:?}",
                laptop.engine.status()
            );
            laptop.check(case);
        }
    }
}

/// What is taken for a name of version control, or of tools that run what is in it.
const ALIASES: &[&str] = &[
    ".git",
    ".GIT",
    ".Git",
    ".giT",
    ".g\u{200c}it",
    ".gi\u{200d}t",
    ".git\u{200e}",
    ".\u{206a}git",
    "\u{feff}.git",
    ".git\u{202e}",
    ".g\u{ad}it",
    ".gi\u{301}t",
    ".gıt",
    ".gİt",
    ".git ",
    ".git.",
    ".git...",
    ".git . .",
    ".git:x",
    ".git::$INDEX_ALLOCATION",
    ".git::$DATA",
    "git~1",
    "GIT~1",
    "git~12",
    "GI7EBA~1",
    "gi7eba~9",
    "git~1.",
    "git~1:x",
    "a\\.git",
    ".git\\hooks",
    ".jj",
    ".JJ",
    "jj~1",
    ".hg",
    ".HG",
    "hg~1",
    ".svn",
    ".SVN",
    "svn~1",
    ".ssh",
    ".S\u{17f}H",
    "ssh~1",
    ".envrc ",
    ".ENVRC",
    "envrc~1",
    ".direnv",
    "direnv~1",
    ".vscode",
    ".VSCode",
    "vscode~1",
    ".v\u{17f}code",
    ".idea",
    ".IDEA",
    "idea~1",
    ".devcontainer",
    "DEVCON~1",
    ".devcontainer.json",
    ".npmrc",
    "npmrc~1",
    ".yarnrc",
    ".yarnrc.yml",
    ".husky",
    ".hus\u{212a}y",
    ".pre-commit-config.yaml",
    "PRE-CO~1.YAM",
    ".stignore",
    ".StIgnore",
    "okteto.yml",
    "Okteto.YAML",
    "okteto-pipeline.yml",
    "towline.yml",
    ".okteto",
];

#[test]
fn names_that_run_code() {
    assert!(ALIASES.len() >= 60);
    for alias in ALIASES {
        check(&format!("{alias:?} as a folder"), End::LeftAlone, Laptop::in_sync(), |laptop| {
            let folder = laptop.pod.put(alias, Entry::Directory, b"");
            let config = laptop.pod.put(&format!("{alias}/config"), file(b"evil"), b"evil");
            laptop.hear(&[Reply::Changed(vec![folder, config])]);
        });
        check(&format!("{alias:?} as a file, deep down"), End::LeftAlone, Laptop::in_sync(), |laptop| {
            let change = laptop.pod.put(&format!("sub/{alias}"), file(b"evil"), b"evil");
            laptop.hear(&[Reply::Changed(vec![change])]);
        });
    }
}

#[test]
fn names_that_run_code_in_the_first_scan() {
    for alias in ALIASES.iter().step_by(7) {
        check(&format!("{alias:?}"), End::LeftAlone, Laptop::new(), |laptop| {
            laptop.pod.put(alias, Entry::Directory, b"");
            laptop.pod.put(&format!("{alias}/config"), file(b"evil"), b"evil");
            laptop.connect(Side::Remote);
        });
    }
}

#[test]
fn links_that_lead_out() {
    for target in [
        "/",
        "/etc/passwd",
        "//etc",
        "/proc/self/root",
        "..",
        "../",
        "../outside",
        "../outside/secret",
        "./../outside",
        "../../x",
        "sub/../../outside",
        "a/b/../../../outside",
        "sub/inner/../../../outside",
        "././/../outside",
        "",
        "x\0y",
        &"x/".repeat(3000),
    ] {
        let link = || Entry::Symlink { target: target.to_owned() };
        check(&format!("a link to {target:.40?}"), End::LeftAlone, Laptop::in_sync(), |laptop| {
            let change = laptop.pod.put("l", link(), b"");
            laptop.hear(&[Reply::Changed(vec![change])]);
        });
        check(&format!("through a link to {target:.40?}"), End::LeftAlone, Laptop::in_sync(), |laptop| {
            let change = laptop.pod.put("l", link(), b"");
            let through = laptop.pod.put("l/secret", file(b"evil"), b"evil");
            laptop.hear(&[Reply::Changed(vec![change, through])]);
        });
    }
}

#[test]
fn links_that_stay_are_not_written_through() {
    for target in [".git", "sub", ".", "sub/.."] {
        let mut laptop = Laptop::in_sync();
        let link = laptop.pod.put("l", Entry::Symlink { target: target.to_owned() }, b"");
        laptop.hear(&[Reply::Changed(vec![link])]);
        laptop.rest();
        for name in ["l/config", "l/inner", "l/mine"] {
            let through = laptop.pod.put(name, file(b"evil"), b"evil");
            laptop.hear(&[Reply::Changed(vec![through])]);
            laptop.rest();
        }
        laptop.check(target);
        assert_eq!(laptop.read("mine").as_deref(), Some("mine"));
        assert_eq!(laptop.read("sub/inner").as_deref(), Some("inner"));
    }
}

/// The shapes of messages with paths that no message can have, up to the last that is needed, in the same order.
#[derive(Serialize)]
#[expect(dead_code, reason = "they stand for the ones before")]
enum Forged {
    Opened,
    OpenFailed,
    Entries { entries: Vec<(Vec<u8>, Entry)>, last: bool },
    Contents,
    ScanFailed,
    Changed(Vec<(Vec<u8>, Option<Entry>)>),
}

#[test]
fn paths_that_are_none() {
    let deep = vec!["d"; 300].join("/");
    let long = vec!["d".repeat(200); 30].join("/");
    let wide = "n".repeat(256);
    let texts = [
        "",
        ".",
        "..",
        "/",
        "//",
        "/etc/passwd",
        "../x",
        "../../x",
        "a/..",
        "a/../b",
        "a/../../b",
        "a//b",
        "a/",
        "/a",
        "./a",
        "a/.",
        "a/./b",
        "a\0b",
        "\0",
        "sub/../.git/config",
        &deep,
        &long,
        &wide,
    ];
    let mut paths: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    paths.extend([b"\xff".to_vec(), b"a/\xc0\xaf/b".to_vec(), b"\xed\xa0\x80".to_vec()]);
    for path in paths {
        let forged = Forged::Changed(vec![(path.clone(), Some(file(b"evil")))]);
        check(&format!("{:.40}", path.escape_ascii()), End::Refused, Laptop::in_sync(), |laptop| {
            laptop.hear_bytes(Encoder::new().encode(&[forged]));
        });
    }
    let whole = Forged::Entries { entries: vec![(b"../evil".to_vec(), file(b"evil"))], last: true };
    check("in a scan", End::Refused, Laptop::in_sync(), |laptop| {
        laptop.hear_bytes(Encoder::new().encode(&[whole]));
    });
    // The forgery is of the right shape: with a path that is one, it is understood.
    let sound = Forged::Changed(vec![(b"sub".to_vec(), Some(Entry::Directory))]);
    check("a sound path", End::LeftAlone, Laptop::in_sync(), |laptop| {
        laptop.hear_bytes(Encoder::new().encode(&[sound]));
    });
}

#[test]
fn our_own_folder() {
    for name in
        [".towline-stage", ".towline-stage/incoming/1", ".towline-stage/trash/index", ".towline-stage/epoch"]
    {
        check(name, End::Refused, Laptop::in_sync(), |laptop| {
            let change = laptop.pod.put(name, file(b"evil"), b"evil");
            laptop.hear(&[Reply::Changed(vec![change])]);
        });
    }
}

fn failure() -> Failure {
    Failure { errno: 5, message: "evil\u{1b}[2J".to_owned() }
}

fn literal(bytes: &[u8], last: bool) -> Block {
    Block { ops: vec![DeltaOp::Literal(bytes.to_vec())], last }
}

fn new(at: &str, content: &[u8]) -> New {
    New {
        path: path(at),
        from: None,
        entry: file(content),
        body: Body::Whole(content.to_vec()),
        modified: None,
    }
}

/// Returns every answer to a question, under an id.
fn answers(id: u64) -> Vec<Reply> {
    let signature = sign(&b"evil"[..], 4).unwrap();
    vec![
        Reply::Applied { id, outcome: Outcome::Done },
        Reply::Applied { id, outcome: Outcome::NeedContent },
        Reply::Data { id, block: literal(b"evil", true) },
        Reply::Data { id, block: Block { ops: vec![], last: true } },
        Reply::Signed { id, signature },
        Reply::ReadFailed { id, actual: None, failure: None },
        Reply::Fetched { id, files: vec![] },
        Reply::Fetched {
            id,
            files: vec![Some(Found { body: Body::Whole(b"evil".to_vec()), modified: None })],
        },
        Reply::Installed { id, failed: vec![] },
        Reply::NeedSignature { id },
    ]
}

#[test]
fn answers_that_nobody_asked_for() {
    let info = RootInfo { epoch: [9; 16], writable: true, case_sensitive: true, mounts: vec![] };
    let mut unasked = vec![
        Reply::Opened(info),
        Reply::OpenFailed(failure()),
        Reply::Entries { entries: vec![], last: true },
        Reply::Entries { entries: vec![(path("x"), file(b"x"))], last: false },
        Reply::Contents(vec![new("x", b"x")]),
        Reply::ScanFailed(failure()),
        Reply::Same(vec![0xff; 100]),
    ];
    for id in [0, 1, 2, 3, 1000, u64::MAX] {
        unasked.extend(answers(id));
    }
    for reply in unasked {
        let case = format!("{reply:?}");
        check(&case, End::Refused, Laptop::in_sync(), |laptop| laptop.hear(&[reply]));
    }
}

#[test]
fn news_before_the_root_is_open() {
    let mut early = answers(0);
    early.extend([
        Reply::Changed(vec![Change { path: path("x"), entry: Some(file(b"x")) }]),
        Reply::Entries { entries: vec![], last: true },
        Reply::ScanFailed(failure()),
    ]);
    for reply in early {
        let case = format!("{reply:?}");
        check(&case, End::Refused, Laptop::new(), |laptop| {
            laptop.connect(Side::Remote);
            laptop.hear(&[reply]);
        });
    }
}

/// Returns a content that is too long for a batch.
fn large() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// Has a new file announced and every question about its content answered by `answer`.
fn bait(laptop: &mut Laptop, content: &[u8], answer: impl Fn(u64) -> Vec<Reply> + 'static) {
    laptop.bend = Some(Box::new(move |request| match request {
        Request::Fetch { id, .. } | Request::Read { id, .. } => Some(answer(*id)),
        _ => None,
    }));
    let change = laptop.pod.put("bait", file(content), content);
    laptop.hear(&[Reply::Changed(vec![change])]);
}

#[test]
fn lies_about_a_small_file() {
    let found = |body| Some(Found { body, modified: None });
    let copy = |offset, length| Body::Delta(vec![DeltaOp::Copy { offset, length }]);
    let past = Body::Past { of: Hash::of(b"[core]"), ops: vec![DeltaOp::Copy { offset: 0, length: 4 }] };
    let cases: Vec<(&str, End, Vec<Option<Found>>)> = vec![
        ("no file", End::Refused, vec![]),
        ("two files", End::Refused, vec![None, None]),
        ("shorter", End::Refused, vec![found(Body::Whole(b"bai".to_vec()))]),
        ("longer", End::Refused, vec![found(Body::Whole(b"baits".to_vec()))]),
        ("much longer", End::Refused, vec![found(Body::Whole(vec![0; 200_000]))]),
        ("other bytes", End::LeftAlone, vec![found(Body::Whole(b"evil".to_vec()))]),
        ("a copy of nothing", End::Refused, vec![found(copy(0, 4))]),
        ("a copy from far away", End::Refused, vec![found(copy(u64::MAX, 4))]),
        ("a copy of everything", End::Refused, vec![found(copy(0, u64::MAX))]),
        ("an older version of something else", End::Refused, vec![found(past)]),
        ("no steps", End::Refused, vec![found(Body::Delta(vec![]))]),
    ];
    for (case, end, files) in cases {
        check(case, end, Laptop::in_sync(), |laptop| {
            bait(laptop, b"bait", move |id| vec![Reply::Fetched { id, files: files.clone() }]);
        });
    }
    for reply in answers(0) {
        if matches!(reply, Reply::Fetched { .. }) {
            continue;
        }
        check(&format!("in place of a file: {reply:?}"), End::Refused, Laptop::in_sync(), |laptop| {
            bait(laptop, b"bait", move |id| {
                answers(id).into_iter().filter(|other| same_kind(other, &reply)).collect()
            });
        });
    }
    check("twice", End::Refused, Laptop::in_sync(), |laptop| {
        let fetched = |id| Reply::Fetched { id, files: vec![None] };
        bait(laptop, b"bait", move |id| vec![fetched(id), fetched(id)]);
    });
    check("never", End::Waits, Laptop::in_sync(), |laptop| bait(laptop, b"bait", |_| vec![]));
    check("a time before all time", End::LeftAlone, Laptop::in_sync(), |laptop| {
        let body = Body::Whole(b"evil".to_vec());
        let files = vec![Some(Found { body, modified: Some((i64::MIN, u32::MAX)) })];
        bait(laptop, b"bait", move |id| vec![Reply::Fetched { id, files: files.clone() }]);
    });
}

fn same_kind(one: &Reply, other: &Reply) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

#[test]
fn lies_about_a_large_file() {
    let size = large().len() as u64;
    let copy = |offset, length| vec![Block { ops: vec![DeltaOp::Copy { offset, length }], last: true }];
    let cases: Vec<(&str, End, Vec<Block>)> = vec![
        ("shorter", End::Refused, vec![literal(b"evil", true)]),
        ("nothing", End::Refused, vec![Block { ops: vec![], last: true }]),
        ("longer", End::Refused, vec![literal(&vec![0; 130_000], false); 12]),
        ("other bytes", End::LeftAlone, {
            let mut blocks: Vec<Block> =
                vec![0; large().len()].chunks(100_000).map(|part| literal(part, false)).collect();
            blocks.push(Block { ops: vec![], last: true });
            blocks
        }),
        ("after the end", End::Refused, vec![literal(b"evil", true), literal(b"evil", true)]),
        ("a copy of nothing", End::Refused, copy(0, size)),
        ("a copy from the end of all", End::Refused, copy(u64::MAX, size)),
        ("a copy of all there is", End::Refused, copy(1, u64::MAX)),
        ("pieces without end", End::Waits, vec![literal(b"", false); 10_000]),
        ("half of it", End::Waits, vec![literal(&vec![0; 100_000], false)]),
    ];
    for (case, end, blocks) in cases {
        check(case, end, Laptop::in_sync(), |laptop| {
            bait(laptop, &large(), move |id| {
                blocks.iter().map(|block| Reply::Data { id, block: block.clone() }).collect()
            });
        });
    }
    check("under the id of the other half", End::Refused, Laptop::in_sync(), |laptop| {
        bait(laptop, &large(), |id| vec![Reply::Data { id: id ^ 1, block: literal(b"evil", false) }]);
    });
    check("done, says the reader", End::Refused, Laptop::in_sync(), |laptop| {
        bait(laptop, &large(), |id| vec![Reply::Applied { id, outcome: Outcome::Done }]);
    });
}

#[test]
fn lies_about_what_is_there() {
    let sized = |size| Entry::File(File { size, ..file_of(b"evil") });
    for size in [u64::MAX, 1 << 63, 1 << 60, 1 << 42, (4 << 30) + 1] {
        let announce = |laptop: &mut Laptop| {
            let change = laptop.pod.put("huge", sized(size), b"evil");
            laptop.hear(&[Reply::Changed(vec![change])]);
        };
        let end = if size > 1 << 42 { End::LeftAlone } else { End::Refused };
        check(&format!("a file of {size} bytes that is shorter"), end, Laptop::in_sync(), announce);
        check(&format!("a file of {size} bytes"), End::LeftAlone, Laptop::in_sync(), |laptop| {
            laptop.bend = Some(Box::new(|request| matches!(request, Request::Read { .. }).then(Vec::new)));
            announce(laptop);
        });
    }
    for opaque in Opaque::ALL {
        check(&format!("{opaque:?} in place of files"), End::LeftAlone, Laptop::in_sync(), |laptop| {
            let changes = ["mine", "sub", "new"].map(|at| laptop.pod.put(at, Entry::Opaque(opaque), b""));
            laptop.hear(&[Reply::Changed(changes.to_vec())]);
        });
    }
    check("a file in a file", End::LeftAlone, Laptop::in_sync(), |laptop| {
        let change = laptop.pod.put("mine/inside", file(b"evil"), b"evil");
        laptop.hear(&[Reply::Changed(vec![change])]);
    });
    check("a file in a folder that is not there", End::LeftAlone, Laptop::in_sync(), |laptop| {
        let change = laptop.pod.put("no/such/folder", file(b"evil"), b"evil");
        laptop.hear(&[Reply::Changed(vec![change])]);
    });
    check("names that command a terminal", End::LeftAlone, Laptop::in_sync(), |laptop| {
        let problems = ["\u{1b}]0;evil\u{7}", "\u{9b}2J", "a\rb", "\u{202e}gpj"];
        let problem = |text: &str| Problem { path: text.to_owned(), message: text.to_owned() };
        laptop.hear(&[Reply::Problems(problems.map(problem).to_vec())]);
    });
    check("a hundred thousand problems", End::LeftAlone, Laptop::in_sync(), |laptop| {
        for part in 0..100 {
            let problem = |at| Problem { path: format!("{part}/{at}"), message: "evil".to_owned() };
            laptop.hear(&[Reply::Problems((0..1000).map(problem).collect())]);
        }
        assert!(laptop.engine.status().problems.len() <= 1001);
    });
    check("many of the longest files", End::LeftAlone, Laptop::in_sync(), |laptop| {
        laptop.bend = Some(Box::new(|request| matches!(request, Request::Read { .. }).then(Vec::new)));
        let lengths = [u64::MAX, 1 << 63, 1 << 42];
        let changes =
            (0..3000).map(|at| laptop.pod.put(&format!("huge{at}"), sized(lengths[at % 3]), b"evil"));
        let changes = changes.collect();
        laptop.hear(&[Reply::Changed(changes)]);
    });
    check("another mode of watching, again and again", End::LeftAlone, Laptop::in_sync(), |laptop| {
        for at in 0..1000 {
            laptop.hear(&[Reply::Watching(WatchMode::Polling { reason: format!("evil {at}") })]);
        }
    });
}

#[test]
fn everything_is_gone() {
    let emptied = |laptop: &mut Laptop| laptop.pod.entries.clear();
    let gone = |laptop: &Laptop| -> Vec<Change> {
        laptop.pod.entries.keys().rev().map(|path| Change { path: path.clone(), entry: None }).collect()
    };
    let stays = |mut laptop: Laptop, case: &str| {
        laptop.rest();
        laptop.check(case);
        assert_eq!(laptop.refused, None, "{case}");
        for (at, content) in [("mine", "mine"), ("sub/inner", "inner")] {
            assert_eq!(laptop.read(at).as_deref(), Some(content), "{case}");
        }
    };
    let mut laptop = Laptop::in_sync();
    let changes = gone(&laptop);
    emptied(&mut laptop);
    laptop.hear(&[Reply::Changed(changes)]);
    stays(laptop, "deleted one by one");

    let mut laptop = Laptop::in_sync();
    laptop.disconnect();
    emptied(&mut laptop);
    laptop.connect(Side::Remote);
    stays(laptop, "an empty folder that goes by the old one's token");

    let mut laptop = Laptop::in_sync();
    laptop.disconnect();
    emptied(&mut laptop);
    let info = RootInfo { epoch: [8; 16], writable: true, case_sensitive: true, mounts: vec![] };
    laptop.bend = Some(Box::new(move |request| {
        matches!(request, Request::Open(_)).then(|| vec![Reply::Opened(info.clone())])
    }));
    laptop.connect(Side::Remote);
    stays(laptop, "an empty folder with a token of its own");
}

#[test]
fn too_much() {
    let names = |from: usize, count| (from..from + count).map(|at| path(&format!("n{at}")));
    check("more news than entries are allowed", End::Refused, Laptop::in_sync(), |laptop| {
        for part in 0..20 {
            let changes = names(part * 1000, 1000);
            let changes = changes.map(|path| Change { path, entry: Some(Entry::Opaque(Opaque::Special)) });
            laptop.hear(&[Reply::Changed(changes.collect())]);
        }
    });
    check("a scan without end", End::Refused, Laptop::new(), |laptop| {
        laptop.bend = Some(Box::new(move |request| {
            matches!(request, Request::Scan { .. } | Request::Compare(_)).then(|| {
                let part =
                    |part: usize| names(part * 1000, 1000).map(|path| (path, Entry::Opaque(Opaque::Special)));
                let parts = (0..MAX_ENTRIES / 1000 + 2)
                    .map(|at| Reply::Entries { entries: part(at).collect(), last: false });
                parts.collect()
            })
        }));
        laptop.connect(Side::Remote);
    });
    for (case, bytes) in [
        ("a frame of two gigabytes", vec![0xff, 0xff, 0xff, 0xff, 0x07, 0]),
        ("a frame of two megabytes", vec![0x80, 0x80, 0x80, 0x01, 0]),
        ("a frame without a length", vec![0x80, 0x80, 0x80, 0x80, 0x80, 0x80]),
        ("an empty frame", vec![0, 0, 0, 0]),
        ("no message", vec![4, 0xff, 0xff, 0xff, 0xff]),
        ("a message of all there is", vec![6, 5, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("a text without end", vec![8, 2, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
    ] {
        check(case, End::Refused, Laptop::in_sync(), |laptop| laptop.hear_bytes(&bytes));
    }
    check("a login banner", End::Refused, Laptop::in_sync(), |laptop| {
        laptop.hear_bytes(&b"Welcome! Last login: yesterday\r\n".repeat(100));
    });
}

/// Cut off anywhere, a stream is either understood as far as it goes or refused.
#[test]
fn streams_that_end() {
    let mut laptop = Laptop::in_sync();
    let change = laptop.pod.put("cut", file(b"cut"), b"cut");
    let bytes =
        Encoder::new().encode(&[Reply::Changed(vec![change.clone()]), Reply::Changed(vec![change])]).to_vec();
    for end in 0..bytes.len() {
        check(&format!("cut after {end}"), End::LeftAlone, Laptop::in_sync(), |laptop| {
            laptop.hear_bytes(&bytes[..end]);
            laptop.disconnect();
            laptop.connect(Side::Remote);
        });
    }
}

#[test]
fn flipped_bits() {
    let mut pod = Laptop::in_sync();
    let change = pod.pod.put("flip", Entry::Opaque(Opaque::Special), b"");
    let bytes = Encoder::new().encode(&[Reply::Changed(vec![change])]).to_vec();
    for bit in 0..bytes.len() * 8 {
        let mut laptop = Laptop::in_sync();
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        laptop.hear_bytes(&bytes);
        laptop.rest();
        laptop.check(&format!("bit {bit}"));
    }
}
