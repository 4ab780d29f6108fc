//! What a session stores in the cluster for its dev container: a claim that outlives it, and a Secret that does not.
//!
//! The Secret holds the files that the manifest names. Nothing else ever sees their contents: the plan, the record and
//! the events know names and a salted hash. It is written and deleted by its name, never read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};
use towline_cluster::ClusterError;
use towline_cluster::port::{
    Object, PERSISTENT_VOLUME_CLAIMS, PODS, Resource, SECRETS, SERVICES, Selection, WriteOptions,
};
use towline_patcher::{DEV_LABEL, DEV_NAME_LABEL, MANAGED_BY, MANAGED_BY_LABEL, Record, SecretVolume};

use crate::context::Context;
use crate::down;
use crate::error::SessionError;
use crate::event::Event;
use crate::journal::Journal;
use crate::pod::text;
use crate::request::UpRequest;

/// What a Secret may hold, in bytes (`MaxSecretSize` of the API server).
pub const MAX_SECRET_BYTES: usize = 1024 * 1024;

/// A file of this machine for the dev container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// Where it is mounted, absolute.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
    /// What it holds.
    pub content: Content,
}

/// What a file holds. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(pub Arc<[u8]>);

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Says how a session's Secret is mounted; `None` where there are no files.
pub(crate) fn secret_volume(session: &str, files: &[SecretFile]) -> Option<SecretVolume> {
    if files.is_empty() {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(session.as_bytes());
    for file in files {
        hasher.update(&(file.content.0.len() as u64).to_le_bytes()).update(&file.content.0);
    }
    let volume = |(number, file): (usize, &SecretFile)| towline_patcher::SecretFile {
        key: key(number),
        path: file.path.clone(),
        mode: file.mode,
    };
    Some(SecretVolume {
        name: towline_patcher::secret_name(session),
        digest: hasher.finalize().to_hex()[..32].to_owned(),
        files: files.iter().enumerate().map(volume).collect(),
    })
}

fn key(number: usize) -> String {
    format!("file-{number}")
}

/// Completes what the manifest says of the claim: its name, and whose it is.
pub(crate) fn claim_object(claim: &Value, name: &str, dev_name: &str) -> Value {
    let mut object = claim.clone();
    object["metadata"]["name"] = json!(name);
    for (label, value) in [(MANAGED_BY_LABEL, MANAGED_BY), (DEV_LABEL, "true"), (DEV_NAME_LABEL, dev_name)] {
        object["metadata"]["labels"][label] = json!(value);
    }
    object
}

/// Tells whether the claim is there. One of that name that is not ours is refused; another size is said.
pub(crate) async fn look_at_claim(
    context: &Context,
    wanted: &Value,
    notes: &mut Vec<String>,
) -> Result<bool, SessionError> {
    let object = claim(context, &text(wanted, "/metadata/name"));
    let found = match context.cluster.get(&object).await {
        Ok(found) => found,
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    ours(&object, &found)?;
    let size = "/spec/resources/requests/storage";
    if text(&found, size) != text(wanted, size) {
        notes.push(format!(
            "volume claim {} has {}, the manifest wants {}: it stays as it is; towline down --volumes removes it, and the \
             next up makes it anew",
            object.name,
            text(&found, size),
            text(wanted, size)
        ));
    }
    Ok(true)
}

/// Sees to it that the claim is there.
pub(crate) async fn ensure_claim(context: &Context, wanted: &Value) -> Result<bool, SessionError> {
    let object = claim(context, &text(wanted, "/metadata/name"));
    let options = WriteOptions::default();
    match context.cluster.create(PERSISTENT_VOLUME_CLAIMS, &context.namespace, wanted, &options).await {
        Ok(_) => Ok(true),
        Err(ClusterError::AlreadyExists { .. } | ClusterError::Ambiguous { .. }) => {
            ours(&object, &context.cluster.get(&object).await?)?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes the Secret. It belongs to the Lease, so that it goes even where nobody deletes it.
pub(crate) async fn ensure_secret(
    context: &Context,
    journal: &Journal,
    files: &[SecretFile],
    anew: bool,
) -> Result<(), SessionError> {
    use base64::Engine;
    let record = &journal.record;
    let Some(name) = record.secret.clone().filter(|_| !files.is_empty()) else { return Ok(()) };
    let object = Object::new(SECRETS, &context.namespace, &name);
    if anew {
        down::delete(context, &object, None, &mut |_| {}).await?;
    }
    let data: BTreeMap<String, String> = files
        .iter()
        .enumerate()
        .map(|(number, file)| {
            (key(number), base64::engine::general_purpose::STANDARD.encode(&file.content.0))
        })
        .collect();
    let (lease, uid) = journal.identity();
    let body = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": record.metadata(&name, &lease, uid.as_deref()),
        "type": "Opaque",
        "data": data,
    });
    match context.cluster.create(SECRETS, &context.namespace, &body, &WriteOptions::default()).await {
        // It was made by an attempt before this one, which the record names alone.
        Ok(_) | Err(ClusterError::AlreadyExists { .. } | ClusterError::Ambiguous { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Deletes the session's Secret. Who may not delete it leaves it to the cluster: it goes with the Lease.
pub(crate) async fn delete_secret(
    context: &Context,
    record: &Record,
    tell: &mut (dyn FnMut(Event) + Send),
) -> Result<(), SessionError> {
    let Some(name) = &record.secret else { return Ok(()) };
    let object = Object::new(SECRETS, &context.namespace, name);
    match down::delete(context, &object, None, tell).await {
        Err(SessionError::Cluster(ClusterError::Forbidden { .. })) => Ok(()),
        other => other,
    }
}

/// Removes the claim that keeps a workload's files between sessions. Tells whether there was one.
pub async fn remove_claim(
    context: &Context,
    workload: &str,
    tell: &mut (dyn FnMut(Event) + Send),
) -> Result<bool, SessionError> {
    let object = claim(context, &towline_patcher::claim_name(workload));
    let found = match context.cluster.get(&object).await {
        Ok(found) => found,
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    ours(&object, &found)?;
    down::delete(context, &object, Some(text(&found, "/metadata/uid")), tell).await?;
    Ok(true)
}

/// Removes all claims of ours in the namespace. Returns how many there were.
pub async fn remove_claims(
    context: &Context,
    tell: &mut (dyn FnMut(Event) + Send),
) -> Result<usize, SessionError> {
    let found =
        context.cluster.list(PERSISTENT_VOLUME_CLAIMS, Some(&context.namespace), &down::ours()).await?;
    for claim_found in &found {
        let object = claim(context, &text(claim_found, "/metadata/name"));
        down::delete(context, &object, Some(text(claim_found, "/metadata/uid")), tell).await?;
    }
    Ok(found.len())
}

/// Says which claims of the request a pod of someone else's has now, where only one node or pod may.
pub(crate) async fn explain_exclusive(
    context: &Context,
    request: &UpRequest,
    original: &Value,
    notes: &mut Vec<String>,
) {
    let storage = &request.plan.storage;
    let wanted =
        storage.external.iter().map(|external| external.claim.as_str()).chain(storage.claim.as_deref());
    for name in wanted {
        let Ok(found) = context.cluster.get(&claim(context, name)).await else { continue };
        let modes = found.pointer("/spec/accessModes").and_then(Value::as_array).cloned().unwrap_or_default();
        let shared = modes.iter().any(|mode| mode == "ReadWriteMany" || mode == "ReadOnlyMany");
        if shared {
            continue;
        }
        let pods = context.cluster.list(PODS, Some(&context.namespace), &Selection::default()).await;
        for pod in
            pods.unwrap_or_default().iter().filter(|pod| uses(pod, name) && !is_of(pod, original, request))
        {
            let (pod, node) = (text(pod, "/metadata/name"), text(pod, "/spec/nodeName"));
            notes.push(if modes.iter().any(|mode| mode == "ReadWriteOncePod") {
                format!("volume claim {name} is for one pod at a time, and pod {pod} has it: the dev pod waits for its end")
            } else {
                format!(
                    "volume claim {name} can be used on one node at a time, and pod {pod} has it on node {node}: anywhere \
                     else the dev pod waits for its end"
                )
            });
        }
    }
}

fn uses(pod: &Value, claim: &str) -> bool {
    let over = matches!(text(pod, "/status/phase").as_str(), "Succeeded" | "Failed");
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    !over
        && volumes
            .into_iter()
            .flatten()
            .any(|volume| text(volume, "/persistentVolumeClaim/claimName") == claim)
}

/// Tells whether a pod is the original's or the session's own: those make room by themselves.
fn is_of(pod: &Value, original: &Value, request: &UpRequest) -> bool {
    let Some(labels) = pod.pointer("/metadata/labels") else { return false };
    let session = labels.get(towline_patcher::SESSION_LABEL).and_then(Value::as_str);
    let selector = original.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    session == Some(&request.plan.session)
        || selector.is_some_and(|wanted| {
            !wanted.is_empty() && wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
        })
}

/// Puts the name of the one Service that has a forward's labels in their place.
pub(crate) async fn resolve_forwards(context: &Context, request: &mut UpRequest) -> Result<(), SessionError> {
    for forward in request.forwards.iter_mut().filter(|forward| !forward.labels.is_empty()) {
        let labels: Vec<_> = forward.labels.clone().into_iter().collect();
        let selection = Selection { name: None, labels };
        let found = context.cluster.list(SERVICES, Some(&context.namespace), &selection).await?;
        let names: Vec<_> = found.iter().map(|service| text(service, "/metadata/name")).collect();
        let [name] = names.as_slice() else {
            let selector: Vec<_> =
                forward.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            return Err(SessionError::Refused {
                what: format!(
                    "the forward of port {} to the Service with labels {}",
                    forward.local,
                    selector.join(",")
                ),
                why: match names.len() {
                    0 => format!("there is none in namespace {}", context.namespace),
                    _ => format!("there are several: {}", names.join(", ")),
                },
                hint: "name the Service in the manifest's forward, or labels that one alone has".to_owned(),
            });
        };
        forward.host = Some(name.clone());
    }
    Ok(())
}

fn claim(context: &Context, name: &str) -> Object {
    Object::new(PERSISTENT_VOLUME_CLAIMS as &'static Resource, &context.namespace, name)
}

/// Fails for an object of someone else's.
fn ours(object: &Object, found: &Value) -> Result<(), SessionError> {
    let by = found.pointer("/metadata/labels").and_then(|labels| labels.get(MANAGED_BY_LABEL)?.as_str());
    if by == Some(MANAGED_BY) {
        return Ok(());
    }
    Err(SessionError::Refused {
        what: object.to_string(),
        why: "it is not towline's".to_owned(),
        hint: "rename it, or mount it by name with the manifest's externalVolumes".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_hashed_with_the_session_and_never_shown() {
        let file = |text: &str| SecretFile {
            path: "/t".to_owned(),
            mode: 0o400,
            content: Content(text.as_bytes().into()),
        };
        let digest = |session: &str, files: &[SecretFile]| secret_volume(session, files).unwrap().digest;
        assert_ne!(digest("abcd", &[file("x")]), digest("efgh", &[file("x")]));
        assert_ne!(digest("abcd", &[file("ab"), file("c")]), digest("abcd", &[file("a"), file("bc")]));
        assert_eq!(digest("abcd", &[file("x")]), digest("abcd", &[file("x")]));
        assert_eq!(secret_volume("abcd", &[]), None);
        assert_eq!(format!("{:?}", file("canary").content), "6 bytes");
    }
}
