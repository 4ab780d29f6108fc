//! The plan as data: everything that a session will do to the cluster, before anything is written.
//!
//! What `up --dry-run` shows, and what other tools read. Its JSON is documented in `docs/events.md`; values of variables
//! are hidden in it.

use serde::Serialize;
use serde_json::Value;
use towline_cluster::port::{Right, SERVICES, Selection};
use towline_patcher::{AUTOCREATED_PORT, FieldChange};

use crate::context::Context;
use crate::controllers::{Finding, Reference, selects};
use crate::hybrid::{self, HereView};
use crate::obstacle::Obstacle;
use crate::plan::UpPlan;
use crate::pod::text;
use crate::rights::{self, Rights};

/// What a session will do.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanView {
    /// The workload's name.
    pub workload: String,
    /// The workload.
    pub original: Reference,
    /// The session's id.
    pub session: String,
    /// Whether a session is there that goes on.
    pub goes_on: bool,
    /// The writes in their order, in words.
    pub writes: Vec<String>,
    /// The objects that are created or changed, in the order of the writes.
    pub objects: Vec<ObjectPlan>,
    /// How the dev container's pod differs from the original's.
    pub changes: Vec<Change>,
    /// The rights that the way in and the way back use.
    pub rights: Vec<RightView>,
    /// Who owns the fields of the original that are written.
    pub owners: Vec<OwnerView>,
    /// Who else has to do with the workload.
    pub controllers: Vec<Finding>,
    /// What runs on this machine instead of in the dev container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub here: Option<HereView>,
    /// What happens to the workload's traffic.
    pub traffic: Traffic,
    /// What stands in the way; with any of it the session does not begin.
    pub obstacles: Vec<Obstacle>,
    /// What else there is to know, a line each.
    pub notes: Vec<String>,
}

/// An object that is created or changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectPlan {
    /// `create`, `change` or `pause`.
    pub action: &'static str,
    /// Which.
    pub object: Reference,
    /// What for.
    pub why: String,
    /// The fields that change; of what is created from the original, those that differ from it.
    pub changes: Vec<Change>,
}

/// One field.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Where, by name and not by index.
    pub path: String,
    /// Its value, if it has one.
    pub before: Option<Value>,
    /// Its value then, if it has one.
    pub after: Option<Value>,
    /// Why.
    pub reason: String,
}

impl From<&FieldChange> for Change {
    fn from(change: &FieldChange) -> Self {
        let FieldChange { path, before, after, reason } = change;
        Self {
            path: path.clone(),
            before: before.clone(),
            after: after.clone(),
            reason: (*reason).to_owned(),
        }
    }
}

/// A right in the namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RightView {
    /// As in a Role.
    pub verb: &'static str,
    /// The API group.
    pub group: &'static str,
    /// The plural, with its subresource.
    pub resource: String,
    /// Whether the session can't do without; else a part is missing.
    pub needed: bool,
    /// `in`, `out` or `both`.
    pub way: &'static str,
    /// Whether we have it.
    pub has: bool,
}

/// Who owns a field of the original.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerView {
    /// The field.
    pub path: String,
    /// The field manager.
    pub manager: String,
    /// `Apply` or `Update`.
    pub operation: String,
}

/// What happens to the workload's traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// The Services that lead to the dev pod; `None` where they can't be listed.
    pub services: Option<Vec<String>>,
    /// `overlap`: the original serves until the dev container is ready, and for a moment both do. `gap`: the original
    /// goes first, and nobody serves until the dev container is ready. `none`: the original goes on.
    pub hand_over: &'static str,
    /// Lines about it.
    pub notes: Vec<String>,
}

/// What was read for the view alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Surroundings {
    services: Option<Vec<Value>>,
    rights: Vec<RightView>,
}

impl Surroundings {
    /// Reads the Services.
    pub(crate) async fn read(context: &Context, rights: Vec<RightView>) -> Self {
        let listed = context.cluster.list(SERVICES, Some(&context.namespace), &Selection::default()).await;
        // They are shown and nothing is decided by them.
        Self { services: listed.ok(), rights }
    }
}

/// Makes the view of a plan.
pub(crate) fn of(plan: &UpPlan) -> PlanView {
    let record = &plan.record;
    PlanView {
        workload: record.name.clone(),
        original: reference(&record.kind, &record.namespace, &record.name),
        session: record.session.clone(),
        goes_on: plan.resumed.is_some(),
        writes: plan.writes(),
        objects: objects(plan),
        changes: plan.changes().iter().map(Change::from).collect(),
        rights: plan.surroundings.rights.clone(),
        owners: owners(&plan.original, &written(plan)),
        controllers: plan.truce.findings.clone(),
        here: hybrid::view(plan),
        traffic: traffic(plan),
        obstacles: plan.obstacles.clone(),
        notes: plan.notes.clone(),
    }
}

