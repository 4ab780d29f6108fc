//! The record that undoes a session: a disk type, kept as JSON in an annotation of the session's Lease.
//!
//! The Lease is lock and write-ahead journal in one object: creating it is taking the lock, and what it says is
//! written before the write that it describes. It holds names, numbers and hashes: no environment, no part of a spec.
//! The format changes only with [`VERSION`]; an unknown version or field is an error, never a guess.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::field_owners::{self, Owner};
use crate::holder::{SPEC_TEMPLATE, Switch, group, holder};
use crate::in_place::InPlace;
use crate::names::{
    HOW_TO_UNDO_ANNOTATION, JOURNAL_ANNOTATION, MANAGED_BY, MANAGED_BY_LABEL, SESSION_LABEL, cut,
    is_label_value, is_name, is_session, labels, lease_name,
};
use crate::patch::DevClone;
use crate::pause::Pause;
use crate::plan::{DevPlan, PlanError};
use crate::workload::{digest, items, template_hash, text};

/// The version of the journal's format that is written.
const VERSION: u32 = 2;
/// The versions that are read; what the second brought may be missing.
const READ: std::ops::RangeInclusive<u64> = 1..=2;
/// The API version of most workloads; the record of one is silent about it.
const APPS: &str = "apps/v1";
/// The longest journal, in bytes.
pub const MAX_JOURNAL_BYTES: usize = 16 * 1024;
/// What the owners may take of the journal, in bytes; more than some forty co-owners are cut.
const MAX_OWNERS_BYTES: usize = 8 * 1024;
/// How often, within [`RE_PARK_SECONDS`], the original is scaled down again after somebody scaled it up.
const MAX_RE_PARKS: usize = 3;
/// The time in which [`MAX_RE_PARKS`] are counted, in seconds.
const RE_PARK_SECONDS: i64 = 600;

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The Lease is there; the original is untouched.
    Prepared,
    /// The original is about to be scaled down, or is already.
    Scaling,
    /// Dev mode is on.
    Dev,
    /// The way back has begun.
    Restoring,
}

/// Everything that the way back needs, for anyone and from any machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and a field of a format on disk"
)]
pub struct Record {
    #[serde(rename = "v")]
    version: u32,
    /// The session's id.
    pub session: String,
    /// The name of the dev service in the manifest.
    pub dev_name: String,
    /// The dev service that this one belongs to: its `up` began this session, and its `down` ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main: Option<String>,
    /// The original's API version.
    #[serde(default = "apps", skip_serializing_if = "is_apps")]
    pub api_version: String,
    /// The original's kind.
    pub kind: String,
    /// The plural of a kind that is not one of Kubernetes' own, as paths have it; else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub plural: String,
    /// Where the pod template is in such a kind, as a JSON pointer; else empty.
    #[serde(default, rename = "template", skip_serializing_if = "String::is_empty")]
    own_template: String,
    /// The original's namespace.
    pub namespace: String,
    /// The original's name.
    pub name: String,
    /// The original's uid: another object of that name is not ours to change.
    pub uid: String,
    /// How far the session has come.
    pub phase: Phase,
    /// Whether a write to the original may have taken place.
    pub parked: bool,
    /// The original's replicas before the last write of ours; of a kind that is suspended instead, 1 if it was not.
    pub replicas: i64,
    /// Whether the number was not said in the original, and is to be unsaid again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsaid: bool,
    /// The original's generation then.
    pub generation: i64,
    /// Who owned the field then.
    pub owners: Vec<Owner>,
    /// The hash of the original's pod template when the clone was made, see [`template_hash`].
    pub template_hash: String,
    /// The clone's name; empty where the original's own template is changed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub clone: String,
    /// The hash of the clone's spec as sent: a session that goes on knows whether its clone is the one it wants.
    pub clone_spec_hash: String,
    /// The container that is the dev container.
    pub container: String,
    /// The ConfigMap that holds the agent.
    pub config_map: String,
    /// Why the original's pods had to go first; then the clone goes first on the way back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_first: Option<String>,
    /// When the original was scaled down again, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub re_parks: Vec<i64>,
    /// The controllers that are paused, or are about to be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<Pause>,
    /// The claim of ours that the clone mounts; it stays when the session ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// Whether this session made the claim: one that never was ready takes it along.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub claim_is_new: bool,
    /// The Secret of ours with the user's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Whether there was no original: the clone was made of the manifest alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub autocreated: bool,
    /// The Service of ours that leads to such a clone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// What was changed in the original's own template; absent where a clone runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place: Option<InPlace>,
    /// The version of the tool that wrote this.
    pub tool: String,
}

