//! Pauses whose session has no record any more: its namespace was deleted, or its Lease. The mark on the paused object
//! says whose it was and what was there before.

use towline_cluster::ClusterError;
use towline_cluster::port::{APPLICATIONS, LEASES, Object, Resource, SCALED_OBJECTS};
use towline_patcher::{Pause, SESSION_LABEL};

use super::pause::{self, Mark, PausePlan, WORKLOADS};
use super::read;
use crate::context::Context;
use crate::error::SessionError;
use crate::event::Event;

/// What may be paused besides workloads.
const PAUSABLE: &[&Resource] = &[APPLICATIONS, SCALED_OBJECTS];

/// A pause that no session wants any more.
#[derive(Debug, Clone, PartialEq)]
pub struct Forgotten {
    plan: PausePlan,
    pause: Pause,
    holders: Vec<String>,
}

impl Forgotten {
    /// Returns kind, namespace and name of what is paused.
    pub fn target(&self) -> String {
        self.plan.target()
    }

    /// Sets the switch back, if it still has our value and no other session wants it.
    pub async fn wake(
        &self,
        context: &Context,
        tell: &mut (dyn FnMut(Event) + Send),
    ) -> Result<(), SessionError> {
        for holder in &self.holders {
            if pause::undo_one(context, holder, &self.pause, &self.plan).await? {
                tell(Event::Object { action: "unpaused", object: self.target() });
            }
        }
        Ok(())
    }
}

/// Finds the pauses of sessions of the context's namespace, or of all, that have no record. Reads only.
pub async fn find(context: &Context, everywhere: bool) -> Result<Vec<Forgotten>, ClusterError> {
    let mut found = Vec::new();
    for &resource in PAUSABLE.iter().chain(WORKLOADS) {
        // Applications are mostly in a namespace of their own.
        let far = everywhere || resource == APPLICATIONS;
        let seen = if far { read::list_everywhere(context, resource, None).await?.found() } else { None };
        let objects = match seen {
            Some(objects) => objects,
            None => read::list(context, &[resource]).await?,
        };
        for object in objects {
            let Some(mark) = Mark::of(&object) else { continue };
            let Some(plan) = mark.plan(&object) else { continue };
            let mut holders = Vec::new();
            for holder in &mark.by {
                if is_gone(context, holder, everywhere).await? {
                    holders.push(holder.clone());
                }
            }
            let pause = plan.recorded(mark.prior.clone());
            if !holders.is_empty() && pause.is_plain() {
                found.push(Forgotten { plan, pause, holders });
            }
        }
    }
    Ok(found)
}

/// Tells whether a session, `namespace/lease/session`, has no record any more. Creating the record is a session's first
/// write and deleting it the last, so a pause without one is nobody's.
async fn is_gone(context: &Context, holder: &str, everywhere: bool) -> Result<bool, ClusterError> {
    let mut parts = holder.split('/');
    let (Some(namespace), Some(lease), Some(session), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Ok(false);
    };
    if !everywhere && namespace != context.namespace {
        return Ok(false);
    }
    match context.cluster.get(&Object::new(LEASES, namespace, lease)).await {
        Ok(found) => {
            let label =
                found.pointer("/metadata/labels").and_then(|labels| labels.get(SESSION_LABEL)?.as_str());
            Ok(label != Some(session))
        }
        Err(error) if error.is_not_found() => Ok(true),
        // What a mark names need not be a name, and what may not be read may be there.
        Err(ClusterError::Forbidden { .. } | ClusterError::Invalid { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
