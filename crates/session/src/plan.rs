//! Everything that is found out before the first write: what would change, what stands in the way, and who else is
//! there. Reads and server-side dry runs only.

mod autocreate;
mod entry;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use serde_json::Value;
use towline_cluster::ClusterError;
use towline_cluster::port::{
    DEPLOYMENTS, LEASES, NAMESPACES, NODES, Object, PERSISTENT_VOLUME_CLAIMS, PODS, Patch, Selection,
    WriteOptions,
};
use towline_patcher::{AUTOCREATED_PORT, DevClone, FieldChange, Held, Record, Switch, Way, holder};

use crate::context::{AgentSource, Context};
use crate::controllers::truce::{self, Truce};
use crate::controllers::{self, Touch};
use crate::error::SessionError;
use crate::hybrid;
use crate::journal;
use crate::kinds::{self, Found};
use crate::obstacle::Obstacle;
use crate::own_command;
use crate::plan_view::{self, PlanView, RightView, Surroundings};
use crate::pod::text;
use crate::request::{Folder, UpRequest};
use crate::rights::{self, Rights};
use crate::storage;

pub(crate) use self::entry::record_of;

/// Looks at a workload that changes while it is looked at.
const ATTEMPTS: usize = 20;
/// Set on a namespace, as label or annotation, by those who don't want dev mode there.
pub(crate) const NOT_ALLOWED: &str = "dev.okteto.com/not-allowed";
/// Namespaces of a cluster's own parts.
const PROTECTED: &[&str] = &[
    "istio-system",
    "argocd",
    "flux-system",
    "cert-manager",
    "vault",
    "linkerd",
    "calico-system",
    "kyverno",
];

/// What `up` is about to do. Nothing has been written yet.
#[derive(Debug, Clone)]
pub struct UpPlan {
    /// The workload as read.
    pub original: Value,
    /// The clone that will be created; in place: the original as it will be.
    pub clone: DevClone,
    /// The record that undoes it.
    pub record: Record,
    /// The session that is there already and goes on, with its Lease as read.
    pub resumed: Option<(Value, Held)>,
    /// Who else has to do with the workload, and what is paused for the session.
    pub truce: Truce,
    /// What stands in the way. With any of it [`crate::up::up`] does not begin.
    pub obstacles: Vec<Obstacle>,
    /// What was read to show the plan.
    pub surroundings: Surroundings,
    /// What the user should know, a line each.
    pub notes: Vec<String>,
    /// The claim that will be created, or is there already.
    pub claim: Option<Value>,
    /// The request, with session and agent filled in.
    pub request: UpRequest,
}

impl UpPlan {
    /// Returns the changes to the pod template with a reason each.
    pub fn changes(&self) -> &[FieldChange] {
        &self.clone.changes
    }

    /// Returns everything that the session will do, as data.
    pub fn view(&self) -> PlanView {
        plan_view::of(self)
    }

    /// Returns the writes in their order, in words.
    pub fn writes(&self) -> Vec<String> {
        let record = &self.record;
        let lease = towline_patcher::lease_name(&record.kind, &record.name);
        let original = format!("{} {}", record.kind, record.name);
        let park = match record.switch() {
            Switch::Suspend => format!("suspend {original}"),
            Switch::Replicas | Switch::None => format!("scale {original} from {} to 0", record.replicas),
        };
        let clone = format!("create Deployment {}", record.clone);
        let mut writes = vec![format!("create Lease {lease} (the record that undoes it all)")];
        if self.request.plan.agent.image.is_none() {
            writes.push(format!("create ConfigMap {} (the agent)", record.config_map));
        }
        let pauses = self.truce.pauses.iter();
        writes.extend(pauses.map(|pause| format!("pause {} ({})", pause.target(), pause.words())));
        if record.claim_is_new
            && let Some(claim) = &record.claim
        {
            writes.push(format!("create PersistentVolumeClaim {claim} (stays when dev mode ends)"));
        }
        if let Some(secret) = &record.secret {
            writes.push(format!("create Secret {secret} (the files of the manifest's secrets)"));
        }
        if let Some(service) = &record.service {
            writes.push(format!("create Service {service} (port {AUTOCREATED_PORT} of the dev pod)"));
        }
        match &record.down_first {
            _ if record.autocreated => writes.push(format!("{clone}: there is no {original}")),
            _ if record.in_place.is_some() => writes.push(format!("change the pod template of {original}")),
            None if !record.parks() => writes.push(format!("{clone}; {original} goes on beside it")),
            Some(reason) => writes.extend([format!("{park} first: {reason}"), clone]),
            None if self.request.hybrid.is_some() => {
                writes.extend([clone, format!("{park}, once the command runs on this machine")]);
            }
            None => writes.extend([clone, format!("{park}, once the dev container is in sync and runs")]),
        }
        writes
    }
}

