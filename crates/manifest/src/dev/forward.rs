//! Reads `forward` and `reverse`.

use std::collections::BTreeMap;

use super::{Forward, ForwardTarget, Reverse, is_name};
use crate::{
    Severity,
    language::Object,
    problem::{Place, quoted},
    read::{At, Reader},
};

const FORWARD_HINT: &str = "write localPort:remotePort, such as 8080:80, or localPort:service:remotePort";
const REVERSE_HINT: &str = "write remotePort:localPort, such as 9000:9001";

/// Returns the forward that `at` spells; `object` lists the fields of its long form.
pub(crate) fn forward(reader: &mut Reader<'_>, at: &At<'_>, object: &'static Object) -> Option<Forward> {
    if at.is_mapping() { from_mapping(reader, at, object) } else { from_string(reader, at) }
}

fn from_string(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Forward> {
    let hint = FORWARD_HINT;
    let text = reader.string(at)?;
    let parts: Vec<&str> = text.split(':').collect();
    let (local, target, remote) = match parts[..] {
        [local, remote] => (local, ForwardTarget::Container, remote),
        [local, service, remote] if !service.is_empty() => {
            (local, ForwardTarget::Service(service_name(reader, at, service)?), remote)
        }
        _ => {
            reader.error(at, format!("{} is not a forward", quoted(&text)), hint.to_owned());
            return None;
        }
    };
    let (local, remote) = (port(reader, at, local, hint), port(reader, at, remote, hint));
    Some(Forward { local: local?, target, remote: remote?, place: at.place() })
}

fn from_mapping(reader: &mut Reader<'_>, at: &At<'_>, object: &'static Object) -> Option<Forward> {
    let fields = reader.fields(at, object)?;
    let mut number = |name: &str| fields.get(name).and_then(|at| reader.port(at));
    let (local, remote) = (number("localPort"), number("remotePort"));
    let name = fields.get("name").and_then(|at| Some((at, reader.string(at)?)));
    let name = match name.filter(|(_, name)| !name.is_empty()) {
        Some((at, name)) => Some(service_name(reader, at, &name)?),
        None => None,
    };
    let labels = fields.get("labels").map(|at| reader.plain_map(at)).filter(|labels| !labels.is_empty());
    let target = match (name, labels) {
        (Some(name), _) => ForwardTarget::Service(name),
        (None, Some(labels)) => ForwardTarget::Labels(labels),
        (None, None) => ForwardTarget::Container,
    };
    let place = Place { span: at.node.span, path: at.path.clone() };
    Some(Forward { local: local?, target, remote: remote?, place })
}

fn service_name(reader: &mut Reader<'_>, at: &At<'_>, name: &str) -> Option<String> {
    if is_name(name) {
        return Some(name.to_owned());
    }
    reader.error(at, format!("{} is not a name that a Service can have", quoted(name)), None);
    None
}

/// Returns the reverse forward that `at` spells.
pub(super) fn reverse(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Reverse> {
    let text = reader.string(at)?;
    let Some((remote, local)) = text.split_once(':') else {
        reader.error(at, format!("{} is not a reverse forward", quoted(&text)), REVERSE_HINT.to_owned());
        return None;
    };
    let (remote, local) = (port(reader, at, remote, REVERSE_HINT), port(reader, at, local, REVERSE_HINT));
    Some(Reverse { remote: remote?, local: local?, place: at.place() })
}

fn port(reader: &mut Reader<'_>, at: &At<'_>, text: &str, hint: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = if digits { text.parse::<u16>().ok() } else { None };
    let port = port.filter(|port| *port > 0);
    if port.is_none() {
        reader.error(at, format!("{} is not a port from 1 to 65535", quoted(text)), hint.to_owned());
    }
    port
}

/// Reports each port of `list` that an earlier one has taken, or one of `shared`; returns all of `list`.
pub(crate) fn reject_repeated_ports<'f>(
    reader: &mut Reader<'_>,
    side: &str,
    shared: &BTreeMap<u16, &Place>,
    list: impl IntoIterator<Item = (u16, &'f Place)>,
) -> BTreeMap<u16, &'f Place> {
    let mut taken: BTreeMap<u16, &Place> = BTreeMap::new();
    for (port, place) in list {
        let first = taken.get(&port).or_else(|| shared.get(&port));
        if let Some(first) = first {
            let message = format!("the {side} port {port} is forwarded twice: {} has it already", first.path);
            let hint = Some("choose another port".to_owned());
            reader.report(Severity::Error, &place.path, place.span, message, hint);
        }
        taken.entry(port).or_insert(place);
    }
    taken
}
