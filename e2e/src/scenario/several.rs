//! Several workloads in one `up`: dev services side by side, and the services of one.

use serde_json::{Value, json};
use towline_cluster::port::{DEPLOYMENTS, DeleteOptions, Object};

use crate::adapter::Adapter;
use crate::app::{App, NAME};
use crate::http;
use crate::project::Project;
use crate::snapshot::Snapshot;
use crate::towline::{Running, Towline};
use crate::waiting::{self, eventually, is_settled};

/// The other workload's name.
const API: &str = "api";

/// Two dev services with one folder: refused together, begun together, ended together.
pub async fn side_by_side(adapter: &dyn Adapter) {
    let app = App::deploy(adapter, 1).await;
    let api_port = deploy_api(adapter, &app).await;
    let before = Snapshot::of(adapter).await;
    let (local, api_local) = (http::free_port().await, http::free_port().await);
    let project = Project::new();
    project.write("index.html", "from the laptop\n").write(".stignore", "/okteto.yml\n");
    let of = |name: &str, local: u16, port: u16| {
        let command = json!(app.command);
        format!(
            "  {name}:\n    command: {command}\n    workdir: /app\n    sync: ['.:/app']\n    environment: {{PORT: '{port}'}}\n    \
             forward: ['{local}:{port}']\n"
        )
    };
    let manifest =
        |api_local: u16| format!("dev:\n{}{}", of(NAME, local, app.port), of(API, api_local, api_port));
    let towline = Towline::new(adapter, &project);

    project.write("okteto.yml", manifest(local));
    let refused = towline.run(&["up", "--all"]).await.expect(1);
    assert!(refused.log.error()["message"].to_string().contains("both forward port"), "{}", refused.log);
    before.expect_unchanged(adapter).await;

    project.write("okteto.yml", manifest(api_local));
    let plans = towline.run(&["up", "--dry-run", NAME, API]).await.expect(0);
    let plans = plans.log.of_kind("plans").next().expect("it says its plans").clone();
    for name in [NAME, API] {
        assert_eq!(plans["plans"][name]["workload"], name, "{plans}");
    }
    before.expect_unchanged(adapter).await;

    let mut up = towline.start(&["up", API, NAME]);
    until_ready(&mut up, &[NAME, API]).await;
    for port in [local, api_local] {
        http::reads(port, "/", "from the laptop\n").await;
    }
    project.write("index.html", "edited\n");
    for port in [local, api_local] {
        http::reads(port, "/", "edited\n").await;
    }
    // What one of them writes reaches the other, by way of the laptop.
    towline.run(&["exec", API, "--", "sh", "-c", "echo by the other >index.html"]).await.expect(0);
    http::reads(local, "/", "by the other\n").await;
    up.terminate().await;
    up.ended().await.expect(130);

    let detached = towline.run(&["up", "--all", "--detach"]).await.expect(0);
    assert_eq!(ready(&detached.log.events).len(), 2, "{}", detached.log);
    http::reads(api_local, "/", "by the other\n").await;
    let ambiguous = towline.run(&["down"]).await.expect(2);
    assert!(ambiguous.log.error().to_string().contains("down --all"), "{}", ambiguous.log);
    towline.run(&["down", "deployment/api"]).await.expect(0);
    waiting::object(adapter, DEPLOYMENTS, API, is_settled).await;
    assert_eq!(http::get(local, "/").await.as_deref(), Ok("by the other\n"), "the other goes on");
    towline.run(&["down", "--all"]).await.expect(0);
    before.expect_unchanged(adapter).await;
}

/// A dev service with another workload that shares its folder: its command is started again, and ends with it.
pub async fn with_services(adapter: &dyn Adapter) {
    let app = App::deploy(adapter, 1).await;
    deploy_api(adapter, &app).await;
    let before = Snapshot::of(adapter).await;
    let service = |more: &str| {
        format!("    services:\n      - name: {API}\n        sync: ['.:/app']\n        workdir: /app\n{more}")
    };
    let (project, local) = app.project(adapter, &service("        replicas: 2\n")).await;
    let towline = Towline::new(adapter, &project);
    let refused = towline.run(&["up"]).await.expect(1);
    assert!(refused.log.error().to_string().contains("leave replicas out"), "{}", refused.log);
    before.expect_unchanged(adapter).await;

    let forwards = [format!("{local}:{}", app.port)];
    let command = "        command: cp index.html seen.txt; exit 3\n";
    project.write("okteto.yml", app.manifest(&forwards, &service(command)));
    let mut up = towline.start(&["up"]);
    until_ready(&mut up, &[NAME, API]).await;
    http::reads(local, "/", "from the laptop\n").await;
    let of_api = |event: &Value, kind: &str| event["kind"] == kind && event["service"] == API;
    let ended = up.until("the service's command ends", |event| of_api(event, "commandExited")).await;
    assert_eq!(ended["code"], 3);
    project.write("index.html", "mended\n");
    up.until("it is started again", |event| of_api(event, "commandStarted")).await;
    eventually("it has seen the change", async || match project.read("seen.txt") {
        Some(text) if text == "mended\n" => Ok(()),
        other => Err(other),
    })
    .await;

    // Without a name both are what the one dev service of the manifest means.
    towline.run(&["down"]).await.expect(0);
    up.ended().await;
    before.expect_unchanged(adapter).await;

    // Without a command it runs what the workload's own container runs.
    project.write("okteto.yml", app.manifest(&forwards, &service("")));
    let mut up = towline.start(&["up"]);
    until_ready(&mut up, &[NAME, API]).await;
    let started = up.log().of_kind("commandStarted").find(|event| event["service"] == API);
    assert_eq!(
        started.map(|event| &event["command"]),
        Some(&json!(adapter.images().original)),
        "{}",
        up.log()
    );
    // The original is gone meanwhile: its session is lost, and its dev service goes on.
    if adapter.is_real() {
        let original = Object::new(DEPLOYMENTS, adapter.namespace(), API);
        adapter.cluster().delete(&original, &DeleteOptions::default()).await.unwrap();
        up.until("the service is lost", |event| of_api(event, "ended")).await;
        http::reads(local, "/", "mended\n").await;
    }
    up.terminate().await;
    up.ended().await;
    towline.run(&["down", NAME]).await.expect(0);
    towline.run(&["status"]).await.expect(0);
    if !adapter.is_real() {
        before.expect_unchanged(adapter).await;
    }
}

async fn deploy_api(adapter: &dyn Adapter, app: &App) -> u16 {
    let images = adapter.images();
    let port = if adapter.is_real() { app.port } else { http::free_port().await };
    let container = json!({
        "name": "web", "image": images.image, "imagePullPolicy": "IfNotPresent", "command": images.original,
        "env": [{"name": "PORT", "value": port.to_string()}],
    });
    adapter
        .apply(&[json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": API},
            "spec": {"replicas": 1, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": {"app": API}},
                     "template": {"metadata": {"labels": {"app": API}},
                                  "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}}},
        })])
        .await;
    waiting::object(adapter, DEPLOYMENTS, API, is_settled).await;
    port
}

/// Takes events until each of these services was ready.
async fn until_ready(up: &mut Running, names: &[&str]) {
    while !names.iter().all(|name| ready(&up.log().events).contains(name)) {
        up.until_state("ready").await;
    }
}

/// Returns the services that were ready.
fn ready(events: &[Value]) -> Vec<&str> {
    let is_ready = |event: &&Value| event["kind"] == "state" && event["state"] == "ready";
    let mut names: Vec<_> =
        events.iter().filter(is_ready).filter_map(|event| event["service"].as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names
}
