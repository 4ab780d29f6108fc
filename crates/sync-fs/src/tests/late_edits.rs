//! The user saves between our check and our rename: nothing is lost.

use std::fs;
use std::path::{Path, PathBuf};

use towline_sync_core::message::Outcome;
use towline_sync_core::snapshot::Entry;

use super::{Desk, file, lines, link, path};
use crate::commit::PLAIN;
use crate::hook::Moment;

/// How an editor saves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Save {
    InPlace,
    /// In place, of the same length, with the old time put back.
    Disguised,
    ByRename,
    AsFolder,
}

fn save(root: &Path, save: Save, content: &str) {
    let at = root.join("f");
    match save {
        Save::InPlace => fs::write(at, content).unwrap(),
        Save::Disguised => {
            let old = fs::metadata(&at).and_then(|stat| stat.modified());
            fs::write(&at, content).unwrap();
            if let Ok(old) = old {
                fs::File::options().write(true).open(&at).unwrap().set_modified(old).unwrap();
            }
        }
        Save::ByRename => {
            fs::write(root.join("f~"), content).unwrap();
            fs::rename(root.join("f~"), at).unwrap();
        }
        Save::AsFolder => {
            let _there = fs::remove_file(&at);
            fs::create_dir(&at).unwrap();
            fs::write(at.join("inside"), content).unwrap();
        }
    }
}

/// Saves as `saves` say at each moment, and checks that the last save has the name and no other is lost.
#[track_caller]
fn check(from: Option<Entry>, to: Option<Entry>, saves: &[(Moment, Save, &'static str)]) {
    let case = format!("{from:?} {to:?} {saves:?}");
    let mut desk = Desk::new(if from.is_some() { &["f old"] } else { &[] });
    let root: PathBuf = desk.path().to_owned();
    let mut left = saves.to_vec();
    desk.hook(move |moment, _| {
        left.retain(|(when, how, content)| {
            if *when == moment {
                save(&root, *how, content);
            }
            *when != moment
        });
        Ok(())
    });
    let outcome = desk.apply("f", from, to, b"ours");
    let mut found = lines(desk.path()).join("\n");
    for content in desk.trash() {
        found.push_str(&content);
    }
    for (_, _, content) in saves {
        assert!(found.contains(content), "{case}: {content} is lost, {outcome:?}, {found}");
    }
    let last = saves.last().unwrap().2;
    let standing = lines(desk.path()).join("\n");
    assert!(standing.contains(last), "{case}: {last} lost its name, {outcome:?}, {standing}");
    if saves.iter().all(|(moment, ..)| *moment == Moment::Checked) {
        assert!(matches!(outcome, Outcome::Stale { actual: Some(_) }), "{case}: {outcome:?}");
    }
    desk.assert_swept();
    // What the user did is news, whatever we answered.
    let changes = desk.workspace().tree.settle(&[(path("f"), true)].into()).unwrap();
    assert!(!changes.is_empty(), "{case}");
}

const SAVES: [Save; 4] = [Save::InPlace, Save::Disguised, Save::ByRename, Save::AsFolder];

#[test]
fn before_a_replacement() {
    for how in SAVES {
        for to in [file(b"ours"), link("g"), Entry::Directory] {
            for plain in [false, true] {
                PLAIN.set(plain);
                check(Some(file(b"old")), Some(to.clone()), &[(Moment::Checked, how, "usr")]);
                PLAIN.set(false);
            }
        }
    }
}

#[test]
fn before_a_creation() {
    for how in SAVES {
        for to in [file(b"ours"), link("g")] {
            check(None, Some(to), &[(Moment::Checked, how, "usr")]);
        }
    }
}

#[test]
fn before_a_deletion() {
    for how in SAVES {
        check(Some(file(b"old")), None, &[(Moment::Checked, how, "usr")]);
    }
}

#[test]
fn before_and_after_an_exchange() {
    for first in [Save::InPlace, Save::ByRename] {
        for second in [Save::ByRename, Save::AsFolder] {
            let saves = [(Moment::Checked, first, "usr"), (Moment::Exchanged, second, "again")];
            check(Some(file(b"old")), Some(file(b"ours")), &saves);
        }
    }
}

#[test]
fn before_and_after_a_deletion() {
    for first in [Save::InPlace, Save::ByRename] {
        for second in SAVES {
            let saves = [(Moment::Checked, first, "usr"), (Moment::Displaced, second, "again")];
            check(Some(file(b"old")), None, &saves);
        }
    }
}

#[test]
fn a_file_put_into_a_folder_that_goes_stays() {
    for to in [None, Some(file(b"ours")), Some(link("g"))] {
        for moment in [Moment::Checked, Moment::Exchanged] {
            let mut desk = Desk::new(&["f/"]);
            let inside = desk.path().join("f/inside");
            desk.hook(move |now, _| {
                if now == moment && moment == Moment::Checked {
                    fs::write(&inside, "usr").unwrap();
                }
                Ok(())
            });
            let outcome = desk.apply("f", Some(Entry::Directory), to.clone(), b"ours");
            if moment == Moment::Checked {
                assert_eq!(outcome, Outcome::Stale { actual: Some(Entry::Directory) }, "{to:?}");
                assert_eq!(lines(desk.path()), ["f/", "f/inside usr"]);
            } else {
                assert_eq!(outcome, Outcome::Done, "{to:?}");
            }
            desk.assert_swept();
        }
    }
}
