//! Puts what a scan finds into messages.

use towline_sync_core::message::{Body, MAX_BATCH_BYTES, New, Reply};
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::Entry;

use crate::scan::Item;

/// About how much goes into one message of entries or changes, in bytes.
const MESSAGE_BYTES: usize = 64 * 1024;
/// The most entries in one message with content.
const MAX_CONTENTS: usize = 1000;

/// What a scan has found and not yet told.
///
/// Folders go out before what is in them: with `eager` they go with the contents, and those go before the rest.
#[derive(Debug)]
pub(crate) struct Report {
    eager: bool,
    entries: Batch<(RelPath, Entry)>,
    contents: Batch<New>,
    /// How much content there is in `contents`, in bytes.
    content_bytes: usize,
}

impl Report {
    pub(crate) fn new(eager: bool) -> Self {
        Self { eager, entries: Batch::default(), contents: Batch::default(), content_bytes: 0 }
    }

    /// Takes what was found and tells what makes a message. The content is taken out of `item`.
    pub(crate) fn push(&mut self, item: &mut Item, tell: &mut dyn FnMut(Reply)) {
        let (path, entry) = (item.path.clone(), item.seen.entry.clone());
        let size = entry_bytes(&path, Some(&entry));
        let content = item.content.take();
        let is_plain = !matches!(entry, Entry::Directory | Entry::Symlink { .. });
        if !self.eager || (is_plain && content.is_none()) {
            if let Some(entries) = self.entries.push((path, entry), size) {
                self.tell_contents(tell);
                tell(Reply::Entries { entries, last: false });
            }
            return;
        }
        let modified = content.as_ref().map(|_| item.seen.stat.modified);
        let content = content.unwrap_or_default();
        if self.content_bytes + content.len() > MAX_BATCH_BYTES || self.contents.items.len() == MAX_CONTENTS {
            self.tell_contents(tell);
        }
        self.content_bytes += content.len();
        let new = New { path, from: None, entry, body: Body::Whole(content), modified };
        if let Some(contents) = self.contents.push(new, size) {
            self.content_bytes = 0;
            tell(Reply::Contents(contents));
        }
    }

    /// Tells the rest.
    pub(crate) fn end(mut self, tell: &mut dyn FnMut(Reply)) {
        self.tell_contents(tell);
        tell(Reply::Entries { entries: self.entries.items, last: true });
    }

    fn tell_contents(&mut self, tell: &mut dyn FnMut(Reply)) {
        self.content_bytes = 0;
        let contents = self.contents.take();
        if !contents.is_empty() {
            tell(Reply::Contents(contents));
        }
    }
}

/// Items for one message.
#[derive(Debug)]
pub(crate) struct Batch<T> {
    pub(crate) items: Vec<T>,
    bytes: usize,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { items: Vec::new(), bytes: 0 }
    }
}

impl<T> Batch<T> {
    /// Adds an item and returns what makes a full message.
    pub(crate) fn push(&mut self, item: T, bytes: usize) -> Option<Vec<T>> {
        self.items.push(item);
        self.bytes += bytes;
        (self.bytes >= MESSAGE_BYTES).then(|| self.take())
    }

    /// Returns what there is.
    pub(crate) fn take(&mut self) -> Vec<T> {
        self.bytes = 0;
        std::mem::take(&mut self.items)
    }
}

/// Returns about how long an entry is when encoded.
pub(crate) fn entry_bytes(path: &RelPath, entry: Option<&Entry>) -> usize {
    let content = match entry {
        Some(Entry::File(_)) => 48,
        Some(Entry::Symlink { target }) => target.len() + 4,
        _ => 4,
    };
    path.as_str().len() + content
}
