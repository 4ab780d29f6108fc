//! The only write to an original that is swapped: the field that turns it off, under the journal and back again.

use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use towline_cluster::ClusterError;
use towline_cluster::port::{
    HORIZONTAL_POD_AUTOSCALERS, Object, PODS, Patch, Selection, WatchEvent, WriteOptions,
};
use towline_patcher::{Record, Restore, Switch};

use crate::context::Context;
use crate::journal::{Journal, Written};
use crate::kinds;

/// On the original for a moment while a session is taken from a holder that may still be writing.
const FENCE_ANNOTATION: &str = "towline.dev/fence";
/// Conflicts with other writers after which a write is given up for now.
pub(crate) const ATTEMPTS: usize = 20;

/// What became of a scale-down.
#[derive(Debug)]
pub(crate) enum Parked {
    /// The original is turned off, by us.
    Done,
    /// The Lease is not ours any more; nothing was written.
    Lost(String),
    /// The original is gone, or another one has its name.
    Gone,
}

/// Names the original of a record.
pub(crate) fn object(context: &Context, record: &Record) -> Object {
    Object::new(kinds::of_record(record), &context.namespace, &record.name)
}

/// Turns the original off: read, journal what was read, then write on condition that nothing changed in between,
/// so that the journal is true for the write that succeeds.
pub(crate) async fn park(context: &Context, journal: &mut Journal) -> Result<Parked, ClusterError> {
    let object = object(context, &journal.record);
    for attempt in 1.. {
        let original = match context.cluster.get(&object).await {
            Ok(original) => original,
            Err(error) if error.is_not_found() => return Ok(Parked::Gone),
            Err(error) => return Err(error),
        };
        if crate::pod::text(&original, "/metadata/uid") != journal.record.uid {
            return Ok(Parked::Gone);
        }
        if journal.record.parked && journal.record.level(&original) == 0 {
            return Ok(Parked::Done);
        }
        journal.record.observe(&original);
        if let Written::Lost(message) = journal.write(context).await? {
            return Ok(Parked::Lost(message));
        }
        let patch = Patch::Merge(towline_patcher::park(&original, &journal.record));
        match context.cluster.patch(&object, &patch, &WriteOptions::default()).await {
            Ok(_) => return Ok(Parked::Done),
            Err(error) if error.is_not_found() => return Ok(Parked::Gone),
            Err(ClusterError::Conflict { .. } | ClusterError::Ambiguous { .. }) if attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
    unreachable!("the loop returns")
}

/// Waits until the original has no pods left; its volumes and ports are free then.
pub(crate) async fn wait_until_gone(
    context: &Context,
    original: &Value,
    session: &str,
) -> Result<(), ClusterError> {
    let labels: Vec<(String, String)> = original
        .pointer("/spec/selector/matchLabels")
        .and_then(Value::as_object)
        .map(|labels| {
            labels.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
        })
        .unwrap_or_default();
    let selection = Selection { name: None, labels };
    let mut watch = context.cluster.watch(PODS, &context.namespace, &selection).await?;
    let mut left = std::collections::BTreeSet::new();
    let theirs = |pod: &Value| {
        pod.pointer("/metadata/labels")
            .and_then(|labels| labels.get(towline_patcher::SESSION_LABEL))
            .and_then(Value::as_str)
            != Some(session)
            && !matches!(pod.pointer("/status/phase").and_then(Value::as_str), Some("Succeeded" | "Failed"))
    };
    while let Some(event) = watch.next().await {
        let name = |pod: &Value| crate::pod::text(pod, "/metadata/name");
        match event {
            WatchEvent::Restarted(pods) => left = pods.iter().filter(|pod| theirs(pod)).map(name).collect(),
            WatchEvent::Applied(pod) if theirs(&pod) => {
                left.insert(name(&pod));
            }
            WatchEvent::Applied(pod) | WatchEvent::Deleted(pod) => {
                left.remove(&name(&pod));
            }
            WatchEvent::Interrupted(_) => continue,
        }
        if left.is_empty() {
            break;
        }
    }
    Ok(())
}

/// Watches a session's workload until it is as `is_so` says, or gone, for as long as `patience`. Tells whether that came.
pub(crate) async fn until(
    context: &Context,
    record: &Record,
    patience: Duration,
    is_so: impl Fn(&Value) -> bool,
) -> Result<bool, ClusterError> {
    let selection = Selection { name: Some(record.name.clone()), labels: Vec::new() };
    let mut watch = context.cluster.watch(kinds::of_record(record), &context.namespace, &selection).await?;
    let waiting = async {
        while let Some(event) = watch.next().await {
            match event {
                WatchEvent::Restarted(found) if found.iter().all(&is_so) => break,
                WatchEvent::Applied(workload) if is_so(&workload) => break,
                WatchEvent::Deleted(_) => break,
                WatchEvent::Restarted(_) | WatchEvent::Applied(_) | WatchEvent::Interrupted(_) => {}
            }
        }
    };
    Ok(tokio::time::timeout(patience, waiting).await.is_ok())
}

/// Makes every scale-down that another process of this session may still have on its way fail.
///
/// Such a write is valid only for the version it was made for, so a new version is all it takes: an annotation that
/// comes and goes. It is removed even if we die in between, since the Lease goes last and leads here again.
pub(crate) async fn fence(context: &Context, record: &Record) -> Result<(), ClusterError> {
    let object = object(context, record);
    for value in [json!(record.session), Value::Null] {
        let patch = json!({"metadata": {"annotations": {FENCE_ANNOTATION: value}}});
        match context.cluster.patch(&object, &Patch::Merge(patch), &WriteOptions::default()).await {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
    }
    Ok(())
}

/// Brings the original's replicas back, if they are still our zero, and gives the field back to those who owned it.
/// Returns the original as it stands after that, and what was done in words.
pub(crate) async fn restore(
    context: &Context,
    journal: &mut Journal,
) -> Result<(Option<Value>, String), ClusterError> {
    let object = object(context, &journal.record);
    let hpa = autoscaler_range(context, &journal.record).await;
    let mut said = String::new();
    for attempt in 1.. {
        let original = match context.cluster.get(&object).await {
            Ok(original) => Some(original),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        // Appliers that have come to own the field beside us meanwhile are written down before our write takes it
        // from them, so that it is given back to them too.
        if let Some(original) = &original
            && journal.record.join_owners(original)
            && let Written::Lost(message) = journal.write(context).await?
        {
            return Ok((Some(original.clone()), message));
        }
        let record = &journal.record;
        let patch = match towline_patcher::restore(original.as_ref(), record, hpa) {
            Restore::Scale(patch) => patch,
            Restore::Nothing { reason } => {
                if said.is_empty() {
                    said = reason;
                }
                let Some(original) = original else { return Ok((None, said)) };
                let patch = |original: &Value| towline_patcher::give_back(original, record);
                return give_back(context, &object, original, said, patch).await;
            }
            Restore::Gone => return Ok((None, "was deleted meanwhile".to_owned())),
            Restore::Replaced => return Ok((None, "was deleted and created anew meanwhile".to_owned())),
        };
        match context.cluster.patch(&object, &Patch::Merge(patch), &WriteOptions::default()).await {
            Ok(restored) => {
                said = match record.switch() {
                    Switch::Suspend => "runs on schedule again".to_owned(),
                    Switch::Replicas | Switch::None => {
                        format!("has its replicas again: {}", towline_patcher::replicas(&restored))
                    }
                };
            }
            Err(
                ClusterError::Conflict { .. } | ClusterError::Invalid { .. } | ClusterError::Ambiguous { .. },
            ) if attempt < ATTEMPTS => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    unreachable!("the loop returns")
}

/// Gives fields back to those who owned them, with the patch that `patch` makes for the original as it is. What the
/// server refuses to give back is a warning, not a failure.
pub(crate) async fn give_back(
    context: &Context,
    object: &Object,
    mut original: Value,
    said: String,
    patch: impl Fn(&Value) -> Option<Value>,
) -> Result<(Option<Value>, String), ClusterError> {
    for _ in 0..ATTEMPTS {
        let Some(patch) = patch(&original) else { break };
        match context.cluster.patch(object, &Patch::Json(patch), &WriteOptions::default()).await {
            Ok(given) => {
                original = given;
                break;
            }
            // A failed `test` of a JSON patch is 422 and can't be told from another refusal: read and decide again.
            Err(
                ClusterError::Conflict { .. } | ClusterError::Invalid { .. } | ClusterError::Ambiguous { .. },
            ) => {
                original = context.cluster.get(object).await?;
            }
            Err(error) if error.is_not_found() => return Ok((None, said)),
            Err(error @ ClusterError::Forbidden { .. }) => {
                tracing::warn!(%error, "field ownership was not given back");
                break;
            }
            // Nothing was decided: the record stays, and the next `down` gives it back.
            Err(error) => return Err(error),
        }
    }
    Ok((Some(original), said))
}

/// Returns the range of an autoscaler that targets the original; none where it can't be read.
pub(crate) async fn autoscaler_range(context: &Context, record: &Record) -> Option<(i64, i64)> {
    let list = context
        .cluster
        .list(HORIZONTAL_POD_AUTOSCALERS, Some(&context.namespace), &Selection::default())
        .await
        .ok()?;
    let target = list.iter().find(|hpa| {
        crate::pod::text(hpa, "/spec/scaleTargetRef/kind") == record.kind
            && crate::pod::text(hpa, "/spec/scaleTargetRef/name") == record.name
    })?;
    let max = target.pointer("/spec/maxReplicas")?.as_i64()?;
    let min = target.pointer("/spec/minReplicas").and_then(Value::as_i64).unwrap_or(1);
    Some((min, max))
}
