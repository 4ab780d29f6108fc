//! Argo CD: which Application the workload belongs to, whether it heals itself, and how it can be paused.

use serde_json::Value;
use towline_cluster::ClusterError;
use towline_cluster::port::{APPLICATION_SETS, APPLICATIONS, CONFIG_MAPS};

use super::ignored;
use super::pause::{self, ARGO_AUTOMATED, ARGO_SKIP, PausePlan, PausedBy, Switch};
use super::read::{self, Read};
use super::standing::Standing;
use super::{
    Effect, Finding, Reference, Touch, annotation, group_of, is_managed_by, label, off_switch, turns_on,
};
use crate::context::Context;
use crate::pod::text;

const NAME: &str = "Argo CD";
/// Where Argo CD mostly is.
const HOME: &str = "argocd";
const TRACKING_ID: &str = "argocd.argoproj.io/tracking-id";
const SKIP_RECONCILE: &str = "argocd.argoproj.io/skip-reconcile";
/// The label of Argo CD before 3.0, which Helm's charts set too.
const INSTANCE: &str = "app.kubernetes.io/instance";
/// The field managers that Argo CD writes as.
const MANAGERS: &[&str] = &["argocd-controller", "argocd-application-controller"];
/// Applications of Applications of Applications …
const MAX_DEPTH: usize = 5;

/// What was read of Argo CD.
#[derive(Debug, Default)]
pub(super) struct Seen {
    applications: Vec<Managing>,
    /// The name of the Application that can't be read.
    unreadable: Option<String>,
}

/// An Application that manages the workload.
#[derive(Debug)]
struct Managing {
    application: Value,
    /// The ApplicationSet that generates it, if one does.
    generated_by: Option<Read<Value>>,
    /// The Application that it is a part of, and so on upwards.
    parents: Vec<Read<Value>>,
    /// `argocd-cm`.
    settings: Option<Value>,
}

/// Whom an object says it belongs to.
#[derive(Debug, PartialEq)]
struct Tracked {
    namespace: Option<String>,
    application: String,
    /// By annotation, which names the object too; a label says less.
    surely: bool,
}

/// Reads the Applications of the workload, and who is above them.
pub(super) async fn read(context: &Context, original: &Value) -> Result<Seen, ClusterError> {
    let tracked = tracked(original);
    let managed = MANAGERS.iter().any(|manager| is_managed_by(original, manager));
    let found = match &tracked {
        Some(tracked) => find(context, tracked).await?,
        // A label of the installation's own choice: the Applications know what they made.
        None if managed => read::list_everywhere(context, APPLICATIONS, None).await?,
        None => return Ok(Seen::default()),
    };
    let surely = tracked.as_ref().is_some_and(|tracked| tracked.surely);
    let applications = match found {
        Read::Found(found) => found,
        Read::Denied if surely || managed => {
            let name = tracked.map_or_else(|| "unknown".to_owned(), |tracked| tracked.application);
            return Ok(Seen { applications: Vec::new(), unreadable: Some(name) });
        }
        Read::Absent | Read::Denied => return Ok(Seen::default()),
    };
    let mut seen = Seen::default();
    for application in applications {
        if !(surely || manages(&application, original)) {
            continue;
        }
        seen.applications.push(surroundings(context, application).await?);
    }
    Ok(seen)
}

/// Finds Applications by name: in the namespace that is named, else wherever we may look.
async fn find(context: &Context, tracked: &Tracked) -> Result<Read<Vec<Value>>, ClusterError> {
    let name = tracked.application.as_str();
    let one = |read: Read<Value>| match read {
        Read::Found(found) => Read::Found(vec![found]),
        Read::Absent => Read::Absent,
        Read::Denied => Read::Denied,
    };
    if let Some(namespace) = &tracked.namespace {
        return Ok(one(read::get(context, &[APPLICATIONS], namespace, name).await?));
    }
    match read::list_everywhere(context, APPLICATIONS, Some(name)).await? {
        Read::Denied => Ok(one(read::get(context, &[APPLICATIONS], HOME, name).await?)),
        other => Ok(other),
    }
}

