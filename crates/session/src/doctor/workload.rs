//! The workload, who is at it, and what the cluster says to its dev pod.

use std::collections::BTreeSet;

use serde_json::Value;

use super::facts::referred;
use super::{Facts, Outcome, fail, pass, unknown, warn};
use crate::controllers::Effect;
use crate::gc;
use crate::pod::{self, PodPhase, text};

/// Returns the workload, if it is known.
fn original(facts: &Facts) -> Option<&Value> {
    facts.workload.as_ref().ok()?.as_ref()
}

pub(super) fn exists(facts: &Facts) -> Vec<Outcome> {
    let Some(wanted) = &facts.wanted else { return Vec::new() };
    vec![match &facts.workload {
        Ok(Some(found)) => {
            pass(format!("{} {} is there", text(found, "/kind"), text(found, "/metadata/name")))
        }
        // A plan without one is of a dev container that is made of the manifest alone.
        Ok(None) if matches!(facts.plan, Some(Ok(_))) => {
            pass(format!("there is no workload {wanted}: up makes a dev container, as autocreate says"))
        }
        Ok(None) => {
            let namespace = &facts.namespace_name;
            let seen = format!("there is no workload {wanted} in namespace {namespace}");
            match facts.nearest.first() {
                Some(nearest) => {
                    fail(seen, format!("did you mean {nearest}? there is: {}", facts.nearest.join(", ")))
                }
                None => fail(seen, "choose another namespace with -n, or another name in the manifest"),
            }
        }
        Err(why) => unknown(format!("the workload could not be found: {why}")),
    }]
}

pub(super) fn replicas(facts: &Facts) -> Vec<Outcome> {
    let Some(original) = original(facts) else { return Vec::new() };
    let (replicas, name) = (towline_patcher::replicas(original), text(original, "/metadata/name"));
    let kind = text(original, "/kind").to_lowercase();
    vec![match (replicas, &facts.session) {
        (0, Some(_)) => pass("it has 0 replicas: its dev pod stands in for it"),
        (0, None) => fail(
            "it has 0 replicas, and no session says how many it had",
            format!("kubectl -n {} scale {kind} {name} --replicas=1", facts.namespace_name),
        ),
        (1, _) => pass("it has one replica"),
        (more, None) => pass(format!("it has {more} replicas; in dev mode there is one pod")),
        (more, Some(_)) => warn(
            format!("it has {more} replicas beside its dev pod: both get traffic"),
            "see who scaled it up: towline status",
        ),
    }]
}

pub(super) fn session(facts: &Facts) -> Vec<Outcome> {
    if original(facts).is_none() {
        return Vec::new();
    }
    let Some(session) = &facts.session else { return vec![pass("nobody is in dev mode there")] };
    let holder = &session.holder;
    vec![if session.mine && session.alive {
        pass("you are in dev mode there")
    } else if session.silence >= gc::ABANDONED && !session.alive {
        warn(
            format!("{holder} is in dev mode there and has not been heard of for long"),
            "end it: towline gc",
        )
    } else if session.mine {
        pass("you are in dev mode there, with no process of yours at it: towline up goes on")
    } else {
        fail(
            format!("{holder} is in dev mode there"),
            "ask them, or take over: towline up --takeover; or end it: towline down --force",
        )
    }]
}

pub(super) fn agent(facts: &Facts) -> Vec<Outcome> {
    let Some(session) = &facts.session else { return Vec::new() };
    let own = env!("CARGO_PKG_VERSION");
    vec![if session.tool == own {
        pass(format!("the session was begun by this version, {own}"))
    } else {
        warn(
            format!("the session was begun by version {}, this is {own}", session.tool),
            "towline up puts this version's agent into a new pod",
        )
    }]
}

