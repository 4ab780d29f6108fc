//! The way back: three-way, so that only what is still ours is undone and what others changed stays.

use serde_json::{Value, json};

use crate::field_owners::{self, Owner};
use crate::holder::Switch;
use crate::in_place::InPlace;
use crate::patch::guarded;
use crate::record::Record;
use crate::workload::{is_deleting, template_hash, text};

/// What is to be done with the original's replicas.
#[derive(Debug, Clone, PartialEq)]
pub enum Restore {
    /// This merge patch, valid for the version that was read; after a conflict read again and ask again.
    Scale(Value),
    /// Nothing: it is as it was, or somebody else has decided.
    Nothing {
        /// In words that follow the workload's name.
        reason: String,
    },
    /// The original is not there any more.
    Gone,
    /// Another object has its name.
    Replaced,
}

/// Something that is not as it was before the session.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The field.
    pub path: String,
    /// As it was; a hash for a whole template.
    pub want: Option<Value>,
    /// As it is.
    pub found: Option<Value>,
    /// The field manager that owns it now, where that is known.
    pub owner: Option<String>,
}

/// Decides how the original's replicas come back. `hpa` is the range (min, max) of an autoscaler that targets it.
///
/// It comes back only if it is still our zero: after a write of ours may have taken place, and unless somebody else
/// took the field from us.
pub fn restore(original: Option<&Value>, record: &Record, hpa: Option<(i64, i64)>) -> Restore {
    let original = match whose(original, record) {
        Ok(original) => original,
        Err(other) => return other,
    };
    let nothing = |reason: String| Restore::Nothing { reason };
    if is_deleting(original) {
        return nothing("is being deleted".to_owned());
    }
    if !record.parked {
        return nothing("was not scaled down".to_owned());
    }
    let switch = record.switch();
    let live = switch.live(original);
    if live == record.replicas {
        return nothing(match switch {
            Switch::Suspend => "is as it was".to_owned(),
            Switch::Replicas | Switch::None => format!("has its replicas: {live}"),
        });
    }
    let owners = field_owners::of_field(original, switch.field());
    let other = owners.iter().find(|owner| !owner.is_towline()).map(|owner| owner.manager.as_str());
    if live != 0 {
        let other = other.unwrap_or("someone else");
        return nothing(match switch {
            Switch::Suspend => format!("was resumed by {other}"),
            Switch::Replicas | Switch::None => format!("was scaled to {live} by {other}"),
        });
    }
    // Where nobody owns it, as where the server keeps no owners, a wrong guess must not leave the service down.
    if let Some(other) = other
        && !owners.iter().any(Owner::is_towline)
    {
        return nothing(format!("was scaled to 0 by {other}"));
    }
    let value = if record.unsaid { Value::Null } else { switch.value(target(record, hpa)) };
    Restore::Scale(guarded(original, &json!({(switch.field()): value})))
}

/// Returns the JSON patch that gives the ownership of `spec.replicas` back to those who had it, if there is anything
/// to give. A failure of it is worth a warning, not more.
///
/// Nothing is given while the original is still parked, or once somebody else has taken the field: that is a decision.
/// What the server checks is the version that was read.
pub fn give_back(original: &Value, record: &Record) -> Option<Value> {
    whose(Some(original), record).ok()?;
    let field = record.switch().field();
    let live = record.level(original);
    let now = field_owners::of_field(original, field);
    let ours = now.iter().any(Owner::is_towline);
    // Beside us there are only appliers that agree; without us, whoever is not in the record has decided.
    let known = ours || now.iter().all(|owner| record.owners.iter().any(|other| other.is(owner)));
    // A field that we own and that is not 0 has the value that `restore` gave it, be it bounded by an autoscaler.
    let restored = live == record.replicas || ours && live != 0;
    if !record.parked || is_deleting(original) || !known || !restored {
        return None;
    }
    let entries = Value::Array(field_owners::with_owners(original, field, &record.owners));
    if original.pointer("/metadata/managedFields").unwrap_or(&json!([])) == &entries {
        return None;
    }
    Some(json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": original.pointer("/metadata/resourceVersion")},
        {"op": "replace", "path": "/metadata/managedFields", "value": entries},
    ]))
}