async fn surroundings(context: &Context, application: Value) -> Result<Managing, ClusterError> {
    let namespace = text(&application, "/metadata/namespace");
    let generated_by = match generator(&application) {
        Some(name) => Some(read::get(context, &[APPLICATION_SETS], &namespace, &name).await?),
        None => None,
    };
    let mut parents = Vec::new();
    let mut child = application.clone();
    while parents.len() < MAX_DEPTH
        && let Some(tracked) = tracked(&child)
    {
        match find(context, &tracked).await? {
            Read::Found(found) => {
                let Some(parent) = found.into_iter().find(|parent| tracked.surely || manages(parent, &child))
                else {
                    break;
                };
                child = parent.clone();
                parents.push(Read::Found(parent));
            }
            Read::Denied if tracked.surely => {
                parents.push(Read::Denied);
                break;
            }
            Read::Absent | Read::Denied => break,
        }
    }
    let settings = read::get(context, &[CONFIG_MAPS], &namespace, "argocd-cm").await?.found();
    Ok(Managing { application, generated_by, parents, settings })
}

/// Reads whom an object says it belongs to: `<app>:<group>/<kind>:<namespace>/<name>`, where an Application outside
/// Argo CD's own namespace is `<namespace>_<name>`. An id that names another object was copied, and says nothing.
fn tracked(object: &Value) -> Option<Tracked> {
    if let Some(id) = annotation(object, TRACKING_ID) {
        let (owner, itself) = id.split_once(':')?;
        let group = group_of(object);
        let part = |pointer| text(object, pointer);
        let expected =
            format!("{group}/{}:{}/{}", part("/kind"), part("/metadata/namespace"), part("/metadata/name"));
        if itself != expected {
            return None;
        }
        let (namespace, application) = match owner.split_once('_') {
            Some((namespace, name)) => (Some(namespace.to_owned()), name.to_owned()),
            None => (None, owner.to_owned()),
        };
        return Some(Tracked { namespace, application, surely: true });
    }
    let application = label(object, INSTANCE).filter(|name| !name.is_empty())?;
    Some(Tracked { namespace: None, application, surely: false })
}

/// Tells whether an Application's status lists the object among those it manages.
fn manages(application: &Value, object: &Value) -> bool {
    resource_of(application, object).is_some()
}

/// Returns what an Application's status says of an object.
fn resource_of<'a>(application: &'a Value, object: &Value) -> Option<&'a Value> {
    let resources = application.pointer("/status/resources").and_then(Value::as_array);
    let group = group_of(object);
    resources.into_iter().flatten().find(|resource| {
        text(resource, "/group") == group
            && text(resource, "/kind") == text(object, "/kind")
            && text(resource, "/name") == text(object, "/metadata/name")
            && text(resource, "/namespace") == text(object, "/metadata/namespace")
    })
}

/// The ApplicationSet that generates an Application.
fn generator(application: &Value) -> Option<String> {
    let owners = application.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|owner| text(owner, "/kind") == APPLICATION_SETS.kind)?;
    Some(text(owner, "/name"))
}

/// What Argo CD means for the session.
pub(super) fn findings(original: &Value, seen: &Seen, touch: Touch, session: Option<&str>) -> Vec<Finding> {
    let mut findings: Vec<_> =
        seen.applications.iter().map(|managing| finding(original, managing, touch, session)).collect();
    if let Some(name) = &seen.unreadable {
        findings.push(
            Finding::new(
                "argocd.unreadable",
                NAME,
                Effect::ScalesBack,
                format!("manages it by Application {name}, which you may not read: it may heal itself"),
            )
            .mend("ask for the right to get applications.argoproj.io"),
        );
    }
    findings
}

