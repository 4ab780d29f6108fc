//! What sync has replaced or deleted, as a replica keeps it (`towline-sync-fs`, "The trash"): a list, and the contents
//! by their hashes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::record::read_text;

/// Something that sync has replaced or deleted, and keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discarded {
    /// The path from the root; empty where a crash left only the bytes.
    pub path: String,
    /// When it went, in seconds since 1970.
    pub at: i64,
    /// Why it went.
    pub why: Why,
    /// What it was.
    pub what: Was,
}

/// Why something was discarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// The other side had another version.
    Replaced,
    /// It was deleted on the other side.
    Deleted,
    /// Nobody expected it: it was found in the moment of a replacement, or after a crash.
    Recovered,
}

/// What was discarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Was {
    /// A file.
    File {
        /// The file that holds its bytes.
        kept: PathBuf,
        /// BLAKE3 of its bytes, in hexadecimal digits.
        hash: String,
        /// In bytes.
        size: u64,
        /// Whether it could be executed.
        executable: bool,
    },
    /// A symbolic link with this text.
    Link(String),
}

#[derive(Deserialize)]
struct Line {
    at: i64,
    why: Why,
    path: String,
    hash: Option<String>,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    executable: bool,
    link: Option<String>,
}

/// Returns what is in the trash below the folder `keep`, the latest first, each version of a path once.
pub fn discarded(keep: &Path) -> Vec<Discarded> {
    let folder = keep.join("trash");
    let Some(text) = read_text(&folder.join("index")) else { return Vec::new() };
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for line in text.lines().rev() {
        let Ok(line) = serde_json::from_str::<Line>(line) else { continue };
        let what = match (line.hash, line.link) {
            (Some(hash), _) if is_hash(&hash) => {
                let (kept, size, executable) = (folder.join(&hash), line.size, line.executable);
                if !kept.is_file() {
                    continue;
                }
                Was::File { kept, hash, size, executable }
            }
            (None, Some(target)) => Was::Link(target),
            _ => continue,
        };
        let version = match &what {
            Was::File { hash, .. } => hash.clone(),
            Was::Link(target) => format!("link {target}"),
        };
        if seen.insert((line.path.clone(), version)) {
            all.push(Discarded { path: line.path, at: line.at, why: line.why, what });
        }
    }
    all
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_list_has_what_can_still_be_brought_back() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("trash");
        fs::create_dir(&folder).unwrap();
        let (one, two) = ("1".repeat(64), "2".repeat(64));
        fs::write(folder.join(&one), "one").unwrap();
        let index = format!(
            "{{\"at\":1,\"why\":\"replaced\",\"path\":\"a\",\"hash\":\"{one}\",\"size\":3,\"executable\":true}}\n\
             {{\"at\":2,\"why\":\"deleted\",\"path\":\"b\",\"hash\":\"{two}\",\"size\":3,\"executable\":false}}\n\
             {{\"at\":3,\"why\":\"deleted\",\"path\":\"l\",\"link\":\"a\"}}\n\
             {{\"at\":4,\"why\":\"deleted\",\"path\":\"a\",\"hash\":\"{one}\",\"size\":3,\"executable\":true}}\n\
             {{\"at\":5,\"why\":\"deleted\",\"path\":\"e\",\"hash\":\"../../etc/passwd\",\"size\":3,\"executable\":true}}\n\
             {{\"at\":6,\"why\":\"dele"
        );
        fs::write(folder.join("index"), index).unwrap();
        let found: Vec<_> =
            discarded(temp.path()).into_iter().map(|entry| (entry.path, entry.at, entry.why)).collect();
        assert_eq!(found, [("a".to_owned(), 4, Why::Deleted), ("l".to_owned(), 3, Why::Deleted)]);
        assert!(discarded(&temp.path().join("missing")).is_empty());
    }
}
