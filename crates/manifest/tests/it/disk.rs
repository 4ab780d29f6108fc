//! A disk in memory, and the shortest way to parse a text against it.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde_json::Value as Json;
use towline_manifest::{
    Context, Disk, Entry, Kind, Manifest, Node, Parsed, Scalar, Source, Span, Value, parse,
};

/// Files by their absolute path, and symbolic links; every folder above a file exists.
#[derive(Default)]
pub(crate) struct MemoryDisk {
    files: BTreeMap<PathBuf, String>,
    links: BTreeMap<PathBuf, PathBuf>,
}

impl MemoryDisk {
    pub(crate) fn with(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.into(), text.into());
        self
    }

    pub(crate) fn with_link(mut self, path: &str, target: &str) -> Self {
        self.links.insert(path.into(), target.into());
        self
    }

    fn follow(&self, path: &Path) -> PathBuf {
        for (link, target) in &self.links {
            if let Ok(rest) = path.strip_prefix(link) {
                return if rest.as_os_str().is_empty() { target.clone() } else { target.join(rest) };
            }
        }
        path.to_owned()
    }
}

impl Disk for MemoryDisk {
    fn kind(&self, path: &Path) -> Kind {
        let path = self.follow(path);
        if self.files.contains_key(&path) {
            Kind::File
        } else if self.files.keys().any(|file| file.starts_with(&path)) {
            Kind::Folder
        } else {
            Kind::Missing
        }
    }

    fn read(&self, path: &Path, _limit: usize) -> io::Result<String> {
        self.files.get(&self.follow(path)).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn canonical(&self, path: &Path) -> Option<PathBuf> {
        (self.kind(path) != Kind::Missing).then(|| self.follow(path))
    }
}

/// The disk that most tests use: a repository, and a home beside it.
pub(crate) fn repository() -> MemoryDisk {
    MemoryDisk::default()
        .with("/repo/okteto.yml", "")
        .with("/repo/.okteto/okteto.yml", "")
        .with("/repo/.envfile", "A=1\n")
        .with("/repo/secret.txt", "hello\n")
        .with("/repo/src/main.js", "")
        .with("/repo/sub/dir/x", "")
        .with("/lib/code.js", "")
        .with("/home/me/.ssh/id_rsa", "")
}

/// Parses `text` as `/repo/okteto.yml`.
pub(crate) fn read(text: &str) -> Parsed {
    read_at("/repo/okteto.yml", text, &repository(), &[])
}

/// Parses `text` as the manifest at `path`, for a user who has `variables`.
pub(crate) fn read_at(path: &str, text: &str, disk: &MemoryDisk, variables: &[(&str, &str)]) -> Parsed {
    let lookup =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let source = Source { name: "okteto.yml", text, path: Path::new(path) };
    parse(source, &Context { variables: &lookup, disk, repository: None })
}

/// Returns the manifest that `text` spells; it must have no error.
pub(crate) fn manifest(text: &str) -> Manifest {
    let parsed = read(text);
    assert!(!parsed.problems.has_errors(), "{text}\n{}", lines(&parsed));
    parsed.manifest.unwrap()
}

/// Returns all problems, one a line.
pub(crate) fn lines(parsed: &Parsed) -> String {
    parsed.problems.iter().map(|problem| problem.one_line() + "\n").collect()
}

/// Returns a JSON value as a tree, as if it were written in YAML.
pub(crate) fn node_of(value: &Json) -> Node {
    let scalar = |text: String, plain| Value::Scalar(Scalar { text, plain });
    let value = match value {
        Json::Null => Value::Null,
        Json::Bool(flag) => scalar(flag.to_string(), true),
        Json::Number(number) => scalar(number.to_string(), true),
        // The words for a flag mean one only without quotes.
        Json::String(text) => scalar(text.clone(), ["yes", "no", "on", "off"].contains(&text.as_str())),
        Json::Array(items) => Value::Sequence(items.iter().map(node_of).collect()),
        Json::Object(map) => {
            let entry = |(key, value): (&String, &Json)| Entry {
                key: key.clone(),
                key_span: Span::default(),
                node: node_of(value),
            };
            Value::Mapping(map.iter().map(entry).collect())
        }
    };
    Node { value, span: Span::default() }
}