fn apps() -> String {
    APPS.to_owned()
}

fn is_apps(api_version: &str) -> bool {
    api_version == APPS
}

/// Why a Lease is no record of ours. What it says is not acted upon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It has no journal.
    #[error("lease {lease} has no annotation {JOURNAL_ANNOTATION}: it is no lease of towline's")]
    NoJournal {
        /// The Lease.
        lease: String,
    },
    /// The journal is too long to be ours.
    #[error("the journal of lease {lease} has {bytes} bytes, more than {MAX_JOURNAL_BYTES}")]
    TooLong {
        /// The Lease.
        lease: String,
        /// Its length.
        bytes: usize,
    },
    /// Another version of the tool wrote it.
    #[error(
        "the journal of lease {lease} has version {found}, this tool reads up to {VERSION}: use the tool that wrote it"
    )]
    Version {
        /// The Lease.
        lease: String,
        /// As found.
        found: String,
    },
    /// It is not what we write.
    #[error("the journal of lease {lease} cannot be read: {message}")]
    Malformed {
        /// The Lease.
        lease: String,
        /// What is wrong with it.
        message: String,
    },
}

/// A Lease as found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The journal.
    pub record: Record,
    /// Who holds it, made safe for a terminal.
    pub holder: String,
    /// When it was taken, as written (RFC 3339).
    pub acquire_time: Option<String>,
    /// When the holder last said that it is alive, as written (RFC 3339).
    pub renew_time: Option<String>,
    /// How long after that it counts as alive, in seconds.
    pub duration_seconds: u32,
    /// The Lease's name.
    pub name: String,
    /// The Lease's version, for the next write.
    pub resource_version: String,
    /// The Lease's uid, for its deletion.
    pub uid: String,
}

impl Record {
    /// Begins the record of a session on a live workload: nothing has been written yet.
    pub fn new(original: &Value, plan: &DevPlan, clone: &DevClone, tool: &str) -> Result<Self, PlanError> {
        let part = |pointer: &str| -> Result<String, PlanError> {
            text(original, pointer).map(str::to_owned).ok_or_else(|| PlanError::Malformed {
                path: pointer[1..].replace('/', "."),
                wanted: "a string",
            })
        };
        let containers = match text(&clone.object, "/kind") {
            Some("Deployment") => "/spec/template/spec/containers".to_owned(),
            _ => format!("{}/spec/containers", holder(original, plan.template.as_deref())?.template),
        };
        let first = items(&clone.object, &containers).first();
        let first = first.and_then(|container| text(container, "/name")).unwrap_or_default();
        let found = holder(original, plan.template.as_deref())?;
        let in_place = text(&clone.object, "/metadata/uid") == text(original, "/metadata/uid");
        let name_of_clone =
            if in_place { "" } else { text(&clone.object, "/metadata/name").unwrap_or_default() };
        let mut record = Self {
            version: VERSION,
            session: plan.session.clone(),
            dev_name: plan.dev_name.clone(),
            main: None,
            api_version: part("/apiVersion")?,
            kind: part("/kind")?,
            plural: String::new(),
            own_template: plan.template.as_ref().map_or_else(String::new, |_| found.template.clone()),
            namespace: part("/metadata/namespace")?,
            name: part("/metadata/name")?,
            uid: part("/metadata/uid")?,
            phase: Phase::Prepared,
            parked: false,
            replicas: 0,
            unsaid: false,
            generation: 0,
            owners: Vec::new(),
            template_hash: template_hash(original, &found.template),
            clone: name_of_clone.to_owned(),
            clone_spec_hash: Self::hash_of_spec(&plan.session, &clone.object),
            container: plan.container.clone().unwrap_or_else(|| first.to_owned()),
            config_map: plan.agent.config_map.clone(),
            down_first: clone.down_first.clone(),
            re_parks: Vec::new(),
            pauses: Vec::new(),
            claim: plan.storage.claim.clone(),
            claim_is_new: false,
            secret: plan.storage.secret.as_ref().map(|secret| secret.name.clone()),
            autocreated: false,
            service: None,
            in_place: in_place.then(InPlace::default),
            tool: tool.to_owned(),
        };
        record.read(original);
        Ok(record)
    }

