//! What the folders of a session say, and what is done about it.

use std::time::Duration;

use tokio::time::Instant;
use towline_sync::News;
use towline_sync_core::engine::{Side, SyncEvent};
use towline_sync_core::message::Failure;

use super::Actor;
use crate::error::SessionError;
use crate::event::Event;
use crate::in_place::{self, Entered, Wish};
use crate::kinds::{self, Found};
use crate::machine::Input;
use crate::original;

/// Between two reports of a folder's progress.
const PROGRESS: Duration = Duration::from_millis(100);

/// What was told of a folder on the present stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// When its progress was.
    progress: Option<Instant>,
    /// Whether it has been in sync: until then single files are not worth an event each.
    in_sync: bool,
}

impl Actor {
    pub(super) async fn folder_news(&mut self, index: usize, news: News) {
        let sync = match news {
            News::Sync(sync) => sync,
            News::Dead(message) => return self.feed(Input::Impossible { message }).await,
            News::Broken(message) => {
                self.tell(Event::Warning { message: format!("sync of folder {index}: {message}") }).await;
                // The folder has let go of its channel: a new stream gives it a new one.
                if self.link.is_some() {
                    self.drop_stream().await;
                    self.feed(Input::Disconnected { reason: message }).await;
                }
                return;
            }
        };
        let (Some(state), Some(told)) = (self.state.folders.get_mut(index), self.told.get_mut(index)) else {
            return;
        };
        let event = match sync {
            SyncEvent::Scanned => {
                self.feed(Input::FolderScanned(index)).await;
                return;
            }
            SyncEvent::Progress { files, files_total, bytes, bytes_total } => {
                (state.files, state.files_total) = (files, files_total);
                // The last report of a transfer may come after the word that all is done.
                state.in_sync &= files == files_total;
                if told.progress.is_some_and(|before| before.elapsed() < PROGRESS) {
                    return;
                }
                told.progress = Some(Instant::now());
                Event::SyncProgress { folder: index, files, files_total, bytes, bytes_total }
            }
            SyncEvent::InSync => {
                state.in_sync = true;
                self.state_changed = true;
                if !std::mem::replace(&mut told.in_sync, true) {
                    self.tell(Event::InSync { folder: index }).await;
                }
                self.feed(Input::FolderInSync(index)).await;
                return;
            }
            SyncEvent::Conflict { path, kept_as } => {
                let kept = self.conflict_path(index, &kept_as);
                if let Some(state) = self.state.folders.get_mut(index) {
                    state.conflicts.push((path.to_string(), kept.clone()));
                }
                Event::Conflict { folder: index, path: path.to_string(), kept }
            }
            SyncEvent::Halted { side, reason, missing, of } => {
                let message =
                    format!("{reason} ({missing} of {of} files on the {side:?} side)").to_lowercase();
                state.halted = Some(message.clone());
                Event::SyncHalted { folder: index, message }
            }
            SyncEvent::Resumed => {
                state.halted = None;
                self.state_changed = true;
                return;
            }
            SyncEvent::Solved { path } => {
                state.problems.retain(|(known, _)| *known != path);
                self.state_changed = true;
                return;
            }
            SyncEvent::Problem { path, message } => {
                state.problems.retain(|(known, _)| *known != path);
                state.problems.push((path.clone(), message.clone()));
                Event::SyncProblem { folder: index, path, message }
            }
            SyncEvent::Unwritable { side: Side::Remote } => return self.make_writable(index, None).await,
            SyncEvent::OpenFailed { side: Side::Remote, failure } => {
                return self.make_writable(index, Some(failure)).await;
            }
            SyncEvent::OpenFailed { side: Side::Local, failure } => {
                return self.feed(Input::Impossible { message: failure.message }).await;
            }
            SyncEvent::Applied { .. } if !told.in_sync => return,
            SyncEvent::Applied { side, path, deleted } => {
                Event::Synced { folder: index, to: side.into(), path: path.to_string(), deleted }
            }
            other => {
                tracing::debug!(?other, folder = index, "sync");
                return;
            }
        };
        self.state_changed = true;
        self.tell(event).await;
    }

    /// Gives a folder that the container can't write an emptyDir, filled from the image: the clone is made anew.
    async fn make_writable(&mut self, index: usize, failure: Option<Failure>) {
        const REFUSALS: [i32; 3] = [1, 13, 30];
        let remote = self.live.request.folders[index].remote.clone();
        let words = failure.as_ref().map_or("it is not writable", |failure| failure.message.as_str());
        let hopeless = failure.as_ref().is_some_and(|failure| !REFUSALS.contains(&failure.errno));
        let message = format!("{remote} in the container can't be synced: {words}");
        if self.live.request.plan.storage.keeps(&remote) {
            let hint = "its volume belongs to another user: set securityContext.fsGroup in the manifest";
            return self.feed(Input::Impossible { message: format!("{message}; {hint}") }).await;
        }
        if hopeless || self.live.request.plan.scratch.contains(&remote) {
            return self.feed(Input::Impossible { message }).await;
        }
        match self.with_scratch(&remote).await {
            Ok(()) => {
                let message = format!(
                    "{remote} can't be written by the container's user: it becomes an emptyDir with the image's files"
                );
                self.tell(Event::Warning { message }).await;
            }
            Err(error) => self.feed(Input::Impossible { message: format!("{message}; {error}") }).await,
        }
    }

    async fn with_scratch(&mut self, remote: &str) -> Result<(), SessionError> {
        let live = &mut self.live;
        let object = original::object(&live.context, &live.journal.record);
        let original = live.context.cluster.get(&object).await?;
        let found = Found { resource: object.resource, object: original };
        let view = kinds::with_template(&live.context, &found).await?;
        let template = live.journal.record.template();
        let container = crate::plan::container(&view, template, live.request.plan.container.as_deref());
        if container.is_some_and(|container| crate::plan::is_mounted(container, remote)) {
            let message = "its volume is read-only, or belongs to another user".to_owned();
            return Err(SessionError::Failed { message });
        }
        live.request.plan.scratch.push(remote.to_owned());
        if live.journal.record.in_place.is_some() {
            let entered = in_place::enter(&live.context, &mut live.journal, &live.request.plan, &Wish::Anew);
            return match entered.await? {
                Entered::Done(_) => Ok(()),
                Entered::Lost(message) => Err(SessionError::Failed { message }),
                Entered::Gone => Err(SessionError::Failed { message: "the original was deleted".to_owned() }),
                Entered::NoWayBack(fields) => Err(in_place::no_way_back(&found.name(), &fields)),
            };
        }
        let clone = towline_patcher::clone_of(&view, &live.request.plan)?;
        let wanted = crate::plan::record_of(&found, &live.request.plan, &clone)?;
        crate::up::ensure_clone(&live.context, &mut live.journal, &clone, &wanted).await?;
        Ok(())
    }

    fn conflict_path(&self, index: usize, name: &str) -> String {
        let keep = crate::up::sync_folder(
            &self.live.context,
            &self.live.journal.record,
            &self.live.request.folders[index],
        );
        towline_sync::keep_folder(&keep).join("conflicts").join(name).display().to_string()
    }
}
