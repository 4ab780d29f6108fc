//! What can't work says why and what to do, with its exit code, and changes nothing in the cluster.

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::adapter::Adapter;
use crate::app::App;
use crate::http;
use crate::kube::{KubeAdapter, each_cluster, log_in_with};
use crate::project::Project;
use crate::snapshot::Snapshot;
use crate::towline::{Finished, Towline};

/// Checks one refusal: the exit code, and words that must all be told, a problem's place and the mend among them.
#[track_caller]
fn check(what: &str, finished: Finished, code: i32, words: &[&str]) {
    eprintln!("{what}: {}", finished.stdout.lines().last().unwrap_or_default());
    let finished = finished.expect(code);
    let told: String = finished
        .log
        .events
        .iter()
        .filter(|event| event["kind"] == "error" || event["kind"] == "problem")
        .map(Value::to_string)
        .collect();
    let missing: Vec<_> = words.iter().filter(|word| !told.contains(**word)).collect();
    assert!(missing.is_empty(), "{what}: {missing:?} not in\n{told}\n{}", finished.stderr);
    assert!(!told.contains("panicked"), "{what}: {told}");
}

/// A manifest, a folder, a workload, a command or a port that is wrong.
pub async fn of_bad_input(adapter: &dyn Adapter) {
    let app = App::deploy(adapter, 1).await;
    let before = Snapshot::of(adapter).await;
    let (project, _) = app.project(adapter, "").await;
    let good = project.read("okteto.yml").expect("it was just written");
    let towline = Towline::new(adapter, &project);
    let cases: &[(&str, String, &[&str])] = &[
        (
            "broken YAML",
            "dev:\n  hello:\n    command: [sh\n    sync: .:/app\n".to_owned(),
            &["okteto.yml", "\"line\":"],
        ),
        (
            "an unknown field",
            format!("{good}    enviroment:\n      A: b\n"),
            &["enviroment", "environment", "\"line\":8", "okteto.yml"],
        ),
        (
            "a missing folder",
            good.replace(".:/app", "nowhere:/app"),
            &["nowhere", "does not exist", "create it"],
        ),
        ("a missing workload", good.replace("hello:", "helo:"), &["no workload helo", "did you mean hello?"]),
    ];
    for (what, manifest, words) in cases {
        project.write("okteto.yml", manifest);
        check(what, towline.run(&["up"]).await, 1, words);
    }
    project.write("okteto.yml", &good);
    check("an unknown dev service", towline.run(&["up", "helo"]).await, 1, &["helo", "did you mean hello?"]);
    before.expect_unchanged(adapter).await;

    let empty = Project::new();
    if adapter.is_real() {
        let nothing = Towline::new(adapter, &empty).run(&["up"]).await;
        check("no manifest", nothing, 1, &["no manifest in", "okteto.yml", "-f FILE"]);
    }
    let missing = Towline::new(adapter, &empty).run(&["up", "--file", "no/such.yml"]).await;
    check("no such manifest", missing, 1, &["no/such.yml"]);

    let not_found = towline.run(&["up", "--", "no-such-program"]).await;
    check("a command that is not there", not_found, 127, &["no-such-program", "the manifest's command"]);
    before.expect_unchanged(adapter).await;

    let taken = TcpListener::bind(("127.0.0.1", 0)).await.expect("there is a free port");
    let port = taken.local_addr().expect("it is bound").port();
    project.write("okteto.yml", app.manifest(&[format!("{port}:{}", app.port)], ""));
    let in_use = towline.run(&["up"]).await;
    check("a port that is taken", in_use, 1, &[&port.to_string(), "in use", "another local port"]);
    before.expect_unchanged(adapter).await;

    project.write("okteto.yml", format!("{good}    image: localhost/no-such-image:dev\n"));
    let no_image = towline.run(&["up"]).await;
    check("an image that is not there", no_image, 1, &["no-such-image", "ImagePull", "the manifest's image"]);
    before.expect_unchanged(adapter).await;
}

/// Missing rights, a cluster that does not answer or does not know us, and namespaces that are not for this.
pub async fn of_the_cluster(adapter: &KubeAdapter) {
    let app = App::deploy(adapter, 1).await;
    give_few_rights(adapter).await;
    let before = Snapshot::of(adapter).await;
    let (project, _) = app.project(adapter, "").await;
    let towline = Towline::new(adapter, &project);
    let as_told_by =
        |file: std::path::PathBuf| towline.clone().with("KUBECONFIG", &file.display().to_string());

    let accounts: Api<ServiceAccount> = adapter.api();
    let request =
        accounts.create_token_request("reader", &PostParams::default(), &TokenRequest::default()).await;
    let token = request.unwrap().status.expect("a token").token;
    let reader = as_told_by(adapter.kubeconfig("reader", |config| log_in_with(config, &token)));
    let words = ["rights are missing", "create leases", "kind: Role", adapter.namespace(), "RoleBinding"];
    check("missing rights", reader.run(&["up"]).await, 1, &words);

    let closed = format!("https://127.0.0.1:{}", http::free_port().await);
    let nobody = as_told_by(adapter.kubeconfig("closed", |config| {
        each_cluster(config, |cluster| cluster.server = Some(closed.clone()));
    }));
    check("an unreachable cluster", nobody.run(&["up"]).await, 1, &[&closed, "kubectl cluster-info"]);

    let stranger = as_told_by(adapter.kubeconfig("stranger", |config| log_in_with(config, "not-a-token")));
    check("a token that is none", stranger.run(&["up"]).await, 1, &["log in again"]);

    let system = towline.clone().in_namespace("kube-system").run(&["up"]).await;
    check("a protected namespace", system, 1, &["namespace kube-system", "-n"]);
    let missing = towline.clone().in_namespace("no-such-namespace").run(&["up"]).await;
    check("a missing namespace", missing, 1, &["namespace no-such-namespace", "does not exist"]);
    before.expect_unchanged(adapter).await;

    let namespaces: Api<Namespace> = Api::all(adapter.client());
    let mark = json!({"metadata": {"labels": {"dev.okteto.com/not-allowed": "true"}}});
    let patch = kube::api::Patch::Merge(mark);
    namespaces.patch(adapter.namespace(), &kube::api::PatchParams::default(), &patch).await.unwrap();
    check(
        "a namespace that is not for it",
        towline.run(&["up"]).await,
        1,
        &["dev.okteto.com/not-allowed", "ask them"],
    );
    before.expect_unchanged(adapter).await;
}

/// Makes a service account that may only look.
async fn give_few_rights(adapter: &KubeAdapter) {
    let (accounts, roles, bindings): (Api<ServiceAccount>, Api<Role>, Api<RoleBinding>) =
        (adapter.api(), adapter.api(), adapter.api());
    let options = PostParams::default();
    let named = json!({"metadata": {"name": "reader"}});
    accounts.create(&options, &serde_json::from_value(named).unwrap()).await.unwrap();
    let role = json!({"metadata": {"name": "reader"},
        "rules": [{"apiGroups": ["", "apps"], "resources": ["pods", "deployments"], "verbs": ["get", "list", "watch"]}]});
    roles.create(&options, &serde_json::from_value(role).unwrap()).await.unwrap();
    let binding = json!({"metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": adapter.namespace()}]});
    bindings.create(&options, &serde_json::from_value(binding).unwrap()).await.unwrap();
}
