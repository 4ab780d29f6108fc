//! Makes new entries and replaces small files in batches. A new folder is built whole beside the tree and takes its place
//! with one rename.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{Mode, symlinkat, syncfs};
use rustix::io::Errno;
use towline_sync_core::delta::DeltaCheck;
use towline_sync_core::message::{Body, DeltaOp, MAX_BATCH_BYTES, New, Outcome, RequestId};
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::{self, Entry};

use self::parents::Parents;
use crate::apply::{FEW, file_mode, not_synced};
use crate::commit::{Step, failed, move_new};
use crate::disk::{Identity, Timestamp, enter_folder, open_file, stat_at, stat_of};
use crate::hook::Moment;
use crate::known::{Seen, now, stamp};
use crate::make::{Draft, Job, MAX_DRAFTS, make, make_folder, not_staged};
use crate::stage::{Stage, remove_tree};
use crate::symlink::stays_beneath;
use crate::tree::refusal;
use crate::workspace::Workspace;

mod parents;

/// The most folders held open at once.
const MAX_OPEN: usize = 64;

/// The most batches that are forced to the disk together.
pub(crate) const MAX_STAGED: usize = 16;
/// About the most that the words about failures take in an answer, in bytes.
const MAX_WORDS: usize = 256 * 1024;

/// What was not made of a batch: its place there, and why.
pub(crate) type Failures = Vec<(u32, Outcome)>;

/// What became of requests.
pub(crate) type Answers = Vec<(RequestId, Failures)>;

/// One batch on its way into the tree: the entries of a request, or of some.
pub(crate) struct Batch {
    /// The first of its requests.
    id: RequestId,
    /// Whose entries these are: so many of each.
    requests: Vec<(RequestId, usize)>,
    news: Arc<[New]>,
    items: Vec<Item>,
    /// The folders that this batch makes.
    made: HashMap<RelPath, usize>,
    /// Some of the folders it is making, open.
    staged: HashMap<usize, Arc<OwnedFd>>,
    /// Files of it that are yet to be made.
    drafts: Vec<Draft>,
    parents: Parents,
    /// Whether each file is forced to the disk by itself.
    force_each: bool,
}

/// One entry of a batch.
struct Item {
    /// The folder of the same batch that it lies in.
    parent: Option<usize>,
    children: Vec<usize>,
    made: Step<Seen>,
    /// The modification time that a file was given.
    stamp: Timestamp,
}

