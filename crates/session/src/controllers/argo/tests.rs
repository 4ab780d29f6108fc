//! What Applications of every sort mean, and which may be paused.

use serde_json::json;

use super::*;

/// A Deployment as Argo CD applies it: with its tracking id, and the replicas from Git.
fn web() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "1",
            "annotations": {TRACKING_ID: "web:apps/Deployment:shop/web"},
            "managedFields": [{
                "manager": "argocd-controller", "operation": "Apply", "apiVersion": "apps/v1",
                "fieldsV1": {"f:spec": {"f:replicas": {}, "f:template": {}}},
            }],
        },
        "spec": {"replicas": 3},
    })
}

fn application(sync_policy: &Value) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
        "metadata": {"name": "web", "namespace": "argocd", "uid": "2"},
        "spec": {
            "project": "default",
            "source": {"repoURL": "https://git.example.com/shop.git", "path": "deploy", "targetRevision": "HEAD"},
            "destination": {"server": "https://kubernetes.default.svc", "namespace": "shop"},
            "syncPolicy": sync_policy,
        },
        "status": {"resources": [{"group": "apps", "version": "v1", "kind": "Deployment", "namespace": "shop", "name": "web"}]},
    })
}

fn healing() -> Value {
    application(&json!({"automated": {"prune": true, "selfHeal": true}}))
}

fn managing(application: Value) -> Managing {
    Managing { application, generated_by: None, parents: Vec::new(), settings: None }
}

/// The code, the effect and how many ways to pause there are.
fn told(original: &Value, managing: Managing, touch: Touch) -> (&'static str, Effect, usize) {
    let seen = Seen { applications: vec![managing], unreadable: None };
    let findings = findings(original, &seen, touch, Some("mine"));
    let [finding] = findings.as_slice() else { panic!("{findings:#?}") };
    (finding.code, finding.effect, finding.pauses.len())
}

#[test]
fn a_tracking_id_names_the_application_and_the_object() {
    let check = |id: &str, expected: Option<(Option<&str>, &str)>| {
        let mut web = web();
        web["metadata"]["annotations"][TRACKING_ID] = json!(id);
        let found = tracked(&web);
        let found = found.as_ref().map(|it| (it.namespace.as_deref(), it.application.as_str()));
        assert_eq!(found, expected, "{id}");
    };
    check("web:apps/Deployment:shop/web", Some((None, "web")));
    check("team-a_web:apps/Deployment:shop/web", Some((Some("team-a"), "web")));
    check("web:apps/Deployment:shop/another", None);
    check("web:apps/StatefulSet:shop/web", None);
    check("web", None);
    check("", None);
}

#[test]
fn a_label_is_only_a_guess() {
    let mut web = web();
    web["metadata"]["annotations"] = json!({});
    assert_eq!(tracked(&web), None);
    web["metadata"]["labels"] = json!({INSTANCE: "web"});
    let found = tracked(&web).unwrap();
    assert!(!found.surely && found.application == "web");
    assert!(manages(&healing(), &web));
    let mut other = web.clone();
    other["metadata"]["namespace"] = json!("elsewhere");
    assert!(!manages(&healing(), &other));
}

