//! What autoscalers and budgets of every sort mean.

use serde_json::json;

use super::*;

fn web() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop", "uid": "1"},
        "spec": {"replicas": 3, "template": {"metadata": {"labels": {"app": "web", "tier": "front"}}}},
    })
}

fn target(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": name})
}

fn codes(seen: &Seen, touch: Touch) -> Vec<(&'static str, Effect, usize)> {
    let findings = findings(&web(), seen, touch, Some("mine"));
    findings.iter().map(|finding| (finding.code, finding.effect, finding.pauses.len())).collect()
}

#[test]
fn autoscalers_are_known_by_their_target() {
    let horizontal = |name: &str| json!({"metadata": {"name": "scaler"}, "spec": {"scaleTargetRef": target(name), "minReplicas": 2, "maxReplicas": 5}});
    let seen = Seen { horizontal: vec![horizontal("api"), horizontal("web")], ..Seen::default() };
    assert_eq!(codes(&seen, Touch::Replicas), [("hpa.disabled", Effect::Harmless, 0)]);
    assert_eq!(codes(&seen, Touch::Template), [("hpa.scales", Effect::ScalesBack, 0)]);
    let line = findings(&web(), &seen, Touch::Replicas, None)[0].line();
    assert!(line.contains("range of 2 to 5"), "{line}");
    let vertical = json!({"metadata": {"name": "sizer"}, "spec": {"targetRef": target("web")}});
    let seen = Seen { vertical: vec![vertical], ..Seen::default() };
    assert_eq!(codes(&seen, Touch::Replicas), [("vpa.target", Effect::Harmless, 0)]);
}

#[test]
fn keda_scales_up_from_zero_by_itself() {
    let check = |annotations: Value, spec: Value, expected: (&str, Effect, usize)| {
        let mut scaled = json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
            "metadata": {"name": "web", "namespace": "shop", "uid": "3", "annotations": annotations}, "spec": spec,
        });
        // Kind and version have defaults.
        scaled["spec"]["scaleTargetRef"] = json!({"name": "web"});
        let seen = Seen { scaled: vec![scaled], ..Seen::default() };
        assert_eq!(codes(&seen, Touch::Replicas), [expected], "{annotations} {spec}");
    };
    check(json!({}), json!({}), ("keda.scaledObject", Effect::ScalesBack, 1));
    check(json!({}), json!({"minReplicaCount": 1}), ("keda.scaledObject", Effect::Undoes, 1));
    check(json!({"autoscaling.keda.sh/paused": "true"}), json!({}), ("keda.stopped", Effect::Harmless, 0));
    check(json!({"autoscaling.keda.sh/paused-replicas": "0"}), json!({}), ("keda.held", Effect::Harmless, 0));
    check(json!({"autoscaling.keda.sh/paused-replicas": "2"}), json!({}), ("keda.held", Effect::Undoes, 0));
    let mark =
        json!({"path": "/metadata/annotations/autoscaling.keda.sh~1paused", "by": ["shop/lease/mine"]});
    check(
        json!({"autoscaling.keda.sh/paused": "true", pause::PAUSED_BY_ANNOTATION: mark.to_string()}),
        json!({"minReplicaCount": 1}),
        ("keda.paused", Effect::Harmless, 0),
    );
}

#[test]
fn an_autoscaler_of_keda_s_tells_of_it() {
    let autoscaler = json!({
        "metadata": {"name": "keda-hpa-web", "ownerReferences": [{"kind": "ScaledObject", "name": "web"}]},
        "spec": {"scaleTargetRef": target("web"), "maxReplicas": 5},
    });
    let seen = Seen { horizontal: vec![autoscaler], ..Seen::default() };
    assert_eq!(codes(&seen, Touch::Replicas), [("keda.unreadable", Effect::ScalesBack, 0)]);
}

#[test]
fn selectors_are_read_as_kubernetes_does() {
    let check = |selector: Value, expected: bool| {
        assert_eq!(selects(Some(&selector), &web()), expected, "{selector}");
    };
    let expression = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
    check(json!({}), true);
    check(json!(null), false);
    check(json!({"matchLabels": {"app": "web"}}), true);
    check(json!({"matchLabels": {"app": "web", "tier": "back"}}), false);
    check(expression("app", "In", json!(["web", "api"])), true);
    check(expression("app", "NotIn", json!(["web"])), false);
    check(expression("zone", "NotIn", json!(["a"])), true);
    check(expression("zone", "Exists", json!(null)), false);
    check(expression("zone", "DoesNotExist", json!(null)), true);
    check(expression("app", "Near", json!(["web"])), false);
}
