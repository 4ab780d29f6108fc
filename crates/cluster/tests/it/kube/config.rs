//! Which cluster is meant, and as whom.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::{TempDir, tempdir};
use towline_cluster::kube::{ConnectOptions, ContextInfo, connect, contexts};
use towline_cluster::port::{NAMESPACES, Object, Target};

use super::server::{Reply, Server, connect_to, status, write_kubeconfig};

const FIRST: &str = "
current-context: staging
clusters: [{name: east, cluster: {server: 'https://east.example:6443'}}]
users: [{name: me, user: {token: first}}]
contexts:
- {name: staging, context: {cluster: east, user: me}}
- {name: production, context: {cluster: east, user: me, namespace: shop}}
";
const SECOND: &str = "
current-context: elsewhere
clusters:
- {name: east, cluster: {server: 'https://other.example'}}
- {name: west, cluster: {server: 'https://west.example/k8s/clusters/c-1'}}
- {name: open, cluster: {server: 'https://open.example', insecure-skip-tls-verify: true}}
- {name: plain, cluster: {server: 'http://plain.example:8080'}}
- {name: here, cluster: {server: 'http://[::1]:8080'}}
users: [{name: me, user: {token: second}}]
contexts:
- {name: west, context: {cluster: west, user: me, namespace: ''}}
- {name: open, context: {cluster: open, user: me}}
- {name: plain, context: {cluster: plain, user: me}}
- {name: here, context: {cluster: here, user: me}}
- {name: lost, context: {cluster: none, user: me}}
";

fn files(folder: &TempDir) -> Vec<PathBuf> {
    let [first, second, missing] = ["first", "second", "missing"].map(|name| folder.path().join(name));
    fs::write(&first, FIRST).unwrap();
    fs::write(&second, SECOND).unwrap();
    vec![missing, first, PathBuf::new(), second]
}

