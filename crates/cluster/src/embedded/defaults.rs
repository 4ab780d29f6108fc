//! The values that the API server fills in where a client left them out.

use serde_json::{Value, json};

use super::meta::map_mut;
use crate::port::Resource;

/// Fills in what is missing.
pub(super) fn fill(resource: &Resource, object: &mut Value) {
    match resource.kind {
        "Deployment" => {
            let spec = map_mut(object, "spec");
            for (key, value) in [
                ("replicas", json!(1)),
                ("revisionHistoryLimit", json!(10)),
                ("progressDeadlineSeconds", json!(600)),
                ("strategy", json!({"type": "RollingUpdate"})),
            ] {
                spec.entry(key).or_insert(value);
            }
            let strategy = map_mut(&mut object["spec"], "strategy");
            strategy.entry("type").or_insert(json!("RollingUpdate"));
            if strategy["type"] == "RollingUpdate" {
                let rolling = map_mut(&mut object["spec"]["strategy"], "rollingUpdate");
                rolling.entry("maxSurge").or_insert(json!("25%"));
                rolling.entry("maxUnavailable").or_insert(json!("25%"));
            }
            fill_pod(&mut object["spec"]["template"]);
        }
        "ReplicaSet" => {
            map_mut(object, "spec").entry("replicas").or_insert(json!(1));
            fill_pod(&mut object["spec"]["template"]);
        }
        "StatefulSet" | "DaemonSet" => {
            let spec = map_mut(object, "spec");
            spec.entry("revisionHistoryLimit").or_insert(json!(10));
            let stateful = resource.kind == "StatefulSet";
            if stateful {
                spec.entry("replicas").or_insert(json!(1));
                spec.entry("podManagementPolicy").or_insert(json!("OrderedReady"));
            }
            let strategy = map_mut(&mut object["spec"], "updateStrategy");
            if *strategy.entry("type").or_insert(json!("RollingUpdate")) == "RollingUpdate" {
                let rolling = map_mut(&mut object["spec"]["updateStrategy"], "rollingUpdate");
                let (key, value) = if stateful { ("partition", 0) } else { ("maxUnavailable", 1) };
                rolling.entry(key).or_insert(json!(value));
            }
            fill_pod(&mut object["spec"]["template"]);
        }
        "Job" => {
            map_mut(object, "spec").entry("suspend").or_insert(json!(false));
            fill_pod(&mut object["spec"]["template"]);
        }
        "CronJob" => {
            map_mut(object, "spec").entry("suspend").or_insert(json!(false));
            fill_pod(&mut object["spec"]["jobTemplate"]["spec"]["template"]);
        }
        "Pod" => {
            fill_pod(object);
            map_mut(object, "spec").entry("enableServiceLinks").or_insert(json!(true));
        }
        "Service" => {
            let spec = map_mut(object, "spec");
            spec.entry("type").or_insert(json!("ClusterIP"));
            spec.entry("clusterIP").or_insert(json!("127.0.0.1"));
            spec.entry("sessionAffinity").or_insert(json!("None"));
            for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(port) = port.as_object_mut() {
                    port.entry("protocol").or_insert(json!("TCP"));
                    let target = port.get("port").cloned().unwrap_or_default();
                    port.entry("targetPort").or_insert(target);
                }
            }
        }
        _ => {}
    }
}

fn fill_pod(pod: &mut Value) {
    let spec = map_mut(pod, "spec");
    for (key, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("securityContext", json!({})),
    ] {
        spec.entry(key).or_insert(value);
    }
    for key in ["containers", "initContainers"] {
        for container in spec.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
            fill_container(container);
        }
    }
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        for source in ["configMap", "secret"] {
            if let Some(source) = volume.get_mut(source).and_then(Value::as_object_mut) {
                source.entry("defaultMode").or_insert(json!(0o644));
            }
        }
    }
}

fn fill_container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    let floating = last.ends_with(":latest") || !last.contains([':', '@']);
    let Some(container) = container.as_object_mut() else { return };
    for (key, value) in [
        ("imagePullPolicy", json!(if floating { "Always" } else { "IfNotPresent" })),
        ("resources", json!({})),
        ("terminationMessagePath", json!("/dev/termination-log")),
        ("terminationMessagePolicy", json!("File")),
    ] {
        container.entry(key).or_insert(value);
    }
    for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(port) = port.as_object_mut() {
            port.entry("protocol").or_insert(json!("TCP"));
        }
    }
}
