//! Tells what happens to pods as Event objects, in the words that Kubernetes uses.

use serde_json::{Value, json};

use super::meta;
use super::store::Store;
use crate::error::ClusterError;
use crate::port::EVENTS;

/// How long an event is kept, in milliseconds: as long as the API server keeps it.
const KEPT_MILLISECONDS: i64 = 3_600_000;

/// Whether an event is good news.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// As it should be.
    Normal,
    /// Something to look at.
    Warning,
}

/// Tells one thing about an object; the same thing again is counted.
pub(super) fn emit(
    store: &mut Store,
    about: &Value,
    component: &str,
    kind: Kind,
    reason: &str,
    message: &str,
) -> Result<(), ClusterError> {
    let namespace = meta::namespace(about);
    let now = meta::now();
    let oldest = meta::now_milliseconds() - KEPT_MILLISECONDS;
    let mut same = None;
    for event in store.list(EVENTS, Some(namespace))? {
        if meta::parse_time(meta::text(&event, "/lastTimestamp")).is_some_and(|time| time < oldest) {
            store.remove(EVENTS, namespace, meta::name(&event))?;
        } else if meta::text(&event, "/involvedObject/uid") == meta::uid(about)
            && meta::text(&event, "/reason") == reason
            && meta::text(&event, "/message") == message
        {
            same = Some(event);
        }
    }
    let mut event = same.unwrap_or_else(|| {
        let mut involved = json!({
            "apiVersion": about["apiVersion"], "kind": about["kind"], "namespace": namespace,
            "name": meta::name(about), "uid": meta::uid(about),
        });
        involved["resourceVersion"] = about["metadata"]["resourceVersion"].clone();
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {
                "name": format!("{}.{}", stem(meta::name(about)), meta::random_hex(8)), "namespace": namespace,
                "uid": meta::new_uid(), "creationTimestamp": now,
            },
            "involvedObject": involved, "reason": reason, "message": message, "count": 0,
            "firstTimestamp": now, "source": {"component": component}, "reportingComponent": component,
            "type": match kind { Kind::Normal => "Normal", Kind::Warning => "Warning" },
        })
    });
    event["count"] = json!(event["count"].as_u64().unwrap_or_default().saturating_add(1));
    event["lastTimestamp"] = json!(now);
    store.put(EVENTS, &mut event)
}

/// Returns as much of a name as leaves room for an ending.
fn stem(name: &str) -> &str {
    name.get(..200).unwrap_or(name).trim_end_matches(['-', '.'])
}
