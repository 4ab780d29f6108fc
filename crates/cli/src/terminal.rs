//! The user's terminal: raw while the command has it, as it was after that.

use std::io::{IsTerminal, Read};

use tokio::sync::mpsc;
use towline_protocol::TerminalSize;

/// Returns the terminal's size, when both input and output are one.
pub(crate) fn size() -> Option<TerminalSize> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return None;
    }
    let (columns, rows) = crossterm::terminal::size().ok()?;
    Some(TerminalSize { rows, columns })
}

/// Raw mode for as long as it lives.
#[derive(Debug)]
pub(crate) struct Raw(());

impl Raw {
    /// Enters raw mode.
    pub(crate) fn enter() -> std::io::Result<Self> {
        crossterm::terminal::enable_raw_mode()?;
        Ok(Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no mending.
        let _ = crossterm::terminal::disable_raw_mode();
    }
}

/// Reads standard input in a thread of its own, since it can't be waited for otherwise. Ends with the input.
pub(crate) fn input() -> mpsc::Receiver<Vec<u8>> {
    let (input_tx, input_rx) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        let mut stdin = std::io::stdin().lock();
        while let Ok(count @ 1..) = stdin.read(&mut buffer) {
            if input_tx.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    input_rx
}

/// Finds `Enter ~ .` in what is typed: the way out while every other key goes to the pod.
#[derive(Debug)]
pub(crate) struct Escape {
    seen: Seen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Start,
    Text,
    Tilde,
}

impl Escape {
    /// Begins at the start of a line.
    pub(crate) fn new() -> Self {
        Self { seen: Seen::Start }
    }

    /// Takes in what was typed. Returns what is to be sent, and whether the user leaves.
    pub(crate) fn take(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut send = Vec::with_capacity(typed.len());
        for &byte in typed {
            match (self.seen, byte) {
                (Seen::Start, b'~') => {
                    self.seen = Seen::Tilde;
                    continue;
                }
                (Seen::Tilde, b'.') => return (send, true),
                // A second tilde is the first one, typed for itself.
                (Seen::Tilde, _) if byte != b'~' => send.push(b'~'),
                (Seen::Start | Seen::Text | Seen::Tilde, _) => {}
            }
            send.push(byte);
            self.seen = if matches!(byte, b'\r' | b'\n') { Seen::Start } else { Seen::Text };
        }
        (send, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(typed: &[&str], sent: &str, left: bool) {
        let mut escape = Escape::new();
        let (mut all, mut gone) = (Vec::new(), false);
        for piece in typed {
            let (piece, leaves) = escape.take(piece.as_bytes());
            all.extend(piece);
            gone |= leaves;
        }
        assert_eq!((String::from_utf8_lossy(&all).as_ref(), gone), (sent, left), "{typed:?}");
    }

    #[test]
    fn only_a_line_that_begins_with_it_leaves() {
        check(&["ls\r~."], "ls\r", true);
        check(&["~", "."], "", true);
        check(&["cd ~.\r"], "cd ~.\r", false);
        check(&["~~.\r"], "~.\r", false);
        check(&["~/bin\r"], "~/bin\r", false);
        check(&["a", "\r", "~", "x"], "a\r~x", false);
    }
}
