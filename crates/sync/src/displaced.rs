//! What sync has replaced or deleted on a side that is reached by a stream: written down here, as the bytes lie there.
//!
//! A step is on the record before it is asked for, and taken off when the answer says that it was not made. What a crash
//! leaves between the two is on the record and may not have been made: whoever goes by it looks first.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use towline_sync_core::message::{Content, New, Outcome, Reply, Request, RequestId};
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::{self, Entry, Hash};

use crate::base_store;
use crate::record::{now, read_text};
use crate::trash::Why;

/// The version of the record; one of another version is put aside by who writes, and said to be there by who reads.
const VERSION: u32 = 1;
const RECORD: &str = "displaced.jsonl";
const UNREADABLE: &str = "displaced.unreadable";
/// The longest record, in bytes: one that is longer is cut to the newer half.
const MAX_BYTES: u64 = 8 << 20;
/// The longest first line, in bytes.
const MAX_HEADER_BYTES: u64 = 256;
/// So many requests are remembered until they are answered: more than are under way at any time.
const MAX_ASKED: usize = 32 * 1024;

/// Something that sync has replaced or deleted on the other side, or was about to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Displaced {
    /// Where.
    pub path: RelPath,
    /// When, in seconds since 1970, by the clock of this machine.
    pub at: i64,
    /// What stood there: a file or a link.
    pub was: Entry,
    /// What took its place.
    pub came: Option<Entry>,
    /// It gave way to an older version that was brought back.
    pub by_undo: bool,
}

impl Displaced {
    /// Returns why it went.
    pub fn why(&self) -> Why {
        if self.came.is_some() { Why::Replaced } else { Why::Deleted }
    }
}

/// What is on the record of a pair.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// The token of the folder that it is about.
    pub(crate) epoch: Option<[u8; 16]>,
    /// The steps, the latest first, each version of a path once.
    pub(crate) steps: Vec<Displaced>,
}

/// Reads the record of the pair whose private folder this is.
pub(crate) fn read(state: &Path) -> io::Result<Record> {
    let path = state.join(RECORD);
    if !path.try_exists()? {
        return Ok(Record::default());
    }
    let text = read_text(&path).ok_or_else(|| invalid("it can't be read"))?;
    let mut lines = text.lines();
    let epoch =
        lines.next().and_then(header).ok_or_else(|| invalid("it is damaged, or of another version"))?;
    let mut steps: Vec<Option<Displaced>> = Vec::new();
    let mut at_path: HashMap<String, Vec<usize>> = HashMap::new();
    for line in lines {
        match serde_json::from_str(line) {
            Ok(Line::Step(saved)) => {
                let path = saved.path.clone();
                let Some(step) = saved.step() else { continue };
                at_path.entry(path).or_default().push(steps.len());
                steps.push(Some(step));
            }
            Ok(Line::Not { not }) => {
                if let Some(index) = at_path.get_mut(&not).and_then(Vec::pop) {
                    steps[index] = None;
                }
            }
            // The end of a write that a crash or a full disk cut.
            Err(_) => {}
        }
    }
    let mut seen = BTreeSet::new();
    let mut latest: Vec<_> = steps.into_iter().flatten().rev().collect();
    latest.retain(|step| seen.insert((step.path.clone(), step.was.clone(), step.by_undo)));
    Ok(Record { epoch: Some(epoch), steps: latest })
}

/// Writes the record of one pair.
#[derive(Debug)]
pub(crate) struct Recorder {
    state: PathBuf,
    /// The folder that is open on the other side.
    epoch: Option<[u8; 16]>,
    /// The record, from when there was something to write.
    open: Option<Open>,
    /// What was asked for and not answered.
    asked: HashMap<RequestId, Asked>,
}

#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
    /// The last line may not be whole.
    torn: bool,
}

/// The steps of a request that are on the record.
#[derive(Debug)]
enum Asked {
    One(RelPath),
    /// Each with its place in the request.
    Several(Vec<(u32, RelPath)>),
}

impl Recorder {
    pub(crate) fn new(state: &Path) -> Self {
        Self { state: state.to_owned(), epoch: None, open: None, asked: HashMap::new() }
    }

