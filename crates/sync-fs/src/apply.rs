//! Makes transitions: decides what a request needs, and hands it to `incoming` and `commit`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, fchmod, fstatvfs, mkdirat, renameat, symlinkat};
use rustix::io::Errno;
use towline_sync_core::message::{Block, Content, Outcome, RequestId, conflict_name};
use towline_sync_core::path::{MAX_NAME_BYTES, RelPath};
use towline_sync_core::snapshot::{self, Entry, Hash, Transition};

use crate::commit::{Step, failed};
use crate::disk::{Kind, Timestamp, open_file, stat_at};
use crate::hook::Moment;
use crate::incoming::{Incoming, Purpose, Ready};
use crate::known::{Seen, now, stamp};
use crate::stage::remove;
use crate::symlink::stays_beneath;
use crate::tree::{failure, refusal};
use crate::workspace::Workspace;

/// How the name of a conflict's bytes begins while they are incomplete.
pub(crate) const INCOMING_CONFLICT: &str = ".incoming-";
/// The most files put in their places together.
pub(crate) const MAX_READY: usize = 128;
/// Up to here, forcing each file to the disk costs less than forcing the whole file system.
pub(crate) const FEW: usize = 8;

/// Answers that are due.
pub(crate) type Answers = Vec<(RequestId, Outcome)>;

impl Workspace {
    /// Begins a transition; its answer comes now, with the last of its data, or with the next [`flush`](Self::flush).
    pub(crate) fn apply(&mut self, id: RequestId, transition: &Transition, content: &Content) -> Answers {
        match self.begin(id, transition, content) {
            Ok(None) => Vec::new(),
            Ok(Some(outcome)) | Err(outcome) => vec![(id, outcome)],
        }
    }

    /// Takes a block of content. Blocks of requests that have failed are of no use to anybody.
    pub(crate) fn data(&mut self, id: RequestId, block: &Block) -> Answers {
        let Some(mut incoming) = self.incoming.remove(&id) else {
            return Vec::new();
        };
        let pushed = if incoming.lacks_basis(block) { self.open_basis(&incoming) } else { Ok(None) };
        let pushed = pushed.and_then(|basis| {
            if basis.is_some() {
                incoming.basis = basis;
            }
            incoming.push(block, &mut self.hook)
        });
        match pushed {
            Ok(false) => {
                self.incoming.insert(id, incoming);
                Vec::new()
            }
            Ok(true) => self.arrived(id, incoming).map(|outcome| (id, outcome)).into_iter().collect(),
            Err(outcome) => {
                incoming.discard();
                vec![(id, outcome)]
            }
        }
    }

    /// Begins to keep the other side's bytes of a conflict.
    pub(crate) fn keep(&mut self, id: RequestId, path: &RelPath, file: snapshot::File) -> Answers {
        let begun = self.check_room(path, file.size).and_then(|()| {
            let refused =
                || Outcome::Failed(refusal(Errno::OPNOTSUPP, "conflicts are kept on the laptop only"));
            let folder = self.store()?.conflicts.clone().ok_or_else(refused)?;
            let name = format!("{INCOMING_CONFLICT}{id:x}");
            Ok(Incoming::new(Purpose::Keep, path.clone(), file, folder, name))
        });
        match begun {
            Ok(incoming) => {
                self.incoming.insert(id, incoming);
                Vec::new()
            }
            Err(outcome) => vec![(id, outcome)],
        }
    }

    /// Gives up a request whose other half failed.
    pub(crate) fn cancel(&mut self, id: RequestId) {
        if let Some(incoming) = self.incoming.remove(&id) {
            incoming.discard();
        }
        for ready in self.ready.extract_if(.., |ready| ready.id == id) {
            ready.incoming.discard();
        }
    }

