//! What is written down about a pair beside its base, for people who ask later: which folders it keeps equal, which
//! paths it can't sync, whose bytes lost a conflict. The engine goes by none of it.

use std::cmp::Reverse;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use towline_sync_core::base::Base;
use towline_sync_core::engine::Side;
use towline_sync_core::message::Problem;
use towline_sync_core::reconcile::Mode;

use crate::base_store;
use crate::displaced::{self, Displaced};

/// The version of these files; those of another one are as good as missing.
const VERSION: u32 = 1;
const PAIR: &str = "pair.json";
const PROBLEMS: &str = "problems.json";
const CONFLICTS: &str = "conflicts.jsonl";
/// The longest of these files that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// A pair that was synced from this machine at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPair {
    /// Its private folder.
    pub state: PathBuf,
    /// What it keeps equal.
    pub description: Description,
}

/// What a pair keeps equal, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The folder on this machine.
    pub local: PathBuf,
    /// The other side, as a person names it: a folder, or the command that reaches it.
    pub remote: String,
    /// The other side, if it is a folder of this machine.
    pub remote_folder: Option<PathBuf>,
    /// The root that the other side is asked to open.
    pub remote_root: String,
    /// Which way changes travel.
    pub mode: Mode,
    /// The ignore rules, includes flattened in.
    pub ignore: Vec<String>,
    /// The file that the rules are from, if it is a single one.
    pub ignore_file: Option<PathBuf>,
    /// When it was last begun, in seconds since 1970.
    pub began: i64,
}

/// Bytes that are kept because they lost: a conflict, or their place to what was brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The path, from the folder.
    pub path: String,
    /// The side whose bytes they are.
    pub lost: Side,
    /// When, in seconds since 1970.
    pub at: i64,
    /// The file that holds them.
    pub kept: PathBuf,
    /// Why they are kept.
    pub why: Loss,
}

/// Why bytes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Loss {
    /// Both sides changed the path.
    Conflict,
    /// An older version was brought back in their place.
    Undo,
}

impl KnownPair {
    /// Returns the pairs whose private folders are in `folder`, the one begun last first.
    pub fn all(folder: &Path) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        let mut pairs: Vec<_> = entries.flatten().filter_map(|entry| Self::open(&entry.path())).collect();
        pairs.sort_by_key(|pair| Reverse(pair.description.began));
        pairs
    }

    fn open(state: &Path) -> Option<Self> {
        let saved: SavedPair = read(&state.join(PAIR))?;
        let description = saved.version.eq(&VERSION).then(|| saved.describe())?;
        Some(Self { state: state.to_owned(), description })
    }

    /// Returns what both sides last agreed on. It may lag behind a session that runs.
    ///
    /// # Errors
    ///
    /// When the base is there and can't be read or understood.
    pub fn base(&self) -> io::Result<Base> {
        base_store::read(&self.state)?.map_err(io::Error::other)
    }

    /// Returns what was replaced or deleted on the other side, if that is reached by a stream, the latest first; each
    /// version of a path once. The bytes are there, or were: it keeps so much and no more.
    ///
    /// # Errors
    ///
    /// When the record is there and can't be read, or is of another version.
    pub fn displaced(&self) -> io::Result<Vec<Displaced>> {
        Ok(displaced::read(&self.state)?.steps)
    }

    /// Returns the process that syncs the pair now, if one of ours does.
    pub fn holder(&self) -> Option<u32> {
        base_store::holder(&self.state)
    }

    /// Returns the paths that could not be synced when the pair was last at rest.
    pub fn problems(&self) -> Vec<Problem> {
        let saved: Option<SavedProblems> = read(&self.state.join(PROBLEMS));
        let saved = saved.filter(|saved| saved.version == VERSION);
        saved.map_or_else(Vec::new, |saved| {
            saved.problems.into_iter().map(|(path, message)| Problem { path, message }).collect()
        })
    }

    /// Returns the bytes that lost a conflict and are still kept, the latest first; each once.
    pub fn conflicts(&self) -> Vec<Conflict> {
        let Some(text) = read_text(&self.state.join(CONFLICTS)) else { return Vec::new() };
        let folder = crate::keep_folder(&self.state).join("conflicts");
        let mut conflicts: Vec<Conflict> = Vec::new();
        for line in text.lines().rev() {
            let Ok(saved) = serde_json::from_str::<SavedConflict>(line) else { continue };
            // A name of a file, or a line that somebody else wrote.
            if saved.kept.contains('/') || saved.kept.starts_with('.') {
                continue;
            }
            let kept = folder.join(&saved.kept);
            let is_known = |known: &Conflict| known.kept == kept && known.path == saved.path;
            if kept.is_file() && !conflicts.iter().any(is_known) {
                let lost = if saved.lost == "local" { Side::Local } else { Side::Remote };
                conflicts.push(Conflict { path: saved.path, lost, at: saved.at, kept, why: saved.why });
            }
        }
        conflicts
    }
}