    /// Takes note of the folder that all is about from now on. What stood in another one is not in its trash, and goes
    /// off the record with the first step.
    pub(crate) fn opened(&mut self, epoch: [u8; 16]) {
        self.asked.clear();
        self.open.take_if(|_| self.epoch != Some(epoch));
        self.epoch = Some(epoch);
    }

    /// Takes note of requests before they go out.
    pub(crate) fn asked(&mut self, requests: &[Request]) {
        let mut steps = Vec::new();
        let mut step = |path: &RelPath, from: Option<&Entry>, to: Option<&Entry>| {
            let displaced = displaced(path, from, to);
            let any = displaced.is_some();
            steps.extend(displaced);
            any
        };
        for request in requests {
            let (id, asked) = match request {
                Request::Apply { id, transition, content } if !matches!(content, Content::Moved { .. }) => {
                    let path = &transition.path;
                    if !step(path, transition.from.as_ref(), transition.to.as_ref()) {
                        continue;
                    }
                    (*id, Asked::One(path.clone()))
                }
                Request::Install { id, entries } => {
                    let mut several = Vec::new();
                    for (index, New { path, from, entry, .. }) in (0..).zip(entries) {
                        if from.is_some() && step(path, from.map(Entry::File).as_ref(), Some(entry)) {
                            several.push((index, path.clone()));
                        }
                    }
                    if several.is_empty() {
                        continue;
                    }
                    (*id, Asked::Several(several))
                }
                _ => continue,
            };
            if self.asked.len() == MAX_ASKED {
                self.asked.clear();
            }
            self.asked.insert(id, asked);
        }
        self.begin(&steps);
    }

    /// Takes note of what became of a request.
    pub(crate) fn answered(&mut self, reply: &Reply) {
        let not = match reply {
            Reply::Opened(info) => return self.opened(info.epoch),
            Reply::Applied { id, outcome } => match self.asked.remove(id) {
                Some(Asked::One(path)) if *outcome != Outcome::Done => vec![path],
                _ => return,
            },
            Reply::Installed { id, failed } => match self.asked.remove(id) {
                Some(Asked::Several(paths)) => {
                    let failed: BTreeSet<u32> = failed.iter().map(|(index, _)| *index).collect();
                    let not = paths.into_iter().filter(|(index, _)| failed.contains(index));
                    not.map(|(_, path)| path).collect()
                }
                _ => return,
            },
            _ => return,
        };
        self.withdraw(&not);
    }

    /// Puts steps on the record that are about to be asked for.
    pub(crate) fn begin(&mut self, steps: &[Displaced]) {
        self.append(steps.iter().map(|step| Line::Step(SavedStep::of(step))));
    }

    /// Takes the latest step at each of these paths off the record: it was not made.
    pub(crate) fn withdraw(&mut self, paths: &[RelPath]) {
        self.append(paths.iter().map(|path| Line::Not { not: path.to_string() }));
    }

    /// What can't be written down is only missing from what can be brought back: the other side keeps it.
    fn append(&mut self, lines: impl Iterator<Item = Line>) {
        let mut bytes = Vec::new();
        for line in lines {
            // Nothing of a line can fail to be JSON.
            if serde_json::to_writer(&mut bytes, &line).is_ok() {
                bytes.push(b'\n');
            }
        }
        if !bytes.is_empty()
            && let Err(error) = self.write(bytes)
        {
            tracing::warn!(%error, "what goes on the other side can't be written down");
        }
    }

    fn write(&mut self, mut bytes: Vec<u8>) -> io::Result<()> {
        let Some(epoch) = self.epoch else { return Ok(()) };
        let open = match self.open.take() {
            Some(open) if open.bytes <= MAX_BYTES => open,
            _ => Open::new(&self.state, epoch)?,
        };
        let open = self.open.insert(open);
        if open.torn {
            bytes.insert(0, b'\n');
        }
        open.torn = true;
        open.file.write_all(&bytes)?;
        open.torn = false;
        open.bytes += bytes.len() as u64;
        Ok(())
    }
}

