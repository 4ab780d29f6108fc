//! The way in place: the original's own template is changed under the journal, and goes back field by field.

use std::time::Duration;

use serde_json::Value;
use towline_cluster::ClusterError;
use towline_cluster::port::{
    CONTROLLER_REVISIONS, Object, PODS, Patch, REPLICA_SETS, Resource, Selection, WriteOptions,
};
use towline_patcher::{Base, DevClone, DevPlan, Record, SESSION_LABEL, holder};

use crate::context::Context;
use crate::down;
use crate::error::SessionError;
use crate::event::Event;
use crate::journal::{Journal, Written};
use crate::original::{self, ATTEMPTS};
use crate::pod::text;

/// How long a kind's controller may take to see what was written.
const OBSERVED: Duration = Duration::from_secs(10);
/// How long a kind's controller may take to keep a copy of a template, and how often is looked for it.
const KEPT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What becomes of a template that somebody else has changed.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    /// The dev container is made of the template as it is now.
    Anew,
    /// The template as it was stays until the session ends.
    Keep(Box<Value>),
}

/// What became of the change.
#[derive(Debug)]
pub(crate) enum Entered {
    /// The template is the dev container's.
    Done(Box<Value>),
    /// The Lease is not ours any more; nothing was written.
    Lost(String),
    /// The original is gone, or another one has its name.
    Gone,
    /// What it goes back to is not in the kind's history, or not yet: these fields. Nothing was written.
    NoWayBack(Vec<String>),
}

/// What is about to be written, found out by a dry run.
#[derive(Debug)]
pub(crate) struct Draft {
    /// The original without the session.
    pub(crate) base: Base,
    /// What it becomes.
    pub(crate) dev: DevClone,
    /// The patch, and the server's answer to its dry run; `None` when the original is as wanted.
    change: Option<(Value, Value)>,
}

/// Reads the history of a workload's templates.
pub(crate) async fn history(context: &Context, workload: &Value) -> Result<Vec<Value>, ClusterError> {
    let resource = match text(workload, "/kind").as_str() {
        "Deployment" | "Rollout" => REPLICA_SETS,
        "StatefulSet" | "DaemonSet" => CONTROLLER_REVISIONS,
        _ => return Ok(Vec::new()),
    };
    let all = context.cluster.list(resource, Some(&context.namespace), &Selection::default()).await?;
    Ok(towline_patcher::history(workload, &all))
}

/// Looks at the history again and again until it has all that a way back needs, five seconds at most: a kind's controller
/// keeps its copy of a template a moment after it was written. `missing` tells for a history what is not in it.
pub(crate) async fn until_kept(
    context: &Context,
    workload: &Value,
    mut missing: impl FnMut(&[Value]) -> Vec<String>,
) -> Result<Vec<String>, ClusterError> {
    let deadline = tokio::time::Instant::now() + KEPT;
    let mut pause = tokio::time::interval(LOOK_AGAIN);
    loop {
        pause.tick().await;
        let left = missing(&history(context, workload).await?);
        if left.is_empty() || tokio::time::Instant::now() >= deadline {
            return Ok(left);
        }
    }
}

/// Works out what the original becomes and asks the server about it. Writes nothing.
pub(crate) async fn draft(
    context: &Context,
    object: &Object,
    live: &Value,
    record: Option<&Record>,
    history: &[Value],
    plan: &DevPlan,
    wish: &Wish,
) -> Result<Draft, SessionError> {
    let base = match record {
        Some(record) => towline_patcher::base(live, record, history),
        None => Base { object: live.clone(), kept: Vec::new(), missing: Vec::new(), was_ours: false },
    };
    let holder = holder(live, plan.template.as_deref()).map_err(towline_patcher::PlanError::from)?;
    let mut dev = towline_patcher::dev_of(&base.object, &holder, plan)?;
    if let Wish::Keep(template) = wish
        && let Some(slot) = dev.object.pointer_mut(&holder.template)
    {
        slot.clone_from(template);
    }
    let change = match towline_patcher::change(live, &dev.object) {
        Some(patch) => {
            let options = WriteOptions { dry_run: true };
            let dry = context.cluster.patch(object, &Patch::Merge(patch.clone()), &options).await?;
            crate::plan::no_drift(&object.to_string(), &dev.object["spec"], &dry["spec"])?;
            Some((patch, dry))
        }
        None => None,
    };
    Ok(Draft { base, dev, change })
}

impl Draft {
    /// Takes it up in a record; returns the fields without a way back.
    pub(crate) fn observe(&self, record: &mut Record, live: &Value, history: &[Value]) -> Vec<String> {
        let after = self.change.as_ref().map_or(live, |(_, dry)| dry);
        let mut missing = record.observe_in_place(live, &self.base.object, after, history);
        missing.extend(self.base.missing.iter().cloned());
        missing
    }
}