/// Reads, checks and asks the server; writes nothing.
pub async fn plan(context: &Context, request: UpRequest) -> Result<UpPlan, SessionError> {
    for _ in 1..ATTEMPTS {
        match plan_once(context, request.clone()).await {
            // Its status, or someone who was faster: a new look says which.
            Err(SessionError::Cluster(ClusterError::Conflict { .. })) => {}
            planned => return planned,
        }
    }
    plan_once(context, request).await
}

async fn plan_once(context: &Context, mut request: UpRequest) -> Result<UpPlan, SessionError> {
    let mut notes = Vec::new();
    namespace_allows(context).await?;
    if let Some(image) = request.plan.agent.image.take()
        && !may_carry_agent(context).await?
    {
        notes.push(format!("without the right to create ConfigMaps the agent comes out of {image}"));
        request.plan.agent.image = Some(image);
    }
    let mut rights = rights_suffice(context, &rights::of(&request), &mut notes).await?;
    storage::resolve_forwards(context, &mut request).await?;
    let found = match kinds::find(context, &request.workload, &mut notes).await {
        Err(error @ SessionError::WorkloadMissing { .. }) => {
            let name = autocreate::name(&request).ok_or(error)?;
            return autocreate::plan(context, &name, request, rights, notes).await;
        }
        found => found?,
    };
    let original = found.object.clone();
    if let Some(refusal) = towline_patcher::refusal(&original) {
        let hint = "put the workload that owns it into dev mode, or another one";
        return Err(entry::refused(&found, &refusal, hint));
    }
    let holder = holder(&original, request.plan.template.as_deref()).map_err(|refusal| {
        entry::refused(&found, &refusal, "say where it is in the manifest, as template: spec.podTemplate")
    })?;
    let resumed = existing(context, &found, request.takeover).await?;
    let way = entry::way(&found, &holder, &request, resumed.as_ref().map(|(_, held)| held))?;
    let mut all = rights::of(&request);
    let mut of_kind = rights::of_kind(found.resource, way);
    of_kind.retain(|right| !all.needed.contains(right));
    if !of_kind.is_empty() {
        all.useful.retain(|right| !of_kind.contains(right));
        all.needed.extend(of_kind);
        rights = rights_suffice(context, &all, &mut Vec::new()).await?;
    }

    request.plan.session = match &resumed {
        Some((_, held)) => held.record.session.clone(),
        None => random_name(),
    };
    request.plan.agent.config_map = request.agent.config_map_name();
    "agent".clone_into(&mut request.plan.agent.key);
    request.plan.claims = claims(context, &original, &holder.template).await;
    request.plan.arch_selector = architecture(context, &request.agent, &mut notes).await?;
    let view = kinds::with_template(context, &found).await?;
    let (claim, claim_is_new) = store(context, &view, &holder.template, &mut request, &mut notes).await?;
    hybrid::complete(context, &mut request, &view, &holder.template, &mut notes).await?;
    request.plan.scratch = read_only_folders(&view, &holder.template, &request);
    let mut obstacles = Vec::new();
    let (clone, mut record, base) = match way {
        Way::Swap => {
            let clone = towline_patcher::clone_of(&view, &request.plan)?;
            let record = record_of(&found, &request.plan, &clone)?;
            let goes_on = resumed.as_ref().is_some_and(|(_, held)| held.record.is_of(&clone));
            if !goes_on {
                dry_run(context, &original, &clone, &record, &mut notes, &mut obstacles).await?;
            }
            if !record.parks() {
                let name = found.name();
                notes.push(format!("{name} goes on beside the dev container, which takes nothing from it"));
            }
            (clone, record, view)
        }
        Way::InPlace => {
            let held = resumed.as_ref().map(|(_, held)| held);
            entry::in_place(context, &found, &request.plan, held, &mut notes, &mut obstacles).await?
        }
    };
    record.claim_is_new = claim_is_new;
    record.main.clone_from(&request.main);
    if request.command.is_empty() {
        let container = container(&base, &holder.template, request.plan.container.as_deref());
        let own = container.map_or_else(|| Err("it has no such container".to_owned()), own_command::of);
        request.command = own.map_err(|why| SessionError::Refused {
            what: found.name(),
            why,
            hint: format!("say in the manifest what {} runs: command", request.plan.dev_name),
        })?;
    }
    notes.extend(mounts_in_folders(&clone, &record, &request));
    let session = resumed.as_ref().map(|(_, held)| held.record.session.as_str());
    let touch = if way == Way::InPlace { Touch::Template } else { Touch::Replicas };
    let findings = controllers::look(context, &original, touch, session).await?;
    let truce = truce::settle(context, findings, request.gitops, &mut obstacles).await?;
    let surroundings = Surroundings::read(context, rights).await;
    Ok(UpPlan { original, clone, record, resumed, truce, obstacles, surroundings, notes, claim, request })
}