    /// Forces what has arrived to the disk and puts it in its place.
    pub(crate) fn flush(&mut self) -> Answers {
        let ready = std::mem::take(&mut self.ready);
        let all = (ready.len() > FEW).then(|| self.force_everything());
        let mut answers = Answers::new();
        for Ready { id, mut incoming } in ready {
            let synced = match &all {
                Some(Ok(())) => Ok(()),
                // Asked again about the same data, the kernel may say that all is well: it is not asked again.
                Some(Err(error)) => Err(failed("write", &incoming.path, error)),
                None => incoming
                    .file()
                    .and_then(|file| file.sync_data())
                    .map_err(|error| failed("write", &incoming.path, &error)),
            };
            let outcome = match synced {
                Ok(()) => self.commit(incoming),
                Err(outcome) => {
                    incoming.discard();
                    outcome
                }
            };
            answers.push((id, outcome));
        }
        answers
    }

    fn begin(&mut self, id: RequestId, transition: &Transition, content: &Content) -> Step<Option<Outcome>> {
        self.check_allowed(transition)?;
        let Transition { path, from, to } = transition;
        let done = match (from, to) {
            (None, None) => Outcome::Done,
            (Some(from), None) => self.take_away(path, from)?,
            (None, Some(Entry::Directory)) => match content {
                Content::Moved { from } => self.move_folder(from, path)?,
                _ => self.make_folder(path)?,
            },
            (Some(_), Some(Entry::Directory)) => {
                let name = format!("{id:x}");
                let incoming = self.stage()?.incoming();
                mkdirat(incoming, name.as_str(), Mode::from_raw_mode(0o777))
                    .map_err(|error| failed("stage", path, &error.into()))?;
                self.install_or_tidy(&name, transition)?
            }
            (_, Some(Entry::Symlink { target })) => {
                let name = format!("{id:x}");
                let incoming = self.stage()?.incoming();
                symlinkat(target.as_str(), incoming, name.as_str())
                    .map_err(|error| failed("stage", path, &error.into()))?;
                self.install_or_tidy(&name, transition)?
            }
            (None, Some(Entry::File(_))) if let Content::Moved { from } = content => {
                self.move_file(from, transition)?
            }
            (_, Some(Entry::File(file))) => return self.begin_file(id, *file, transition, content),
            (_, Some(Entry::Opaque(_))) => return Err(not_synced(path)),
        };
        Ok(Some(done))
    }

    fn begin_file(
        &mut self,
        id: RequestId,
        file: snapshot::File,
        transition: &Transition,
        content: &Content,
    ) -> Step<Option<Outcome>> {
        let path = &transition.path;
        if let (Content::None, Some(Entry::File(from))) = (content, &transition.from)
            && (from.hash, from.size) == (file.hash, file.size)
        {
            return self.set_executable(transition, file).map(Some);
        }
        self.check_room(path, file.size)?;
        match content {
            Content::Incoming => {
                let incoming = self.stage_file(id, file, transition)?;
                self.incoming.insert(id, incoming);
                Ok(None)
            }
            Content::Copy { from } => {
                let sources = [self.open_source(from), self.store()?.trash.find(file.hash)];
                for source in sources.into_iter().flatten() {
                    let mut incoming = self.stage_file(id, file, transition)?;
                    match incoming.fill(&source, &mut self.hook) {
                        Ok(true) => return Ok(self.arrived(id, incoming)),
                        Ok(false) => incoming.discard(),
                        Err(error) => {
                            incoming.discard();
                            return Err(failed("copy to", path, &error));
                        }
                    }
                }
                Err(Outcome::NeedContent)
            }
            // Nothing needs no bytes.
            Content::None if file.size == 0 && file.hash == Hash::of(b"") => {
                let incoming = self.stage_file(id, file, transition)?;
                Ok(self.arrived(id, incoming))
            }
            Content::None | Content::Moved { .. } => Err(Outcome::NeedContent),
        }
    }

    fn stage_file(&mut self, id: RequestId, file: snapshot::File, transition: &Transition) -> Step<Incoming> {
        let folder = self.stage()?.share_incoming();
        let purpose = Purpose::Apply(transition.clone());
        let incoming = Incoming::new(purpose, transition.path.clone(), file, folder, format!("{id:x}"));
        Ok(if self.tree.memory.is_interested(file.size) { incoming.signing() } else { incoming })
    }

