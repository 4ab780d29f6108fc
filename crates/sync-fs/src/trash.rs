//! The bounded trash: what an apply displaced, by content, with an index of where it was.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat, renameat};
use rustix::io::Errno;
use towline_sync_core::snapshot::{self, Entry, Hash};

use crate::disk::{list, open_file, read_link};
use crate::known::now;
use crate::read::hash_file;
use crate::stage::{create, remove};

const INDEX: &str = "index";
const NEW_INDEX: &str = "index.new";
/// The most things kept, whatever their size.
const MAX_ENTRIES: usize = 10_000;
/// After this many lines have lost their content, the index is written anew.
const MAX_DEAD: usize = 1000;
/// The longest index read, in bytes.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// Why something is in the trash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Replaced,
    Deleted,
    Recovered,
}

impl Why {
    fn as_str(self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::Deleted => "deleted",
            Self::Recovered => "recovered",
        }
    }
}

/// An open trash folder.
#[derive(Debug)]
pub(crate) struct Trash {
    folder: OwnedFd,
    index: File,
    limit: u64,
    lines: VecDeque<Line>,
    /// How many lines name a content, and its size.
    contents: HashMap<String, (usize, u64)>,
    used: u64,
    dead: usize,
}

#[derive(Debug)]
struct Line {
    text: String,
    hash: Option<String>,
}

impl Trash {
    /// Opens the trash in `folder`, to hold at most `limit` bytes.
    pub(crate) fn open(folder: OwnedFd, limit: u64) -> io::Result<Self> {
        remove(folder.as_fd(), NEW_INDEX)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut index = File::from(openat(&folder, INDEX, flags, Mode::RUSR | Mode::WUSR)?);
        let mut text = String::new();
        (&mut index).take(MAX_INDEX_BYTES).read_to_string(&mut text)?;
        let mut trash =
            Self { folder, index, limit, lines: VecDeque::new(), contents: HashMap::new(), used: 0, dead: 0 };
        for line in text.lines() {
            let hash = field(line, "\"hash\":\"").filter(|hash| is_hash(hash)).map(str::to_owned);
            let size = hash.as_ref().and_then(|hash| open_file(trash.folder.as_fd(), hash).ok());
            match (&hash, size) {
                (Some(_), None) => trash.dead += 1,
                (_, size) => {
                    trash.count(Line { text: line.to_owned(), hash }, size.map_or(0, |(_, stat)| stat.size));
                }
            }
        }
        for name in list(trash.folder.as_fd())? {
            // A content whose line was lost with a crash can't be told from others by a person.
            if let Ok(name) = std::str::from_utf8(&name)
                && is_hash(name)
                && !trash.contents.contains_key(name)
            {
                remove(trash.folder.as_fd(), name)?;
            }
        }
        trash.shrink()?;
        Ok(trash)
    }

    /// Moves what is at `name` in `from` in here. It stood at `path`; `entry` is what it is believed to be.
    pub(crate) fn take(
        &mut self,
        from: BorrowedFd<'_>,
        name: &str,
        path: &str,
        entry: &Entry,
        why: Why,
    ) -> io::Result<()> {
        match entry {
            // What nobody has judged is kept whatever its size.
            Entry::File(file) if file.size <= self.limit || why == Why::Recovered => {
                let hash = file.hash.to_hex();
                let text = self.append(path, why, entry)?;
                match renameat(from, name, &self.folder, &hash) {
                    Err(Errno::XDEV) => self.copy(from, name, &hash)?,
                    result => result?,
                }
                self.count(Line { text, hash: Some(hash) }, file.size);
            }
            Entry::Symlink { .. } => {
                let text = self.append(path, why, entry)?;
                remove(from, name)?;
                self.count(Line { text, hash: None }, 0);
            }
            _ => return remove(from, name),
        }
        // It is kept; what could not be thrown away for it is next time.
        let _later = self.shrink();
        Ok(())
    }

