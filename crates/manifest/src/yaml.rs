//! Reads YAML text into a tree of [`Node`]s: the only file that names a YAML crate.
//!
//! The parser's events are turned into nodes here rather than by a deserialiser, because only so are
//! *all* duplicate keys found, each at its second key, and every value keeps its place, also one that
//! came through an alias or a merge key. What a hostile text can cost is bounded by four numbers.

use std::collections::{BTreeMap, HashMap};

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, StructureStyle, Tag};

use crate::{
    node::{Entry, Node, Scalar, Value},
    problem::{Span, quoted},
};

/// The longest text that is read, in bytes.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;
/// The deepest nesting that is read, aliases followed.
const MAX_DEPTH: usize = 32;
/// What all nodes together may cost, in bytes of text and overhead; aliases count as if written out.
const MAX_COST: usize = 8 * 1024 * 1024;
/// What one node costs beside its text.
const NODE_COST: usize = 64;

/// What is wrong with the text as YAML.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) path: String,
    pub(crate) span: Span,
    pub(crate) hint: Option<String>,
}

/// Returns the document's tree, if it could be read to its end, and everything that is wrong with it.
pub(crate) fn read(text: &str) -> (Option<Node>, Vec<Fault>) {
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes; at most {MAX_BYTES} are read", text.len());
        return (None, vec![Fault { message, path: String::new(), span: Span::default(), hint: None }]);
    }
    let mut builder = Builder::new(text);
    let root = builder.run();
    (root, builder.faults)
}

/// A complete node with what an alias to it would cost.
#[derive(Clone)]
struct Built {
    node: Node,
    cost: usize,
    height: usize,
}

enum Frame {
    Sequence { items: Vec<Node>, open: Open },
    Mapping { entries: Vec<Entry>, index: HashMap<String, Span>, key: Key, merged: Vec<Node>, open: Open },
}

/// What is known of a collection when it opens, and gathered until it closes.
struct Open {
    span: Span,
    flow: bool,
    anchor: usize,
    cost: usize,
    height: usize,
}

enum Key {
    Awaited,
    Named(String, Span),
    /// The value that follows is a mapping to take defaults from.
    Merge,
    /// The value that follows belongs to a key that was refused.
    Refused,
}

/// A node that can't be part of its mapping.
struct Refusal {
    span: Span,
    why: Why,
}

enum Why {
    Repeated { key: String, first: Span },
    NotAWord,
    NotMergeable,
}

struct Builder<'t> {
    text: &'t str,
    faults: Vec<Fault>,
    stack: Vec<Frame>,
    anchors: BTreeMap<usize, Built>,
    spent: usize,
    root: Option<Node>,
}

