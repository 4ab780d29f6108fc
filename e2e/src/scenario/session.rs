//! A whole session: from a workload that runs, over edits, commands and ports, back to exactly what was there.

use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncReadExt;

use crate::adapter::Adapter;
use crate::app::{self, App, NAME, OTHER};
use crate::http;
use crate::log::Log;
use crate::scenario::edits;
use crate::snapshot::Snapshot;
use crate::towline::Towline;
use crate::waiting::{self, eventually, is_settled, pods};
use towline_cluster::port::DEPLOYMENTS;

/// `up`, edits on both sides, `exec`, `logs`, `status`, forwards, `down`.
pub async fn whole(adapter: &dyn Adapter) {
    let replicas = if adapter.is_real() { 3 } else { 1 };
    let app = App::deploy(adapter, replicas).await;
    if adapter.is_real() {
        adapter.apply(&app::other(&adapter.images())).await;
        waiting::object(adapter, DEPLOYMENTS, OTHER, is_settled).await;
    }
    let before = Snapshot::of(adapter).await;

    let (project, local) = app.project(adapter, "").await;
    let beyond = http::free_port().await;
    if adapter.is_real() {
        let forwards = [format!("{local}:{}", app.port), format!("{beyond}:{OTHER}:80")];
        project.write("okteto.yml", app.manifest(&forwards, ""));
    }
    let towline = Towline::new(adapter, &project);
    let mut up = towline.start(&["up"]);
    up.until_state("ready").await;
    http::reads(local, "/", "from the laptop\n").await;

    if adapter.is_real() {
        http::reads(beyond, "/", "other\n").await;
        eventually("the Service answers from the laptop's files", async || {
            let page = in_pod(adapter, OTHER, &["wget", "-q", "-O", "-", &format!("http://{NAME}/")]).await;
            if page == "from the laptop\n" { Ok(()) } else { Err(page) }
        })
        .await;
    }

    edits::of_a_page(&project, local).await;
    edits::on_both_sides(&towline, &project, &mut up).await;
    commands(&towline).await;
    status(&towline).await;

    let restored = towline.run(&["down"]).await.expect(0);
    let restored = restored.log.of_kind("restored").next().expect("it says what became of it").clone();
    assert_eq!(restored["exact"], true, "{restored}");
    let ended = up.ended().await;
    assert!(ended.log.of_kind("ended").any(|event| event["ending"]["why"] == "lost"), "{}", ended.log);
    check_log(&ended.log);
    before.expect_unchanged(adapter).await;
    waiting::object(adapter, DEPLOYMENTS, NAME, is_settled).await;
    towline.run(&["down"]).await.expect(1);
}

/// `up --detach`, then every other verb from processes of their own.
pub async fn detached(adapter: &dyn Adapter) {
    let app = App::deploy(adapter, 1).await;
    let before = Snapshot::of(adapter).await;
    let (project, local) = app.project(adapter, "").await;
    let towline = Towline::new(adapter, &project);

    let up = towline.run(&["up", "--detach"]).await.expect(0);
    assert_eq!(up.log.states().last(), Some(&"ready"), "{}", up.log);
    assert_eq!(http::get(local, "/").await.as_deref(), Ok("from the laptop\n"));
    commands(&towline).await;
    status(&towline).await;
    edits::of_a_page(&project, local).await;

    towline.run(&["down"]).await.expect(0);
    before.expect_unchanged(adapter).await;
    eventually("the process that was left behind ended", async || match http::get(local, "/").await {
        Err(_) => Ok(()),
        Ok(page) => Err(page),
    })
    .await;
}

/// The command ends by itself: its exit code is `up`'s, dev mode stays on, and `up` goes on with it.
pub async fn resumed(adapter: &dyn Adapter) {
    let app = App::deploy(adapter, 1).await;
    let before = Snapshot::of(adapter).await;
    let (project, local) = app.project(adapter, "").await;
    let towline = Towline::new(adapter, &project);

    let first =
        towline.run(&["up", "--", "sh", "-c", "echo from the pod >made.txt; exit 23"]).await.expect(23);
    assert!(first.log.of_kind("commandExited").any(|event| event["code"] == 23), "{}", first.log);
    project.write("index.html", "written while nobody was there\n");

    let mut second = towline.start(&["up"]);
    second.until_state("ready").await;
    http::reads(local, "/", "written while nobody was there\n").await;
    assert_eq!(project.read("made.txt").as_deref(), Some("from the pod\n"));
    second.terminate().await;
    second.ended().await.expect(130);

    towline.run(&["down"]).await.expect(0);
    before.expect_unchanged(adapter).await;
}

