//! What is refused, in which words, and with which exit code. Nothing is ever lost by it.

use std::fs;
use std::os::unix::fs::symlink;

use super::scene::Scene;

/// Runs it and compares the exit code and a part of what is said.
#[track_caller]
fn check(scene: &Scene, arguments: &[&str], code: i32, words: &str) {
    let report = scene.sync(arguments);
    assert!(report.starts_with(&format!("exit {code}\n")), "{arguments:?}: {report}");
    assert!(report.contains(words), "{arguments:?}: no {words:?} in {report}");
    assert_eq!(scene.read("src/a"), "one\n");
    assert_eq!(scene.read("src/d/b"), "two\n");
}

#[test]
fn folders_that_can_not_be_synced() {
    let scene = Scene::new();
    scene.env.write("file", "text");
    symlink(scene.path("src"), scene.path("alias")).unwrap();
    symlink("nowhere", scene.path("dangling")).unwrap();
    check(&scene, &[], 2, "<SRC>");
    check(&scene, &["src"], 2, "<DST>");
    check(&scene, &["src", "dst", "--to", "true"], 2, "cannot be used with");
    check(&scene, &["src", "dst", "--watch", "--once"], 2, "cannot be used with");
    check(&scene, &["src", "dst", "--watch", "--dry-run"], 2, "cannot be used with");
    check(&scene, &["src", "dst", "--retry"], 2, "--to <COMMAND>");
    check(&scene, &["src", "dst", "--rescan-interval", "soon"], 2, "a time such as 30s, 5m or 1h");
    check(&scene, &["missing", "dst"], 1, "error: missing: No such file or directory");
    check(&scene, &["file", "dst"], 1, "error: file is not a folder");
    check(&scene, &["src", "file"], 1, "error: file is not a folder");
    check(&scene, &["src", "file/below"], 1, "can't be synced");
    check(&scene, &["src", "dangling"], 1, "error: dangling is a symbolic link that leads nowhere");
    check(&scene, &["src", "src"], 1, "error: src is the same folder as [TEMP]/project/src");
    check(&scene, &["src", "alias"], 1, "error: alias is the same folder as [TEMP]/project/src");
    check(&scene, &["src", "src/sub/new"], 1, "error: src/sub/new lies inside of [TEMP]/project/src");
    check(&scene, &["src", "alias/new"], 1, "error: alias/new lies inside of [TEMP]/project/src");
    check(&scene, &["src/d", "src"], 1, "error: src holds [TEMP]/project/src/d");
    check(&scene, &["../home", "dst"], 1, "lies in Towline's own folder");
    check(&scene, &["src", "dst", "--ignore", "missing"], 1, "error: missing: No such file or directory");
    assert!(!scene.path("dst").exists() && !scene.path("src/sub").exists());
}

#[test]
fn rules_that_are_not_understood_stop_it() {
    let scene = Scene::new();
    scene.env.write("src/.stignore", "*.log\n#include missing\n");
    check(&scene, &["src", "dst"], 1, ".stignore:2: the included file missing does not exist");
    fs::remove_file(scene.path("src/.stignore")).unwrap();
    symlink("nowhere", scene.path("src/.stignore")).unwrap();
    check(&scene, &["src", "dst"], 1, ".stignore");
    assert!(!scene.path("dst").exists());
}

#[test]
fn other_programs_that_sync() {
    let scene = Scene::new();
    fs::create_dir_all(scene.path("src/.stfolder")).unwrap();
    check(
        &scene,
        &["src", "dst"],
        0,
        "warning: Syncthing seems to sync [TEMP]/project/src, too: it has .stfolder",
    );
    fs::create_dir_all(scene.path("dst/.stfolder")).unwrap();
    check(&scene, &["src", "dst"], 1, "error: Syncthing seems to sync both folders: both have .stfolder");
    check(&scene, &["src", "dst", "--beside-others"], 0, "warning: Syncthing seems to sync");
}