pub(super) fn controllers(facts: &Facts) -> Vec<Outcome> {
    if original(facts).is_none() {
        return Vec::new();
    }
    let findings = match &facts.controllers {
        Ok(findings) if findings.is_empty() => return vec![pass("nobody else is known to write to it")],
        Ok(findings) => findings,
        Err(why) => return vec![unknown(format!("who else writes to it could not be found out: {why}"))],
    };
    let of = |finding: &crate::controllers::Finding| {
        let mend = finding.mend.clone();
        match finding.effect {
            Effect::Harmless => pass(finding.line()),
            Effect::ScalesBack => warn(finding.line(), mend.unwrap_or_else(|| finding.answer.clone())),
            Effect::Undoes => {
                fail(finding.line(), mend.unwrap_or_else(|| "pause it: towline up --gitops pause".to_owned()))
            }
            Effect::Excludes => {
                fail(finding.line(), mend.unwrap_or_else(|| "put another workload into dev mode".to_owned()))
            }
        }
    };
    findings.iter().map(of).collect()
}

pub(super) fn create_namespace(facts: &Facts) -> Vec<Outcome> {
    let Ok(applications) = &facts.applications else { return Vec::new() };
    let of = |application: &&Value| {
        let options = application.pointer("/spec/syncPolicy/syncOptions").and_then(Value::as_array);
        text(application, "/spec/destination/namespace") == facts.namespace_name
            && options.into_iter().flatten().any(|option| option == "CreateNamespace=true")
    };
    let words = |application: &Value| {
        warn(
            format!(
                "Argo CD's Application {} makes the namespace anew when it is gone, without its labels and Secrets",
                text(application, "/metadata/name")
            ),
            "remove CreateNamespace=true from its syncOptions, or let Argo CD manage the namespace itself",
        )
    };
    applications.iter().filter(of).map(words).collect()
}

pub(super) fn plan(facts: &Facts) -> Vec<Outcome> {
    let planned = match &facts.plan {
        None => return Vec::new(),
        Some(Err(why)) => {
            return vec![fail(
                format!("towline up would not begin: {why}"),
                "see it whole: towline up --dry-run",
            )];
        }
        Some(Ok(planned)) => planned,
    };
    let obstacles =
        planned.obstacles.iter().map(|obstacle| fail(obstacle.to_string(), obstacle.mend.clone()));
    let mut found: Vec<Outcome> = obstacles.collect();
    if found.is_empty() {
        found.push(pass("the cluster would take the dev pod, and the original could be scaled"));
    }
    found.extend(planned.notes.iter().map(|note| pass(note.clone())));
    found
}

pub(super) fn pod(facts: &Facts) -> Vec<Outcome> {
    if original(facts).is_none() {
        return Vec::new();
    }
    let pod = match &facts.pod {
        Ok(Some(pod)) => pod,
        Ok(None) => return vec![warn("it has no pod", "see why: kubectl describe, or towline status")],
        Err(why) => return vec![unknown(format!("its pod could not be read: {why}"))],
    };
    let container = facts.session.as_ref().map(|session| session.container.clone());
    let container = container.unwrap_or_else(|| text(pod, "/spec/containers/0/name"));
    let view = pod::view(pod, &container, &facts.events);
    let name = &view.name;
    vec![match view.phase {
        PodPhase::Running if view.restarts > 0 => warn(
            format!("pod {name} runs; its container was started again {} times", view.restarts),
            "see what it said before: towline logs --previous",
        ),
        PodPhase::Running => pass(format!("pod {name} runs")),
        PodPhase::Blocked { reason, message } if reason.contains("Image") => fail(
            format!("pod {name}: {reason}: {message}"),
            "is the image's name right, and is the Secret of imagePullSecrets in this namespace and still valid?",
        ),
        PodPhase::Blocked { reason, message } => fail(
            format!("pod {name}: {reason}: {message}"),
            "make what it names, or correct the reference in the workload",
        ),
        PodPhase::Scheduling { why: Some(why) } | PodPhase::Attaching { why: Some(why) } => {
            warn(format!("pod {name} waits: {why}"), "see the cluster's own words: kubectl describe pod")
        }
        PodPhase::Restarting { reason } | PodPhase::Ended { reason, .. } => {
            warn(format!("pod {name}: {reason}"), "see what it said: towline logs --previous")
        }
        PodPhase::Scheduling { .. } | PodPhase::Attaching { .. } | PodPhase::Pulling { .. } => {
            pass(format!("pod {name} is on its way"))
        }
    }]
}

