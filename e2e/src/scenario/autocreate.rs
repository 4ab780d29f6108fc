//! A dev container where there is no workload: made of the manifest alone, and gone without a trace.

use serde_json::json;
use towline_cluster::port::{DEPLOYMENTS, Object, SERVICES};

use crate::adapter::Adapter;
use crate::app::{self, App, OTHER};
use crate::http;
use crate::project::Project;
use crate::scenario::session::in_pod;
use crate::snapshot::Snapshot;
use crate::towline::Towline;
use crate::waiting::{self, eventually, is_settled};

/// The workload that is not there.
const FRESH: &str = "fresh";

/// `up` makes it, dies, finds it again; another machine takes it away, whatever was deployed under its name meanwhile.
pub async fn of_nothing(adapter: &dyn Adapter) {
    let app = App::deploy(adapter, 1).await;
    if adapter.is_real() {
        adapter.apply(&app::other(&adapter.images())).await;
        waiting::object(adapter, DEPLOYMENTS, OTHER, is_settled).await;
    }
    let before = Snapshot::of(adapter).await;
    let (project, bob_project) = (Project::new(), Project::new());
    let local = http::free_port().await;
    let port = if adapter.is_real() { 8080 } else { http::free_port().await };
    let manifest = |more: &str| {
        let (command, image) = (json!(app.command), adapter.images().image);
        format!(
            "dev:\n  {FRESH}:\n    image: {image}\n    imagePullPolicy: IfNotPresent\n    command: {command}\n    workdir: /app\n    \
             sync: ['.:/app']\n    environment: {{PORT: '{port}'}}\n    forward: ['{local}:{port}']\n{more}"
        )
    };
    project.write("index.html", "from the laptop\n").write(".stignore", "/okteto.yml\n");
    project.write("okteto.yml", manifest(""));
    let towline = Towline::new(adapter, &project);
    let refused = towline.run(&["up"]).await.expect(1);
    assert!(refused.log.error().to_string().contains("no workload fresh"), "{}", refused.log);

    project.write("okteto.yml", manifest("    autocreate: true\n"));
    let plan = towline.run(&["up", "--dry-run"]).await.expect(0);
    let writes = plan.log.of_kind("plan").next().expect("it says its plan")["writes"].to_string();
    assert!(
        writes.contains("create Service fresh") && writes.contains("there is no Deployment fresh"),
        "{writes}"
    );
    before.expect_unchanged(adapter).await;

    let mut up = towline.start(&["up"]);
    up.until_state("ready").await;
    http::reads(local, "/", "from the laptop\n").await;
    if adapter.is_real() {
        eventually("its Service leads to it", async || {
            let page = in_pod(adapter, OTHER, &["wget", "-q", "-O", "-", "http://fresh:8080/"]).await;
            if page == "from the laptop\n" { Ok(()) } else { Err(page) }
        })
        .await;
    }
    let session = async || {
        let status = towline.run(&["status"]).await.expect(0);
        status.log.of_kind("session").next().expect("it is in dev mode")["session"].clone()
    };
    let first = session().await;
    up.kill().await;
    project.write("index.html", "edited\n");
    let mut again = towline.start(&["up"]);
    again.until_state("ready").await;
    http::reads(local, "/", "edited\n").await;
    assert_eq!(session().await, first, "the same dev container goes on");

    again.kill().await;
    let bob = Towline::new(adapter, &bob_project).with("USER", "bob");
    let restored = bob.run(&["down", FRESH, "--force"]).await.expect(0);
    let restored = restored.log.of_kind("restored").next().expect("it says what became of it");
    assert_eq!(
        (&restored["exact"], &restored["said"]),
        (&json!(true), &json!("was made for dev mode, and is gone"))
    );
    before.expect_unchanged(adapter).await;
    let service = Object::new(SERVICES, adapter.namespace(), FRESH);
    assert!(adapter.cluster().get(&service).await.is_err(), "its Service is gone");
}
