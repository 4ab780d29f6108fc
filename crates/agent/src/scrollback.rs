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
    chunks: VecDeque<(Stream, Vec<u8>)>,
    kept: usize,
    end: u64,
}

/// What a client that has seen everything up to some offset gets next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Bytes that are gone already; the client goes on after them.
    Skipped(u64),
    /// The next bytes.
    Bytes(Stream, Vec<u8>),
    /// Nothing yet.
    Nothing,
}

impl Scrollback {
    /// Adds output. Whole chunks go at the front when the bound is passed.
    pub(crate) fn push(&mut self, stream: Stream, bytes: &[u8]) {
        match self.chunks.back_mut() {
            Some((last, chunk)) if *last == stream && chunk.len() + bytes.len() <= PIECE => {
                chunk.extend_from_slice(bytes);
            }
            _ => self.chunks.push_back((stream, bytes.to_vec())),
        }
        self.kept += bytes.len();
        self.end += bytes.len() as u64;
        while self.kept > LIMIT {
            let Some((_, chunk)) = self.chunks.pop_front() else { break };
            self.kept -= chunk.len();
        }
    }

    /// Returns what follows `seen`; an offset beyond the end, of an earlier process, begins anew.
    pub(crate) fn after(&self, seen: u64) -> Next {
        let start = self.end - self.kept as u64;
        if seen < start {
            return Next::Skipped(start - seen);
        }
        let mut at = start;
        for (stream, chunk) in &self.chunks {
            let end = at + chunk.len() as u64;
            if seen < end {
                // Below the chunk's length, so it fits.
                let from = usize::try_from(seen - at).unwrap_or(0);
                let piece = &chunk[from..chunk.len().min(from + PIECE)];
                return Next::Bytes(*stream, piece.to_vec());
            }
            at = end;
        }
        Next::Nothing
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
                Next::Skipped(count) => {
                    skipped += count;
                    seen += count;
                }
                Next::Bytes(_, piece) => {
                    seen += piece.len() as u64;
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
        assert_eq!(scrollback.after(4), Next::Bytes(Stream::Error, b"two ".to_vec()));
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
