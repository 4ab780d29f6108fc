//! The volumes' part of the clone: the user's claims and files, and the folders that an init container fills.

use serde_json::{Map, Value, json};

use super::edits::{Edits, child, list};
use super::template::{AGENT_VOLUME, POD, SEED_MOUNT, agent_mount, check_folder, free_name};
use crate::names::SECRETS_ANNOTATION;
use crate::plan::{DevPlan, PlanError};
use crate::workload::text;

const CLAIM_VOLUME: &str = "towline-kept";
const SECRET_VOLUME: &str = "towline-secrets";
const SEED: &str = "towline-seed";
const SCRATCH_REASON: &str = "the folder is not writable in the image";
const KEPT_REASON: &str = "a folder that the manifest keeps";
/// Owns a claim's files where the manifest and the workload name no user.
const GROUP: i64 = 1000;

/// A volume with the mount that shows it in the dev container.
pub(super) struct Mounted {
    /// The volume; one that several mounts share is given once.
    pub(super) volume: Option<Value>,
    pub(super) mount: Value,
    pub(super) reason: &'static str,
    /// Whether an init container brings the image's files in.
    seeded: bool,
}

/// Returns everything that is mounted besides the agent's own.
pub(super) fn all(plan: &DevPlan) -> Result<Vec<Mounted>, PlanError> {
    let mut all = Vec::new();
    for (number, folder) in plan.scratch.iter().enumerate() {
        check_folder(folder)?;
        let name = format!("towline-scratch-{number}");
        all.push(Mounted {
            mount: json!({"name": name, "mountPath": folder}),
            volume: Some(json!({"name": name, "emptyDir": {}})),
            reason: SCRATCH_REASON,
            seeded: true,
        });
    }
    for (number, kept) in plan.storage.kept.iter().enumerate() {
        check_folder(&kept.path)?;
        let (volume, mount) = if let Some(claim) = &plan.storage.claim {
            let volume = json!({"name": CLAIM_VOLUME, "persistentVolumeClaim": {"claimName": claim}});
            let mount = json!({"name": CLAIM_VOLUME, "mountPath": kept.path, "subPath": kept.sub_path});
            ((number == 0).then_some(volume), mount)
        } else {
            let name = format!("{CLAIM_VOLUME}-{number}");
            let mount = json!({"name": name, "mountPath": kept.path});
            (Some(json!({"name": name, "emptyDir": {}})), mount)
        };
        all.push(Mounted { volume, mount, reason: KEPT_REASON, seeded: true });
    }
    for (number, external) in plan.storage.external.iter().enumerate() {
        check_folder(&external.path)?;
        let name = format!("towline-external-{number}");
        let mut mount = json!({"name": name, "mountPath": external.path});
        if let Some(sub_path) = &external.sub_path {
            mount["subPath"] = json!(sub_path);
        }
        all.push(Mounted {
            mount,
            volume: Some(json!({"name": name, "persistentVolumeClaim": {"claimName": external.claim}})),
            reason: "a volume claim that the manifest names",
            seeded: false,
        });
    }
    if let Some(secret) = &plan.storage.secret {
        let files: Vec<Value> = secret
            .files
            .iter()
            .map(|file| json!({"key": file.key, "path": file.key, "mode": file.mode}))
            .collect();
        let source = json!({"secretName": secret.name, "items": files});
        for (number, file) in secret.files.iter().enumerate() {
            check_folder(&file.path)?;
            all.push(Mounted {
                mount: json!({"name": SECRET_VOLUME, "mountPath": file.path, "subPath": file.key, "readOnly": true}),
                volume: (number == 0).then(|| json!({"name": SECRET_VOLUME, "secret": source})),
                reason: "a file of the manifest's secrets",
                seeded: false,
            });
        }
    }
    Ok(all)
}

