//! The way into a workload: by swap or in place, what it needs, and what keeps from it.

use serde_json::Value;
use towline_cluster::port::Object;
use towline_patcher::{
    AtZero, DevClone, DevPlan, Held, Holder, Record, Refusal, Switch, Way, holder, way_refusal,
};

use super::dry_run_pod;
use crate::context::Context;
use crate::error::SessionError;
use crate::in_place::{self, Wish};
use crate::kinds::{self, Found};
use crate::obstacle::Obstacle;
use crate::pod::text;
use crate::request::UpRequest;

/// Says that a workload is left alone.
pub(super) fn refused(found: &Found, refusal: &Refusal, hint: &str) -> SessionError {
    SessionError::Refused { what: found.name(), why: refusal.to_string(), hint: hint.to_owned() }
}

/// Chooses the way in: that of the session which goes on, else the one that was asked for, else the kind's own.
pub(super) fn way(
    found: &Found,
    holder: &Holder,
    request: &UpRequest,
    held: Option<&Held>,
) -> Result<Way, SessionError> {
    if let Some(held) = held {
        return Ok(if held.record.in_place.is_some() { Way::InPlace } else { Way::Swap });
    }
    let way = request.way.unwrap_or(holder.way);
    if let Some(refusal) = way_refusal(&found.object, holder, way) {
        let hint = match way {
            Way::Swap => "try --in-place",
            Way::InPlace => "leave --in-place out",
        };
        return Err(refused(found, &refusal, hint));
    }
    if way == Way::Swap && holder.switch == Switch::Replicas {
        some_replicas(found)?;
    }
    Ok(way)
}

/// Fails for a workload that is turned off already: nobody could say what it was before.
fn some_replicas(found: &Found) -> Result<(), SessionError> {
    let Some(zero) = towline_patcher::at_zero(&found.object) else { return Ok(()) };
    let why = match zero {
        AtZero::Towline => "an earlier session left it at 0 replicas and its record is gone",
        AtZero::Other => "it has 0 replicas",
    };
    let (kind, name) = (found.resource.kind.to_ascii_lowercase(), text(&found.object, "/metadata/name"));
    Err(SessionError::Refused {
        what: found.name(),
        why: why.to_owned(),
        hint: format!("scale it up first: kubectl scale --replicas=1 {kind}/{name}"),
    })
}

/// Begins the record of a session on a workload.
pub(crate) fn record_of(found: &Found, plan: &DevPlan, clone: &DevClone) -> Result<Record, SessionError> {
    let mut record = Record::new(&found.object, plan, clone, env!("CARGO_PKG_VERSION"))?;
    if !kinds::is_known(found.resource) {
        found.resource.plural.clone_into(&mut record.plural);
    }
    Ok(record)
}

/// Works out what the original's own template becomes, asks the server about it, and sees to it that there is a way back.
/// Returns also the original as it is without the session.
pub(super) async fn in_place(
    context: &Context,
    found: &Found,
    plan: &DevPlan,
    held: Option<&Held>,
    notes: &mut Vec<String>,
    obstacles: &mut Vec<Obstacle>,
) -> Result<(DevClone, Record, Value), SessionError> {
    let live = &found.object;
    let history = in_place::history(context, live).await?;
    let object = Object::new(found.resource, &context.namespace, text(live, "/metadata/name"));
    let known = held.map(|held| &held.record);
    let draft = in_place::draft(context, &object, live, known, &history, plan, &Wish::Anew).await?;
    let holder = holder(live, plan.template.as_deref()).map_err(towline_patcher::PlanError::from)?;
    let pod = towline_patcher::pod_at(&draft.dev.object, &holder.template);
    dry_run_pod(context, &pod, false, notes, obstacles).await?;
    let mut record = record_of(found, plan, &draft.dev)?;
    // What is written is found out once more just before it is: here it only has to be possible.
    let possible = |history: &[Value]| draft.observe(&mut record.clone(), live, history);
    let missing = in_place::until_kept(context, live, possible).await?;
    if !missing.is_empty() {
        return Err(in_place::no_way_back(&found.name(), &missing));
    }
    record.replicas = towline_patcher::replicas(&draft.base.object);
    match found.resource.kind {
        "StatefulSet" if record.replicas > 1 => notes.push(format!(
            "replica {} becomes the dev container; the others go on and get traffic too",
            record.replicas - 1
        )),
        "DaemonSet" => {
            notes.push("the pod of one node becomes the dev container; those of the others go on".to_owned());
        }
        _ => {}
    }
    Ok((draft.dev, record, draft.base.object))
}
