//! The way back at the far end of a stream, whoever is there.

use std::fs;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use towline_sync::{Displaced, NotUndoneThere, Peer, SyncError, UndoThere, UndoThereError, UndoneThere};
use towline_sync_core::codec::{Decoder, Encoder};
use towline_sync_core::message::{Failure, Outcome, Reply, Request, RootInfo};
use towline_sync_core::snapshot::{Entry, File, Hash};

use crate::scene::Scene;

type Told = Vec<(String, Result<UndoneThere, NotUndoneThere>)>;

/// Brings back what is on the record, of each path what went last.
async fn undo(scene: &Scene, peer: Peer) -> (Told, Result<(), UndoThereError>) {
    let mut wanted: Vec<Displaced> = Vec::new();
    for displaced in scene.known().displaced().unwrap() {
        if !displaced.by_undo && !wanted.iter().any(|known| known.path == displaced.path) {
            wanted.push(displaced);
        }
    }
    let mut told = Vec::new();
    let undoing = UndoThere::open(&scene.known()).unwrap();
    let done =
        undoing.run(peer, &wanted, |displaced, done| told.push((displaced.path.to_string(), done))).await;
    told.sort_by(|one, other| one.0.cmp(&other.0));
    (told, done)
}

/// A pair whose far end has lost a version of `a` and all of `d/b`.
async fn with_a_past() -> Scene {
    let scene = Scene::new();
    scene.write(&[("here/a", "old a"), ("here/d/b", "b"), ("here/c", "c")]);
    scene.sync_far().await;
    scene.write(&[("here/a", "newer a")]);
    fs::remove_dir_all(scene.here().join("d")).unwrap();
    scene.sync_far().await;
    assert!(!scene.there().join("d").exists());
    scene
}

fn read(scene: &Scene, path: &str) -> String {
    fs::read_to_string(scene.temp.path().join(path)).unwrap_or_else(|error| format!("{path}: {error}"))
}

const BACK: Result<UndoneThere, NotUndoneThere> = Ok(UndoneThere::Restored { displaced: false });
const AS_IT_WAS: Result<UndoneThere, NotUndoneThere> = Ok(UndoneThere::Restored { displaced: true });

#[tokio::test]
async fn what_went_there_comes_back_there() {
    let scene = with_a_past().await;
    let (told, done) = undo(&scene, scene.far()).await;
    done.unwrap();
    assert_eq!(told, [("a".to_owned(), AS_IT_WAS), ("d/b".to_owned(), BACK)]);
    assert_eq!((read(&scene, "there/a"), read(&scene, "there/d/b")), ("old a".to_owned(), "b".to_owned()));
    // What gave way is in the trash there, and on the record.
    let gave_way = Hash::of(b"newer a").to_hex();
    assert_eq!(read(&scene, &format!("far/trash/{gave_way}")), "newer a");
    let record = scene.known().displaced().unwrap();
    assert!(record[0].by_undo && record[0].path.as_str() == "a");
    let (told, done) = undo(&scene, scene.far()).await;
    done.unwrap();
    assert!(told.iter().all(|(_, done)| *done == Ok(UndoneThere::Same)), "{told:?}");
    scene.sync_far().await;
    assert_eq!((read(&scene, "here/a"), read(&scene, "here/d/b")), ("old a".to_owned(), "b".to_owned()));
}

#[tokio::test]
async fn what_both_have_agreed_on_since_may_give_way_and_nothing_else() {
    let scene = with_a_past().await;
    scene.write(&[("there/a", "a by somebody else")]);
    let (told, done) = undo(&scene, scene.far()).await;
    done.unwrap();
    assert_eq!(told[0], ("a".to_owned(), Err(NotUndoneThere::Changed)));
    assert_eq!(read(&scene, "there/a"), "a by somebody else");
    scene.sync_far().await;
    assert_eq!(read(&scene, "here/a"), "a by somebody else");
    let (told, done) = undo(&scene, scene.far()).await;
    done.unwrap();
    assert_eq!(told[0], ("a".to_owned(), AS_IT_WAS));
    assert_eq!(
        (read(&scene, "there/a"), read(&scene, "here/a")),
        ("old a".into(), "a by somebody else".into())
    );
}