impl Open {
    /// Opens the record to add to it. It begins anew where it is about another folder, or can't be understood.
    fn new(state: &Path, epoch: [u8; 16]) -> io::Result<Self> {
        let path = state.join(RECORD);
        let mut options = OpenOptions::new();
        options.read(true).append(true).mode(0o600);
        let mut file = match options.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::replace(state, epoch, ""),
            Err(error) => return Err(error),
        };
        let mut first = Vec::new();
        (&mut file).take(MAX_HEADER_BYTES).read_to_end(&mut first)?;
        let first = first.split(|byte| *byte == b'\n').next().unwrap_or_default();
        match std::str::from_utf8(first).ok().and_then(header) {
            Some(known) if known == epoch => {}
            Some(_) => return Self::replace(state, epoch, ""),
            None => {
                fs::rename(&path, state.join(UNREADABLE))?;
                return Self::replace(state, epoch, "");
            }
        }
        let bytes = file.metadata()?.len();
        if bytes > MAX_BYTES {
            let text = read_text(&path).unwrap_or_default();
            return Self::replace(state, epoch, newer_half(&text));
        }
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        Ok(Self { file, bytes, torn: last != *b"\n" })
    }

    /// Writes a record with these lines, which takes the place of the old one whole.
    fn replace(state: &Path, epoch: [u8; 16], lines: &str) -> io::Result<Self> {
        let header = Header { version: VERSION, epoch: u128::from_be_bytes(epoch).to_string() };
        let mut text = serde_json::to_string(&header)?;
        text.push('\n');
        text.push_str(lines);
        let file = base_store::replace(&state.join(RECORD), text.as_bytes())?;
        Ok(Self { file, bytes: text.len() as u64, torn: !text.ends_with('\n') })
    }
}

/// Returns the newest lines, about half of all.
fn newer_half(text: &str) -> &str {
    let middle = text.len() / 2;
    let from = text.as_bytes()[middle..].iter().position(|byte| *byte == b'\n');
    from.map_or("", |from| &text[middle + from + 1..])
}

/// Returns what a step displaces, if it is anything that the other side keeps.
fn displaced(path: &RelPath, from: Option<&Entry>, to: Option<&Entry>) -> Option<Displaced> {
    let was = from.filter(|from| from.is_leaf())?;
    if was.hash().is_some() && to.and_then(Entry::hash) == was.hash() {
        // Only a bit of the mode changes.
        return None;
    }
    Some(Displaced { path: path.clone(), at: now(), was: was.clone(), came: to.cloned(), by_undo: false })
}

/// Returns the token of the folder that a record with this first line is about.
fn header(line: &str) -> Option<[u8; 16]> {
    let header: Header = serde_json::from_str(line).ok()?;
    let epoch: u128 = header.epoch.parse().ok()?;
    (header.version == VERSION).then(|| epoch.to_be_bytes())
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    /// A number of 128 bits, which not every reader of JSON knows as one.
    epoch: String,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Step(SavedStep),
    /// The latest step at this path was not made.
    Not {
        not: String,
    },
}

#[derive(Serialize, Deserialize)]
struct SavedStep {
    at: i64,
    path: String,
    was: SavedEntry,
    came: Option<SavedEntry>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    undo: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum SavedEntry {
    Folder,
    File { hash: String, size: u64, executable: bool },
    Link(String),
}

impl SavedStep {
    fn of(step: &Displaced) -> Self {
        let Displaced { path, at, was, came, by_undo } = step;
        Self {
            at: *at,
            path: path.to_string(),
            was: SavedEntry::of(was),
            came: came.as_ref().map(SavedEntry::of),
            undo: *by_undo,
        }
    }

    fn step(self) -> Option<Displaced> {
        let Self { at, path, was, came, undo } = self;
        let path = RelPath::new(path).ok().filter(|path| !path.is_private())?;
        let was = was.entry().filter(Entry::is_leaf)?;
        let came = match came {
            Some(came) => Some(came.entry()?),
            None => None,
        };
        Some(Displaced { path, at, was, came, by_undo: undo })
    }
}

impl SavedEntry {
    fn of(entry: &Entry) -> Self {
        match entry {
            // What can't be synced is never asked for.
            Entry::Directory | Entry::Opaque(_) => Self::Folder,
            Entry::File(file) => {
                Self::File { hash: file.hash.to_hex(), size: file.size, executable: file.executable }
            }
            Entry::Symlink { target } => Self::Link(target.clone()),
        }
    }

