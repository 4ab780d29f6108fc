//! `undo --to`: what went where an agent has it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use insta::assert_snapshot;

use super::scene::{Running, Scene};

const AGENT: &str = "towline-agent serve --root far";

/// A pair of `src` and an agent's `far`, in which `far` has lost two files and a link to what was done in `src`.
struct Past {
    scene: Scene,
    to: String,
}

impl Past {
    fn new() -> Self {
        let scene = Scene::new();
        let to = format!("towline-agent serve --root {}", scene.path("far").display());
        Self::of(scene, to)
    }

    /// One whose agent is reached by a command that has the agent in `agent.sh`.
    fn with(to: &str) -> Self {
        let scene = Scene::new();
        scene.env.write("agent.sh", AGENT);
        Self::of(scene, to.to_owned())
    }

    fn of(mut scene: Scene, to: String) -> Self {
        symlink("a", scene.path("src/link")).unwrap();
        let report = scene.sync(&["src", "--to", &to]);
        assert!(report.starts_with("exit 0\n"), "{report}");
        scene.env.write("src/a", "one, edited\n");
        fs::remove_dir_all(scene.path("src/d")).unwrap();
        fs::remove_file(scene.path("src/link")).unwrap();
        let report = scene.sync(&["src", "--to", &to]);
        assert!(report.starts_with("exit 0\n"), "{report}");
        assert!(!scene.path("far/d").exists());
        let pair = fs::read_dir(scene.env.home().join("sync")).unwrap().next().unwrap().unwrap().file_name();
        scene.env.hide(&pair.to_string_lossy(), "[PAIR]");
        Self { scene, to }
    }

    fn undo(&self, arguments: &[&str]) -> String {
        self.scene.sync(&[&["undo", "--to", &self.to], arguments].concat())
    }

    /// Undoes the last sync, from inside of `src`.
    fn undo_all(&self) -> Running {
        let arguments = ["sync", "undo", "--to", &self.to, "--output", "json"];
        Running::start(self.scene.env.command(&arguments).current_dir(self.scene.path("src")))
    }

    /// The pair's private folder.
    fn state(&self) -> PathBuf {
        fs::read_dir(self.scene.env.home().join("sync")).unwrap().next().unwrap().unwrap().path()
    }

    /// Changes a file of the pair's.
    fn rewrite(&self, file: &str, change: impl FnOnce(String) -> String) {
        let file = self.state().join(file);
        let changed = change(fs::read_to_string(&file).unwrap());
        fs::write(file, changed).unwrap();
    }

    /// The folder in which the agent keeps what it displaces.
    fn trash(&self) -> PathBuf {
        let agents = self.scene.env.home().join("agent");
        let agent = fs::read_dir(agents).unwrap().next().unwrap().unwrap().path();
        agent.join("trash")
    }
}

fn link(path: &Path) -> String {
    fs::read_link(path).unwrap().display().to_string()
}

