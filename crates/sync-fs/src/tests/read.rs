//! What a replica sends of its files.

use std::fs;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use towline_sync_core::block::sign;
use towline_sync_core::message::{Basis, Block, DeltaOp, MAX_BLOCK_BYTES, Open, Reply, Request, Signature};
use towline_sync_core::snapshot::{Entry, File, Hash};

use super::live::Live;
use super::{file, next_id, path};
use crate::options::ReplicaOptions;

fn expect(content: &[u8]) -> File {
    File { hash: Hash::of(content), size: content.len() as u64, executable: false }
}

fn request(live: &Live, at: &str, expected: File, basis: Option<Signature>) -> u64 {
    let basis = basis.map_or(Basis::None, Basis::Given);
    request_with(live, at, expected, basis)
}

fn request_with(live: &Live, at: &str, expected: File, basis: Basis) -> u64 {
    let id = next_id();
    live.replica.request(Request::Read { id, path: path(at), expect: expected, basis });
    id
}

/// Collects a file; copies are taken from `basis`.
#[track_caller]
fn receive(live: &mut Live, wanted: u64, basis: &[u8]) -> Result<(Vec<u8>, usize), Option<Entry>> {
    let mut content = Vec::new();
    let mut literal = 0;
    let reply = live.wait(|reply| match reply {
        Reply::Data { id, block: Block { ops, last } } if *id == wanted => {
            for op in ops {
                match op {
                    DeltaOp::Literal(bytes) => {
                        assert!(bytes.len() <= MAX_BLOCK_BYTES);
                        literal += bytes.len();
                        content.extend(bytes);
                    }
                    DeltaOp::Copy { offset, length } => {
                        let (from, to) =
                            (usize::try_from(*offset).unwrap(), usize::try_from(offset + length).unwrap());
                        content.extend(&basis[from..to]);
                    }
                }
            }
            *last
        }
        Reply::ReadFailed { id, .. } => *id == wanted,
        _ => false,
    });
    match reply {
        Reply::ReadFailed { actual, .. } => Err(actual),
        _ => Ok((content, literal)),
    }
}

pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"noise");
    let mut bytes = vec![0; length];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn sends_whole_files() {
    let mut live = Live::new(&[], ReplicaOptions::default());
    for length in [0, 1, MAX_BLOCK_BYTES - 1, MAX_BLOCK_BYTES, MAX_BLOCK_BYTES + 1, 5 * MAX_BLOCK_BYTES] {
        let content = noise(length);
        fs::write(live.path().join("f"), &content).unwrap();
        let id = request(&live, "f", expect(&content), None);
        let (received, _) = receive(&mut live, id, b"").unwrap();
        assert!(received == content, "{length}");
    }
}

#[test]
fn sends_differences() {
    let mut live = Live::new(&[], ReplicaOptions::default());
    let old = noise(2_000_000);
    let mut new = b"in front".to_vec();
    new.extend(&old);
    fs::write(live.path().join("f"), &new).unwrap();
    let basis = sign(&old[..], old.len() as u64).unwrap();
    let id = request(&live, "f", expect(&new), Some(basis.clone()));
    let (received, literal) = receive(&mut live, id, &old).unwrap();
    assert!(received == new);
    assert!(literal < 20_000, "{literal} bytes for an insert in front");
    let id = request(&live, "f", expect(&old), Some(basis));
    assert_eq!(receive(&mut live, id, &old), Err(Some(file(&new))));
}

#[test]
fn sends_differences_to_what_is_remembered() {
    let keep = tempfile::tempdir().unwrap();
    for (length, volatile) in [(300_000, true), (300_000, false), (20_000_000, true), (30_000, false)] {
        let options = ReplicaOptions {
            keep: (!volatile).then(|| keep.path().join("keep")),
            ..ReplicaOptions::default()
        };
        let mut live = Live::new(&["f 1"], options);
        let old = noise(length);
        let name = live.path().join("f");
        fs::write(&name, &old).unwrap();
        live.wait_for("f", &file(&old));
        let new = [b"in front", &old[..]].concat();
        fs::write(live.path().join(".new"), &new).unwrap();
        fs::rename(live.path().join(".new"), &name).unwrap();
        live.wait_for("f", &file(&new));
        let id = request_with(&live, "f", expect(&new), Basis::Known(Hash::of(&old)));
        let (received, literal) = receive(&mut live, id, &old).unwrap();
        assert!(received == new);
        assert!(literal < 5000, "{literal} bytes for an insert in front of {length}");
        // Of what was never there, and so is not remembered.
        let id = request_with(&live, "f", expect(&new), Basis::Known(Hash::of(b"other")));
        if length > 64 * 1024 {
            let reply = live.wait(|reply| matches!(reply, Reply::NeedSignature { .. } | Reply::Data { .. }));
            assert_eq!(reply, Reply::NeedSignature { id });
        } else {
            assert_eq!(receive(&mut live, id, b""), Ok((new.clone(), new.len())));
        }
    }
}