    /// Takes in what a crash left between its place and the trash.
    pub(crate) fn recover(&mut self, from: BorrowedFd<'_>) -> io::Result<()> {
        for name in list(from)? {
            let Ok(name) = std::str::from_utf8(&name) else { continue };
            let entry = match hash_file(from, name) {
                Ok(seen) => seen.entry,
                Err(_) => match read_link(from, name) {
                    Ok(Some(target)) => Entry::Symlink { target },
                    _ => Entry::Directory,
                },
            };
            self.take(from, name, "", &entry, Why::Recovered)?;
        }
        Ok(())
    }

    /// Opens a content that is in here; whoever reads it checks the hash.
    pub(crate) fn find(&self, hash: Hash) -> Option<File> {
        let hash = hash.to_hex();
        self.contents
            .contains_key(&hash)
            .then(|| open_file(self.folder.as_fd(), &hash).ok())?
            .map(|(file, _)| file)
    }

    fn copy(&self, from: BorrowedFd<'_>, name: &str, hash: &str) -> io::Result<()> {
        let temporary = format!("{hash}.new");
        remove(self.folder.as_fd(), temporary.as_str())?;
        let (mut source, _) = open_file(from, name)?;
        let mut copy = create(self.folder.as_fd(), &temporary)?;
        let done = io::copy(&mut source, &mut copy)
            .and_then(|_| copy.sync_data())
            .and_then(|()| Ok(renameat(&self.folder, &temporary, &self.folder, hash)?));
        if done.is_err() {
            remove(self.folder.as_fd(), temporary.as_str())?;
        }
        done?;
        remove(from, name)
    }

    fn append(&mut self, path: &str, why: Why, entry: &Entry) -> io::Result<String> {
        let mut text = format!("{{\"at\":{},\"why\":\"{}\",\"path\":{}", now().0, why.as_str(), quoted(path));
        match entry {
            Entry::File(snapshot::File { hash, size, executable }) => {
                let hash = hash.to_hex();
                // Writing to a string can't fail.
                let _ok = write!(text, ",\"hash\":\"{hash}\",\"size\":{size},\"executable\":{executable}");
            }
            Entry::Symlink { target } => {
                let _ok = write!(text, ",\"link\":{}", quoted(target));
            }
            Entry::Directory | Entry::Opaque(_) => {}
        }
        text.push('}');
        self.index.write_all(format!("{text}\n").as_bytes())?;
        Ok(text)
    }

    fn count(&mut self, line: Line, size: u64) {
        if let Some(hash) = &line.hash {
            let counted = self.contents.entry(hash.clone()).or_insert((0, size));
            counted.0 += 1;
            if counted.0 == 1 {
                self.used += size;
            }
        }
        self.lines.push_back(line);
    }

    fn shrink(&mut self) -> io::Result<()> {
        while self.lines.len() > 1 && (self.used > self.limit || self.lines.len() > MAX_ENTRIES) {
            let Some(line) = self.lines.pop_front() else { break };
            self.dead += 1;
            if let Some(hash) = line.hash
                && let Some((count, size)) = self.contents.get_mut(&hash)
            {
                *count -= 1;
                if *count == 0 {
                    self.used -= *size;
                    self.contents.remove(&hash);
                    remove(self.folder.as_fd(), hash.as_str())?;
                }
            }
        }
        if self.dead > MAX_DEAD {
            self.rewrite()?;
        }
        Ok(())
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let mut index = create(self.folder.as_fd(), NEW_INDEX)?;
        for line in &self.lines {
            index.write_all(line.text.as_bytes())?;
            index.write_all(b"\n")?;
        }
        renameat(&self.folder, NEW_INDEX, &self.folder, INDEX)?;
        self.index = index;
        self.dead = 0;
        Ok(())
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns the text between `key` and the next quotation mark. In a line of ours the first `"hash":"` is the field:
/// the quotation marks of a path are escaped.
fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(key)?;
    rest.split_once('"').map(|(value, _)| value)
}

/// Writes a text as JSON does.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control < ' ' => {
                let _ok = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}