/// Whether the Applications have the workload as it is in Git, as they last looked.
pub(super) fn standings(original: &Value, seen: &Seen) -> Vec<Standing> {
    let applications = seen.applications.iter().map(|managing| &managing.application);
    applications.map(|application| standing(original, application)).collect()
}

fn standing(original: &Value, application: &Value) -> Standing {
    let reference = Reference::of(APPLICATIONS, application);
    // What else is in the Application may be out of sync for reasons of its own.
    let own = resource_of(application, original).map(|resource| text(resource, "/status"));
    let status = own.filter(|status| !status.is_empty());
    let status = status.unwrap_or_else(|| text(application, "/status/sync/status"));
    let in_sync = status == "Synced";
    let why = match status.as_str() {
        "Synced" => None,
        "" => Some("it has not compared it yet".to_owned()),
        _ => Some("it was found different from Git when it was last compared".to_owned()),
    };
    let hint = format!("argocd app sync {}", reference.name);
    Standing { who: format!("{NAME} ({reference})"), in_sync, why, hint: (!in_sync).then_some(hint) }
}

fn finding(original: &Value, managing: &Managing, touch: Touch, session: Option<&str>) -> Finding {
    let reference = Reference::of(APPLICATIONS, &managing.application);
    let (application, paused_by) = pause::unpaused(&managing.application, session);
    let say = |code, effect, does: &str| Finding::new(code, NAME, effect, does).about(reference.clone());
    if paused_by == PausedBy::Us {
        return say("argocd.paused", Effect::Harmless, "is paused by this session")
            .answer("it goes on when dev mode ends");
    }
    if annotation(&application, SKIP_RECONCILE).as_deref() == Some("true") {
        return say("argocd.skipped", Effect::Harmless, "is told to skip this Application");
    }
    let path: &[&str] = &["spec", off_switch(original)];
    let swap = touch == Touch::Replicas;
    if swap && turns_on(original, MANAGERS) == Some(false) {
        return say(
            "argocd.replicasNotInGit",
            Effect::Harmless,
            "applies no replicas to it, and nothing else is changed",
        );
    }
    let everywhere = managing.settings.as_ref().is_some_and(|settings| {
        let group = group_of(original);
        let own = format!("{group}_{}", text(original, "/kind"));
        [own.as_str(), "all"].iter().any(|kind| {
            let key = format!("resource.customizations.ignoreDifferences.{kind}");
            let rules = settings.get("data").and_then(|data| data.get(&key)?.as_str());
            rules.is_some_and(ignored::mentions_replicas)
        })
    });
    let ignores = swap
        && (everywhere || ignored::covers(application.pointer("/spec/ignoreDifferences"), original, path));
    if ignores && has_option(&application, "RespectIgnoreDifferences=true") {
        return say(
            "argocd.ignored",
            Effect::Harmless,
            "leaves the replicas as they are (ignoreDifferences)",
        );
    }
    let automated = application
        .pointer("/spec/syncPolicy/automated")
        .filter(|automated| automated.is_object() && automated.get("enabled") != Some(&Value::Bool(false)));
    let Some(automated) = automated else {
        let does = "syncs when somebody asks it to, and then writes the original as it is in Git";
        return say("argocd.manual", Effect::ScalesBack, does);
    };
    let (pauses, refused) = switches(managing, paused_by);
    let heals = automated.get("selfHeal") == Some(&Value::Bool(true));
    let finding = if heals && !ignores {
        say("argocd.selfHeal", Effect::Undoes, "heals itself within seconds").mend(snippet(original, touch))
    } else {
        let does = if ignores {
            "does not heal the replicas, but writes them with each new commit (RespectIgnoreDifferences is not set)"
        } else {
            "writes the original as it is in Git with each new commit"
        };
        let finding = say("argocd.automated", Effect::ScalesBack, does);
        if swap { finding.mend(snippet(original, touch)) } else { finding }
    };
    match refused {
        Some(refused) => {
            let mend = finding.mend.clone().map_or(refused.clone(), |mend| format!("{mend}\n{refused}"));
            finding.mend(mend)
        }
        None => finding.pauses(pauses),
    }
}

