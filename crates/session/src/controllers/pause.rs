//! Pauses: a controller's own switch is set while a session lasts, on the record, and set back when it ends.
//!
//! What is about to be set stands in the session's record first. The write is valid only for the version that the
//! prior value was read from, and leaves a mark on the paused object: whose session paused it, and what the value was.
//! Several sessions may share a pause; the last that ends sets it back. What somebody else has changed stays.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use towline_cluster::ClusterError;
use towline_cluster::port::{
    APPLICATIONS, CRON_JOBS, DAEMON_SETS, DEPLOYMENTS, Object, Patch, ROLLOUTS, Resource, SCALED_OBJECTS,
    STATEFUL_SETS, WriteOptions,
};
use towline_patcher::{Pause, Record};

use super::Reference;
use crate::context::Context;
use crate::error::SessionError;
use crate::event::Event;
use crate::journal::{Journal, Written};
use crate::plan_view::Change;
use crate::pod::text;

/// On a paused object: for whom, and what the value was before, as JSON.
pub const PAUSED_BY_ANNOTATION: &str = "towline.dev/paused-by";
/// The longest mark that is read, in bytes.
const MAX_MARK_BYTES: usize = 8 * 1024;
/// Conflicts with other writers after which a write is given up.
const ATTEMPTS: usize = 20;

/// A controller's switch: the only changes that this module ever makes.
#[derive(Debug, PartialEq)]
pub(super) struct Switch {
    kinds: &'static [&'static Resource],
    path: &'static [&'static str],
    set: Setting,
    /// How it is called for people.
    words: &'static str,
}

#[derive(Debug, PartialEq)]
enum Setting {
    False,
    Text(&'static str),
}

/// `automated.enabled: false` (Argo CD 3.0): the Application is compared and shown as ever, but not synced.
pub(super) const ARGO_AUTOMATED: &Switch = &Switch {
    kinds: &[APPLICATIONS],
    path: &["spec", "syncPolicy", "automated", "enabled"],
    set: Setting::False,
    words: "spec.syncPolicy.automated.enabled: false",
};
/// Stops everything that is done for the Application, its status included.
pub(super) const ARGO_SKIP: &Switch = &Switch {
    kinds: &[APPLICATIONS],
    path: &["metadata", "annotations", "argocd.argoproj.io/skip-reconcile"],
    set: Setting::Text("true"),
    words: "annotation argocd.argoproj.io/skip-reconcile",
};
/// Flux leaves this one object out of its Kustomization.
pub(super) const FLUX_RECONCILE: &Switch = &Switch {
    kinds: WORKLOADS,
    path: &["metadata", "annotations", "kustomize.toolkit.fluxcd.io/reconcile"],
    set: Setting::Text("disabled"),
    words: "annotation kustomize.toolkit.fluxcd.io/reconcile",
};
/// Flux does not correct this one object of a HelmRelease.
pub(super) const FLUX_DRIFT: &Switch = &Switch {
    kinds: WORKLOADS,
    path: &["metadata", "annotations", "helm.toolkit.fluxcd.io/driftDetection"],
    set: Setting::Text("disabled"),
    words: "annotation helm.toolkit.fluxcd.io/driftDetection",
};
/// KEDA leaves the replicas as they are. (`paused-replicas` would set them: to 0 before the record of them is made.)
pub(super) const KEDA_PAUSED: &Switch = &Switch {
    kinds: &[SCALED_OBJECTS],
    path: &["metadata", "annotations", "autoscaling.keda.sh/paused"],
    set: Setting::Text("true"),
    words: "annotation autoscaling.keda.sh/paused",
};
const SWITCHES: &[&Switch] = &[ARGO_AUTOMATED, ARGO_SKIP, FLUX_RECONCILE, FLUX_DRIFT, KEDA_PAUSED];
/// Workloads that Flux may have made.
pub(super) const WORKLOADS: &[&Resource] = &[DEPLOYMENTS, STATEFUL_SETS, DAEMON_SETS, CRON_JOBS, ROLLOUTS];

impl Switch {
    fn value(&self) -> Value {
        match self.set {
            Setting::False => json!(false),
            Setting::Text(text) => json!(text),
        }
    }