impl Workspace {
    /// Makes the new entries of some requests as if they were one, folders before what is in them. The answers come now,
    /// or with the next [`flush_installs`](Self::flush_installs).
    pub(crate) fn install_all(&mut self, requests: Vec<(RequestId, Vec<New>)>) -> Answers {
        let mut answers = Answers::new();
        let (mut counts, mut all, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (id, mut news) in requests {
            match self.check_batch(&news, bytes) {
                Ok(more) => {
                    bytes += more;
                    counts.push((id, news.len()));
                    all.append(&mut news);
                }
                Err(outcome) => {
                    answers.push((id, failures(news.iter().map(|_| Some(outcome.clone())))));
                }
            }
        }
        let Some((id, _)) = counts.first() else { return answers };
        let mut batch = self.stage_batch(*id, all);
        batch.requests = counts;
        if self.options.durable {
            batch.staged.clear();
            self.staged.push(batch);
        } else {
            answers.extend(self.place_batch(batch, &Ok(())));
        }
        answers
    }

    /// Forces what is staged to the disk and puts it in its place.
    pub(crate) fn flush_installs(&mut self) -> Answers {
        let staged = std::mem::take(&mut self.staged);
        let each = staged.iter().all(|batch| batch.force_each);
        let forced = if each { Ok(()) } else { self.force_everything() };
        staged.into_iter().flat_map(|batch| self.place_batch(batch, &forced)).collect()
    }

    /// Throws away what is staged.
    pub(crate) fn discard_installs(&mut self) {
        for batch in std::mem::take(&mut self.staged) {
            for index in 0..batch.items.len() {
                if let (None, Ok(stage)) = (batch.items[index].parent, self.stage()) {
                    // What can't be removed now is swept when the root is opened next.
                    let _left = remove_tree(stage.incoming(), &batch.name(index));
                }
            }
        }
    }

    fn stage_batch(&mut self, id: RequestId, news: Vec<New>) -> Batch {
        let news: Arc<[New]> = news.into();
        let files = news.iter().filter(|new| matches!(new.entry, Entry::File(_))).count();
        let mut batch = Batch {
            id,
            requests: Vec::new(),
            news: Arc::clone(&news),
            items: Vec::with_capacity(news.len()),
            made: HashMap::new(),
            staged: HashMap::new(),
            drafts: Vec::new(),
            parents: Parents::default(),
            force_each: self.options.durable && files <= FEW,
        };
        let mut last = None;
        for (index, new) in news.iter().enumerate() {
            // What lies together most often comes together.
            let folder = new.path.as_str().strip_suffix(new.path.name());
            let parent = match last {
                Some((before, parent)) if before == folder => parent,
                _ => new.path.parent().and_then(|parent| batch.made.get(&parent).copied()),
            };
            last = Some((folder, parent));
            let made = Err(Outcome::NeedContent);
            let stamp = new.modified.unwrap_or_else(stamp);
            batch.items.push(Item { parent, children: Vec::new(), made, stamp });
            if let Some(made) = self.stage_one(&mut batch, index).transpose() {
                batch.items[index].made = made;
            }
            if batch.drafts.len() >= MAX_DRAFTS {
                self.make_drafts(&mut batch);
            }
            if let Some(parent) = parent {
                batch.items[parent].children.push(index);
            }
            if new.entry == Entry::Directory {
                batch.made.entry(new.path.clone()).or_insert(index);
            }
        }
        self.make_drafts(&mut batch);
        batch
    }

    /// Makes the files that were drafted.
    fn make_drafts(&mut self, batch: &mut Batch) {
        let drafts = std::mem::take(&mut batch.drafts);
        let (news, memory) = (Arc::clone(&batch.news), Arc::clone(&self.tree.memory));
        let job = Job::new(news, drafts, memory, batch.force_each);
        for (index, made) in self.makers.make_all(job) {
            let path = &batch.news[index].path;
            batch.items[index].made = made.and_then(|seen| {
                let staged = self.hook.at(Moment::Staged, path);
                staged.map(|()| seen).map_err(|error| not_staged(path, &error))
            });
        }
    }

    fn place_batch(&mut self, mut batch: Batch, forced: &io::Result<()>) -> Answers {
        let news = Arc::clone(&batch.news);
        for (index, new) in news.iter().enumerate() {
            if batch.items[index].parent.is_some() {
                continue;
            }
            if batch.items[index].made.is_ok() {
                match forced {
                    Ok(()) => self.place_top(&mut batch, index),
                    Err(error) => batch.fail(index, &failed("write", &new.path, error)),
                }
            }
            if batch.items[index].made.is_err()
                && let Ok(stage) = self.stage()
            {
                // What can't be removed now is swept when the root is opened next.
                let _left = remove_tree(stage.incoming(), &batch.name(index));
            }
        }
        for (item, new) in batch.items.iter().zip(news.iter()) {
            // What was replaced was recorded then.
            if let (Ok(seen), None) = (&item.made, new.from) {
                self.tree.record(&new.path, seen);
            }
        }
        let mut outcomes = batch.items.into_iter().map(|item| item.made.err());
        let requests = batch.requests.into_iter();
        requests.map(|(id, count)| (id, failures(outcomes.by_ref().take(count)))).collect()
    }

    /// Forces everything that was written to the disk.
    pub(crate) fn force_everything(&self) -> io::Result<()> {
        // The staging folder is on the same one.
        Ok(syncfs(self.tree.root.fd())?)
    }

    /// Checks what concerns a request as a whole, with `before` bytes to be written before it; returns how many it has.
    fn check_batch(&mut self, news: &[New], before: u64) -> Step<u64> {
        let Some(first) = news.first() else { return Ok(0) };
        self.store()?;
        self.tree.root.check().map_err(|error| failed("find the folder of", &first.path, &error))?;
        let size = |new: &New| if let Entry::File(file) = new.entry { file.size } else { 0 };
        let size = news.iter().map(size).fold(0, u64::saturating_add);
        if size > MAX_BATCH_BYTES as u64 {
            return Err(Outcome::Failed(refusal(Errno::FBIG, format!("{size} bytes are too many together"))));
        }
        self.check_free(&first.path, before + size).map(|()| size)
    }

    /// Refuses what must never be touched, whoever asks.
    fn check_new(&self, parents: &mut Parents, new: &New, is_in_new: bool) -> Step<()> {
        let New { path, from, entry, .. } = new;
        let verdict = self.tree.rules.decide(path);
        // A new folder that it lies in was checked.
        let pruned = verdict.skip_dir || (!is_in_new && parents.is_pruned(self, path));
        self.check_path(path, pruned || (verdict.ignored && *entry != Entry::Directory))?;
        let refuse = |errno, why: &str| Err(Outcome::Failed(refusal(errno, format!("{path}: {why}"))));
        match entry {
            Entry::Opaque(_) => return Err(not_synced(path)),
            Entry::Symlink { target } if !stays_beneath(path, target) => {
                return refuse(Errno::PERM, "the symbolic link can lead outside the folder");
            }
            Entry::Symlink { .. } | Entry::Directory if from.is_some() => {
                return refuse(Errno::PROTO, "only a file takes a file's place together with others");
            }
            Entry::File(file) if file.size > self.options.limits.file_size => {
                return refuse(Errno::FBIG, &format!("{} bytes are too many", file.size));
            }
            Entry::Symlink { .. } | Entry::Directory | Entry::File(_) => {}
        }
        let refusal = match from {
            None => self.tree.guard.refusal_by_name(path),
            // What stands there may be known by another name.
            Some(_) => self.tree.guard.refusal(&self.tree.root, path),
        };
        match refusal {
            None => Ok(()),
            Some(why) => refuse(Errno::PERM, &format!("never written from the other side: {why}")),
        }
    }

    /// Makes an entry in the staging folder; `None` stands for a file that was only drafted.
    fn stage_one(&mut self, batch: &mut Batch, index: usize) -> Step<Option<Seen>> {
        let news = Arc::clone(&batch.news);
        let new = &news[index];
        let path = &new.path;
        if let Some(parent) = batch.items[index].parent
            && batch.items[parent].made.is_err()
        {
            return Err(without_folder(path));
        }
        let is_in_new = batch.items[index].parent.is_some();
        self.check_new(&mut batch.parents, new, is_in_new)?;
        if batch.made.contains_key(path) {
            return Err(Outcome::Stale { actual: Some(Entry::Directory) });
        }
        if new.from.is_some() && batch.items[index].parent.is_some() {
            // In a folder that is being made there is nothing to be replaced.
            return Err(Outcome::Stale { actual: None });
        }
        let mut actual = None;
        if new.from.is_some() {
            let parent = batch.parents.open(self, path)?;
            actual = self.actual(parent.as_fd(), path)?;
            // It may have been done already.
            if let Some(seen) = actual.take_if(|seen| seen.entry == new.entry) {
                return Ok(Some(seen));
            }
        }
        let incoming = self.stage()?.share_incoming();
        let staging = |error: io::Error| not_staged(path, &error);
        let (folder, name) = batch.place_of(&incoming, index).map_err(staging)?;
        let taken = now();
        self.hook.at(Moment::Write, path).map_err(staging)?;
        let stat = match &new.entry {
            Entry::Directory => {
                let made = make_folder(folder.as_fd(), &name);
                let (fd, stat) = made.map_err(staging)?;
                batch.hold(index, fd);
                stat
            }
            Entry::Symlink { target } => symlinkat(target.as_str(), &folder, name.as_str())
                .map_err(io::Error::from)
                .and_then(|()| stat_at(folder.as_fd(), &name))
                .map_err(staging)?,
            Entry::File(file) => {
                let stamp = batch.items[index].stamp;
                let draft = |mode| Draft { index, folder, name, mode, stamp };
                if let (Body::Whole(_), None) = (&new.body, new.from) {
                    batch.drafts.push(draft(file_mode(file.executable, None, self.umask)));
                    return Ok(None);
                }
                let (content, mode) = self.content(&mut batch.parents, new, *file, actual)?;
                let seen = make(new, &draft(mode), &content, &self.tree.memory, batch.force_each)?;
                self.hook.at(Moment::Staged, path).map_err(staging)?;
                return Ok(Some(seen));
            }
            Entry::Opaque(_) => return Err(not_synced(path)),
        };
        self.hook.at(Moment::Staged, path).map_err(staging)?;
        Ok(Some(Seen::new(new.entry.clone(), stat, taken)))
    }

    /// Returns the content of a file that takes the place of another, which is `actual`, or is made of another, and the
    /// mode that it gets.
    fn content<'a>(
        &mut self,
        parents: &mut Parents,
        new: &'a New,
        file: snapshot::File,
        actual: Option<Seen>,
    ) -> Step<(Cow<'a, [u8]>, Mode)> {
        let path = &new.path;
        let mut mode = file_mode(file.executable, None, self.umask);
        let mut old = None;
        if let Some(from) = new.from {
            let parent = parents.open(self, path)?;
            if let Some(expected) = self.expect(parent.as_fd(), path, actual, Some(&Entry::File(from)))? {
                mode = file_mode(file.executable, Some(expected.stat.mode), self.umask);
                if let Body::Delta(_) = new.body {
                    let opened = open_file(parent.as_fd(), path.name());
                    let (open, stat) = opened.map_err(|error| failed("read", path, &error))?;
                    if stat != expected.stat {
                        return Err(self.stale(parent.as_fd(), path));
                    }
                    old = Some((open, from.size));
                }
            }
        }
        let content = match (&new.body, old) {
            (Body::Whole(bytes), _) => Cow::Borrowed(&bytes[..]),
            (Body::Delta(ops), Some((open, size))) => Cow::Owned(build(&open, size, ops, file.size)?),
            (Body::Delta(_), None) => return Err(Outcome::NeedContent),
            (Body::Past { of, ops }, _) => {
                let open = self.store()?.trash.find(*of).ok_or(Outcome::NeedContent)?;
                let size = stat_of(open.as_fd()).map_err(|error| failed("read", path, &error))?.size;
                Cow::Owned(build(&open, size, ops, file.size)?)
            }
        };
        Ok((content, mode))
    }

