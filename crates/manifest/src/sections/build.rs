//! Reads `build`.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::{Build, BuildSecret, check_order};
use crate::{
    dev::variables,
    language::{BUILD, BUILD_SECRET},
    read::{At, Reader},
};

/// Returns the images to build, by name.
pub(crate) fn build(reader: &mut Reader<'_>, at: Option<&At<'_>>) -> IndexMap<String, Build> {
    let mut all = IndexMap::new();
    for (key, at) in at.map(|at| reader.named(at)).unwrap_or_default() {
        let Some(name) = reader.kubernetes_name(key, &at, "a build", |name| all.contains_key(name)) else {
            continue;
        };
        let Some(at) = reader.given(&at, "a folder, or fields") else { continue };
        if let Some(one) = one(reader, at) {
            all.insert(name, one);
        }
    }
    let order = all.iter().map(|(name, build)| (name, &build.depends_on, &build.place));
    check_order(reader, "build", order);
    all
}

fn one(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Build> {
    let mut build = Build {
        context: ".".to_owned(),
        dockerfile: "Dockerfile".to_owned(),
        target: None,
        image: None,
        args: BTreeMap::new(),
        secrets: BTreeMap::new(),
        cache_from: Vec::new(),
        export_cache: Vec::new(),
        depends_on: Vec::new(),
        place: at.place(),
    };
    if !at.is_mapping() {
        let context = reader.expanded(at)?;
        if !context.is_empty() {
            build.context = context;
        }
        return Some(build);
    }
    let fields = reader.fields(at, &BUILD)?;
    let mut text = |name| fields.get(name).and_then(|at| reader.expanded(at)).filter(|text| !text.is_empty());
    build.context = text("context").unwrap_or(build.context);
    build.dockerfile = text("dockerfile").unwrap_or(build.dockerfile);
    (build.target, build.image) = (text("target"), text("image"));
    build.args = fields.get("args").map(|at| variables(reader, at)).unwrap_or_default();
    for (name, at) in fields.get("secrets").map(|at| reader.named(at)).unwrap_or_default() {
        let secret = reader.given(&at, "a file").and_then(|at| secret(reader, at));
        build.secrets.extend(secret.map(|secret| (name.to_owned(), secret)));
    }
    let mut list = |name, expand| {
        let items = fields.get(name).map(|at| reader.one_or_list(at)).unwrap_or_default();
        let text = |item: &At<'_>| if expand { reader.expanded(item) } else { reader.string(item) };
        items.iter().filter_map(text).collect()
    };
    build.cache_from = list("cache_from", true);
    build.export_cache = list("export_cache", true);
    build.depends_on = list("depends_on", false);
    Some(build)
}

fn secret(reader: &mut Reader<'_>, at: &At<'_>) -> Option<BuildSecret> {
    if !at.is_mapping() {
        return reader.expanded(at).map(BuildSecret::File);
    }
    let fields = reader.fields(at, &BUILD_SECRET)?;
    let file = fields.get("file").and_then(|at| reader.expanded(at)).map(BuildSecret::File);
    file.or_else(|| fields.get("env").and_then(|at| reader.string(at)).map(BuildSecret::Variable))
}