/// Changes the template: read, ask, journal what would come, then write on condition that nothing changed in between, so
/// that the journal is true for the write that succeeds.
pub(crate) async fn enter(
    context: &Context,
    journal: &mut Journal,
    plan: &DevPlan,
    wish: &Wish,
) -> Result<Entered, SessionError> {
    let object = original::object(context, &journal.record);
    for attempt in 1.. {
        let live = match context.cluster.get(&object).await {
            Ok(live) => live,
            Err(error) if error.is_not_found() => return Ok(Entered::Gone),
            Err(error) => return Err(error.into()),
        };
        if text(&live, "/metadata/uid") != journal.record.uid {
            return Ok(Entered::Gone);
        }
        let history = history(context, &live).await?;
        let draft = match draft(context, &object, &live, Some(&journal.record), &history, plan, wish).await {
            Err(SessionError::Cluster(ClusterError::Conflict { .. })) if attempt < ATTEMPTS => continue,
            drafted => drafted?,
        };
        if draft.change.is_none() && journal.record.is_as_left(&live) {
            choose_pod(context, &journal.record, &live, false).await?;
            return Ok(Entered::Done(Box::new(live)));
        }
        let mut record = journal.record.clone();
        let missing =
            until_kept(context, &live, |history| draft.observe(&mut record, &live, history)).await?;
        if !missing.is_empty() {
            return Ok(Entered::NoWayBack(missing));
        }
        journal.record = record;
        if let Written::Lost(message) = journal.write(context).await? {
            return Ok(Entered::Lost(message));
        }
        let Some((patch, _)) = draft.change else {
            choose_pod(context, &journal.record, &live, false).await?;
            return Ok(Entered::Done(Box::new(live)));
        };
        match context.cluster.patch(&object, &Patch::Merge(patch), &WriteOptions::default()).await {
            Ok(stored) => {
                if journal.record.settle_in_place(&stored)
                    && let Written::Lost(message) = journal.write(context).await?
                {
                    return Ok(Entered::Lost(message));
                }
                choose_pod(context, &journal.record, &stored, matches!(wish, Wish::Anew)).await?;
                return Ok(Entered::Done(Box::new(stored)));
            }
            Err(error) if error.is_not_found() => return Ok(Entered::Gone),
            Err(ClusterError::Conflict { .. } | ClusterError::Ambiguous { .. }) if attempt < ATTEMPTS => {}
            Err(error) => return Err(error.into()),
        }
    }
    unreachable!("the loop returns")
}

/// Says that a template can't be changed, since it could not be changed back.
pub(crate) fn no_way_back(what: &str, fields: &[String]) -> SessionError {
    SessionError::Refused {
        what: what.to_owned(),
        why: format!("its history keeps no copy of {}, which down would need", fields.join(", ")),
        hint: "set spec.revisionHistoryLimit to 2 or more, or leave --in-place out".to_owned(),
    }
}