    fn place_top(&mut self, batch: &mut Batch, index: usize) {
        let news = Arc::clone(&batch.news);
        let path = &news[index].path;
        let parent = batch.parents.open(self, path);
        let incoming = self.stage().map(Stage::share_incoming);
        match parent.and_then(|parent| Ok((parent, incoming?))) {
            Ok((parent, incoming)) => {
                let name = batch.name(index);
                let Some(from) = news[index].from else {
                    return self.place(batch, index, &parent, incoming.as_fd(), &name);
                };
                let (from, to) = (Entry::File(from), &news[index].entry);
                let stamp = batch.items[index].stamp;
                let installed = batch.identity(index).and_then(|ours| {
                    self.install(&name, ours, parent.as_fd(), path, Some(&from), to, Some(stamp))
                });
                match installed {
                    Ok(Outcome::Done) => {}
                    Ok(outcome) | Err(outcome) => batch.fail(index, &outcome),
                }
            }
            Err(outcome) => batch.fail(index, &outcome),
        }
    }

    /// Moves a staged entry, with all that is in it, to its place in the open folder `parent`.
    fn place(
        &mut self,
        batch: &mut Batch,
        index: usize,
        parent: &Arc<OwnedFd>,
        staged: BorrowedFd<'_>,
        name: &str,
    ) {
        let news = Arc::clone(&batch.news);
        let new = &news[index];
        let (path, parent) = (&new.path, parent.as_fd());
        let is_folder = new.entry == Entry::Directory;
        let stands = is_folder && stat_at(parent, path.name()).is_ok();
        let incoming = match self.stage() {
            Ok(stage) => stage.share_incoming(),
            Err(outcome) => return batch.fail(index, &outcome),
        };
        let moved = self.hook.at(Moment::Checked, path).and_then(|()| {
            if stands {
                return Err(Errno::EXIST.into());
            }
            if is_folder {
                // Before anybody can put something in.
                self.watch_all(batch, index, &incoming)?;
            }
            move_new(staged, name, parent, path.name())
        });
        match moved {
            Ok(()) => match stat_at(parent, path.name()) {
                Ok(stat) if Ok(stat.identity) == batch.identity(index) => {
                    let stamp = batch.items[index].stamp;
                    batch.items[index].made = Ok(Seen::stamped(new.entry.clone(), stat, stamp, now()));
                }
                _ => {
                    self.suspects.insert(path.clone(), true);
                }
            },
            Err(error) => {
                if is_folder
                    && !stands
                    && let Some(watches) = &self.tree.watches
                {
                    watches.remove(path);
                }
                if error.kind() == io::ErrorKind::AlreadyExists {
                    self.meet(batch, index, parent, staged, name);
                } else {
                    batch.fail(index, &failed("write", path, &error));
                }
            }
        }
    }