    fn pointer(&self) -> String {
        let segments = self.path.iter().map(|segment| segment.replace('~', "~0").replace('/', "~1"));
        segments.fold(String::new(), |pointer, segment| pointer + "/" + &segment)
    }

    /// The switch as it stands on an object.
    fn read(&self, object: &Value) -> Option<Value> {
        object.pointer(&self.pointer()).filter(|value| !value.is_null()).cloned()
    }

    /// Tells whether it is on.
    fn is_set(&self, object: &Value) -> bool {
        self.read(object) == Some(self.value())
    }

    /// The merge patch that sets it to a value, if one is given (null removes it), and the mark.
    fn patch(&self, object: &Value, value: Option<Value>, mark: Option<&Mark>) -> Value {
        let mut patch = Map::new();
        let version = object.pointer("/metadata/resourceVersion").cloned();
        put(&mut patch, &["metadata", "resourceVersion"], version.unwrap_or_default());
        put(
            &mut patch,
            &["metadata", "annotations", PAUSED_BY_ANNOTATION],
            mark.map_or(Value::Null, Mark::to_value),
        );
        if let Some(value) = value {
            put(&mut patch, self.path, value);
        }
        Value::Object(patch)
    }
}

/// Sets a member, making the objects on the way to it.
fn put(object: &mut Map<String, Value>, path: &[&str], value: Value) {
    let Some((last, way)) = path.split_last() else { return };
    let mut slot = object;
    for key in way {
        let next = slot.entry((*key).to_owned()).or_insert_with(|| json!({}));
        match next.as_object_mut() {
            Some(next) => slot = next,
            None => return,
        }
    }
    slot.insert((*last).to_owned(), value);
}

/// What the mark on a paused object says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    /// The switch, as a JSON pointer.
    path: String,
    /// What it was before.
    #[serde(default)]
    pub(super) prior: Option<Value>,
    /// The sessions that want the pause: `namespace/lease/session`.
    pub(super) by: Vec<String>,
}

impl Mark {
    pub(super) fn of(object: &Value) -> Option<Self> {
        let text = super::annotation(object, PAUSED_BY_ANNOTATION)?;
        if text.len() > MAX_MARK_BYTES {
            return None;
        }
        serde_json::from_str(&text).ok()
    }

    fn to_value(&self) -> Value {
        json!(json!(self).to_string())
    }

    /// Returns the pause that it marks.
    pub(super) fn plan(&self, object: &Value) -> Option<PausePlan> {
        PausePlan::new(object, self.switch()?)
    }

    fn switch(&self) -> Option<&'static Switch> {
        SWITCHES.iter().find(|switch| switch.pointer() == self.path).copied()
    }

    /// Tells whether a session is among those that want the pause.
    fn is_by(&self, session: &str) -> bool {
        self.by.iter().any(|holder| holder.rsplit('/').next() == Some(session))
    }
}

/// Who paused an object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum PausedBy {
    /// Nobody of ours.
    Nobody,
    /// The session that goes on.
    Us,
    /// Another session: when it ends the controller wakes up.
    Others(&'static Switch),
}

/// Returns an object as it is without our pauses, and who paused it.
pub(super) fn unpaused(object: &Value, session: Option<&str>) -> (Value, PausedBy) {
    let marked = Mark::of(object).and_then(|mark| Some((mark.switch()?, mark)));
    let Some((switch, mark)) = marked.filter(|(switch, _)| switch.is_set(object)) else {
        return (object.clone(), PausedBy::Nobody);
    };
    let mut object = object.clone();
    if let Some(object) = object.as_object_mut() {
        put(object, switch.path, mark.prior.clone().unwrap_or_default());
    }
    let ours = session.is_some_and(|session| mark.is_by(session));
    (object, if ours { PausedBy::Us } else { PausedBy::Others(switch) })
}

/// A pause that may be set.
#[derive(Debug, Clone, PartialEq)]
pub struct PausePlan {
    resource: &'static Resource,
    namespace: String,
    name: String,
    uid: String,
    /// As read when the plan was made.
    before: Option<Value>,
    switch: &'static Switch,
}

impl PausePlan {
    /// Plans to pause an object; `None` for a kind that has no such switch.
    pub(super) fn new(object: &Value, switch: &'static Switch) -> Option<Self> {
        let kind = text(object, "/kind");
        let resource = switch.kinds.iter().find(|resource| resource.kind == kind)?;
        Some(Self {
            resource,
            namespace: text(object, "/metadata/namespace"),
            name: text(object, "/metadata/name"),
            uid: text(object, "/metadata/uid"),
            before: switch.read(object),
            switch,
        })
    }

