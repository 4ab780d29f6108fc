//! Which workload is meant: kinds by their names, the owner above a workload, the template of another one.

use std::collections::BTreeMap;

use futures::future::join_all;
use serde_json::Value;
use towline_cluster::ClusterError;
use towline_cluster::port::{
    CRON_JOBS, DAEMON_SETS, DEPLOYMENTS, JOBS, Object, PODS, REPLICA_SETS, ROLLOUTS, Resource, STATEFUL_SETS,
    Selection,
};
use towline_patcher::{Record, Refusal};

use crate::context::Context;
use crate::error::SessionError;
use crate::pod::text;
use crate::request::Workload;

/// The kinds that a name alone is looked for in, in this order, and what users call them.
const KNOWN: &[(&Resource, &[&str])] = &[
    (DEPLOYMENTS, &["deployment", "deployments", "deploy"]),
    (STATEFUL_SETS, &["statefulset", "statefulsets", "sts"]),
    (DAEMON_SETS, &["daemonset", "daemonsets", "ds"]),
    (ROLLOUTS, &["rollout", "rollouts", "ro"]),
    (CRON_JOBS, &["cronjob", "cronjobs", "cj"]),
    (JOBS, &["job", "jobs"]),
    (REPLICA_SETS, &["replicaset", "replicasets", "rs"]),
    (PODS, &["pod", "pods", "po"]),
];
/// Owners above owners; no real chain is longer.
const MAX_OWNERS: usize = 4;

/// A workload that was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Its kind.
    pub(crate) resource: &'static Resource,
    /// The object as read.
    pub(crate) object: Value,
}

impl Found {
    /// Returns kind and name.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.resource.kind, text(&self.object, "/metadata/name"))
    }
}

/// Returns the kind of a record's original.
pub(crate) fn of_record(record: &Record) -> &'static Resource {
    let (group, version) = record.api_version.rsplit_once('/').unwrap_or(("", &record.api_version));
    let known = KNOWN.iter().map(|(resource, _)| *resource);
    let same = |resource: &&Resource| {
        resource.kind == record.kind && resource.group == group && resource.version == version
    };
    known.into_iter().find(same).unwrap_or_else(|| {
        let guess = format!("{}s", record.kind.to_ascii_lowercase());
        let plural = if record.plural.is_empty() { &guess } else { &record.plural };
        Resource::interned(group, version, &record.kind, plural, true)
    })
}

/// Tells whether a record need not say the plural of a kind.
pub(crate) fn is_known(resource: &Resource) -> bool {
    KNOWN.iter().any(|(known, _)| *known == resource)
}

/// Finds the workload that is meant. What belongs to another workload leads to that one, which is said in `notes`.
pub(crate) async fn find(
    context: &Context,
    workload: &Workload,
    notes: &mut Vec<String>,
) -> Result<Found, SessionError> {
    let mut found = match workload {
        Workload::Name(name) => match name.split_once('/') {
            Some((kind, name)) => of_kind(context, kind, name).await?,
            None => by_name(context, name).await?,
        },
        Workload::Labels(labels) => by_labels(context, labels).await?,
    };
    for _ in 0..MAX_OWNERS {
        let Some(owner) = owner(context, &found).await? else { break };
        notes.push(format!("{} belongs to {}: dev mode is entered there", found.name(), owner.name()));
        found = owner;
    }
    Ok(found)
}

/// Returns the workload with the pod template of the one that it refers to, as an Argo Rollout may.
pub(crate) async fn with_template(context: &Context, found: &Found) -> Result<Value, SessionError> {
    let mut view = found.object.clone();
    let reference = match view.pointer("/spec/workloadRef") {
        Some(reference) if found.resource.kind == ROLLOUTS.kind => reference,
        _ => return Ok(view),
    };
    let (kind, name) = (text(reference, "/kind"), text(reference, "/name"));
    let refused = |why: String| SessionError::Refused {
        what: found.name(),
        why,
        hint: "put another workload into dev mode".to_owned(),
    };
    let Some(resource) = named(&kind) else {
        return Err(refused(format!(
            "its template is that of {kind} {name}, which is no kind that is known"
        )));
    };
    let object = Object::new(resource, &context.namespace, &name);
    let template = match context.cluster.get(&object).await {
        Ok(other) => other.pointer("/spec/template").cloned(),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error.into()),
    };
    let Some(template) = template else {
        return Err(refused(format!("its template is that of {kind} {name}, which has none")));
    };
    view["spec"]["template"] = template;
    Ok(view)
}

/// Finds a workload by kind and name, as `statefulset/db` or `shops.example.com/main`.
async fn of_kind(context: &Context, kind: &str, name: &str) -> Result<Found, SessionError> {
    let resource = match named(kind) {
        Some(resource) => resource,
        None => discovered(context, kind).await?,
    };
    let object = Object::new(resource, &context.namespace, name);
    match context.cluster.get(&object).await {
        Ok(object) => Ok(Found { resource, object }),
        Err(error) if error.is_not_found() => {
            let all = context.cluster.list(resource, Some(&context.namespace), &Selection::default()).await?;
            let names = all.iter().map(|found| text(found, "/metadata/name")).collect();
            Err(missing(context, resource.kind, name, names))
        }
        Err(error) => Err(error.into()),
    }
}

