//! Reads `test`.

use indexmap::IndexMap;

use super::{Artifact, Host, Test, check_order, commands};
use crate::{
    language::{ARTIFACT, HOST, TEST},
    problem::quoted,
    read::{At, Reader},
};

/// Returns the tests, by name.
pub(crate) fn test(reader: &mut Reader<'_>, at: Option<&At<'_>>) -> IndexMap<String, Test> {
    let mut all = IndexMap::new();
    for (name, at) in at.map(|at| reader.named(at)).unwrap_or_default() {
        if let Some(one) = reader.given(&at, "its `commands`").and_then(|at| one(reader, at)) {
            all.insert(name.to_owned(), one);
        }
    }
    let order = all.iter().map(|(name, test)| (name, &test.depends_on, &test.place));
    check_order(reader, "test", order);
    all
}

fn one(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Test> {
    let fields = reader.fields(at, &TEST)?;
    let image = fields.get("image").and_then(|at| reader.expanded(at)).filter(|image| !image.is_empty());
    let context =
        fields.get("context").and_then(|at| reader.string(at)).filter(|context| !context.is_empty());
    let commands = commands(reader, fields.get("commands"));
    if let Some(list) = fields.get("commands")
        && commands.is_empty()
    {
        reader.error(list, "the test has no commands", "write what it runs, in order".to_owned());
    }
    let before = fields.get("depends_on").map(|at| reader.one_or_list(at)).unwrap_or_default();
    let depends_on = before.iter().filter_map(|item| reader.string(item)).collect();
    let caches = fields.get("caches").map(|at| reader.strings(at)).unwrap_or_default();
    let list = fields.get("artifacts").map(|at| reader.list(at)).unwrap_or_default();
    let artifacts = list.iter().filter_map(|item| artifact(reader, item)).collect();
    let list = fields.get("hosts").map(|at| reader.list(at)).unwrap_or_default();
    let hosts = list.iter().filter_map(|item| host(reader, item)).collect();
    let skip = fields.get("skipIfNoFileChanges").and_then(|at| reader.boolean(at));
    Some(Test {
        image,
        context: context.unwrap_or_else(|| ".".to_owned()),
        commands,
        depends_on,
        caches,
        artifacts,
        hosts,
        skip_if_no_file_changes: skip.unwrap_or(false),
        place: at.place(),
    })
}

fn artifact(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Artifact> {
    if !at.is_mapping() {
        return reader.string(at).map(|path| Artifact { destination: path.clone(), path });
    }
    let fields = reader.fields(at, &ARTIFACT)?;
    let path = fields.get("path").and_then(|at| reader.string(at))?;
    let destination = fields.get("destination").and_then(|at| reader.string(at));
    Some(Artifact { destination: destination.unwrap_or_else(|| path.clone()), path })
}

fn host(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Host> {
    let (name, address) = if at.is_mapping() {
        let fields = reader.fields(at, &HOST)?;
        let mut text = |name| fields.get(name).and_then(|at| reader.expanded(at));
        let (name, address) = (text("hostname"), text("ip"));
        (name?, address?)
    } else {
        let text = reader.expanded(at)?;
        let Some((name, address)) = text.split_once(':') else {
            let hint = "write name:address, such as db.local:10.0.0.1".to_owned();
            reader.error(at, format!("{} is not a host", quoted(&text)), hint);
            return None;
        };
        (name.to_owned(), address.to_owned())
    };
    if name.is_empty() || address.is_empty() {
        let what = if name.is_empty() { "name" } else { "address" };
        reader.error(at, format!("the host has no {what}"), None);
        return None;
    }
    Some(Host { name, address })
}