    /// Opens the version that `from` names, if it still stands there.
    fn open_basis(&mut self, incoming: &Incoming) -> Step<Option<File>> {
        let Purpose::Apply(Transition { path, from: from @ Some(Entry::File(_)), .. }) = &incoming.purpose
        else {
            return Err(Outcome::NeedContent);
        };
        let basis = self.tree.root.open_parent(path).and_then(|parent| {
            let seen = self.actual(parent.as_fd(), path).ok().flatten();
            let (file, stat) = open_file(parent.as_fd(), path.name())?;
            Ok(seen.filter(|seen| Some(&seen.entry) == from.as_ref() && seen.stat == stat).map(|_| file))
        });
        match basis {
            Ok(Some(file)) => Ok(Some(file)),
            _ => Err(Outcome::NeedContent),
        }
    }

    fn open_source(&self, path: &RelPath) -> Option<File> {
        if self.tree.rules.is_pruned(path) || self.tree.rules.decide(path).ignored {
            return None;
        }
        let parent = self.tree.root.open_parent(path).ok()?;
        open_file(parent.as_fd(), path.name()).ok().map(|(file, _)| file)
    }

    /// Goes on with a file that is complete and verified.
    fn arrived(&mut self, id: RequestId, incoming: Incoming) -> Option<Outcome> {
        if let Err(error) = self.hook.at(Moment::Staged, &incoming.path) {
            let outcome = failed("write", &incoming.path, &error);
            incoming.discard();
            return Some(outcome);
        }
        if self.options.durable {
            self.ready.push(Ready { id, incoming });
            return None;
        }
        Some(self.commit(incoming))
    }

    fn commit(&mut self, mut incoming: Incoming) -> Outcome {
        self.finish(&mut incoming).unwrap_or_else(|outcome| {
            incoming.discard();
            outcome
        })
    }

    fn finish(&mut self, incoming: &mut Incoming) -> Step<Outcome> {
        let Purpose::Apply(transition) = &incoming.purpose else {
            let kept = Mode::RUSR | Mode::WUSR;
            incoming.set_mode(kept).map_err(|error| failed("write", &incoming.path, &error))?;
            let name = kept_name(&incoming.path, incoming.planned().hash);
            return renameat(&incoming.folder, incoming.name.as_str(), &incoming.folder, name)
                .map(|()| Outcome::Done)
                .map_err(|error| failed("keep", &incoming.path, &error.into()));
        };
        let transition = transition.clone();
        let path = &transition.path;
        let parent = self.open_parent(path)?;
        let mode = self.mode_for(parent.as_fd(), path, incoming.planned().executable);
        let stamp = stamp();
        incoming
            .set_mode(mode)
            .and_then(|()| incoming.set_modified(stamp))
            .map_err(|error| failed("write", path, &error))?;
        if let Some(signature) = incoming.take_signature() {
            self.tree.memory.keep(incoming.planned().hash, &signature);
        }
        self.install_staged(&incoming.name, parent.as_fd(), &transition, Some(stamp))
    }

    fn open_parent(&self, path: &RelPath) -> Step<OwnedFd> {
        self.tree.root.open_parent(path).map_err(|error| failed("open the folder of", path, &error))
    }

    fn install_staged(
        &mut self,
        name: &str,
        parent: BorrowedFd<'_>,
        transition: &Transition,
        stamp: Option<Timestamp>,
    ) -> Step<Outcome> {
        let Transition { path, from, to: Some(to) } = transition else {
            return Ok(Outcome::Done);
        };
        let staged = stat_at(self.stage()?.incoming(), name);
        let ours = staged.map_err(|error| failed("stage", path, &error))?.identity;
        self.install(name, ours, parent, path, from.as_ref(), to, stamp)
    }

