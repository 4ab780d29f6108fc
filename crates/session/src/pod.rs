//! What a pod's own status and its events say, in the cluster's words.

use serde_json::Value;

/// How far a dev pod has come, and why it is not further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodPhase {
    /// No node takes it yet.
    Scheduling {
        /// The scheduler's words, once it has said why.
        why: Option<String>,
    },
    /// On its node; volumes are attached and containers set up.
    Attaching {
        /// The kubelet's words, when something is in the way.
        why: Option<String>,
    },
    /// An image is fetched.
    Pulling {
        /// The image.
        image: String,
    },
    /// Something that does not mend itself soon: the image, the command, a Secret or the quota.
    Blocked {
        /// Kubernetes' reason, like `ErrImagePull`.
        reason: String,
        /// The cluster's words.
        message: String,
    },
    /// The dev container runs: an exec can reach its agent.
    Running,
    /// The dev container ended and is started again.
    Restarting {
        /// Kubernetes' reason, like `OOMKilled` or `Error`, and the exit code.
        reason: String,
    },
    /// The pod is over: evicted, preempted or deleted.
    Ended {
        /// Kubernetes' reason, like `Evicted`.
        reason: String,
        /// The cluster's words.
        message: String,
    },
}

/// One look at the dev pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodView {
    /// The pod's name.
    pub name: String,
    /// The pod's uid.
    pub uid: String,
    /// Where it runs, once scheduled.
    pub node: Option<String>,
    /// Times the dev container was started again.
    pub restarts: u64,
    /// How far it is.
    pub phase: PodPhase,
}

const BLOCKING: &[&str] = &[
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "StartError",
];

/// Reads a pod and the events about it; `container` is the dev container's name.
pub fn view(pod: &Value, container: &str, events: &[Value]) -> PodView {
    PodView {
        name: text(pod, "/metadata/name"),
        uid: text(pod, "/metadata/uid"),
        node: pod.pointer("/spec/nodeName").and_then(Value::as_str).map(str::to_owned),
        restarts: container_status(pod, container)
            .and_then(|status| status.get("restartCount"))
            .and_then(Value::as_u64)
            .unwrap_or(0),
        phase: phase(pod, container, events),
    }
}

/// Picks the pod to work with: not on its way out, else the newest.
pub fn choose(pods: &[Value]) -> Option<&Value> {
    pods.iter().max_by_key(|pod| {
        (
            pod.pointer("/metadata/deletionTimestamp").is_none(),
            !matches!(pod.pointer("/status/phase").and_then(Value::as_str), Some("Failed" | "Succeeded")),
            text(pod, "/metadata/creationTimestamp"),
        )
    })
}

fn phase(pod: &Value, container: &str, events: &[Value]) -> PodPhase {
    let reason = text(pod, "/status/reason");
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        let reason = if reason.is_empty() { "Deleted".to_owned() } else { reason };
        return PodPhase::Ended { reason, message: text(pod, "/status/message") };
    }
    let status = text(pod, "/status/phase");
    if status == "Failed" || status == "Succeeded" {
        let reason = if reason.is_empty() { status } else { reason };
        return PodPhase::Ended { reason, message: text(pod, "/status/message") };
    }
    if let Some(blocked) = blocked_container(pod) {
        return blocked;
    }
    if let Some(status) = container_status(pod, container) {
        if status.pointer("/state/running").is_some() {
            return PodPhase::Running;
        }
        let last = status.pointer("/state/terminated").or_else(|| status.pointer("/lastState/terminated"));
        if let Some(ended) = last {
            let code = ended.get("exitCode").and_then(Value::as_i64).unwrap_or(-1);
            let reason = ended.get("reason").and_then(Value::as_str).unwrap_or("Error");
            return PodPhase::Restarting { reason: format!("{reason}, exit code {code}") };
        }
    }
    if pod.pointer("/spec/nodeName").is_none() {
        return PodPhase::Scheduling {
            why: unschedulable(pod).or_else(|| latest(pod, events, &["FailedScheduling"])).map(plainly),
        };
    }
    match newest_event(
        pod,
        events,
        &["Pulling", "Pulled", "FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"],
    ) {
        Some(event) if text(event, "/reason") == "Pulling" => {
            PodPhase::Pulling { image: quoted(&text(event, "/message")) }
        }
        Some(event) if text(event, "/reason") != "Pulled" => {
            PodPhase::Attaching { why: Some(plainly(text(event, "/message"))) }
        }
        _ => PodPhase::Attaching { why: None },
    }
}

fn blocked_container(pod: &Value) -> Option<PodPhase> {
    ["/status/initContainerStatuses", "/status/containerStatuses"]
        .iter()
        .filter_map(|list| pod.pointer(list)?.as_array())
        .flatten()
        .find_map(|status| {
            let waiting = status.pointer("/state/waiting")?;
            let reason = text(waiting, "/reason");
            BLOCKING
                .contains(&reason.as_str())
                .then(|| PodPhase::Blocked { reason, message: text(waiting, "/message") })
        })
}

/// Returns the condition of a type in an object's status.
pub(crate) fn condition<'a>(object: &'a Value, of_type: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| text(condition, "/type") == of_type)
}

fn unschedulable(pod: &Value) -> Option<String> {
    condition(pod, "PodScheduled")
        .filter(|condition| text(condition, "/status") == "False")
        .map(|condition| text(condition, "/message"))
        .filter(|message| !message.is_empty())
}

fn container_status<'a>(pod: &'a Value, container: &str) -> Option<&'a Value> {
    pod.pointer("/status/containerStatuses")?
        .as_array()?
        .iter()
        .find(|status| text(status, "/name") == container)
}