    fn object(&self) -> Object {
        Object::new(self.resource, &self.namespace, &self.name)
    }

    /// Returns kind, namespace and name.
    pub fn reference(&self) -> Reference {
        let (namespace, name) = (self.namespace.clone(), self.name.clone());
        Reference { kind: self.resource.kind.to_owned(), namespace, name }
    }

    /// Returns the same in words.
    pub fn target(&self) -> String {
        self.reference().to_string()
    }

    /// Returns the field that changes.
    pub(crate) fn change(&self) -> Change {
        Change {
            path: self.switch.path.join("."),
            before: self.before.clone(),
            after: Some(self.switch.value()),
            reason: "pauses its controller until dev mode ends".to_owned(),
        }
    }

    /// Returns what is set, in words.
    pub fn words(&self) -> &'static str {
        self.switch.words
    }

    pub(super) fn recorded(&self, prior: Option<Value>) -> Pause {
        Pause {
            api_version: self.resource.api_version(),
            kind: self.resource.kind.to_owned(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            path: self.switch.pointer(),
            prior,
            set: self.switch.value(),
        }
    }

    /// Finds the plan that a record's entry was made of. Whoever may write Leases may have written the record, so
    /// nothing but a switch of ours is ever set back.
    fn of(pause: &Pause) -> Option<Self> {
        let switch = SWITCHES.iter().find(|it| it.pointer() == pause.path && it.value() == pause.set)?;
        let resource = switch
            .kinds
            .iter()
            .find(|resource| resource.kind == pause.kind && resource.api_version() == pause.api_version)?;
        Some(Self {
            resource,
            namespace: pause.namespace.clone(),
            name: pause.name.clone(),
            uid: pause.uid.clone(),
            before: pause.prior.clone(),
            switch,
        })
    }
}

/// What the server says to a pause that is only tried.
#[derive(Debug)]
pub(super) enum Trial {
    /// It can be set.
    Works,
    /// The server drops the field: the controller's version does not know it.
    Unknown,
    /// Not allowed, in the server's words.
    Denied(ClusterError),
}

/// Asks the server to do everything but store the pause.
pub(super) async fn try_out(context: &Context, plan: &PausePlan) -> Result<Trial, ClusterError> {
    let patch = json!({});
    let mut patch = patch.as_object().cloned().unwrap_or_default();
    put(&mut patch, plan.switch.path, plan.switch.value());
    let options = WriteOptions { dry_run: true };
    match context.cluster.patch(&plan.object(), &Patch::Merge(Value::Object(patch)), &options).await {
        Ok(stored) if plan.switch.is_set(&stored) => Ok(Trial::Works),
        Ok(_) => Ok(Trial::Unknown),
        Err(error @ (ClusterError::Forbidden { .. } | ClusterError::Invalid { .. })) => {
            Ok(Trial::Denied(error))
        }
        Err(error) => Err(error),
    }
}

/// Names a session on the objects that it has paused.
fn holder(record: &Record) -> String {
    let lease = towline_patcher::lease_name(&record.kind, &record.name);
    format!("{}/{lease}/{}", record.namespace, record.session)
}

/// Sets the pauses of a session, each on the record first.
pub(crate) async fn set(
    context: &Context,
    journal: &mut Journal,
    plans: &[PausePlan],
    tell: &mut (dyn FnMut(Event) + Send),
) -> Result<(), SessionError> {
    for plan in plans {
        set_one(context, journal, plan, tell).await?;
    }
    Ok(())
}

