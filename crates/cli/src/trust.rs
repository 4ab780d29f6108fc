//! What a manifest may not do before the user has agreed to it once.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use towline_manifest::Mode;

use crate::diagnose::Failure;
use crate::project::Project;
use crate::ui::{self, Ui};

/// The manifests that were agreed to: by path, the hash of what they said.
const FILE: &str = "trust.json";

/// Returns when the user has agreed to what the manifest wants of this machine; asks where that can be asked.
pub(crate) fn require(
    ui: &mut Ui,
    home: &Path,
    project: &Project,
    agreed: Option<&str>,
) -> Result<(), Failure> {
    let parsed = &project.parsed;
    if !parsed.needs_consent() {
        return Ok(());
    }
    let hash = &parsed.trust_hash;
    let file = home.join(FILE);
    let key = project.path.display().to_string();
    let mut known: BTreeMap<String, String> =
        fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    if known.get(&key) == Some(hash) {
        return Ok(());
    }
    let wants = wants(project);
    let agreed = match agreed {
        Some(agreed) => agreed == hash,
        None => ui.confirm(&format!("{key} wants to:"), &wants, "agree")?.unwrap_or(false),
    };
    if !agreed {
        let mut failure = Failure::new(format!("{key} needs your agreement first; nothing was changed"));
        failure.detail =
            Some(wants.iter().map(|want| format!("it wants to {want}")).collect::<Vec<_>>().join("\n"));
        return Err(failure.hint(format!("to agree: towline up --trust-manifest {hash}")));
    }
    known.insert(key, hash.clone());
    let new = home.join("trust.json.new");
    let mut out = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    out.write_all(serde_json::to_string_pretty(&known).unwrap_or_default().as_bytes())?;
    fs::rename(new, file)?;
    Ok(())
}

fn wants(project: &Project) -> Vec<String> {
    let parsed = &project.parsed;
    let sensitive = parsed.sensitive.iter().map(|sensitive| {
        format!(
            "send your variable {} into the cluster, in the clear ({})",
            sensitive.variable, sensitive.path
        )
    });
    let outside = parsed.outside.iter().map(|outside| {
        format!("use {}, which is outside the repository ({})", outside.local.display(), outside.path)
    });
    let devs = || parsed.manifest.iter().flat_map(|manifest| manifest.dev.values());
    let hybrid = devs().filter(|dev| dev.mode != Mode::Sync).map(|dev| {
        let what = match dev.command_line() {
            none if none.is_empty() => "run your shell".to_owned(),
            command => format!("run `{}`", ui::command_line(&command)),
        };
        let ports = "lead the workload's connections to the ports of this machine";
        format!("{what} on this machine with the workload's variables, and {ports} ({}.mode)", dev.place.path)
    });
    let reverse = devs().flat_map(|dev| &dev.reverse).map(|reverse| {
        format!(
            "lead connections in the pod to port {} of this machine ({})",
            reverse.local, reverse.place.path
        )
    });
    sensitive.chain(outside).chain(hybrid).chain(reverse).collect()
}