    fn entry(self) -> Option<Entry> {
        Some(match self {
            Self::Folder => Entry::Directory,
            Self::File { hash, size, executable } => {
                let hash = Hash(*blake3::Hash::from_hex(hash).ok()?.as_bytes());
                Entry::File(snapshot::File { hash, size, executable })
            }
            Self::Link(target) => Entry::Symlink { target },
        })
    }
}

#[cfg(test)]
mod tests {
    use towline_sync_core::message::{Body, RootInfo};
    use towline_sync_core::snapshot::Transition;

    use super::*;

    const EPOCH: [u8; 16] = [7; 16];

    fn file(content: &str) -> Entry {
        let (hash, size) = (Hash::of(content.as_bytes()), content.len() as u64);
        Entry::File(snapshot::File { hash, size, executable: false })
    }

    fn apply(id: RequestId, path: &str, from: Option<Entry>, to: Option<Entry>) -> Request {
        let transition = Transition { path: RelPath::new(path).unwrap(), from, to };
        Request::Apply { id, transition, content: Content::None }
    }

    fn opened(epoch: [u8; 16]) -> Reply {
        Reply::Opened(RootInfo { epoch, writable: true, case_sensitive: true, mounts: Vec::new() })
    }

    fn recorder(state: &Path) -> Recorder {
        let mut recorder = Recorder::new(state);
        recorder.answered(&opened(EPOCH));
        recorder
    }

    /// The paths on the record and what stood there, the latest first.
    fn recorded(state: &Path) -> Vec<(String, Entry)> {
        let steps = read(state).unwrap().steps;
        steps.into_iter().map(|step| (step.path.to_string(), step.was)).collect()
    }

    #[test]
    fn what_is_displaced_is_on_the_record_before_it_is_answered() {
        let temp = tempfile::tempdir().unwrap();
        let mut recorder = recorder(temp.path());
        let link = Entry::Symlink { target: "b \"quoted\"".to_owned() };
        recorder.asked(&[
            apply(2, "a", Some(file("1")), Some(file("2"))),
            apply(4, "link", Some(link.clone()), None),
            apply(6, "new", None, Some(file("3"))),
            apply(8, "folder", Some(Entry::Directory), None),
        ]);
        let expected = [("link".to_owned(), link), ("a".to_owned(), file("1"))];
        assert_eq!(recorded(temp.path()), expected);
        let steps = read(temp.path()).unwrap();
        assert_eq!((steps.epoch, steps.steps[1].came.clone()), (Some(EPOCH), Some(file("2"))));
        assert_eq!((steps.steps[0].why(), steps.steps[1].why()), (Why::Deleted, Why::Replaced));
        // The answers that it was made change nothing, nor does a second version of the same.
        for id in [2, 4, 6, 8] {
            recorder.answered(&Reply::Applied { id, outcome: Outcome::Done });
        }
        recorder.asked(&[apply(10, "a", Some(file("1")), None)]);
        assert_eq!(recorded(temp.path()).len(), 2);
    }

    #[test]
    fn what_was_not_made_goes_off_the_record() {
        let temp = tempfile::tempdir().unwrap();
        let mut recorder = recorder(temp.path());
        let Entry::File(old) = file("old") else { unreachable!() };
        let new = |path: &str, from| New {
            path: RelPath::new(path).unwrap(),
            from,
            entry: file("new"),
            body: Body::NONE,
            modified: None,
        };
        recorder.asked(&[
            apply(2, "a", Some(file("1")), None),
            Request::Install {
                id: 4,
                entries: vec![new("b", None), new("c", Some(old)), new("d", Some(old))],
            },
        ]);
        assert_eq!(recorded(temp.path()).len(), 3);
        recorder.answered(&Reply::Applied { id: 2, outcome: Outcome::Stale { actual: None } });
        recorder.answered(&Reply::Installed { id: 4, failed: vec![(0, Outcome::Kept), (2, Outcome::Kept)] });
        assert_eq!(recorded(temp.path()), [("c".to_owned(), file("old"))]);
        // What was done before at the same path stays.
        recorder.asked(&[apply(6, "c", Some(file("newer")), None)]);
        recorder.answered(&Reply::Applied { id: 6, outcome: Outcome::NeedContent });
        assert_eq!(recorded(temp.path()), [("c".to_owned(), file("old"))]);
    }