    /// Takes over what the original has now; to be stored just before [`crate::park`] of the same read.
    ///
    /// At zero there is nothing to take if an earlier write of ours may have made it so. Owners stay while the
    /// number stays: a write of ours took the field from them, and one of them may have taken it back alone.
    pub fn observe(&mut self, original: &Value) {
        let live = self.level(original);
        if !(self.parked && live == 0) {
            let before = if self.parked && live == self.replicas {
                std::mem::take(&mut self.owners)
            } else {
                Vec::new()
            };
            self.read(original);
            for owner in before {
                if !self.owners.iter().any(|known| known.is(&owner)) {
                    self.owners.push(owner);
                }
            }
            self.bound_owners();
        }
        self.parked = true;
        self.phase = Phase::Scaling;
    }

    /// Takes up who owns our zero beside us: appliers that apply whatever number is live (Argo CD does, where
    /// replicas are ignored). Scaling up again takes it from them too. Tells whether there was anything to take
    /// up; then this is to be stored before [`crate::restore`]'s patch is sent.
    pub fn join_owners(&mut self, original: &Value) -> bool {
        let live = field_owners::of_field(original, self.switch().field());
        if !self.parked || self.level(original) != 0 || !live.iter().any(Owner::is_towline) {
            return false;
        }
        let before = self.owners.clone();
        for owner in live.into_iter().filter(|owner| !owner.is_towline()) {
            match self.owners.iter_mut().find(|known| known.is(&owner)) {
                Some(known) => *known = owner,
                None => self.owners.push(owner),
            }
        }
        self.bound_owners();
        self.owners != before
    }

    /// Tells whether a state of the original is not newer than the one that our last write to it was made from. Once
    /// that write has succeeded, such late news of replicas is not of somebody who brought them back.
    pub fn is_past(&self, original: &Value) -> bool {
        let generation = original.pointer("/metadata/generation").and_then(Value::as_i64);
        self.parked && generation.is_some_and(|generation| generation <= self.generation)
    }

    /// Tells whether the original may be scaled down again at `now` (seconds since 1970): at most three times in ten
    /// minutes, since nobody wins a fight with a controller.
    pub fn may_re_park(&self, now: i64) -> bool {
        self.re_parks.iter().filter(|&&then| now.saturating_sub(then) < RE_PARK_SECONDS).count()
            < MAX_RE_PARKS
    }

    /// Remembers that the original is scaled down again at `now`; to be stored before it is.
    pub fn re_parked(&mut self, now: i64) {
        self.re_parks.push(now);
        let extra = self.re_parks.len().saturating_sub(MAX_RE_PARKS);
        self.re_parks.drain(..extra);
    }

    /// Remembers that a controller is about to be paused; to be stored before it is.
    pub fn remember_pause(&mut self, pause: Pause) {
        self.pauses.retain(|known| !known.is_of(&pause));
        self.pauses.push(pause);
    }

    /// Returns what turns the original off.
    pub fn switch(&self) -> Switch {
        Switch::of(&self.api_version, &self.kind)
    }

