//! Brings back what sync has replaced or deleted on the side that an agent has. It is asked for what sync is: a step that
//! says what it expects to find, with content from the agent's own trash, or from here where that has it no more.
//!
//! Nothing gives way but what sync itself has put there, or what both sides have agreed on since: so what goes is to be
//! had here too. The next sync takes it all for changes made there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, open, openat};
use tokio::time::Instant;
use towline_sync_core::base::Base;
use towline_sync_core::message::{
    Block, Content, DeltaOp, Failure, MAX_BLOCK_BYTES, Open, Outcome, Reply, Request, RequestId,
};
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::{self, Entry, Transition};

use crate::base_store;
use crate::displaced::{self, Displaced, Recorder};
use crate::error::SyncError;
use crate::peer::Peer;
use crate::record::{KnownPair, now};
use crate::undo::{FOLDER, FOLDER_BELOW, hash_of, open_at};

/// So many paths are dealt with together.
const TOGETHER: usize = 512;
/// So much is asked before an answer is taken, in bytes and about: less than the stream holds back, so that neither side
/// waits for the other to read.
const MAX_ASKED_BYTES: usize = 64 * 1024;
/// What a step takes beside its names, in bytes and at most.
const STEP_BYTES: usize = 128;
/// How long the other side may take to its next answer: it may have to copy much.
const ANSWER: Duration = Duration::from_mins(2);
/// So many files of this machine are looked at for a content.
const MAX_HOLDERS: usize = 16;
/// `ENOENT`: a folder on the way is not there.
const NO_ENTRY: i32 = 2;

/// What became of one thing to bring back there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UndoneThere {
    /// It stands in its place again.
    Restored {
        /// Something had stood there, which is in the trash there now.
        displaced: bool,
    },
    /// It stood there already.
    Same,
}

/// Why something was not brought back there. Nothing was changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotUndoneThere {
    /// Somebody made something of it that this side does not know.
    #[error("it was changed there since")]
    Changed,
    /// A folder stands there, with whatever is in it.
    #[error("a folder stands there now")]
    Folder,
    /// Neither side has its bytes any more.
    #[error("its content is kept no more, neither there nor here")]
    Gone,
    /// The other side said no.
    #[error("{message}")]
    Refused {
        /// In its words.
        message: String,
    },
}

/// Why nothing more can be brought back there.
#[derive(Debug, thiserror::Error)]
pub enum UndoThereError {
    /// The pair's own files can't be used, or the other side is gone.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// The folder there can't be opened or written.
    #[error("{}", failure.message)]
    Folder {
        /// Why.
        failure: Failure,
    },
    /// It is not the folder that was synced.
    #[error("the folder there is another one than the one that was synced")]
    Another,
}

/// A pair that nobody syncs while something is brought back there.
#[derive(Debug)]
pub struct UndoThere {
    pair: KnownPair,
    base: Base,
    epoch: Option<[u8; 16]>,
    recorder: Recorder,
    _lock: File,
}

impl UndoThere {
    /// Takes the pair's lock.
    ///
    /// # Errors
    ///
    /// [`SyncError::Busy`] when somebody syncs the pair, [`SyncError::State`] when its files can't be read.
    pub fn open(pair: &KnownPair) -> Result<Self, SyncError> {
        let state = &pair.state;
        let lock = base_store::lock(state, &pair.description.local)?;
        let failed = |what| move |source| SyncError::State { what, path: state.clone(), source };
        // What can't be understood is no reason to leave anything alone but what nobody knows.
        let base = base_store::read(state).map_err(failed("reading the sync base in"))?.unwrap_or_default();
        let epoch = displaced::read(state).map_err(failed("reading what went on the other side in"))?.epoch;
        Ok(Self { recorder: Recorder::new(state), pair: pair.clone(), base, epoch, _lock: lock })
    }

    /// Brings back what is `wanted`, one version of a path, and tells what became of each. It may be broken off at any
    /// time: what was brought back is found to be there the next time.
    ///
    /// # Errors
    ///
    /// See [`UndoThereError`]; what was told until then is so.
    pub async fn run(
        mut self,
        peer: Peer,
        wanted: &[Displaced],
        mut tell: impl FnMut(&Displaced, Result<UndoneThere, NotUndoneThere>),
    ) -> Result<(), UndoThereError> {
        let description = &self.pair.description;
        let mut talk = Talk { peer, next: 0, replies: Vec::new() };
        let open = Open {
            root: description.remote_root.clone(),
            ignore: description.ignore.clone(),
            excluded: Vec::new(),
            create: false,
            watch: false,
        };
        let epoch = talk.open(open).await?;
        if self.epoch != Some(epoch) {
            return Err(UndoThereError::Another);
        }
        self.recorder.opened(epoch);
        if self.base.epoch() != Some(epoch) {
            self.base = Base::default();
        }
        for wanted in wanted.chunks(TOGETHER) {
            self.bring_back(&mut talk, wanted, &mut tell).await?;
        }
        talk.peer.close().await;
        Ok(())
    }

