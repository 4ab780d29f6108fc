//! The language as it is written down, held against the parser, the schema, the printer and the documentation.

use std::{collections::BTreeSet, fmt::Write, fs, path::Path, sync::LazyLock};

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use towline_manifest::{Fate, fields, json_schema, unsupported, yaml};

use crate::{
    corpus,
    disk::{lines, node_of, read},
};

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/manifest.schema.json");
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/okteto-compatibility.md");

static WHOLE: LazyLock<Value> = LazyLock::new(json_schema);

/// Judges a value by the parts of JSON Schema that ours is made of.
fn accepts(schema: &Value, value: &Value, root: &Value) -> bool {
    let Some(rules) = schema.as_object() else { return schema.as_bool().unwrap() };
    rules.iter().all(|(rule, says)| match rule.as_str() {
        "$schema" | "title" | "description" | "examples" | "definitions" => true,
        "$ref" => {
            let pointer = says.as_str().unwrap().strip_prefix('#').unwrap();
            accepts(root.pointer(pointer).unwrap(), value, root)
        }
        "type" => match says {
            Value::String(name) => is_a(value, name),
            names => names.as_array().unwrap().iter().any(|name| is_a(value, name.as_str().unwrap())),
        },
        "enum" => says.as_array().unwrap().contains(value),
        "minimum" => value.as_i64().is_none_or(|number| number >= says.as_i64().unwrap()),
        "maximum" => value.as_i64().is_none_or(|number| number <= says.as_i64().unwrap()),
        "anyOf" => says.as_array().unwrap().iter().any(|one| accepts(one, value, root)),
        "oneOf" => says.as_array().unwrap().iter().filter(|one| accepts(one, value, root)).count() == 1,
        "not" => !accepts(says, value, root),
        "required" => value.as_object().is_none_or(|map| {
            says.as_array().unwrap().iter().all(|name| map.contains_key(name.as_str().unwrap()))
        }),
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| accepts(says, item, root))),
        "properties" => value.as_object().is_none_or(|map| {
            map.iter().all(|(name, value)| says.get(name).is_none_or(|schema| accepts(schema, value, root)))
        }),
        "additionalProperties" => value.as_object().is_none_or(|map| {
            let known = rules.get("properties").and_then(Value::as_object);
            map.iter()
                .filter(|(name, _)| !known.is_some_and(|known| known.contains_key(*name)))
                .all(|(_, value)| accepts(says, value, root))
        }),
        other => panic!("the schema has {other}, which this test doesn't know"),
    })
}

fn is_a(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    }
}

/// Makes values that a schema accepts: each choice is taken from `choices`.
struct Maker<'c> {
    root: &'c Value,
    choices: &'c mut dyn Iterator<Item = u8>,
}

impl Maker<'_> {
    fn choose(&mut self, of: usize) -> usize {
        usize::from(self.choices.next().unwrap_or(0)) % of
    }

    fn make(&mut self, schema: &Value) -> Value {
        if let Some(pointer) = schema.get("$ref").and_then(Value::as_str) {
            return self.make(self.root.pointer(&pointer[1..]).unwrap());
        }
        if let Some(forms) =
            schema.get("anyOf").and_then(Value::as_array).filter(|_| schema.get("properties").is_none())
        {
            let form = &forms[self.choose(forms.len())];
            return self.make(form);
        }
        if let Some(words) = schema.get("enum").and_then(Value::as_array) {
            return words[self.choose(words.len())].clone();
        }
        if let Some(example) = schema.get("examples").and_then(|list| list.get(0)) {
            return example.clone();
        }
        match schema["type"].as_str() {
            Some("boolean") => Value::Bool(self.choose(2) == 0),
            Some("array") => Value::Array(vec![self.make(&schema["items"])]),
            Some("object") => self.object(schema),
            _ => Value::Null,
        }
    }

    fn object(&mut self, schema: &Value) -> Value {
        let mut map = Map::new();
        let required =
            |name: &str| schema["required"].as_array().is_some_and(|list| list.contains(&name.into()));
        for (name, property) in schema["properties"].as_object().unwrap() {
            if required(name) || self.choose(3) == 0 {
                map.insert(name.clone(), self.make(property));
            }
        }
        // What must or must not be together.
        if let Some(forms) = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array) {
            let names: Vec<_> = forms.iter().map(|form| form["required"][0].as_str().unwrap()).collect();
            let chosen = names[self.choose(names.len())];
            map.retain(|name, _| !names.contains(&name.as_str()));
            map.insert(chosen.to_owned(), self.make(&schema["properties"][chosen]["anyOf"][0]));
        }
        if let Some(pair) = schema.get("not").and_then(|not| not["required"].as_array()) {
            let both = pair.iter().all(|name| map.contains_key(name.as_str().unwrap()));
            if both {
                map.remove(pair[self.choose(2)].as_str().unwrap());
            }
        }
        map.into()
    }
}