/// Decides what is kept and where. Returns the claim, and whether it is yet to be made.
async fn store(
    context: &Context,
    original: &Value,
    template: &str,
    request: &mut UpRequest,
    notes: &mut Vec<String>,
) -> Result<(Option<Value>, bool), SessionError> {
    let plan = &mut request.plan;
    plan.storage.secret = storage::secret_volume(&plan.session, &request.secrets);
    if let Some(container) = container(original, template, plan.container.as_deref()) {
        // A synced folder that lies in a volume of the workload's own is kept there.
        let synced = |path: &str| request.folders.iter().any(|folder| folder.remote == path);
        plan.storage.kept.retain(|kept| !(synced(&kept.path) && is_mounted(container, &kept.path)));
    }
    let Some(claim) = &request.claim else {
        storage::explain_exclusive(context, request, original, notes).await;
        return Ok((None, false));
    };
    let name = towline_patcher::claim_name(&text(original, "/metadata/name"));
    let claim = storage::claim_object(claim, &name, &plan.dev_name);
    plan.storage.claim = Some(name);
    let is_there = storage::look_at_claim(context, &claim, notes).await?;
    storage::explain_exclusive(context, request, original, notes).await;
    Ok((Some(claim), !is_there))
}

/// Returns where the dev pod's template is in what is sent: a clone is a Deployment.
pub(crate) fn template_of(record: &Record) -> &str {
    if record.in_place.is_some() { record.template() } else { "/spec/template" }
}

/// Says which parts of the synced folders are volumes, and so not synced.
fn mounts_in_folders(clone: &DevClone, record: &Record, request: &UpRequest) -> Vec<String> {
    let of = |folder: &Folder| {
        crate::up::mounts_below(clone, template_of(record), &record.container, &folder.remote)
    };
    let note = |folder: &Folder, mount| format!("{}/{mount} is a volume: it is not synced", folder.remote);
    let folders = request.folders.iter();
    folders.flat_map(|folder| of(folder).into_iter().map(move |mount| note(folder, mount))).collect()
}

/// Returns the synced folders that a read-only root file system would keep from being written.
fn read_only_folders(original: &Value, template: &str, request: &UpRequest) -> Vec<String> {
    let Some(container) = container(original, template, request.plan.container.as_deref()) else {
        return Vec::new();
    };
    let field = "readOnlyRootFilesystem";
    let planned = request.plan.security_context.as_ref().and_then(|context| context.get(field));
    let read_only = planned.or_else(|| container.get("securityContext")?.get(field)).and_then(Value::as_bool);
    if read_only != Some(true) {
        return Vec::new();
    }
    let remotes = request.folders.iter().map(|folder| folder.remote.clone());
    let kept = |remote: &str| request.plan.storage.keeps(remote);
    remotes.filter(|remote| !is_mounted(container, remote) && !kept(remote)).collect()
}

/// Returns a container by name, or the first, of a workload whose template is at a JSON pointer.
pub(crate) fn container<'v>(workload: &'v Value, template: &str, name: Option<&str>) -> Option<&'v Value> {
    let containers = workload.pointer(&format!("{template}/spec/containers"))?.as_array()?;
    match name {
        Some(name) => containers.iter().find(|container| text(container, "/name") == name),
        None => containers.first(),
    }
}

