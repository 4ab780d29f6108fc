//! What a running session hears of the original workload, and does about it where its own template is changed.

use serde_json::Value;
use towline_cluster::port::WatchEvent;
use towline_patcher::Record;

use super::{Actor, Live};
use crate::event::Event;
use crate::in_place::{self, Entered, Wish};
use crate::machine::Input;
use crate::pod::text;
use crate::request::OnChange;

impl Actor {
    pub(super) async fn original_news(&mut self, event: WatchEvent) {
        // Where there is no original, another workload of its name is not ours.
        if self.live.journal.record.autocreated {
            return;
        }
        let original = match event {
            WatchEvent::Applied(original) => Some(original),
            WatchEvent::Restarted(found) => found.into_iter().next(),
            WatchEvent::Deleted(_) => None,
            WatchEvent::Interrupted(error) => {
                self.tell(Event::Warning { message: format!("the cluster does not answer: {error}") }).await;
                return;
            }
        };
        let record = &self.live.journal.record;
        // News from before our own write is no news.
        if let Some(original) = &original
            && text(original, "/metadata/uid") == record.uid
            && (self.has_parked || record.in_place.is_some())
            && record.is_past(original)
        {
            return;
        }
        let Some(original) = original else {
            return self.feed(Input::Original { replicas: None, by: None }).await;
        };
        self.feed(seen(&original, &self.live.journal.record)).await;
        if let Some(changed) = self.template_changed(&original).await {
            self.feed(changed).await;
        }
    }

    /// Brings a template that somebody else changed back into dev mode.
    pub(super) async fn take_up(&mut self) -> Input {
        let wish = match (self.live.request.on_change, &self.applied) {
            (OnChange::Keep, Some(template)) => Wish::Keep(Box::new(template.clone())),
            _ => Wish::Anew,
        };
        let Live { context, journal, request, .. } = &mut self.live;
        match in_place::enter(context, journal, &request.plan, &wish).await {
            Ok(Entered::Done(stored)) => {
                let record = &self.live.journal.record;
                self.applied = stored.pointer(record.template()).cloned();
                let object = format!("{} {}", record.kind, record.name);
                self.tell(Event::Object { action: "changed", object }).await;
                Input::TakenUp
            }
            Ok(Entered::Lost(message)) => Input::LeaseLost { message },
            Ok(Entered::Gone) => Input::Original { replicas: None, by: None },
            // The kind's controller has not kept it yet: the next look at the original finds it.
            Ok(Entered::NoWayBack(fields)) => Input::TakeUpFailed {
                message: format!("waiting for a copy of {} in its history", fields.join(", ")),
            },
            Err(error) => Input::TakeUpFailed {
                message: format!("the change could not be taken into the session: {error}"),
            },
        }
    }

    /// Tells whether somebody else has changed the original's template since we last looked.
    async fn template_changed(&mut self, original: &Value) -> Option<Input> {
        let record = &self.live.journal.record;
        if text(original, "/metadata/uid") != record.uid {
            return None;
        }
        let by = towline_patcher::last_writer(original);
        if record.in_place.is_none() {
            let hash = towline_patcher::template_hash(original, record.template());
            let is_news = hash != record.template_hash && hash != self.noted;
            self.noted = hash;
            return is_news.then_some(Input::Changed { by, undone: false });
        }
        if record.is_as_left(original) {
            self.applied = original.pointer(record.template()).cloned();
            return None;
        }
        let history = in_place::history(&self.live.context, original).await.unwrap_or_default();
        let base = towline_patcher::base(original, record, &history);
        Some(Input::Changed { by, undone: !base.was_ours })
    }
}

/// Reads how much of the original runs and who wrote that last.
fn seen(original: &Value, record: &Record) -> Input {
    if text(original, "/metadata/uid") != record.uid {
        return Input::Original { replicas: None, by: None };
    }
    let by = towline_patcher::switch_writer(original, record);
    let replicas = u64::try_from(record.level(original)).unwrap_or(0);
    Input::Original { replicas: Some(replicas), by }
}