    async fn bring_back(
        &mut self,
        talk: &mut Talk,
        wanted: &[Displaced],
        tell: &mut impl FnMut(&Displaced, Result<UndoneThere, NotUndoneThere>),
    ) -> Result<(), SyncError> {
        let looks = wanted.iter().map(|wanted| (look(wanted), Content::None)).collect();
        let mut going = Vec::new();
        for (wanted, found) in wanted.iter().zip(talk.apply(looks).await?) {
            match self.judge(wanted, found) {
                Ok(Some(from)) => going.push((wanted, from)),
                Ok(None) => tell(wanted, Ok(UndoneThere::Same)),
                Err(why) => tell(wanted, Err(why)),
            }
        }
        let missing = make_folders(talk, &going).await?;
        going.retain(|(wanted, _)| {
            let why = wanted.path.ancestors().find_map(|folder| missing.get(&folder));
            if let Some(why) = why {
                tell(wanted, Err(why.clone()));
            }
            why.is_none()
        });
        let steps: Vec<_> = going.iter().filter_map(|(wanted, from)| gives_way(wanted, from)).collect();
        self.recorder.begin(&steps);
        let applies = going.iter().map(|(wanted, from)| (step(wanted, from.entry()), content(wanted, from)));
        let outcomes = talk.apply(applies.collect()).await?;
        for ((wanted, from), outcome) in going.into_iter().zip(outcomes) {
            let outcome = match (outcome, &wanted.was) {
                (Outcome::NeedContent, Entry::File(file)) => match self.find(&wanted.path, *file).await {
                    Some(content) => talk.send(step(wanted, from.entry()), content).await?,
                    None => Outcome::NeedContent,
                },
                (outcome, _) => outcome,
            };
            let displaced = from.entry().is_some();
            let done = done(outcome).map(|()| UndoneThere::Restored { displaced });
            if done.is_err() && gives_way(wanted, &from).is_some() {
                self.recorder.withdraw(std::slice::from_ref(&wanted.path));
            }
            tell(wanted, done);
        }
        Ok(())
    }

    /// Says what is to give way; `None` if nothing is to be done.
    fn judge(&self, wanted: &Displaced, found: Outcome) -> Result<Option<From>, NotUndoneThere> {
        match found {
            Outcome::Done => Ok(None),
            Outcome::Stale { actual: None } => Ok(Some(From::Nothing)),
            Outcome::Failed(Failure { errno: NO_ENTRY, .. }) => Ok(Some(From::NoFolder)),
            Outcome::Stale { actual: Some(Entry::Directory) } => Err(NotUndoneThere::Folder),
            Outcome::Stale { actual: Some(actual) } => {
                let is_known = wanted.came.as_ref() == Some(&actual)
                    || self.base.entries().get(&wanted.path) == Some(&actual);
                // What is not synced is nothing that sync has put there, whoever says so.
                if is_known && actual.is_leaf() {
                    Ok(Some(From::Entry(actual)))
                } else {
                    Err(NotUndoneThere::Changed)
                }
            }
            Outcome::NeedContent | Outcome::Kept => Err(NotUndoneThere::Changed),
            Outcome::Failed(failure) => Err(NotUndoneThere::Refused { message: failure.message }),
        }
    }

    /// Returns a file of this machine with this content: one that is synced, or one that sync has replaced or deleted.
    async fn find(&self, path: &RelPath, file: snapshot::File) -> Option<File> {
        let holds = |entry: &Entry| matches!(entry, Entry::File(held) if held.hash == file.hash);
        let others = self.base.entries().iter().filter(|(_, entry)| holds(entry)).map(|(path, _)| path);
        let paths: Vec<_> = std::iter::once(path).chain(others).take(MAX_HOLDERS).cloned().collect();
        let local = self.pair.description.local.clone();
        let kept = crate::keep_folder(&self.pair.state).join("trash").join(file.hash.to_hex());
        let finding = tokio::task::spawn_blocking(move || {
            let synced = paths.iter().filter_map(|path| open_below(&local, path).ok());
            let kept = std::iter::once_with(|| File::open(kept).ok()).flatten();
            synced.chain(kept).find_map(|mut found| is_content(&mut found, file).ok()?.then_some(found))
        });
        finding.await.ok().flatten()
    }
}

