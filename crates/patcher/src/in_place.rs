//! The way in place: a workload's own template is changed, field by field, and goes back field by field.
//!
//! The record names each field that was changed and holds a salted hash of its value before and after: never a value of
//! the template. What a field goes back to comes from the kind's own history of templates (`ReplicaSet`s,
//! `ControllerRevision`s), and only if it has the recorded hash. So no secret is in the record, and who can write
//! Leases can't make `down` write what the workload never had.

mod fields;
mod owners;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::fields::Reverted;
pub use self::fields::Touched;
pub(crate) use self::owners::Lost;
use crate::holder::{Holder, SPEC_TEMPLATE};
use crate::names::{SESSION_LABEL, cut};
use crate::patch::{DevClone, guarded, in_its_place};
use crate::plan::{DevPlan, PlanError};
use crate::record::{Phase, Record};
use crate::workload::{digest, replicas, text};

/// What a session in place has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InPlace {
    /// The fields.
    pub fields: Vec<Touched>,
    /// Who owned them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) owners: Vec<Lost>,
    /// The hash of the whole spec after our last write: another one means that somebody else wrote.
    pub spec_hash: String,
}

/// The original as it would be without the session.
#[derive(Debug, Clone, PartialEq)]
pub struct Base {
    /// The whole object, with the version that was read.
    pub object: Value,
    /// The fields that others have changed since; theirs stays.
    pub kept: Vec<String>,
    /// The fields that are still ours and whose earlier value is not in the history any more.
    pub missing: Vec<String>,
    /// Whether any field was still ours.
    pub was_ours: bool,
}

/// Returns the pod templates of a workload's history, from what it controls: `ReplicaSet`s or `ControllerRevision`s.
pub fn history(workload: &Value, revisions: &[Value]) -> Vec<Value> {
    let uid = text(workload, "/metadata/uid").unwrap_or_default();
    let owned = |object: &&Value| {
        let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        owners.into_iter().flatten().any(|owner| owner["uid"] == uid && owner["controller"] == true)
    };
    let template = |object: &Value| {
        let place = object.get("data").unwrap_or(object);
        place.pointer(SPEC_TEMPLATE).cloned()
    };
    revisions.iter().filter(owned).filter_map(template).collect()
}

/// Returns the original as it would be without the session: what is still ours goes back, what others changed stays.
pub fn base(live: &Value, record: &Record, history: &[Value]) -> Base {
    let mut base = Base { object: live.clone(), kept: Vec::new(), missing: Vec::new(), was_ours: false };
    let Some(in_place) = &record.in_place else { return base };
    for field in &in_place.fields {
        match field.revert(&mut base.object, &record.uid, record.template(), history) {
            Reverted::Done => base.was_ours = true,
            Reverted::Nothing => {}
            Reverted::Kept => base.kept.push(dotted(&field.path)),
            Reverted::Missing => {
                base.was_ours = true;
                base.missing.push(dotted(&field.path));
            }
        }
    }
    base
}

/// Returns what the original becomes: the whole object, not sent yet, with its changes as of a [`DevClone`].
pub fn dev_of(base: &Value, holder: &Holder, plan: &DevPlan) -> Result<DevClone, PlanError> {
    let (object, changes) = in_its_place(base, holder, plan)?;
    Ok(DevClone { object, changes, down_first: None })
}

/// Returns the merge patch that turns `live` into `wanted`, valid for exactly this version of exactly this object;
/// `None` when there is nothing to change.
pub fn change(live: &Value, wanted: &Value) -> Option<Value> {
    let empty = json!({});
    let spec = fields::merge_patch(live.get("spec").unwrap_or(&empty), wanted.get("spec").unwrap_or(&empty))?;
    Some(guarded(live, &spec))
}

impl InPlace {
    /// Tells whether it is what a session writes: fields of the template, or of the strategy around it.
    pub(crate) fn is_sound(&self, template: &str) -> bool {
        self.fields.iter().all(|field| field.is_sound(template)) && self.owners.iter().all(Lost::is_sound)
    }

