//! `up` at a terminal: a person sees its phases, then has the command on a real terminal.

use crate::adapter::Adapter;
use crate::app::App;
use crate::pty::Terminal;
use crate::snapshot::Snapshot;
use crate::towline::Towline;

/// Phases, a shell on a terminal of the right size, a resize, Ctrl-C for the command, and the way out.
pub async fn at_a_terminal(adapter: &dyn Adapter) {
    let app = App::deploy(adapter, 1).await;
    let before = Snapshot::of(adapter).await;
    let (project, _) = app.project(adapter, "").await;
    let towline = Towline::new(adapter, &project);
    let command = towline.command(&["up", "--", "sh"], "human");
    let mut terminal = Terminal::start(&command, 30, 100).expect("setsid is there");

    terminal.shows("checking hello").await;
    terminal.shows("syncing files").await;
    // What is typed is shown too, so each answer is a text that was not typed.
    terminal.type_in("echo size $(stty size)\r");
    terminal.shows("size 30 100").await;
    terminal.resize(40, 120);
    terminal.type_in("while test \"$(stty size)\" != '40 120'; do :; done; echo now $((40 + 2))\r");
    terminal.shows("now 42").await;
    let patient = "(trap 'exit 55' INT; echo armed $((60 + 6)); while :; do sleep 1; done) || echo caught $?";
    terminal.type_in(&format!("{patient}\r"));
    terminal.shows("armed 66").await;
    terminal.type_in("\x03");
    terminal.shows("caught 55").await;
    terminal.type_in("\r~.");
    terminal.shows("dev mode is still on").await;
    terminal.shows("towline down hello").await;
    let (status, screen) = terminal.ended().await;
    assert_eq!(status.code(), Some(130), "{screen}");

    towline.run(&["down"]).await.expect(0);
    before.expect_unchanged(adapter).await;
}
