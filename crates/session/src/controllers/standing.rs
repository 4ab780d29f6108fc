//! After a session: whether the app that the workload is a part of is in sync again, and what to type if it is not.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use towline_cluster::ClusterError;

use super::{argo, flux};
use crate::context::Context;

/// How long a controller may take to look at the workload again, and how often is asked.
const PATIENCE: Duration = Duration::from_secs(4);
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What a controller says of the workload that it keeps as it is in Git.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// The controller and its object, in words.
    pub who: String,
    /// Whether it says that the workload is as it is to be.
    pub in_sync: bool,
    /// Why not, in its own words where it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What to type to have it look and write again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Asks Argo CD's Applications and Flux's objects about a workload until all say that it is in sync, four seconds at
/// most. Writes nothing; what can't be read says nothing.
pub(crate) async fn of(context: &Context, original: &Value) -> Vec<Standing> {
    let mut last = Vec::new();
    let asking = async {
        let mut pause = tokio::time::interval(LOOK_AGAIN);
        loop {
            pause.tick().await;
            match ask(context, original).await {
                Ok(standings) => last = standings,
                Err(error) => return tracing::debug!(%error, "whether the app is in sync is not known"),
            }
            if last.iter().all(|standing| standing.in_sync) {
                return;
            }
        }
    };
    // Whatever was heard last is what is told.
    let _ = tokio::time::timeout(PATIENCE, asking).await;
    last
}

async fn ask(context: &Context, original: &Value) -> Result<Vec<Standing>, ClusterError> {
    let (argo, flux) = futures::try_join!(argo::read(context, original), flux::read(context, original))?;
    Ok(argo::standings(original, &argo).into_iter().chain(flux::standings(&flux)).collect())
}