/// Returns a manifest that the schema accepts and that has no mistake in its meaning.
fn made(choices: Vec<u8>) -> Value {
    let schema = &*WHOLE;
    let mut choices = choices.into_iter();
    let mut maker = Maker { root: schema, choices: &mut choices };
    let mut value = maker.make(schema);
    mend(&mut value);
    value
}

/// Takes out what the schema can't know to be wrong.
fn mend(value: &mut Value) {
    let map = value.as_object_mut().unwrap();
    // Files that are not there.
    map.remove("devs");
    let devs = map.get_mut("dev");
    match devs {
        Some(list @ Value::Array(_)) => *list = json!({}),
        Some(Value::Object(devs)) => devs.values_mut().filter(|dev| dev.is_object()).for_each(mend_dev),
        _ => {}
    }
    if !map.contains_key("dev") {
        mend_dev(value);
    }
}

fn mend_dev(dev: &mut Value) {
    let dev = dev.as_object_mut().unwrap();
    // It is one of this machine then, which the schema can't look for.
    if dev.get("mode") == Some(&json!("hybrid")) {
        dev.remove("workdir");
    }
    // Services share the folders of their dev service.
    if dev.contains_key("services") {
        dev.insert("sync".to_owned(), json!(["src:/app"]));
    }
    for service in dev.get_mut("services").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(init) = service.get_mut("initContainer").and_then(Value::as_object_mut) {
            init.remove("image");
        }
    }
}

fn as_yaml(value: &Value) -> String {
    yaml(&node_of(value), &|_| None)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn what_the_schema_accepts_the_parser_accepts_and_prints(choices in prop::collection::vec(any::<u8>(), 0..400)) {
        let value = made(choices);
        let schema = &*WHOLE;
        prop_assert!(accepts(schema, &value, schema), "{}", value);
        let text = as_yaml(&value);
        let parsed = read(&text);
        let empty = value.as_object().unwrap().is_empty();
        prop_assert!(empty || !parsed.problems.has_errors(), "{}\n{}", &text, lines(&parsed));
        let Some(manifest) = parsed.manifest else { return Ok(()) };

        let printed = manifest.to_yaml(Path::new("/repo/okteto.yml"));
        let again = read(&printed);
        prop_assert!(!again.problems.has_errors(), "{}\n{}", &printed, lines(&again));
        prop_assert_eq!(again.manifest.as_ref(), Some(&manifest), "{}\n{}", &text, &printed);
        let effective = again.effective().to_json();
        prop_assert!(accepts(schema, &effective, schema), "the schema refuses what is printed: {}", effective);
        let theirs: serde_yaml::Value = serde_yaml::from_str(&printed).unwrap();
        prop_assert_eq!(serde_json::to_value(theirs).unwrap(), effective);
    }

    #[test]
    fn a_wrong_shape_is_refused_by_both(choices in prop::collection::vec(any::<u8>(), 0..400), wrong in 0usize..3, at in any::<prop::sample::Index>()) {
        let mut value = made(choices);
        let paths = places(&value);
        let path = &paths[at.index(paths.len())];
        let place = value.pointer_mut(path).unwrap();
        match wrong {
            0 => *place = json!([[["wrong"]]]),
            1 => *place = json!({"wrong field": {"deep": [{"wrong": 1}]}}),
            _ => {
                let Some(map) = place.as_object_mut() else { return Ok(()) };
                map.insert("wrong field".to_owned(), json!([[1]]));
            }
        }
        let schema = &*WHOLE;
        let parser = !read(&as_yaml(&value)).problems.has_errors();
        prop_assert_eq!(parser, accepts(schema, &value, schema), "{}", as_yaml(&value));
    }
}

