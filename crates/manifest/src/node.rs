//! A YAML document as a tree whose every node knows its place: what all typed reading starts from.

use crate::problem::Span;

/// A value of the document with its place.
///
/// A value that came through an alias or a merge key has the place of its definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Its place in the text; for a block mapping or list, the place of its first entry.
    pub span: Span,
}

/// The four things that a node can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Any other scalar.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping, in the order of the text, without duplicate keys.
    Mapping(Vec<Entry>),
}

/// A scalar before anyone asked what type it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    /// The text, with quotes and escapes resolved.
    pub text: String,
    /// True when it was written without quotes, so that it may be a number or a boolean.
    pub plain: bool,
}

/// One key of a mapping with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The key's place.
    pub key_span: Span,
    /// The value.
    pub node: Node,
}

impl Node {
    /// Returns the value's kind as a message names it.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar(scalar) if scalar.boolean().is_some() => "a boolean",
            Value::Scalar(scalar) if scalar.integer().is_some() => "a number",
            Value::Scalar(_) => "a string",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }

    /// Returns the value of a key of a mapping.
    pub fn field(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node),
            _ => None,
        }
    }

    /// Returns the value as JSON, with scalars typed by YAML's rules: what Kubernetes would read.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Scalar(scalar) => scalar.to_json(),
            Value::Sequence(items) => items.iter().map(Self::to_json).collect(),
            Value::Mapping(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect()
            }
        }
    }

    /// Feeds a form to `hasher` that is equal for two texts exactly when they say the same: comments,
    /// styles, aliases and the order of keys don't matter.
    pub(crate) fn hash_into(&self, hasher: &mut blake3::Hasher) {
        match &self.value {
            Value::Null => {
                hasher.update(b"n");
            }
            Value::Scalar(scalar) => {
                hasher.update(if scalar.plain { b"p" } else { b"q" });
                hash_text(hasher, &scalar.text);
            }
            Value::Sequence(items) => {
                hasher.update(b"s").update(&(items.len() as u64).to_le_bytes());
                for item in items {
                    item.hash_into(hasher);
                }
            }
            Value::Mapping(entries) => {
                hasher.update(b"m").update(&(entries.len() as u64).to_le_bytes());
                let mut sorted: Vec<&Entry> = entries.iter().collect();
                sorted.sort_by(|a, b| a.key.cmp(&b.key));
                for entry in sorted {
                    hash_text(hasher, &entry.key);
                    entry.node.hash_into(hasher);
                }
            }
        }
    }
}

/// Feeds a text with its length, so that two texts in a row can't be read as two others.
pub(crate) fn hash_text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
}

impl Scalar {
    /// Returns the boolean that a plain scalar spells, YAML 1.1's words included (Okteto takes them).
    pub fn boolean(&self) -> Option<bool> {
        match self.text.as_str() {
            _ if !self.plain => None,
            "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => Some(true),
            "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
                Some(false)
            }
            _ => None,
        }
    }

    /// Returns the integer that a plain scalar spells: decimal, `0x…`, `0o…`, or octal with a leading `0`.
    pub fn integer(&self) -> Option<i64> {
        if !self.plain {
            return None;
        }
        let (negative, digits) = match self.text.as_bytes().first()? {
            b'-' => (true, &self.text[1..]),
            b'+' => (false, &self.text[1..]),
            _ => (false, self.text.as_str()),
        };
        let (radix, digits) = match digits {
            _ if digits.starts_with("0x") => (16, &digits[2..]),
            _ if digits.starts_with("0o") => (8, &digits[2..]),
            _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
            _ => (10, digits),
        };
        if !digits.starts_with(|first: char| first.is_digit(radix)) {
            return None;
        }
        let value = i64::from_str_radix(digits, radix).ok()?;
        Some(if negative { -value } else { value })
    }

    fn to_json(&self) -> serde_json::Value {
        if let Some(boolean) = self.boolean() {
            return boolean.into();
        }
        if let Some(integer) = self.integer() {
            return integer.into();
        }
        let looks_like_float = self.plain
            && self.text.contains(|c: char| c.is_ascii_digit())
            && self.text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E'));
        let float = if looks_like_float { self.text.parse::<f64>().ok() } else { None };
        match float.and_then(serde_json::Number::from_f64) {
            Some(number) => number.into(),
            None => self.text.clone().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Scalar {
        Scalar { text: text.to_owned(), plain: true }
    }

    #[test]
    fn integers_have_the_bases_that_yaml_knows() {
        for (text, expected) in [
            ("0", Some(0)),
            ("42", Some(42)),
            ("-7", Some(-7)),
            ("+7", Some(7)),
            ("0x1F", Some(31)),
            ("0o17", Some(15)),
            ("017", Some(15)),
            ("08", None),
            ("--1", None),
            ("0x-1", None),
            ("", None),
            ("1.5", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(plain(text).integer(), expected, "{text}");
        }
        assert_eq!(Scalar { text: "1".to_owned(), plain: false }.integer(), None);
    }

    #[test]
    fn json_types_follow_the_plain_spelling() {
        for (text, expected) in [
            ("yes", serde_json::json!(true)),
            ("1", serde_json::json!(1)),
            ("1.5", serde_json::json!(1.5)),
            ("1.2.3", serde_json::json!("1.2.3")),
            ("e", serde_json::json!("e")),
            ("8080:80", serde_json::json!("8080:80")),
        ] {
            assert_eq!(plain(text).to_json(), expected, "{text}");
        }
    }
}
