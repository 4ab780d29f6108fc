//! The agent's few words: on standard error, where `kubectl logs` shows them.

use std::io::Write;

/// Writes one line about ourselves. Who can't be told is not told.
pub(crate) fn line(message: &str) {
    let _ = writeln!(std::io::stderr(), "towline-agent: {message}");
}

/// Writes one line of output.
pub(crate) fn answer(message: &str) {
    let _ = writeln!(std::io::stdout(), "{message}");
}