/// Takes the session out of the original's template. Returns the original as it stands after that, and what was done in
/// words.
pub(crate) async fn leave(
    context: &Context,
    journal: &Journal,
) -> Result<(Option<Value>, String), ClusterError> {
    let record = &journal.record;
    let object = original::object(context, record);
    let mut said = "was not changed".to_owned();
    for attempt in 1.. {
        let live = match context.cluster.get(&object).await {
            Ok(live) => live,
            Err(error) if error.is_not_found() => return Ok((None, "was deleted meanwhile".to_owned())),
            Err(error) => return Err(error),
        };
        if text(&live, "/metadata/uid") != record.uid {
            return Ok((None, "was deleted and created anew meanwhile".to_owned()));
        }
        let history = history(context, &live).await?;
        let base = towline_patcher::base(&live, record, &history);
        let Some(patch) = towline_patcher::change(&live, &base.object) else {
            let patch = |live: &Value| {
                let base = towline_patcher::base(live, record, &history);
                towline_patcher::give_fields_back(live, record, &base)
            };
            return original::give_back(context, &object, live, said, patch).await;
        };
        match context.cluster.patch(&object, &Patch::Merge(patch), &WriteOptions::default()).await {
            Ok(_) => "has its template again".clone_into(&mut said),
            Err(
                ClusterError::Conflict { .. } | ClusterError::Invalid { .. } | ClusterError::Ambiguous { .. },
            ) if attempt < ATTEMPTS => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    unreachable!("the loop returns")
}

/// Makes one pod of a DaemonSet the dev pod: its controller replaces what is deleted, and nothing else meanwhile. Where
/// the template was made `anew`, a dev pod of the one before gives its place to the next.
async fn choose_pod(
    context: &Context,
    record: &Record,
    original: &Value,
    anew: bool,
) -> Result<(), SessionError> {
    if record.kind != "DaemonSet" {
        return Ok(());
    }
    until_observed(context, record, original).await?;
    let pods = pods_of(context, original).await?;
    let dev = pods.iter().find(|pod| is_of(pod, &record.session));
    if dev.is_some() && !anew {
        return Ok(());
    }
    let lasting = |pod: &&Value| pod.pointer("/metadata/deletionTimestamp").is_none();
    match dev.or_else(|| pods.iter().find(lasting)) {
        Some(pod) => delete_pod(context, pod, &mut |_| {}).await,
        None => Ok(()),
    }
}

/// Deletes the dev pods whose kind's own controller might leave them as they are: those of a `StatefulSet` below its
/// partition, or of a kind that replaces pods on deletion only.
pub(crate) async fn replace_pods(
    context: &Context,
    record: &Record,
    original: &Value,
    tell: &mut (dyn FnMut(Event) + Send),
) -> Result<(), SessionError> {
    if !matches!(record.kind.as_str(), "StatefulSet" | "DaemonSet") {
        return Ok(());
    }
    until_observed(context, record, original).await?;
    for pod in pods_of(context, original).await?.iter().filter(|pod| is_of(pod, &record.session)) {
        delete_pod(context, pod, tell).await?;
    }
    Ok(())
}

/// Takes the session's own revisions out of the kind's history, so that `kubectl rollout undo` never leads into a dev
/// container. Without the right to, they stay.
pub(crate) async fn forget_revisions(context: &Context, record: &Record) -> Result<(), SessionError> {
    let resource: &'static Resource = match record.kind.as_str() {
        "Deployment" | "Rollout" => REPLICA_SETS,
        "StatefulSet" | "DaemonSet" => CONTROLLER_REVISIONS,
        _ => return Ok(()),
    };
    let selection =
        Selection { name: None, labels: vec![(SESSION_LABEL.to_owned(), record.session.clone())] };
    let revisions = match context.cluster.list(resource, Some(&context.namespace), &selection).await {
        Ok(revisions) => revisions,
        Err(ClusterError::Forbidden { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for revision in revisions.iter().filter(|found| is_owned(found, &record.uid)) {
        let object = Object::new(resource, &context.namespace, text(revision, "/metadata/name"));
        match down::delete(context, &object, Some(text(revision, "/metadata/uid")), &mut |_| {}).await {
            Ok(()) | Err(SessionError::Cluster(ClusterError::Forbidden { .. })) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits until the kind's controller has seen a workload as it is in `written`, ten seconds at most: in the place of a
/// pod that is deleted before that it may make one of the template as it was.
async fn until_observed(context: &Context, record: &Record, written: &Value) -> Result<(), ClusterError> {
    let generation = generation(written);
    let has_seen = |workload: &Value| {
        text(workload, "/metadata/uid") != record.uid || observed(workload).is_some_and(|it| it >= generation)
    };
    if has_seen(written) {
        return Ok(());
    }
    if !original::until(context, record, OBSERVED, has_seen).await? {
        tracing::warn!(workload = record.name, "its controller has not seen its template after ten seconds");
    }
    Ok(())
}

/// Returns the version of a workload's spec.
pub(crate) fn generation(workload: &Value) -> i64 {
    workload.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0)
}

/// Returns the version of its spec that a workload's controller has seen; that of a Rollout writes it as text.
pub(crate) fn observed(workload: &Value) -> Option<i64> {
    let seen = workload.pointer("/status/observedGeneration")?;
    Some(seen.as_i64().or_else(|| seen.as_str()?.parse().ok()).unwrap_or(0))
}

async fn pods_of(context: &Context, original: &Value) -> Result<Vec<Value>, ClusterError> {
    let uid = text(original, "/metadata/uid");
    let mut pods = context.cluster.list(PODS, Some(&context.namespace), &Selection::default()).await?;
    pods.retain(|pod| is_owned(pod, &uid));
    Ok(pods)
}

async fn delete_pod(
    context: &Context,
    pod: &Value,
    tell: &mut (dyn FnMut(Event) + Send),
) -> Result<(), SessionError> {
    let object = Object::new(PODS, &context.namespace, text(pod, "/metadata/name"));
    down::delete(context, &object, Some(text(pod, "/metadata/uid")), tell).await
}

fn is_owned(object: &Value, uid: &str) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().any(|owner| owner["uid"] == uid && owner["controller"] == true)
}

fn is_of(pod: &Value, session: &str) -> bool {
    let labels = pod.pointer("/metadata/labels");
    labels.and_then(|labels| labels.get(SESSION_LABEL)?.as_str()) == Some(session)
}
