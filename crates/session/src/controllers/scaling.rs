//! Who scales the workload, or counts its pods: HPA, KEDA, VPA and disruption budgets.

use serde_json::Value;
use towline_cluster::ClusterError;
use towline_cluster::port::{
    HORIZONTAL_POD_AUTOSCALERS, HORIZONTAL_POD_AUTOSCALERS_V1, POD_DISRUPTION_BUDGETS, SCALED_OBJECTS,
    VERTICAL_POD_AUTOSCALERS,
};

use super::pause::{self, KEDA_PAUSED, PausePlan, PausedBy};
use super::{Effect, Finding, Reference, Touch, annotation, names, read};
use crate::context::Context;
use crate::pod::text;

const KEDA: &str = "KEDA";

/// What was read of the namespace.
#[derive(Debug, Default)]
pub(super) struct Seen {
    horizontal: Vec<Value>,
    scaled: Vec<Value>,
    vertical: Vec<Value>,
    budgets: Vec<Value>,
}

/// Reads everything that scales or counts pods here.
pub(super) async fn read(context: &Context) -> Result<Seen, ClusterError> {
    let (horizontal, scaled, vertical, budgets) = futures::try_join!(
        read::list(context, &[HORIZONTAL_POD_AUTOSCALERS, HORIZONTAL_POD_AUTOSCALERS_V1]),
        read::list(context, &[SCALED_OBJECTS]),
        read::list(context, &[VERTICAL_POD_AUTOSCALERS]),
        read::list(context, &[POD_DISRUPTION_BUDGETS]),
    )?;
    Ok(Seen { horizontal, scaled, vertical, budgets })
}

/// What it means for the session.
pub(super) fn findings(original: &Value, seen: &Seen, touch: Touch, session: Option<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let scaled = seen.scaled.iter().filter(|scaled| names(scaled.pointer("/spec/scaleTargetRef"), original));
    findings.extend(scaled.map(|scaled| keda(scaled, touch, session)));
    let known = findings.len();
    for autoscaler in &seen.horizontal {
        if !names(autoscaler.pointer("/spec/scaleTargetRef"), original) {
            continue;
        }
        match keda_owner(autoscaler) {
            // The ScaledObject says more.
            Some(_) if known > 0 => {}
            Some(owner) => findings.push(keda_unread(original, owner)),
            None => findings.push(horizontal(autoscaler, touch)),
        }
    }
    let vertical =
        seen.vertical.iter().filter(|vertical| names(vertical.pointer("/spec/targetRef"), original));
    findings.extend(vertical.map(|autoscaler| {
        Finding::new(
            "vpa.target",
            "VerticalPodAutoscaler",
            Effect::Harmless,
            "sets the original's requests and not the dev container's",
        )
        .about(Reference::of(VERTICAL_POD_AUTOSCALERS, autoscaler))
    }));
    let budgets = seen.budgets.iter().filter(|budget| selects(budget.pointer("/spec/selector"), original));
    findings.extend(budgets.map(|budget| {
        Finding::new(
            "pdb.selects",
            "PodDisruptionBudget",
            Effect::Harmless,
            "counts the dev pod among the workload's: a drain of its node may wait for it",
        )
        .about(Reference::of(POD_DISRUPTION_BUDGETS, budget))
    }));
    findings
}

fn horizontal(autoscaler: &Value, touch: Touch) -> Finding {
    let number = |pointer| autoscaler.pointer(pointer).and_then(Value::as_i64);
    let min = number("/spec/minReplicas").unwrap_or(1);
    let max = number("/spec/maxReplicas").unwrap_or(min);
    let reference = Reference::of(HORIZONTAL_POD_AUTOSCALERS, autoscaler);
    match touch {
        Touch::Replicas => Finding::new(
            "hpa.disabled",
            "HorizontalPodAutoscaler",
            Effect::Harmless,
            "leaves a workload alone that has 0 replicas",
        )
        .answer(format!("the original comes back within its range of {min} to {max}")),
        Touch::Template => Finding::new(
            "hpa.scales",
            "HorizontalPodAutoscaler",
            Effect::ScalesBack,
            format!("scales the dev container too, between {min} and {max}"),
        ),
    }
    .about(reference)
}

