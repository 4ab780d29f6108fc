//! What this program does when it is started again beside a command of hybrid mode: it begins the command in a session of
//! its own, or it waits to end that session should the program itself be killed.

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{Pid, ioctl_tiocsctty, setsid};

use super::process::end;

/// The first argument of the helper that becomes the command: the program's file, its name and its arguments follow.
pub(super) const BECOME: &str = "hybrid-become";
/// The first argument of the helper that watches.
const WATCH: &str = "hybrid-watch";

/// Does what a helper does, where these arguments, with the program's name first, are a helper's; `None` where they are
/// not.
///
/// A program that puts its own path into [`crate::request::Hybrid::helper`] calls this before anything else.
pub fn helper(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    let verb = arguments.next()?;
    if verb == BECOME {
        let error = become_program(&arguments.collect::<Vec<_>>());
        let _ = writeln!(io::stderr(), "towline: {error}");
        return Some(ExitCode::from(126));
    }
    (verb == WATCH).then(watch)
}

/// Becomes the program: the leader of a session whose terminal is our standard input, if that is one. Returns only on
/// failure.
fn become_program(argv: &[OsString]) -> io::Error {
    let [file, name, rest @ ..] = argv else { return io::Error::other("no program is named") };
    let begun =
        setsid().and_then(|_| if io::stdin().is_terminal() { ioctl_tiocsctty(io::stdin()) } else { Ok(()) });
    match begun {
        Ok(()) => Command::new(file).arg0(name).args(rest).exec(),
        Err(error) => error.into(),
    }
}

/// Waits for the end of our input, and ends who is left by then.
fn watch() -> ExitCode {
    // The terminal's signals are not for us.
    let _ = setsid();
    let Some(leader) = left_behind(io::stdin().lock()) else { return ExitCode::SUCCESS };
    match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => {
            runtime.block_on(end(leader));
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// Reads whom to watch. When the input ends without a second line, nobody else will end that session.
fn left_behind(input: impl BufRead) -> Option<Pid> {
    let mut lines = input.lines().map_while(Result::ok);
    let leader = lines.next()?.parse().ok().and_then(Pid::from_raw)?;
    lines.next().is_none().then_some(leader)
}

/// A helper that watches for us.
#[derive(Debug)]
pub(super) struct Watcher {
    input: io::PipeWriter,
    process: tokio::process::Child,
}

impl Watcher {
    /// Starts it; it watches nobody yet.
    pub(super) fn start(program: &Path) -> io::Result<Self> {
        let (theirs, input) = io::pipe()?;
        let mut command = tokio::process::Command::new(program);
        command.arg(WATCH).stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { process: command.spawn()?, input })
    }

    /// Names whose session it is to end if we can't.
    pub(super) fn watch(&mut self, leader: Pid) -> io::Result<()> {
        writeln!(self.input, "{}", leader.as_raw_nonzero())
    }

    /// Says that nothing is left to be ended.
    pub(super) async fn release(mut self) {
        let _ = writeln!(self.input, "done");
        drop(self.input);
        let _ = self.process.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_arguments_are_not_a_helpers() {
        let check = |line: &str| {
            let arguments = line.split_whitespace().map(OsString::from);
            assert!(helper(arguments).is_none(), "{line}");
        };
        check("");
        check("towline");
        check("towline up hybrid-watch");
        check("hybrid-watch");
    }

    #[test]
    fn nobody_is_left_behind_where_nobody_was_named_or_all_is_done() {
        let check = |input: &str, expected: Option<i32>| {
            assert_eq!(left_behind(input.as_bytes()), expected.and_then(Pid::from_raw), "{input:?}");
        };
        check("", None);
        check("no number\n", None);
        check("0\n", None);
        check("7\n", Some(7));
        check("7\ndone\n", None);
    }
}
