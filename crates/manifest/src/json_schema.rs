//! The JSON Schema of the language, for editors.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::language::{Fate, Field, Object, Rule, Shape, TOP, VERSION_ONE};

/// Returns the schema: what it accepts has the shape that the parser wants.
///
/// It says nothing about the meaning of values, of which the parser knows more: folders that must exist, ports that
/// are given twice.
pub fn json_schema() -> Value {
    let mut definitions = BTreeMap::new();
    define(&TOP, &mut definitions);
    define(&VERSION_ONE, &mut definitions);
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "okteto.yml",
        "description": "What Towline reads. Made from the parser's own description of the language.",
        "anyOf": [reference(&TOP), reference(&VERSION_ONE)],
        "definitions": definitions,
    })
}

fn reference(object: &Object) -> Value {
    json!({"$ref": format!("#/definitions/{}", object.id)})
}

fn define(object: &'static Object, definitions: &mut BTreeMap<&'static str, Value>) {
    if definitions.contains_key(object.id) {
        return;
    }
    definitions.insert(object.id, Value::Null);
    let mut properties = Map::new();
    // The first one counts: a manifest of version 1 has fields in place of later ones.
    for field in object.fields.iter().rev().filter(|field| !field.is_refused()) {
        properties.insert(field.name.to_owned(), property(field, definitions));
    }
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    schema.insert("properties".to_owned(), properties.into());
    schema.insert("additionalProperties".to_owned(), false.into());
    let required: Vec<_> =
        object.fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    match object.rule {
        Rule::Free => {}
        Rule::ExactlyOne => {
            let one = |name| json!({"required": [name]});
            schema.insert("oneOf".to_owned(), object.names().map(one).collect());
        }
        Rule::NotBoth(one, other) => {
            schema.insert("not".to_owned(), json!({"required": [one, other]}));
        }
        Rule::AtLeastOne(names) => {
            let one = |name: &&str| json!({"required": [name]});
            schema.insert("anyOf".to_owned(), names.iter().map(one).collect());
        }
    }
    definitions.insert(object.id, schema.into());
}

fn property(field: &Field, definitions: &mut BTreeMap<&'static str, Value>) -> Value {
    let words = match field.fate {
        Fate::Differently(why) => format!("{} Not as Okteto: {why}.", field.help),
        Fate::NotYet(instead) => format!("{} Not acted on yet: {instead}.", field.help),
        Fate::Honoured | Fate::Refused(..) => field.help.to_owned(),
    };
    let mut forms = alternatives(&field.shape, definitions);
    if !field.required {
        forms.push(json!({"type": "null"}));
    }
    json!({"description": words, "anyOf": forms})
}

fn alternatives(shape: &Shape, definitions: &mut BTreeMap<&'static str, Value>) -> Vec<Value> {
    match shape {
        Shape::Either(shapes) => shapes.iter().flat_map(|shape| alternatives(shape, definitions)).collect(),
        other => vec![schema(other, definitions)],
    }
}

fn schema(shape: &Shape, definitions: &mut BTreeMap<&'static str, Value>) -> Value {
    let text = || json!({"type": ["string", "number", "boolean"]});
    match shape {
        Shape::Text(example) => json!({"type": ["string", "number", "boolean"], "examples": [example]}),
        Shape::Word(words) => json!({"enum": words}),
        Shape::Flag(_) => json!({"anyOf": [{"type": "boolean"}, {"enum": ["yes", "no", "on", "off"]}]}),
        Shape::Number(i64::MIN, i64::MAX, example) => json!({"type": "integer", "examples": [example]}),
        Shape::Number(least, most, example) => {
            json!({"type": "integer", "minimum": least, "maximum": most, "examples": [example]})
        }
        Shape::List(item) => json!({"type": "array", "items": any_of(alternatives(item, definitions))}),
        Shape::Map(key, value) => {
            let values = any_of(alternatives(value, definitions));
            json!({"type": "object", "additionalProperties": values, "examples": [{*key: value.example()}]})
        }
        Shape::Loose(key, value) => {
            let mut forms = alternatives(value, definitions);
            forms.push(json!({"type": "null"}));
            json!({"type": "object", "additionalProperties": any_of(forms), "examples": [{*key: value.example()}]})
        }
        Shape::Pairs(name, value) => json!({"anyOf": [
            {
                "type": "object",
                "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
                "examples": [{*name: value}],
            },
            {"type": "array", "items": text(), "examples": [[format!("{name}={value}")]]},
        ]}),
        Shape::Object(object) => {
            define(object, definitions);
            reference(object)
        }
        Shape::Either(_) => any_of(alternatives(shape, definitions)),
        Shape::Anything(_) => json!({"type": ["object", "array", "string", "number", "boolean"]}),
    }
}

fn any_of(mut forms: Vec<Value>) -> Value {
    if forms.len() == 1 { forms.remove(0) } else { json!({"anyOf": forms}) }
}
