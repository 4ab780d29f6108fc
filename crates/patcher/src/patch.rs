//! The way in by swap: the clone, the pod it will make, and the one write to the original.

mod edits;
mod template;
mod volumes;

use serde_json::{Map, Value, json};

use self::edits::{Edits, child, malformed};
pub use self::edits::{FieldChange, HIDDEN};
use crate::names::{self, SESSION_LABEL};
use crate::plan::{DevPlan, PlanError};
use crate::workload::{items, must_go_first, text};

/// A workload's clone that runs the dev container.
#[derive(Debug, Clone, PartialEq)]
pub struct DevClone {
    /// What is to be created.
    pub object: Value,
    /// How its spec differs from the original's, in the order of the changes.
    pub changes: Vec<FieldChange>,
    /// Why the original must be scaled down, and its pods gone, before the clone is created. `None`: the clone may
    /// come first, so that the service is never without a pod.
    pub down_first: Option<String>,
}

/// Returns the clone of a live Deployment, changed as planned.
///
/// The spec is the original's with the documented changes, fields that we do not know included. Of the original's
/// metadata nothing is copied, so that no controller takes the clone for its own and prunes or adopts it; an owner
/// reference, not a controlling one, lets it go with the original.
pub fn clone_of(original: &Value, plan: &DevPlan) -> Result<DevClone, PlanError> {
    if !names::is_session(&plan.session) {
        return Err(PlanError::Session { session: plan.session.clone() });
    }
    if !names::is_label_value(&plan.dev_name) || plan.dev_name.is_empty() {
        return Err(PlanError::LabelValue {
            label: names::DEV_NAME_LABEL.to_owned(),
            value: plan.dev_name.clone(),
        });
    }
    let name = required(original, "/metadata/name")?;
    let mut spec = original
        .get("spec")
        .and_then(Value::as_object)
        .cloned()
        .ok_or_else(|| malformed("", "spec", "an object"))?;
    let mut edits = Edits::default();
    let taken = selector_labels(original);
    template::edit(&mut spec, plan, &taken, &mut edits)?;
    edit_spec(&mut spec, plan, &mut edits)?;
    let mut metadata = json!({
        "name": names::clone_name(name, &plan.session),
        "labels": names::labels(&plan.session, &plan.dev_name),
        "annotations": {
            "argocd.argoproj.io/compare-options": "IgnoreExtraneous",
            "argocd.argoproj.io/sync-options": "Prune=false",
        },
        "ownerReferences": [{
            "apiVersion": required(original, "/apiVersion")?,
            "kind": required(original, "/kind")?,
            "name": name,
            "uid": required(original, "/metadata/uid")?,
            "controller": false,
            "blockOwnerDeletion": false,
        }],
    });
    if let Some(namespace) = text(original, "/metadata/namespace") {
        metadata["namespace"] = json!(namespace);
    }
    Ok(DevClone {
        object: json!({
            "apiVersion": required(original, "/apiVersion")?,
            "kind": required(original, "/kind")?,
            "metadata": metadata,
            "spec": spec,
        }),
        changes: edits.into_changes(),
        down_first: must_go_first(original, &plan.claims),
    })
}

/// Returns the pod that the clone will make, for the server's dry run: Pod Security, quota and webhooks refuse pods,
/// while the Deployment that makes them is accepted.
pub fn pod_of(clone: &Value) -> Value {
    let name = text(clone, "/metadata/name").unwrap_or("towline");
    let template = clone.pointer("/spec/template");
    let part =
        |key: &str| template.and_then(|template| template.get(key)).cloned().unwrap_or_else(|| json!({}));
    let mut metadata = part("metadata");
    if let Some(members) = metadata.as_object_mut() {
        members.retain(|key, _| key == "labels" || key == "annotations");
        members.insert("generateName".to_owned(), json!(format!("{name}-")));
        if let Some(namespace) = text(clone, "/metadata/namespace") {
            members.insert("namespace".to_owned(), json!(namespace));
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": part("spec")})
}

/// Returns the merge patch that scales the original to 0, valid for exactly this version of exactly this object.
///
/// The record written just before holds what this version had, so it is true for the write that succeeds.
pub fn park(original: &Value) -> Value {
    scale(original, 0)
}

/// Returns the guarded merge patch that sets `spec.replicas`.
pub(crate) fn scale(original: &Value, replicas: i64) -> Value {
    json!({
        "metadata": {
            "uid": original.pointer("/metadata/uid"),
            "resourceVersion": original.pointer("/metadata/resourceVersion"),
        },
        "spec": {"replicas": replicas},
    })
}

fn edit_spec(spec: &mut Map<String, Value>, plan: &DevPlan, edits: &mut Edits) -> Result<(), PlanError> {
    edits.set(spec, "spec", "replicas", json!(1), "one dev container");
    edits.set(spec, "spec", "strategy", json!({"type": "Recreate"}), "two dev containers never run at once");
    edits.set(spec, "spec", "progressDeadlineSeconds", json!(120), "a start that fails is said early");
    edits.remove(spec, "spec", "paused", "a paused clone makes no pod");
    edits.remove(spec, "spec", "minReadySeconds", "the dev container counts as soon as it runs");
    let selector = child(spec, "spec", "selector")?;
    let labels = child(selector, "spec.selector", "matchLabels")?;
    edits.set(
        labels,
        "spec.selector.matchLabels",
        SESSION_LABEL,
        json!(plan.session),
        "tells the clone's pods from the original's",
    );
    Ok(())
}

/// The labels that the workload selects its pods by.
fn selector_labels(original: &Value) -> Vec<&str> {
    let exact = original.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    let expressions = items(original, "/spec/selector/matchExpressions");
    exact
        .into_iter()
        .flat_map(Map::keys)
        .map(String::as_str)
        .chain(expressions.iter().filter_map(|expression| text(expression, "/key")))
        .collect()
}

fn required<'a>(object: &'a Value, pointer: &str) -> Result<&'a str, PlanError> {
    text(object, pointer)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| malformed("", &pointer[1..].replace('/', "."), "a string"))
}
