//! What is said of an embedded cluster: each test has one of its own.

use std::sync::Arc;

use insta::assert_snapshot;
use serde_json::{Value, json};
use towline_cluster::Cluster;
use towline_cluster::embedded::{self, Embedded, EmbeddedOptions};
use towline_cluster::port::{APPLICATIONS, DEPLOYMENTS, Object, Patch, WriteOptions};
use towline_testkit::TestEnv;

use crate::environment;

const MANIFEST: &str = "dev:\n  web:\n    command: [sh]\n    workdir: /app\n    sync:\n      - .:/app\n";

/// A project, and a cluster with one workload. No pod of it runs: its image is not known there.
async fn with_a_workload() -> TestEnv {
    let (env, _) = with_a_cluster().await;
    env
}

/// The same, and the cluster, for what else there is.
async fn with_a_cluster() -> (TestEnv, Arc<Embedded>) {
    let mut env = environment();
    let agent = env.project().join("agent");
    env.write("agent", "never started").write("okteto.yml", MANIFEST);
    env.set("TOWLINE_AGENT", &agent.display().to_string());
    env.set("TOWLINE_CONTEXT", "embedded");
    let cluster = embedded::open(EmbeddedOptions {
        state_dir: env.home(),
        agent,
        namespace: None,
        images: Vec::new(),
        path_env: String::new(),
    })
    .expect("a new folder holds no broken cluster");
    cluster.apply(&[workload()]).await.expect("it is valid");
    (env, cluster)
}

/// The same, managed by an Application that heals itself.
async fn with_an_application() -> TestEnv {
    let (env, cluster) = with_a_cluster().await;
    let tracking = json!({"metadata": {"annotations": {
        "argocd.argoproj.io/tracking-id": "argocd_web:apps/Deployment:default/web"}}});
    let web = Object::new(DEPLOYMENTS, "default", "web");
    cluster.patch(&web, &Patch::Merge(tracking), &WriteOptions::default()).await.expect("it is there");
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argocd"}});
    cluster.apply(&[namespace]).await.expect("it is valid");
    let application = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": "web"},
                             "spec": {"syncPolicy": {"automated": {"selfHeal": true}}}});
    let options = WriteOptions::default();
    cluster.create(APPLICATIONS, "argocd", &application, &options).await.expect("it is valid");
    env
}

fn workload() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
           "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
                    "template": {"metadata": {"labels": {"app": "web"}},
                                 "spec": {"containers": [{"name": "main", "image": "unknown:1"}]}}}})
}

