//! Everything that the checks look at, read once.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use towline_cluster::ClusterError;
use towline_cluster::port::{
    APPLICATIONS, CONFIG_MAPS, DEPLOYMENTS, EVENTS, INGRESSES, JOBS, NAMESPACES, Object,
    PERSISTENT_VOLUME_CLAIMS, PODS, Patch, REPLICA_SETS, Resource, Right, SERVICES, STATEFUL_SETS, Selection,
    Target, WriteOptions,
};
use towline_manifest::{Dev, Mode};
use towline_patcher::SESSION_LABEL;

use super::Known;
use super::inside::{self, Inside};
use super::laptop::Laptop;
use super::scrub::Scrubber;
use crate::context::Context;
use crate::controllers::{self, Touch};
use crate::error::SessionError;
use crate::obstacle::Obstacle;
use crate::pod::{self, text};
use crate::request::{UpRequest, Workload};
use crate::{down, journal, kinds, plan, rights};

/// What holds up the end of a namespace.
const HOLDERS: &[&Resource] = &[
    JOBS,
    PODS,
    DEPLOYMENTS,
    STATEFUL_SETS,
    REPLICA_SETS,
    PERSISTENT_VOLUME_CLAIMS,
    SERVICES,
    INGRESSES,
    APPLICATIONS,
];
/// Ingresses whose admission is asked about.
const MAX_DRY_RUNS: usize = 20;

/// What is asked about.
#[derive(Debug)]
pub struct Asked {
    /// The dev service, where there is a manifest.
    pub dev: Option<Dev>,
    /// What `up` would be asked for it.
    pub request: Option<UpRequest>,
    /// The workload, where there is no request.
    pub workload: Option<String>,
    /// This machine.
    pub laptop: Laptop,
}

/// Something on its way out that a finalizer keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) finalizers: Vec<String>,
}

/// A session on the workload.
#[derive(Debug, Clone)]
pub(super) struct SessionSeen {
    pub(super) holder: String,
    pub(super) mine: bool,
    pub(super) alive: bool,
    pub(super) silence: Duration,
    pub(super) tool: String,
    pub(super) container: String,
}

/// What a plan came to.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) obstacles: Vec<Obstacle>,
    pub(super) notes: Vec<String>,
}

/// Everything that was seen.
#[derive(Debug)]
pub struct Facts {
    /// Whether there is a cluster to ask.
    pub(super) connection: Known<()>,
    pub(super) target: Target,
    pub(super) namespace_name: String,
    pub(super) namespace: Known<Option<Value>>,
    pub(super) held_up: Vec<Held>,
    /// Seconds that this machine's clock is ahead of the cluster's.
    pub(super) clock_ahead: Known<i64>,
    /// Each right, whether it is needed, and whether it is there.
    pub(super) rights: Known<Vec<(Right, bool, bool)>>,
    pub(super) dev: Option<Dev>,
    /// The workload as it is asked for.
    pub(super) wanted: Option<String>,
    pub(super) workload: Known<Option<Value>>,
    pub(super) nearest: Vec<String>,
    pub(super) workloads: Vec<Value>,
    pub(super) plan: Option<Known<Planned>>,
    pub(super) controllers: Known<Vec<controllers::Finding>>,
    pub(super) applications: Known<Vec<Value>>,
    pub(super) session: Option<SessionSeen>,
    pub(super) pod: Known<Option<Value>>,
    pub(super) pods: Vec<Value>,
    pub(super) events: Vec<Value>,
    /// The `ConfigMaps` that the workload refers to and can't do without, and whether each is there.
    pub(super) config_maps: Vec<(String, Known<bool>)>,
    pub(super) claims: Vec<String>,
    pub(super) services: Known<Vec<Value>>,
    pub(super) ingresses: Known<Vec<Value>>,
    /// Whether these are those of the whole cluster.
    pub(super) everywhere: bool,
    /// What the cluster says to each Ingress of the namespace as it is: nothing, or why it would refuse it.
    pub(super) refusals: Vec<(String, Known<Option<String>>)>,
    pub(super) inside: Known<Inside>,
    pub(super) laptop: Laptop,
}

