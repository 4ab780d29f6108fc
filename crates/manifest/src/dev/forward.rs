//! Reads `forward` and `reverse`.

use std::collections::BTreeMap;

use super::{Forward, ForwardTarget, Reverse};
use crate::{
    Severity,
    problem::quoted,
    read::{At, Reader},
};

const FORWARD_HINT: &str = "write localPort:remotePort, such as 8080:80, or localPort:service:remotePort";
const SERVICE_HINT: &str = "write localPort:service:remotePort, such as 5432:postgres:5432";
const REVERSE_HINT: &str = "write remotePort:localPort, such as 9000:9001";

/// Returns the forward of a dev service that `at` spells.
pub(super) fn forward(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Forward> {
    if at.is_mapping() { from_mapping(reader, at) } else { from_string(reader, at, FORWARD_HINT) }
}

/// Returns the forward of the whole manifest that `at` spells: one that leads to a Service.
pub(crate) fn service_forward(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Forward> {
    let forward =
        if at.is_mapping() { from_mapping(reader, at) } else { from_string(reader, at, SERVICE_HINT) }?;
    if forward.target == ForwardTarget::Container {
        let message = "a forward outside of `dev` has no container to lead to";
        let hint = "name a service: localPort:service:remotePort, or the field `name` or `labels`".to_owned();
        reader.error(at, message, hint);
        return None;
    }
    Some(forward)
}

fn from_string(reader: &mut Reader<'_>, at: &At<'_>, hint: &str) -> Option<Forward> {
    let text = reader.string(at)?;
    let parts: Vec<&str> = text.split(':').collect();
    let (local, target, remote) = match parts[..] {
        [local, remote] => (local, ForwardTarget::Container, remote),
        [local, service, remote] if !service.is_empty() => {
            (local, ForwardTarget::Service(service.to_owned()), remote)
        }
        _ => {
            reader.error(at, format!("{} is not a forward", quoted(&text)), hint.to_owned());
            return None;
        }
    };
    let (local, remote) = (port(reader, at, local, hint), port(reader, at, remote, hint));
    Some(Forward { local: local?, target, remote: remote?, span: at.span(), path: at.path.clone() })
}

fn from_mapping(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Forward> {
    let known = ["localPort", "remotePort", "name", "labels"];
    let fields = reader.fields(at, "a forward", &known)?;
    let mut number = |name: &str| {
        let Some(at) = fields.get(name) else {
            reader.error(at, format!("the forward has no `{name}`"), None);
            return None;
        };
        reader.integer(at, 1, 65535).and_then(|port| u16::try_from(port).ok())
    };
    let (local, remote) = (number("localPort"), number("remotePort"));
    let name = fields.get("name").and_then(|at| reader.string(at)).filter(|name| !name.is_empty());
    let labels = fields.get("labels").map(|at| reader.string_map(at)).filter(|labels| !labels.is_empty());
    let target = match (name, labels) {
        (None, None) => ForwardTarget::Container,
        (Some(name), None) => ForwardTarget::Service(name),
        (None, Some(labels)) => ForwardTarget::Labels(labels),
        (Some(_), Some(_)) => {
            reader.error(at, "a forward takes `name` or `labels`, not both", None);
            return None;
        }
    };
    Some(Forward { local: local?, target, remote: remote?, span: at.node.span, path: at.path.clone() })
}

/// Returns the reverse forward that `at` spells.
pub(super) fn reverse(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Reverse> {
    let text = reader.string(at)?;
    let Some((remote, local)) = text.split_once(':') else {
        reader.error(at, format!("{} is not a reverse forward", quoted(&text)), REVERSE_HINT.to_owned());
        return None;
    };
    let (remote, local) = (port(reader, at, remote, REVERSE_HINT), port(reader, at, local, REVERSE_HINT));
    Some(Reverse { remote: remote?, local: local?, span: at.span(), path: at.path.clone() })
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

/// Reports each port of `list` that an earlier one has taken.
pub(crate) fn reject_repeated_ports<'f>(
    reader: &mut Reader<'_>,
    side: &str,
    list: impl IntoIterator<Item = (u16, &'f str, crate::Span)>,
) {
    let mut taken = BTreeMap::new();
    for (port, path, span) in list {
        if let Some(first) = taken.insert(port, path) {
            let message = format!("the {side} port {port} is forwarded twice: {first} has it already");
            let hint = Some("choose another port".to_owned());
            reader.report(Severity::Error, path, span, message, hint);
        }
    }
}