pub(super) fn references(facts: &Facts) -> Vec<Outcome> {
    let Some(original) = original(facts) else { return Vec::new() };
    let namespace = &facts.namespace_name;
    let mut found = Vec::new();
    for (name, is_there) in &facts.config_maps {
        match is_there {
            Ok(true) => {}
            Ok(false) => found.push(fail(
                format!("ConfigMap {name}, which the workload needs, is not in namespace {namespace}"),
                "deploy what makes it, then look again",
            )),
            Err(why) => found.push(unknown(format!("ConfigMap {name} could not be read: {why}"))),
        }
    }
    let complaint = |pod: &Value| {
        let statuses = pod.pointer("/status/containerStatuses").and_then(Value::as_array).cloned();
        statuses.into_iter().flatten().find_map(|status| {
            let message = text(&status, "/state/waiting/message");
            (text(&status, "/state/waiting/reason") == "CreateContainerConfigError").then_some(message)
        })
    };
    let pod = facts.pod.as_ref().ok().and_then(Option::as_ref);
    if let Some(message) = pod.and_then(complaint) {
        found.push(fail(format!("its pod can't start: {message}"), "deploy what makes it, then look again"));
    }
    let secrets = secrets(original);
    if found.is_empty() {
        let count = facts.config_maps.len();
        let runs = pod.is_some_and(|pod| text(pod, "/status/phase") == "Running");
        found.push(if secrets.is_empty() || runs {
            pass(format!("its {count} ConfigMaps and {} Secrets are there", secrets.len()))
        } else {
            let list = secrets.into_iter().collect::<Vec<_>>().join(", ");
            unknown(format!("its {count} ConfigMaps are there; Secrets are not read, and no pod has shown that it has {list}"))
        });
    }
    found
}

