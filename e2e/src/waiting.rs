//! Waiting for something with a deadline.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::{Value, json};
use towline_cluster::port::{PODS, Resource, Selection, WatchEvent};

use crate::adapter::Adapter;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// How often is asked where nothing tells of a change.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks until there is an answer; returns it and how long that took.
pub async fn eventually<T, E: Debug>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
) -> (T, Duration) {
    let began = Instant::now();
    let mut pause = tokio::time::interval(PAUSE);
    loop {
        pause.tick().await;
        match ask().await {
            Ok(answer) => return (answer, began.elapsed()),
            Err(error) if began.elapsed() > PATIENCE => {
                panic!("{what}: not within {PATIENCE:?}; last: {error:?}")
            }
            Err(_) => {}
        }
    }
}

/// Watches an object until it is as wanted.
pub async fn object(
    adapter: &dyn Adapter,
    resource: &'static Resource,
    name: &str,
    is_wanted: impl Fn(&Value) -> bool,
) -> Value {
    let selection = Selection { name: Some(name.to_owned()), labels: Vec::new() };
    let mut watch = adapter.cluster().watch(resource, adapter.namespace(), &selection).await.unwrap();
    let mut last = Value::Null;
    let found = async {
        loop {
            let seen = match watch.next().await.expect("a watch never ends") {
                WatchEvent::Restarted(seen) => seen,
                WatchEvent::Applied(seen) => vec![seen],
                WatchEvent::Deleted(_) | WatchEvent::Interrupted(_) => continue,
            };
            last = json!(seen);
            if let Some(found) = seen.into_iter().find(|seen| is_wanted(seen)) {
                return found;
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("{} {name} is not as wanted: {last}", resource.kind))
}

/// Tells whether a Deployment has all the pods that it wants, and no others.
pub fn is_settled(deployment: &Value) -> bool {
    let number = |pointer: &str| deployment.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let wanted = number("/spec/replicas");
    number("/status/observedGeneration") >= number("/metadata/generation")
        && number("/status/availableReplicas") == wanted
        && number("/status/replicas") == wanted
}

/// Returns the pods of the namespace whose names begin so.
pub async fn pods(adapter: &dyn Adapter, prefix: &str) -> Vec<Value> {
    let pods = adapter.cluster().list(PODS, Some(adapter.namespace()), &Selection::default()).await.unwrap();
    let own = |pod: &Value| {
        pod["metadata"]["name"].as_str().is_some_and(|name| name.starts_with(prefix))
            && pod["metadata"].get("deletionTimestamp").is_none()
    };
    pods.into_iter().filter(own).collect()
}