/// Returns the JSON pointers of all values whose shape is ours to judge.
fn places(value: &Value) -> Vec<String> {
    fn walk(value: &Value, path: &str, found: &mut Vec<String>) {
        // Of an affinity, and of how older projects built, others know more.
        if ["/affinity/", "/push"].iter().any(|part| path.contains(part)) {
            return;
        }
        found.push(path.to_owned());
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let key = key.replace('~', "~0").replace('/', "~1");
                    walk(value, &format!("{path}/{key}"), found);
                }
            }
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    walk(item, &format!("{path}/{at}"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(value, "", &mut found);
    found
}

#[test]
fn the_schema_accepts_what_the_parser_accepts() {
    let schema = &*WHOLE;
    for row in corpus::expected() {
        let file = row["file"].as_str().unwrap();
        let text = corpus::text(file);
        let Ok(value) = serde_yaml::from_str::<Value>(&text) else { continue };
        let parsed = read(&text);
        if !parsed.problems.has_errors() {
            assert!(accepts(schema, &value, schema), "{file}");
        }
    }
}

#[test]
fn the_schema_in_the_documentation_is_this_one() {
    let written = fs::read_to_string(SCHEMA).unwrap_or_default();
    let expected = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    assert!(written == expected, "write it anew: towline manifest schema > docs/manifest.schema.json");
}

/// Returns a manifest in which one field is set to its example, and what it needs beside it.
fn with_field(path: &str, example: &Value) -> Value {
    let mut value = example.clone();
    let parts: Vec<&str> = path.split('.').collect();
    for (at, part) in parts.iter().enumerate().rev() {
        let above = parts[..at].join(".");
        let (part, is_list) = part.strip_suffix("[]").map_or((*part, false), |part| (part, true));
        if is_list {
            value = json!([value]);
        }
        let name = if part == "*" { "api" } else { part };
        let one_file = above == "deploy.compose" && ["file", "services"].contains(&part);
        let mut map = if one_file { beside("deploy.compose[]") } else { beside(&above) };
        map.insert(name.to_owned(), value);
        value = map.into();
    }
    value
}

/// Returns the fields that a field at `above` can't be without.
fn beside(above: &str) -> Map<String, Value> {
    let ends = |end: &str| above.ends_with(end);
    let needed = match above {
        "dev.*.services[]" => json!({"name": "worker"}),
        "dev.*.forward[]" => json!({"localPort": 8081, "remotePort": 81}),
        "forward[]" => json!({"localPort": 5433, "remotePort": 5432}),
        "deploy.compose" => json!({"manifest": "compose.yml"}),
        "deploy.divert" => json!({"namespace": "other"}),
        "test.*" => json!({"commands": ["true"]}),
        "test.*.artifacts[]" => json!({"path": "coverage"}),
        "test.*.hosts[]" => json!({"hostname": "a", "ip": "b"}),
        "dependencies.*" => json!({"repository": "https://example.com/a/b"}),
        "external.*" => json!({"endpoints": [{"url": "https://example.com"}]}),
        "external.*.endpoints[]" => json!({"url": "https://example.com"}),
        _ if above.contains("compose") && !above.contains("endpoints") => json!({"file": "compose.yml"}),
        _ if ends("commands[]") || matches!(above, "deploy[]" | "destroy[]") => json!({"command": "true"}),
        _ if above.contains(".endpoints") && ends(".*") => json!({"rules": []}),
        _ if above.contains(".endpoints") && ends("[]") => json!({"path": "/", "service": "web", "port": 80}),
        _ => json!({}),
    };
    needed.as_object().unwrap().clone()
}

/// Fields that change nothing by themselves, or that the next test can't set alone.
const APART: [&str; 9] = [
    // A file that is not there, and one of two that must be there.
    "devs",
    "build.*.secrets.*.file",
    "build.*.secrets.*.env",
    // Without effect also for Okteto.
    "deploy.divert.service",
    "deploy.divert.deployment",
    "deploy.divert.port",
    "dev.*.services[].mode",
    // What is the default anyway, and what is refused in `services`.
    "deploy.divert.driver",
    "dev.*.services[].initContainer.image",
];

#[test]
fn no_field_is_read_and_forgotten() {
    let tested = |path: &str, example: &Value| {
        let by_istio = path.contains("divert.virtualServices") || path.contains("divert.hosts");
        !APART.contains(&path) && !by_istio && *example != json!({})
    };
    for fact in fields().into_iter().filter(|fact| tested(&fact.path, &fact.example)) {
        let path = fact.path.as_str();
        let of = |example: &Value| {
            let mut value = with_field(path, example);
            if path.starts_with("dev.*.services[].sync") {
                value["dev"]["api"]["sync"] = json!(["src:/app"]);
            }
            as_yaml(&value)
        };
        let text = of(&fact.example);
        let (with, without) = (read(&text), read(&of(&Value::Null)));
        if matches!(fact.fate, Fate::Refused(..)) {
            assert!(with.problems.has_errors(), "{path} is accepted");
            continue;
        }
        assert!(!with.problems.has_errors(), "{text}\n{}", lines(&with));
        assert!(without.problems.has_errors() || with.manifest != without.manifest, "{path} changes nothing");
    }
}

#[test]
fn what_is_said_to_be_acted_on_is_not_reported_as_unsupported() {
    for fact in fields() {
        let path = fact.path.as_str();
        let Some(inner) = path.strip_prefix("dev.*.") else { continue };
        // What holds these says it for them.
        let inside = ["services", "persistentVolume", "initContainer"]
            .iter()
            .any(|name| inner.starts_with(&format!("{name}.")) || inner.starts_with(&format!("{name}[]")));
        // The long form's fields each say it for themselves.
        let mixed = ["timeout", "lifecycle", "sync"].contains(&inner);
        if inside || mixed || matches!(fact.fate, Fate::Refused(..)) {
            continue;
        }
        let parsed = read(&as_yaml(&with_field(path, &fact.example)));
        let Some(manifest) = parsed.manifest else { continue };
        let waits = matches!(fact.fate, Fate::NotYet(_));
        assert_eq!(!unsupported(&manifest.dev["api"]).is_empty(), waits, "{path}");
    }
}

/// Returns the table of fields as the documentation has it.
fn table() -> String {
    let mut table = "| field | | |\n| --- | --- | --- |\n".to_owned();
    for fact in fields() {
        let fate = match fact.fate {
            Fate::Honoured => "honoured".to_owned(),
            Fate::Differently(why) => format!("honoured differently: {why}"),
            Fate::NotYet(instead) => format!("not yet: {instead}"),
            Fate::Refused(_, hint) => format!("refused: {hint}"),
        };
        let help = fact.help.trim_end_matches('.');
        let _ = writeln!(table, "| `{}` | {help} | {fate} |", fact.path);
    }
    table
}

#[test]
fn the_table_in_the_documentation_is_the_language() {
    let text = fs::read_to_string(TABLE).unwrap();
    let (_, rest) = text.split_once("<!-- fields -->\n\n").expect("the beginning of the table is marked");
    let (found, _) = rest.split_once("\n<!-- end of fields -->").expect("the end of the table is marked");
    let table = table();
    assert!(found == table, "write the table anew:\n{table}");
}

#[test]
fn every_field_of_the_corpus_is_in_the_table() {
    let known: BTreeSet<String> = fields().into_iter().map(|fact| fact.path).collect();
    for row in corpus::expected() {
        let file = row["file"].as_str().unwrap();
        let either = row["parser"].as_bool().unwrap() || row["schema"].as_bool().unwrap();
        let Ok(value) = serde_yaml::from_str::<Value>(&corpus::text(file)) else { continue };
        if !either {
            continue;
        }
        let mut missing = Vec::new();
        each_field(&value, "", &known, &mut missing);
        assert_eq!(missing, [""; 0], "{file}");
    }
}

/// Finds the fields of `value` that are not known, going down as far as fields are.
fn each_field(value: &Value, path: &str, known: &BTreeSet<String>, missing: &mut Vec<String>) {
    let has = |prefix: &str| known.iter().any(|path| path.starts_with(prefix));
    match value {
        Value::Object(map) if path.is_empty() || has(&format!("{path}.")) => {
            for (key, value) in map {
                let named = format!("{path}.{key}").trim_start_matches('.').to_owned();
                let any = format!("{path}.*");
                if known.contains(&named) {
                    each_field(value, &named, known, missing);
                } else if has(&any) {
                    each_field(value, &any, known, missing);
                } else {
                    missing.push(named);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                each_field(item, &format!("{path}[]"), known, missing);
            }
        }
        _ => {}
    }
}
