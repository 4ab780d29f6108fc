//! The Service of a workload that a session made where there was none.

use towline_cluster::ClusterError;
use towline_cluster::port::{Object, SERVICES, WriteOptions};

use crate::context::Context;
use crate::down;
use crate::error::SessionError;
use crate::event::Event;
use crate::journal::Journal;
use crate::pod::text;

/// Sees to it that the Service that the record names is there. Tells whether it was made now.
pub(crate) async fn ensure_service(context: &Context, journal: &Journal) -> Result<bool, SessionError> {
    let record = &journal.record;
    let Some(name) = &record.service else { return Ok(false) };
    let (lease, uid) = journal.identity();
    let service = towline_patcher::autocreated_service(record, name, &lease, uid.as_deref());
    match context.cluster.create(SERVICES, &context.namespace, &service, &WriteOptions::default()).await {
        Ok(_) => Ok(true),
        Err(ClusterError::AlreadyExists { .. } | ClusterError::Ambiguous { .. }) => {
            let object = Object::new(SERVICES, &context.namespace, name);
            if record.made(&context.cluster.get(&object).await?) {
                return Ok(false);
            }
            Err(SessionError::Failed { message: format!("{object} is there and not ours") })
        }
        Err(error) => Err(error.into()),
    }
}

/// Deletes the Service that the session made, if it did.
pub(crate) async fn delete_service(
    context: &Context,
    journal: &Journal,
    tell: &mut (dyn FnMut(Event) + Send),
) -> Result<(), SessionError> {
    let Some(name) = &journal.record.service else { return Ok(()) };
    let object = Object::new(SERVICES, &context.namespace, name);
    match context.cluster.get(&object).await {
        Ok(found) if journal.record.made(&found) => {
            down::delete(context, &object, Some(text(&found, "/metadata/uid")), tell).await
        }
        Err(error) if error.is_not_found() => Ok(()),
        // Another's stays; and what may not be looked at goes with the Lease, which it belongs to.
        Ok(_) | Err(ClusterError::Forbidden { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