fn has_option(application: &Value, option: &str) -> bool {
    let options = application.pointer("/spec/syncPolicy/syncOptions").and_then(Value::as_array);
    options.into_iter().flatten().any(|known| known == option)
}

/// What makes peace without a pause.
fn snippet(original: &Value, touch: Touch) -> String {
    if touch == Touch::Template {
        return "set selfHeal: false in the Application, in Git, while you develop".to_owned();
    }
    let field = off_switch(original);
    let (group, kind, name) = (group_of(original), text(original, "/kind"), text(original, "/metadata/name"));
    format!(
        "in the Application, in Git:\n  \
         spec:\n    \
         ignoreDifferences:\n    \
         - {{group: {group}, kind: {kind}, name: {name}, jsonPointers: [/spec/{field}]}}\n    \
         syncPolicy:\n      \
         syncOptions: [RespectIgnoreDifferences=true]"
    )
}

/// Returns the switches that nobody above would set back, the best first, or why there is none.
fn switches(managing: &Managing, paused_by: PausedBy) -> (Vec<PausePlan>, Option<String>) {
    let application = &managing.application;
    let plan = |switch: &'static Switch| PausePlan::new(application, switch);
    // Two sessions share one switch.
    if let PausedBy::Others(switch) = paused_by {
        return (plan(switch).into_iter().collect(), None);
    }
    let name = text(application, "/metadata/name");
    let (set_allows_automated, set_allows_skip) = match &managing.generated_by {
        None => (true, true),
        Some(Read::Found(set)) => {
            // These policies never change an Application that is there.
            let policy = text(set, "/spec/syncPolicy/applicationsSync");
            let untouched = matches!(policy.as_str(), "create-only" | "create-delete");
            let rules = set.pointer("/spec/ignoreApplicationDifferences");
            let kept = set.pointer("/spec/preservedFields/annotations").and_then(Value::as_array);
            (
                untouched || ignored::covers_application(rules, &name, ARGO_AUTOMATED_PATH),
                untouched || kept.into_iter().flatten().any(|key| key == SKIP_RECONCILE),
            )
        }
        Some(Read::Absent | Read::Denied) => (false, false),
    };
    // What is not in Git is no difference for the one above, so an annotation survives it and a field may not.
    let healed_from_above = managing.parents.iter().any(|parent| match parent {
        Read::Found(parent) => {
            let heals = parent.pointer("/spec/syncPolicy/automated/selfHeal") == Some(&Value::Bool(true))
                && parent.pointer("/spec/syncPolicy/automated/enabled") != Some(&Value::Bool(false));
            heals
                && !ignored::covers(
                    parent.pointer("/spec/ignoreDifferences"),
                    application,
                    ARGO_AUTOMATED_PATH,
                )
        }
        Read::Absent => false,
        Read::Denied => true,
    });
    let mut switches = Vec::new();
    if set_allows_automated && !healed_from_above {
        switches.extend(plan(ARGO_AUTOMATED));
    }
    if set_allows_skip {
        switches.extend(plan(ARGO_SKIP));
    }
    let refused = switches.is_empty().then(|| {
        let set = generator(application).unwrap_or_default();
        format!(
            "it can't be paused: ApplicationSet {set} would take the pause back. In the ApplicationSet:\n  \
             spec:\n    \
             ignoreApplicationDifferences:\n    \
             - {{name: {name}, jsonPointers: [/spec/syncPolicy]}}"
        )
    });
    (switches, refused)
}

const ARGO_AUTOMATED_PATH: &[&str] = &["spec", "syncPolicy", "automated", "enabled"];

#[cfg(test)]
mod tests;