#[test]
fn signs() {
    let mut live = Live::new(&[], ReplicaOptions::default());
    let content = noise(500_000);
    fs::write(live.path().join("f"), &content).unwrap();
    for (expected, ok) in [(expect(&content), true), (expect(b"other"), false)] {
        let wanted = next_id();
        live.replica.request(Request::Sign { id: wanted, path: path("f"), expect: expected });
        let reply = live.wait(|reply| matches!(reply, Reply::Signed { .. } | Reply::ReadFailed { .. }));
        match reply {
            Reply::Signed { id, signature } => {
                assert!(ok && id == wanted);
                assert_eq!(signature, sign(&content[..], content.len() as u64).unwrap());
            }
            Reply::ReadFailed { id, actual, .. } => {
                assert!(!ok && id == wanted);
                assert_eq!(actual, Some(file(&content)));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn says_what_stands_there_instead() {
    let lines = &["f real", "d/", "l -> f", "x.log secret"];
    let mut live = Live::configured(lines, ReplicaOptions::default(), &["*.log"], |_| ());
    for (at, expected, actual) in [
        ("f", expect(b"fake"), Some(file(b"real"))),
        ("f", File { executable: true, ..expect(b"real") }, Some(file(b"real"))),
        ("f", expect(b"longer than it is"), Some(file(b"real"))),
        ("d", expect(b"x"), Some(Entry::Directory)),
        ("l", expect(b"real"), Some(super::link("f"))),
        ("none", expect(b"x"), None),
        ("f/x", expect(b"x"), None),
        ("x.log", expect(b"secret"), None),
    ] {
        let id = request(&live, at, expected, None);
        assert_eq!(receive(&mut live, id, b""), Err(actual), "{at}");
    }
}

#[test]
fn a_long_file_holds_nothing_up() {
    let root = tempfile::tempdir().unwrap();
    let long = noise(40 * MAX_BLOCK_BYTES);
    fs::write(root.path().join("long"), &long).unwrap();
    fs::write(root.path().join("small"), "1").unwrap();
    // Each reply is taken before the next is made.
    let (reply_tx, reply_rx) = sync_channel(0);
    let replica = crate::spawn(ReplicaOptions::default(), move |reply| reply_tx.send(reply).is_ok()).unwrap();
    let next_data = || {
        loop {
            if let Reply::Data { id, block } = reply_rx.recv_timeout(Duration::from_secs(20)).unwrap() {
                return (id, block.last);
            }
        }
    };
    let root = root.path().to_str().unwrap().to_owned();
    replica.request(Request::Open(Open {
        root,
        ignore: Vec::new(),
        excluded: Vec::new(),
        create: false,
        watch: true,
    }));
    replica.request(Request::Read { id: 1, path: path("long"), expect: expect(&long), basis: Basis::None });
    assert_eq!(next_data(), (1, false));
    replica.request(Request::Read { id: 2, path: path("small"), expect: expect(b"1"), basis: Basis::None });
    let before = std::iter::from_fn(|| Some(next_data()).filter(|data| *data != (2, true))).count();
    assert!(before < 5, "the small file waited for {before} blocks");
    // Given up, the long one sends no more.
    replica.request(Request::Cancel { id: 1 });
    replica.request(Request::Read { id: 3, path: path("small"), expect: expect(b"1"), basis: Basis::None });
    let before = std::iter::from_fn(|| Some(next_data()).filter(|data| *data != (3, true))).count();
    assert!(before < 5, "{before} blocks of a file that was given up");
    drop(reply_rx);
    replica.close();
}