#[test]
fn what_an_application_means_depends_on_its_sync_policy() {
    let check = |sync_policy: Value, ignore: Value, expected: (&str, Effect, usize)| {
        let mut application = application(&sync_policy);
        application["spec"]["ignoreDifferences"] = ignore.clone();
        assert_eq!(told(&web(), managing(application), Touch::Replicas), expected, "{sync_policy} {ignore}");
    };
    let none = || json!([]);
    let replicas = || json!([{"group": "apps", "kind": "Deployment", "jsonPointers": ["/spec/replicas"]}]);
    let respect = "RespectIgnoreDifferences=true";
    check(Value::Null, none(), ("argocd.manual", Effect::ScalesBack, 0));
    check(json!({"automated": null}), none(), ("argocd.manual", Effect::ScalesBack, 0));
    check(
        json!({"automated": {"enabled": false, "selfHeal": true}}),
        none(),
        ("argocd.manual", Effect::ScalesBack, 0),
    );
    check(json!({"automated": {}}), none(), ("argocd.automated", Effect::ScalesBack, 2));
    check(json!({"automated": {"prune": true}}), none(), ("argocd.automated", Effect::ScalesBack, 2));
    check(json!({"automated": {"selfHeal": true}}), none(), ("argocd.selfHeal", Effect::Undoes, 2));
    check(
        json!({"automated": {"selfHeal": true, "enabled": true}}),
        none(),
        ("argocd.selfHeal", Effect::Undoes, 2),
    );
    // Ignoring alone keeps it from healing, not from writing with the next commit.
    check(json!({"automated": {"selfHeal": true}}), replicas(), ("argocd.automated", Effect::ScalesBack, 2));
    check(
        json!({"automated": {"selfHeal": true}, "syncOptions": [respect]}),
        replicas(),
        ("argocd.ignored", Effect::Harmless, 0),
    );
    check(
        json!({"automated": {"selfHeal": true}, "syncOptions": [respect]}),
        none(),
        ("argocd.selfHeal", Effect::Undoes, 2),
    );
}