async fn set_one(
    context: &Context,
    journal: &mut Journal,
    plan: &PausePlan,
    tell: &mut (dyn FnMut(Event) + Send),
) -> Result<(), SessionError> {
    let me = holder(&journal.record);
    for attempt in 1.. {
        let found = match context.cluster.get(&plan.object()).await {
            Ok(found) if text(&found, "/metadata/uid") == plan.uid => found,
            Ok(_) => return Ok(()),
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let now = plan.switch.read(&found);
        let mark =
            Mark::of(&found).filter(|mark| mark.path == plan.switch.pointer() && plan.switch.is_set(&found));
        let (prior, mut by) = match mark {
            Some(mark) if mark.by.contains(&me) => return Ok(()),
            Some(mark) => (mark.prior, mark.by),
            // Someone else has paused it meanwhile; it is not ours to wake up.
            None if plan.switch.is_set(&found) => return Ok(()),
            None => (now, Vec::new()),
        };
        by.push(me.clone());
        let recorded = plan.recorded(prior.clone());
        if !recorded.is_plain() {
            let message =
                format!("{} has a value at {} that no controller knows", plan.target(), recorded.path);
            return Err(SessionError::Failed { message });
        }
        journal.record.remember_pause(recorded);
        if let Written::Lost(message) = journal.write(context).await? {
            return Err(SessionError::Failed { message });
        }
        let mark = Mark { path: plan.switch.pointer(), prior, by };
        let patch = plan.switch.patch(&found, Some(plan.switch.value()), Some(&mark));
        match context.cluster.patch(&plan.object(), &Patch::Merge(patch), &WriteOptions::default()).await {
            Ok(_) => {
                tell(Event::Object { action: "paused", object: plan.target() });
                return Ok(());
            }
            Err(ClusterError::Conflict { .. } | ClusterError::Ambiguous { .. }) if attempt < ATTEMPTS => {}
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    unreachable!("the loop returns")
}

/// Sets the pauses of a session back: those that are still ours. Safe to repeat; the record stays as it is, and with it
/// the Lease while this fails.
pub(crate) async fn undo(
    context: &Context,
    record: &Record,
    tell: &mut (dyn FnMut(Event) + Send),
) -> Result<(), SessionError> {
    let me = holder(record);
    let mut failed = None;
    for pause in &record.pauses {
        let Some(plan) = PausePlan::of(pause) else {
            let message = format!(
                "{} {}/{} is left as it is: towline never sets {}",
                pause.kind, pause.namespace, pause.name, pause.path
            );
            tell(Event::Warning { message });
            continue;
        };
        match undo_one(context, &me, pause, &plan).await {
            Ok(true) => tell(Event::Object { action: "unpaused", object: plan.target() }),
            Ok(false) => {}
            Err(error) => {
                failed.get_or_insert(SessionError::StillPaused {
                    object: plan.target(),
                    switch: plan.switch.words.to_owned(),
                    source: Box::new(error),
                });
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Ends a session's pause of one object. Tells whether the object was woken up now.
pub(super) async fn undo_one(
    context: &Context,
    me: &str,
    pause: &Pause,
    plan: &PausePlan,
) -> Result<bool, ClusterError> {
    for attempt in 1.. {
        let found = match context.cluster.get(&plan.object()).await {
            Ok(found) if text(&found, "/metadata/uid") == plan.uid => found,
            Ok(_) => return Ok(false),
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error),
        };
        let Some(patch) = way_back(&found, me, pause, plan.switch) else { return Ok(false) };
        match context.cluster.patch(&plan.object(), &Patch::Merge(patch), &WriteOptions::default()).await {
            Ok(stored) => return Ok(!plan.switch.is_set(&stored)),
            Err(ClusterError::Conflict { .. } | ClusterError::Ambiguous { .. }) if attempt < ATTEMPTS => {}
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    unreachable!("the loop returns")
}

/// Returns the patch that ends a session's pause of an object, if there is anything to end.
fn way_back(found: &Value, me: &str, pause: &Pause, switch: &Switch) -> Option<Value> {
    let is_set = switch.is_set(found);
    let prior = || pause.prior.clone().unwrap_or_default();
    let Some(mut mark) = Mark::of(found).filter(|mark| mark.path == pause.path) else {
        // Who generates the object may have taken the mark away and left the switch. It may also be that it was never
        // set; then it is not what we set either, or was so before.
        let ours = is_set && pause.prior.as_ref() != Some(&pause.set);
        return ours.then(|| switch.patch(found, Some(prior()), None));
    };
    let before = mark.by.len();
    mark.by.retain(|holder| holder != me);
    if mark.by.len() == before {
        return None;
    }
    if !mark.by.is_empty() {
        return Some(switch.patch(found, None, Some(&mark)));
    }
    Some(switch.patch(found, is_set.then(prior), None))
}

#[cfg(test)]
mod tests;
