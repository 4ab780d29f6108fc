//! The command line, by hand: the laptop writes it, people hardly ever do.

use std::ffi::OsString;
use std::path::PathBuf;

/// Shown after a wrong command line.
pub(crate) const USAGE: &str = "usage: towline-agent run --run-dir DIR [--prefix DIR] | connect --run-dir DIR | \
                                serve --root DIR | seed FROM TO [--prefix DIR] | version";

/// Where an agent lives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Holds the private folder with the socket.
    pub(crate) run_dir: PathBuf,
    /// Put before every absolute path: a pod of the embedded cluster is a process in a private folder.
    pub(crate) prefix: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Run(Place),
    Connect(Place),
    /// Syncs one folder with who is at the other end of standard input and output.
    Serve {
        root: PathBuf,
    },
    Seed {
        from: PathBuf,
        to: PathBuf,
    },
    /// Ours alone: becomes the program in a session and terminal of its own. The path, then the argument list.
    TtyExec(Vec<OsString>),
    Version,
}

/// Reads the arguments after the program's name.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut arguments = arguments;
    let verb = arguments.next().ok_or("no command")?;
    if verb == "tty-exec" {
        return Ok(Command::TtyExec(arguments.collect()));
    }
    let (mut run_dir, mut prefix, mut root, mut operands) = (None, None, None, Vec::new());
    while let Some(argument) = arguments.next() {
        let slot = match argument.to_str() {
            Some("--run-dir") => &mut run_dir,
            Some("--prefix") => &mut prefix,
            Some("--root") => &mut root,
            Some(option) if option.starts_with("--") => return Err(format!("unknown option {option}")),
            _ => {
                operands.push(argument);
                continue;
            }
        };
        let value = arguments.next().ok_or_else(|| format!("{} needs a folder", argument.display()))?;
        *slot = Some(PathBuf::from(value));
    }
    let place = |prefix| run_dir.ok_or("--run-dir is missing").map(|run_dir| Place { run_dir, prefix });
    match (verb.to_str(), operands.as_slice()) {
        (Some("run"), []) => Ok(Command::Run(place(prefix)?)),
        (Some("connect"), []) => Ok(Command::Connect(place(prefix)?)),
        (Some("serve"), []) => Ok(Command::Serve { root: root.ok_or("--root is missing")? }),
        (Some("seed"), [from, to]) => Ok(Command::Seed {
            from: below(prefix.as_ref(), from.into()),
            to: below(prefix.as_ref(), to.into()),
        }),
        (Some("version"), []) => Ok(Command::Version),
        _ => Err(format!("can't understand {}", verb.display())),
    }
}

/// Puts an absolute path below the prefix, if there is one.
pub(crate) fn below(prefix: Option<&PathBuf>, path: PathBuf) -> PathBuf {
    match (prefix, path.strip_prefix("/")) {
        (Some(prefix), Ok(rest)) => prefix.join(rest),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Result<Command, &str>) {
        let found = parse(line.split_whitespace().map(OsString::from));
        assert_eq!(found, expected.map_err(str::to_owned), "{line}");
    }

    #[test]
    fn command_lines() {
        let place = |prefix: Option<&str>| Place { run_dir: "/r".into(), prefix: prefix.map(PathBuf::from) };
        check("run --run-dir /r", Ok(Command::Run(place(None))));
        check("run --prefix /p --run-dir /r", Ok(Command::Run(place(Some("/p")))));
        check("connect --run-dir /r", Ok(Command::Connect(place(None))));
        check("seed /a /b", Ok(Command::Seed { from: "/a".into(), to: "/b".into() }));
        check("seed /a /b --prefix /p", Ok(Command::Seed { from: "/p/a".into(), to: "/p/b".into() }));
        check("tty-exec /bin/sh --run-dir", Ok(Command::TtyExec(vec!["/bin/sh".into(), "--run-dir".into()])));
        check("serve --root /src", Ok(Command::Serve { root: "/src".into() }));
        check("serve", Err("--root is missing"));
        check("version", Ok(Command::Version));
        check("", Err("no command"));
        check("run", Err("--run-dir is missing"));
        check("run --run-dir", Err("--run-dir needs a folder"));
        check("run --fast", Err("unknown option --fast"));
        check("jump", Err("can't understand jump"));
    }
}
