//! `cargo xtask tidy`: the rules of the house that neither the compiler nor clippy knows, each with its place.

mod agent_tree;
mod edges;
mod pages;
mod rules;
mod source;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use self::source::Source;
use crate::run;

/// Folders that hold no text of ours.
const SKIPPED: &[&str] = &["target", ".git", "corpus", "artifacts"];
/// Endings of files that are read.
const TEXT: &[&str] = &["rs", "md", "toml", "yml", "yaml", "sh", "html", "json", "snap", "txt"];

/// A rule that is broken, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    file: String,
    line: usize,
    message: String,
}

impl Finding {
    fn new(file: &str, line: usize, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// Looks at everything, then says all that is wrong.
pub(crate) fn run() -> Result<()> {
    let root = run::root();
    let mut findings = Vec::new();
    let mut files = Vec::new();
    walk(root, &mut files)?;
    for path in &files {
        let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
        let text = fs::read_to_string(path).with_context(|| format!("can't read {name}"))?;
        let source = Source::new(&name, &text);
        findings.extend(rules::any_text(&source));
        if path.extension().is_some_and(|ending| ending == "rs") {
            findings.extend(rules::rust(&source));
        }
    }
    findings.extend(edges::check(&run::metadata()?, &|file| fs::read_to_string(file).unwrap_or_default()));
    let tree = run::cargo(agent_tree::ARGUMENTS.iter().copied());
    findings.extend(agent_tree::check(&run::output(tree)?));
    findings.extend(pages::check(&|file| fs::read_to_string(root.join(file)).unwrap_or_default()));
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => println!("tidy: {} files, nothing to say", files.len()),
        count => bail!("{count} rules of the house are broken"),
    }
    Ok(())
}

/// Collects the texts below a folder, links not followed.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (kind, path, name) = (entry.file_type()?, entry.path(), entry.file_name());
        if kind.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) {
            walk(&path, files)?;
        } else if kind.is_file() {
            let ending = path.extension().and_then(|ending| ending.to_str());
            let script = folder.file_name().is_some_and(|folder| folder == ".ci");
            if script || ending.is_some_and(|ending| TEXT.contains(&ending)) {
                files.push(path);
            }
        }
    }
    Ok(())
}