#[test]
fn replicas_that_are_not_in_git_need_nothing() {
    let mut applied = web();
    applied["metadata"]["managedFields"][0]["fieldsV1"] = json!({"f:spec": {"f:template": {}}});
    assert_eq!(told(&applied, managing(healing()), Touch::Replicas).0, "argocd.replicasNotInGit");
    // The template is in Git whatever is said of the replicas.
    assert_eq!(told(&applied, managing(healing()), Touch::Template).0, "argocd.selfHeal");
    let mut annotated = web();
    let last = json!({"spec": {"template": {}}}).to_string();
    annotated["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = json!(last);
    assert_eq!(told(&annotated, managing(healing()), Touch::Replicas).0, "argocd.replicasNotInGit");
    let last = json!({"spec": {"replicas": 3}}).to_string();
    annotated["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = json!(last);
    assert_eq!(told(&annotated, managing(healing()), Touch::Replicas).0, "argocd.selfHeal");
}

#[test]
fn rules_of_the_whole_installation_count() {
    let check = |key: &str, rules: &str, expected: &str| {
        let mut managing = managing(healing());
        managing.settings = Some(json!({"data": {key: rules}}));
        assert_eq!(told(&web(), managing, Touch::Replicas).0, expected, "{key}");
    };
    let prefix = "resource.customizations.ignoreDifferences";
    check(&format!("{prefix}.apps_Deployment"), "jsonPointers:\n- /spec/replicas\n", "argocd.automated");
    check(&format!("{prefix}.all"), "managedFieldsManagers:\n- towline\n", "argocd.automated");
    check(&format!("{prefix}.apps_StatefulSet"), "jsonPointers:\n- /spec/replicas\n", "argocd.selfHeal");
}

#[test]
fn a_pause_is_set_where_nobody_above_takes_it_back() {
    let check = |what: &str, change: &dyn Fn(&mut Managing), expected: &[&Switch]| {
        let mut managing = managing(healing());
        change(&mut managing);
        let (plans, refused) = switches(&managing, PausedBy::Nobody);
        let expected: Vec<_> = expected
            .iter()
            .map(|switch| if **switch == *ARGO_SKIP { ARGO_SKIP } else { ARGO_AUTOMATED })
            .collect();
        let wanted: Vec<_> =
            expected.iter().filter_map(|switch| PausePlan::new(&managing.application, switch)).collect();
        assert_eq!(plans, wanted, "{what}");
        assert_eq!(refused.is_some(), expected.is_empty(), "{what}");
    };
    let generated = |spec: Value| {
        move |managing: &mut Managing| {
            managing.application["metadata"]["ownerReferences"] =
                json!([{"kind": "ApplicationSet", "name": "shops"}]);
            managing.generated_by = Some(Read::Found(json!({"spec": spec})));
        }
    };
    let parent = |spec: Value| {
        move |managing: &mut Managing| managing.parents = vec![Read::Found(json!({"spec": spec}))]
    };
    check("alone", &|_| {}, &[ARGO_AUTOMATED, ARGO_SKIP]);
    check("generated", &generated(json!({})), &[]);
    check(
        "the generator preserves the annotation",
        &generated(json!({"preservedFields": {"annotations": [SKIP_RECONCILE]}})),
        &[ARGO_SKIP],
    );
    check(
        "the generator ignores the policy",
        &generated(json!({"ignoreApplicationDifferences": [{"jsonPointers": ["/spec/syncPolicy"]}]})),
        &[ARGO_AUTOMATED],
    );
    check(
        "the generator ignores another Application's policy",
        &generated(
            json!({"ignoreApplicationDifferences": [{"name": "api", "jsonPointers": ["/spec/syncPolicy"]}]}),
        ),
        &[],
    );
    check(
        "the generator never updates",
        &generated(json!({"syncPolicy": {"applicationsSync": "create-only"}})),
        &[ARGO_AUTOMATED, ARGO_SKIP],
    );
    check("a generator that can't be read", &|managing| managing.generated_by = Some(Read::Denied), &[]);
    check(
        "a parent that heals",
        &parent(json!({"syncPolicy": {"automated": {"selfHeal": true}}})),
        &[ARGO_SKIP],
    );
    check(
        "a parent that does not",
        &parent(json!({"syncPolicy": {"automated": {}}})),
        &[ARGO_AUTOMATED, ARGO_SKIP],
    );
    check(
        "a parent that is told to leave it",
        &parent(json!({
            "syncPolicy": {"automated": {"selfHeal": true}},
            "ignoreDifferences": [{"group": "argoproj.io", "kind": "Application", "jsonPointers": ["/spec/syncPolicy"]}],
        })),
        &[ARGO_AUTOMATED, ARGO_SKIP],
    );
    check("a parent that can't be read", &|managing| managing.parents = vec![Read::Denied], &[ARGO_SKIP]);
}

#[test]
fn a_paused_application_is_seen_as_such() {
    let mut skipped = healing();
    skipped["metadata"]["annotations"] = json!({SKIP_RECONCILE: "true"});
    assert_eq!(told(&web(), managing(skipped), Touch::Replicas).0, "argocd.skipped");

    let paused_by = |session: &str| {
        let mut paused = healing();
        paused["spec"]["syncPolicy"]["automated"]["enabled"] = json!(false);
        let mark =
            json!({"path": "/spec/syncPolicy/automated/enabled", "by": [format!("shop/lease/{session}")]});
        paused["metadata"]["annotations"] = json!({pause::PAUSED_BY_ANNOTATION: mark.to_string()});
        told(&web(), managing(paused), Touch::Replicas)
    };
    assert_eq!(paused_by("mine"), ("argocd.paused", Effect::Harmless, 0));
    // When that session ends it heals again, so this one joins in.
    assert_eq!(paused_by("another"), ("argocd.selfHeal", Effect::Undoes, 1));
}

#[test]
fn an_application_that_can_t_be_read_is_told() {
    let seen = Seen { applications: Vec::new(), unreadable: Some("web".to_owned()) };
    let findings = findings(&web(), &seen, Touch::Replicas, None);
    assert_eq!(findings[0].code, "argocd.unreadable");
    assert!(findings[0].line().contains("Application web"), "{}", findings[0].line());
}

#[test]
fn hostile_objects_are_no_trouble() {
    for application in
        [json!(null), json!([]), json!({"spec": "x", "metadata": 1, "status": {"resources": {}}})]
    {
        assert!(!manages(&application, &web()));
        let _ = told(&web(), managing(application), Touch::Template);
    }
}

#[test]
fn a_cron_job_is_turned_off_by_another_field() {
    let mut nightly = web();
    nightly["apiVersion"] = json!("batch/v1");
    nightly["kind"] = json!("CronJob");
    let fields = &mut nightly["metadata"]["managedFields"][0]["fieldsV1"];
    *fields = json!({"f:spec": {"f:schedule": {}}});
    assert_eq!(told(&nightly, managing(healing()), Touch::Replicas).0, "argocd.replicasNotInGit");
    nightly["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:suspend"] = json!({});
    assert_eq!(told(&nightly, managing(healing()), Touch::Replicas).0, "argocd.selfHeal");
    assert!(snippet(&nightly, Touch::Replicas).contains("/spec/suspend"));
}