impl<'t> Builder<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, faults: Vec::new(), stack: Vec::new(), anchors: BTreeMap::new(), spent: 0, root: None }
    }

    fn run(&mut self) -> Option<Node> {
        let mut options = Options::default();
        options.set_emit_comments(false);
        options.disallow_directives = true;
        let mut documents = 0;
        for next in Parser::new_from_str_with_options(self.text, options) {
            let (event, span) = match next {
                Ok((event, span)) => (event, self.span(span.byte_range())),
                Err(error) => {
                    let at = error.marker().byte_offset().unwrap_or(self.text.len());
                    let span = self.span(Some(at..at + 1));
                    let message = format!("this is not valid YAML: {}", lower_first(&error.info()));
                    self.faults.push(Fault { message, path: String::new(), span, hint: None });
                    return None;
                }
            };
            if matches!(event, Event::DocumentStart(..)) {
                documents += 1;
                if documents > 1 {
                    let hint = "keep one document: remove what follows `---`";
                    self.fault("the file holds a second YAML document".to_owned(), span, Some(hint));
                    return None;
                }
            }
            self.event(event, span)?;
        }
        self.root.take()
    }

    /// Takes one event; `None` ends the reading after a fault that makes the rest meaningless.
    fn event(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = self.tag(tag.as_deref(), span, &["str", "int", "bool", "float", "null"]);
                let plain = style == ScalarStyle::Plain && tag != Some("str");
                let is_null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if is_null {
                    Value::Null
                } else {
                    Value::Scalar(Scalar { text: text.into_owned(), plain })
                };
                let cost = NODE_COST + span.end - span.start;
                self.spend(cost, span)?;
                self.complete(Built { node: Node { value, span }, cost, height: 0 }, anchor)
            }
            Event::SequenceStart(style, anchor, tag) => {
                self.tag(tag.as_deref(), span, &["seq"]);
                let open = self.open(span, style == StructureStyle::Flow, anchor)?;
                self.stack.push(Frame::Sequence { items: Vec::new(), open });
                Some(())
            }
            Event::MappingStart(style, anchor, tag) => {
                self.tag(tag.as_deref(), span, &["map"]);
                let open = self.open(span, style == StructureStyle::Flow, anchor)?;
                let (entries, index, merged) = (Vec::new(), HashMap::new(), Vec::new());
                self.stack.push(Frame::Mapping { entries, index, key: Key::Awaited, merged, open });
                Some(())
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(anchor) => {
                let Some(built) = self.anchors.get(&anchor) else {
                    let hint = "a value can't contain itself";
                    self.fault("this alias is inside the value that it names".to_owned(), span, Some(hint));
                    return None;
                };
                let built = built.clone();
                self.spend(built.cost, span)?;
                if self.stack.len() + built.height > MAX_DEPTH {
                    return self.too_deep(span);
                }
                self.complete(built, 0)
            }
            _ => Some(()),
        }
    }

    fn open(&mut self, span: Span, flow: bool, anchor: usize) -> Option<Open> {
        if self.stack.len() >= MAX_DEPTH {
            return self.too_deep(span);
        }
        self.spend(NODE_COST, span)?;
        Some(Open { span, flow, anchor, cost: NODE_COST, height: 1 })
    }

    fn too_deep<T>(&mut self, span: Span) -> Option<T> {
        self.fault(format!("this is nested more than {MAX_DEPTH} levels deep"), span, None);
        None
    }

    fn close(&mut self, end: Span) -> Option<()> {
        let (value, open, first) = match self.stack.pop()? {
            Frame::Sequence { items, open } => {
                let first = items.first().map(|item| item.span);
                (Value::Sequence(items), open, first)
            }
            Frame::Mapping { mut entries, mut index, merged, open, .. } => {
                let first = entries.first().map(|entry| entry.key_span);
                for entry in merged.into_iter().flat_map(into_entries) {
                    if !index.contains_key(&entry.key) {
                        index.insert(entry.key.clone(), entry.key_span);
                        entries.push(entry);
                    }
                }
                (Value::Mapping(entries), open, first)
            }
        };
        let span = match first {
            Some(first) if !open.flow => first,
            _ => Span::new(open.span.start, end.end.max(open.span.end)),
        };
        let built = Built { node: Node { value, span }, cost: open.cost, height: open.height };
        self.complete(built, open.anchor)
    }

    /// Puts a complete node where it belongs: into the collection that is open, or at the root.
    fn complete(&mut self, built: Built, anchor: usize) -> Option<()> {
        if anchor != 0 {
            self.spend(built.cost, built.node.span)?;
            self.anchors.insert(anchor, built.clone());
        }
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(built.node);
            return Some(());
        };
        if let Some(refusal) = frame.accept(built) {
            let mut path = self.path();
            let (message, hint) = match &refusal.why {
                Why::Repeated { key, first } => {
                    push_key(&mut path, key);
                    let line = 1 + self.text[..first.start].matches('\n').count();
                    let hint = format!("keep one of them: the first is on line {line}");
                    (format!("the key {} is given twice", quoted(key)), Some(hint))
                }
                Why::NotAWord => ("a key must be a word".to_owned(), None),
                Why::NotMergeable => ("`<<` takes a mapping or a list of mappings".to_owned(), None),
            };
            self.faults.push(Fault { message, path, span: refusal.span, hint });
        }
        Some(())
    }

    /// Takes `cost` from what the document may cost; `None` when nothing is left.
    fn spend(&mut self, cost: usize, span: Span) -> Option<()> {
        self.spent += cost;
        if self.spent > MAX_COST {
            let hint = "split it up, and use fewer aliases";
            self.fault("this document is too large, its aliases written out".to_owned(), span, Some(hint));
            return None;
        }
        Some(())
    }

    /// Returns the short name of a tag that changes nothing but a scalar's type, and reports any other.
    fn tag<'g>(&mut self, tag: Option<&'g Tag>, span: Span, known: &[&str]) -> Option<&'g str> {
        let tag = tag?;
        let short = tag.core_suffix();
        if !short.is_some_and(|short| known.contains(&short)) && tag.original() != "!" {
            self.fault(format!("the tag {} is not supported here", quoted(&tag.original())), span, None);
        }
        if tag.original() == "!" { Some("str") } else { short }
    }

    fn fault(&mut self, message: String, span: Span, hint: Option<&str>) {
        self.faults.push(Fault { message, path: self.path(), span, hint: hint.map(str::to_owned) });
    }

    /// Returns the path of what is being read.
    fn path(&self) -> String {
        let mut path = String::new();
        for frame in &self.stack {
            match frame {
                Frame::Sequence { items, .. } => push_index(&mut path, items.len()),
                Frame::Mapping { key: Key::Named(key, _), .. } => push_key(&mut path, key),
                Frame::Mapping { .. } => {}
            }
        }
        path
    }

    /// Returns a range that lies inside the text, on character boundaries, whatever the parser said.
    fn span(&self, range: Option<std::ops::Range<usize>>) -> Span {
        let range = range.unwrap_or(0..0);
        let boundary = |mut at: usize| {
            at = at.min(self.text.len());
            while !self.text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = boundary(range.start);
        let mut end = boundary(range.end).max(start);
        while self.text[start..end].ends_with(['\n', '\r', ' ']) {
            end -= 1;
        }
        Span::new(start, end)
    }
}