async fn target(options: ConnectOptions) -> Result<Target, String> {
    connect(options).await.map(|cluster| cluster.target().clone()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn files_are_merged_and_the_first_word_counts() {
    let folder = tempdir().unwrap();
    let kubeconfig = Some(files(&folder));
    let check = async |context: Option<&str>, namespace: Option<&str>, expected: (&str, &str, &str)| {
        let options = ConnectOptions {
            kubeconfig: kubeconfig.clone(),
            context: context.map(str::to_owned),
            namespace: namespace.map(str::to_owned),
            allow_insecure: false,
        };
        let target = target(options).await.unwrap();
        assert_eq!((target.context.as_str(), target.server.as_str(), target.namespace.as_str()), expected);
        assert!(!target.embedded);
    };
    check(None, None, ("staging", "https://east.example:6443", "default")).await;
    check(Some("production"), None, ("production", "https://east.example:6443", "shop")).await;
    check(Some("production"), Some("mine"), ("production", "https://east.example:6443", "mine")).await;
    check(Some("west"), None, ("west", "https://west.example/k8s/clusters/c-1", "default")).await;
    check(Some("here"), None, ("here", "http://[::1]:8080", "default")).await;
}

#[tokio::test]
async fn a_context_that_can_not_be_used_is_explained() {
    let folder = tempdir().unwrap();
    let kubeconfig = Some(files(&folder));
    let check = async |context: &str, expected: &str| {
        let context = Some(context.to_owned());
        let error =
            target(ConnectOptions { kubeconfig: kubeconfig.clone(), context, ..Default::default() }).await;
        assert_eq!(error.unwrap_err(), format!("kubeconfig: {expected}"));
    };
    check("prodution", "no context `prodution`; did you mean `production`?").await;
    check("stag", "no context `stag`; did you mean `staging`?").await;
    check(
        "nothing-like-it",
        "no context `nothing-like-it`; there is `staging`, `production`, `west`, `open`, `plain` and 2 more",
    )
    .await;
    check("open", "context `open` sets insecure-skip-tls-verify: anyone on the way could play the server")
        .await;
    check(
        "plain",
        "context `plain` has a server without TLS (http://plain.example:8080/): anyone on the way could read the \
         credentials",
    )
    .await;
    check("lost", "context `lost`: failed to load the cluster of context: none").await;
    for context in ["open", "plain"] {
        let context = Some(context.to_owned());
        let options = ConnectOptions {
            kubeconfig: kubeconfig.clone(),
            context,
            allow_insecure: true,
            ..Default::default()
        };
        target(options).await.unwrap();
    }
}

#[tokio::test]
async fn files_that_can_not_be_read_are_named_and_not_quoted() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let check = async |paths: Vec<PathBuf>, start: String| {
        let error =
            target(ConnectOptions { kubeconfig: Some(paths), ..Default::default() }).await.unwrap_err();
        assert!(error.starts_with(&start), "{error}");
        assert!(!error.contains("hush") && !error.contains('\n'), "{error}");
    };
    let (a, b) = (path("a"), path("b"));
    check(vec![a.clone(), b.clone()], format!("kubeconfig: no such file: {}, {}", a.display(), b.display()))
        .await;
    fs::write(&a, "users: [{name: me, user: {token: hush}}]\nclusters: {hush").unwrap();
    check(vec![a.clone()], format!("kubeconfig: {}: failed to parse", a.display())).await;
    fs::write(&b, "users: []").unwrap();
    check(vec![b.clone()], "kubeconfig: no context is chosen; there is none".to_owned()).await;
}

#[test]
fn contexts_are_listed() {
    let folder = tempdir().unwrap();
    let contexts = contexts(&files(&folder)).unwrap();
    let names: Vec<_> = contexts.iter().map(|context| context.name.as_str()).collect();
    assert_eq!(names, ["staging", "production", "west", "open", "plain", "here", "lost"]);
    let expected = ContextInfo {
        name: "production".to_owned(),
        cluster: "east".to_owned(),
        server: "https://east.example:6443".to_owned(),
        namespace: Some("shop".to_owned()),
        current: false,
    };
    assert_eq!(contexts[1], expected);
    assert_eq!(
        contexts.iter().map(|context| context.current).collect::<Vec<_>>(),
        [true, false, false, false, false, false, false]
    );
    assert_eq!((contexts[2].namespace.as_deref(), contexts[6].server.as_str()), (None, ""));
}

/// Writes a credential plugin that counts its runs and hands out `token-<run>`.
fn plugin(folder: &Path, script_end: &str) -> String {
    let script = folder.join("plugin");
    let text = format!("#!/bin/sh\necho run >> '{0}/runs'\n{script_end}\n", folder.display());
    fs::write(&script, text).unwrap();
    format!(
        "{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: /bin/sh, args: ['{}'], \
         interactiveMode: Never}}}}",
        script.display()
    )
}

#[tokio::test]
async fn refused_credentials_are_asked_for_anew() {
    let server = Server::start(|seen, _| {
        if seen.header("authorization") == Some("Bearer token-1") {
            status(401, "Unauthorized", "Unauthorized")
        } else {
            Reply::Json(200, json!({ "kind": "Namespace" }))
        }
    })
    .await;
    let folder = tempdir().unwrap();
    let credential = r#"n=$(wc -l < "$(dirname "$0")/runs" | tr -d ' ')
echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"token-'$n'"}}'"#;
    let user = plugin(folder.path(), credential);
    let cluster = connect_to(write_kubeconfig(&folder, server.port, &user)).await;
    let runs = || fs::read_to_string(folder.path().join("runs")).unwrap().lines().count();
    let runs_to_connect = runs();
    let object = Object::new(NAMESPACES, "", "shop");
    let (one, two) = tokio::join!(cluster.get(&object), cluster.get(&object));
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    cluster.get(&object).await.unwrap();
    assert_eq!(runs(), 2 * runs_to_connect);
}

#[tokio::test]
async fn a_credential_plugin_that_fails_is_quoted_without_its_output() {
    let folder = tempdir().unwrap();
    let user = plugin(folder.path(), "echo hush; echo 'sign in first' >&2; exit 3");
    let path = write_kubeconfig(&folder, 1, &user);
    let error =
        target(ConnectOptions { kubeconfig: Some(vec![path]), ..Default::default() }).await.unwrap_err();
    assert_eq!(
        error,
        "the cluster http://127.0.0.1:1 does not accept these credentials: the credential plugin failed \
         (exit status: 3): sign in first"
    );
}