/// `up --dry-run` says what it would do and does nothing.
pub async fn dry_run(adapter: &dyn Adapter) {
    let app = App::deploy(adapter, 1).await;
    let before = Snapshot::of(adapter).await;
    let (project, _) = app.project(adapter, "").await;
    let plan = Towline::new(adapter, &project).run(&["up", "--dry-run"]).await.expect(0);
    let plan = plan.log.of_kind("plan").next().expect("it says its plan").clone();
    let writes: Vec<_> = plan["writes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert!(writes.iter().any(|write| write.starts_with("create Lease")), "{writes:?}");
    assert!(writes.iter().any(|write| write.starts_with("scale Deployment hello from 1 to 0")), "{writes:?}");
    let reasons = plan["changes"].as_array().into_iter().flatten().map(|change| &change["reason"]);
    assert!(
        reasons.clone().count() > 0
            && reasons.clone().all(|reason| reason.as_str().is_some_and(|r| !r.is_empty()))
    );
    before.expect_unchanged(adapter).await;
}

/// `exec` passes input and the exit code on and has the workload's variables; `logs` shows what the command wrote.
async fn commands(towline: &Towline) {
    let echo =
        towline.run_with_input(&["exec", "--", "sh", "-c", "cat; exit 7"], b"one\ntwo\n").await.expect(7);
    assert_eq!(echo.stdout, "one\ntwo\n");
    // More than all buffers on the way hold: input and output must not wait for each other.
    let large = "0123456789abcde\n".repeat(256 * 1024);
    let echo = towline.run_with_input(&["exec", "--", "cat"], large.as_bytes()).await.expect(0);
    assert!(echo.stdout == large, "{} of {} bytes came back", echo.stdout.len(), large.len());
    let seen = towline.run(&["exec", "--", "sh", "-c", "echo \"$GREETING, $TOKEN\"; pwd"]).await.expect(0);
    let lines: Vec<_> = seen.stdout.lines().collect();
    assert_eq!(lines[0], "good morning, not-for-everyone");
    assert!(lines[1].ends_with("/app"), "{lines:?}");
    let missing = towline.run(&["exec", "--", "no-such-program"]).await;
    assert_eq!(missing.code, Some(127), "{}{}", missing.stdout, missing.stderr);
    let logs = towline.run(&["logs"]).await.expect(0);
    assert!(logs.stdout.contains("listening on"), "{:?}", logs.stdout);
    let last = towline.run(&["logs", "--tail", "1"]).await.expect(0);
    assert_eq!(last.stdout.lines().count(), 1, "{:?}", last.stdout);
}

async fn status(towline: &Towline) {
    let (session, _) = eventually("status says that all is in sync", async || {
        let status = towline.run(&["status"]).await.expect(0);
        let session = status.log.of_kind("session").next().cloned().ok_or("no session")?;
        if session["local"]["folders"][0]["inSync"] == true { Ok(session) } else { Err("not in sync") }
    })
    .await;
    assert_eq!(session["workload"], NAME);
    assert_eq!(session["alive"], true);
    assert_eq!(session["local"]["state"], "ready");
    assert_eq!(session["pod"]["phase"], "running");
    assert!(session["holder"].as_str().is_some_and(|holder| holder.starts_with("ann@")), "{session}");
}

/// The log of a session tells its states in their order, and each line says its kind, version and time.
fn check_log(log: &Log) {
    let order = ["activating", "starting", "attaching", "pulling", "startingSync", "synchronizing", "ready"];
    let states = log.states();
    let positions: Vec<_> =
        states.iter().map(|state| order.iter().position(|known| known == state)).collect();
    assert!(positions.iter().all(Option::is_some), "{states:?}");
    assert_eq!(states.first(), Some(&"activating"), "{states:?}");
    assert_eq!(states.last(), Some(&"ready"), "{states:?}");
    let milestones = ["activating", "starting", "startingSync", "synchronizing", "ready"];
    let mut rest = states.iter();
    for milestone in milestones {
        assert!(rest.any(|state| *state == milestone), "{milestone} is missing or late in {states:?}");
    }
    for event in &log.events {
        assert_eq!(event["version"], 1, "{event}");
        assert!(event["kind"].is_string() && event["time"].is_string(), "{event}");
    }
    for (kind, count) in [("connected", 1), ("commandStarted", 1), ("inSync", 1), ("ended", 1)] {
        assert_eq!(log.of_kind(kind).count(), count, "{kind}:\n{log}");
    }
}

/// Runs a program in the first pod of a workload and returns what it wrote.
pub async fn in_pod(adapter: &dyn Adapter, workload: &str, argv: &[&str]) -> String {
    let bytes = bytes_in_pod(adapter, workload, argv).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The same, as bytes.
pub async fn bytes_in_pod(adapter: &dyn Adapter, workload: &str, argv: &[&str]) -> Vec<u8> {
    let pods = pods(adapter, &format!("{workload}-")).await;
    let pod = pods.first().map(crate::kinds::name).expect("the workload has a pod");
    let argv: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
    let mut stream = adapter.cluster().exec(adapter.namespace(), &pod, "web", &argv).await.unwrap();
    let mut bytes = Vec::new();
    let reading = stream.stdout.read_to_end(&mut bytes);
    tokio::time::timeout(Duration::from_secs(30), reading).await.expect("the program ends").unwrap();
    bytes
}
