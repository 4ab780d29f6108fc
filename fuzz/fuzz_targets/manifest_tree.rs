//! Manifests of the right shape: written, read by two readers that must agree, printed, and read again as the same.
#![no_main]

use std::io;
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use towline_manifest::{
    Context, Disk, Entry, Fate, Kind, Node, Scalar, Source, Span, Value, fields, parse, yaml,
};

struct Folders;

impl Disk for Folders {
    fn kind(&self, path: &Path) -> Kind {
        if path.extension().is_some() { Kind::File } else { Kind::Folder }
    }

    fn read(&self, _: &Path, _: usize) -> io::Result<String> {
        Ok("A=1\n".to_owned())
    }

    fn canonical(&self, path: &Path) -> Option<PathBuf> {
        Some(path.to_owned())
    }
}

/// The bytes that decide what is made.
struct Choices<'b>(&'b [u8]);

impl Choices<'_> {
    fn next(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first)
    }

    fn text(&mut self) -> String {
        let length = self.next() % 12;
        let (text, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }
}

fn node(value: Value) -> Node {
    Node { value, span: Span::default() }
}

fn scalar(text: String, plain: bool) -> Node {
    node(Value::Scalar(Scalar { text, plain }))
}

fn of_json(value: &serde_json::Value) -> Node {
    match value {
        serde_json::Value::Null => node(Value::Null),
        serde_json::Value::String(text) => scalar(text.clone(), false),
        serde_json::Value::Array(items) => node(Value::Sequence(items.iter().map(of_json).collect())),
        serde_json::Value::Object(map) => {
            let entry = |(key, value): (&String, &serde_json::Value)| (key.clone(), of_json(value));
            mapping(map.iter().map(entry).collect())
        }
        other => scalar(other.to_string(), true),
    }
}

fn mapping(entries: Vec<(String, Node)>) -> Node {
    let entry = |(key, node)| Entry { key, key_span: Span::default(), node };
    node(Value::Mapping(entries.into_iter().map(entry).collect()))
}

/// Returns a value: an example, or anything small.
fn value(choices: &mut Choices<'_>, example: &serde_json::Value) -> Node {
    match choices.next() % 8 {
        0 => node(Value::Null),
        1 => scalar(choices.text(), false),
        2 => scalar(choices.next().to_string(), true),
        3 => node(Value::Sequence(vec![scalar(choices.text(), false)])),
        4 => mapping(vec![(choices.text(), scalar(choices.text(), false))]),
        _ => of_json(example),
    }
}

/// Returns the fields right below `path`, some of them.
fn object(choices: &mut Choices<'_>, path: &str) -> Vec<(String, Node)> {
    let mut entries = Vec::new();
    for fact in fields() {
        let Some(name) = fact.path.strip_prefix(path) else { continue };
        if name.contains('.') || name.contains('[') || matches!(fact.fate, Fate::Refused(..)) {
            continue;
        }
        if choices.next() % 4 == 0 {
            entries.push((name.to_owned(), value(choices, &fact.example)));
        }
    }
    entries
}

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices(bytes);
    let mut top = object(&mut choices, "");
    top.retain(|(name, _)| name != "dev" && name != "devs");
    top.push(("dev".to_owned(), mapping(vec![("api".to_owned(), mapping(object(&mut choices, "dev.*.")))])));
    let tree = mapping(top);
    let text = yaml(&tree, &|_| None);
    let theirs: serde_yaml::Value = serde_yaml::from_str(&text).expect("canonical YAML is YAML");
    assert_eq!(serde_json::to_value(theirs).expect("and JSON"), tree.to_json(), "{text}");

    let context = Context { variables: &|_| None, disk: &Folders, repository: None };
    let path = Path::new("/repository/okteto.yml");
    let parsed = parse(Source { name: "okteto.yml", text: &text, path }, &context);
    let Some(manifest) = parsed.manifest.filter(|_| !parsed.problems.has_errors()) else { return };
    let printed = manifest.to_yaml(path);
    let again = parse(Source { name: "okteto.yml", text: &printed, path }, &context);
    assert!(!again.problems.has_errors(), "{text}\n{printed}\n{:?}", again.problems);
    assert_eq!(again.manifest, Some(manifest), "{text}\n{printed}");
});