#[tokio::test]
async fn a_step_that_was_written_down_and_not_made_is_found_out() {
    let scene = with_a_past().await;
    let record = scene.state().join("displaced.jsonl");
    let text = fs::read_to_string(&record).unwrap();
    let hash = Hash::of(b"c").to_hex();
    let was = format!("{{\"file\":{{\"hash\":\"{hash}\",\"size\":1,\"executable\":false}}}}");
    let step = format!("{{\"at\":1,\"path\":\"c\",\"was\":{was},\"came\":null}}\n");
    fs::write(&record, text + &step).unwrap();
    let (told, done) = undo(&scene, scene.far()).await;
    done.unwrap();
    assert_eq!(told[1], ("c".to_owned(), Ok(UndoneThere::Same)));
}

#[tokio::test]
async fn a_file_in_the_place_of_a_folder_stays() {
    let scene = with_a_past().await;
    scene.write(&[("here/d", "a file now")]);
    scene.sync_far().await;
    assert_eq!(read(&scene, "there/d"), "a file now");
    let (told, done) = undo(&scene, scene.far()).await;
    done.unwrap();
    let Err(NotUndoneThere::Refused { message }) = &told[1].1 else { panic!("{told:?}") };
    assert!(message.contains("Not a directory"), "{message}");
    assert_eq!(told[0], ("a".to_owned(), AS_IT_WAS));
    assert_eq!(read(&scene, "there/d"), "a file now");
}

#[tokio::test]
async fn who_syncs_the_pair_is_left_in_peace() {
    let scene = with_a_past().await;
    let pair = towline_sync::Pair::open(scene.options()).unwrap();
    let error = UndoThere::open(&scene.known()).unwrap_err();
    assert!(matches!(error, SyncError::Busy { pid, .. } if pid == std::process::id()), "{error}");
    drop(pair);
    let undoing = UndoThere::open(&scene.known()).unwrap();
    assert!(matches!(towline_sync::Pair::open(scene.options()), Err(SyncError::Busy { .. })));
    drop(undoing);
}

/// An end of a stream that answers as it likes, and returns all that it was asked.
fn liar(
    mut answers: impl FnMut(&Request) -> Vec<Reply> + Send + 'static,
) -> (Peer, tokio::task::JoinHandle<Vec<Request>>) {
    let (near, mut far): (DuplexStream, DuplexStream) = duplex(64 * 1024);
    let lying = tokio::spawn(async move {
        let (mut decoder, mut encoder) = (Decoder::default(), Encoder::default());
        let (mut asked, mut buffer) = (Vec::new(), vec![0; 4096]);
        while let Ok(count @ 1..) = far.read(&mut buffer).await {
            decoder.push(&buffer[..count]);
            while let Some(request) = decoder.next::<Request>().unwrap() {
                let replies = answers(&request);
                // Whoever asked may have had enough.
                let _ = far.write_all(encoder.encode(&replies)).await;
                asked.push(request);
            }
        }
        asked
    });
    let (reader, writer) = split(near);
    (Peer::stream(reader, writer), lying)
}

/// What the folder there is known by.
fn epoch(scene: &Scene) -> [u8; 16] {
    let record = fs::read_to_string(scene.state().join("displaced.jsonl")).unwrap();
    let header: serde_json::Value = serde_json::from_str(record.lines().next().unwrap()).unwrap();
    header["epoch"].as_str().unwrap().parse::<u128>().unwrap().to_be_bytes()
}

fn opened(epoch: [u8; 16]) -> Vec<Reply> {
    vec![Reply::Opened(RootInfo { epoch, writable: true, case_sensitive: true, mounts: Vec::new() })]
}

/// Opens the folder that it is asked for, and answers each step with what `outcome` says.
fn answering(
    scene: &Scene,
    mut outcome: impl FnMut(&Request) -> Option<Outcome> + Send + 'static,
) -> (Peer, tokio::task::JoinHandle<Vec<Request>>) {
    let epoch = epoch(scene);
    liar(move |request| match request {
        Request::Open(_) => opened(epoch),
        Request::Apply { id, .. } => {
            outcome(request).map(|outcome| Reply::Applied { id: *id, outcome }).into_iter().collect()
        }
        _ => Vec::new(),
    })
}

#[tokio::test]
async fn one_that_never_answers_is_waited_for_in_vain_but_not_for_ever() {
    let scene = with_a_past().await;
    let folders = || {
        let mut all = scene.everything();
        all.retain(|path, _| [scene.here(), scene.there()].iter().any(|folder| path.starts_with(folder)));
        all
    };
    let before = folders();
    tokio::time::pause();
    for opens in [false, true] {
        let (peer, _lying) = if opens { answering(&scene, |_| None) } else { liar(|_| Vec::new()) };
        let (told, done) = undo(&scene, peer).await;
        let error = done.unwrap_err();
        assert!(error.to_string().contains("gave no answer"), "{error}");
        assert_eq!(told, []);
    }
    assert!(folders() == before, "nothing was changed");
}