    fn install_or_tidy(&mut self, name: &str, transition: &Transition) -> Step<Outcome> {
        let result = self.hook.at(Moment::Staged, &transition.path);
        let result = result.map_err(|error| failed("write", &transition.path, &error));
        let result = result.and_then(|()| {
            let parent = self.open_parent(&transition.path)?;
            self.install_staged(name, parent.as_fd(), transition, None)
        });
        if result.is_err() {
            // What can't be removed now is swept when the root is opened next.
            let _left = remove(self.stage()?.incoming(), name);
        }
        result
    }

    /// Changes the one mode bit that travels.
    fn set_executable(&mut self, transition: &Transition, file: snapshot::File) -> Step<Outcome> {
        let Transition { path, from, to: Some(to) } = transition else {
            return Ok(Outcome::Done);
        };
        let parent =
            self.tree.root.open_parent(path).map_err(|error| failed("open the folder of", path, &error))?;
        let parent = parent.as_fd();
        let actual = self.actual(parent, path)?;
        if let Some(seen) = actual.as_ref().filter(|seen| seen.entry == *to) {
            self.tree.record(path, seen);
            return Ok(Outcome::Done);
        }
        let Some(expected) = self.expect(parent, path, actual, from.as_ref())? else {
            return Err(self.stale(parent, path));
        };
        let change = || failed_with(path);
        let (open, stat) = open_file(parent, path.name()).map_err(change())?;
        if stat != expected.stat {
            return Err(self.stale(parent, path));
        }
        self.hook.at(Moment::Checked, path).map_err(change())?;
        fchmod(&open, file_mode(file.executable, Some(stat.mode), self.umask))
            .map_err(|error| failed("change the mode of", path, &error.into()))?;
        let now_there = stat_at(parent, path.name()).map_err(change())?;
        if now_there.identity != stat.identity {
            return Err(self.stale(parent, path));
        }
        self.tree.record(path, &Seen::new(to.clone(), now_there, now()));
        Ok(Outcome::Done)
    }

    /// Returns the mode of a file that takes the place of what stands there.
    pub(crate) fn mode_for(&self, parent: BorrowedFd<'_>, path: &RelPath, executable: bool) -> Mode {
        let old = stat_at(parent, path.name());
        let old = old.ok().filter(|stat| stat.kind == Kind::File).map(|stat| stat.mode);
        file_mode(executable, old, self.umask)
    }

    /// Refuses what must never be touched, whoever asks.
    fn check_allowed(&mut self, transition: &Transition) -> Step<()> {
        let Transition { path, from, to } = transition;
        self.store()?;
        let refuse = |errno, why: &str| Err(Outcome::Failed(refusal(errno, format!("{path}: {why}"))));
        let folder = |entry: &Option<Entry>| matches!(entry, None | Some(Entry::Directory));
        // The ignored folders above something that is not ignored come and go with it.
        let ignored = self.tree.rules.decide(path);
        let is_left_alone =
            self.tree.rules.is_pruned(path) || (ignored.ignored && !(folder(from) && folder(to)));
        self.check_path(path, is_left_alone)?;
        if [from, to].into_iter().any(|entry| matches!(entry, Some(Entry::Opaque(_)))) {
            return Err(not_synced(path));
        }
        if let Some(Entry::Symlink { target }) = to
            && !stays_beneath(path, target)
        {
            return refuse(Errno::PERM, "the symbolic link can lead outside the folder");
        }
        self.tree.root.check().map_err(|error| failed("find the folder of", path, &error))?;
        match self.tree.guard.refusal(&self.tree.root, path) {
            None => Ok(()),
            Some(why) => refuse(Errno::PERM, &format!("never written from the other side: {why}")),
        }
    }

    /// Refuses a path at which nothing of ours may stand.
    pub(crate) fn check_path(&self, path: &RelPath, is_left_alone: bool) -> Step<()> {
        let refuse = |errno, why: &str| Err(Outcome::Failed(refusal(errno, format!("{path}: {why}"))));
        let mounts = &self.tree.mounts;
        if path.is_private() {
            refuse(Errno::PERM, "it is our own folder")
        } else if !mounts.is_empty()
            && (mounts.contains(path) || path.ancestors().any(|folder| mounts.contains(&folder)))
        {
            refuse(Errno::BUSY, "another volume is mounted there")
        } else if is_left_alone {
            refuse(Errno::PERM, "it is ignored")
        } else {
            Ok(())
        }
    }