fn keda(scaled: &Value, touch: Touch, session: Option<&str>) -> Finding {
    let (bare, paused_by) = pause::unpaused(scaled, session);
    let say = |code, effect, does: &str| {
        Finding::new(code, KEDA, effect, does).about(Reference::of(SCALED_OBJECTS, scaled))
    };
    if paused_by == PausedBy::Us {
        return say("keda.paused", Effect::Harmless, "is paused by this session")
            .answer("it goes on when dev mode ends");
    }
    if let Some(replicas) = annotation(&bare, "autoscaling.keda.sh/paused-replicas") {
        let code = "keda.held";
        if touch == Touch::Replicas && replicas == "0" {
            return say(code, Effect::Harmless, "is paused at 0 replicas");
        }
        let name = text(scaled, "/metadata/name");
        return say(code, Effect::Undoes, &format!("is paused, and holds it at {replicas} replicas")).mend(format!(
            "pause it without a number: kubectl annotate scaledobject {name} autoscaling.keda.sh/paused-replicas- \
             autoscaling.keda.sh/paused=true"
        ));
    }
    if annotation(&bare, "autoscaling.keda.sh/paused").is_some_and(|value| value != "false") {
        return say("keda.stopped", Effect::Harmless, "is paused");
    }
    // At a minimum of 0 it waits for its triggers, else it scales up from 0 by itself at its next look.
    let minimum = bare.pointer("/spec/minReplicaCount").and_then(Value::as_i64).unwrap_or(0);
    let every = bare.pointer("/spec/pollingInterval").and_then(Value::as_i64).unwrap_or(30);
    let (effect, when) = match (minimum, touch) {
        (0, _) => (Effect::ScalesBack, "when one of its triggers is active".to_owned()),
        (minimum, _) => (Effect::Undoes, format!("to {minimum} at its next look, every {every} s")),
    };
    say("keda.scaledObject", effect, &format!("scales it up from 0 {when}"))
        .pauses(PausePlan::new(scaled, KEDA_PAUSED))
}

/// Returns the ScaledObject that an autoscaler was made for.
fn keda_owner(autoscaler: &Value) -> Option<String> {
    let owners = autoscaler.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|owner| text(owner, "/kind") == SCALED_OBJECTS.kind)?;
    Some(text(owner, "/name"))
}

fn keda_unread(original: &Value, name: String) -> Finding {
    let namespace = text(original, "/metadata/namespace");
    let does = "scales it up from 0 by itself; you may not read how";
    Finding::new("keda.unreadable", KEDA, Effect::ScalesBack, does)
        .about(Reference { kind: SCALED_OBJECTS.kind.to_owned(), namespace, name })
        .mend("ask for the right to list scaledobjects.keda.sh")
}

/// Tells whether a label selector takes the workload's pods.
pub(crate) fn selects(selector: Option<&Value>, original: &Value) -> bool {
    let Some(selector) = selector.and_then(Value::as_object) else { return false };
    let labels = original.pointer("/spec/template/metadata/labels");
    let value = |key: &str| labels.and_then(|labels| labels.get(key)?.as_str());
    let exact = selector.get("matchLabels").and_then(Value::as_object);
    let exact = exact.into_iter().flatten().all(|(key, wanted)| value(key) == wanted.as_str());
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    exact
        && expressions.into_iter().flatten().all(|expression| {
            let live = value(&text(expression, "/key"));
            let values = expression.get("values").and_then(Value::as_array);
            let listed = values.into_iter().flatten().any(|wanted| wanted.as_str() == live && live.is_some());
            match text(expression, "/operator").as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => live.is_some(),
                "DoesNotExist" => live.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests;