#[tokio::test]
async fn several_that_can_t_begin_are_all_told_and_nothing_is_changed() {
    let env = with_a_workload().await;
    let service = |name: &str| format!("  {name}:\n    sync: [.:/app]\n");
    env.write("okteto.yml", &format!("dev:\n{}{}", service("web"), service("wep")));
    assert_snapshot!(env.run(&["up", "web", "wep", "web", "--output", "plain"]), @"
    exit 1
    --- stderr
    web | [TEMP]/project ↔ /app, no .stignore
    web | checking web in namespace default of embedded
    wep | [TEMP]/project ↔ /app, no .stignore
    wep | checking wep in namespace default of embedded
    wep | error: no workload wep in namespace default
    wep | hint: did you mean web? there is: web
    wep | hint: name it in the manifest: the key below dev, or its selector
    error: 1 of 2 services can't begin; nothing was changed
    ");
    env.write("okteto.yml", &format!("dev:\n{}{}    name: web\n", service("web"), service("two")));
    let report = env.run(&["up", "--all", "--output", "plain"]);
    assert!(
        report.contains("error: web and two can't be put into dev mode: both are about Deployment web"),
        "{report}"
    );
    let report = env.run(&["up", "--all", "--", "make"]);
    assert!(
        report.starts_with("exit 2\n") && report.contains("a command is for one dev service"),
        "{report}"
    );
    env.write("okteto.yml", &format!("dev:\n{}    services: [{{name: web}}]\n", service("web")));
    let report = env.run(&["up", "--output", "plain"]);
    assert!(report.contains("which Kubernetes does not show"), "{report}");
    assert!(
        env.run(&["status", "--output", "plain"]).contains("nothing is in dev mode"),
        "nothing was written"
    );
}

#[tokio::test]
async fn a_plan_has_a_reason_for_each_change() {
    let env = with_a_workload().await;
    let report = env.run(&["up", "--dry-run", "--output", "plain"]);
    assert!(report.starts_with("exit 0\n"), "{report}");
    assert!(
        report.contains("create Lease towline.deployment.web (the record that undoes it all)"),
        "{report}"
    );
    assert!(report.contains("  spec.replicas: one dev container\n    - 2\n    + 1\n"), "{report}");
    assert!(report.contains("change Deployment web (once the dev container is in sync"), "{report}");
    assert!(
        report.contains("the clone takes its place; down brings it back\n    - 2\n    + 0\n"),
        "{report}"
    );
    assert!(report.contains("traffic\n  no Service leads to the dev pod\n"), "{report}");
    assert!(report.contains("spec.replicas is example's (Update), and is given back"), "{report}");
    assert_snapshot!(env.run(&["status"]), @"
    exit 0
    --- stderr
    nothing is in dev mode in namespace default
    ");
}

#[tokio::test]
async fn nothing_to_end_is_said() {
    let env = with_a_workload().await;
    assert_snapshot!(env.run(&["down"]), @"
    exit 1
    --- stderr
    error: nothing is in dev mode in namespace default
    hint: see who develops on what: towline status
    ");
    assert_snapshot!(env.run(&["down", "web", "--output", "json"]), @r#"
    exit 1
    --- stdout
    {"code":1,"detail":null,"hints":["see who develops on what: towline status"],"kind":"error","message":"web is not in dev mode in namespace default","time":"[TIME]","version":1}
    "#);
    assert_snapshot!(env.run(&["down", "--all"]), @"
    exit 0
    --- stderr
    nothing is in dev mode in namespace default
    ");
    assert_snapshot!(env.run(&["logs"]), @"
    exit 1
    --- stderr
    error: nothing is in dev mode in namespace default
    hint: see who develops on what: towline status
    ");
    assert_snapshot!(env.run(&["exec", "web", "--", "true"]), @"
    exit 1
    --- stderr
    error: web is not in dev mode in namespace default
    hint: see who develops on what: towline status
    ");
}

#[tokio::test]
async fn a_workload_that_is_not_there_has_a_nearest() {
    let env = with_a_workload().await;
    env.write("okteto.yml", &MANIFEST.replace("web:", "wep:"));
    assert_snapshot!(env.run(&["up"]), @"
    exit 1
    --- stderr
    [TEMP]/project ↔ /app, no .stignore
    checking wep in namespace default of embedded
    error: no workload wep in namespace default
    hint: did you mean web? there is: web
    hint: name it in the manifest: the key below dev, or its selector
    ");
    assert_snapshot!(env.run(&["up", "wbe"]), @"
    exit 1
    --- stderr
    error: the manifest has no dev service `wbe`
    hint: there is: wep
    ");
}

#[test]
fn a_state_folder_that_others_may_enter_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let mut env = environment();
    env.set("TOWLINE_CONTEXT", "embedded");
    std::fs::set_permissions(env.home(), std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    assert_snapshot!(env.run(&["status"]), @"
    exit 1
    --- stderr
    error: the state folder [TEMP]/home can't be used: others may enter it
    hint: choose another with TOWLINE_HOME
    hint: chmod 700 [TEMP]/home
    ");
}

#[test]
fn a_cluster_that_is_not_there_is_told_once_and_soon() {
    let mut env = environment();
    env.write(
        "kubeconfig",
        "{apiVersion: v1, kind: Config, current-context: c, users: [{name: u, user: {}}], \
         clusters: [{name: s, cluster: {server: 'http://127.0.0.1:1'}}], \
         contexts: [{name: c, context: {cluster: s, user: u}}]}\n",
    );
    let file = env.project().join("kubeconfig").display().to_string();
    env.set("KUBECONFIG", &file);
    assert_snapshot!(env.run(&["status"]), @"
    exit 1
    --- stderr
    error: cannot reach the cluster http://127.0.0.1:1: Connection refused (os error 111)
    hint: is the cluster up, and this machine on its network? try: kubectl cluster-info
    ");
}

#[tokio::test]
async fn what_nobody_left_behind_needs_no_collecting() {
    let env = with_a_workload().await;
    assert_snapshot!(env.run(&["gc"]), @"
    exit 0
    --- stderr
    nothing is left by anyone in default
    ");
    assert_snapshot!(env.run(&["gc", "--all-namespaces", "--dry-run", "--output", "json"]), @"exit 0");
    let report = env.run(&["gc", "--older-than", "soon"]);
    assert!(report.starts_with("exit 2\n") && report.contains("write s, m, h or d"), "{report}");
}

#[tokio::test]
async fn a_doctor_says_what_is_wrong_and_leaks_nothing() {
    let mut env = with_a_workload().await;
    env.write(".env", "TOKEN=canary-of-a-variable\n")
        .write("okteto.yml", &format!("{MANIFEST}    environment:\n      TOKEN: canary-of-a-variable\n"));
    env.set("HOME", &env.project().display().to_string());
    let bundle = env.project().join("bundle.json");
    let report = env.run(&["doctor", "--output", "plain", "--bundle", &bundle.display().to_string()]);
    for words in [
        "pass     namespace.exists: namespace default is there",
        "pass     workload.exists: Deployment web is there",
        "pass     session: nobody is in dev mode there",
        "warn     ignore.place: ",
        "warn     ignore.secrets: files that look like credentials would be synced",
    ] {
        assert!(report.contains(words), "{words} in\n{report}");
    }
    let written = std::fs::read_to_string(&bundle).unwrap();
    assert!(!report.contains("canary") && !written.contains("canary"), "{report}\n{written}");
    let parsed: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(parsed["facts"]["workload"]["Ok"]["metadata"]["name"], "web");
    let status = env.run(&["status"]);
    assert!(status.contains("nothing is in dev mode"), "{status}");

    let role = env.run(&["doctor", "--rbac"]);
    assert!(
        role.starts_with("exit 0\n") && role.contains("kind: Role") && !role.contains("secrets"),
        "{role}"
    );
    let missing = env.run(&["doctor", "wbe", "--output", "json"]);
    assert!(missing.starts_with("exit 1\n") && missing.contains("did you mean web?"), "{missing}");
}

#[tokio::test]
async fn a_controller_that_would_undo_it_is_a_reason_not_to_begin() {
    let env = with_an_application().await;
    assert_snapshot!(env.run(&["up", "--output", "plain"]), @"
    exit 1
    --- stderr
    [TEMP]/project ↔ /app, no .stignore
    checking web in namespace default of embedded
    error: the session can't begin: Argo CD (Application argocd/web): it heals itself within seconds; dev mode would not last
    hint: in the Application, in Git:
      spec:
        ignoreDifferences:
        - {group: apps, kind: Deployment, name: web, jsonPointers: [/spec/replicas]}
        syncPolicy:
          syncOptions: [RespectIgnoreDifferences=true]
    or have it paused while you develop: towline up --gitops pause
    ");
    assert_snapshot!(env.run(&["up", "--gitops", "ask", "--output", "plain"]), @"
    exit 1
    --- stderr
    [TEMP]/project ↔ /app, no .stignore
    checking web in namespace default of embedded
    error: there is something to pause, and nobody can be asked
    hint: without a terminal: --gitops pause, or --gitops leave
    ");
    assert_snapshot!(env.run(&["status"]), @"
    exit 0
    --- stderr
    nothing is in dev mode in namespace default
    ");
}

#[tokio::test]
async fn a_pause_is_part_of_the_plan() {
    let env = with_an_application().await;
    let report = env.run(&["up", "--dry-run", "--gitops", "pause", "--output", "plain"]);
    let expected = "pause Application web (it would take back what the session changes; down sets it back)\n  \
                    spec.syncPolicy.automated.enabled: pauses its controller until dev mode ends\n    + false\n";
    assert!(report.starts_with("exit 0\n") && report.contains(expected), "{report}");
}