    #[test]
    fn what_only_moves_or_changes_its_mode_is_not_displaced() {
        let temp = tempfile::tempdir().unwrap();
        let mut recorder = recorder(temp.path());
        let Entry::File(plain) = file("1") else { unreachable!() };
        let executable = Entry::File(snapshot::File { executable: true, ..plain });
        recorder.asked(&[apply(2, "a", Some(file("1")), Some(executable))]);
        assert!(!temp.path().join(RECORD).exists(), "nothing is written where nothing goes");
    }

    #[test]
    fn a_cut_line_takes_no_other_with_it() {
        let temp = tempfile::tempdir().unwrap();
        recorder(temp.path()).asked(&[apply(2, "a", Some(file("1")), None)]);
        let record = temp.path().join(RECORD);
        let mut cut = fs::read(&record).unwrap();
        cut.extend_from_slice(b"{\"at\":1,\"pa");
        fs::write(&record, cut).unwrap();
        recorder(temp.path()).asked(&[apply(2, "b", Some(file("2")), None)]);
        let paths: Vec<_> = recorded(temp.path()).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["b", "a"]);
    }

    #[test]
    fn another_folder_begins_another_record() {
        let temp = tempfile::tempdir().unwrap();
        let mut recorder = recorder(temp.path());
        recorder.asked(&[apply(2, "a", Some(file("1")), None)]);
        recorder.answered(&opened([8; 16]));
        assert_eq!(recorded(temp.path()).len(), 1, "as long as nothing goes in the new one");
        recorder.asked(&[apply(2, "b", Some(file("2")), None)]);
        assert_eq!(recorded(temp.path()), [("b".to_owned(), file("2"))]);
        assert_eq!(read(temp.path()).unwrap().epoch, Some([8; 16]));
    }

    #[test]
    fn a_record_that_is_not_understood_is_put_aside_by_who_writes() {
        let temp = tempfile::tempdir().unwrap();
        for (record, later) in
            [("{\"version\":2,\"epoch\":\"7\"}\n", "later"), ("", "empty"), ("\u{0}\u{0}", "damaged")]
        {
            fs::write(temp.path().join(RECORD), record).unwrap();
            assert!(read(temp.path()).unwrap_err().to_string().contains("another version"));
            assert_eq!(fs::read_to_string(temp.path().join(RECORD)).unwrap(), record, "{later}");
            recorder(temp.path()).asked(&[apply(2, "a", Some(file("1")), None)]);
            assert_eq!(recorded(temp.path()).len(), 1);
            assert_eq!(fs::read_to_string(temp.path().join(UNREADABLE)).unwrap(), record);
        }
    }

    #[test]
    fn a_record_that_grew_long_loses_its_older_half() {
        let temp = tempfile::tempdir().unwrap();
        let mut recorder = recorder(temp.path());
        let long = "x".repeat(200);
        let mut id = 0;
        while recorder.open.as_ref().is_none_or(|open| open.bytes <= MAX_BYTES) {
            let batch: Vec<_> =
                (id..id + 1000).map(|id| apply(id, &format!("{long}{id}"), Some(file("1")), None)).collect();
            recorder.asked(&batch);
            id += 1000;
        }
        recorder.asked(&[apply(id, "last", Some(file("2")), None)]);
        let steps = recorded(temp.path());
        assert_eq!(steps[0].0, "last");
        assert_eq!(steps[1].0, format!("{long}{}", id - 1));
        let half = usize::try_from(id).unwrap() / 2;
        assert!((half - 100..half + 100).contains(&steps.len()), "{} of {id}", steps.len());
        assert!(fs::metadata(temp.path().join(RECORD)).unwrap().len() < MAX_BYTES);
    }
}
