//! Who else writes to a workload, and what that means for a session: Argo CD, Flux, Helm, autoscalers and others.
//!
//! Reading takes a missing kind and a missing right for an answer. What follows from what was read is pure: a list of
//! [`Finding`]s, each a line for people and a stable code for programs. What is done about them is decided in [`truce`]
//! and carried out in [`pause`].

mod argo;
mod flux;
pub mod forgotten;
mod ignored;
mod other;
pub mod pause;
mod read;
mod scaling;
pub mod standing;
pub mod truce;

use serde::Serialize;
use serde_json::Value;
use towline_cluster::port::Resource;

use self::pause::PausePlan;
pub(crate) use self::scaling::selects;
use crate::context::Context;
use crate::error::SessionError;
use crate::pod::text;

/// Which part of the original a session writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// `spec.replicas` alone: a clone takes the original's place.
    Replicas,
    /// The pod template.
    Template,
}

/// What a controller does to a session, the mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// It keeps out of the session's way.
    Harmless,
    /// It may take back what the session changed, now and then: that is countered, three times in ten minutes at most.
    ScalesBack,
    /// It takes it back again and again, sooner than that allows. Refused unless it is paused.
    Undoes,
    /// Dev mode is not possible on this workload.
    Excludes,
}

/// An object in the cluster, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Reference {
    fn of(resource: &Resource, object: &Value) -> Self {
        Self {
            kind: resource.kind.to_owned(),
            namespace: text(object, "/metadata/namespace"),
            name: text(object, "/metadata/name"),
        }
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// One controller that has to do with the workload, and what it means for the session.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What it is, for programs: `argocd.selfHeal`. Listed in `docs/controllers.md`.
    pub code: &'static str,
    /// The controller's name.
    pub controller: &'static str,
    /// The object of the controller's that is about the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<Reference>,
    /// What it does to the session.
    pub effect: Effect,
    /// What it will do, in words that follow its name.
    pub does: String,
    /// What is done about it.
    pub answer: String,
    /// What the user or the owner of the controller can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
    /// How it can be paused, the best way first.
    #[serde(skip)]
    pub pauses: Vec<PausePlan>,
}

impl Finding {
    fn new(code: &'static str, controller: &'static str, effect: Effect, does: impl Into<String>) -> Self {
        let answer = match effect {
            Effect::Harmless => "nothing to do",
            Effect::ScalesBack => "it is watched, and undone at once, three times in ten minutes at most",
            Effect::Undoes => "dev mode would not last",
            Effect::Excludes => "dev mode is not possible here",
        };
        Self {
            code,
            controller,
            object: None,
            effect,
            does: does.into(),
            answer: answer.to_owned(),
            mend: None,
            pauses: Vec::new(),
        }
    }

    fn about(mut self, object: Reference) -> Self {
        self.object = Some(object);
        self
    }

    fn answer(mut self, answer: impl Into<String>) -> Self {
        self.answer = answer.into();
        self
    }

    fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }

    fn pauses(mut self, pauses: impl IntoIterator<Item = PausePlan>) -> Self {
        self.pauses = pauses.into_iter().collect();
        self
    }

    /// Returns who it is, in words: the controller and its object.
    pub fn who(&self) -> String {
        match &self.object {
            Some(object) => format!("{} ({object})", self.controller),
            None => self.controller.to_owned(),
        }
    }

    /// Returns the finding as one line.
    pub fn line(&self) -> String {
        format!("{} {}; {}", self.who(), self.does, self.answer)
    }
}

/// Looks for everyone who writes to a workload, or is moved by it. Writes nothing.
///
/// `session` is the session that goes on, if one does: what it has paused is paused for it.
pub async fn look(
    context: &Context,
    original: &Value,
    touch: Touch,
    session: Option<&str>,
) -> Result<Vec<Finding>, SessionError> {
    let (argo, flux, scaling, other) = futures::try_join!(
        argo::read(context, original),
        flux::read(context, original),
        scaling::read(context),
        other::read(context),
    )?;
    let mut findings = argo::findings(original, &argo, touch, session);
    findings.extend(flux::findings(original, &flux, touch, session));
    findings.extend(scaling::findings(original, &scaling, touch, session));
    findings.extend(other::findings(original, &other, touch));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.effect));
    Ok(findings)
}

/// The field of a spec that turns the workload off.
fn off_switch(original: &Value) -> &'static str {
    if matches!(text(original, "/kind").as_str(), "CronJob" | "Job") { "suspend" } else { "replicas" }
}

/// Tells whether what was applied last sets the field that turns the workload off; `None` where nothing says so.
///
/// `managers` are the field managers that the controller writes as. A client-side apply keeps its whole input in an
/// annotation, which is looked at for this one field.
fn turns_on(original: &Value, managers: &[&str]) -> Option<bool> {
    let applied = text(original, "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration");
    if let Ok(applied) = serde_json::from_str::<Value>(&applied) {
        let set = applied.get("spec").and_then(|spec| spec.get(off_switch(original)));
        return Some(set.is_some_and(|set| !set.is_null()));
    }
    let entries = original.pointer("/metadata/managedFields").and_then(Value::as_array);
    let field = format!("/fieldsV1/f:spec/f:{}", off_switch(original));
    let of_managers = entries
        .into_iter()
        .flatten()
        .filter(|entry| managers.contains(&text(entry, "/manager").as_str()))
        .filter(|entry| text(entry, "/subresource").is_empty());
    let owns: Vec<bool> = of_managers.map(|entry| entry.pointer(&field).is_some()).collect();
    (!owns.is_empty()).then(|| owns.contains(&true))
}

/// Tells whether one of an object's managers is of this name.
fn is_managed_by(object: &Value, manager: &str) -> bool {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries.into_iter().flatten().any(|entry| text(entry, "/manager") == manager)
}

/// Returns a label or annotation.
fn label(object: &Value, key: &str) -> Option<String> {
    object.pointer("/metadata/labels")?.get(key)?.as_str().map(str::to_owned)
}

/// Returns an annotation.
fn annotation(object: &Value, key: &str) -> Option<String> {
    object.pointer("/metadata/annotations")?.get(key)?.as_str().map(str::to_owned)
}

/// Tells whether a reference (`apiVersion`, `kind`, `name`) names the workload; kind and version may be left out
/// where the referring kind has a default for them.
fn names(reference: Option<&Value>, original: &Value) -> bool {
    let Some(reference) = reference else { return false };
    let group = |version: &str| version.rsplit_once('/').map_or("", |(group, _)| group).to_owned();
    let (kind, version) = (text(reference, "/kind"), text(reference, "/apiVersion"));
    text(reference, "/name") == text(original, "/metadata/name")
        && (if kind.is_empty() { "Deployment" } else { &kind }) == text(original, "/kind")
        && (version.is_empty() || group(&version) == group(&text(original, "/apiVersion")))
}

/// The group of an object's `apiVersion`.
fn group_of(object: &Value) -> String {
    let version = text(object, "/apiVersion");
    version.split_once('/').map_or(String::new(), |(group, _)| group.to_owned())
}
