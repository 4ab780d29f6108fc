//! Reads `environment` and `envFiles` into one list of variables.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use super::EnvironmentVariable;
use crate::{
    Severity,
    disk::Kind,
    dotenv::{self, Mention, Origin},
    node::Value,
    problem::{Problem, SourceText, quoted},
    read::{At, Fields, Reader},
    trust::is_sensitive,
    yaml::{MAX_BYTES, push_key},
};

/// Returns the variables by name, and the env files that were read, of the entry at `whole`.
pub(super) fn environment(
    reader: &mut Reader<'_>,
    whole: &At<'_>,
    fields: &Fields<'_>,
) -> (Vec<EnvironmentVariable>, Vec<PathBuf>) {
    let mut all = BTreeMap::new();
    let mut files = Vec::new();
    for item in fields.get("envFiles").map(|at| reader.one_or_list(at)).unwrap_or_default() {
        let Some(text) = reader.expanded(&item) else { continue };
        let path = reader.local(&item, &text);
        read_file(reader, &item, &path, &whole.path, &mut all);
        files.push(path);
    }
    if let Some(at) = fields.get("environment") {
        for (name, value) in variables(reader, at) {
            reader.from_files.remove(&variable_path(&whole.path, &name));
            all.insert(name, value);
        }
    }
    let list = all.into_iter().map(|(name, value)| EnvironmentVariable { name, value }).collect();
    (list, files)
}

fn variable_path(whole: &str, name: &str) -> String {
    let mut path = whole.to_owned();
    push_key(&mut path, "environment");
    push_key(&mut path, name);
    path
}

/// Returns variables by name: a mapping, or a list of `NAME=value`, where a name alone takes the user's own value.
pub(crate) fn variables(reader: &mut Reader<'_>, at: &At<'_>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    if at.is_mapping() {
        from_mapping(reader, at, &mut variables);
    } else {
        from_list(reader, at, &mut variables);
    }
    variables
}

fn from_mapping(reader: &mut Reader<'_>, at: &At<'_>, variables: &mut BTreeMap<String, String>) {
    for (name, value) in at.entries().unwrap_or_default() {
        let text = if value.is_null() { Some(String::new()) } else { reader.expanded(&value) };
        if is_name(reader, &value, name) {
            variables.extend(text.map(|text| (name.to_owned(), text)));
        }
    }
}

fn from_list(reader: &mut Reader<'_>, at: &At<'_>, variables: &mut BTreeMap<String, String>) {
    if matches!(at.node.value, Value::Scalar(_)) {
        return reader.expected(at, "a mapping, or a list of NAME=value");
    }
    for item in reader.list(at) {
        let Some(text) = reader.string(&item) else { continue };
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => {
                let place = reader.place(&item, &text);
                let place = place.map(|place| crate::Span::new(place.start + name.len() + 1, place.end));
                (name, reader.expand(&item, value, place))
            }
            None => (text.as_str(), Some(own_value(reader, &item, &text))),
        };
        if is_name(reader, &item, name) {
            variables.extend(value.map(|value| (name.to_owned(), value)));
        }
    }
}

/// Returns the user's own value of a variable that is given by its name alone.
fn own_value(reader: &mut Reader<'_>, at: &At<'_>, name: &str) -> String {
    let value = reader.lookup(name);
    if value.is_none() {
        let message = format!("the variable {} is not set, so it will be empty", quoted(name));
        reader.warn(at, message, format!("set it, or give a value: {name}=value"));
    } else {
        reader.note_variable(at, at.span(), name);
    }
    value.unwrap_or_default()
}

fn is_name(reader: &mut Reader<'_>, at: &At<'_>, name: &str) -> bool {
    // The API server takes any printable ASCII but `=`.
    let good = !name.is_empty() && name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=');
    if !good {
        reader.error(at, format!("{} is not a name that a variable can have", quoted(name)), None);
    }
    good
}

fn read_file(
    reader: &mut Reader<'_>,
    at: &At<'_>,
    path: &std::path::Path,
    whole: &str,
    variables: &mut BTreeMap<String, String>,
) {
    let shown = quoted(&path.to_string_lossy());
    let text = match reader.disk.kind(path) {
        Kind::Missing => {
            let hint = "create it, or correct the path".to_owned();
            return reader.error(at, format!("the env file {shown} does not exist"), hint);
        }
        Kind::Folder => return reader.error(at, format!("the env file {shown} is a folder"), None),
        Kind::File => match reader.disk.read(path, MAX_BYTES) {
            Ok(text) if text.len() <= MAX_BYTES => text,
            Ok(_) => {
                return reader.error(
                    at,
                    format!("the env file {shown} is larger than {MAX_BYTES} bytes"),
                    None,
                );
            }
            Err(error) => {
                return reader.error(at, format!("the env file {shown} can't be read: {error}"), None);
            }
        },
    };
    let file = Arc::new(SourceText::new(&path.to_string_lossy(), &text));
    let report = |reader: &mut Reader<'_>, severity, span, message| {
        let (path, file) = (at.path.clone(), Arc::clone(&file));
        reader.problems.push(Problem { severity, message, path, span, hint: None, file });
    };
    let (found, faults) = dotenv::parse(&text, &|name| reader.lookup(name));
    for fault in faults {
        report(reader, Severity::Error, fault.span, fault.message);
    }
    for mut variable in found {
        let name = variable.name;
        let mut value = variable.value.take().filter(|value| !value.is_empty());
        if value.is_none() {
            // What is empty is filled from the user's environment, and dropped when nothing is there.
            value = reader.lookup(&name).filter(|value| !value.is_empty());
            let origin = if value.is_some() { Origin::User } else { Origin::Text };
            variable.mentions.push(Mention { name: name.clone(), origin });
        }
        for Mention { name: mentioned, origin } in variable.mentions {
            if origin == Origin::Nowhere && mentioned != name {
                let message =
                    format!("the variable {} is not set, so nothing stands here", quoted(&mentioned));
                report(reader, Severity::Warning, variable.span, message);
            }
            if is_sensitive(&mentioned) {
                reader.findings.mentioned.push((at.path.clone(), mentioned.clone()));
                if origin == Origin::User {
                    reader.disclose(&at.path, Arc::clone(&file), variable.span, &mentioned);
                }
            }
        }
        if let Some(value) = value {
            reader.from_files.insert(variable_path(whole, &name), (Arc::clone(&file), variable.span));
            variables.insert(name, value);
        }
    }
}