/// What stands where something is brought back to.
#[derive(Debug)]
enum From {
    Nothing,
    /// Not even its folder does.
    NoFolder,
    Entry(Entry),
}

impl From {
    fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Nothing | Self::NoFolder => None,
            Self::Entry(entry) => Some(entry),
        }
    }
}

/// Returns a step that changes nothing: the answer says whether what is wanted stands there, or what else does.
fn look(wanted: &Displaced) -> Transition {
    step(wanted, Some(&wanted.was))
}

fn step(wanted: &Displaced, from: Option<&Entry>) -> Transition {
    Transition { path: wanted.path.clone(), from: from.cloned(), to: Some(wanted.was.clone()) }
}

/// Returns where the content comes from without being sent.
fn content(wanted: &Displaced, from: &From) -> Content {
    let stands = from.entry().and_then(Entry::hash);
    match &wanted.was {
        Entry::File(file) if file.size > 0 && stands != Some(file.hash) => {
            // What is there is not that, and then the trash is looked into.
            Content::Copy { from: wanted.path.clone() }
        }
        _ => Content::None,
    }
}

/// Returns what goes in its turn, for the record.
fn gives_way(wanted: &Displaced, from: &From) -> Option<Displaced> {
    let was = from.entry()?.clone();
    let came = Some(wanted.was.clone());
    Some(Displaced { path: wanted.path.clone(), at: now(), was, came, by_undo: true })
}

fn done(outcome: Outcome) -> Result<(), NotUndoneThere> {
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::Stale { .. } => Err(NotUndoneThere::Changed),
        Outcome::Kept => Err(NotUndoneThere::Folder),
        Outcome::NeedContent => Err(NotUndoneThere::Gone),
        Outcome::Failed(failure) => Err(NotUndoneThere::Refused { message: failure.message }),
    }
}

/// Makes the folders that are not there, and returns those that could not be made.
async fn make_folders(
    talk: &mut Talk,
    going: &[(&Displaced, From)],
) -> Result<BTreeMap<RelPath, NotUndoneThere>, SyncError> {
    let lacking = going.iter().filter(|(_, from)| matches!(from, From::NoFolder));
    let folders: BTreeSet<_> = lacking.flat_map(|(wanted, _)| wanted.path.ancestors()).collect();
    // A folder sorts before what is in it.
    let makes = |path: &RelPath| Transition { path: path.clone(), from: None, to: Some(Entry::Directory) };
    let outcomes = talk.apply(folders.iter().map(|path| (makes(path), Content::None)).collect()).await?;
    let failed = folders.into_iter().zip(outcomes).filter_map(|(folder, outcome)| {
        let why = match outcome {
            Outcome::Stale { .. } => {
                NotUndoneThere::Refused { message: format!("something else stands in the place of {folder}") }
            }
            outcome => done(outcome).err()?,
        };
        Some((folder, why))
    });
    Ok(failed.collect())
}

/// Opens a file below a folder; no link is followed on the way.
fn open_below(root: &Path, path: &RelPath) -> io::Result<File> {
    let mut folder = open(root, FOLDER, Mode::empty())?;
    for name in path.parent().iter().flat_map(RelPath::components) {
        folder = openat(&folder, name, FOLDER_BELOW, Mode::empty())?;
    }
    Ok(open_at(folder.as_fd(), path.name())?)
}

/// Tells whether a file has this content, and goes back to its beginning.
fn is_content(found: &mut File, file: snapshot::File) -> io::Result<bool> {
    let meta = found.metadata()?;
    if !meta.is_file() || meta.len() != file.size {
        return Ok(false);
    }
    let hash = hash_of(&mut *found)?;
    found.rewind()?;
    Ok(hash == file.hash)
}

/// Returns about how many bytes a step takes on its way, at most.
fn size(step: &Transition) -> usize {
    let link = |entry: &Option<Entry>| match entry {
        Some(Entry::Symlink { target }) => target.len(),
        _ => 0,
    };
    // A copy names the path once more.
    STEP_BYTES + 2 * step.path.as_str().len() + link(&step.from) + link(&step.to)
}

/// A talk with the other side.
struct Talk {
    peer: Peer,
    next: RequestId,
    replies: Vec<Reply>,
}

