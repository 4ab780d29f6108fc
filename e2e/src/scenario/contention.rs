//! Several people want the same workload.

use futures::future::join_all;

use crate::adapter::Adapter;
use crate::app::App;
use crate::http;
use crate::snapshot::Snapshot;
use crate::towline::Towline;

/// How many begin at once.
const PEOPLE: usize = 8;

/// Eight at once: one has it, seven are told who.
pub async fn at_once(adapter: &dyn Adapter) {
    let app = App::deploy(adapter, 1).await;
    let before = Snapshot::of(adapter).await;
    let mut projects = Vec::new();
    for _ in 0..PEOPLE {
        projects.push(app.project(adapter, "").await.0);
    }
    let towline =
        |person: usize| Towline::new(adapter, &projects[person]).with("USER", &format!("user{person}"));
    let mut started: Vec<_> = (0..PEOPLE).map(|person| towline(person).start(&["up"])).collect();
    let outcomes = join_all(started.iter_mut().map(|up| async {
        let what = "it is ready, or an error";
        let over = |event: &serde_json::Value| event["kind"] == "error" || event["state"] == "ready";
        up.next_where(what, over).await.unwrap_or_default()
    }))
    .await;

    let ready: Vec<_> = (0..PEOPLE).filter(|&person| outcomes[person]["state"] == "ready").collect();
    let [winner] = ready[..] else { panic!("not exactly one is ready: {outcomes:#?}") };
    for (person, up) in started.into_iter().enumerate() {
        if person == winner {
            up.terminate().await;
            up.ended().await.expect(130);
            continue;
        }
        let lost = up.ended().await.expect(1);
        let message = lost.log.error()["message"].to_string();
        assert!(
            message.contains("Deployment hello") && message.contains(&format!("user{winner}@")),
            "{message}"
        );
    }
    towline(winner).run(&["down"]).await.expect(0);
    before.expect_unchanged(adapter).await;
}

/// The second is told who holds it, since when, and how to take it; taking it ends the first.
pub async fn taken_over(adapter: &dyn Adapter) {
    let app = App::deploy(adapter, 1).await;
    let before = Snapshot::of(adapter).await;
    let (first_project, _) = app.project(adapter, "").await;
    let (second_project, second_port) = app.project(adapter, "").await;
    second_project.write("index.html", "from the other laptop\n");
    let mut first = Towline::new(adapter, &first_project).start(&["up"]);
    first.until_state("ready").await;

    let bob = Towline::new(adapter, &second_project).with("USER", "bob");
    let refused = bob.run(&["up"]).await.expect(1);
    let error = refused.log.error().to_string();
    for wanted in ["Deployment hello is in dev mode by ann@", " since ", "towline up --takeover"] {
        assert!(error.contains(wanted), "{wanted}: {error}");
    }

    let mut second = bob.start(&["up", "--takeover"]);
    second.until_state("ready").await;
    http::reads(second_port, "/", "from the other laptop\n").await;
    let first = first.ended().await.expect(1);
    let lost = first.log.of_kind("ended").next().expect("it says why it is over").to_string();
    assert!(lost.contains("bob@"), "{lost}");
    assert_eq!(first_project.read("index.html").as_deref(), Some("from the laptop\n"));

    bob.run(&["down"]).await.expect(0);
    second.ended().await;
    before.expect_unchanged(adapter).await;
}