    /// Something stands in the place of a staged entry: the same, a folder that takes in what is staged, or another.
    fn meet(
        &mut self,
        batch: &mut Batch,
        index: usize,
        parent: BorrowedFd<'_>,
        staged: BorrowedFd<'_>,
        name: &str,
    ) {
        let news = Arc::clone(&batch.news);
        let new = &news[index];
        let path = &new.path;
        let seen = match self.actual(parent, path) {
            Ok(Some(seen)) if seen.entry == new.entry => seen,
            Ok(_) => {
                let outcome = self.stale(parent, path);
                return batch.fail(index, &outcome);
            }
            Err(outcome) => return batch.fail(index, &outcome),
        };
        batch.items[index].made = Ok(seen);
        if new.entry == Entry::Directory {
            let children = batch.items[index].children.clone();
            if !children.is_empty() {
                let standing = batch.parents.enter(self, path);
                let ours = enter_folder(staged, name).map_err(|error| failed("read", path, &error));
                for child in
                    children.into_iter().filter(|child| batch.items[*child].made.is_ok()).collect::<Vec<_>>()
                {
                    match (&standing, &ours) {
                        (Ok(standing), Ok(ours)) => {
                            let name = news[child].path.name();
                            self.place(batch, child, standing, ours.as_fd(), name);
                        }
                        (Err(outcome), _) | (_, Err(outcome)) => batch.fail(child, outcome),
                    }
                }
            }
            // If it was not watched before, it is now.
            self.suspects.insert(path.clone(), true);
        }
        let _left = remove_tree(staged, name);
    }

