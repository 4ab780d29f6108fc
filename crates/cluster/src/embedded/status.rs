//! Says how a pod is, in the words of its `status`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::meta;
use super::pod::{ContainerRecord, Ended, Phase};

/// Returns `name_namespace(uid)`, as the kubelet names pods.
pub(super) fn full_name(pod: &Value) -> String {
    format!("{}_{}({})", meta::name(pod), meta::namespace(pod), meta::uid(pod))
}

/// Tells whether a container runs.
pub(super) fn is_running(pod: &Value, container: &str) -> bool {
    let lists = ["/status/containerStatuses", "/status/initContainerStatuses"].into_iter();
    lists
        .flat_map(|list| meta::items(pod, list))
        .any(|status| status["name"] == *container && status["state"]["running"].is_object())
}

/// Tells whether the pod is ready.
pub(super) fn is_ready(pod: &Value) -> bool {
    meta::items(pod, "/status/conditions").iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// Works out the status of a pod.
pub(super) fn of_pod(
    pod: &Value,
    id: &str,
    obstacle: Option<&str>,
    records: &BTreeMap<String, ContainerRecord>,
) -> Value {
    let old = &pod["status"];
    let none = ContainerRecord::default();
    let record = |container: &Value| records.get(meta::text(container, "/name")).unwrap_or(&none);
    let inits = meta::items(pod, "/spec/initContainers");
    let mains = meta::items(pod, "/spec/containers");
    let initialized = inits.iter().all(|container| {
        let record = record(container);
        record.completed() || (container["restartPolicy"] == "Always" && is_started(record))
    });
    let scheduled = !meta::text(pod, "/spec/nodeName").is_empty();
    let ready = initialized
        && !mains.is_empty()
        && mains.iter().all(|container| matches!(record(container).phase, Phase::Running { .. }));
    let condition = |kind: &str, holds: bool, reason: &str| {
        condition(
            old,
            kind,
            holds,
            if holds { "" } else { reason },
            if holds { "" } else { obstacle.unwrap_or_default() },
        )
    };
    let phase = phase(pod, initialized, &|container| record(container));
    let mut status = json!({
        "phase": phase,
        "qosClass": old["qosClass"],
        "conditions": [condition("PodScheduled", scheduled, "Unschedulable")],
    });
    if !scheduled {
        return status;
    }
    let conditions = [
        condition("Initialized", initialized, "ContainersNotInitialized"),
        condition("Ready", ready, "ContainersNotReady"),
        condition("ContainersReady", ready, "ContainersNotReady"),
    ];
    if let Some(list) = status["conditions"].as_array_mut() {
        list.extend(conditions);
    }
    let statuses = |containers: &[Value], waiting: &str| -> Vec<Value> {
        containers
            .iter()
            .map(|container| of_container(pod, container, id, record(container), waiting))
            .collect()
    };
    let waiting = if initialized { "ContainerCreating" } else { "PodInitializing" };
    status["containerStatuses"] = statuses(mains, waiting).into();
    if !inits.is_empty() {
        status["initContainerStatuses"] = statuses(inits, "PodInitializing").into();
    }
    status["startTime"] = old.get("startTime").cloned().unwrap_or_else(|| json!(meta::now()));
    for (one, many) in [("hostIP", "hostIPs"), ("podIP", "podIPs")] {
        status[one] = json!("127.0.0.1");
        status[many] = json!([{"ip": "127.0.0.1"}]);
    }
    status
}

fn is_started(record: &ContainerRecord) -> bool {
    record.attempt > 0 || matches!(record.phase, Phase::Running { .. } | Phase::Ended { .. })
}

fn phase<'a>(
    pod: &'a Value,
    initialized: bool,
    record: &dyn Fn(&'a Value) -> &'a ContainerRecord,
) -> &'static str {
    let final_code = |container: &'a Value| match &record(container).phase {
        Phase::Ended { ended, again: None } => Some(ended.code),
        _ => None,
    };
    if meta::items(pod, "/spec/initContainers")
        .iter()
        .any(|one| final_code(one).is_some_and(|code| code != 0))
    {
        return "Failed";
    }
    let mains = meta::items(pod, "/spec/containers");
    let codes: Option<Vec<i32>> = mains.iter().map(final_code).collect();
    match codes {
        Some(codes) if codes.iter().all(|code| *code == 0) => "Succeeded",
        Some(_) => "Failed",
        None if initialized && mains.iter().any(|container| is_started(record(container))) => "Running",
        None => "Pending",
    }
}

fn of_container(pod: &Value, container: &Value, id: &str, record: &ContainerRecord, waiting: &str) -> Value {
    let name = meta::text(container, "/name");
    let image = meta::text(container, "/image");
    let container_id = format!("embedded://{id}/{name}/{}", record.attempt);
    let terminated = |ended: &Ended| {
        let mut state = json!({
            "exitCode": ended.code, "reason": ended.reason, "startedAt": ended.started,
            "finishedAt": ended.finished, "containerID": container_id,
        });
        if !ended.message.is_empty() {
            state["message"] = json!(ended.message);
        }
        json!({"terminated": state})
    };
    let waits = |reason: &str, message: &str| {
        let mut state = json!({"reason": reason});
        if !message.is_empty() {
            state["message"] = json!(message);
        }
        json!({"waiting": state})
    };
    let mut last = record.last.as_ref();
    let state = match &record.phase {
        Phase::New | Phase::Starting => waits(waiting, ""),
        Phase::Waiting { reason, message, .. } => waits(reason, message),
        Phase::Running { since, .. } => json!({"running": {"startedAt": since}}),
        Phase::Ended { ended, again: None } => terminated(ended),
        Phase::Ended { ended, again: Some(_) } => {
            last = Some(ended);
            let full = full_name(pod);
            waits("CrashLoopBackOff", &format!("back-off restarting failed container={name} pod={full}"))
        }
    };
    let running = matches!(record.phase, Phase::Running { .. });
    json!({
        "name": name, "image": image, "imageID": format!("embedded://{image}"), "containerID": container_id,
        "ready": running || record.completed(), "started": running, "restartCount": record.attempt,
        "state": state, "lastState": last.map_or_else(|| json!({}), terminated),
    })
}

/// Returns a condition that keeps the time of its last change.
pub(super) fn condition(old_status: &Value, kind: &str, holds: bool, reason: &str, message: &str) -> Value {
    let status = if holds { "True" } else { "False" };
    let before = meta::items(old_status, "/conditions").iter().find(|one| one["type"] == kind);
    let since = match before {
        Some(before) if before["status"] == status => before["lastTransitionTime"].clone(),
        _ => json!(meta::now()),
    };
    let mut condition = json!({"type": kind, "status": status, "lastTransitionTime": since});
    for (key, text) in [("reason", reason), ("message", message)] {
        if !text.is_empty() {
            condition[key] = json!(text);
        }
    }
    condition
}