fn newest_event<'a>(pod: &Value, events: &'a [Value], reasons: &[&str]) -> Option<&'a Value> {
    let uid = text(pod, "/metadata/uid");
    events
        .iter()
        .filter(|event| {
            text(event, "/involvedObject/uid") == uid && reasons.contains(&text(event, "/reason").as_str())
        })
        .max_by_key(|event| version(event))
}

/// Adds to the cluster's words about an exclusive volume what they mean.
fn plainly(message: String) -> String {
    let meaning = if message.contains("Multi-Attach") {
        "the volume is still attached to another node, where a pod uses it or has just ended; it can be attached to one \
         node at a time"
    } else if message.contains("volume node affinity conflict") {
        "a volume of the pod can be reached from other nodes only: the manifest's nodeSelector or affinity must allow one \
         of them"
    } else if message.contains("ReadWriteOncePod") {
        "a volume of the pod is for one pod at a time, and another pod has it"
    } else {
        return message;
    };
    format!("{message} ({meaning})")
}

fn latest(pod: &Value, events: &[Value], reasons: &[&str]) -> Option<String> {
    newest_event(pod, events, reasons).map(|event| text(event, "/message"))
}

/// Orders events by their resourceVersion: their times have whole seconds only.
fn version(event: &Value) -> u64 {
    text(event, "/metadata/resourceVersion").parse().unwrap_or(0)
}

/// Takes the image out of the kubelet's `Pulling image "NAME"`.
fn quoted(message: &str) -> String {
    message.split('"').nth(1).unwrap_or(message).to_owned()
}

pub(crate) fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(status: &Value, events: &[(&str, &str)], expected: &PodPhase) {
        let mut pod =
            json!({"metadata": {"name": "web-x", "uid": "u1"}, "spec": {"nodeName": "n1"}, "status": status});
        if status.get("unscheduled").is_some() {
            pod["spec"] = json!({});
        }
        let events: Vec<Value> = events
            .iter()
            .enumerate()
            .map(|(index, (reason, message))| {
                json!({"metadata": {"resourceVersion": index.to_string()}, "involvedObject": {"uid": "u1"},
                       "reason": reason, "message": message})
            })
            .collect();
        assert_eq!(&view(&pod, "app", &events).phase, expected);
    }

    #[test]
    fn each_phase_in_the_clusters_words() {
        check(&json!({"phase": "Pending", "unscheduled": true}), &[], &PodPhase::Scheduling { why: None });
        check(
            &json!({"phase": "Pending", "unscheduled": true}),
            &[("FailedScheduling", "0/1 nodes are available: 1 Insufficient cpu.")],
            &PodPhase::Scheduling { why: Some("0/1 nodes are available: 1 Insufficient cpu.".into()) },
        );
        check(&json!({"phase": "Pending"}), &[], &PodPhase::Attaching { why: None });
        check(
            &json!({"phase": "Pending"}),
            &[("FailedMount", "configmap \"a\" not found")],
            &PodPhase::Attaching { why: Some("configmap \"a\" not found".into()) },
        );
        check(
            &json!({"phase": "Pending"}),
            &[("Pulling", "Pulling image \"debian:dev\"")],
            &PodPhase::Pulling { image: "debian:dev".into() },
        );
        check(
            &json!({"phase": "Pending"}),
            &[("Pulling", "Pulling image \"debian:dev\""), ("Pulled", "done")],
            &PodPhase::Attaching { why: None },
        );
        check(
            &json!({"phase": "Pending", "containerStatuses": [{"name": "app",
                "state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}]}),
            &[],
            &PodPhase::Blocked { reason: "ErrImagePull".into(), message: "no such image".into() },
        );
        check(
            &json!({"phase": "Running", "containerStatuses": [{"name": "sidecar", "state": {}}, {"name": "app",
                "state": {"running": {}}}]}),
            &[],
            &PodPhase::Running,
        );
        check(
            &json!({"phase": "Running", "containerStatuses": [{"name": "app", "restartCount": 1,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]}),
            &[],
            &PodPhase::Restarting { reason: "OOMKilled, exit code 137".into() },
        );
        check(
            &json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}),
            &[],
            &PodPhase::Ended { reason: "Evicted".into(), message: "low on memory".into() },
        );
    }

    #[test]
    fn exclusive_volumes_are_explained() {
        let check = |message: &str, meaning: Option<&str>| {
            let found = plainly(message.to_owned());
            assert!(found.starts_with(message));
            match meaning {
                Some(meaning) => assert!(found.contains(meaning), "{found}"),
                None => assert_eq!(found, message),
            }
        };
        check("Multi-Attach error for volume \"pvc-1\"", Some("one node at a time"));
        check("0/3 nodes are available: 3 node(s) had volume node affinity conflict.", Some("nodeSelector"));
        check(
            "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode.",
            Some("another pod has it"),
        );
        check("configmap \"a\" not found", None);
    }

    #[test]
    fn the_pod_that_stays_is_chosen() {
        let leaving =
            json!({"metadata": {"name": "old", "creationTimestamp": "2026-01-02", "deletionTimestamp": "x"}});
        let staying = json!({"metadata": {"name": "new", "creationTimestamp": "2026-01-01"}});
        let evicted = json!({"metadata": {"name": "out", "creationTimestamp": "2026-01-03"}, "status": {"phase": "Failed"}});
        let pods = [leaving, staying, evicted];
        assert_eq!(choose(&pods).map(|pod| text(pod, "/metadata/name")), Some("new".into()));
        assert_eq!(choose(&[]), None);
    }
}
