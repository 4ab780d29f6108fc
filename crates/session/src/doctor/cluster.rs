//! The cluster, the namespace, and what one may do there.

use serde_json::Value;

use super::{Facts, Outcome, fail, pass, unknown, warn};
use crate::plan::{NOT_ALLOWED, is_protected};
use crate::pod::text;
use crate::rights::words;

/// A holder counts as gone after a minute, so clocks must agree better than that.
const HARMFUL_SKEW: i64 = 30;
const NOTABLE_SKEW: i64 = 5;

pub(super) fn target(facts: &Facts) -> Vec<Outcome> {
    if let Err(why) = &facts.connection {
        return vec![fail(
            why.clone(),
            "choose another context with --context, or see: kubectl cluster-info",
        )];
    }
    let target = &facts.target;
    let what = if target.embedded { "the embedded cluster" } else { target.server.as_str() };
    vec![pass(format!("context {} leads to {what}; namespace {}", target.context, facts.namespace_name))]
}

/// Returns the namespace, if it is known.
fn namespace(facts: &Facts) -> Option<&Value> {
    facts.namespace.as_ref().ok()?.as_ref()
}

pub(super) fn exists(facts: &Facts) -> Vec<Outcome> {
    let name = &facts.namespace_name;
    vec![match &facts.namespace {
        Ok(Some(_)) => pass(format!("namespace {name} is there")),
        Ok(None) => fail(
            format!("there is no namespace {name}"),
            format!("choose another with -n, or create it: kubectl create namespace {name}"),
        ),
        Err(why) => unknown(format!("namespace {name} could not be read: {why}")),
    }]
}

pub(super) fn terminating(facts: &Facts) -> Vec<Outcome> {
    let Some(namespace) = namespace(facts) else { return Vec::new() };
    let name = &facts.namespace_name;
    if text(namespace, "/status/phase") != "Terminating" {
        return vec![pass("it is not being deleted")];
    }
    let mut found: Vec<Outcome> = facts
        .held_up
        .iter()
        .map(|held| {
            fail(
                format!("{name} is being deleted, and {} {} with the finalizer {} holds that up", held.kind, held.name, held.finalizers.join(", ")),
                format!(
                    "whoever set the finalizer should remove it; if that program is gone: kubectl -n {name} patch {} {} \
                     --type=merge -p '{{\"metadata\":{{\"finalizers\":null}}}}'",
                    held.kind.to_lowercase(),
                    held.name
                ),
            )
        })
        .collect();
    let conditions = namespace.pointer("/status/conditions").and_then(Value::as_array);
    for condition in conditions.into_iter().flatten().filter(|condition| text(condition, "/status") == "True")
    {
        found.push(fail(
            format!("{name} is being deleted: {}", text(condition, "/message")),
            "choose another namespace with -n, or wait until it is gone",
        ));
    }
    if found.is_empty() {
        found.push(fail(format!("{name} is being deleted"), "choose another namespace with -n"));
    }
    found
}

pub(super) fn allowed(facts: &Facts) -> Vec<Outcome> {
    let name = &facts.namespace_name;
    if is_protected(name) {
        return vec![fail(
            format!("the cluster's own parts run in {name}"),
            "choose another namespace with -n",
        )];
    }
    let Some(namespace) = namespace(facts) else { return Vec::new() };
    let marks = ["/metadata/labels", "/metadata/annotations"];
    let marked = marks
        .iter()
        .filter_map(|map| namespace.pointer(map)?.get(NOT_ALLOWED)?.as_str())
        .any(|value| value != "false");
    vec![if marked {
        fail(
            format!("{name} carries {NOT_ALLOWED}: its owners do not want dev mode there"),
            "ask them, or choose another namespace with -n",
        )
    } else {
        pass(format!("{name} does not forbid dev mode"))
    }]
}

pub(super) fn owner(facts: &Facts) -> Vec<Outcome> {
    let Some(namespace) = namespace(facts) else { return Vec::new() };
    let labels = namespace.pointer("/metadata/labels").and_then(Value::as_object);
    let of_okteto = labels.into_iter().flatten().any(|(key, _)| key.starts_with("dev.okteto.com"));
    let manager = text(namespace, "/metadata/labels/app.kubernetes.io~1managed-by");
    vec![pass(if of_okteto {
        "it was made by Okteto, which may put it to sleep or delete it; towline needs no namespace of Okteto's"
            .to_owned()
    } else if manager.is_empty() {
        "it is a plain namespace; none of Okteto's is needed".to_owned()
    } else {
        format!("it is managed by {manager}; none of Okteto's is needed")
    })]
}

pub(super) fn clock(facts: &Facts) -> Vec<Outcome> {
    vec![match facts.clock_ahead {
        Err(ref why) => unknown(format!("the cluster's clock could not be read: {why}")),
        Ok(ahead) if ahead.abs() <= NOTABLE_SKEW => {
            pass(format!("this machine's clock and the cluster's agree within {NOTABLE_SKEW} s"))
        }
        Ok(ahead) => {
            let (seconds, side) = (ahead.abs(), if ahead > 0 { "ahead of" } else { "behind" });
            let seen = format!("this machine's clock is {seconds} s {side} the cluster's");
            let mend = "set it by the network: timedatectl set-ntp true";
            if seconds > HARMFUL_SKEW { fail(seen, mend) } else { warn(seen, mend) }
        }
    }]
}

