//! Flux and Helm: whose Kustomization or release the workload is of, how often it is corrected, and how it is left out.

use serde_json::Value;
use towline_cluster::ClusterError;
use towline_cluster::port::{
    HELM_RELEASES, HELM_RELEASES_V2BETA2, KUSTOMIZATIONS, KUSTOMIZATIONS_V1BETA2, Resource,
};

use super::pause::{self, FLUX_DRIFT, FLUX_RECONCILE, PausePlan, PausedBy};
use super::read::{self, Read};
use super::standing::Standing;
use super::{Effect, Finding, Reference, Touch, annotation, label, off_switch, turns_on};
use crate::context::Context;
use crate::pod::{condition, text};

const NAME: &str = "Flux";
const KUSTOMIZE: &str = "kustomize.toolkit.fluxcd.io";
const HELM: &str = "helm.toolkit.fluxcd.io";
/// More often than this, in seconds, and three corrections in ten minutes do not last.
const PATIENCE: u64 = 200;

/// What was read of Flux.
#[derive(Debug)]
pub(super) struct Seen {
    kustomization: Option<(Reference, Read<Value>)>,
    release: Option<(Reference, Read<Value>)>,
}

/// Reads the Kustomization and the HelmRelease that the workload's labels name.
pub(super) async fn read(context: &Context, original: &Value) -> Result<Seen, ClusterError> {
    Ok(Seen {
        kustomization: owner(context, original, KUSTOMIZE, &[KUSTOMIZATIONS, KUSTOMIZATIONS_V1BETA2]).await?,
        release: owner(context, original, HELM, &[HELM_RELEASES, HELM_RELEASES_V2BETA2]).await?,
    })
}

