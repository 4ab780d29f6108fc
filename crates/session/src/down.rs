//! The way back: from any machine, without a manifest, by anyone with the rights, from the record in the cluster.

use std::time::Duration;

use serde_json::Value;
use towline_cluster::ClusterError;
use towline_cluster::port::{CONFIG_MAPS, DEPLOYMENTS, DeleteOptions, LEASES, Object, Selection};
use towline_patcher::{Difference, Held, MANAGED_BY, MANAGED_BY_LABEL, Record, SESSION_LABEL};

use crate::autocreate;
use crate::context::Context;
use crate::controllers::pause;
use crate::controllers::standing::{self, Standing};
use crate::error::SessionError;
use crate::event::Event;
use crate::in_place;
use crate::journal::{self, Journal};
use crate::kinds;
use crate::original::{self, ATTEMPTS};
use crate::pod::{condition, text};
use crate::storage;

/// How the names of the agents' `ConfigMaps` begin.
pub(crate) const AGENT_NAMES: &str = "towline-agent-";
/// How long an original may take to serve again before the clone goes all the same.
const AVAILABLE: Duration = Duration::from_mins(2);

/// What `down` did.
#[derive(Debug)]
pub struct Restored {
    /// Kind and name of the workload.
    pub workload: String,
    /// What became of it, in words that follow the name.
    pub said: String,
    /// What is not as it was before the session, and who owns it. Empty: restored exactly.
    pub differences: Vec<Difference>,
    /// Whether those who keep it as it is in Git have it in sync again.
    pub standings: Vec<Standing>,
}

/// Finds the sessions of the namespace, the one of `workload` or all.
pub async fn sessions(context: &Context) -> Result<Vec<(Value, Held)>, SessionError> {
    let leases = context.cluster.list(LEASES, Some(&context.namespace), &ours()).await?;
    leases.into_iter().map(|lease| Ok((lease.clone(), journal::read(&lease)?))).collect()
}

/// Reads the session of one workload, by its name, or by kind and name as `statefulset/db`.
pub async fn session_of(context: &Context, name: &str) -> Result<(Value, Held), SessionError> {
    let mut found = sessions(context).await?;
    found.retain(|(_, held)| is_of(&held.record, name));
    if found.len() > 1 {
        return Err(SessionError::WorkloadAmbiguous {
            what: format!("the name {name}"),
            namespace: context.namespace.clone(),
            names: found.iter().map(|(_, held)| full_name(&held.record)).collect(),
        });
    }
    found.pop().ok_or_else(|| SessionError::NotHeld {
        what: Some(name.to_owned()),
        namespace: context.namespace.clone(),
    })
}

/// Tells whether `name` means this session: the name of its workload, alone or behind its kind as in `statefulset/db`, or
/// that of its dev service.
pub fn is_meant(record: &Record, name: &str) -> bool {
    record.dev_name == name || is_of(record, name)
}

fn is_of(record: &Record, name: &str) -> bool {
    match name.split_once('/') {
        None => record.name == name,
        Some((kind, name)) => record.name == name && kinds::is_called(record, kind),
    }
}

/// Returns kind and name of a session's workload as users type them, such as `statefulset/db`.
pub fn full_name(record: &Record) -> String {
    format!("{}/{}", record.kind.to_ascii_lowercase(), record.name)
}

/// Ends a session: takes its Lease, restores the original, removes everything of ours, the Lease last.
///
/// Safe to kill at any point and to run again. With `force` false a session whose holder still lives and is not
/// `context.holder` is left alone.
pub async fn down(
    context: &Context,
    lease: &Value,
    force: bool,
    tell: &mut (dyn FnMut(Event) + Send),
) -> Result<Restored, SessionError> {
    let held = journal::read(lease)?;
    let alive = journal::is_alive(&held);
    if alive && !force && journal::person(&held.holder) != context.holder {
        return Err(journal::held_error(&held));
    }
    // Another session id in the identity: the process that holds the Lease now sees that it is not its own any more.
    let ending = Context {
        holder: format!("{}{}", context.holder, journal::ENDING.trim_end_matches('/')),
        ..context.clone()
    };
    let mut journal = Journal::take_over(&ending, lease).await?;
    if alive && journal.record.parked {
        original::fence(context, &journal.record).await?;
    }
    let mut restored = revert(context, &mut journal, tell).await?;
    if let Ok(original) = context.cluster.get(&original::object(context, &journal.record)).await {
        restored.standings = standing::of(context, &original).await;
    }
    Ok(restored)
}