impl Frame {
    /// Takes the next node of the collection, or says why it can't be part of it.
    fn accept(&mut self, built: Built) -> Option<Refusal> {
        let Built { node, cost, height } = built;
        let span = node.span;
        let (entries, index, key, merged) = match self {
            Self::Sequence { items, open } => {
                open.add(cost, height);
                items.push(node);
                return None;
            }
            Self::Mapping { entries, index, key, merged, open } => {
                open.add(cost, height);
                (entries, index, key, merged)
            }
        };
        let why = match (std::mem::replace(key, Key::Awaited), node.value) {
            (Key::Awaited, Value::Scalar(Scalar { text, plain: true })) if text == "<<" => {
                *key = Key::Merge;
                return None;
            }
            (Key::Awaited, Value::Scalar(Scalar { text, .. })) => {
                let Some(first) = index.get(&text) else {
                    index.insert(text.clone(), span);
                    *key = Key::Named(text, span);
                    return None;
                };
                *key = Key::Refused;
                Why::Repeated { first: *first, key: text }
            }
            (Key::Awaited, _) => {
                *key = Key::Refused;
                Why::NotAWord
            }
            (Key::Named(key, key_span), value) => {
                // The parser places a value that isn't there behind the lines that follow.
                let absent = value == Value::Null && span.is_empty();
                let node = Node { value, span: if absent { key_span } else { span } };
                entries.push(Entry { key, key_span, node });
                return None;
            }
            (Key::Merge, value @ Value::Mapping(_)) => {
                merged.push(Node { value, span });
                return None;
            }
            (Key::Merge, Value::Sequence(items))
                if items.iter().all(|item| matches!(item.value, Value::Mapping(_))) =>
            {
                merged.extend(items);
                return None;
            }
            (Key::Merge, _) => Why::NotMergeable,
            (Key::Refused, _) => return None,
        };
        Some(Refusal { span, why })
    }
}

impl Open {
    fn add(&mut self, cost: usize, height: usize) {
        self.cost += cost;
        self.height = self.height.max(height + 1);
    }
}

/// Returns the path of the field `key` of the mapping at `path`, as problems and origins spell it.
pub fn field_path(path: &str, key: &str) -> String {
    let mut path = path.to_owned();
    push_key(&mut path, key);
    path
}

/// Appends the place in a list to a path: `[0]`.
pub(crate) fn push_index(path: &mut String, index: usize) {
    path.extend(["[", &index.to_string(), "]"]);
}

/// Appends a key to a path: `.key`, or `["a.b"]` where the key itself has a dot.
pub(crate) fn push_key(path: &mut String, key: &str) {
    let shown = quoted(key);
    let shown = shown.trim_matches('`');
    if shown.contains(['.', '[', ' ']) {
        path.extend(["[\"", shown, "\"]"]);
    } else {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(shown);
    }
}

fn into_entries(node: Node) -> Vec<Entry> {
    match node.value {
        Value::Mapping(entries) => entries,
        _ => Vec::new(),
    }
}

fn lower_first(text: &str) -> String {
    let mut characters = text.trim_end_matches('.').chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
