//! A folder on the way to the target turns into a link to the outside and back, all the time.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use towline_sync_core::message::Outcome;
use towline_sync_core::snapshot::Entry;

use super::{Desk, file, lines};
use crate::disk::Resolver;

/// So many transitions must have been made between two turns of the racer for the test to mean anything.
const ENOUGH: usize = 200;

/// Applies while the racer runs and returns how many transitions were made, and what was written outside. Ends early
/// when something was.
fn race(resolver: Resolver, applies: usize) -> (usize, Vec<String>) {
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(outside.path().join("sub")).unwrap();
    let mut desk = Desk::new(&["d/sub/"]);
    symlink(outside.path(), desk.path().join("swap")).unwrap();
    desk.reopen();
    desk.workspace().tree.root.set_resolver(resolver);

    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let (real, fake) = (desk.path().join("d"), desk.path().join("swap"));
    let racer = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            renameat_with(CWD, &real, CWD, &fake, RenameFlags::EXCHANGE).unwrap();
        }
    });
    let mut done = 0;
    let mut found = Vec::new();
    let mut number = 0;
    // On a busy machine the racer may rest for long with the link in place: then it takes more.
    while number < applies || (done < ENOUGH && number < 200 * applies) {
        number += 1;
        let content = number.to_le_bytes();
        let at = format!("d/sub/f{}", number % 7);
        let from = [None, Some(file(&content))];
        for (from, to) in [(from[0].clone(), from[1].clone()), (from[1].clone(), from[0].clone())] {
            done += usize::from(desk.apply(&at, from, to, &content) == Outcome::Done);
        }
        let folder = format!("d/sub/g{}", number % 5);
        done += usize::from(desk.apply(&folder, None, Some(Entry::Directory), b"") == Outcome::Done);
        done += usize::from(desk.apply(&folder, Some(Entry::Directory), None, b"") == Outcome::Done);
        if number.is_multiple_of(8) {
            let inside = format!("d/sub/n{}/", number % 5);
            let new = super::install::news(&[&inside, &format!("{inside}x 1")]);
            let installed = desk.workspace().install_all(vec![(super::next_id(), new)]);
            done += usize::from(installed.iter().all(|(_, failed)| failed.is_empty()));
        }
        let written = fs::read_dir(outside.path().join("sub")).unwrap().count();
        if written > 0 {
            found = lines(outside.path());
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    racer.join().unwrap();
    if found.is_empty() && lines(outside.path()) != ["sub/"] {
        found = lines(outside.path());
    }
    (done, found)
}

#[test]
fn nothing_is_written_outside() {
    // Each counts for four transitions at least.
    let times = if std::env::var("TOWLINE_SIM").is_ok() { 10 } else { 1 };
    for (resolver, applies) in [(Resolver::Kernel, 2500), (Resolver::Components, 1000)] {
        let (done, outside) = race(resolver, times * applies);
        assert_eq!(outside, Vec::<String>::new(), "{resolver:?}");
        assert!(done >= ENOUGH, "{resolver:?}: the racer must leave some chances: {done}");
    }
}

#[test]
fn the_race_catches_an_unguarded_walk() {
    let (_, outside) = race(Resolver::Unguarded, 100_000);
    assert_ne!(outside, Vec::<String>::new());
}