async fn owner(
    context: &Context,
    original: &Value,
    group: &str,
    versions: &[&'static Resource],
) -> Result<Option<(Reference, Read<Value>)>, ClusterError> {
    let part = |part: &str| label(original, &format!("{group}/{part}")).filter(|value| !value.is_empty());
    let (Some(name), Some(namespace)) = (part("name"), part("namespace")) else { return Ok(None) };
    let found = read::get(context, versions, &namespace, &name).await?;
    let kind = versions.first().map_or("", |resource| resource.kind).to_owned();
    Ok(Some((Reference { kind, namespace, name }, found)))
}

/// What Flux and Helm mean for the session.
pub(super) fn findings(original: &Value, seen: &Seen, touch: Touch, session: Option<&str>) -> Vec<Finding> {
    let (bare, paused_by) = pause::unpaused(original, session);
    let mut findings = Vec::new();
    if let Some((reference, found)) = &seen.kustomization {
        findings.push(kustomization(&bare, paused_by, found, touch).about(reference.clone()));
    }
    if let Some((reference, found)) = &seen.release {
        findings.push(release(&bare, paused_by, found, touch).about(reference.clone()));
    } else if let Some(release) = annotation(original, "meta.helm.sh/release-name") {
        findings.extend(helm(original, &release, touch));
    }
    findings
}

/// Whether Flux's objects say that all of theirs is as it is in Git.
pub(super) fn standings(seen: &Seen) -> Vec<Standing> {
    let owners = [("kustomization", &seen.kustomization), ("helmrelease", &seen.release)];
    owners.into_iter().filter_map(|(word, owner)| standing(word, owner.as_ref()?)).collect()
}

fn standing(word: &str, (reference, found): &(Reference, Read<Value>)) -> Option<Standing> {
    let Read::Found(object) = found else { return None };
    let ready = condition(object, "Ready");
    let is_suspended = object.pointer("/spec/suspend") == Some(&Value::Bool(true));
    let in_sync = ready.is_some_and(|ready| text(ready, "/status") == "True") && !is_suspended;
    let why = match ready {
        _ if in_sync => None,
        _ if is_suspended => Some("it is suspended".to_owned()),
        Some(ready) => Some(text(ready, "/message")),
        None => Some("it has not been applied yet".to_owned()),
    };
    let verb = if is_suspended { "resume" } else { "reconcile" };
    let hint = format!("flux {verb} {word} {} -n {}", reference.name, reference.namespace);
    Some(Standing { who: format!("{NAME} ({reference})"), in_sync, why, hint: (!in_sync).then_some(hint) })
}

fn kustomization(original: &Value, paused_by: PausedBy, found: &Read<Value>, touch: Touch) -> Finding {
    let harmless = |code, does: &str| Finding::new(code, NAME, Effect::Harmless, does);
    if paused_by == PausedBy::Us {
        return harmless("flux.paused", "leaves it out, by this session")
            .answer("it goes on when dev mode ends");
    }
    if annotation(original, &format!("{KUSTOMIZE}/reconcile")).as_deref() == Some("disabled") {
        return harmless("flux.disabled", "is told to leave it out");
    }
    let ssa = annotation(original, &format!("{KUSTOMIZE}/ssa")).unwrap_or_default();
    if matches!(ssa.as_str(), "Ignore" | "IfNotPresent") {
        return harmless("flux.disabled", "is told to leave it as it is");
    }
    let read = match found {
        Read::Found(read) => Some(read),
        Read::Absent => return harmless("flux.gone", "made it, and its Kustomization is gone"),
        Read::Denied => None,
    };
    if read.is_some_and(|read| read.pointer("/spec/suspend") == Some(&Value::Bool(true))) {
        return harmless("flux.suspended", "is suspended")
            .answer("whoever resumes it scales the original up");
    }
    if touch == Touch::Replicas && turns_on(original, &["kustomize-controller"]) == Some(false) {
        return harmless("flux.replicasNotInGit", "applies no replicas to it, and nothing else is changed");
    }
    let seconds = read.and_then(|read| seconds(&text(read, "/spec/interval")));
    corrected("flux.kustomization", seconds, touch).pauses(PausePlan::new(original, FLUX_RECONCILE))
}

fn release(original: &Value, paused_by: PausedBy, found: &Read<Value>, touch: Touch) -> Finding {
    let harmless = |code, does: &str| Finding::new(code, NAME, Effect::Harmless, does);
    if paused_by == PausedBy::Us {
        return harmless("flux.paused", "does not correct it, by this session")
            .answer("it goes on when dev mode ends");
    }
    let read = match found {
        Read::Found(read) => Some(read),
        Read::Absent => return harmless("flux.gone", "made it, and its HelmRelease is gone"),
        Read::Denied => None,
    };
    if read.is_some_and(|read| read.pointer("/spec/suspend") == Some(&Value::Bool(true))) {
        return harmless("flux.suspended", "is suspended")
            .answer("whoever resumes it may scale the original up");
    }
    if touch == Touch::Replicas && turns_on(original, &["helm-controller"]) == Some(false) {
        return harmless("flux.replicasNotInChart", "applies no replicas to it, and nothing else is changed");
    }
    let told = annotation(original, &format!("{HELM}/driftDetection")).as_deref() == Some("disabled");
    let corrects = read.is_none_or(|read| {
        text(read, "/spec/driftDetection/mode") == "enabled"
            && !(touch == Touch::Replicas && drift_ignored(read, original))
    });
    if told || !corrects {
        let does = "does not correct it, but an upgrade of the release writes it anew";
        return Finding::new("flux.helmRelease", NAME, Effect::ScalesBack, does);
    }
    let seconds = read.and_then(|read| seconds(&text(read, "/spec/interval")));
    corrected("flux.drift", seconds, touch).pauses(PausePlan::new(original, FLUX_DRIFT))
}

/// What a correction every so many seconds means.
fn corrected(code: &'static str, seconds: Option<u64>, touch: Touch) -> Finding {
    let often = seconds.is_some_and(|seconds| seconds <= PATIENCE) || touch == Touch::Template;
    let effect = if often { Effect::Undoes } else { Effect::ScalesBack };
    let every = seconds
        .map_or("at an interval that you may not read".to_owned(), |seconds| format!("every {seconds} s"));
    Finding::new(
        code,
        NAME,
        effect,
        format!("writes the original as it is in Git {every}, and with each commit"),
    )
}

/// Tells whether a HelmRelease's drift detection leaves the replicas alone.
fn drift_ignored(release: &Value, original: &Value) -> bool {
    let rules = release.pointer("/spec/driftDetection/ignore").and_then(Value::as_array);
    rules.into_iter().flatten().any(|rule| {
        let paths = rule.get("paths").and_then(Value::as_array);
        let fits = |pointer: &str, value: String| {
            let wanted = text(rule, pointer);
            wanted.is_empty() || wanted == value
        };
        let field = format!("/spec/{}", off_switch(original));
        let covers = |path: &str| path == field || matches!(path, "/spec" | "");
        paths.into_iter().flatten().filter_map(Value::as_str).any(covers)
            && fits("/target/kind", text(original, "/kind"))
            && fits("/target/name", text(original, "/metadata/name"))
    })
}

/// What a release that people or a pipeline install means; nothing where its chart sets no replicas.
fn helm(original: &Value, release: &str, touch: Touch) -> Option<Finding> {
    if touch == Touch::Replicas && turns_on(original, &["helm"]) == Some(false) {
        return None;
    }
    let entries = original.pointer("/metadata/managedFields").and_then(Value::as_array);
    let applies = entries
        .into_iter()
        .flatten()
        .any(|entry| text(entry, "/manager") == "helm" && text(entry, "/operation") == "Apply");
    let finding = if applies {
        let does = format!("fails to upgrade release {release} meanwhile: the conflict names towline");
        Finding::new("helm.conflict", "Helm", Effect::Harmless, does)
            .answer("ownership is given back on the way out")
    } else {
        let does = format!("writes the original anew when release {release} is upgraded");
        Finding::new("helm.release", "Helm", Effect::ScalesBack, does)
    };
    Some(finding.about(Reference {
        kind: "release".to_owned(),
        namespace: annotation(original, "meta.helm.sh/release-namespace").unwrap_or_default(),
        name: release.to_owned(),
    }))
}

/// Reads a duration as Go writes it (`1h30m`, `90s`), in whole seconds.
fn seconds(duration: &str) -> Option<u64> {
    let mut rest = duration;
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, factor) = [("ms", 0.001), ("h", 3600.0), ("m", 60.0), ("s", 1.0)]
            .into_iter()
            .find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        total += number * factor;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "no digit is negative; a cast saturates"
    )]
    (!duration.is_empty()).then_some(total.round() as u64)
}

#[cfg(test)]
mod tests;
