//! What is left of sessions that nobody holds any more, and how it is removed.
//!
//! A laptop that dies leaves its session behind: the record in the Lease, the clone, the original at 0. Anyone with
//! the rights finds it here and ends it as `down` does. Objects of ours whose record is gone are found as well.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use towline_cluster::ClusterError;
use towline_cluster::port::{CONFIG_MAPS, DEPLOYMENTS, LEASES, Object, Resource};
use towline_patcher::{Held, SESSION_LABEL};

use crate::context::Context;
use crate::controllers::forgotten::{self, Forgotten};
use crate::down::{self, Restored};
use crate::error::SessionError;
use crate::event::Event;
use crate::journal;
use crate::pod::text;

/// After this time without a sign of life a session counts as abandoned: a night, not a lunch.
pub const ABANDONED: Duration = Duration::from_hours(8);

/// The kinds of what a session makes besides its Lease, and that may be left without one.
const MADE: &[&Resource] = &[DEPLOYMENTS, CONFIG_MAPS];

/// A session without a sign of life.
#[derive(Debug, Clone)]
pub struct Abandoned {
    /// Where it is; the namespace may be another than the one that was asked about.
    pub context: Context,
    /// Its Lease as read.
    pub lease: Value,
    /// What the Lease says.
    pub held: Held,
    /// How long its holder has not been heard of; the longest time there is where the Lease has no time.
    pub silence: Duration,
}

impl Abandoned {
    /// Ends it as `down` does. Who has taken it up meanwhile keeps it: that is an error.
    pub async fn end(&self, tell: &mut (dyn FnMut(Event) + Send)) -> Result<Restored, SessionError> {
        down::down(&self.context, &self.lease, false, tell).await
    }
}

/// An object of ours without a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// What it is.
    pub object: Object,
    /// Its uid, so that nothing else of that name is deleted.
    pub uid: String,
    /// Why it is left alone, in words; `None`: it can go.
    pub keep: Option<String>,
}

impl Orphan {
    /// Deletes it, unless it is to be kept; gone already is as good. Tells whether it is gone.
    pub async fn remove(
        &self,
        context: &Context,
        tell: &mut (dyn FnMut(Event) + Send),
    ) -> Result<bool, SessionError> {
        if self.keep.is_some() {
            return Ok(false);
        }
        down::delete(context, &self.object, Some(self.uid.clone()), tell).await?;
        Ok(true)
    }
}

/// Everything that nobody holds.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Sessions, those without a sign of life for the longest time first.
    pub sessions: Vec<Abandoned>,
    /// Objects whose session has no record.
    pub orphans: Vec<Orphan>,
    /// Controllers that are paused for a session without a record.
    pub pauses: Vec<Forgotten>,
    /// Leases that carry our label and can't be read, and why.
    pub unreadable: Vec<SessionError>,
}

/// Returns the sessions of the context's namespace, or of all namespaces, without a sign of life for `older_than`.
/// One that is alive is never among them, however short the time.
pub async fn abandoned(
    context: &Context,
    everywhere: bool,
    older_than: Duration,
) -> Result<Vec<Abandoned>, SessionError> {
    Ok(sort(context, &leases(context, everywhere).await?, older_than).0)
}

/// Returns everything that nobody holds, in the context's namespace or in all. Reads only.
pub async fn find(
    context: &Context,
    everywhere: bool,
    older_than: Duration,
) -> Result<Leftovers, SessionError> {
    // Objects first: the record of one that is made meanwhile is there before it.
    let mut objects = Vec::new();
    for &kind in MADE {
        match context.cluster.list(kind, scope(context, everywhere), &down::ours()).await {
            Ok(found) => objects.extend(found.into_iter().map(|object| (kind, object))),
            Err(ClusterError::Forbidden { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let leases = leases(context, everywhere).await?;
    let sessions: BTreeSet<&str> = leases.iter().filter_map(|lease| label(lease, SESSION_LABEL)).collect();
    let busy: BTreeSet<String> = leases.iter().map(|lease| text(lease, "/metadata/namespace")).collect();
    let mut orphans = Vec::new();
    for (kind, object) in &objects {
        let is_orphan = match label(object, SESSION_LABEL) {
            Some(session) => !sessions.contains(session),
            // The agents' are shared by the sessions of a namespace.
            None => {
                text(object, "/metadata/name").starts_with(down::AGENT_NAMES)
                    && !busy.contains(&text(object, "/metadata/namespace"))
            }
        };
        if is_orphan && object.pointer("/metadata/deletionTimestamp").is_none() {
            orphans.push(Orphan {
                object: Object::new(
                    kind,
                    text(object, "/metadata/namespace"),
                    text(object, "/metadata/name"),
                ),
                uid: text(object, "/metadata/uid"),
                keep: needed(context, object).await?,
            });
        }
    }
    let (sessions, unreadable) = sort(context, &leases, older_than);
    let pauses = forgotten::find(context, everywhere).await?;
    Ok(Leftovers { sessions, orphans, pauses, unreadable })
}

async fn leases(context: &Context, everywhere: bool) -> Result<Vec<Value>, ClusterError> {
    context.cluster.list(LEASES, scope(context, everywhere), &down::ours()).await
}

fn scope(context: &Context, everywhere: bool) -> Option<&str> {
    (!everywhere).then_some(context.namespace.as_str())
}

/// Picks the abandoned among Leases of ours, and what can't be read among those.
fn sort(context: &Context, leases: &[Value], older_than: Duration) -> (Vec<Abandoned>, Vec<SessionError>) {
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    for lease in leases {
        match journal::read(lease) {
            Err(error) => unreadable.push(error),
            Ok(held) => {
                let silence = journal::silence(&held);
                if !journal::is_alive(&held) && silence >= older_than {
                    let context = Context { namespace: held.record.namespace.clone(), ..context.clone() };
                    found.push(Abandoned { context, lease: lease.clone(), held, silence });
                }
            }
        }
    }
    found.sort_by_key(|one| std::cmp::Reverse(one.silence));
    (found, unreadable)
}

/// Says why a clone without a record is not to be deleted: its original would be left without a pod, and how many it
/// had is known to nobody.
async fn needed(context: &Context, object: &Value) -> Result<Option<String>, SessionError> {
    let Some(owner) = object.pointer("/metadata/ownerReferences/0") else { return Ok(None) };
    let (kind, name) = (text(owner, "/kind"), text(owner, "/name"));
    if kind != DEPLOYMENTS.kind {
        return Ok(None);
    }
    let namespace = text(object, "/metadata/namespace");
    let original = match context.cluster.get(&Object::new(DEPLOYMENTS, &namespace, &name)).await {
        Ok(original) => original,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let same = text(&original, "/metadata/uid") == text(owner, "/uid");
    Ok((same && towline_patcher::replicas(&original) == 0).then(|| {
        format!(
            "{kind} {name} has 0 replicas and the record is gone: scale it up first: kubectl -n {namespace} scale {} \
             {name} --replicas=1",
            kind.to_lowercase()
        )
    }))
}

fn label<'v>(object: &'v Value, key: &str) -> Option<&'v str> {
    object.pointer("/metadata/labels")?.get(key)?.as_str()
}
