//! What a scenario knows of the cluster it runs on.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use serde_json::Value;
use towline_cluster::Cluster;

use crate::app::Images;

/// A cluster with a namespace for one scenario alone.
#[async_trait]
pub trait Adapter: Send + Sync {
    /// The port, for looking.
    fn cluster(&self) -> Arc<dyn Cluster>;

    /// The scenario's namespace.
    fn namespace(&self) -> &str;

    /// What workloads are made of here.
    fn images(&self) -> Images;

    /// Whether pods are real ones, with their own network and file system.
    fn is_real(&self) -> bool;

    /// Variables that lead `towline` here as on a machine whose state folder is `home`.
    fn variables(&self, home: &Path) -> Vec<(String, String)>;

    /// Arguments that lead `towline` here.
    fn arguments(&self) -> Vec<String>;

    /// Creates objects in the namespace, as a writer that is not Towline.
    async fn apply(&self, objects: &[Value]);

    /// Removes what the scenario left, and the namespace with it.
    async fn close(&self);
}

/// Runs one scenario and closes its cluster, whatever became of it.
pub async fn run<A: Adapter, F: Future<Output = ()>>(adapter: A, scenario: impl FnOnce(Arc<A>) -> F) {
    let adapter = Arc::new(adapter);
    let outcome = AssertUnwindSafe(scenario(Arc::clone(&adapter))).catch_unwind().await;
    adapter.close().await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}