/// Returns the names of the Secrets that a workload refers to.
fn secrets(workload: &Value) -> BTreeSet<String> {
    referred(workload, |key, value| match key {
        "secretRef" | "secretKeyRef" => value.get("name"),
        "secretName" => Some(value),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::super::Verdict::{Fail, Pass, Unknown, Warn};
    use super::super::facts::{Planned, SessionSeen};
    use super::super::tests::expect;
    use super::*;
    use crate::obstacle::Obstacle;

    fn facts(replicas: i64) -> Facts {
        let workload = json!({"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": replicas,
            "template": {"spec": {"containers": [{"envFrom": [{"secretRef": {"name": "s1"}}]}],
                "volumes": [{"secret": {"secretName": "s2"}}]}}}});
        Facts {
            wanted: Some("web".to_owned()),
            workload: Ok(Some(workload)),
            namespace_name: "shop".to_owned(),
            ..Facts::nothing("no")
        }
    }

    fn session_of(holder: &str, mine: bool, alive: bool, hours: u64) -> SessionSeen {
        SessionSeen {
            holder: holder.to_owned(),
            mine,
            alive,
            silence: Duration::from_hours(hours),
            tool: "0.0.1".to_owned(),
            container: "a".to_owned(),
        }
    }

    #[test]
    fn a_workload_is_found_and_runs() {
        expect(&exists(&facts(1)), Pass, "Deployment web");
        let missing = Facts { workload: Ok(None), nearest: vec!["webb".to_owned()], ..facts(1) };
        expect(&exists(&missing), Fail, "did you mean webb?");
        expect(&exists(&Facts { workload: Err("no right".to_owned()), ..facts(1) }), Unknown, "no right");
        expect(&replicas(&facts(0)), Fail, "scale deployment web --replicas=1");
        expect(&replicas(&facts(3)), Pass, "3 replicas");
        expect(
            &replicas(&Facts { session: Some(session_of("ann@x", true, true, 0)), ..facts(0) }),
            Pass,
            "stands in",
        );
        expect(
            &replicas(&Facts { session: Some(session_of("ann@x", true, true, 0)), ..facts(2) }),
            Warn,
            "both get traffic",
        );
    }

    #[test]
    fn sessions() {
        expect(&session(&facts(1)), Pass, "nobody");
        let with = |session| Facts { session: Some(session), ..facts(1) };
        expect(&session(&with(session_of("ann@x", true, true, 0))), Pass, "you are");
        expect(&session(&with(session_of("ann@x", true, false, 1))), Pass, "goes on");
        expect(&session(&with(session_of("bob@y", false, true, 0))), Fail, "--takeover");
        expect(&session(&with(session_of("bob@y", false, false, 9))), Warn, "towline gc");
        expect(&agent(&with(session_of("ann@x", true, true, 0))), Warn, "version 0.0.1");
        assert!(agent(&facts(1)).is_empty());
    }

    #[test]
    fn what_the_cluster_says_to_a_plan() {
        let with = |plan| Facts { plan: Some(plan), ..facts(1) };
        let obstacle = Obstacle {
            code: "quota",
            what: "create pods".to_owned(),
            why: "exceeded quota".to_owned(),
            mend: "free some".to_owned(),
        };
        expect(&plan(&with(Ok(Planned { obstacles: vec![obstacle], notes: Vec::new() }))), Fail, "free some");
        expect(
            &plan(&with(Ok(Planned { obstacles: Vec::new(), notes: vec!["a note".to_owned()] }))),
            Pass,
            "would take",
        );
        expect(&plan(&with(Err("it is being deleted".to_owned()))), Fail, "being deleted");
        assert!(plan(&facts(1)).is_empty());
    }

    #[test]
    fn references_that_are_missing() {
        let with = |config_maps, pod: Value| Facts { config_maps, pod: Ok(Some(pod)), ..facts(1) };
        let runs = || json!({"status": {"phase": "Running"}});
        expect(
            &references(&with(vec![("a".to_owned(), Ok(true))], runs())),
            Pass,
            "1 ConfigMaps and 2 Secrets",
        );
        expect(&references(&with(vec![("a".to_owned(), Ok(false))], runs())), Fail, "ConfigMap a");
        let waits = json!({"status": {"phase": "Pending", "containerStatuses": [{"state": {"waiting":
            {"reason": "CreateContainerConfigError", "message": "secret \"s1\" not found"}}}]}});
        expect(&references(&with(Vec::new(), waits)), Fail, "secret \"s1\" not found");
        expect(&references(&with(Vec::new(), json!({}))), Unknown, "s1, s2");
    }

    #[test]
    fn an_application_that_makes_the_namespace_anew() {
        let application = |namespace: &str, option: &str| {
            json!({"metadata": {"name": "shop"}, "spec": {"destination": {"namespace": namespace},
                "syncPolicy": {"syncOptions": [option]}}})
        };
        let check = |namespace: &str, option: &str, expected: usize| {
            let facts = Facts { applications: Ok(vec![application(namespace, option)]), ..facts(1) };
            assert_eq!(create_namespace(&facts).len(), expected, "{namespace} {option}");
        };
        check("shop", "CreateNamespace=true", 1);
        check("shop", "CreateNamespace=false", 0);
        check("other", "CreateNamespace=true", 0);
    }

    #[test]
    fn pods_that_are_not_well() {
        let with = |status: Value| {
            let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "a"}]}, "status": status});
            pod_facts(pod)
        };
        let state = |state: Value, restarts: u64| json!({"containerStatuses": [{"name": "a", "restartCount": restarts, "state": state}]});
        expect(&pod(&with(state(json!({"running": {}}), 0))), Pass, "runs");
        expect(&pod(&with(state(json!({"running": {}}), 4))), Warn, "4 times");
        expect(
            &pod(&with(state(json!({"waiting": {"reason": "ImagePullBackOff", "message": "denied"}}), 0))),
            Fail,
            "imagePullSecrets",
        );
        expect(&pod(&Facts { pod: Ok(None), ..facts(1) }), Warn, "no pod");
    }

    fn pod_facts(pod: Value) -> Facts {
        Facts { pod: Ok(Some(pod)), ..facts(1) }
    }
}
