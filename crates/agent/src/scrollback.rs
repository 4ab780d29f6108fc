//! A process's output, kept up to a bound, with a place for every client to go on from.

use std::collections::VecDeque;

/// Bytes kept of a command's output.
pub(crate) const LIMIT: usize = 256 * 1024;
/// The most bytes handed out at once.
const PIECE: usize = 32 * 1024;

/// Which of a process's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output, or the terminal.
    Output,
    /// Standard error.
    Error,
}

/// The last bytes of a process's output. Offsets count from the process's start, over both streams.
#[derive(Debug, Default)]
pub(crate) struct Scrollback {
    chunks: VecDeque<Chunk>,
    end: u64,
}

/// A run of bytes of one stream.
#[derive(Debug)]
struct Chunk {
    start: u64,
    stream: Stream,
    bytes: Vec<u8>,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// What a client that has seen everything up to some offset gets next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// So many bytes from this offset on are gone already; the client goes on after them.
    Skipped { from: u64, count: u64 },
    /// The bytes from this offset on.
    Bytes { from: u64, stream: Stream, bytes: Vec<u8> },
    /// Nothing yet.
    Nothing,
}

impl Scrollback {
    /// Adds output. Whole chunks go at the front when the bound is passed.
    pub(crate) fn push(&mut self, stream: Stream, bytes: &[u8]) {
        match self.chunks.back_mut() {
            Some(last) if last.stream == stream && last.bytes.len() + bytes.len() <= PIECE => {
                last.bytes.extend_from_slice(bytes);
            }
            _ => self.chunks.push_back(Chunk { start: self.end, stream, bytes: bytes.to_vec() }),
        }
        self.end += bytes.len() as u64;
        while self.end - self.start() > LIMIT as u64 {
            self.chunks.pop_front();
        }
    }

    /// Returns what follows `seen`; an offset beyond the end, of an earlier process, begins anew.
    pub(crate) fn after(&self, seen: u64) -> Next {
        let (start, seen) = (self.start(), if seen > self.end { 0 } else { seen });
        if seen < start {
            return Next::Skipped { from: seen, count: start - seen };
        }
        let at = self.chunks.partition_point(|chunk| chunk.end() <= seen);
        match self.chunks.get(at) {
            Some(chunk) => {
                // Within the chunk, so it fits.
                let from = usize::try_from(seen - chunk.start).unwrap_or(0);
                let piece = &chunk.bytes[from..chunk.bytes.len().min(from + PIECE)];
                Next::Bytes { from: seen, stream: chunk.stream, bytes: piece.to_vec() }
            }
            None => Next::Nothing,
        }
    }

    fn start(&self) -> u64 {
        self.chunks.front().map_or(self.end, |chunk| chunk.start)
    }

    /// Returns the bytes written since the start.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads everything after `seen`.
    fn read(scrollback: &Scrollback, mut seen: u64) -> (u64, Vec<u8>) {
        let (mut skipped, mut bytes) = (0, Vec::new());
        loop {
            match scrollback.after(seen) {
                Next::Skipped { from, count } => {
                    skipped += count;
                    seen = from + count;
                }
                Next::Bytes { from, bytes: piece, .. } => {
                    seen = from + piece.len() as u64;
                    bytes.extend(piece);
                }
                Next::Nothing => return (skipped, bytes),
            }
        }
    }

    #[test]
    fn every_client_goes_on_where_it_was() {
        let mut scrollback = Scrollback::default();
        scrollback.push(Stream::Output, b"one ");
        scrollback.push(Stream::Error, b"two ");
        scrollback.push(Stream::Output, b"three");
        assert_eq!(read(&scrollback, 0), (0, b"one two three".to_vec()));
        assert_eq!(read(&scrollback, 6), (0, b"o three".to_vec()));
        assert_eq!(read(&scrollback, 13), (0, Vec::new()));
        let errors = Next::Bytes { from: 4, stream: Stream::Error, bytes: b"two ".to_vec() };
        assert_eq!(scrollback.after(4), errors);
        assert_eq!(read(&scrollback, 14), (0, b"one two three".to_vec()), "of an earlier process");
    }

    #[test]
    fn what_is_lost_is_counted() {
        let mut scrollback = Scrollback::default();
        for index in 0..2 * LIMIT / 1000 {
            scrollback.push(Stream::Output, &[u8::try_from(index % 251).unwrap(); 1000]);
        }
        let (skipped, bytes) = read(&scrollback, 500);
        assert!(bytes.len() <= LIMIT && bytes.len() > LIMIT - PIECE - 1000, "{}", bytes.len());
        assert_eq!(500 + skipped + bytes.len() as u64, scrollback.end());
    }
}