impl Talk {
    /// Has the folder opened, and returns its token.
    async fn open(&mut self, open: Open) -> Result<[u8; 16], UndoThereError> {
        let opening = async {
            self.peer.send(&mut vec![Request::Open(open)]).await?;
            loop {
                self.peer.receive(&mut self.replies).await?;
                for reply in self.replies.drain(..) {
                    if matches!(reply, Reply::Opened(_) | Reply::OpenFailed(_)) {
                        return Ok(reply);
                    }
                }
            }
        };
        match in_time(opening).await? {
            Reply::Opened(info) if info.writable => Ok(info.epoch),
            Reply::OpenFailed(failure) => Err(UndoThereError::Folder { failure }),
            _ => {
                let message = "it can't be written".to_owned();
                Err(UndoThereError::Folder { failure: Failure { errno: 0, message } })
            }
        }
    }

    /// Has steps made, and returns what became of each.
    async fn apply(&mut self, steps: Vec<(Transition, Content)>) -> Result<Vec<Outcome>, SyncError> {
        let mut outcomes = Vec::with_capacity(steps.len());
        let mut steps = steps.into_iter().peekable();
        while steps.peek().is_some() {
            let first = self.next;
            let (mut requests, mut bytes) = (Vec::new(), 0);
            while let Some((transition, content)) =
                steps.next_if(|(step, _)| requests.is_empty() || bytes + size(step) <= MAX_ASKED_BYTES)
            {
                bytes += size(&transition);
                requests.push(Request::Apply { id: self.next, transition, content });
                self.next += 1;
            }
            in_time(self.peer.send(&mut requests)).await?;
            outcomes.extend(self.answers(first..self.next).await?);
        }
        Ok(outcomes)
    }

    /// Has one step made with a content that is sent along.
    async fn send(&mut self, transition: Transition, mut content: File) -> Result<Outcome, SyncError> {
        let Some(Entry::File(file)) = transition.to else { return Ok(Outcome::NeedContent) };
        let id = self.next;
        self.next += 1;
        let apply = Request::Apply { id, transition, content: Content::Incoming };
        in_time(self.peer.send(&mut vec![apply])).await?;
        let mut left = file.size;
        loop {
            let mut bytes =
                vec![0; usize::try_from(left).map_or(MAX_BLOCK_BYTES, |left| left.min(MAX_BLOCK_BYTES))];
            if content.read_exact(&mut bytes).is_err() {
                // It is being changed, and so not that content any more.
                in_time(self.peer.send(&mut vec![Request::Cancel { id }])).await?;
                return Ok(Outcome::NeedContent);
            }
            left -= bytes.len() as u64;
            let block = Block { ops: vec![DeltaOp::Literal(bytes)], last: left == 0 };
            in_time(self.peer.send(&mut vec![Request::Data { id, block }])).await?;
            if left == 0 {
                break;
            }
        }
        let outcome = self.answers(id..self.next).await?;
        Ok(outcome.into_iter().next().unwrap_or(Outcome::NeedContent))
    }

    /// Waits for the answers to these requests. Only an answer is a sign of life.
    async fn answers(&mut self, asked: std::ops::Range<RequestId>) -> Result<Vec<Outcome>, SyncError> {
        let mut outcomes = BTreeMap::new();
        let count = asked.clone().count();
        let mut until = Instant::now() + ANSWER;
        while outcomes.len() < count {
            by(until, self.peer.receive(&mut self.replies)).await?;
            for reply in self.replies.drain(..) {
                // Whatever else it has to say is of no use here.
                let Reply::Applied { id, outcome } = reply else { continue };
                if id < asked.start {
                    // It was given up, and had failed before it knew.
                    continue;
                }
                if id >= asked.end || outcomes.insert(id, outcome).is_some() {
                    let message = format!("the other side answered a request {id} that was not made");
                    return Err(SyncError::Agent { message });
                }
                until = Instant::now() + ANSWER;
            }
        }
        Ok(outcomes.into_values().collect())
    }
}

/// Waits for something of the other side, but not for ever.
async fn in_time<T>(something: impl Future<Output = Result<T, String>>) -> Result<T, SyncError> {
    by(Instant::now() + ANSWER, something).await
}

async fn by<T>(until: Instant, something: impl Future<Output = Result<T, String>>) -> Result<T, SyncError> {
    let done = tokio::time::timeout_at(until, something).await;
    done.unwrap_or_else(|_| Err("the other side gave no answer".to_owned()))
        .map_err(|message| SyncError::Agent { message })
}