/// Adds the init container that brings the agent out of its image, where it does not come in a ConfigMap.
pub(super) fn add_agent(
    pod: &mut Map<String, Value>,
    container: &Map<String, Value>,
    plan: &DevPlan,
    edits: &mut Edits,
) -> Result<(), PlanError> {
    let Some(image) = &plan.agent.image else { return Ok(()) };
    let mut init = json!({
        "name": AGENT_VOLUME,
        "image": image,
        "command": [towline_protocol::AGENT_PATH, "seed", towline_protocol::AGENT_MOUNT, SEED_MOUNT],
        "volumeMounts": [{"name": AGENT_VOLUME, "mountPath": SEED_MOUNT}],
    });
    for key in ["securityContext", "resources"] {
        if let Some(value) = container.get(key) {
            init[key] = value.clone();
        }
    }
    if let Some(resources) = &plan.init_resources {
        init["resources"] = resources.clone();
    }
    free_name(pod, "initContainers", AGENT_VOLUME)?;
    let reason = "brings the agent in from its image";
    edits.push(pod, POD, "initContainers", &format!("name={AGENT_VOLUME}"), init, reason)
}

/// Adds an init container for each folder that begins with the image's files: the dev container's image and user
/// copy them.
pub(super) fn add_seeds(
    pod: &mut Map<String, Value>,
    container: &Map<String, Value>,
    plan: &DevPlan,
    all: &[Mounted],
    edits: &mut Edits,
) -> Result<(), PlanError> {
    for (number, mounted) in all.iter().filter(|mounted| mounted.seeded).enumerate() {
        let name = if number == 0 { SEED.to_owned() } else { format!("{SEED}-{number}") };
        let mut inside = mounted.mount.clone();
        let folder = std::mem::replace(&mut inside["mountPath"], json!(SEED_MOUNT));
        let mut seed = json!({
            "name": name,
            "command": [towline_protocol::AGENT_PATH, "seed", folder, SEED_MOUNT],
            "volumeMounts": [agent_mount(), inside],
        });
        for key in ["image", "imagePullPolicy", "securityContext", "resources"] {
            if let Some(value) = container.get(key) {
                seed[key] = value.clone();
            }
        }
        if let Some(resources) = &plan.init_resources {
            seed["resources"] = resources.clone();
        }
        free_name(pod, "initContainers", &name)?;
        let reason = "fills the folder from the image";
        edits.push(pod, POD, "initContainers", &format!("name={name}"), seed, reason)?;
    }
    Ok(())
}

/// Marks the pod with what its files hold, so that other files make another pod.
pub(super) fn mark_secrets(
    metadata: &mut Map<String, Value>,
    plan: &DevPlan,
    edits: &mut Edits,
) -> Result<(), PlanError> {
    let Some(secret) = &plan.storage.secret else { return Ok(()) };
    let annotations = child(metadata, "spec.template.metadata", "annotations")?;
    let at = "spec.template.metadata.annotations";
    edits.set(annotations, at, SECRETS_ANNOTATION, json!(secret.digest), "other files make another pod");
    Ok(())
}

/// Lets a user who is not root write to the session's claim: a fresh volume belongs to root. Where the pod has other
/// claims nothing is set, since the kubelet would give their files to the group too, for good.
pub(super) fn edit_group(
    pod: &mut Map<String, Value>,
    container: &Map<String, Value>,
    plan: &DevPlan,
    edits: &mut Edits,
) -> Result<(), PlanError> {
    if plan.storage.claim.is_none() || !plan.storage.external.is_empty() {
        return Ok(());
    }
    let of = |map: &Map<String, Value>, key: &str| map.get("securityContext")?.get(key)?.as_i64();
    let has_claims = list(pod, POD, "volumes")?.iter().any(|volume| {
        let ours = text(volume, "/name") == Some(CLAIM_VOLUME);
        !ours && (volume.get("persistentVolumeClaim").is_some() || volume.get("ephemeral").is_some())
    });
    let user = of(container, "runAsUser").or_else(|| of(pod, "runAsUser"));
    if has_claims || user == Some(0) || of(pod, "fsGroup").is_some() {
        return Ok(());
    }
    let group = of(container, "runAsGroup").or_else(|| of(pod, "runAsGroup")).filter(|group| *group != 0);
    let group = group.or(user).unwrap_or(GROUP);
    let security = child(pod, POD, "securityContext")?;
    let at = format!("{POD}.securityContext");
    edits.set(security, &at, "fsGroup", json!(group), "lets the container's user write to the volume claim");
    Ok(())
}