#[tokio::test]
async fn one_that_lies_changes_nothing_here() {
    let scene = with_a_past().await;
    let here = || {
        let mut all = scene.everything();
        all.retain(|path, _| path.starts_with(scene.here()));
        all
    };
    let before = here();
    let refusal = || Outcome::Failed(Failure { errno: 28, message: "no room".to_owned() });
    let anything = Entry::File(File { hash: Hash([9; 32]), size: u64::MAX, executable: false });
    let stale = move || Outcome::Stale { actual: Some(anything.clone()) };
    let refused = || Err(NotUndoneThere::Refused { message: "no room".to_owned() });
    for (peer, expected) in [
        (answering(&scene, |_| Some(Outcome::Done)).0, Ok(UndoneThere::Same)),
        (answering(&scene, move |_| Some(stale())).0, Err(NotUndoneThere::Changed)),
        (answering(&scene, |_| Some(Outcome::Kept)).0, Err(NotUndoneThere::Changed)),
        (answering(&scene, move |_| Some(refusal())).0, refused()),
    ] {
        let (told, done) = undo(&scene, peer).await;
        done.unwrap();
        assert_eq!(told, [("a".to_owned(), expected.clone()), ("d/b".to_owned(), expected)]);
    }
    let (peer, lying) = liar(|request| match request {
        Request::Open(_) => opened([3; 16]),
        _ => Vec::new(),
    });
    let (told, done) = undo(&scene, peer).await;
    assert!(matches!(done, Err(UndoThereError::Another)) && told.is_empty());
    assert_eq!(lying.await.unwrap().len(), 1, "it was asked for nothing more");
    assert!(here() == before);
}

#[tokio::test]
async fn one_that_answers_what_was_not_asked_is_let_go() {
    let scene = with_a_past().await;
    let epoch = epoch(&scene);
    for ids in [[70, 71], [0, 0]] {
        let (peer, _lying) = liar(move |request| match request {
            Request::Open(_) => opened(epoch),
            Request::Apply { id: 0, .. } => {
                ids.map(|id| Reply::Applied { id, outcome: Outcome::Done }).to_vec()
            }
            _ => Vec::new(),
        });
        let (told, done) = undo(&scene, peer).await;
        let error = done.unwrap_err().to_string();
        assert!(error.contains("that was not made"), "{error}");
        assert_eq!(told, []);
    }
}

#[tokio::test]
async fn what_is_not_synced_is_not_sent_to_one_that_asks_for_it() {
    let mut scene = with_a_past().await;
    scene.ignore = vec!["/secret".to_owned()];
    scene.write(&[("here/secret", "b"), ("here/d/b", "s")]);
    // It says that it has nothing and lacks the content, which is here in a file that it must not know of; at its path
    // something else is here, of the same length.
    let lacks = |request: &Request| match request {
        Request::Apply { transition, .. } if transition.from == transition.to => {
            Some(Outcome::Stale { actual: None })
        }
        _ => Some(Outcome::NeedContent),
    };
    let (peer, lying) = answering(&scene, lacks);
    let (told, done) = undo(&scene, peer).await;
    done.unwrap();
    assert_eq!(told[1], ("d/b".to_owned(), Err(NotUndoneThere::Gone)));
    let asked = lying.await.unwrap();
    assert!(!asked.iter().any(|request| matches!(request, Request::Data { .. })), "{asked:?}");
}

#[tokio::test]
async fn a_content_that_is_gone_there_is_sent_from_here() {
    let scene = with_a_past().await;
    let long = "the same again\n".repeat(40_000);
    scene.write(&[("here/long", long.as_str())]);
    scene.sync_far().await;
    scene.write(&[("here/long", "short")]);
    scene.sync_far().await;
    scene.write(&[("here/elsewhere", long.as_str())]);
    scene.sync_far().await;
    fs::remove_dir_all(scene.temp.path().join("far/trash")).unwrap();
    let (told, done) = undo(&scene, scene.far()).await;
    done.unwrap();
    let of = |path: &str| told.iter().find(|(told, _)| told == path).unwrap().1.clone();
    assert_eq!(of("long"), AS_IT_WAS);
    assert_eq!(of("d/b"), Err(NotUndoneThere::Gone));
    assert_eq!(of("a"), Err(NotUndoneThere::Gone));
    assert_eq!(read(&scene, "there/long"), long);
    assert_eq!(read(&scene, "there/a"), "newer a");
}
