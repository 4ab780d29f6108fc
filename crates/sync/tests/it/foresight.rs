//! What a sync would do is what it then does, and saying so does nothing.

use std::fs;

use towline_sync::{Action, PreviewError, Step};
use towline_sync_core::engine::Side;
use towline_sync_core::reconcile::Mode;

use crate::scene::Scene;

fn lines(steps: &[Step]) -> Vec<String> {
    let word = |step: &Step| match step.action() {
        _ if step.conflict => "conflict",
        Action::Create => "create",
        Action::Update => "update",
        Action::Delete => "delete",
    };
    let mut lines: Vec<_> = steps
        .iter()
        .map(|step| format!("{} {} {}", step.side.name(), word(step), step.transition.path))
        .collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn nothing_is_changed_by_asking() {
    let scene = Scene::new();
    scene.write(&[("here/a", "1"), ("here/d/b", "2")]);
    let before = scene.everything();
    let preview = scene.preview().await.unwrap();
    assert_eq!(lines(&preview.steps), ["remote create a", "remote create d", "remote create d/b"]);
    assert_eq!(scene.everything(), before, "the other folder and the pair's own are not made");

    scene.sync().await;
    assert!(scene.preview().await.unwrap().steps.is_empty());
    scene.write(&[
        ("here/a", "mine"),
        ("there/a", "theirs"),
        ("here/new", "n"),
        ("there/d/b", "changed there"),
    ]);
    let before = scene.everything();
    let preview = scene.preview().await.unwrap();
    assert_eq!(lines(&preview.steps), ["local update d/b", "remote conflict a", "remote create new"]);
    assert_eq!(scene.everything(), before);

    scene.sync().await;
    assert_eq!(fs::read_to_string(scene.there().join("a")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(scene.here().join("d/b")).unwrap(), "changed there");
}

#[tokio::test]
async fn each_mode_has_its_own_plan() {
    let check = async |mode: Mode, expected: &[&str]| {
        let mut scene = Scene::new();
        scene.write(&[("here/both", "1"), ("here/gone", "2")]);
        scene.sync().await;
        scene.write(&[("there/both", "changed there"), ("there/made", "there"), ("here/mine", "here")]);
        fs::remove_file(scene.there().join("gone")).unwrap();
        scene.mode = mode;
        assert_eq!(lines(&scene.preview().await.unwrap().steps), expected, "{mode:?}");
    };
    check(
        Mode::TwoWay,
        &["local create made", "local delete gone", "local update both", "remote create mine"],
    )
    .await;
    check(Mode::LocalToRemote, &["remote create mine"]).await;
    check(Mode::RemoteToLocal, &["local create made", "local delete gone", "local update both"]).await;
    let mirror = ["remote create gone", "remote create mine", "remote delete made", "remote update both"];
    check(Mode::Mirror, &mirror).await;
}

#[tokio::test]
async fn a_folder_that_was_emptied_would_be_asked_about() {
    let scene = Scene::new();
    scene.write(&[("here/a", "1"), ("here/b", "2"), ("here/c", "3")]);
    scene.sync().await;
    for name in ["a", "b", "c"] {
        fs::remove_file(scene.there().join(name)).unwrap();
    }
    let preview = scene.preview().await.unwrap();
    let halted: Vec<_> = preview.halted.iter().map(|halt| (halt.side, halt.missing, halt.of)).collect();
    assert_eq!(halted, [(Side::Remote, 3, 3)]);
}

#[tokio::test]
async fn what_can_not_be_looked_through_is_said() {
    let scene = Scene::new();
    fs::remove_dir(scene.here()).unwrap();
    let error = scene.preview().await.unwrap_err();
    assert!(matches!(error, PreviewError::Folder { side: Side::Local, .. }), "{error}");
    let scene = Scene::new();
    scene.write(&[("there", "a file")]);
    let error = scene.preview().await.unwrap_err();
    assert!(matches!(error, PreviewError::Folder { side: Side::Remote, .. }), "{error}");
}