/// Writes down what a pair keeps equal.
pub(crate) fn describe(state: &Path, description: &Description) -> io::Result<()> {
    write(&state.join(PAIR), &SavedPair::of(description))
}

/// Writes down which paths can't be synced.
pub(crate) fn save_problems(state: &Path, problems: Vec<Problem>) -> io::Result<()> {
    let problems = problems.into_iter().map(|problem| (problem.path, problem.message)).collect();
    write(&state.join(PROBLEMS), &SavedProblems { version: VERSION, problems })
}

/// Writes down whose bytes are kept under a name of the folder of conflicts.
pub(crate) fn add_conflict(state: &Path, path: &str, lost: Side, kept: &str, why: Loss) -> io::Result<()> {
    let saved = SavedConflict {
        path: path.to_owned(),
        lost: lost.name().to_owned(),
        at: now(),
        kept: kept.to_owned(),
        why,
    };
    let mut line = serde_json::to_vec(&saved)?;
    line.push(b'\n');
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(state.join(CONFLICTS))?;
    file.write_all(&line)
}

/// Returns the time in seconds since 1970.
pub(crate) fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// Reads a text that is not longer than it can be.
pub(crate) fn read_text(file: &Path) -> Option<String> {
    let is_sane = fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_BYTES);
    is_sane.then(|| fs::read(file).ok()).flatten().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn read<T: DeserializeOwned>(file: &Path) -> Option<T> {
    serde_json::from_str(&read_text(file)?).ok()
}

/// Replaces a file whole.
fn write<T: Serialize>(file: &Path, content: &T) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut output: File =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    output.write_all(&serde_json::to_vec(content)?)?;
    fs::rename(&new, file)
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SavedPair {
    version: u32,
    local: PathBuf,
    remote: String,
    remote_folder: Option<PathBuf>,
    #[serde(default = "top")]
    remote_root: String,
    mode: SavedMode,
    ignore: Vec<String>,
    ignore_file: Option<PathBuf>,
    began: i64,
}