impl Facts {
    /// Returns what is known where nothing could be read, and why.
    pub(super) fn nothing(why: &str) -> Self {
        fn none<T>(why: &str) -> Known<T> {
            Err(why.to_owned())
        }
        Self {
            connection: Ok(()),
            target: Target {
                context: String::new(),
                server: String::new(),
                namespace: String::new(),
                embedded: false,
            },
            namespace_name: String::new(),
            namespace: none(why),
            held_up: Vec::new(),
            clock_ahead: none(why),
            rights: none(why),
            dev: None,
            wanted: None,
            workload: none(why),
            nearest: Vec::new(),
            workloads: Vec::new(),
            plan: None,
            controllers: none(why),
            applications: none(why),
            session: None,
            pod: none(why),
            pods: Vec::new(),
            events: Vec::new(),
            config_maps: Vec::new(),
            claims: Vec::new(),
            services: none(why),
            ingresses: none(why),
            everywhere: false,
            refusals: Vec::new(),
            inside: none(why),
            laptop: Laptop::default(),
        }
    }

    /// Returns what is known where the cluster can't be asked: this machine.
    pub fn without_cluster(why: &str, laptop: Laptop) -> Self {
        Self { connection: Err(why.to_owned()), laptop, ..Self::nothing("there is no cluster to ask") }
    }

    /// Learns every value that must not be shown.
    pub(super) fn scrubber(&self) -> Scrubber {
        let mut scrubber = Scrubber::default();
        let one = |known: &Known<Option<Value>>| known.clone().ok().flatten();
        let lists = [&self.services, &self.ingresses, &self.applications];
        let objects = [one(&self.workload), one(&self.pod)].into_iter().flatten();
        let listed = lists.into_iter().filter_map(|list| list.as_ref().ok()).flatten();
        for object in
            objects.collect::<Vec<_>>().iter().chain(&self.pods).chain(&self.workloads).chain(listed)
        {
            scrubber.learn_object(object);
        }
        for variable in self.dev.iter().flat_map(|dev| &dev.environment) {
            scrubber.learn(&variable.value);
        }
        scrubber
    }

    /// Returns what a bundle shows, to be scrubbed.
    pub(super) fn shown(&self) -> Value {
        let rights = self.rights.as_ref().map(|rights| {
            let shown = |(right, needed, has): &(Right, bool, bool)| {
                json!({"right": rights::words(right), "needed": needed, "has": has})
            };
            rights.iter().map(shown).collect::<Vec<_>>()
        });
        json!({
            "context": self.target.context,
            "server": self.target.server,
            "namespace": self.namespace_name,
            "namespaceObject": self.namespace,
            "clockAheadSeconds": self.clock_ahead,
            "rights": rights,
            "workload": self.workload,
            "pod": self.pod,
            "events": self.events.iter().map(|event| json!({
                "object": text(event, "/involvedObject/name"), "reason": text(event, "/reason"),
                "message": text(event, "/message"),
            })).collect::<Vec<_>>(),
            "services": self.services,
            "ingresses": self.ingresses,
            "session": self.session.as_ref().map(|session| json!({
                "holder": session.holder, "alive": session.alive, "tool": session.tool,
            })),
            "variables": self.inside.as_ref().map(|inside| inside.variables.clone()),
        })
    }
}

fn known<T>(result: Result<T, ClusterError>) -> Known<T> {
    result.map_err(|error| error.to_string())
}

fn there<T>(result: Result<T, ClusterError>) -> Known<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Looks at everything. Changes nothing.
pub async fn gather(context: &Context, asked: Asked) -> Facts {
    let cluster = &context.cluster;
    let name = context.namespace.as_str();
    let everything = Selection::default();
    let list = async |resource: &'static Resource| {
        cluster.list(resource, Some(name), &everything).await.unwrap_or_default()
    };
    let mut facts = Facts {
        target: cluster.target().clone(),
        namespace_name: name.to_owned(),
        laptop: asked.laptop,
        dev: asked.dev,
        ..Facts::nothing("it was not looked at")
    };
    facts.namespace = there(cluster.get(&Object::new(NAMESPACES, "", name)).await);
    if let Ok(Some(namespace)) = &facts.namespace
        && text(namespace, "/status/phase") == "Terminating"
    {
        facts.held_up = held_up(context).await;
    }
    facts.clock_ahead = clock_ahead(context).await;
    facts.workloads = list(DEPLOYMENTS).await;
    facts.pods = list(PODS).await;
    facts.events = list(EVENTS).await;
    let claims = list(PERSISTENT_VOLUME_CLAIMS).await;
    facts.claims = claims.iter().map(|claim| text(claim, "/metadata/name")).collect();
    facts.services = known(cluster.list(SERVICES, Some(name), &everything).await);
    facts.applications = known(cluster.list(APPLICATIONS, None, &everything).await);
    (facts.ingresses, facts.everywhere) = match cluster.list(INGRESSES, None, &everything).await {
        Ok(found) => (Ok(found), true),
        Err(_) => (known(cluster.list(INGRESSES, Some(name), &everything).await), false),
    };
    facts.refusals = refusals(context, &facts).await;

    let workload = match (&asked.request, asked.workload) {
        (Some(request), _) => Some(request.workload.clone()),
        (None, Some(name)) => Some(Workload::Name(name)),
        (None, None) => None,
    };
    if let Some(workload) = workload {
        look_at_workload(context, &mut facts, &workload, asked.request.as_ref()).await;
    }
    if let Some(request) = asked.request {
        let rights = rights::of(&request);
        let all: Vec<Right> = rights.all().cloned().collect();
        facts.rights = known(cluster.can(name, &all).await).map(|answers| {
            let needed = rights.needed.len();
            all.into_iter()
                .zip(answers)
                .enumerate()
                .map(|(at, (right, has))| (right, at < needed, has))
                .collect()
        });
        facts.plan = match Box::pin(plan::plan(context, request)).await {
            Ok(planned) => Some(Ok(Planned { obstacles: planned.obstacles, notes: planned.notes })),
            // Other checks say so, and better.
            Err(
                SessionError::Held { .. }
                | SessionError::RightsMissing { .. }
                | SessionError::WorkloadMissing { .. }
                | SessionError::WorkloadAmbiguous { .. },
            ) => None,
            Err(error) => Some(Err(error.to_string())),
        };
    }
    facts
}

