//! The way in: the dev pod's template, the clone that makes it, and the one write to an original that is swapped.

mod edits;
mod spec;
mod template;
mod volumes;

use serde_json::{Map, Value, json};

use self::edits::{Edits, child, malformed};
pub use self::edits::{FieldChange, HIDDEN};
use crate::holder::{Holder, SPEC_TEMPLATE, Switch, holder};
use crate::names::{self, SESSION_LABEL};
use crate::plan::{DevPlan, PlanError};
use crate::record::Record;
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

/// Returns the clone of a live workload, changed as planned: a Deployment, whatever kind the original is of.
///
/// A Deployment's spec is the original's with the documented changes, fields that we do not know included; of another
/// kind it is its pod template. Of the original's
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
    let holder = holder(original, plan.template.as_deref())?;
    let mut edits = Edits::default();
    let mut spec = spec::of_clone(original, &holder, &mut edits)?;
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
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": spec,
        }),
        changes: edits.into_changes(),
        down_first: match holder.switch {
            Switch::Replicas => must_go_first(original, &holder.template, &plan.claims),
            Switch::Suspend | Switch::None => None,
        },
    })
}

/// Returns the original with the dev container in its own template, for the way in place. Nothing is sent yet.
pub(crate) fn in_its_place(
    original: &Value,
    holder: &Holder,
    plan: &DevPlan,
) -> Result<(Value, Vec<FieldChange>), PlanError> {
    let mut changed = original.clone();
    let mut edits = Edits::default();
    let slot = changed
        .pointer_mut(&holder.template)
        .ok_or_else(|| malformed("", &holder.template[1..].replace('/', "."), "a pod template"))?;
    let mut spec = Map::from_iter([("template".to_owned(), slot.take())]);
    template::edit(&mut spec, plan, &selector_labels(original), &mut edits)?;
    *slot = spec.remove("template").unwrap_or_default();
    spec::hold_others(&mut changed, &mut edits)?;
    Ok((changed, edits.into_changes()))
}

/// Returns the pod that the clone will make, for the server's dry run: Pod Security, quota and webhooks refuse pods,
/// while the Deployment that makes them is accepted.
pub fn pod_of(clone: &Value) -> Value {
    pod_at(clone, SPEC_TEMPLATE)
}

/// Returns the pod that a workload will make whose template is at a JSON pointer.
pub fn pod_at(clone: &Value, template: &str) -> Value {
    let name = text(clone, "/metadata/name").unwrap_or("towline");
    let template = clone.pointer(template);
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
    let mut spec = part("spec");
    // A StatefulSet's pods get their claims from its controller.
    for claim in items(clone, "/spec/volumeClaimTemplates") {
        let name = text(claim, "/metadata/name").unwrap_or_default();
        let volume = json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
        let volumes = spec.as_object_mut().map(|spec| spec.entry("volumes").or_insert_with(|| json!([])));
        if let Some(volumes) = volumes.and_then(Value::as_array_mut) {
            volumes.retain(|other| text(other, "/name") != Some(name));
            volumes.push(volume);
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

/// Returns the merge patch that turns the original off, valid for exactly this version of exactly this object.
///
/// The record written just before holds what this version had, so it is true for the write that succeeds.
pub fn park(original: &Value, record: &Record) -> Value {
    let switch = record.switch();
    guarded(original, &json!({(switch.field()): switch.value(0)}))
}

/// Returns a merge patch of the spec that is valid for exactly this version of exactly this object.
pub(crate) fn guarded(original: &Value, spec: &Value) -> Value {
    json!({
        "metadata": {
            "uid": original.pointer("/metadata/uid"),
            "resourceVersion": original.pointer("/metadata/resourceVersion"),
        },
        "spec": spec,
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
