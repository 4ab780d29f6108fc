//! From the manifest's dev service to what `up` is asked to do.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use towline_ignore::{LoadOptions, Rules};
use towline_manifest::{
    Dev, Forward as ManifestForward, ForwardTarget, Manifest, Resources, SecurityContext,
};
use towline_patcher::{DevPlan, Lifecycle, Probes};

use crate::context::AgentSource;
use crate::error::SessionError;
use crate::request::{Folder, Forward, Reverse, UpRequest, Workload};

/// What a manifest does not say.
#[derive(Debug, Clone)]
pub struct Choices {
    /// Runs instead of the manifest's command.
    pub command: Option<Vec<String>>,
    /// Variables for the command alone, like the user's `TERM`.
    pub process_environment: Vec<(String, String)>,
    /// The agent.
    pub agent: AgentSource,
    /// Takes the workload from whoever holds it.
    pub takeover: bool,
}

/// Makes the request for one dev service. Reads the ignore files; `manifest_path` is where the manifest lies.
pub fn request(
    manifest: &Manifest,
    dev: &Dev,
    manifest_path: &Path,
    choices: Choices,
) -> Result<UpRequest, SessionError> {
    let folders = dev
        .sync
        .folders
        .iter()
        .map(|folder| {
            let (rules, ignore_file) = ignore_rules(manifest_path, &folder.local)?;
            let (local, remote) = (folder.local.clone(), folder.remote.clone());
            Ok(Folder { local, remote, ignore: rules.lines(), ignore_file })
        })
        .collect::<Result<Vec<_>, SessionError>>()?;
    let workload = if dev.selector.is_empty() {
        Workload::Name(dev.workload.clone())
    } else {
        Workload::Labels(dev.selector.clone())
    };
    Ok(UpRequest {
        workload,
        plan: plan(dev),
        folders,
        command: choices.command.unwrap_or_else(|| dev.command_line()),
        process_environment: choices.process_environment,
        forwards: manifest.forwards(dev).filter_map(forward).collect(),
        reverses: dev
            .reverse
            .iter()
            .map(|reverse| Reverse { remote: reverse.remote, local: reverse.local })
            .collect(),
        patience: dev.timeout.resources,
        agent: choices.agent,
        takeover: choices.takeover,
    })
}

/// Loads the ignore rules of a synced folder and says which file they come from. A file that can't be understood
/// stops everything: without its rules, what it protects would be synced.
pub fn ignore_rules(manifest_path: &Path, root: &Path) -> Result<(Rules, Option<PathBuf>), SessionError> {
    let places = towline_manifest::stignore_places(manifest_path, root);
    let Some(file) = places.into_iter().find(|place| place.symlink_metadata().is_ok()) else {
        return Ok((Rules::empty(), None));
    };
    let base = file.parent().unwrap_or(root).to_owned();
    let mut read = |name: &str| -> io::Result<String> {
        let bytes = fs::read(base.join(name))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let rules = towline_ignore::load(".stignore", &mut read, LoadOptions::default())?;
    Ok((rules, Some(file)))
}

fn plan(dev: &Dev) -> DevPlan {
    let own = dev.environment.iter().map(|variable| (variable.name.clone(), variable.value.clone()));
    DevPlan {
        dev_name: dev.name.clone(),
        container: dev.container.clone(),
        image: dev.image.clone(),
        image_pull_policy: dev.image_pull_policy.map(|policy| policy.as_str().to_owned()),
        environment: own.collect(),
        workdir: dev.workdir.clone(),
        resources: resources(&dev.resources),
        security_context: security_context(&dev.security_context),
        node_selector: map(&dev.node_selector),
        tolerations: dev
            .tolerations
            .iter()
            .map(|toleration| {
                object([
                    ("key", toleration.key.as_ref().map(|key| json!(key))),
                    ("operator", toleration.operator.as_ref().map(|operator| json!(operator))),
                    ("value", toleration.value.as_ref().map(|value| json!(value))),
                    ("effect", toleration.effect.as_ref().map(|effect| json!(effect))),
                    ("tolerationSeconds", toleration.toleration_seconds.map(|seconds| json!(seconds))),
                ])
                .unwrap_or_else(|| json!({}))
            })
            .collect(),
        affinity: dev.affinity.clone(),
        priority_class_name: dev.priority_class_name.clone(),
        service_account: dev.service_account.clone(),
        labels: dev.metadata.labels.clone(),
        annotations: dev.metadata.annotations.clone(),
        keep_probes: Probes {
            liveness: dev.probes.liveness,
            readiness: dev.probes.readiness,
            startup: dev.probes.startup,
        },
        keep_lifecycle: Lifecycle {
            post_start: dev.lifecycle.post_start.enabled,
            pre_stop: dev.lifecycle.pre_stop.enabled,
        },
        ..DevPlan::default()
    }
}

fn resources(resources: &Resources) -> Option<Value> {
    object([("requests", map(&resources.requests)), ("limits", map(&resources.limits))])
}

fn security_context(context: &SecurityContext) -> Option<Value> {
    let list = |names: &[String]| (!names.is_empty()).then(|| json!(names));
    let capabilities =
        object([("add", list(&context.capabilities.add)), ("drop", list(&context.capabilities.drop))]);
    object([
        ("runAsUser", context.run_as_user.map(|user| json!(user))),
        ("runAsGroup", context.run_as_group.map(|group| json!(group))),
        ("fsGroup", context.fs_group.map(|group| json!(group))),
        ("runAsNonRoot", context.run_as_non_root.map(|yes| json!(yes))),
        ("allowPrivilegeEscalation", context.allow_privilege_escalation.map(|yes| json!(yes))),
        ("readOnlyRootFilesystem", context.read_only_root_filesystem.map(|yes| json!(yes))),
        ("capabilities", capabilities),
    ])
}

/// Makes a JSON object of what is there; `None` when nothing is.
fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Option<Value> {
    let fields: Map<String, Value> =
        fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
    (!fields.is_empty()).then_some(Value::Object(fields))
}

fn map(map: &BTreeMap<String, String>) -> Option<Value> {
    (!map.is_empty()).then(|| json!(map))
}

/// A Service that is named by labels is not looked up yet; the manifest has said so.
fn forward(forward: &ManifestForward) -> Option<Forward> {
    let host = match &forward.target {
        ForwardTarget::Container => None,
        ForwardTarget::Service(name) => Some(name.clone()),
        ForwardTarget::Labels(_) => return None,
    };
    Some(Forward { local: forward.local, host, port: forward.remote })
}