/// Asks the server for a kind that is not one of the usual ones: `KIND.GROUP` or `KIND.VERSION.GROUP`.
async fn discovered(context: &Context, kind: &str) -> Result<&'static Resource, SessionError> {
    let (name, rest) = kind.split_once('.').unwrap_or((kind, ""));
    let (version, group) = match rest.split_once('.') {
        Some((version, group)) if is_version(version) => (Some(version), group),
        _ => (None, rest),
    };
    let found = match group {
        "" => None,
        group => context.cluster.kind(group, version, name).await?,
    };
    found.filter(|resource| resource.namespaced).ok_or_else(|| SessionError::Refused {
        what: format!("{kind}/…"),
        why: "the cluster has no such kind in namespaces".to_owned(),
        hint: "name one as kubectl does: statefulset/NAME, or KIND.GROUP/NAME such as shops.example.com/NAME"
            .to_owned(),
    })
}

fn is_version(text: &str) -> bool {
    text.strip_prefix('v').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// Returns the kind that users mean by a word such as `sts`.
pub(crate) fn named(kind: &str) -> Option<&'static Resource> {
    let kind = kind.to_ascii_lowercase();
    KNOWN.iter().find(|(_, names)| names.contains(&kind.as_str())).map(|(resource, _)| *resource)
}

/// Tells whether users mean the kind of a record's original by this word.
pub(crate) fn is_called(record: &Record, kind: &str) -> bool {
    if let Some(resource) = named(kind) {
        return resource == of_record(record);
    }
    let kind = kind.split('.').next().unwrap_or_default();
    kind.eq_ignore_ascii_case(&record.kind) || kind == record.plural
}

/// A Deployment first, then a `StatefulSet`, then whatever else has the name alone.
async fn by_name(context: &Context, name: &str) -> Result<Found, SessionError> {
    let read = async |resource: &'static Resource| {
        let object = Object::new(resource, &context.namespace, name);
        match context.cluster.get(&object).await {
            Ok(object) => Ok(Some(Found { resource, object })),
            // A kind that is not there, or not ours to read, has no such workload.
            Err(error) if error.is_not_found() => Ok(None),
            Err(ClusterError::Forbidden { .. }) if resource != DEPLOYMENTS => Ok(None),
            Err(error) => Err(error),
        }
    };
    for (resource, _) in &KNOWN[..2] {
        if let Some(found) = read(resource).await? {
            return Ok(found);
        }
    }
    let rest = join_all(KNOWN[2..].iter().map(|(resource, _)| read(resource))).await;
    let mut found: Vec<Found> =
        rest.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    match found.len() {
        0 => {
            let all =
                context.cluster.list(DEPLOYMENTS, Some(&context.namespace), &Selection::default()).await?;
            let names = all.iter().map(|found| text(found, "/metadata/name")).collect();
            Err(missing(context, "workload", name, names))
        }
        1 => Ok(found.remove(0)),
        _ => Err(ambiguous(context, &format!("the name {name}"), &found)),
    }
}

async fn by_labels(context: &Context, labels: &BTreeMap<String, String>) -> Result<Found, SessionError> {
    let selection = Selection { name: None, labels: labels.clone().into_iter().collect() };
    let list = async |resource: &'static Resource| {
        let listed = context.cluster.list(resource, Some(&context.namespace), &selection).await;
        match listed {
            Ok(objects) => Ok(objects.into_iter().map(|object| Found { resource, object }).collect()),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(ClusterError::Forbidden { .. }) if resource != DEPLOYMENTS => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    };
    let all = join_all(KNOWN.iter().map(|(resource, _)| list(resource))).await;
    let mut found: Vec<Found> =
        all.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    // A clone of ours has none of the original's labels, unless someone gave it some; and what belongs to a workload
    // has its labels without being meant.
    found.retain(|found| {
        !matches!(
            towline_patcher::refusal(&found.object),
            Some(Refusal::DevClone { .. } | Refusal::Controlled { .. })
        )
    });
    let selector = labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(missing(context, "workload", &format!("with labels {selector}"), Vec::new())),
        _ => Err(ambiguous(context, &format!("the selector {selector}"), &found)),
    }
}

/// Returns the workload that controls this one, where it is of a kind that dev mode is entered in.
async fn owner(context: &Context, found: &Found) -> Result<Option<Found>, SessionError> {
    let owners = found.object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let Some(owner) = owners.into_iter().flatten().find(|owner| owner["controller"] == true) else {
        return Ok(None);
    };
    let version = text(owner, "/apiVersion");
    let group = version.rsplit_once('/').map_or("", |(group, _)| group);
    let kind = text(owner, "/kind");
    let of_kind = KNOWN.iter().find(|(resource, _)| resource.kind == kind && resource.group == group);
    let Some((resource, _)) = of_kind else { return Ok(None) };
    match context.cluster.get(&Object::new(resource, &context.namespace, text(owner, "/name"))).await {
        Ok(object) if text(&object, "/metadata/uid") == text(owner, "/uid") => {
            Ok(Some(Found { resource, object }))
        }
        Ok(_) => Ok(None),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn missing(context: &Context, kind: &str, wanted: &str, names: Vec<String>) -> SessionError {
    SessionError::WorkloadMissing {
        kind: kind.to_owned(),
        wanted: wanted.to_owned(),
        namespace: context.namespace.clone(),
        nearest: nearest_first(wanted, names),
    }
}

fn ambiguous(context: &Context, what: &str, found: &[Found]) -> SessionError {
    let name = |found: &Found| {
        format!("{}/{}", found.resource.kind.to_ascii_lowercase(), text(&found.object, "/metadata/name"))
    };
    SessionError::WorkloadAmbiguous {
        what: what.to_owned(),
        namespace: context.namespace.clone(),
        names: found.iter().map(name).collect(),
    }
}

/// Puts the name that was most likely meant first.
fn nearest_first(wanted: &str, mut names: Vec<String>) -> Vec<String> {
    let meant = towline_manifest::nearest(wanted, names.iter().map(String::as_str)).map(str::to_owned);
    names.sort_by_key(|name| (Some(name) != meant.as_ref(), name.clone()));
    names
}