async fn look_at_workload(
    context: &Context,
    facts: &mut Facts,
    workload: &Workload,
    request: Option<&UpRequest>,
) {
    facts.wanted = Some(match workload {
        Workload::Name(name) => name.clone(),
        Workload::Labels(labels) => format!("with labels {labels:?}"),
    });
    let (kind, original) = match kinds::find(context, workload, &mut Vec::new()).await {
        Ok(found) => (found.resource.kind.to_ascii_lowercase(), found.object),
        Err(SessionError::WorkloadMissing { nearest, .. }) => {
            (facts.workload, facts.nearest) = (Ok(None), nearest);
            return;
        }
        Err(error) => {
            facts.workload = Err(error.to_string());
            return;
        }
    };
    let name = text(&original, "/metadata/name");
    let mut session = None;
    if let Ok((_, held)) = down::session_of(context, &format!("{kind}/{name}")).await {
        session = Some(held.record.session.clone());
        facts.session = Some(SessionSeen {
            holder: journal::person(&held.holder).to_owned(),
            mine: journal::person(&held.holder) == context.holder,
            alive: journal::is_alive(&held),
            silence: journal::silence(&held),
            tool: held.record.tool.clone(),
            container: held.record.container,
        });
    }
    facts.controllers = controllers::look(context, &original, Touch::Replicas, session.as_deref())
        .await
        .map_err(|error| error.to_string());
    for name in config_maps(&original) {
        let object = Object::new(CONFIG_MAPS, &context.namespace, &name);
        let found = there(context.cluster.get(&object).await).map(|found| found.is_some());
        facts.config_maps.push((name, found));
    }
    let mine: Vec<Value> =
        facts.pods.iter().filter(|pod| is_of(pod, &original, session.as_deref())).cloned().collect();
    facts.pod = Ok(pod::choose(&mine).cloned());
    let container = match (&facts.session, request.and_then(|request| request.plan.container.clone())) {
        (Some(session), _) => session.container.clone(),
        (None, Some(container)) => container,
        (None, None) => text(&original, "/spec/template/spec/containers/0/name"),
    };
    facts.inside = match &facts.pod {
        Ok(Some(pod)) => {
            // In hybrid mode the command is one of this machine.
            let dev = facts.dev.as_ref().filter(|dev| dev.mode == Mode::Sync);
            let program = dev.and_then(|dev| dev.command_line().into_iter().next());
            inside::look(context, pod, &container, program.as_deref()).await
        }
        Ok(None) => Err("there is no pod to look into".to_owned()),
        Err(why) => Err(why.clone()),
    };
    facts.workload = Ok(Some(original));
}