fn reference(kind: &str, namespace: &str, name: &str) -> Reference {
    Reference { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
}

/// Tells whether the original itself becomes the dev container.
fn is_in_place(plan: &UpPlan) -> bool {
    plan.record.in_place.is_some()
}

/// The fields of the original that are written, in place of a clone or to make room for it.
fn written(plan: &UpPlan) -> Vec<Change> {
    if is_in_place(plan) {
        return plan.changes().iter().map(Change::from).collect();
    }
    if !plan.record.parks() {
        return Vec::new();
    }
    if !plan.record.parks() {
        return Vec::new();
    }
    let patch = towline_patcher::park(&plan.original, &plan.record);
    let spec = patch.get("spec").and_then(Value::as_object);
    let change = |(key, after): (&String, &Value)| Change {
        path: format!("spec.{key}"),
        before: plan.original.get("spec").and_then(|spec| spec.get(key)).cloned(),
        after: Some(after.clone()),
        reason: "the clone takes its place; down brings it back".to_owned(),
    };
    spec.into_iter().flatten().map(change).collect()
}

fn objects(plan: &UpPlan) -> Vec<ObjectPlan> {
    let record = &plan.record;
    let of = |kind: &str, name: &str| reference(kind, &record.namespace, name);
    let create = |kind: &str, name: &str, why: &str| ObjectPlan {
        action: "create",
        object: of(kind, name),
        why: why.to_owned(),
        changes: Vec::new(),
    };
    let lease = towline_patcher::lease_name(&record.kind, &record.name);
    let mut objects = vec![create("Lease", &lease, "the record that undoes it all")];
    objects.extend(plan.truce.pauses.iter().map(|pause| ObjectPlan {
        action: "pause",
        object: pause.reference(),
        why: "it would take back what the session changes; down sets it back".to_owned(),
        changes: vec![pause.change()],
    }));
    if plan.request.plan.agent.image.is_none() {
        objects.push(create("ConfigMap", &record.config_map, "the agent"));
    }
    if record.claim_is_new
        && let Some(claim) = &record.claim
    {
        objects.push(create("PersistentVolumeClaim", claim, "it stays when dev mode ends"));
    }
    if let Some(secret) = &record.secret {
        objects.push(create("Secret", secret, "the files of the manifest's secrets"));
    }
    let change = |why: String| ObjectPlan {
        action: "change",
        object: of(&record.kind, &record.name),
        why,
        changes: written(plan),
    };
    if is_in_place(plan) {
        objects.push(change("it becomes the dev container; down brings it back, field by field".to_owned()));
        return objects;
    }
    let kind = text(&plan.clone.object, "/kind");
    let why = if record.autocreated {
        format!("the dev container: there is no {} {}", record.kind, record.name)
    } else {
        format!("the dev container, made of {} {}", record.kind, record.name)
    };
    if let Some(service) = &record.service {
        objects.push(create("Service", service, "it leads to the dev pod"));
    }
    let clone = ObjectPlan {
        changes: plan.changes().iter().map(Change::from).collect(),
        ..create(&kind, &record.clone, &why)
    };
    match &record.down_first {
        Some(reason) => objects.extend([change(format!("it goes first: {reason}")), clone]),
        None if !record.parks() => objects.push(clone),
        None => {
            objects.extend([clone, change(format!("once {}", it_serves(plan)))]);
        }
    }
    objects
}

/// Says when the dev pod takes the original's place.
fn it_serves(plan: &UpPlan) -> &'static str {
    match plan.request.hybrid {
        Some(_) => "the command runs on this machine",
        None => "the dev container is in sync and its command runs",
    }
}

/// Puts the rights of a session and the answers to them side by side.
pub(crate) fn rights_of(rights: &Rights, answers: &[bool]) -> Vec<RightView> {
    let needed = rights.needed.iter().map(|right| (right, true));
    let useful = rights.useful.iter().map(|right| (right, false));
    let view = |((right, needed), has): ((&Right, bool), &bool)| RightView {
        verb: right.verb,
        group: right.group,
        resource: rights::resource(right),
        needed,
        way: match (right.verb, right.resource) {
            ("delete", _) => "out",
            ("create", _) | (_, "events" | "replicasets" | "services" | "persistentvolumeclaims") => "in",
            (_, "pods") if !right.subresource.is_empty() => "in",
            _ => "both",
        },
        has: *has,
    };
    needed.chain(useful).zip(answers).map(view).collect()
}

/// Returns the field managers that own what is written.
fn owners(original: &Value, written: &[Change]) -> Vec<OwnerView> {
    let entries = original.pointer("/metadata/managedFields").and_then(Value::as_array);
    let mut owners = Vec::new();
    for entry in entries.into_iter().flatten() {
        for change in written {
            let Some(fields) = entry.get("fieldsV1") else { continue };
            if owns(fields, &change.path) {
                owners.push(OwnerView {
                    path: change.path.clone(),
                    manager: text(entry, "/manager"),
                    operation: text(entry, "/operation"),
                });
            }
        }
    }
    owners.sort_by(|a, b| a.path.cmp(&b.path));
    owners
}