    /// Returns the fields that are not as they were before the session.
    pub(crate) fn changed_since<'a>(
        &'a self,
        live: &'a Value,
        salt: &'a str,
    ) -> impl Iterator<Item = String> {
        self.fields.iter().filter(|field| !field.is_as_before(live, salt)).map(|field| dotted(&field.path))
    }
}

impl Record {
    /// Takes up what is about to be written in place; to be stored just before it is.
    ///
    /// `dry` is the server's answer to a dry run of the very write: the object with its defaults and its owners.
    /// Returns the fields whose value now is neither in the history nor may stand in the record: without them there
    /// would be no way back.
    pub fn observe_in_place(
        &mut self,
        live: &Value,
        base: &Value,
        dry: &Value,
        history: &[Value],
    ) -> Vec<String> {
        let template = self.template().to_owned();
        let fields = fields::differ(&self.uid, &template, base, dry);
        let missing: Vec<_> = fields
            .iter()
            .filter(|field| !field.can_go_back(&self.uid, &template, history))
            .map(|field| dotted(&field.path))
            .collect();
        let before = self.in_place.take().map(|known| known.owners).unwrap_or_default();
        let owners = owners::joined(before, live, dry);
        self.in_place = Some(InPlace { fields, owners, spec_hash: spec_hash(dry, &self.uid) });
        self.replicas = replicas(base);
        self.generation = base.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
        self.template_hash = crate::workload::template_hash(base, &template);
        self.parked = true;
        self.phase = Phase::Scaling;
        missing
    }

    /// Tells whether a workload's spec is as our last write left it.
    pub fn is_as_left(&self, live: &Value) -> bool {
        self.in_place.as_ref().is_some_and(|in_place| in_place.spec_hash == spec_hash(live, &self.uid))
    }

    /// Takes up what the server made of our write, where it differs from its dry run. Tells whether it does.
    pub fn settle_in_place(&mut self, stored: &Value) -> bool {
        let hash = spec_hash(stored, &self.uid);
        match &mut self.in_place {
            Some(in_place) if in_place.spec_hash != hash => {
                in_place.spec_hash = hash;
                true
            }
            _ => false,
        }
    }
}

/// Returns the JSON patch that gives the ownership of the fields back, once none of them is ours any more. A failure of
/// it is worth a warning, not more.
pub fn give_fields_back(live: &Value, record: &Record, base: &Base) -> Option<Value> {
    let in_place = record.in_place.as_ref()?;
    if text(live, "/metadata/uid") != Some(&record.uid) || base.was_ours {
        return None;
    }
    let entries = Value::Array(owners::given_back(live, &in_place.owners));
    if live.pointer("/metadata/managedFields").unwrap_or(&json!([])) == &entries {
        return None;
    }
    Some(json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": live.pointer("/metadata/resourceVersion")},
        {"op": "replace", "path": "/metadata/managedFields", "value": entries},
    ]))
}

/// Returns who wrote a workload's spec last, ourselves excepted.
pub fn last_writer(live: &Value) -> Option<String> {
    owners::last_writer(live)
}

/// Tells whether a revision of a workload's history is a session's: it may go when the session does.
pub fn is_of_session(revision: &Value, session: &str) -> bool {
    let label = |object: &Value, pointer: &str| {
        object.pointer(pointer).and_then(|labels| labels.get(SESSION_LABEL)?.as_str().map(|it| it == session))
    };
    label(revision, "/metadata/labels") == Some(true)
}

/// Returns a short hash of the whole spec.
fn spec_hash(object: &Value, salt: &str) -> String {
    cut(&digest(salt, object.get("spec").unwrap_or(&Value::Null)), 16).to_owned()
}

/// Says a path as messages have it.
fn dotted(path: &str) -> String {
    let mut text = String::new();
    for step in path.trim_start_matches('/').split('/') {
        let step = fields::unescaped(step);
        if step.contains('=') && is_item(&step) {
            text.extend(["[", &step, "]"]);
        } else {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(&step);
        }
    }
    text
}

fn is_item(step: &str) -> bool {
    step.starts_with("name=") || step.starts_with("mountPath=")
}
