//! What a workload's container runs by itself, where the manifest names no command.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::pod::text;

/// Returns the command of a container's spec with its arguments, or why it can't be known.
///
/// Kubernetes puts variables in the place of `$(NAME)`. Their values are not for us to read, so that such a command is
/// refused; what looks like one and is none stays as it is, as it does in Kubernetes.
pub(crate) fn of(container: &Value) -> Result<Vec<String>, String> {
    let list = |field: &str| container.get(field).and_then(Value::as_array).into_iter().flatten();
    let words: Vec<&str> = list("command").filter_map(Value::as_str).collect();
    if words.is_empty() {
        return Err("what it runs is said in its image, which Kubernetes does not show".to_owned());
    }
    let names: BTreeSet<String> = list("env").map(|variable| text(variable, "/name")).collect();
    let has_more = list("envFrom").next().is_some();
    let is_variable = |name: &str| names.contains(name) || (has_more && is_identifier(name));
    words
        .into_iter()
        .chain(list("args").filter_map(Value::as_str))
        .map(|word| plain(word, is_variable))
        .collect()
}

/// Returns a word as Kubernetes hands it on, where no variable is in it.
fn plain(word: &str, is_variable: impl Fn(&str) -> bool) -> Result<String, String> {
    let mut result = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        result.push_str(before);
        if let Some(after) = from.strip_prefix("$$") {
            result.push('$');
            rest = after;
            continue;
        }
        if let Some((name, _)) = from.strip_prefix("$(").and_then(|inside| inside.split_once(')'))
            && is_variable(name)
        {
            return Err(format!(
                "what it runs has the variable {name} in it, which only Kubernetes can put there"
            ));
        }
        result.push('$');
        rest = &from[1..];
    }
    result.push_str(rest);
    Ok(result)
}

fn is_identifier(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(word) && !name.as_bytes()[0].is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_command_is_taken_where_it_is_all_there() {
        let check = |container: Value, expected: Result<&[&str], &str>| {
            let found = of(&container);
            match (&found, expected) {
                (Ok(words), Ok(expected)) => assert_eq!(words, expected, "{container}"),
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                (found, expected) => panic!("{container}: {found:?}, not {expected:?}"),
            }
        };
        check(json!({"command": ["serve"], "args": ["--all", "x"]}), Ok(&["serve", "--all", "x"]));
        check(json!({"args": ["--all"]}), Err("in its image"));
        check(json!({}), Err("in its image"));
        let with =
            |word: &str| json!({"command": ["sh", "-c", word], "env": [{"name": "PORT", "value": "1"}]});
        check(with("run $(PORT)"), Err("variable PORT"));
        check(with("echo $(date) $HOME $"), Ok(&["sh", "-c", "echo $(date) $HOME $"]));
        check(with("echo $$(PORT) $$$$ $(PORT"), Ok(&["sh", "-c", "echo $(PORT) $$ $(PORT"]));
        let from = |word: &str| json!({"command": [word], "envFrom": [{"configMapRef": {"name": "c"}}]});
        check(from("$(ANY)"), Err("variable ANY"));
        check(from("$(date +%s)$(1x)$()"), Ok(&["$(date +%s)$(1x)$()"]));
    }
}