/// The root of those who say themselves which folder they serve.
fn top() -> String {
    "/".to_owned()
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum SavedMode {
    TwoWay,
    LocalToRemote,
    RemoteToLocal,
    Mirror,
}

#[derive(Serialize, Deserialize)]
struct SavedProblems {
    version: u32,
    problems: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
struct SavedConflict {
    path: String,
    lost: String,
    at: i64,
    kept: String,
    why: Loss,
}

impl SavedPair {
    fn of(description: &Description) -> Self {
        let Description { local, remote, remote_folder, remote_root, mode, ignore, ignore_file, began } =
            description.clone();
        let mode = match mode {
            Mode::TwoWay => SavedMode::TwoWay,
            Mode::LocalToRemote => SavedMode::LocalToRemote,
            Mode::RemoteToLocal => SavedMode::RemoteToLocal,
            Mode::Mirror => SavedMode::Mirror,
        };
        Self { version: VERSION, local, remote, remote_folder, remote_root, mode, ignore, ignore_file, began }
    }

    fn describe(self) -> Description {
        let Self { version: _, local, remote, remote_folder, remote_root, mode, ignore, ignore_file, began } =
            self;
        let mode = match mode {
            SavedMode::TwoWay => Mode::TwoWay,
            SavedMode::LocalToRemote => Mode::LocalToRemote,
            SavedMode::RemoteToLocal => Mode::RemoteToLocal,
            SavedMode::Mirror => Mode::Mirror,
        };
        Description { local, remote, remote_folder, remote_root, mode, ignore, ignore_file, began }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(began: i64) -> Description {
        Description {
            local: "/src".into(),
            remote: "ssh box".to_owned(),
            remote_folder: None,
            remote_root: "/".to_owned(),
            mode: Mode::Mirror,
            ignore: vec!["*.log".to_owned()],
            ignore_file: Some("/src/.stignore".into()),
            began,
        }
    }

    #[test]
    fn pairs_are_found_again_the_latest_first() {
        let temp = tempfile::tempdir().unwrap();
        for (name, began) in [("old", 1), ("new", 2)] {
            fs::create_dir(temp.path().join(name)).unwrap();
            describe(&temp.path().join(name), &description(began)).unwrap();
        }
        fs::create_dir(temp.path().join("empty")).unwrap();
        fs::create_dir(temp.path().join("garbage")).unwrap();
        fs::write(temp.path().join("garbage").join(PAIR), "{\"version\":").unwrap();
        fs::create_dir(temp.path().join("later")).unwrap();
        let later = serde_json::to_string(&SavedPair::of(&description(3))).unwrap();
        fs::write(temp.path().join("later").join(PAIR), later.replace("\"version\":1", "\"version\":2"))
            .unwrap();
        let found = KnownPair::all(temp.path());
        assert_eq!(found.iter().map(|pair| pair.description.began).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(found[1].description, description(1));
        assert_eq!(found[1].holder(), None);
        assert!(KnownPair::all(&temp.path().join("missing")).is_empty());
    }

    #[test]
    fn conflicts_are_listed_while_their_bytes_are_there() {
        let temp = tempfile::tempdir().unwrap();
        describe(temp.path(), &description(1)).unwrap();
        let pair = KnownPair::open(temp.path()).unwrap();
        let folder = crate::keep_folder(temp.path()).join("conflicts");
        fs::create_dir_all(&folder).unwrap();
        for name in ["1-a", "2-b"] {
            fs::write(folder.join(name), name).unwrap();
        }
        let add = |path, lost, kept, why| add_conflict(temp.path(), path, lost, kept, why).unwrap();
        add("a", Side::Remote, "1-a", Loss::Conflict);
        add("d/b", Side::Local, "2-b", Loss::Undo);
        add("gone", Side::Local, "3-gone", Loss::Conflict);
        add("a", Side::Remote, "1-a", Loss::Conflict);
        add("evil", Side::Remote, "../../../etc/passwd", Loss::Conflict);
        let mut file = OpenOptions::new().append(true).open(temp.path().join(CONFLICTS)).unwrap();
        file.write_all(b"{\"torn\":").unwrap();
        let found: Vec<_> =
            pair.conflicts().into_iter().map(|kept| (kept.path, kept.lost, kept.kept, kept.why)).collect();
        let expected = [
            ("a".to_owned(), Side::Remote, folder.join("1-a"), Loss::Conflict),
            ("d/b".to_owned(), Side::Local, folder.join("2-b"), Loss::Undo),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn problems_are_those_that_were_saved_last() {
        let temp = tempfile::tempdir().unwrap();
        describe(temp.path(), &description(1)).unwrap();
        let pair = KnownPair::open(temp.path()).unwrap();
        assert!(pair.problems().is_empty());
        let problem = |path: &str| Problem { path: path.to_owned(), message: "is odd".to_owned() };
        save_problems(temp.path(), vec![problem("a"), problem("b")]).unwrap();
        save_problems(temp.path(), vec![problem("c")]).unwrap();
        assert_eq!(pair.problems(), [problem("c")]);
    }
}