    fn watch_all(&self, batch: &mut Batch, index: usize, incoming: &Arc<OwnedFd>) -> io::Result<()> {
        if self.tree.watches.is_none() {
            return Ok(());
        }
        let mut left = vec![index];
        while let Some(index) = left.pop() {
            let item = &batch.items[index];
            if batch.news[index].entry == Entry::Directory && item.made.is_ok() {
                left.extend(&item.children);
                let folder = batch.folder(incoming, index)?;
                self.tree.watch(folder.as_fd(), Some(&batch.news[index].path));
            }
        }
        Ok(())
    }
}

impl Batch {
    /// Returns the name of an outermost entry in the staging folder.
    fn name(&self, index: usize) -> String {
        format!("{:x}-{index:x}", self.id)
    }

    fn identity(&self, index: usize) -> Step<Identity> {
        match &self.items[index].made {
            Ok(seen) => Ok(seen.stat.identity),
            Err(outcome) => Err(outcome.clone()),
        }
    }

    /// Returns the folder and the name under which an entry is staged.
    fn place_of(&mut self, incoming: &Arc<OwnedFd>, index: usize) -> io::Result<(Arc<OwnedFd>, String)> {
        match self.items[index].parent {
            None => Ok((Arc::clone(incoming), self.name(index))),
            Some(parent) => Ok((self.folder(incoming, parent)?, self.news[index].path.name().to_owned())),
        }
    }

