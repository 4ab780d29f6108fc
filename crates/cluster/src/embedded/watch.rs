//! Watches: whoever changes something moves the version file, and whoever watches looks again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use rustix::fs::inotify::WatchFlags;
use serde_json::Value;

use super::controllers::{self, Pending};
use super::faults::Faults;
use super::notice::{Notice, first_end};
use super::{Shared, locked, meta, select, store};
use crate::error::ClusterError;
use crate::port::{Object, Resource, Selection, Watch, WatchEvent};

/// How long a broken watch waits before it tries again.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Watcher {
    shared: Arc<Shared>,
    resource: &'static Resource,
    namespace: String,
    selection: Selection,
    notice: Notice,
    /// By uid.
    known: BTreeMap<String, Value>,
    events: VecDeque<WatchEvent>,
    phase: Phase,
    pending: Pending,
    faults: Faults,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Begins,
    Goes,
    Broken,
}

/// Begins a watch.
pub(super) fn open(
    shared: Arc<Shared>,
    resource: &'static Resource,
    namespace: String,
    selection: Selection,
    faults: Faults,
) -> Result<Watch, ClusterError> {
    let root = &shared.machine.root;
    let notice =
        Notice::of(root, WatchFlags::MOVED_TO).map_err(|error| store::unreachable(root, "watch", &error))?;
    let watcher = Watcher {
        resource,
        namespace,
        selection,
        notice,
        known: BTreeMap::new(),
        events: VecDeque::new(),
        phase: Phase::Begins,
        pending: Pending::default(),
        faults,
        shared,
    };
    Ok(Box::pin(stream::unfold(watcher, |mut watcher| async {
        let event = watcher.next().await;
        Some((event, watcher))
    })))
}

impl Watcher {
    async fn next(&mut self) -> WatchEvent {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            match self.phase {
                Phase::Begins => {}
                Phase::Goes => self.wait().await,
                Phase::Broken => tokio::time::sleep(RETRY).await,
            }
            self.look().await;
        }
    }

    /// Waits until there may be news.
    async fn wait(&self) {
        let due = async {
            match self.pending.due {
                // A little late is fine; a little early would be a second look for nothing.
                Some(due) => {
                    let left = u64::try_from(due - meta::now_milliseconds()).unwrap_or_default();
                    tokio::time::sleep(Duration::from_millis(left.saturating_add(5))).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // A notice that fails is a reason to look, and looking will say what is wrong.
            _ = self.notice.happened() => {}
            () = first_end(&self.pending.processes) => {}
            () = due => {}
        }
    }

    async fn look(&mut self) {
        let (resource, namespace, selection) =
            (self.resource, self.namespace.clone(), self.selection.clone());
        let found = locked(&self.shared, move |store, machine| {
            let pending = controllers::run(store, machine)?;
            let namespace = (!namespace.is_empty()).then_some(namespace.as_str());
            Ok((select(store, resource, namespace, &selection)?, pending))
        });
        match found.await {
            Ok((objects, pending)) => {
                self.pending = pending;
                self.phase = self.tell(objects);
            }
            Err(error) => {
                if self.phase != Phase::Broken {
                    self.events.push_back(WatchEvent::Interrupted(error));
                }
                self.phase = Phase::Broken;
            }
        }
    }

    fn tell(&mut self, objects: Vec<Value>) -> Phase {
        let mut known: BTreeMap<String, Value> =
            objects.iter().map(|object| (meta::uid(object).to_owned(), object.clone())).collect();
        std::mem::swap(&mut known, &mut self.known);
        if self.phase != Phase::Goes {
            self.events.push_back(WatchEvent::Restarted(objects));
            return Phase::Goes;
        }
        let mut changed = Vec::new();
        for object in objects {
            let before = known.remove(meta::uid(&object));
            if before.is_none_or(|before| {
                before["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"]
            }) {
                changed.push(object);
            }
        }
        if !(known.is_empty() && changed.is_empty()) && self.faults.drops_watch() {
            let object = Object::new(self.resource, &self.namespace, "");
            let message = "too old resource version".to_owned();
            let expired = ClusterError::Server { verb: "watch", object, code: 410, message };
            self.events.push_back(WatchEvent::Interrupted(expired));
            return Phase::Broken;
        }
        self.events.extend(known.into_values().map(WatchEvent::Deleted));
        changed.sort_by_key(|object| {
            meta::text(object, "/metadata/resourceVersion").parse::<u64>().unwrap_or(0)
        });
        self.events.extend(changed.into_iter().map(WatchEvent::Applied));
        Phase::Goes
    }
}