    /// Returns how much of the original runs: its replicas, or whether it is not suspended.
    pub fn level(&self, original: &Value) -> i64 {
        self.switch().live(original)
    }

    /// Tells whether the original is to be turned off while the session lasts.
    pub fn parks(&self) -> bool {
        self.in_place.is_none() && !self.autocreated && self.switch() != Switch::None
    }

    /// Returns where the original's pod template is, as a JSON pointer.
    pub fn template(&self) -> &str {
        match (self.own_template.as_str(), self.kind.as_str()) {
            ("", "CronJob") => "/spec/jobTemplate/spec/template",
            ("", "Pod") => "",
            ("", _) => SPEC_TEMPLATE,
            (own, _) => own,
        }
    }

    /// Tells whether a clone that is there is the one that was sent: then a session can go on with it.
    pub fn is_of(&self, clone: &DevClone) -> bool {
        self.clone_spec_hash == Self::hash_of_spec(&self.session, &clone.object)
    }

    /// Returns the metadata of an object that the session makes beside the clone: it belongs to the session's Lease, and
    /// so goes even where nobody deletes it.
    pub fn metadata(&self, name: &str, lease: &str, lease_uid: Option<&str>) -> Value {
        json!({
            "name": name,
            "namespace": self.namespace,
            "labels": labels(&self.session, &self.dev_name),
            "ownerReferences": [{
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "name": lease, "uid": lease_uid,
                "controller": false, "blockOwnerDeletion": false,
            }],
        })
    }

    /// Tells whether an object was made by this session. A name in a record is no proof: ask before deleting.
    pub fn made(&self, object: &Value) -> bool {
        let label = |key: &str| object.pointer("/metadata/labels")?.get(key)?.as_str();
        label(MANAGED_BY_LABEL) == Some(MANAGED_BY) && label(SESSION_LABEL) == Some(&self.session)
    }

    fn hash_of_spec(session: &str, clone: &Value) -> String {
        digest(session, clone.get("spec").unwrap_or(&Value::Null))
    }

    fn read(&mut self, original: &Value) {
        let field = self.switch().field();
        self.replicas = self.level(original);
        self.unsaid = original.get("spec").is_some_and(|spec| spec.get(field).is_none_or(Value::is_null));
        self.generation = original.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
        self.owners = field_owners::of_field(original, field);
        self.owners.retain(|owner| !owner.is_towline());
        self.bound_owners();
    }

    fn bound_owners(&mut self) {
        let mut bytes = 0;
        self.owners.retain(|owner| {
            bytes += json!(owner).to_string().len();
            bytes <= MAX_OWNERS_BYTES
        });
    }

    /// Says what can't be true of a record that we wrote.
    fn fault(&self) -> Option<&'static str> {
        let version = READ.contains(&u64::from(self.version));
        [
            (version, "version"),
            (is_session(&self.session), "session is no session id"),
            (is_label_value(&self.dev_name), "devName is no label value"),
            (self.main.as_deref().is_none_or(is_label_value), "main is no label value"),
            (is_kind(&self.kind), "kind is no kind"),
            (is_api_version(&self.api_version), "apiVersion is no version of an API"),
            (self.plural.is_empty() || is_name(&self.plural), "plural is no name"),
            (
                self.own_template.is_empty() || self.own_template.starts_with("/spec/"),
                "template leads out of the spec",
            ),
            (is_name(&self.namespace), "namespace is no name"),
            (is_name(&self.name), "name is no name"),
            (
                if self.in_place.is_some() { self.clone.is_empty() } else { is_name(&self.clone) },
                "clone is no name",
            ),
            (
                self.in_place.as_ref().is_none_or(|in_place| in_place.is_sound(self.template())),
                "inPlace has a field that no session changes",
            ),
            (self.clone != self.name, "clone is the original"),
            (is_name(&self.config_map), "configMap is no name"),
            (is_name(&self.container), "container is no name"),
            (self.claim.as_deref().is_none_or(is_name), "claim is no name"),
            (self.secret.as_deref().is_none_or(is_name), "secret is no name"),
            (self.service.as_deref().is_none_or(is_name), "service is no name"),
            (!self.uid.is_empty(), "uid is empty"),
            ((0..=i64::from(i32::MAX)).contains(&self.replicas), "replicas is out of range"),
            (self.pauses.iter().all(Pause::is_plain), "a pause is none of ours"),
            (self.owners.iter().all(Owner::is_known), "operation of an owner is neither Apply nor Update"),
        ]
        .into_iter()
        .find_map(|(holds, fault)| (!holds).then_some(fault))
    }
}