    /// Opens a folder that is being made.
    fn folder(&mut self, incoming: &Arc<OwnedFd>, index: usize) -> io::Result<Arc<OwnedFd>> {
        let mut inward = vec![index];
        let mut at = index;
        let mut folder = loop {
            if let Some(fd) = self.staged.get(&at) {
                inward.pop();
                break Arc::clone(fd);
            }
            match self.items[at].parent {
                Some(parent) => inward.push(parent),
                None => break Arc::clone(incoming),
            }
            at = inward[inward.len() - 1];
        };
        for index in inward.into_iter().rev() {
            let name = match self.items[index].parent {
                None => &self.name(index),
                Some(_) => self.news[index].path.name(),
            };
            let fd = enter_folder(folder.as_fd(), name)?;
            folder = self.hold(index, fd);
        }
        Ok(folder)
    }

    fn hold(&mut self, index: usize, fd: OwnedFd) -> Arc<OwnedFd> {
        if self.staged.len() >= MAX_OPEN {
            self.staged.clear();
        }
        let fd = Arc::new(fd);
        self.staged.insert(index, Arc::clone(&fd));
        fd
    }

    /// Notes that an entry was not made, and nothing below it.
    fn fail(&mut self, index: usize, outcome: &Outcome) {
        let mut left = self.items[index].children.clone();
        self.items[index].made = Err(outcome.clone());
        while let Some(below) = left.pop() {
            left.extend(&self.items[below].children);
            if self.items[below].made.is_ok() {
                self.items[below].made = Err(without_folder(&self.news[below].path));
            }
        }
    }
}

/// Numbers the failures among what became of the entries. Words that would not fit an answer are left out: to send
/// such an entry by itself shows what is wrong with it.
fn failures(outcomes: impl Iterator<Item = Option<Outcome>>) -> Failures {
    let mut bytes = 0;
    let mut brief = |outcome| {
        bytes += match &outcome {
            Outcome::Failed(failure) => failure.message.len(),
            Outcome::Stale { actual: Some(Entry::Symlink { target }) } => target.len(),
            _ => 0,
        };
        if bytes > MAX_WORDS { Outcome::NeedContent } else { outcome }
    };
    let failed = (0..).zip(outcomes).filter_map(|(index, outcome)| Some((index, outcome?)));
    failed.map(|(index, outcome)| (index, brief(outcome))).collect()
}

/// Says of an entry that the folder it lies in could not be made.
fn without_folder(path: &RelPath) -> Outcome {
    failed("open the folder of", path, &Errno::NOENT.into())
}

/// Builds a small file of `size` bytes from its older version.
fn build(old: &File, old_size: u64, ops: &[DeltaOp], size: u64) -> Step<Vec<u8>> {
    DeltaCheck::new(size, old_size).push_ops(ops, true).map_err(|_| Outcome::NeedContent)?;
    let mut content = Vec::new();
    for op in ops {
        match op {
            DeltaOp::Literal(bytes) => content.extend_from_slice(bytes),
            DeltaOp::Copy { offset, length } => {
                let at = content.len();
                // The sum of all was checked: it is that of a small file.
                content.resize(at + usize::try_from(*length).map_err(|_| Outcome::NeedContent)?, 0);
                old.read_exact_at(&mut content[at..], *offset).map_err(|_| Outcome::NeedContent)?;
            }
        }
    }
    Ok(content)
}