/// Returns who wrote the field that turns the original off, as far as its owners say.
pub fn switch_writer(original: &Value, record: &Record) -> Option<String> {
    let owners = field_owners::of_field(original, record.switch().field());
    owners.into_iter().next().map(|owner| owner.manager)
}

/// Returns what is not as it was before the session, and who owns it now. Empty: restored exactly.
pub fn verify(original: Option<&Value>, record: &Record, hpa: Option<(i64, i64)>) -> Vec<Difference> {
    let Ok(original) = whose(original, record) else {
        return vec![Difference {
            path: "metadata.uid".to_owned(),
            want: Some(json!(record.uid)),
            found: original.and_then(|original| original.pointer("/metadata/uid")).cloned(),
            owner: None,
        }];
    };
    if !record.parked {
        return Vec::new();
    }
    if let Some(in_place) = &record.in_place {
        return verify_in_place(original, record, in_place);
    }
    let mut differences = Vec::new();
    let mut differ = |path: &str, want: Value, found: Value, owner: Option<String>| {
        if want != found {
            differences.push(Difference {
                path: path.to_owned(),
                want: Some(want),
                found: Some(found),
                owner,
            });
        }
    };
    let field = record.switch().field();
    let owners = field_owners::of_field(original, field);
    let manager = || owners.iter().find(|owner| !owner.is_towline()).or(owners.first());
    let manager = || manager().map(|owner| owner.manager.clone());
    let live = record.level(original);
    if live != target(record, hpa) {
        let value = |level| record.switch().value(level);
        differ(&format!("spec.{field}"), value(record.replicas), value(live), manager());
    }
    differ("metadata.managedFields", names(&record.owners), names(&owners), manager());
    let now = template_hash(original, record.template());
    let writer = field_owners::last_writer(original, template_field(record.template()));
    differ(&path_of(record.template()), json!(record.template_hash), json!(now), writer);
    differences
}

/// Returns what of a template that was changed in place is not as it was: a line for each field that others changed, or
/// one for the template where they changed what we never touched.
fn verify_in_place(original: &Value, record: &Record, in_place: &InPlace) -> Vec<Difference> {
    let found = template_hash(original, record.template());
    let owner = crate::in_place::last_writer(original);
    let mut differences: Vec<_> = in_place
        .changed_since(original, &record.uid)
        .map(|path| Difference { path, want: None, found: None, owner: owner.clone() })
        .collect();
    if differences.is_empty() && found != record.template_hash {
        differences.push(Difference {
            path: path_of(record.template()),
            want: Some(json!(record.template_hash)),
            found: Some(json!(found)),
            owner,
        });
    }
    differences
}

/// Returns the field under `spec` that holds the template.
fn template_field(template: &str) -> &str {
    template.trim_start_matches("/spec/").split('/').next().unwrap_or_default()
}

/// Says where the template is, as messages have it.
fn path_of(template: &str) -> String {
    if template.is_empty() { "spec".to_owned() } else { template[1..].replace('/', ".") }
}

/// Returns the original if it is the one that the record is about.
fn whose<'a>(original: Option<&'a Value>, record: &Record) -> Result<&'a Value, Restore> {
    let original = original.ok_or(Restore::Gone)?;
    if text(original, "/metadata/uid") == Some(&record.uid) { Ok(original) } else { Err(Restore::Replaced) }
}

/// The replicas that the original gets back.
fn target(record: &Record, hpa: Option<(i64, i64)>) -> i64 {
    match hpa {
        // An autoscaler leaves a workload alone that had none.
        Some((min, max)) if record.replicas != 0 => record.replicas.min(max).max(min),
        Some(_) | None => record.replicas,
    }
}

/// The managers and operations that own `spec.replicas`, in a fixed order.
fn names(owners: &[Owner]) -> Value {
    let mut names: Vec<_> =
        owners.iter().map(|owner| format!("{} ({})", owner.manager, owner.operation)).collect();
    names.sort();
    json!(names)
}