#[test]
fn the_last_sync_is_undone_there() {
    let past = Past::new();
    let scene = &past.scene;
    let (code, words) = past.undo_all().end();
    assert_eq!((code, words.as_str()), (Some(0), ""));
    assert_eq!((scene.read("far/a"), scene.read("far/d/b")), ("one\n".to_owned(), "two\n".to_owned()));
    assert_eq!(link(&scene.path("far/link")), "a");
    assert_eq!(scene.read("src/a"), "one, edited\n", "here it comes with the next sync");
    assert!(!scene.path("far/.towline-stage").exists());

    // Twice is once.
    assert_snapshot!(past.undo(&["src/a"]), @"
    exit 0
    --- stderr
    bringing back what went in towline-agent serve --root [TEMP]/project/far
    nothing was to be brought back
    ");

    // The next sync takes it for what was changed there, and what gave way to it can be had here.
    let report = scene.sync(&["src", "--to", &past.to]);
    assert!(report.starts_with("exit 0\n"), "{report}");
    assert_eq!((scene.read("src/a"), scene.read("src/d/b")), ("one\n".to_owned(), "two\n".to_owned()));
    assert_eq!(link(&scene.path("src/link")), "a");
    let report = scene.sync(&["undo", "src/a"]);
    assert!(report.contains("src/a is as it was; what stood there is kept as"), "{report}");
    assert_eq!(scene.read("src/a"), "one, edited\n");
}

#[test]
fn each_thing_is_listed_with_its_side() {
    let past = Past::new();
    let listed = past.scene.sync(&["undo", "--list", "src"]);
    assert_snapshot!(listed, @"
    exit 0
    --- stdout
    [TEMP]/project/src/d/b
      [TIME] deleted on the other side: 4 B, kept in the trash of towline-agent serve --root [TEMP]/project/far
    [TEMP]/project/src/link
      [TIME] deleted on the other side: a link to a, kept in the trash of towline-agent serve --root [TEMP]/project/far
    [TEMP]/project/src/a
      [TIME] replaced on the other side: 4 B, kept in the trash of towline-agent serve --root [TEMP]/project/far
    ");
    let listed = past.undo(&["--list", "src/a", "--output", "json"]);
    assert_snapshot!(listed, @r#"
    exit 0
    --- stdout
    {"at":"[TIME]","folder":"towline-agent serve --root [TEMP]/project/far","kept":null,"kind":"discarded","path":"a","side":"remote","size":4,"target":null,"time":"[TIME]","type":"file","version":1,"why":"replaced"}
    "#);
}

#[test]
fn without_the_command_it_is_said_where_it_is() {
    let past = Past::new();
    let report = past.scene.sync(&["undo", "src/d"]);
    assert_snapshot!(report, @"
    exit 1
    --- stderr
    error: nothing that sync replaced or deleted is kept of src/d here: it went on the other side
    hint: bring it back there: towline sync undo src/d --to 'towline-agent serve --root [TEMP]/project/far'
    ");
    let report = past.scene.sync(&["undo", "src", "--to", "ssh elsewhere"]);
    assert_snapshot!(report, @"
    exit 1
    --- stderr
    error: src was not synced with --to 'ssh elsewhere'
    hint: it was with --to 'towline-agent serve --root [TEMP]/project/far'
    ");
}

#[test]
fn a_path_comes_back_alone() {
    let past = Past::new();
    let report = past.undo(&["src/d"]);
    assert_snapshot!(report, @"
    exit 0
    --- stderr
    bringing back what went in towline-agent serve --root [TEMP]/project/far
    [TEMP]/project/src/d/b is back on the other side
    ");
    assert_eq!(past.scene.read("far/a"), "one, edited\n");
}

#[test]
fn what_was_changed_there_since_is_left_alone() {
    let past = Past::new();
    past.scene.env.write("far/a", "changed there\n").write("far/link/inside", "a folder now\n");
    let report = past.undo(&["src"]);
    assert_snapshot!(report, @"
    exit 1
    --- stderr
    bringing back what went in towline-agent serve --root [TEMP]/project/far
    warning: [TEMP]/project/src/link was not brought back on the other side: a folder stands there now
    warning: [TEMP]/project/src/a was not brought back on the other side: it was changed there since
    [TEMP]/project/src/d/b is back on the other side
    error: 2 of 3 paths were not brought back
    hint: what is kept of them stays: towline sync undo --list
    ");
    assert_eq!(past.scene.read("far/a"), "changed there\n");
    assert_eq!(past.scene.read("far/d/b"), "two\n", "the rest is brought back");

    // With the next sync another version of it goes here, later than the one there.
    let report = past.scene.sync(&["src", "--to", &past.to]);
    assert!(report.starts_with("exit 0\n"), "{report}");
    assert_eq!(past.scene.read("src/a"), "changed there\n");
    let report = past.undo(&["src/a"]);
    assert!(report.contains("src/a is as it was; what stood there is kept as"), "{report}");
    assert_eq!(past.scene.read("src/a"), "one, edited\n");
    assert_eq!(past.scene.read("far/a"), "changed there\n", "the version that went last is enough");
}

#[test]
fn of_each_path_the_version_that_went_last_comes_back() {
    let past = Past::new();
    let scene = &past.scene;
    scene.env.write("far/a", "edited there\n");
    scene.sync(&["src", "--to", &past.to]);
    scene.env.write("src/a", "edited here\n");
    scene.sync(&["src", "--to", &past.to]);
    // As if that had been long after.
    let last = |record: String| {
        let (before, last) = record.trim_end().rsplit_once('\n').unwrap();
        let (at, rest) = last.split_once(',').unwrap();
        assert!(at.starts_with("{\"at\":"), "{last}");
        format!("{before}\n{{\"at\":4102444800,{rest}\n")
    };
    past.rewrite("displaced.jsonl", last);
    let report = past.undo(&["src/a"]);
    assert!(report.contains("src/a is as it was on the other side"), "{report}");
    assert_eq!((scene.read("far/a"), scene.read("src/a")), ("edited there\n".into(), "edited here\n".into()));
    // Without the command all is as if nothing had gone there.
    let report = scene.sync(&["undo", "src/a"]);
    assert!(report.contains("src/a is as it was; what stood there is kept"), "{report}");
    assert_eq!(scene.read("src/a"), "one, edited\n");
}

#[test]
fn what_went_before_the_last_sync_is_not_meant() {
    let past = Past::new();
    past.rewrite("pair.json", |described| {
        let (before, began) = described.split_once("\"began\":").unwrap();
        let rest = began.trim_start_matches(|digit: char| digit.is_ascii_digit());
        format!("{before}\"began\":4102444800{rest}")
    });
    let (code, words) = past.undo_all().end();
    assert_eq!((code, words.as_str()), (Some(0), ""));
    assert_eq!(past.scene.read("far/a"), "one, edited\n");
    let report = past.undo(&["src/a"]);
    assert!(report.contains("src/a is as it was on the other side"), "{report}");
}

#[test]
fn what_gave_way_to_the_first_sync_comes_back() {
    let scene = Scene::new();
    scene.env.write("far/a", "theirs\n");
    let to = "towline-agent serve --root far";
    let arguments = ["src", "--to", to, "--mode", "mirror"];
    let report = scene.sync(&arguments);
    assert!(report.contains("which gave way: see towline sync undo --list"), "{report}");
    let report = scene.sync(&["undo", "src", "--to", to]);
    assert!(report.contains("warning: the next sync in the same mode"), "{report}");
    assert_eq!((scene.read("far/a"), scene.read("src/a")), ("theirs\n".into(), "one\n".into()));
    scene.sync(&arguments);
    assert_eq!(scene.read("far/a"), "one\n");
}

#[test]
fn a_record_of_another_version_is_said_to_be_there() {
    let past = Past::new();
    past.rewrite("displaced.jsonl", |record| record.replacen("\"version\":1", "\"version\":2", 1));
    let report = past.undo(&["src"]);
    assert!(report.starts_with("exit 1\n"), "{report}");
    assert!(report.contains("it is damaged, or of another version"), "{report}");
    assert_eq!(past.scene.read("far/a"), "one, edited\n");
    let report = past.scene.sync(&["src", "--to", &past.to]);
    assert!(report.starts_with("exit 0\n"), "a sync needs it not: {report}");
}

#[test]
fn a_trash_that_was_emptied_is_made_up_for_from_here() {
    let past = Past::new();
    let scene = &past.scene;
    fs::remove_dir_all(past.trash()).unwrap();
    // One of the two contents is here under another name, in a file that both sides have.
    scene.env.write("src/copy", "one\n");
    scene.sync(&["src", "--to", &past.to]);
    let report = past.undo(&["src"]);
    assert_snapshot!(report, @"
    exit 1
    --- stderr
    bringing back what went in towline-agent serve --root [TEMP]/project/far
    warning: [TEMP]/project/src/d/b was not brought back on the other side: its content is kept no more, neither there nor here
    [TEMP]/project/src/link is back on the other side
    [TEMP]/project/src/a is as it was on the other side; what stood there is in the trash there
    error: 1 of 3 paths were not brought back
    hint: what is kept of them stays: towline sync undo --list
    ");
    assert_eq!(scene.read("far/a"), "one\n");
    assert!(!scene.path("far/d/b").exists());
}

#[test]
fn a_sync_that_runs_is_not_disturbed() {
    let past = Past::new();
    let running = past.scene.start(&["src", "--watch", "--to", &past.to]);
    running.until_in_sync();
    let report = past.undo(&["src/a"]);
    assert!(report.starts_with("exit 5\n"), "{report}");
    assert!(report.contains(&format!("is already synced by process {}\n", running.pid())), "{report}");
    running.signal("INT");
    running.end();
    assert!(past.undo(&["src/a"]).starts_with("exit 0\n"));
}

#[test]
fn another_folder_is_not_the_one_that_was_synced() {
    let past = Past::new();
    let scene = &past.scene;
    fs::rename(scene.path("far"), scene.path("away")).unwrap();
    let report = past.undo(&["src"]);
    assert!(report.starts_with("exit 1\n") && report.contains("No such file or directory"), "{report}");
    scene.env.write("far/a", "one, edited\n");
    let report = past.undo(&["src"]);
    assert_snapshot!(report, @"
    exit 1
    --- stderr
    bringing back what went in towline-agent serve --root [TEMP]/project/far
    error: the folder there is another one than the one that was synced
    hint: does --to lead to the same agent, and to the same folder?
    hint: what is known of the other one stays: towline sync undo --list
    ");
    assert_eq!(scene.read("far/a"), "one, edited\n");
}

#[test]
fn an_agent_that_can_not_be_reached_changes_nothing() {
    let past = Past::with("sh agent.sh");
    let scene = &past.scene;
    scene.env.write("agent.sh", "exit 41");
    let report = past.undo(&["src"]);
    assert!(report.starts_with("exit 41\n"), "{report}");
    assert!(report.contains("no agent answers behind --to"), "{report}");
    assert_eq!(scene.read("far/a"), "one, edited\n");
}

#[test]
fn any_command_will_do_for_a_pair_that_knows_none() {
    let past = Past::new();
    let scene = &past.scene;
    // A session's pair is named by its folder in the container.
    past.rewrite("pair.json", |described| described.replace(&past.to, "/"));
    let report = scene.sync(&["undo", "src/d"]);
    assert!(report.contains("hint: it is in the trash of / in the container, see docs/sync.md"), "{report}");
    scene.env.write("agent.sh", &past.to);
    let report = scene.sync(&["undo", "src/d", "--to", "sh agent.sh"]);
    assert!(report.starts_with("exit 0\n"), "{report}");
    assert_eq!(scene.read("far/d/b"), "two\n");
}

#[test]
fn of_several_sessions_the_command_reaches_one() {
    let past = Past::new();
    let scene = &past.scene;
    let first = past.state();
    let to = "towline-agent serve --root other";
    scene.sync(&["src", "--to", to]);
    scene.env.write("src/a", "edited again\n");
    scene.sync(&["src", "--to", to]);
    let all = fs::read_dir(scene.env.home().join("sync")).unwrap();
    for pair in all.map(|pair| pair.unwrap().path()) {
        let command = if pair == first { &past.to } else { to };
        let described = fs::read_to_string(pair.join("pair.json")).unwrap();
        assert!(described.contains(command), "{described}");
        fs::write(pair.join("pair.json"), described.replace(command, "/")).unwrap();
    }
    for (command, path, content) in [(past.to.as_str(), "far/a", "one\n"), (to, "other/a", "one, edited\n")] {
        let report = scene.sync(&["undo", "src/a", "--to", command]);
        assert!(report.starts_with("exit 0\n"), "{report}");
        assert_eq!(scene.read(path), content);
    }
    let report = scene.sync(&["undo", "src/a", "--to", "towline-agent serve --root dst"]);
    assert!(report.starts_with("exit 1\n"), "{report}");
}

#[test]
fn it_goes_on_where_it_was_broken_off() {
    const FILES: usize = 150;
    let scene = Scene::new();
    scene.env.write("agent.sh", AGENT);
    let path = |number: usize| format!("{number:03}");
    let content = |number: usize, version: u32| format!("version {version} of {number}\n").repeat(20);
    for version in [1, 2] {
        for number in 0..FILES {
            scene.env.write(&format!("src/{}", path(number)), &content(number, version));
        }
        assert!(scene.sync(&["src", "--to", "sh agent.sh"]).starts_with("exit 0\n"));
    }
    let undone = || {
        let is_old = |number: &usize| {
            let stands = scene.read(&format!("far/{}", path(*number)));
            assert!([1, 2].map(|version| content(*number, version)).contains(&stands), "{number}: {stands}");
            stands == content(*number, 1)
        };
        (0..FILES).filter(is_old).count()
    };
    let mut counts = Vec::new();
    for bytes in (800..16_000).step_by(800) {
        // The stream ends after so many bytes, in the middle of what is asked.
        scene.env.write("agent.sh", &format!("dd bs=1 count={bytes} status=none | {AGENT}"));
        let report = scene.sync(&["undo", "src", "--to", "sh agent.sh"]);
        counts.push((report.starts_with("exit 6\n"), undone()));
        assert!(!scene.path("far/.towline-stage").exists(), "{report}");
    }
    let in_the_middle = |(lost, count): &(bool, usize)| *lost && (1..FILES).contains(count);
    assert!(counts.iter().any(in_the_middle), "{counts:?}");
    assert!(counts.is_sorted_by_key(|(_, count)| *count), "{counts:?}");
    scene.env.write("agent.sh", AGENT);
    let report = scene.sync(&["undo", "src", "--to", "sh agent.sh"]);
    assert!(report.starts_with("exit 0\n"), "{report}");
    assert_eq!(undone(), FILES);
}

#[test]
fn it_may_be_killed() {
    const FILES: u32 = 1500;
    let past = Past::new();
    for number in 0..FILES {
        past.scene.env.write(&format!("src/{number}"), "old\n");
    }
    past.scene.sync(&["src", "--to", &past.to]);
    for number in 0..FILES {
        past.scene.env.write(&format!("src/{number}"), "changed\n");
    }
    past.scene.sync(&["src", "--to", &past.to]);
    let running = past.undo_all();
    running.until("undone", |_| true);
    running.signal("KILL");
    running.end();
    let read = |number: u32| past.scene.read(&format!("far/{number}"));
    assert!((0..FILES).all(|number| ["old\n", "changed\n"].contains(&read(number).as_str())));
    let (code, words) = past.undo_all().end();
    assert_eq!((code, words.as_str()), (Some(0), ""));
    assert!((0..FILES).all(|number| read(number) == "old\n"));
}