/// Undoes a session whose Lease we hold.
pub(crate) async fn revert(
    context: &Context,
    journal: &mut Journal,
    tell: &mut (dyn FnMut(Event) + Send),
) -> Result<Restored, SessionError> {
    let record = journal.record.clone();
    let workload = format!("{} {}", record.kind, record.name);
    // Where both can't run at once the clone makes room first; else the original is up before the clone goes.
    if record.down_first.is_some() {
        delete_clones(context, &record, tell).await?;
        wait_for_clones(context, &record).await?;
    }
    let (found, said) = match record.in_place {
        _ if record.autocreated => (None, "was made for dev mode, and is gone".to_owned()),
        Some(_) => in_place::leave(context, journal).await?,
        None => original::restore(context, journal).await?,
    };
    let record = journal.record.clone();
    if let Some(found) = &found
        && record.level(found) > 0
        && record.parked
    {
        tell(Event::Object { action: "restored", object: workload.clone() });
        if record.in_place.is_some() {
            in_place::replace_pods(context, &record, found, tell).await?;
        }
        if record.down_first.is_none() {
            wait_available(context, &record, found).await?;
        }
    }
    if record.in_place.is_some() {
        in_place::forget_revisions(context, &record).await?;
    }
    delete_clones(context, &record, tell).await?;
    autocreate::delete_service(context, journal, tell).await?;
    storage::delete_secret(context, &record, tell).await?;
    let alone = delete_agents(context, journal, tell).await?;
    pause::undo(context, &record, tell).await?;

    let (name, uid) = journal.identity();
    let lease = Object::new(LEASES, &context.namespace, &name);
    delete(context, &lease, uid, tell).await?;
    // Of several that end at once each sees the others' Leases first; whoever is the last sees none now.
    if !alone {
        delete_agents(context, journal, tell).await?;
    }

    let now = match &found {
        Some(_) => context.cluster.get(&original::object(context, &record)).await.ok(),
        None => None,
    };
    let hpa = original::autoscaler_range(context, &record).await;
    let differences =
        if found.is_some() { towline_patcher::verify(now.as_ref(), &record, hpa) } else { Vec::new() };
    Ok(Restored { workload, said, differences, standings: Vec::new() })
}

/// Removes the clone and whatever else carries the session's label.
async fn delete_clones(
    context: &Context,
    record: &Record,
    tell: &mut (dyn FnMut(Event) + Send),
) -> Result<(), SessionError> {
    for clone in clones(context, record).await? {
        let object = Object::new(DEPLOYMENTS, &context.namespace, text(&clone, "/metadata/name"));
        let uid = text(&clone, "/metadata/uid");
        delete(context, &object, Some(uid), tell).await?;
    }
    Ok(())
}

async fn clones(context: &Context, record: &Record) -> Result<Vec<Value>, ClusterError> {
    let selection =
        Selection { name: None, labels: vec![(SESSION_LABEL.to_owned(), record.session.clone())] };
    let found = context.cluster.list(DEPLOYMENTS, Some(&context.namespace), &selection).await?;
    Ok(found.into_iter().filter(|clone| record.made(clone)).collect())
}

/// Waits until the clone's pods have let go of what the original needs.
async fn wait_for_clones(context: &Context, record: &Record) -> Result<(), ClusterError> {
    let of_session =
        serde_json::json!({"spec": {"selector": {"matchLabels": {SESSION_LABEL: record.session}}}});
    original::wait_until_gone(context, &of_session, "").await
}