/// Returns a new Lease that holds a record: what is to be created before anything else.
///
/// `holder` says who and from where, `now` is RFC 3339 with microseconds, the duration is in seconds.
pub fn lease(name: &str, record: &Record, holder: &str, now: &str, duration_seconds: u32) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "namespace": record.namespace,
            "labels": labels(&record.session, &record.dev_name),
            "annotations": {
                (JOURNAL_ANNOTATION): journal(record),
                (HOW_TO_UNDO_ANNOTATION): how_to_undo(record),
            },
        },
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": duration_seconds,
            "acquireTime": now,
            "renewTime": now,
        },
    })
}

/// Returns the Lease as read with the time of its renewal: to be put back under its `resourceVersion`.
pub fn renew(lease: &Value, now: &str) -> Value {
    let mut lease = lease.clone();
    put(&mut lease, &["spec", "renewTime"], json!(now));
    lease
}

/// Returns the Lease as read with another state of its record: to be put back under its `resourceVersion`.
pub fn rewrite(lease: &Value, record: &Record) -> Value {
    let mut lease = lease.clone();
    put(&mut lease, &["metadata", "annotations", JOURNAL_ANNOTATION], json!(journal(record)));
    put(&mut lease, &["metadata", "annotations", HOW_TO_UNDO_ANNOTATION], json!(how_to_undo(record)));
    lease
}

/// Returns the Lease as read with another holder: to be put back under its `resourceVersion`.
pub fn take_over(lease: &Value, holder: &str, now: &str, duration_seconds: u32) -> Value {
    let mut lease = renew(lease, now);
    let transitions = lease.pointer("/spec/leaseTransitions").and_then(Value::as_i64).unwrap_or(0);
    put(&mut lease, &["spec", "acquireTime"], json!(now));
    put(&mut lease, &["spec", "holderIdentity"], json!(holder));
    put(&mut lease, &["spec", "leaseDurationSeconds"], json!(duration_seconds));
    put(&mut lease, &["spec", "leaseTransitions"], json!(transitions.saturating_add(1)));
    lease
}

/// Reads a Lease. Anyone with the right to write Leases may have written it, so all of it is checked.
pub fn hold(lease: &Value) -> Result<Held, RecordError> {
    let part = |pointer| text(lease, pointer).unwrap_or_default().to_owned();
    let name = harmless(&part("/metadata/name"), 253);
    let journal = lease
        .pointer("/metadata/annotations")
        .and_then(|annotations| annotations.get(JOURNAL_ANNOTATION)?.as_str())
        .ok_or_else(|| RecordError::NoJournal { lease: name.clone() })?;
    if journal.len() > MAX_JOURNAL_BYTES {
        return Err(RecordError::TooLong { lease: name, bytes: journal.len() });
    }
    let malformed =
        |message: &str| RecordError::Malformed { lease: name.clone(), message: harmless(message, 200) };
    let journal: Value = serde_json::from_str(journal).map_err(|error| malformed(&error.to_string()))?;
    match journal.get("v") {
        Some(version) if version.as_u64().is_some_and(|version| READ.contains(&version)) => {}
        Some(version) => {
            return Err(RecordError::Version { lease: name, found: harmless(&version.to_string(), 20) });
        }
        None => return Err(malformed("it has no version")),
    }
    let mut record: Record =
        serde_json::from_value(journal).map_err(|error| malformed(&error.to_string()))?;
    if let Some(fault) = record.fault() {
        return Err(malformed(fault));
    }
    // What is written next is in the words of this version.
    record.version = VERSION;
    if name != lease_name(&record.kind, &record.name) || part("/metadata/namespace") != record.namespace {
        return Err(malformed("it is about another workload"));
    }
    let seconds = lease.pointer("/spec/leaseDurationSeconds").and_then(Value::as_u64).unwrap_or(0);
    let time = |pointer| text(lease, pointer).map(|time| harmless(time, 64));
    Ok(Held {
        record,
        holder: harmless(&part("/spec/holderIdentity"), 256),
        acquire_time: time("/spec/acquireTime"),
        renew_time: time("/spec/renewTime"),
        duration_seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
        name,
        resource_version: part("/metadata/resourceVersion"),
        uid: part("/metadata/uid"),
    })
}

