//! Where each value of the effective manifest comes from.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    dev::sanitized,
    node::{Node, Value},
    problem::{SourceText, Span},
    yaml::{push_index, push_key},
};

/// A place in a file, as an editor counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePlace {
    /// The file's name, as the user knows it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
}

impl FilePlace {
    pub(crate) fn new(file: &SourceText, span: Span) -> Self {
        let (line, column) = file.position(span.start);
        Self { file: file.name().to_owned(), line, column }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Where it is written; `None` when nobody wrote it and it is what holds by itself.
    pub place: Option<FilePlace>,
    /// The variables that it was made of, in order.
    pub variables: Vec<UsedVariable>,
    /// Whether it was read from a file of variables.
    pub from_file: bool,
}

/// A variable that a value was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedVariable {
    /// The variable.
    pub name: String,
    /// Where its value comes from.
    pub source: VariableSource,
}

/// Where the value of a variable comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VariableSource {
    /// The user's environment.
    Environment,
    /// A file of variables.
    File(FilePlace),
    /// The text's own words for when it is not set, or for when it is.
    Default,
    /// Nowhere: it is not set.
    Nowhere,
}

/// What origins are found out from: the text as a tree, and what was noted while it was read.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) root: Node,
    pub(crate) file: Arc<SourceText>,
    pub(crate) used: BTreeMap<Span, Vec<UsedVariable>>,
    pub(crate) from_files: BTreeMap<String, (Arc<SourceText>, Span)>,
    /// The one dev service of a manifest of version 1.
    pub(crate) version_one: Option<String>,
}

/// The names that fields have in the text, where they are other ones.
const OTHER_NAMES: [(&str, &str); 4] = [
    ("selector", "labels"),
    ("probes", "healthchecks"),
    ("accessMode", "accessModes"),
    ("persistentVolume", "volume"),
];

impl Written {
    /// Adds the origin of every value of `effective` that stands in this text, by the value's path.
    pub(crate) fn trace(&self, effective: &Node, origins: &mut BTreeMap<String, Origin>) {
        self.walk(effective, Some(&self.root), 0, &mut String::new(), "", origins);
    }

    fn walk(
        &self,
        node: &Node,
        raw: Option<&Node>,
        depth: usize,
        path: &mut String,
        written: &str,
        origins: &mut BTreeMap<String, Origin>,
    ) {
        let length = path.len();
        match &node.value {
            Value::Mapping(entries) if !entries.is_empty() => {
                for entry in entries {
                    push_key(path, &entry.key);
                    let (child, key) = self.child(raw, depth, &entry.key);
                    let mut written = written.to_owned();
                    if self.version_one.is_none() || depth >= 2 {
                        push_key(&mut written, key.unwrap_or(&entry.key));
                    }
                    self.walk(&entry.node, child, depth + 1, path, &written, origins);
                    path.truncate(length);
                }
            }
            Value::Sequence(items) if !items.is_empty() => {
                for (at, item) in items.iter().enumerate() {
                    push_index(path, at);
                    let child = match raw.map(|raw| &raw.value) {
                        Some(Value::Sequence(written)) => written.get(at).or(raw),
                        Some(Value::Mapping(_)) => {
                            raw.and_then(|raw| raw.field("folders")).and_then(|list| nth(list, at)).or(raw)
                        }
                        _ => raw,
                    };
                    self.walk(item, child, depth + 1, path, &format!("{written}[{at}]"), origins);
                    path.truncate(length);
                }
            }
            _ => {
                origins.insert(path.clone(), self.origin(raw, written));
            }
        }
    }

    fn origin(&self, raw: Option<&Node>, written: &str) -> Origin {
        if let Some((file, span)) = self.from_files.get(written) {
            let place = Some(FilePlace::new(file, *span));
            return Origin { place, variables: Vec::new(), from_file: true };
        }
        let place = raw.map(|raw| FilePlace::new(&self.file, raw.span));
        let variables = raw.and_then(|raw| self.used.get(&raw.span)).cloned().unwrap_or_default();
        Origin { place, variables, from_file: false }
    }

    /// Returns where the value of `key` is written: its own place, or the shorthand that says it; and the key there.
    fn child<'n>(
        &'n self,
        raw: Option<&'n Node>,
        depth: usize,
        key: &str,
    ) -> (Option<&'n Node>, Option<&'n str>) {
        let Some(raw) = raw else { return (None, None) };
        // Of a manifest of version 1 both `dev` and the name below it are the text itself.
        match (&self.version_one, depth) {
            (Some(_), 0) => return ((key == "dev").then_some(raw), None),
            (Some(name), 1) => return ((key == name).then_some(raw), None),
            _ => {}
        }
        match &raw.value {
            Value::Mapping(entries) => {
                let other = OTHER_NAMES.iter().find(|(name, _)| *name == key).map(|(_, other)| *other);
                let entry = entries.iter().find(|entry| entry.key == key);
                let entry = entry.or_else(|| entries.iter().find(|entry| sanitized(&entry.key) == key));
                let entry = entry.or_else(|| entries.iter().find(|entry| Some(entry.key.as_str()) == other));
                (entry.map(|entry| &entry.node), entry.map(|entry| entry.key.as_str()))
            }
            Value::Sequence(items) => {
                let says = |item: &&Node| {
                    matches!(&item.value, Value::Scalar(scalar) if scalar.text.strip_prefix(key)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('=')))
                };
                (items.iter().find(says).or(Some(raw)), None)
            }
            Value::Scalar(_) => (Some(raw), None),
            Value::Null => (None, None),
        }
    }
}

fn nth(list: &Node, at: usize) -> Option<&Node> {
    match &list.value {
        Value::Sequence(items) => items.get(at),
        _ => None,
    }
}