    /// Refuses a file that is too large for us or for the disk.
    fn check_room(&mut self, path: &RelPath, size: u64) -> Step<()> {
        if self.incoming.len() >= self.options.limits.incoming {
            return Err(Outcome::Failed(refusal(Errno::MFILE, format!("{path}: too many files at once"))));
        }
        if size > self.options.limits.file_size {
            return Err(Outcome::Failed(refusal(Errno::FBIG, format!("{path}: {size} bytes are too many"))));
        }
        self.check_free(path, size)
    }

    /// Refuses what the disk has no room for.
    pub(crate) fn check_free(&self, path: &RelPath, size: u64) -> Step<()> {
        let reserve = self.options.limits.reserve;
        let disk = fstatvfs(self.tree.root.fd())
            .map_err(|error| failed("ask for the room for", path, &error.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let total = disk.f_blocks.saturating_mul(disk.f_frsize);
        // A small disk is not refused for being small; some disks do not say how large they are.
        if total > 0 && size.saturating_add(reserve.min(total / 64)) > free {
            return Err(Outcome::Failed(failure(&format!("write {path}"), &Errno::NOSPC.into())));
        }
        Ok(())
    }

    /// Returns the paths where an apply met something unknown.
    pub(crate) fn take_suspects(&mut self) -> BTreeMap<RelPath, bool> {
        std::mem::take(&mut self.suspects)
    }
}

fn failed_with(path: &RelPath) -> impl FnOnce(io::Error) -> Outcome {
    let path = path.clone();
    move |error| failed("change the mode of", &path, &error)
}

pub(crate) fn not_synced(path: &RelPath) -> Outcome {
    Outcome::Failed(refusal(Errno::PERM, format!("{path}: what is not synced is not written")))
}

/// Returns the mode of a file: a new one's by the process's mask, an existing one's own but for the exec bits.
pub(crate) fn file_mode(executable: bool, old: Option<u32>, umask: u32) -> Mode {
    let plain = old.map_or(0o666 & !umask, |mode| mode & 0o777);
    let mode = if !executable {
        plain & !0o111
    } else if plain & 0o100 != 0 {
        plain
    } else {
        // Whoever may read it may run it; the owner always, since that is the bit that travels.
        plain | ((plain & 0o444) >> 2) | 0o100
    };
    Mode::from_raw_mode(mode)
}

/// Returns the name of a conflict's bytes, cut to what a disk takes.
fn kept_name(path: &RelPath, hash: Hash) -> String {
    let mut name = conflict_name(path, hash);
    if name.len() > MAX_NAME_BYTES {
        name.truncate(name.floor_char_boundary(MAX_NAME_BYTES));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(executable: bool, old: Option<u32>, umask: u32, expected: u32) {
        assert_eq!(
            file_mode(executable, old, umask).as_raw_mode(),
            expected,
            "{executable} {old:?} {umask:o}"
        );
    }

    #[test]
    fn only_the_exec_bit_changes() {
        check(false, None, 0o022, 0o644);
        check(true, None, 0o022, 0o755);
        check(true, None, 0o077, 0o700);
        check(false, Some(0o600), 0o022, 0o600);
        check(true, Some(0o640), 0o022, 0o750);
        check(true, Some(0o744), 0o022, 0o744);
        check(false, Some(0o4755), 0o022, 0o644);
        check(true, Some(0o200), 0o022, 0o300);
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let path = RelPath::new("ü".repeat(127)).unwrap();
        let name = kept_name(&path, Hash::of(b"x"));
        assert!(name.len() <= MAX_NAME_BYTES && name.len() > MAX_NAME_BYTES - 2);
    }
}
