//! What Kustomizations and releases of every sort mean.

use serde_json::json;

use super::*;

/// A Deployment that a Flux controller applied, with its replicas.
fn web(manager: &str, annotations: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "1", "annotations": annotations,
            "managedFields": [{
                "manager": manager, "operation": "Apply",
                "fieldsV1": {"f:spec": {"f:replicas": {}, "f:template": {}}},
            }],
        },
        "spec": {"replicas": 3},
    })
}

fn reference() -> Reference {
    Reference {
        kind: "Kustomization".to_owned(),
        namespace: "flux-system".to_owned(),
        name: "shop".to_owned(),
    }
}

fn told(findings: &[Finding]) -> (&'static str, Effect, usize) {
    let [finding] = findings else { panic!("{findings:#?}") };
    (finding.code, finding.effect, finding.pauses.len())
}

#[test]
fn a_kustomization_corrects_at_its_interval() {
    let check = |annotations: Value, spec: Value, expected: (&str, Effect, usize)| {
        let found = Read::Found(json!({"spec": spec}));
        let seen = Seen { kustomization: Some((reference(), found)), release: None };
        let original = web("kustomize-controller", &annotations);
        assert_eq!(
            told(&findings(&original, &seen, Touch::Replicas, None)),
            expected,
            "{annotations} {spec}"
        );
    };
    check(json!({}), json!({"interval": "10m"}), ("flux.kustomization", Effect::ScalesBack, 1));
    check(json!({}), json!({"interval": "1m0s"}), ("flux.kustomization", Effect::Undoes, 1));
    check(json!({}), json!({"interval": "1m", "suspend": true}), ("flux.suspended", Effect::Harmless, 0));
    let told = "kustomize.toolkit.fluxcd.io/reconcile";
    check(json!({told: "disabled"}), json!({"interval": "1m"}), ("flux.disabled", Effect::Harmless, 0));
    let ssa = "kustomize.toolkit.fluxcd.io/ssa";
    check(json!({ssa: "IfNotPresent"}), json!({"interval": "1m"}), ("flux.disabled", Effect::Harmless, 0));
    check(json!({ssa: "Merge"}), json!({"interval": "1m"}), ("flux.kustomization", Effect::Undoes, 1));
}

#[test]
fn what_can_t_be_read_and_what_is_not_applied() {
    let told_of = |found: Read<Value>, manager: &str, touch: Touch| {
        let seen = Seen { kustomization: Some((reference(), found)), release: None };
        let mut original = web("kustomize-controller", &json!({}));
        if manager.is_empty() {
            original["metadata"]["managedFields"][0]["fieldsV1"] = json!({"f:spec": {"f:template": {}}});
        }
        told(&findings(&original, &seen, touch, None))
    };
    let found = || Read::Found(json!({"spec": {"interval": "1h"}}));
    assert_eq!(told_of(Read::Denied, "x", Touch::Replicas), ("flux.kustomization", Effect::ScalesBack, 1));
    assert_eq!(told_of(Read::Absent, "x", Touch::Replicas), ("flux.gone", Effect::Harmless, 0));
    assert_eq!(told_of(found(), "", Touch::Replicas), ("flux.replicasNotInGit", Effect::Harmless, 0));
    assert_eq!(told_of(found(), "", Touch::Template), ("flux.kustomization", Effect::Undoes, 1));
}

#[test]
fn a_release_corrects_only_with_drift_detection() {
    let check = |annotations: Value, spec: Value, expected: (&str, Effect, usize)| {
        let found = Read::Found(json!({"spec": spec}));
        let seen = Seen { kustomization: None, release: Some((reference(), found)) };
        let original = web("helm-controller", &annotations);
        assert_eq!(
            told(&findings(&original, &seen, Touch::Replicas, None)),
            expected,
            "{annotations} {spec}"
        );
    };
    let drift =
        |ignore: Value| json!({"interval": "1m", "driftDetection": {"mode": "enabled", "ignore": ignore}});
    check(json!({}), json!({"interval": "1m"}), ("flux.helmRelease", Effect::ScalesBack, 0));
    check(
        json!({}),
        json!({"interval": "1m", "driftDetection": {"mode": "warn"}}),
        ("flux.helmRelease", Effect::ScalesBack, 0),
    );
    check(json!({}), drift(json!([])), ("flux.drift", Effect::Undoes, 1));
    check(
        json!({}),
        drift(json!([{"paths": ["/spec/replicas"]}])),
        ("flux.helmRelease", Effect::ScalesBack, 0),
    );
    check(
        json!({}),
        drift(json!([{"paths": ["/spec/replicas"], "target": {"kind": "StatefulSet"}}])),
        ("flux.drift", Effect::Undoes, 1),
    );
    let told = "helm.toolkit.fluxcd.io/driftDetection";
    check(json!({told: "disabled"}), drift(json!([])), ("flux.helmRelease", Effect::ScalesBack, 0));
    check(json!({}), json!({"suspend": true}), ("flux.suspended", Effect::Harmless, 0));
}

#[test]
fn helm_by_hand_can_t_be_paused() {
    let told_of = |manager: &str, operation: &str| {
        let mut original = web(manager, &json!({"meta.helm.sh/release-name": "shop"}));
        original["metadata"]["managedFields"][0]["operation"] = json!(operation);
        let seen = Seen { kustomization: None, release: None };
        told(&findings(&original, &seen, Touch::Replicas, None))
    };
    assert_eq!(told_of("helm", "Update"), ("helm.release", Effect::ScalesBack, 0));
    assert_eq!(told_of("helm", "Apply"), ("helm.conflict", Effect::Harmless, 0));
}

#[test]
fn durations_are_go_s() {
    for (text, expected) in [
        ("10m", Some(600)),
        ("1h30m", Some(5400)),
        ("1m0s", Some(60)),
        ("90s", Some(90)),
        ("1.5h", Some(5400)),
        ("500ms", Some(1)),
        ("", None),
        ("10", None),
        ("m", None),
        ("1d", None),
    ] {
        assert_eq!(seconds(text), expected, "{text:?}");
    }
}

#[test]
fn flux_says_whether_all_of_its_is_applied() {
    let check = |object: Value, expected: Option<(&str, &str)>| {
        let seen = Seen { kustomization: Some((reference(), Read::Found(object))), release: None };
        let found = standings(&seen).remove(0);
        let told = found.why.as_deref().zip(found.hint.as_deref());
        assert_eq!((found.in_sync, told), (expected.is_none(), expected), "{found:?}");
    };
    let ready = |status: &str| json!({"conditions": [{"type": "Ready", "status": status, "message": "no such kind"}]});
    let reconcile = "flux reconcile kustomization shop -n flux-system";
    check(json!({"status": ready("True")}), None);
    check(json!({"status": ready("False")}), Some(("no such kind", reconcile)));
    check(json!({}), Some(("it has not been applied yet", reconcile)));
    let resume = "flux resume kustomization shop -n flux-system";
    check(json!({"spec": {"suspend": true}, "status": ready("True")}), Some(("it is suspended", resume)));
}
