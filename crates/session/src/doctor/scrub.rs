//! Keeps values out of what others may read.

use serde_json::{Map, Value};
use towline_patcher::HIDDEN;

/// Shorter values are words like `true`; blotting those out everywhere would leave nothing to read.
const SHORTEST: usize = 6;
/// Values that say nothing about anyone.
const HARMLESS: &[&str] = &["production", "development", "localhost", "0.0.0.0"];

/// Knows the values that must not be shown.
#[derive(Debug, Default)]
pub(super) struct Scrubber {
    values: Vec<String>,
}

impl Scrubber {
    /// Learns every value in an object: of variables, arguments, annotations and data.
    pub(super) fn learn_object(&mut self, object: &Value) {
        match object {
            Value::Object(members) => {
                for (key, value) in members {
                    match key.as_str() {
                        "env" => self.learn_each(value, "value"),
                        "annotations" | "args" | "data" | "stringData" | "binaryData" => {
                            self.learn_strings(value);
                        }
                        _ => self.learn_object(value),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.learn_object(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn learn_each(&mut self, list: &Value, key: &str) {
        let values = list.as_array().into_iter().flatten().filter_map(|item| item.get(key)?.as_str());
        values.for_each(|value| self.learn(value));
    }

    fn learn_strings(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.learn(text),
            Value::Array(items) => items.iter().for_each(|item| self.learn_strings(item)),
            Value::Object(members) => members.values().for_each(|value| self.learn_strings(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Learns one value.
    pub(super) fn learn(&mut self, value: &str) {
        let value = value.trim();
        let path = value.starts_with('/') && value.len() < 24;
        if value.len() >= SHORTEST && !path && !HARMLESS.contains(&value) {
            self.values.push(value.to_owned());
            // The longest first: a value may be part of another.
            self.values.sort_by_key(|value| std::cmp::Reverse(value.len()));
            self.values.dedup();
        }
    }

    /// Returns text without the values.
    pub(super) fn text(&self, text: &str) -> String {
        self.values.iter().fold(text.to_owned(), |text, value| text.replace(value, HIDDEN))
    }

    /// Returns JSON without the values: what holds them is emptied, and they are blotted out everywhere else.
    pub(super) fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(members) => Value::Object(self.members(members)),
            other => other,
        }
    }

    fn members(&self, members: Map<String, Value>) -> Map<String, Value> {
        let hidden = |value: Value| match value {
            Value::Object(members) => {
                members.into_iter().map(|(key, _)| (key, Value::from(HIDDEN))).collect::<Map<_, _>>().into()
            }
            Value::Array(items) => items.iter().map(|_| Value::from(HIDDEN)).collect(),
            _ => Value::from(HIDDEN),
        };
        let is_variable = members.contains_key("name") && members.contains_key("value");
        let scrub = |(key, value): (String, Value)| {
            let value = match key.as_str() {
                "annotations" | "data" | "stringData" | "binaryData" | "args" | "command" => hidden(value),
                "value" if is_variable => hidden(value),
                "managedFields" => return None,
                _ => self.value(value),
            };
            Some((self.text(&key), value))
        };
        members.into_iter().filter_map(scrub).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_holds_values_is_emptied_and_they_are_blotted_out_elsewhere() {
        let pod = json!({
            "metadata": {"name": "web", "annotations": {"note": "canary-note"}, "managedFields": [1]},
            "spec": {"containers": [{"name": "app", "command": ["serve", "--key=canary-arg"], "args": ["canary-args"],
                "env": [{"name": "TOKEN", "value": "canary-env"}, {"name": "REF", "valueFrom": {"x": "y"}}]}]},
            "status": {"message": "bad token canary-env in canary-args"},
        });
        let mut scrubber = Scrubber::default();
        scrubber.learn_object(&pod);
        let shown = scrubber.value(pod.clone()).to_string();
        assert!(!shown.contains("canary"), "{shown}");
        for kept in ["TOKEN", "REF", "valueFrom", "bad token", "\"web\""] {
            assert!(shown.contains(kept), "{kept} in {shown}");
        }
        assert!(!shown.contains("managedFields"));
        assert_eq!(scrubber.text("canary-env!"), format!("{HIDDEN}!"));
    }

    #[test]
    fn short_and_common_words_stay_readable() {
        let mut scrubber = Scrubber::default();
        for word in ["true", "8080", "production", "/app"] {
            scrubber.learn(word);
        }
        let text = "true 8080 production /app";
        assert_eq!(scrubber.text(text), text);
        scrubber.learn("secret");
        scrubber.learn("secret-longer");
        assert_eq!(scrubber.text("secret-longer"), HIDDEN);
    }
}
