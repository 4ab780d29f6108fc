//! A sync that goes on: edits, signals, and ends that go away.

use std::fs;

use super::scene::{Scene, signal};

const TO: &str = "echo $$ > pid; exec towline-agent serve --root far";

#[test]
fn edits_travel_both_ways_until_ctrl_c() {
    let scene = Scene::new();
    for (name, end) in [("INT", 130), ("TERM", 130)] {
        let running = scene.start(&["src", "--watch", "--to", TO]);
        running.until_in_sync();
        scene.env.write("src/here", name);
        running.until_synced("remote", "here");
        scene.env.write("far/there", name);
        running.until_synced("local", "there");
        assert_eq!((scene.read("far/here"), scene.read("src/there")), (name.to_owned(), name.to_owned()));
        running.signal(name);
        let (code, words) = running.end();
        assert_eq!((code, words.as_str()), (Some(end), ""));
        assert!(!scene.path("src/.towline-stage").exists() && !scene.path("far/.towline-stage").exists());
    }
}

#[test]
fn the_end_of_the_command_is_told_with_its_code() {
    let scene = Scene::new();
    let running = scene.start(&["src", "--watch", "--to", "towline-agent serve --root far; exit 41"]);
    running.until_in_sync();
    // The shell's only child is the agent.
    let shell = children(running.pid())[0];
    signal(children(shell)[0], "KILL");
    let error = running.until("error", |_| true);
    assert_eq!(error["code"], 41, "{error}");
    assert!(error["message"].as_str().unwrap().contains("the command of --to ended with code 41"), "{error}");
    assert_eq!(running.end().0, Some(41));
}

#[test]
fn the_command_is_started_again() {
    let scene = Scene::new();
    let running = scene.start(&["src", "--watch", "--retry", "--to", TO]);
    running.until_in_sync();
    signal(scene.read("pid").trim().parse().unwrap(), "KILL");
    running.until("warning", |event| event["message"].as_str().unwrap().contains("reached again in 1 s"));
    scene.env.write("src/meanwhile", "made while it was away\n");
    running.until_synced("remote", "meanwhile");
    assert_eq!(scene.read("far/meanwhile"), "made while it was away\n");
    running.signal("INT");
    assert_eq!(running.end().0, Some(130));
}

#[test]
fn one_sync_of_a_folder_at_a_time() {
    let scene = Scene::new();
    let running = scene.start(&["src", "dst", "--watch"]);
    running.until_in_sync();
    let report = scene.sync(&["src", "dst"]);
    assert!(report.starts_with("exit 5\n"), "{report}");
    let words = format!("is already synced by process {}\n", running.pid());
    assert!(report.contains(&words) && report.contains("sync --output json src dst --watch"), "{report}");
    running.signal("INT");
    running.end();
    assert!(scene.sync(&["src", "dst"]).starts_with("exit 0\n"));
}

#[test]
fn a_folder_that_vanishes_takes_nothing_with_it() {
    let scene = Scene::new();
    let running = scene.start(&["src", "dst", "--watch", "--rescan-interval", "1s"]);
    running.until_in_sync();
    fs::rename(scene.path("src"), scene.path("away")).unwrap();
    let problem = running.until("syncProblem", |_| true);
    assert!(problem["message"].as_str().unwrap().contains("No such file or directory"), "{problem}");
    // Another folder of that name is not the one that was synced.
    fs::create_dir(scene.path("src")).unwrap();
    scene.env.write("away/a", "changed meanwhile\n");
    fs::remove_dir(scene.path("src")).unwrap();
    fs::rename(scene.path("away"), scene.path("src")).unwrap();
    running.until_synced("remote", "a");
    assert_eq!(scene.read("dst/a"), "changed meanwhile\n");
    assert_eq!(scene.read("dst/d/b"), "two\n");
    running.signal("INT");
    assert_eq!(running.end().0, Some(130));
}

/// The processes that one has started.
fn children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut all: Vec<u32> = listed.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    // A program of several threads starts others from any of them.
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let listed = fs::read_to_string(thread.unwrap().path().join("children")).unwrap_or_default();
        all.extend(listed.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
    }
    all.sort_unstable();
    all.dedup();
    all
}
