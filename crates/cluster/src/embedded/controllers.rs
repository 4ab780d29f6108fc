//! Does what Kubernetes' controllers and the kubelet would do, until nothing is left to do.

use super::process::Process;
use super::store::Store;
use super::{Machine, garbage, pod, revisions, workload};
use crate::error::ClusterError;

/// More rounds than any chain of consequences has; a mistake in a controller must not hold the lock for ever.
const MAX_ROUNDS: usize = 16;

/// What has to happen before there is something to do again.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// One of these ends.
    pub(super) processes: Vec<Process>,
    /// This time comes, in milliseconds since 1970.
    pub(super) due: Option<i64>,
}

impl Pending {
    /// Asks to be called at a time.
    pub(super) fn at(&mut self, milliseconds: i64) {
        self.due = Some(self.due.map_or(milliseconds, |due| due.min(milliseconds)));
    }
}

/// Runs all controllers.
pub(super) fn run(store: &mut Store, machine: &Machine) -> Result<Pending, ClusterError> {
    let mut pending = Pending::default();
    for _ in 0..MAX_ROUNDS {
        let before = store.version()?;
        garbage::collect(store)?;
        workload::sync_deployments(store)?;
        revisions::sync(store)?;
        workload::sync_replica_sets(store)?;
        pending = pod::sync_all(store, machine)?;
        if store.version()? == before {
            break;
        }
    }
    Ok(pending)
}