#[test]
fn what_is_no_agent() {
    let scene = Scene::new();
    scene.env.write("file", "text");
    let check = |to: &str, code: i32, words: &str| check(&scene, &["src", "--to", to], code, words);
    check("no-such-program-here", 127, "no agent answers behind --to: the command ended with code 127");
    check("exit 3", 3, "the command ended with code 3");
    check("true", 6, "no agent answers behind --to: the command ended at once");
    check("echo Welcome to box; cat >/dev/null", 6, "it says \"Welcome to box\\n\"");
    check("echo Hello; exec towline-agent serve --root far", 6, "silence banners and shell start files");
    check("printf 'TOWLINE\\0\\1\\0\\0\\0'; cat >/dev/null", 6, "wire format 1");
    check("printf 'TOWLINE\\0'", 6, "no agent answers behind --to: the command ended at once");
    check("towline-agent serve --root file", 1, "file is not a folder");
    check("towline-agent serve --root far | head -c 20", 6, "no agent answers behind --to");
    assert!(!scene.path("far/a").exists());
}

#[test]
fn a_stream_that_ends_in_the_middle() {
    let scene = Scene::new();
    let noise: Vec<_> = (0..200_000_u32).map(|n| format!("{:08x}", n.wrapping_mul(2_654_435_761))).collect();
    let noise = noise.concat();
    scene.env.write("src/large", &noise);
    for bytes in [500, 20_000, 400_000] {
        let to = format!("head -c {bytes} | towline-agent serve --root far");
        let report = scene.sync(&["src", "--to", &to]);
        assert!(!report.starts_with("exit 0\n") && report.contains("error: "), "{report}");
        // What is there is whole.
        for name in ["a", "d/b", "large"] {
            let far = scene.path("far").join(name);
            if far.exists() {
                assert_eq!(fs::read(far).unwrap(), fs::read(scene.path("src").join(name)).unwrap(), "{name}");
            }
        }
    }
    check(&scene, &["src", "--to", "towline-agent serve --root far"], 0, "in sync");
    assert_eq!(scene.read("far/large"), noise);
}

#[test]
fn a_base_that_is_damaged_or_of_another_version_is_put_aside() {
    let scene = Scene::new();
    scene.sync(&["src", "dst"]);
    let state = fs::read_dir(scene.env.home().join("sync")).unwrap().next().unwrap().unwrap().path();
    let good = fs::read(state.join("base")).unwrap();
    let mut flipped = good.clone();
    flipped[0] ^= 64;
    for bad in
        [flipped, b"something else altogether, and long enough".to_vec(), good[..good.len() / 2].to_vec()]
    {
        fs::remove_file(scene.path("dst/a")).unwrap();
        fs::write(state.join("base"), &bad).unwrap();
        fs::write(state.join("journal"), b"").unwrap();
        check(&scene, &["src", "dst"], 0, "was put aside as [TEMP]/home/sync/");
        assert_eq!(scene.read("dst/a"), "one\n", "nothing is deleted for want of a base");
        assert_eq!(fs::read(state.join("base.unreadable")).unwrap(), bad);
    }
    let report = scene.sync(&["src", "dst"]);
    assert!(!report.contains("put aside"), "{report}");
}

#[test]
fn what_stands_in_the_way_is_kept_and_what_can_not_be_synced_is_named() {
    let scene = Scene::new();
    fs::create_dir_all(scene.path("dst")).unwrap();
    fs::write(scene.path("dst/d"), "a file where a folder is to be").unwrap();
    check(
        &scene,
        &["src", "dst"],
        0,
        "warning: 1 path of [TEMP]/project/dst had another version, which gave way",
    );
    assert!(
        scene.sync(&["undo", "--list", "dst"]).contains("project/dst/d\n  [TIME] replaced: 30 B, kept as")
    );
    symlink("/etc/hostname", scene.path("src/outside")).unwrap();
    check(&scene, &["src", "dst"], 0, "warning: outside is not synced: the symbolic link can lead outside");
}
