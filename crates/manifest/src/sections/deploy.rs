//! Reads `deploy` and `destroy`.

use std::collections::BTreeMap;

use super::{
    Compose, ComposeFile, Deploy, Destroy, Divert, DivertHost, Endpoint, EndpointRule, VirtualService,
    commands,
};
use crate::{
    language::{
        COMPOSE, COMPOSE_FILE, DEPLOY, DESTROY, DIVERT_HOST, DIVERT_ISTIO, DIVERT_NGINX, ENDPOINT,
        NAMED_ENDPOINT, VIRTUAL_SERVICE,
    },
    read::{At, Fields, Reader},
};

/// Returns how everything gets into the cluster.
pub(crate) fn deploy(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Deploy> {
    if !at.is_mapping() {
        return Some(Deploy { commands: commands(reader, Some(at)), ..Deploy::default() });
    }
    let fields = reader.fields(at, &DEPLOY)?;
    Some(Deploy {
        image: fields.get("image").and_then(|at| reader.expanded(at)),
        context: fields.get("context").and_then(|at| reader.string(at)),
        remote: fields.get("remote").and_then(|at| reader.boolean(at)),
        commands: commands(reader, fields.get("commands")),
        compose: fields.get("compose").map(|at| compose(reader, at)),
        endpoints: fields.get("endpoints").map(|at| endpoints(reader, at)).unwrap_or_default(),
        divert: fields.get("divert").and_then(|at| divert(reader, at)),
    })
}

/// Returns how everything gets out of the cluster again.
pub(crate) fn destroy(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Destroy> {
    if !at.is_mapping() {
        return Some(Destroy { commands: commands(reader, Some(at)), ..Destroy::default() });
    }
    let fields = reader.fields(at, &DESTROY)?;
    Some(Destroy {
        image: fields.get("image").and_then(|at| reader.expanded(at)),
        remote: fields.get("remote").and_then(|at| reader.boolean(at)),
        commands: commands(reader, fields.get("commands")),
    })
}

fn compose(reader: &mut Reader<'_>, at: &At<'_>) -> Compose {
    let whole =
        at.entries().is_some_and(|entries| entries.iter().any(|(name, _)| COMPOSE.field(name).is_some()));
    if !whole {
        return Compose { files: compose_files(reader, at), endpoints: BTreeMap::new() };
    }
    let Some(fields) = reader.fields(at, &COMPOSE) else { return Compose::default() };
    let files = fields.get("manifest").map(|at| compose_files(reader, at)).unwrap_or_default();
    let endpoints = fields.get("endpoints").map(|at| endpoints(reader, at)).unwrap_or_default();
    Compose { files, endpoints }
}

fn compose_files(reader: &mut Reader<'_>, at: &At<'_>) -> Vec<ComposeFile> {
    let items = if at.is_mapping() { vec![at.clone()] } else { reader.one_or_list(at) };
    items.iter().filter_map(|item| compose_file(reader, item)).collect()
}

fn compose_file(reader: &mut Reader<'_>, at: &At<'_>) -> Option<ComposeFile> {
    if !at.is_mapping() {
        return reader.string(at).map(|file| ComposeFile { file, services: Vec::new() });
    }
    let fields = reader.fields(at, &COMPOSE_FILE)?;
    let services = fields.get("services").map(|at| reader.strings(at)).unwrap_or_default();
    fields.get("file").and_then(|at| reader.string(at)).map(|file| ComposeFile { file, services })
}

fn endpoints(reader: &mut Reader<'_>, at: &At<'_>) -> BTreeMap<String, Endpoint> {
    if !at.is_mapping() {
        let rules = rules(reader, at);
        return BTreeMap::from([(String::new(), Endpoint { rules, ..Endpoint::default() })]);
    }
    let mut all = BTreeMap::new();
    for (name, at) in reader.named(at) {
        let Some(at) = reader.given(&at, "its `rules`") else { continue };
        let endpoint = if at.is_mapping() {
            let Some(fields) = reader.fields(at, &NAMED_ENDPOINT) else { continue };
            let mut map = |name| fields.get(name).map(|at| reader.string_map(at)).unwrap_or_default();
            let (labels, annotations) = (map("labels"), map("annotations"));
            let rules = fields.get("rules").map(|at| rules(reader, at)).unwrap_or_default();
            Endpoint { labels, annotations, rules }
        } else {
            Endpoint { rules: rules(reader, at), ..Endpoint::default() }
        };
        all.insert(name.to_owned(), endpoint);
    }
    all
}

fn rules(reader: &mut Reader<'_>, at: &At<'_>) -> Vec<EndpointRule> {
    reader.list(at).iter().filter_map(|item| rule(reader, item)).collect()
}

fn rule(reader: &mut Reader<'_>, at: &At<'_>) -> Option<EndpointRule> {
    let fields = reader.fields(at, &ENDPOINT)?;
    let path = fields.get("path").and_then(|at| reader.string(at));
    let service = fields.get("service").and_then(|at| reader.string(at));
    let port = fields.get("port").and_then(|at| reader.port(at));
    Some(EndpointRule { path: path?, service: service?, port: port? })
}

fn divert(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Divert> {
    let driver = reader.named(at).into_iter().find(|(name, at)| *name == "driver" && !at.is_null());
    let istio = match driver {
        None => false,
        Some((_, at)) => reader.one_of(&at, &["nginx", "istio"])? == "istio",
    };
    if !istio {
        let fields = reader.fields(at, &DIVERT_NGINX)?;
        old_fields(reader, &fields);
        let namespace = fields.get("namespace").and_then(|at| reader.expanded(at))?;
        return Some(Divert::Nginx { namespace });
    }
    let fields = reader.fields(at, &DIVERT_ISTIO)?;
    old_fields(reader, &fields);
    let list = fields.get("virtualServices").map(|at| reader.list(at)).unwrap_or_default();
    let virtual_services = list.iter().filter_map(|item| virtual_service(reader, item)).collect();
    let list = fields.get("hosts").map(|at| reader.list(at)).unwrap_or_default();
    let hosts = list.iter().filter_map(|item| host(reader, item)).collect();
    Some(Divert::Istio { virtual_services, hosts })
}

/// Checks the fields that have no effect any more.
fn old_fields(reader: &mut Reader<'_>, fields: &Fields<'_>) {
    for name in ["service", "deployment"] {
        fields.get(name).and_then(|at| reader.string(at));
    }
    fields.get("port").and_then(|at| reader.integer(at, 0, 65_535));
}

fn virtual_service(reader: &mut Reader<'_>, at: &At<'_>) -> Option<VirtualService> {
    let fields = reader.fields(at, &VIRTUAL_SERVICE)?;
    let mut text = |name| fields.get(name).and_then(|at| reader.expanded(at));
    let (name, namespace) = (text("name"), text("namespace"));
    let routes = fields.get("routes").map(|at| reader.strings(at)).unwrap_or_default();
    Some(VirtualService { name: name?, namespace: namespace?, routes })
}

fn host(reader: &mut Reader<'_>, at: &At<'_>) -> Option<DivertHost> {
    let fields = reader.fields(at, &DIVERT_HOST)?;
    let mut text = |name| fields.get(name).and_then(|at| reader.expanded(at));
    let (virtual_service, namespace) = (text("virtualService"), text("namespace"));
    Some(DivertHost { virtual_service: virtual_service?, namespace: namespace? })
}