/// Returns the way back without Towline, as commands for a shell.
pub fn how_to_undo(record: &Record) -> String {
    let Record { namespace, name, clone, session, replicas, pauses, .. } = record;
    let kind = match group(&record.api_version) {
        "" | "apps" | "batch" => record.kind.to_ascii_lowercase(),
        group => format!("{}.{group}", record.kind.to_ascii_lowercase()),
    };
    let scale = match record.switch() {
        Switch::Suspend => {
            format!("kubectl -n {namespace} patch {kind} {name} -p '{{\"spec\":{{\"suspend\":false}}}}'")
        }
        Switch::Replicas | Switch::None => {
            format!("kubectl -n {namespace} scale {kind} {name} --replicas={replicas}")
        }
    };
    let delete = match record.in_place {
        Some(_) => format!("kubectl -n {namespace} rollout undo {kind} {name}"),
        None => format!("kubectl -n {namespace} delete deployment {clone} --ignore-not-found"),
    };
    let mut lines = vec![format!(
        "# {name} is in dev mode (towline, session {session}). `towline down` undoes it; so do these commands:"
    )];
    let counted = record.in_place.is_none() || record.kind == "Deployment";
    match (record.parked && *replicas != 0 && counted, record.down_first.is_some()) {
        (false, _) => lines.push(delete),
        (true, false) => lines.extend([scale, delete]),
        (true, true) => lines.extend([delete, scale]),
    }
    lines.extend(pauses.iter().map(Pause::how_to_undo));
    if let Some(secret) = &record.secret {
        lines.push(format!("kubectl -n {namespace} delete secret {secret} --ignore-not-found"));
    }
    if let Some(service) = &record.service {
        lines.push(format!("kubectl -n {namespace} delete service {service} --ignore-not-found"));
    }
    lines.push(format!("kubectl -n {namespace} delete lease {}", lease_name(&record.kind, name)));
    lines.push(format!(
        "# where no other session is left: kubectl -n {namespace} delete configmap {}",
        record.config_map
    ));
    lines.join("\n")
}

/// The record's bytes: its fields in the order of their declaration.
fn journal(record: &Record) -> String {
    // Writing into memory fails only for maps with keys that are no strings, and a record has no maps.
    serde_json::to_string(record).expect("a record is serialisable")
}

/// Tells whether this may be a kind: it becomes part of commands and messages.
fn is_kind(kind: &str) -> bool {
    (1..=63).contains(&kind.len()) && kind.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_api_version(api_version: &str) -> bool {
    let group = group(api_version);
    let version = api_version.rsplit('/').next().unwrap_or_default();
    (group.is_empty() || is_name(group)) && is_name(version) && !version.contains('.')
}

/// Sets a member, making the objects on the way to it.
fn put(object: &mut Value, path: &[&str], value: Value) {
    let mut slot = object;
    for key in path {
        if !slot.is_object() {
            *slot = json!({});
        }
        slot = &mut slot[*key];
    }
    *slot = value;
}

/// Returns text from the cluster without control characters, at most `bytes` long.
fn harmless(text: &str, bytes: usize) -> String {
    cut(text, bytes).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
