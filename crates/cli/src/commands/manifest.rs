//! `towline manifest`. The comments on [`Manifest`] are its help.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value as Json, json};
use towline_manifest::{Entry, FilePlace, Node, Origin, Scalar, Value, VariableSource};

use super::Outcome;
use crate::args::Global;
use crate::exit_code;
use crate::project::Project;
use crate::ui::Ui;

/// Shows what the manifest comes to, and the language that it is written in.
#[derive(Debug, Clone, Args)]
pub(crate) struct Manifest {
    #[command(subcommand)]
    pub(crate) verb: ManifestVerb,
}

/// What to show.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ManifestVerb {
    Show(ManifestShow),
    /// Prints the JSON Schema of the language, for editors.
    Schema,
}

/// Prints the manifest as it holds: variables expanded, defaults filled in, each value in its one form.
///
/// The values of variables that look like credentials are not shown.
#[derive(Debug, Clone, Args)]
pub(crate) struct ManifestShow {
    /// The manifest, like --file.
    #[arg(value_name = "FILE", conflicts_with = "file")]
    pub(crate) manifest: Option<PathBuf>,
    /// Says beside each value where it comes from.
    #[arg(long)]
    pub(crate) origin: bool,
}

/// Shows the manifest, or its language.
pub(crate) fn run(ui: &mut Ui, global: &Global, args: &Manifest) -> Outcome {
    match &args.verb {
        ManifestVerb::Show(args) => show(ui, global, args),
        ManifestVerb::Schema => {
            ui.data(&serde_json::to_string_pretty(&towline_manifest::json_schema()).unwrap_or_default());
            Ok(exit_code::OK)
        }
    }
}

fn show(ui: &mut Ui, global: &Global, args: &ManifestShow) -> Outcome {
    let project = Project::open(&global.with_file(args.manifest.as_ref()))?;
    ui.problems(&project.parsed.problems);
    if project.parsed.problems.has_errors() {
        return Ok(exit_code::REFUSED);
    }
    let origins = project.parsed.origins();
    let shown = without_credentials(&project.parsed.effective(), "", "", &origins);
    if ui.is_json() {
        let mut object = json!({
            "version": 1, "kind": "manifest", "file": project.path.display().to_string(), "manifest": shown.to_json(),
        });
        if args.origin {
            object["origins"] = origins
                .iter()
                .map(|(path, origin)| (path.clone(), as_json(origin)))
                .collect::<Map<_, _>>()
                .into();
        }
        ui.json(&object);
    } else {
        let words = |path: &str| args.origin.then(|| origins.get(path).map(in_words)).flatten();
        ui.data(towline_manifest::yaml(&shown, &words).trim_end());
    }
    Ok(exit_code::OK)
}

/// Returns the tree with a name in place of each value that a credential-like variable is part of.
fn without_credentials(node: &Node, path: &str, key: &str, origins: &BTreeMap<String, Origin>) -> Node {
    let value = match &node.value {
        Value::Mapping(entries) => {
            let entry = |entry: &Entry| {
                let path = towline_manifest::field_path(path, &entry.key);
                let node = without_credentials(&entry.node, &path, &entry.key, origins);
                Entry { key: entry.key.clone(), key_span: entry.key_span, node }
            };
            Value::Mapping(entries.iter().map(entry).collect())
        }
        Value::Sequence(items) => {
            let item = |(at, item): (usize, &Node)| {
                without_credentials(item, &format!("{path}[{at}]"), key, origins)
            };
            Value::Sequence(items.iter().enumerate().map(item).collect())
        }
        Value::Scalar(_) => match origins.get(path).and_then(|origin| credential(origin, key)) {
            Some(name) => Value::Scalar(Scalar { text: format!("<{name}>"), plain: false }),
            None => node.value.clone(),
        },
        Value::Null => Value::Null,
    };
    Node { value, span: node.span }
}

/// Returns the credential-like variable that a value takes from the user.
fn credential<'o>(origin: &'o Origin, key: &'o str) -> Option<&'o str> {
    if origin.from_file && towline_manifest::is_sensitive(key) {
        return Some(key);
    }
    let taken = origin.variables.iter().filter(|variable| {
        matches!(variable.source, VariableSource::Environment | VariableSource::File(_))
            && towline_manifest::is_sensitive(&variable.name)
    });
    taken.map(|variable| variable.name.as_str()).next()
}

fn in_words(origin: &Origin) -> String {
    let place = origin.place.as_ref().map_or_else(|| "default".to_owned(), at);
    let variables = origin.variables.iter().map(|variable| match &variable.source {
        VariableSource::Environment => format!("{} from your environment", variable.name),
        VariableSource::File(place) => format!("{} from {}", variable.name, at(place)),
        VariableSource::Default => format!("{} not taken", variable.name),
        VariableSource::Nowhere => format!("{} not set", variable.name),
    });
    std::iter::once(place).chain(variables).collect::<Vec<_>>().join(", ")
}

fn at(place: &FilePlace) -> String {
    format!("{}:{}:{}", place.file, place.line, place.column)
}

fn as_json(origin: &Origin) -> Json {
    let place = |place: &FilePlace| json!({"file": place.file, "line": place.line, "column": place.column});
    let variables: Vec<_> = origin
        .variables
        .iter()
        .map(|variable| match &variable.source {
            VariableSource::Environment => json!({"name": variable.name, "from": "environment"}),
            VariableSource::File(file) => {
                json!({"name": variable.name, "from": "file", "place": place(file)})
            }
            VariableSource::Default => json!({"name": variable.name, "from": "default"}),
            VariableSource::Nowhere => json!({"name": variable.name, "from": "nowhere"}),
        })
        .collect();
    json!({"place": origin.place.as_ref().map(place), "variables": variables})
}
