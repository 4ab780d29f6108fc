//! A controller's own pause, as the record keeps it: what is set while a session lasts, and what was there before.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::names::is_name;

/// The longest value of a field that pauses, and the longest pointer to one, in bytes.
const MAX_TEXT_BYTES: usize = 160;

/// A field of some object that pauses its controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pause {
    /// The object's API version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace, which may be another than the workload's.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: another object of that name is not ours to change.
    pub uid: String,
    /// The field, as a JSON pointer.
    pub path: String,
    /// What it was before; `None`: it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior: Option<Value>,
    /// What it is set to.
    pub set: Value,
}

impl Pause {
    /// Tells whether both name the same field of the same object.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        (&self.uid, &self.path) == (&other.uid, &other.path)
    }

    /// Tells whether it is one that we could have written: names, a pointer, and values that are a switch's.
    pub fn is_plain(&self) -> bool {
        is_name(&self.name)
            && is_name(&self.namespace)
            && !self.uid.is_empty()
            && [&self.api_version, &self.kind, &self.path].into_iter().all(|text| is_word(text))
            && self.path.starts_with('/')
            && is_switch(&self.set)
            && self.prior.as_ref().is_none_or(is_switch)
    }

    /// Returns the command for a shell that sets it back.
    pub(crate) fn how_to_undo(&self) -> String {
        let Self { namespace, name, .. } = self;
        let group = self.api_version.rsplit_once('/').map_or(String::new(), |(group, _)| format!(".{group}"));
        let kind = format!("{}{group}", self.kind.to_ascii_lowercase());
        let unescape = |segment: &str| segment.replace("~1", "/").replace("~0", "~");
        let segments = self.path.trim_start_matches('/').rsplit('/');
        let patch = segments.fold(json!(self.prior), |inner, segment| json!({unescape(segment): inner}));
        format!("kubectl -n {namespace} patch {kind} {name} --type=merge -p '{patch}'")
    }
}

/// Tells whether a value is what a switch can be, and nothing that a shell could take for more.
fn is_switch(value: &Value) -> bool {
    match value {
        Value::Bool(_) => true,
        Value::String(text) => text.is_empty() || is_word(text),
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

fn is_word(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/' | b'~');
    !text.is_empty() && text.len() <= MAX_TEXT_BYTES && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(path: &str, prior: Option<Value>, set: Value) -> Pause {
        Pause {
            api_version: "argoproj.io/v1alpha1".to_owned(),
            kind: "Application".to_owned(),
            namespace: "argocd".to_owned(),
            name: "web".to_owned(),
            uid: "1".to_owned(),
            path: path.to_owned(),
            prior,
            set,
        }
    }

    #[test]
    fn only_switches_are_plain() {
        let check = |prior: Option<Value>, set: Value, expected: bool| {
            assert_eq!(
                pause("/spec/suspend", prior.clone(), set.clone()).is_plain(),
                expected,
                "{prior:?} {set}"
            );
        };
        check(None, json!(true), true);
        check(Some(json!("")), json!("disabled"), true);
        check(Some(json!("'; rm -rf /")), json!("true"), false);
        check(Some(json!({"a": 1})), json!("true"), false);
        check(None, json!(0), false);
        check(None, json!("a".repeat(161)), false);
        let mut named = pause("/spec/suspend", None, json!(true));
        named.name = "web; reboot".to_owned();
        assert!(!named.is_plain());
        assert!(!pause("spec", None, json!(true)).is_plain());
    }

    #[test]
    fn a_shell_can_set_it_back() {
        let check = |path: &str, prior: Option<Value>, expected: &str| {
            let command = pause(path, prior, json!("true")).how_to_undo();
            let (_, patch) = command.split_once("-p ").unwrap();
            assert_eq!(patch, expected);
            assert!(
                command.starts_with("kubectl -n argocd patch application.argoproj.io web --type=merge"),
                "{command}"
            );
        };
        check("/spec/suspend", Some(json!(false)), r#"'{"spec":{"suspend":false}}'"#);
        check("/metadata/annotations/a.io~1b", None, r#"'{"metadata":{"annotations":{"a.io/b":null}}}'"#);
    }
}