pub(super) fn rights(facts: &Facts) -> Vec<Outcome> {
    let answers = match &facts.rights {
        Ok(answers) => answers,
        Err(why) => return vec![unknown(format!("it could not be asked what you may do: {why}"))],
    };
    let mend = "ask for the Role that this prints, and a RoleBinding to you: towline doctor --rbac";
    let mut found: Vec<Outcome> = answers
        .iter()
        .filter(|(_, _, has)| !has)
        .map(|(right, needed, _)| {
            let words = words(right);
            if *needed {
                fail(format!("you may not {words}, which dev mode needs"), mend)
            } else {
                warn(format!("you may not {words}: what needs it is left out"), mend)
            }
        })
        .collect();
    if found.is_empty() {
        found.push(pass(format!("all {} rights are there, for the way in and back", answers.len())));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use towline_cluster::port::Right;

    use super::super::Verdict::{self, Fail, Pass, Unknown, Warn};
    use super::super::facts::Held;
    use super::*;

    #[track_caller]
    fn expect(found: &[Outcome], expected: &[(Verdict, &str)]) {
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (seen, (verdict, words)) in found.iter().zip(expected) {
            let all = format!("{} {}", seen.seen, seen.mend.as_deref().unwrap_or_default());
            assert!(seen.verdict == *verdict && all.contains(words), "{words:?} in {seen:#?}");
        }
    }

    fn with(namespace: Value) -> Facts {
        Facts { namespace: Ok(Some(namespace)), namespace_name: "shop".to_owned(), ..Facts::nothing("no") }
    }

    #[test]
    fn namespaces() {
        let plain = || with(json!({"metadata": {"name": "shop"}, "status": {"phase": "Active"}}));
        expect(&exists(&plain()), &[(Pass, "is there")]);
        expect(
            &exists(&Facts { namespace: Ok(None), ..plain() }),
            &[(Fail, "kubectl create namespace shop")],
        );
        expect(&exists(&Facts::nothing("no right")), &[(Unknown, "no right")]);
        expect(&allowed(&plain()), &[(Pass, "does not forbid")]);
        for value in ["true", "", "yes"] {
            let marked = json!({"metadata": {"labels": {NOT_ALLOWED: value}}});
            expect(&allowed(&with(marked)), &[(Fail, NOT_ALLOWED)]);
        }
        expect(&allowed(&with(json!({"metadata": {"annotations": {NOT_ALLOWED: "false"}}}))), &[(Pass, "")]);
        expect(
            &allowed(&Facts { namespace_name: "kube-system".to_owned(), ..Facts::nothing("no") }),
            &[(Fail, "own parts")],
        );
        expect(&owner(&plain()), &[(Pass, "plain")]);
        expect(
            &owner(&with(json!({"metadata": {"labels": {"dev.okteto.com/x": "y"}}}))),
            &[(Pass, "made by Okteto")],
        );
    }

    #[test]
    fn a_namespace_that_does_not_go_away_says_who_holds_it() {
        let namespace = json!({"status": {"phase": "Terminating", "conditions": [
            {"type": "NamespaceContentRemaining", "status": "True", "message": "jobs.batch has 1 resource instances"},
            {"type": "NamespaceDeletionDiscoveryFailure", "status": "False", "message": "fine"}]}});
        let held_up = vec![Held {
            kind: "Job".to_owned(),
            name: "hook".to_owned(),
            finalizers: vec!["argocd.argoproj.io/hook-finalizer".to_owned()],
        }];
        expect(
            &terminating(&Facts { held_up, ..with(namespace) }),
            &[(Fail, "kubectl -n shop patch job hook --type=merge"), (Fail, "jobs.batch has 1")],
        );
        expect(&terminating(&with(json!({"status": {"phase": "Terminating"}}))), &[(Fail, "-n")]);
        expect(&terminating(&with(json!({"status": {"phase": "Active"}}))), &[(Pass, "not being deleted")]);
    }

    #[test]
    fn clocks() {
        let at = |ahead| Facts { clock_ahead: Ok(ahead), ..Facts::nothing("no") };
        for (ahead, verdict, words) in
            [(0, Pass, "agree"), (-5, Pass, "agree"), (6, Warn, "6 s ahead"), (-31, Fail, "31 s behind")]
        {
            expect(&clock(&at(ahead)), &[(verdict, words)]);
        }
        expect(&clock(&Facts::nothing("no")), &[(Unknown, "no")]);
    }

    #[test]
    fn rights_are_named_one_by_one() {
        let right = |verb| Right { verb, group: "", resource: "pods", subresource: "exec" };
        let facts = |rights| Facts { rights: Ok(rights), ..Facts::nothing("no") };
        expect(
            &rights(&facts(vec![
                (right("get"), true, false),
                (right("list"), false, false),
                (right("x"), true, true),
            ])),
            &[(Fail, "get pods/exec"), (Warn, "list pods/exec")],
        );
        expect(&rights(&facts(vec![(right("get"), true, true)])), &[(Pass, "all 1 rights")]);
    }
}