/// Tells whether a folder lies in a volume of the container's.
pub(crate) fn is_mounted(container: &Value, folder: &str) -> bool {
    let mounts = container.get("volumeMounts").and_then(Value::as_array);
    mounts.into_iter().flatten().any(|mount| {
        let path = text(mount, "/mountPath");
        let rest = folder.strip_prefix(path.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Tells whether a namespace is for the cluster's own parts.
pub(crate) fn is_protected(namespace: &str) -> bool {
    namespace.starts_with("kube-") || PROTECTED.contains(&namespace)
}

async fn namespace_allows(context: &Context) -> Result<(), SessionError> {
    let namespace = &context.namespace;
    let refuse = |why: &str, hint: &str| SessionError::Refused {
        what: format!("namespace {namespace}"),
        why: why.to_owned(),
        hint: hint.to_owned(),
    };
    if is_protected(namespace) {
        return Err(refuse("the cluster's own parts run there", "choose another namespace with -n"));
    }
    let object = match context.cluster.get(&Object::new(NAMESPACES, "", namespace)).await {
        Ok(object) => object,
        // Without the right to read it, the server's answers to everything else decide.
        Err(ClusterError::Forbidden { .. }) => return Ok(()),
        Err(ClusterError::NotFound { .. }) => {
            return Err(refuse(
                "it does not exist",
                "choose one with -n, or create it: kubectl create namespace",
            ));
        }
        Err(error) => return Err(error.into()),
    };
    let marked = ["/metadata/labels", "/metadata/annotations"]
        .iter()
        .filter_map(|map| object.pointer(map)?.get(NOT_ALLOWED)?.as_str())
        .any(|value| value != "false");
    if marked {
        let why = format!("it carries {NOT_ALLOWED}: its owners do not want dev mode there");
        return Err(refuse(&why, "ask them, or choose another namespace with -n"));
    }
    if text(&object, "/status/phase") == "Terminating" {
        return Err(refuse("it is being deleted", "choose another namespace with -n"));
    }
    Ok(())
}

/// Returns for each right, those that are needed first, whether we have it.
async fn rights_suffice(
    context: &Context,
    rights: &Rights,
    notes: &mut Vec<String>,
) -> Result<Vec<RightView>, SessionError> {
    let asked: Vec<_> = rights.all().cloned().collect();
    let answers = context.cluster.can(&context.namespace, &asked).await?;
    let (needed, useful) = answers.split_at(rights.needed.len().min(answers.len()));
    let missing: Vec<_> =
        rights.needed.iter().zip(needed).filter(|(_, has)| !**has).map(|(right, _)| right.clone()).collect();
    if !missing.is_empty() {
        let namespace = context.namespace.clone();
        let role = rights.role(&namespace);
        return Err(SessionError::RightsMissing { namespace, missing, role });
    }
    for (right, has) in rights.useful.iter().zip(useful) {
        if !has {
            let words = rights::words(right);
            notes.push(format!("without the right to {words}, what needs it is left out"));
        }
    }
    Ok(plan_view::rights_of(rights, &answers))
}

/// Tells whether the agent may be put into a ConfigMap.
async fn may_carry_agent(context: &Context) -> Result<bool, ClusterError> {
    let asked = [rights::CARRY_AGENT.clone()];
    Ok(context.cluster.can(&context.namespace, &asked).await? == [true])
}

/// Returns the session that holds the workload, when it is ours to go on with.
async fn existing(
    context: &Context,
    found: &Found,
    takeover: bool,
) -> Result<Option<(Value, Held)>, SessionError> {
    let workload = text(&found.object, "/metadata/name");
    let name = towline_patcher::lease_name(found.resource.kind, &workload);
    let lease = match context.cluster.get(&Object::new(LEASES, &context.namespace, name)).await {
        Ok(lease) => lease,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let held = journal::read(&lease)?;
    if held.record.uid != text(&found.object, "/metadata/uid") {
        return Err(SessionError::Refused {
            what: found.name(),
            why: "it was created anew while a session of the old one is on record".to_owned(),
            hint: format!("end that session first: towline down {workload}"),
        });
    }
    let mine = journal::person(&held.holder) == context.holder;
    let busy =
        mine && journal::is_alive(&held) && crate::state_file::live_process(context, &held.record).is_some();
    if (mine && !busy) || takeover {
        return Ok(Some((lease, held)));
    }
    Err(journal::held_error(&held))
}

/// Returns the access modes of the claims that the workload mounts, as far as they can be read.
async fn claims(context: &Context, original: &Value, template: &str) -> BTreeMap<String, Vec<String>> {
    let mut claims = BTreeMap::new();
    let volumes = original.pointer(&format!("{template}/spec/volumes")).and_then(Value::as_array);
    for volume in volumes.into_iter().flatten() {
        let claim = text(volume, "/persistentVolumeClaim/claimName");
        if claim.is_empty() {
            continue;
        }
        let object = Object::new(PERSISTENT_VOLUME_CLAIMS, &context.namespace, &claim);
        if let Ok(found) = context.cluster.get(&object).await {
            let modes = found.pointer("/spec/accessModes").and_then(Value::as_array);
            let modes = modes.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
            claims.insert(claim, modes);
        }
    }
    claims
}

/// Returns the node label to select by, when not every node is known to run the agent's architecture.
async fn architecture(
    context: &Context,
    agent: &AgentSource,
    notes: &mut Vec<String>,
) -> Result<Option<String>, SessionError> {
    let AgentSource::Binary { architecture, .. } = agent else { return Ok(None) };
    let machines = match context.cluster.list(NODES, None, &Selection::default()).await {
        Ok(machines) => machines,
        Err(ClusterError::Forbidden { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let all = machines.iter().all(|node| &text(node, "/status/nodeInfo/architecture") == architecture);
    if all && !machines.is_empty() {
        return Ok(None);
    }
    notes.push(format!("the dev pod runs on {architecture} nodes only: that is what its agent is built for"));
    Ok(Some(architecture.clone()))
}

/// Asks the server to do everything but store it. A Deployment that violates Pod Security or a quota is accepted and
/// only its pods are refused, so the pod is asked about first. What the server denies is an obstacle.
async fn dry_run(
    context: &Context,
    original: &Value,
    clone: &DevClone,
    record: &Record,
    notes: &mut Vec<String>,
    obstacles: &mut Vec<Obstacle>,
) -> Result<(), SessionError> {
    let options = WriteOptions { dry_run: true };
    let pod = towline_patcher::pod_of(&clone.object);
    dry_run_pod(context, &pod, record.down_first.is_none(), notes, obstacles).await?;
    match context.cluster.create(DEPLOYMENTS, &context.namespace, &clone.object, &options).await {
        Ok(stored) => no_drift(&format!("Deployment {}", record.clone), &clone.object, &stored)?,
        // The session's own, which this one replaces; what is stored is compared once more then.
        Err(ClusterError::AlreadyExists { .. }) => {}
        Err(error) => obstacles.push(Obstacle::of(&error).ok_or(error)?),
    }
    if record.parks() {
        let park = Patch::Merge(towline_patcher::park(original, record));
        let object = crate::original::object(context, record);
        if let Err(error) = context.cluster.patch(&object, &park, &options).await {
            obstacles.push(Obstacle::of(&error).ok_or(error)?);
        }
    }
    Ok(())
}

/// Asks the server for the pod that a controller will make. `beside` says that it comes on top of the original's: else
/// room in a quota comes with their going.
async fn dry_run_pod(
    context: &Context,
    pod: &Value,
    beside: bool,
    notes: &mut Vec<String>,
    obstacles: &mut Vec<Obstacle>,
) -> Result<(), SessionError> {
    let options = WriteOptions { dry_run: true };
    match context.cluster.create(PODS, &context.namespace, pod, &options).await {
        Ok(_) => {}
        Err(ClusterError::Forbidden { message, .. })
            if message.contains("cannot create resource \"pods\"") =>
        {
            notes.push(
                "without the right to create pods, what refuses the dev pod shows only later".to_owned(),
            );
        }
        Err(ClusterError::Forbidden { message, .. }) if !beside && message.contains("exceeded quota") => {}
        Err(error) => obstacles.push(Obstacle::of(&error).ok_or(error)?),
    }
    Ok(())
}

/// Fails when admission took away or changed what we set.
pub(crate) fn no_drift(object: &str, sent: &Value, stored: &Value) -> Result<(), SessionError> {
    let drifts = towline_patcher::read_back(sent, stored);
    if drifts.is_empty() {
        return Ok(());
    }
    let drifts = drifts
        .iter()
        .map(|drift| match &drift.found {
            Some(found) => format!("{} is {found} instead of {}", drift.path, drift.wanted),
            None => format!("{} was removed", drift.path),
        })
        .collect();
    Err(SessionError::Drifted { object: object.to_owned(), drifts })
}

/// Makes a session's id or a holder's: 50 random bits as ten characters of lower-case base32.
pub(crate) fn random_name() -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut bits = RandomState::new().build_hasher().finish();
    (0..10)
        .map(|_| {
            let character = ALPHABET[(bits & 31) as usize];
            bits >>= 5;
            char::from(character)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_folder_is_mounted_with_what_lies_above_it() {
        let container = json!({"volumeMounts": [{"mountPath": "/data/"}, {"mountPath": "/app/cache"}]});
        for (folder, mounted) in
            [("/data", true), ("/data/x", true), ("/database", false), ("/app", false), ("/app/cache", true)]
        {
            assert_eq!(is_mounted(&container, folder), mounted, "{folder}");
        }
    }

    #[test]
    fn session_ids_are_short_and_differ() {
        let ids: std::collections::BTreeSet<String> = (0..100).map(|_| random_name()).collect();
        assert_eq!(ids.len(), 100);
        assert!(ids.iter().all(|id| id.len() == 10 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())));
    }
}
