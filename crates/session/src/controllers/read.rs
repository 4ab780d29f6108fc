//! Reads of kinds that may not be installed, by users who may not have the right.

use serde_json::Value;
use towline_cluster::ClusterError;
use towline_cluster::port::{Object, Resource, Selection};

use crate::context::Context;

/// What became of a read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Read<T> {
    /// It is there.
    Found(T),
    /// It is not, or its kind is not installed.
    Absent,
    /// There is no right to know. Authorization comes first, so the kind may not even be installed.
    Denied,
}

impl<T> Read<T> {
    /// Returns what was found.
    pub(super) fn found(self) -> Option<T> {
        match self {
            Self::Found(found) => Some(found),
            Self::Absent | Self::Denied => None,
        }
    }
}

fn of<T>(result: Result<T, ClusterError>) -> Result<Read<T>, ClusterError> {
    match result {
        Ok(found) => Ok(Read::Found(found)),
        Err(ClusterError::NotFound { .. }) => Ok(Read::Absent),
        Err(ClusterError::Forbidden { .. }) => Ok(Read::Denied),
        Err(error) => Err(error),
    }
}

/// Reads one object, in the first of a kind's versions that has it.
pub(super) async fn get(
    context: &Context,
    versions: &[&'static Resource],
    namespace: &str,
    name: &str,
) -> Result<Read<Value>, ClusterError> {
    for resource in versions {
        match of(context.cluster.get(&Object::new(resource, namespace, name)).await)? {
            Read::Absent => {}
            other => return Ok(other),
        }
    }
    Ok(Read::Absent)
}

/// Reads all objects of a kind in the namespace, in the first version that is served.
pub(super) async fn list(
    context: &Context,
    versions: &[&'static Resource],
) -> Result<Vec<Value>, ClusterError> {
    for resource in versions {
        let listed =
            of(context.cluster.list(resource, Some(&context.namespace), &Selection::default()).await)?;
        match listed {
            Read::Absent => {}
            Read::Found(found) => return Ok(found),
            Read::Denied => return Ok(Vec::new()),
        }
    }
    Ok(Vec::new())
}

/// Reads the objects of a kind in all namespaces; only those of a name, if one is given.
pub(super) async fn list_everywhere(
    context: &Context,
    resource: &'static Resource,
    name: Option<&str>,
) -> Result<Read<Vec<Value>>, ClusterError> {
    let selection = Selection { name: name.map(str::to_owned), labels: Vec::new() };
    of(context.cluster.list(resource, None, &selection).await)
}