/// Tells whether a pod is the session's, or, without one, the workload's own.
fn is_of(pod: &Value, original: &Value, session: Option<&str>) -> bool {
    let Some(labels) = pod.pointer("/metadata/labels") else { return false };
    let of_session = labels.get(SESSION_LABEL).and_then(Value::as_str);
    if session.is_some() {
        return of_session == session;
    }
    let selector = original.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    of_session.is_none()
        && selector.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// Returns the names of the `ConfigMaps` that a workload's containers can't start without.
fn config_maps(workload: &Value) -> BTreeSet<String> {
    referred(workload, |key, value| {
        let named = matches!(key, "configMapRef" | "configMapKeyRef" | "configMap");
        let optional = value.get("optional") == Some(&Value::Bool(true));
        if named && !optional { value.get("name") } else { None }
    })
}

/// Returns the names that a pod template refers to: `name` finds one in a member and its value, or the value is looked
/// through.
pub(super) fn referred(
    workload: &Value,
    name: impl for<'v> Fn(&str, &'v Value) -> Option<&'v Value>,
) -> BTreeSet<String> {
    fn walk(
        value: &Value,
        name: &impl for<'v> Fn(&str, &'v Value) -> Option<&'v Value>,
        found: &mut BTreeSet<String>,
    ) {
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    match name(key, value).and_then(Value::as_str) {
                        Some(name) => {
                            found.insert(name.to_owned());
                        }
                        None => walk(value, name, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, name, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    if let Some(pod) = workload.pointer("/spec/template/spec") {
        walk(pod, &name, &mut found);
    }
    found
}

/// Finds what keeps a namespace from going away.
async fn held_up(context: &Context) -> Vec<Held> {
    let mut held = Vec::new();
    for kind in HOLDERS {
        let found = context.cluster.list(kind, Some(&context.namespace), &Selection::default()).await;
        for object in found.unwrap_or_default() {
            let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
            let finalizers: Vec<String> =
                finalizers.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
            if object.pointer("/metadata/deletionTimestamp").is_some() && !finalizers.is_empty() {
                held.push(Held {
                    kind: kind.kind.to_owned(),
                    name: text(&object, "/metadata/name"),
                    finalizers,
                });
            }
        }
    }
    held
}

/// Asks the server what time it is: an object that it is asked to make, but not to store, has its time.
async fn clock_ahead(context: &Context) -> Known<i64> {
    let body =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "towline-clock-"}});
    let before = jiff::Timestamp::now();
    let options = WriteOptions { dry_run: true };
    let made = known(context.cluster.create(CONFIG_MAPS, &context.namespace, &body, &options).await)?;
    let there = text(&made, "/metadata/creationTimestamp");
    let there: jiff::Timestamp = there.parse().map_err(|_| "it does not say the time".to_owned())?;
    let halfway = before.as_second() + (jiff::Timestamp::now().as_second() - before.as_second()) / 2;
    Ok(halfway - there.as_second())
}

/// Asks the server whether it would take each Ingress of the namespace with a mark more.
async fn refusals(context: &Context, facts: &Facts) -> Vec<(String, Known<Option<String>>)> {
    let mark = Patch::Merge(json!({"metadata": {"annotations": {"towline.dev/doctor": "dry-run"}}}));
    let own = facts.ingresses.iter().flatten();
    let own = own.filter(|ingress| text(ingress, "/metadata/namespace") == context.namespace);
    let mut refusals = Vec::new();
    for ingress in own.take(MAX_DRY_RUNS) {
        let name = text(ingress, "/metadata/name");
        let object = Object::new(INGRESSES, &context.namespace, &name);
        let answer = match context.cluster.patch(&object, &mark, &WriteOptions { dry_run: true }).await {
            Ok(_) => Ok(None),
            Err(ClusterError::Forbidden { message, .. }) if message.contains("cannot patch resource") => {
                Err(message)
            }
            Err(error) if Obstacle::of(&error).is_some() => Ok(Some(error.to_string())),
            Err(error) => Err(error.to_string()),
        };
        refusals.push((name, answer));
    }
    refusals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_maps_that_must_be_there() {
        let workload = json!({"spec": {"template": {"spec": {
            "containers": [{"envFrom": [{"configMapRef": {"name": "a"}}, {"configMapRef": {"name": "b", "optional": true}}],
                "env": [{"valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]}],
            "volumes": [{"configMap": {"name": "d"}}, {"projected": {"sources": [{"configMap": {"name": "e"}}]}},
                {"secret": {"secretName": "f"}}]}}}});
        let found: Vec<_> = config_maps(&workload).into_iter().collect();
        assert_eq!(found, ["a", "c", "d", "e"]);
    }

    #[test]
    fn the_sessions_pod_is_looked_into_where_there_is_a_session() {
        let original = json!({"spec": {"selector": {"matchLabels": {"app": "web"}}}});
        let own = json!({"metadata": {"labels": {"app": "web"}}});
        let clone = json!({"metadata": {"labels": {"app": "web", SESSION_LABEL: "abcd"}}});
        for (pod, session, expected) in [
            (&own, None, true),
            (&clone, None, false),
            (&own, Some("abcd"), false),
            (&clone, Some("abcd"), true),
        ] {
            assert_eq!(is_of(pod, &original, session), expected, "{pod} {session:?}");
        }
    }
}