/// Tells whether a set of owned fields has the one at a path such as `spec.containers[name=web].image`.
fn owns(fields: &Value, path: &str) -> bool {
    let mut fields = fields;
    for segment in path.split('.') {
        let (member, key) = match segment.split_once('[') {
            Some((member, key)) => (member, key.trim_end_matches(']').split_once('=')),
            None => (segment, None),
        };
        let Some(below) = fields.get(format!("f:{member}")) else { return false };
        fields = below;
        if let Some((name, value)) = key {
            let item = below.as_object().and_then(|items| {
                items.iter().find(|(item, _)| {
                    let item =
                        item.strip_prefix("k:").and_then(|key| serde_json::from_str::<Value>(key).ok());
                    item.is_some_and(|item| item.get(name).and_then(Value::as_str) == Some(value))
                })
            });
            let Some((_, item)) = item else { return false };
            fields = item;
        }
    }
    true
}

fn traffic(plan: &UpPlan) -> Traffic {
    let pods = &plan.clone.object;
    let selected = |service: &&Value| {
        let selector = service.pointer("/spec/selector").filter(|selector| selector.is_object());
        selector.is_some_and(|labels| selects(Some(&serde_json::json!({"matchLabels": labels})), pods))
    };
    let services: Option<Vec<String>> = plan.surroundings.services.as_ref().map(|services| {
        services.iter().filter(selected).map(|service| text(service, "/metadata/name")).collect()
    });
    let hand_over = if !plan.record.parks() && !is_in_place(plan) {
        "none"
    } else if plan.record.down_first.is_none() && !is_in_place(plan) {
        "overlap"
    } else {
        "gap"
    };
    let mut notes = Vec::new();
    if let Some(service) = &plan.record.service {
        notes.push(format!("Service {service} is made, and leads to port {AUTOCREATED_PORT} of the dev pod"));
    }
    match &services {
        Some(services) if services.is_empty() && plan.record.service.is_some() => {}
        Some(services) if services.is_empty() => notes.push("no Service leads to the dev pod".to_owned()),
        Some(services) => notes.push(format!("Service {} leads to the dev pod", services.join(", "))),
        None => {
            notes.push("which Services lead to the dev pod is not known: they can't be listed".to_owned());
        }
    }
    notes.push(match hand_over {
        _ if plan.record.autocreated => {
            "only the dev pod serves: there is no workload of that name".to_owned()
        }
        "none" => "the original goes on beside the dev pod".to_owned(),
        "overlap" => format!("the original serves until {}; for a moment both do", it_serves(plan)),
        _ => "nobody serves between the original's end and the dev container's start".to_owned(),
    });
    if let Some(here) = hybrid::view(plan) {
        let port = |(pod, local): &(u16, u16)| {
            format!("port {pod} of the pod leads to port {local} of this machine")
        };
        notes.extend(here.ports.iter().map(port));
    }
    let dropped = |change: &&FieldChange| change.path.ends_with(".readinessProbe") && change.after.is_none();
    if plan.changes().iter().any(|change| dropped(&change)) {
        notes.push(
            "without a readiness probe the dev pod gets traffic as soon as its container runs, before your program listens"
                .to_owned(),
        );
    }
    Traffic { services, hand_over, notes }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_owned_by_whom_managed_fields_say() {
        let fields = json!({"f:spec": {
            "f:replicas": {},
            "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:image": {}}}}},
        }});
        let check = |path: &str, expected: bool| assert_eq!(owns(&fields, path), expected, "{path}");
        check("spec.replicas", true);
        check("spec.paused", false);
        check("spec.template.spec.containers[name=web].image", true);
        check("spec.template.spec.containers[name=web].command", false);
        check("spec.template.spec.containers[name=api].image", false);
        check("spec.replicas[name", true);
    }

    #[test]
    fn a_field_may_have_several_owners() {
        let entry = |manager: &str, operation: &str| json!({"manager": manager, "operation": operation, "fieldsV1": {"f:spec": {"f:replicas": {}}}});
        let original =
            json!({"metadata": {"managedFields": [entry("helm", "Apply"), entry("kubectl", "Update"), {}]}});
        let change =
            Change { path: "spec.replicas".to_owned(), before: None, after: None, reason: String::new() };
        let found: Vec<_> =
            owners(&original, &[change]).into_iter().map(|owner| (owner.manager, owner.operation)).collect();
        let expected = [("helm", "Apply"), ("kubectl", "Update")];
        assert_eq!(found, expected.map(|(manager, operation)| (manager.to_owned(), operation.to_owned())));
    }

    #[test]
    fn every_right_has_an_answer() {
        let right = |verb, resource, subresource| Right { verb, group: "", resource, subresource };
        let rights = Rights {
            needed: vec![
                right("create", "leases", ""),
                right("delete", "leases", ""),
                right("patch", "deployments", ""),
                right("create", "pods", "exec"),
            ],
            useful: vec![right("get", "pods", "log")],
        };
        let views = rights_of(&rights, &[true, true, true, true, false]);
        let told: Vec<_> =
            views.iter().map(|view| (view.resource.as_str(), view.way, view.needed, view.has)).collect();
        let expected = [
            ("leases", "in", true, true),
            ("leases", "out", true, true),
            ("deployments", "both", true, true),
            ("pods/exec", "in", true, true),
            ("pods/log", "in", false, false),
        ];
        assert_eq!(told, expected);
    }
}
