//! Exactly the rights of the Role that `doctor --rbac` prints: enough for everything, and none too many.

use std::path::PathBuf;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use towline_cluster::Cluster;
use towline_cluster::kube::{ConnectOptions, connect};
use towline_cluster::port::Right;

use crate::adapter::Adapter;
use crate::app::App;
use crate::kube::{KubeAdapter, log_in_with};
use crate::snapshot::Snapshot;
use crate::towline::Towline;
use crate::waiting::eventually;

const NAME: &str = "developer";
const MORE: &str = "    volumes: [/cache]\n    secrets: ['token.txt:/etc/towline/token:440']\n";

/// One rule of a Role.
#[derive(Debug, Clone)]
struct Rule {
    group: String,
    resources: Vec<String>,
    verbs: Vec<String>,
}

/// Someone with this Role alone edits, and leaves everything as it was; with any right less `up` says which, and changes
/// nothing.
pub async fn exactly(adapter: &KubeAdapter) {
    let app = App::deploy(adapter, 1).await;
    let (project, _) = app.project(adapter, MORE).await;
    project.write("token.txt", "a file").write(".stignore", "/okteto.yml\n/token.txt\n");
    let owner = Towline::new(adapter, &project);
    let printed = owner.run(&["doctor", "--rbac"]).await.expect(0).stdout;
    let rules = parse(&printed);
    assert!(
        rules.iter().all(|rule| !rule.verbs.iter().chain(&rule.resources).any(|word| word == "*")),
        "{printed}"
    );
    let of_secrets: Vec<_> =
        rules.iter().filter(|rule| rule.resources.iter().any(|name| name == "secrets")).collect();
    assert!(
        of_secrets.iter().all(|rule| rule.verbs.iter().all(|verb| verb == "create" || verb == "delete")),
        "{printed}"
    );
    let kubeconfig = account(adapter, &rules).await;
    let before = Snapshot::of(adapter).await;

    let developer = owner.with("KUBECONFIG", &kubeconfig.display().to_string());
    let mut up = developer.start(&["up"]);
    up.until_state("ready").await;
    project.write("new.txt", "typed here");
    up.until_synced("remote", "new.txt", false).await;
    let seen = developer.run(&["exec", "--", "cat", "new.txt", "/etc/towline/token"]).await.expect(0);
    assert_eq!(seen.stdout, "typed herea file");
    developer.run(&["status"]).await.expect(0);
    developer.run(&["logs", "--tail", "1"]).await.expect(0);
    developer.run(&["down", "--volumes"]).await.expect(0);
    up.ended().await;
    before.expect_unchanged(adapter).await;

    let options = ConnectOptions {
        kubeconfig: Some(vec![kubeconfig]),
        namespace: Some(adapter.namespace().to_owned()),
        ..ConnectOptions::default()
    };
    let cluster = connect(options).await.expect("the kubeconfig is complete");
    let mut refused = 0;
    for (at, rule) in rules.iter().enumerate() {
        for (resource, verb) in
            rule.resources.iter().flat_map(|resource| rule.verbs.iter().map(move |verb| (resource, verb)))
        {
            set_rules(adapter, &without(&rules, at, resource, verb)).await;
            let words = format!("{verb} {resource}");
            until_missing(&*cluster, adapter.namespace(), &rule.group, resource, verb).await;
            let looked = developer.run(&["up", "--dry-run"]).await;
            let told = format!("{}{}", looked.stdout, looked.stderr);
            assert!(told.contains(&words), "{words} is not named: {told}");
            if looked.code == Some(1) {
                refused += 1;
                let finished = developer.run(&["up"]).await.expect(1);
                assert!(
                    finished.stdout.contains("rights are missing") && finished.stdout.contains(&words),
                    "{words}: {}",
                    finished.stdout
                );
            }
        }
    }
    assert!(refused >= 20, "only {refused} rights are needed");
    before.expect_unchanged(adapter).await;
}

/// Reads the Role as it is printed: lists in brackets, one rule after the other.
fn parse(yaml: &str) -> Vec<Rule> {
    let list = |line: &str| -> Vec<String> {
        let inside =
            line.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(inside, _)| inside);
        inside.split(',').map(|word| word.trim().trim_matches('"').to_owned()).collect()
    };
    let lines: Vec<&str> = yaml.lines().skip_while(|line| *line != "rules:").skip(1).collect();
    let rules: Vec<Rule> = lines
        .chunks(3)
        .map(|rule| Rule { group: list(rule[0]).remove(0), resources: list(rule[1]), verbs: list(rule[2]) })
        .collect();
    assert!(rules.len() > 3, "{yaml}");
    rules
}

/// Returns the rules but for one verb on one resource.
fn without(rules: &[Rule], at: usize, resource: &str, verb: &str) -> Vec<Rule> {
    let mut rest = rules.to_vec();
    rest[at].resources.retain(|name| name != resource);
    let verbs = rules[at].verbs.iter().filter(|name| *name != verb).cloned().collect();
    rest.push(Rule { group: rules[at].group.clone(), resources: vec![resource.to_owned()], verbs });
    rest.retain(|rule| !rule.resources.is_empty() && !rule.verbs.is_empty());
    rest
}

fn as_json(rules: &[Rule]) -> Value {
    let rule =
        |rule: &Rule| json!({"apiGroups": [rule.group], "resources": rule.resources, "verbs": rule.verbs});
    rules.iter().map(rule).collect()
}

/// Makes an account that may do this and nothing else. Returns the kubeconfig that logs in as it.
async fn account(adapter: &KubeAdapter, rules: &[Rule]) -> PathBuf {
    let accounts: Api<ServiceAccount> = adapter.api();
    let options = PostParams::default();
    let account = serde_json::from_value(json!({"metadata": {"name": NAME}})).unwrap();
    accounts.create(&options, &account).await.unwrap();
    let role = json!({"metadata": {"name": NAME}, "rules": as_json(rules)});
    adapter.api::<Role>().create(&options, &serde_json::from_value(role).unwrap()).await.unwrap();
    let binding = json!({"metadata": {"name": NAME},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": adapter.namespace()}]});
    adapter.api::<RoleBinding>().create(&options, &serde_json::from_value(binding).unwrap()).await.unwrap();
    let request = accounts.create_token_request(NAME, &options, &TokenRequest::default()).await;
    let token = request.unwrap().status.expect("a token").token;
    adapter.kubeconfig(NAME, |config| log_in_with(config, &token))
}

async fn set_rules(adapter: &KubeAdapter, rules: &[Rule]) {
    let patch = Patch::Merge(json!({"rules": as_json(rules)}));
    adapter.api::<Role>().patch(NAME, &PatchParams::default(), &patch).await.unwrap();
}

/// The authorizer hears of a Role a moment after it was written.
async fn until_missing(cluster: &dyn Cluster, namespace: &str, group: &str, resource: &str, verb: &str) {
    let leak = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let right = Right {
        verb: leak(verb),
        group: leak(group),
        resource: leak(resource),
        subresource: leak(subresource),
    };
    eventually("the right is gone", async || {
        let has =
            cluster.can(namespace, std::slice::from_ref(&right)).await.map_err(|error| error.to_string())?;
        if has == [false] { Ok(()) } else { Err(format!("{right:?} is still there")) }
    })
    .await;
}
