//! Writes a tree as YAML in one canonical form, which readers of YAML 1.1 and of 1.2 understand alike.

use crate::{
    node::{Entry, Node, Scalar, Value},
    yaml::{push_index, push_key},
};

/// Words that some reader takes for something else than text.
const WORDS: [&str; 10] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan"];

/// Returns `node` as YAML in its canonical form; `comment` may give a remark for the value at a path.
///
/// Scalars that are not plain are text, for every reader of YAML 1.1 and 1.2; there are no anchors and no tags.
pub fn yaml(node: &Node, comment: &dyn Fn(&str) -> Option<String>) -> String {
    let mut writer = Writer { out: String::new(), comment, path: String::new() };
    match &node.value {
        Value::Mapping(entries) if !entries.is_empty() => writer.mapping(entries, 0, false),
        Value::Sequence(items) if !items.is_empty() => writer.sequence(items, 0),
        _ => {
            writer.leaf(node);
            writer.end_line();
        }
    }
    writer.out
}

struct Writer<'c> {
    out: String,
    comment: &'c dyn Fn(&str) -> Option<String>,
    path: String,
}

impl Writer<'_> {
    /// Writes a block of `key: value`; the first key stands where the line already is when `inline`.
    fn mapping(&mut self, entries: &[Entry], indent: usize, inline: bool) {
        let length = self.path.len();
        for (number, entry) in entries.iter().enumerate() {
            if number > 0 || !inline {
                self.indent(indent);
            }
            scalar(&mut self.out, &entry.key);
            self.out.push(':');
            push_key(&mut self.path, &entry.key);
            match &entry.node.value {
                Value::Mapping(inner) if !inner.is_empty() => {
                    self.out.push('\n');
                    self.mapping(inner, indent + 2, false);
                }
                Value::Sequence(items) if !items.is_empty() => {
                    self.out.push('\n');
                    self.sequence(items, indent + 2);
                }
                _ => {
                    self.out.push(' ');
                    self.leaf(&entry.node);
                    self.end_line();
                }
            }
            self.path.truncate(length);
        }
    }

    fn sequence(&mut self, items: &[Node], indent: usize) {
        let length = self.path.len();
        for (number, item) in items.iter().enumerate() {
            self.indent(indent);
            self.out.push_str("- ");
            push_index(&mut self.path, number);
            match &item.value {
                Value::Mapping(entries) if !entries.is_empty() => self.mapping(entries, indent + 2, true),
                Value::Sequence(inner) if !inner.is_empty() => {
                    self.out.pop();
                    self.out.push('\n');
                    self.sequence(inner, indent + 2);
                }
                _ => {
                    self.leaf(item);
                    self.end_line();
                }
            }
            self.path.truncate(length);
        }
    }

    fn leaf(&mut self, node: &Node) {
        match &node.value {
            Value::Null => self.out.push_str("null"),
            Value::Scalar(Scalar { text, plain: true }) => self.out.push_str(text),
            Value::Scalar(Scalar { text, .. }) => scalar(&mut self.out, text),
            Value::Sequence(_) => self.out.push_str("[]"),
            Value::Mapping(_) => self.out.push_str("{}"),
        }
    }

    fn end_line(&mut self) {
        if let Some(comment) = (self.comment)(&self.path) {
            self.out.push_str("  # ");
            self.out.extend(comment.chars().map(|c| if is_printable(c) { c } else { '?' }));
        }
        self.out.push('\n');
    }

    fn indent(&mut self, indent: usize) {
        self.out.extend(std::iter::repeat_n(' ', indent));
    }
}

/// Writes text so that every reader takes it for text.
fn scalar(out: &mut String, text: &str) {
    if is_plain(text) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            _ if is_printable(character) => out.push(character),
            _ => {
                let code = u32::from(character);
                let escaped = if code <= 0xff { format!("\\x{code:02x}") } else { format!("\\u{code:04x}") };
                out.push_str(&escaped);
            }
        }
    }
    out.push('"');
}

