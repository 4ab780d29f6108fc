//! Only what is ours is set back.

use super::*;

fn application(automated: &Value, mark: Option<Value>) -> Value {
    let mut application = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
        "metadata": {"name": "web", "namespace": "argocd", "uid": "2", "resourceVersion": "7"},
        "spec": {"syncPolicy": {"automated": automated}},
    });
    if let Some(mark) = mark {
        application["metadata"]["annotations"] = json!({PAUSED_BY_ANNOTATION: mark.to_string()});
    }
    application
}

fn mark(by: &[&str], prior: &Value) -> Value {
    json!({"path": ARGO_AUTOMATED.pointer(), "prior": prior, "by": by})
}

fn pause(prior: Option<Value>) -> Pause {
    let plan = PausePlan::new(&application(&json!({}), None), ARGO_AUTOMATED).unwrap();
    plan.recorded(prior)
}

#[test]
fn pointers_lead_to_the_switch() {
    assert_eq!(ARGO_AUTOMATED.pointer(), "/spec/syncPolicy/automated/enabled");
    assert_eq!(KEDA_PAUSED.pointer(), "/metadata/annotations/autoscaling.keda.sh~1paused");
    for switch in SWITCHES {
        let patch = switch.patch(&json!({}), Some(switch.value()), None);
        assert!(switch.is_set(&patch), "{patch}");
    }
}

#[test]
fn only_switches_of_ours_are_ever_set_back() {
    let good = pause(None);
    assert!(PausePlan::of(&good).is_some());
    let check = |change: &dyn Fn(&mut Pause)| {
        let mut pause = good.clone();
        change(&mut pause);
        assert_eq!(PausePlan::of(&pause), None, "{pause:?}");
    };
    check(&|pause| pause.path = "/spec/source/repoURL".to_owned());
    check(&|pause| pause.set = json!(true));
    check(&|pause| pause.kind = "ClusterRole".to_owned());
    check(&|pause| pause.api_version = "argoproj.io/v2".to_owned());
}

#[test]
fn the_way_back_is_three_way() {
    let me = "shop/lease/mine";
    let check = |what: &str, live: Value, prior: Option<Value>, expected: Option<Value>| {
        let found = way_back(&live, me, &pause(prior), ARGO_AUTOMATED);
        let found = found.map(|patch| {
            assert_eq!(patch["metadata"]["resourceVersion"], "7", "{what}");
            json!({"enabled": patch.pointer("/spec/syncPolicy/automated/enabled"),
                   "touched": patch.get("spec").is_some(),
                   "by": patch.pointer("/metadata/annotations").map(|it| &it[PAUSED_BY_ANNOTATION])
                       .and_then(Value::as_str).and_then(|text| serde_json::from_str::<Value>(text).ok())
                       .map(|mark| mark["by"].clone())})
        });
        assert_eq!(found, expected, "{what}");
    };
    let off = || json!({"selfHeal": true, "enabled": false});
    let on = || json!({"selfHeal": true, "enabled": true});
    let back = |enabled: Value| Some(json!({"enabled": enabled, "touched": true, "by": null}));
    let only_mark = |by: Value| Some(json!({"enabled": null, "touched": false, "by": by}));
    check(
        "ours, absent before",
        application(&off(), Some(mark(&[me], &Value::Null))),
        None,
        back(Value::Null),
    );
    check(
        "ours, on before",
        application(&off(), Some(mark(&[me], &json!(true)))),
        Some(json!(true)),
        back(json!(true)),
    );
    check(
        "switched on by someone",
        application(&on(), Some(mark(&[me], &Value::Null))),
        None,
        only_mark(Value::Null),
    );
    check(
        "shared with another session",
        application(&off(), Some(mark(&["shop/other/its", me], &Value::Null))),
        None,
        only_mark(json!(["shop/other/its"])),
    );
    check(
        "another session's alone",
        application(&off(), Some(mark(&["shop/other/its"], &Value::Null))),
        None,
        None,
    );
    check("never set", application(&json!({"selfHeal": true}), None), None, None);
    check("the mark was taken away", application(&off(), None), None, back(Value::Null));
    check("it was off before", application(&off(), None), Some(json!(false)), None);
}

#[test]
fn a_paused_object_is_seen_as_it_was() {
    let live = application(
        &json!({"selfHeal": true, "enabled": false}),
        Some(mark(&["shop/lease/mine"], &json!(true))),
    );
    let (bare, by) = unpaused(&live, Some("mine"));
    assert_eq!(bare.pointer("/spec/syncPolicy/automated/enabled"), Some(&json!(true)));
    assert_eq!(by, PausedBy::Us);
    assert_eq!(unpaused(&live, None).1, PausedBy::Others(ARGO_AUTOMATED));
    // What has been switched on again is not paused, whatever the mark says.
    let woken = application(&json!({"selfHeal": true}), Some(mark(&["shop/lease/mine"], &json!(true))));
    assert_eq!(unpaused(&woken, Some("mine")), (woken.clone(), PausedBy::Nobody));
}

#[test]
fn a_mark_that_is_no_mark_is_nothing() {
    for text in ["", "{}", "[1]", "{\"path\":1}", &"x".repeat(MAX_MARK_BYTES + 1)] {
        let mut live = application(&json!({"enabled": false}), None);
        live["metadata"]["annotations"] = json!({PAUSED_BY_ANNOTATION: text});
        assert_eq!(unpaused(&live, Some("mine")).1, PausedBy::Nobody, "{text:.20}");
    }
}
