//! What a sync would do, without doing it.

use std::collections::BTreeMap;

use towline_sync_core::engine::{Engine, EngineConfig, Halt, Side};
use towline_sync_core::message::{Failure, Open, Problem, Reply, Request, RootInfo};
use towline_sync_core::path::RelPath;
use towline_sync_core::reconcile::{Plan, Tree, View};
use towline_sync_core::snapshot::{Entry, Transition};

use crate::base_store;
use crate::error::SyncError;
use crate::pair::PairOptions;
use crate::peer::Peer;

/// "No such file or directory" on every Unix.
const NOT_FOUND: i32 = 2;

/// Why it can't be said what a sync would do.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// The pair's own files can't be read, or the other side is gone.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// A side's folder can't be looked through.
    #[error("the {} folder {root} can't be synced: {}", side.name(), failure.message)]
    Folder {
        /// Which side's.
        side: Side,
        /// The folder, as that side names it.
        root: String,
        /// Why.
        failure: Failure,
    },
}

/// What a sync would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The steps, those of the remote side first, each side's in the order in which they can be made.
    pub steps: Vec<Step>,
    /// Paths that can't be synced.
    pub problems: Vec<Problem>,
    /// Sides that have lost so much that a sync would stop and ask.
    pub halted: Vec<Halt>,
}

/// One step that would be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// On which side.
    pub side: Side,
    /// What, and from what to what.
    pub transition: Transition,
    /// Both sides changed the path: what this side has there would be kept apart.
    pub conflict: bool,
}

/// What is to be done to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Nothing stands there yet.
    Create,
    /// Something else stands there.
    Update,
    /// It goes.
    Delete,
}

impl Step {
    /// Returns what would be done.
    pub fn action(&self) -> Action {
        match (&self.transition.from, &self.transition.to) {
            (_, None) => Action::Delete,
            (None, Some(_)) => Action::Create,
            (Some(_), Some(_)) => Action::Update,
        }
    }

    /// Returns the size of the file that would stand there, in bytes; 0 for all that is no file.
    pub fn size(&self) -> u64 {
        match &self.transition.to {
            Some(Entry::File(file)) => file.size,
            _ => 0,
        }
    }
}

/// Looks through both sides and says what a sync would do. Nothing is written on either side, nor are the pair's own
/// files changed; a sync of the pair may be running meanwhile.
///
/// # Errors
///
/// When a side can't be looked through.
pub async fn preview(options: &PairOptions, local: Peer, remote: Peer) -> Result<Preview, PreviewError> {
    let base = base_store::read(&options.state).map_err(|source| SyncError::State {
        what: "reading the sync base in",
        path: options.state.clone(),
        source,
    })?;
    let open = Open {
        root: options.local.to_string_lossy().into_owned(),
        ignore: options.ignore.clone(),
        excluded: Vec::new(),
        create: false,
        watch: false,
    };
    let (local, remote) = tokio::join!(
        look(local, Side::Local, open),
        look(remote, Side::Remote, Open { create: false, watch: false, ..options.remote.clone() })
    );
    let (local, remote) = (local?, remote?);
    // The engine knows what of the base still holds, and what looks like a loss. It is told of both sides and its
    // wishes are not heard.
    let config = EngineConfig { eager: false, ..options.engine.clone() };
    let mut engine = Engine::new(config, base.unwrap_or_default());
    for (side, seen) in [(Side::Local, &local), (Side::Remote, &remote)] {
        engine.connect(side, options.remote.clone());
        let entries = seen.tree.iter().map(|(path, entry)| (path.clone(), entry.clone())).collect();
        for reply in [
            Reply::Opened(seen.info.clone()),
            Reply::Entries { entries, last: true },
            Reply::Problems(seen.problems.clone()),
        ] {
            engine
                .handle_reply(side, reply)
                .map_err(|error| SyncError::Agent { message: error.to_string() })?;
        }
    }
    let status = engine.status();
    let view = View {
        mode: options.engine.mode,
        local: &local.tree,
        remote: &remote.tree,
        base: engine.base().entries(),
        opaque: true,
    };
    Ok(Preview { steps: steps(view.plan()), problems: status.problems, halted: status.halted })
}

fn steps(plan: Plan) -> Vec<Step> {
    let Plan { local, remote, keeps, agreed: _ } = plan;
    let loses = |path: &RelPath, is_local: bool| {
        keeps.iter().any(|(kept, on_local, _)| kept == path && *on_local == is_local)
    };
    let sides = [(Side::Remote, remote), (Side::Local, local)];
    let steps = sides.into_iter().flat_map(|(side, steps)| steps.into_iter().map(move |step| (side, step)));
    steps
        .map(|(side, transition)| {
            let conflict = loses(&transition.path, side == Side::Local);
            Step { side, transition, conflict }
        })
        .collect()
}

/// What stands on a side.
struct Seen {
    info: RootInfo,
    tree: Tree,
    problems: Vec<Problem>,
}

/// Looks through one side.
async fn look(mut peer: Peer, side: Side, open: Open) -> Result<Seen, PreviewError> {
    let gone = |message| SyncError::Agent { message };
    let root = open.root.clone();
    let may_be_missing = side == Side::Remote;
    // What can't be synced is said after what can: the answer to the last question comes after both.
    let last = Request::Fetch { id: 0, files: Vec::new() };
    peer.send(&mut vec![Request::Look(open), Request::Scan { eager: false }, last]).await.map_err(gone)?;
    let mut seen = Seen { info: nothing(), tree: BTreeMap::new(), problems: Vec::new() };
    let mut replies = Vec::new();
    let mut complete = false;
    while !complete {
        peer.receive(&mut replies).await.map_err(gone)?;
        for reply in replies.drain(..) {
            match reply {
                Reply::Opened(info) => seen.info = info,
                Reply::OpenFailed(Failure { errno: NOT_FOUND, .. }) if may_be_missing => {
                    complete = true;
                    break;
                }
                Reply::OpenFailed(failure) | Reply::ScanFailed(failure) => {
                    return Err(PreviewError::Folder { side, root, failure });
                }
                Reply::Entries { entries, .. } => seen.tree.extend(entries),
                Reply::Fetched { .. } => complete = true,
                Reply::Problems(problems) => seen.problems = problems,
                _ => {}
            }
        }
    }
    peer.close().await;
    Ok(seen)
}

/// Describes a folder that is not there yet.
fn nothing() -> RootInfo {
    RootInfo { epoch: [0; 16], writable: true, case_sensitive: true, mounts: Vec::new() }
}