fn is_plain(text: &str) -> bool {
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        || text.starts_with("./")
        || text.starts_with(".:/");
    let may = |c: char| c.is_ascii_alphanumeric() || "_./- :&=+@".contains(c);
    let word = WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    let apart = text.contains("  ") || text.contains(": ") || text.ends_with([' ', ':']);
    first && text.chars().all(may) && !word && !apart
}

/// Returns true for what may stand in YAML as it is, and moves no cursor.
fn is_printable(character: char) -> bool {
    let code = u32::from(character);
    let direction =
        matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !direction && (matches!(code, 0x20..=0x7e | 0xa0..=0xfffd) && character != '\u{feff}' || code > 0xffff)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::yaml::read;

    fn text(text: &str) -> Node {
        Node {
            value: Value::Scalar(Scalar { text: text.to_owned(), plain: false }),
            span: crate::Span::default(),
        }
    }

    #[test]
    fn text_is_quoted_where_a_reader_could_take_it_for_something_else() {
        for (input, expected) in [
            ("npm run dev", "npm run dev"),
            ("/app", "/app"),
            ("./src", "./src"),
            (".:/app", ".:/app"),
            ("node:22", "node:22"),
            ("a && b", "a && b"),
            ("a:", "\"a:\""),
            ("", "\"\""),
            ("no", "\"no\""),
            ("Y", "\"Y\""),
            ("8080:80", "\"8080:80\""),
            ("1e3", "\"1e3\""),
            (".", "\".\""),
            ("a: b", "\"a: b\""),
            ("a #b", "\"a #b\""),
            ("- a", "\"- a\""),
            ("<<", "\"<<\""),
            ("~", "\"~\""),
            (" a", "\" a\""),
            ("a\n\u{1b}\u{202e}\"", "\"a\\n\\x1b\\u202e\\\"\""),
            ("grüße 🚀", "\"grüße 🚀\""),
        ] {
            assert_eq!(yaml(&text(input), &|_| None).trim_end(), expected, "{input}");
        }
    }

    #[test]
    fn collections_are_blocks_and_comments_follow_values() {
        let (node, _) = read("a: {b: [x, {c: 1, d: {}}, [y, []]]}\n'e f': ~\n");
        let told = yaml(&node.unwrap(), &|path| (path == "a.b[0]").then(|| "here\u{7}".to_owned()));
        let expected =
            "a:\n  b:\n    - x  # here?\n    - c: 1\n      d: {}\n    -\n      - y\n      - []\ne f: null\n";
        assert_eq!(told, expected);
    }

    /// Anything that the canonical form may hold: text is quoted, everything else is plain.
    fn tree() -> impl Strategy<Value = Node> {
        let node = |value| Node { value, span: crate::Span::default() };
        let leaf = prop_oneof![
            "\\PC{0,12}".prop_map(|words| text(&words)),
            any::<String>().prop_map(|words| text(&words)),
            prop_oneof![Just("true"), Just("no"), Just("12"), Just("0x1"), Just("null"), Just("a b")]
                .prop_map(text),
            any::<i64>().prop_map(move |n| node(Value::Scalar(Scalar { text: n.to_string(), plain: true }))),
            Just(node(Value::Null)),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            let map = prop::collection::btree_map("\\PC{0,6}", inner.clone(), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(move |items| node(Value::Sequence(items))),
                map.prop_map(move |map| {
                    let entry = |(key, node)| Entry { key, key_span: crate::Span::default(), node };
                    node(Value::Mapping(map.into_iter().map(entry).collect()))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again_by_both_readers(node in tree()) {
            let written = yaml(&node, &|_| None);
            let (read, faults) = read(&written);
            prop_assert_eq!(faults, [], "{}", &written);
            prop_assert_eq!(read.unwrap().to_json(), node.to_json(), "{}", &written);
            let theirs: serde_yaml::Value = serde_yaml::from_str(&written).unwrap();
            prop_assert_eq!(serde_json::to_value(theirs).unwrap(), node.to_json(), "{}", &written);
        }
    }
}
