//! The pod, or the way to the API server, goes away during a session and comes back.

use towline_cluster::port::{DeleteOptions, Object, PODS};

use crate::adapter::Adapter;
use crate::app::App;
use crate::http;
use crate::kinds;
use crate::kube::{KubeAdapter, each_cluster};
use crate::proxy::Proxy;
use crate::scenario::edits::{in_container, until_reads};
use crate::snapshot::Snapshot;
use crate::towline::Towline;
use crate::waiting::pods;

/// The dev pod is deleted. A new one comes and is given everything again, edits made meanwhile with it.
pub async fn of_the_pod(adapter: &dyn Adapter) {
    let app = App::deploy(adapter, 1).await;
    let before = Snapshot::of(adapter).await;
    let (project, local) = app.project(adapter, "").await;
    let towline = Towline::new(adapter, &project);
    let mut up = towline.start(&["up"]);
    up.until_state("ready").await;
    in_container(&towline, "echo kept >from-the-pod.txt", "").await;
    up.until_synced("local", "from-the-pod.txt", false).await;

    let pod = pods(adapter, "hello-towline-").await.first().map(kinds::name).expect("there is a dev pod");
    let object = Object::new(PODS, adapter.namespace(), pod);
    adapter.cluster().delete(&object, &DeleteOptions::default()).await.unwrap();
    project.write("index.html", "written while the pod was away\n").write("new/file.txt", "new\n");
    up.until("the user is told of the pod", |event| {
        event["kind"] == "pod" || event["kind"] == "disconnected"
    })
    .await;
    up.until("another container answers", |event| event["kind"] == "connected" && event["restarted"] == true)
        .await;
    up.until_state("ready").await;
    http::reads(local, "/", "written while the pod was away\n").await;
    in_container(&towline, "cat from-the-pod.txt new/file.txt", "kept\nnew\n").await;
    assert_eq!(project.read("from-the-pod.txt").as_deref(), Some("kept\n"));

    towline.run(&["down"]).await.expect(0);
    up.ended().await;
    before.expect_unchanged(adapter).await;
}

/// The API server goes away. The user's command runs on, and edits of both sides meet when it is back.
pub async fn of_the_api_server(adapter: &KubeAdapter) {
    let app = App::deploy(adapter, 1).await;
    let before = Snapshot::of(adapter).await;
    let (project, local) = app.project(adapter, "").await;
    let (mut proxy, kubeconfig) = through_a_proxy(adapter).await;
    let towline = Towline::new(adapter, &project).with("KUBECONFIG", &kubeconfig);
    let late = "(until test -e go; do sleep 0.1; done; echo late >from-the-pod.txt) >/dev/null 2>&1 &";
    let mut up = towline.start(&["up"]);
    up.until_state("ready").await;
    http::reads(local, "/", "from the laptop\n").await;
    in_container(&towline, &format!("cd /tmp && (cd /app && {late})"), "").await;

    proxy.cut().await;
    up.until("the user is told", |event| event["kind"] == "disconnected").await;
    project.write("index.html", "written while the server was away\n");
    let direct = Towline::new(adapter, &project);
    in_container(&direct, "touch /app/go && until test -e from-the-pod.txt; do sleep 0.1; done", "").await;
    proxy.reopen().await;
    up.until("the same container answers", |event| {
        event["kind"] == "connected" && event["restarted"] == false
    })
    .await;
    up.until_state("ready").await;
    http::reads(local, "/", "written while the server was away\n").await;
    until_reads(&project, "from-the-pod.txt", Some("late\n")).await;
    assert_eq!(
        up.log().of_kind("commandStarted").count(),
        1,
        "the command was never started again:\n{}",
        up.log()
    );

    direct.run(&["down"]).await.expect(0);
    up.ended().await;
    before.expect_unchanged(adapter).await;
}

/// Puts a proxy before the API server; returns it with a kubeconfig that leads through it.
pub(crate) async fn through_a_proxy(adapter: &KubeAdapter) -> (Proxy, String) {
    let (address, host) = adapter.server();
    let proxy = Proxy::open(address).await;
    let server = format!("https://{}", proxy.address());
    let kubeconfig = adapter.kubeconfig("through-the-proxy", |kubeconfig| {
        each_cluster(kubeconfig, |cluster| {
            cluster.server = Some(server.clone());
            cluster.tls_server_name.get_or_insert_with(|| host.clone());
        });
    });
    (proxy, kubeconfig.display().to_string())
}