/// The agents' `ConfigMaps` go with the last session of the namespace. Tells whether this was the last.
async fn delete_agents(
    context: &Context,
    journal: &Journal,
    tell: &mut (dyn FnMut(Event) + Send),
) -> Result<bool, SessionError> {
    let (own, _) = journal.identity();
    let others = context.cluster.list(LEASES, Some(&context.namespace), &ours()).await?;
    if others.iter().any(|lease| text(lease, "/metadata/name") != own) {
        return Ok(false);
    }
    let agents = match context.cluster.list(CONFIG_MAPS, Some(&context.namespace), &ours()).await {
        Ok(agents) => agents,
        // Without the right to list, the one we know is the one we remove.
        Err(ClusterError::Forbidden { .. }) => {
            let object = Object::new(CONFIG_MAPS, &context.namespace, &journal.record.config_map);
            context.cluster.get(&object).await.into_iter().collect()
        }
        Err(error) => return Err(error.into()),
    };
    for agent in agents {
        let name = text(&agent, "/metadata/name");
        if !name.starts_with(AGENT_NAMES) {
            continue;
        }
        let object = Object::new(CONFIG_MAPS, &context.namespace, name);
        delete(context, &object, Some(text(&agent, "/metadata/uid")), tell).await?;
    }
    Ok(true)
}

/// Deletes one object by name and uid; gone already is as good.
pub(crate) async fn delete(
    context: &Context,
    object: &Object,
    uid: Option<String>,
    tell: &mut (dyn FnMut(Event) + Send),
) -> Result<(), SessionError> {
    let options = DeleteOptions { uid, ..DeleteOptions::default() };
    for attempt in 1.. {
        match context.cluster.delete(object, &options).await {
            Ok(()) => {
                let name = format!("{} {}", object.resource.kind, object.name);
                tell(Event::Object { action: "deleted", object: name });
                return Ok(());
            }
            Err(error) if error.is_not_found() => return Ok(()),
            Err(ClusterError::Conflict { .. } | ClusterError::Ambiguous { .. }) if attempt < ATTEMPTS => {}
            Err(error) => return Err(error.into()),
        }
        // Another object may have the name by now: then ours is gone.
        match context.cluster.get(object).await {
            Ok(found) if options.uid.as_ref().is_none_or(|uid| text(&found, "/metadata/uid") == *uid) => {}
            Ok(_) => return Ok(()),
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits until the original serves again, so that the clone goes only then; two minutes at most.
async fn wait_available(context: &Context, record: &Record, restored: &Value) -> Result<(), SessionError> {
    // What is made for a run at a time, or by a controller of somebody's own, says nothing of the kind.
    let available = match record.kind.as_str() {
        "Deployment" | "ReplicaSet" | "StatefulSet" | "Rollout" => "/status/availableReplicas",
        "DaemonSet" => "/status/numberAvailable",
        _ => return Ok(()),
    };
    let wanted = towline_patcher::replicas(restored);
    let generation = in_place::generation(restored);
    let serves = |workload: &Value| {
        let number = |pointer| workload.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
        let observed =
            in_place::observed(workload).map_or(record.kind == "Rollout", |seen| seen >= generation);
        // The pods that are left of the dev container's template are available too.
        let updated = record.in_place.is_none()
            || record.kind != "Deployment"
            || number("/status/updatedReplicas") >= wanted.min(1);
        // A quota may have no room for it beside the clone, whose turn it is then to go.
        let has_no_room = condition(workload, "ReplicaFailure").is_some_and(|it| it["status"] == "True");
        observed && (has_no_room || updated && number(available) >= wanted.min(1))
    };
    if !original::until(context, record, AVAILABLE, serves).await? {
        tracing::warn!(workload = record.name, "the original was not available after two minutes");
    }
    Ok(())
}

/// Everything of ours.
pub(crate) fn ours() -> Selection {
    Selection { name: None, labels: vec![(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned())] }
}
