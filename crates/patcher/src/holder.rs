//! The kinds that hold a pod template: where it is, what turns the workload off, and which ways lead in.

use serde_json::Value;

use crate::workload::{Refusal, replicas, text};

/// How dev mode is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A clone becomes the dev container; the original is turned off in one field, where it has one.
    Swap,
    /// The original's own template is changed.
    InPlace,
}

/// The one field by which a workload is turned off while its clone runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// `spec.replicas`, to 0.
    Replicas,
    /// `spec.suspend`, to true.
    Suspend,
    /// There is none: the clone runs beside the original.
    None,
}

/// What is known of a workload's kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Where the pod template is, as a JSON pointer; empty for a Pod, which is its own.
    pub template: String,
    /// What turns the workload off.
    pub switch: Switch,
    /// The way in when none is asked for.
    pub way: Way,
}

/// A template's usual place.
pub(crate) const SPEC_TEMPLATE: &str = "/spec/template";

/// Says what is known of a workload's kind. `template` is the path of the pod template in a kind that is not one of
/// Kubernetes' own, such as `spec.podTemplate`.
pub fn holder(original: &Value, template: Option<&str>) -> Result<Holder, Refusal> {
    let kind = text(original, "/kind").unwrap_or_default();
    let version = text(original, "/apiVersion").unwrap_or_default();
    let name = || text(original, "/metadata/name").unwrap_or_default().to_owned();
    let holder = |template: &str, switch, way| Ok(Holder { template: template.to_owned(), switch, way });
    match (group(version), kind) {
        ("apps", "Deployment" | "ReplicaSet") | ("argoproj.io", "Rollout") => {
            holder(SPEC_TEMPLATE, Switch::Replicas, Way::Swap)
        }
        // Their pods keep their claims, their names and their nodes.
        ("apps", "StatefulSet") => holder(SPEC_TEMPLATE, Switch::Replicas, Way::InPlace),
        ("apps", "DaemonSet") => holder(SPEC_TEMPLATE, Switch::None, Way::InPlace),
        // A suspended Job loses the work of the pods that run; a suspended CronJob begins no run.
        ("batch", "Job") => holder(SPEC_TEMPLATE, Switch::None, Way::Swap),
        ("batch", "CronJob") => holder("/spec/jobTemplate/spec/template", Switch::Suspend, Way::Swap),
        ("", "Pod") => holder("", Switch::None, Way::Swap),
        _ => {
            let pointer = template.map_or_else(|| Some(SPEC_TEMPLATE.to_owned()), pointer);
            let Some(pointer) = pointer else {
                let path = template.unwrap_or_default().to_owned();
                return Err(Refusal::NoTemplate { kind: kind.to_owned(), name: name(), path });
            };
            if original.pointer(&format!("{pointer}/spec/containers")).is_none_or(|list| !list.is_array()) {
                let path = dotted(&pointer);
                return Err(Refusal::NoTemplate { kind: kind.to_owned(), name: name(), path });
            }
            let counted = original.pointer("/spec/replicas").is_some_and(Value::is_i64);
            let (switch, way) =
                if counted { (Switch::Replicas, Way::Swap) } else { (Switch::None, Way::InPlace) };
            Ok(Holder { template: pointer, switch, way })
        }
    }
}

/// Tells why a workload can't be entered this way, if it can't.
pub fn way_refusal(original: &Value, holder: &Holder, way: Way) -> Option<Refusal> {
    let kind = text(original, "/kind").unwrap_or_default();
    let refuse = |why: &str| Some(Refusal::Way { way, why: why.to_owned() });
    let is_true = |pointer| original.pointer(pointer) == Some(&Value::Bool(true));
    match (way, kind) {
        (Way::InPlace, "Pod" | "Job" | "CronJob" | "ReplicaSet") => {
            refuse("a change of its template reaches no pod that runs")
        }
        (Way::InPlace, "Rollout") if original.pointer("/spec/workloadRef").is_some_and(Value::is_object) => {
            refuse("its template is another workload's")
        }
        (Way::InPlace, _) if is_true("/spec/paused") => {
            refuse("it is paused, so a change of its template reaches no pod")
        }
        (Way::Swap, "DaemonSet") => refuse("nothing but its deletion takes its pod from a node"),
        (Way::Swap, "StatefulSet") if deletes_claims(original) => refuse(
            "persistentVolumeClaimRetentionPolicy.whenScaled is Delete: scaled down, it loses its data",
        ),
        (Way::Swap, "StatefulSet") if replicas(original) > 1 => {
            refuse("a clone can take the place of one replica, and it has more")
        }
        (Way::Swap, _) if holder.switch == Switch::None && !matches!(kind, "Pod" | "Job") => {
            refuse("it has no spec.replicas that could be 0")
        }
        (Way::Swap | Way::InPlace, _) => None,
    }
}

/// Tells whether scaling the workload down deletes volume claims.
pub(crate) fn deletes_claims(original: &Value) -> bool {
    text(original, "/spec/persistentVolumeClaimRetentionPolicy/whenScaled") == Some("Delete")
}

impl Switch {
    /// Returns the switch of a kind, as a record of it has it.
    pub(crate) fn of(api_version: &str, kind: &str) -> Self {
        match (group(api_version), kind) {
            ("batch", "CronJob") => Self::Suspend,
            ("apps", "DaemonSet") | ("batch", "Job") | ("", "Pod") => Self::None,
            _ => Self::Replicas,
        }
    }

    /// Returns the field under `spec`.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Replicas | Self::None => "replicas",
            Self::Suspend => "suspend",
        }
    }

    /// Returns how much of the original runs: its replicas, or 1 where it is not suspended.
    pub(crate) fn live(self, original: &Value) -> i64 {
        match self {
            Self::Replicas | Self::None => replicas(original),
            Self::Suspend => i64::from(original.pointer("/spec/suspend") != Some(&Value::Bool(true))),
        }
    }

    /// Returns the field's value for so much of it.
    pub(crate) fn value(self, level: i64) -> Value {
        match self {
            Self::Replicas | Self::None => Value::from(level),
            Self::Suspend => Value::from(level == 0),
        }
    }
}

impl Way {
    /// Returns the name that users type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Swap => "by swap",
            Self::InPlace => "in place",
        }
    }
}

/// Returns the group of an `apiVersion`, empty for the core group.
pub(crate) fn group(api_version: &str) -> &str {
    api_version.rsplit_once('/').map_or("", |(group, _)| group)
}

/// Turns `spec.podTemplate` into a JSON pointer, if it leads to a part of the spec.
fn pointer(path: &str) -> Option<String> {
    let steps: Vec<_> = path.trim_start_matches('.').split('.').collect();
    let plain = |step: &&str| !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (steps.len() >= 2 && steps[0] == "spec" && steps.iter().all(plain))
        .then(|| format!("/{}", steps.join("/")))
}

fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(api_version: &str, kind: &str, spec: Value) -> Value {
        let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "web"}});
        object["spec"] = spec;
        object
    }

    #[test]
    fn each_kind_has_its_template_its_switch_and_its_way() {
        let check = |version: &str, kind: &str, expected: (&str, Switch, Way)| {
            let found = holder(&object(version, kind, json!({})), None).unwrap();
            assert_eq!((found.template.as_str(), found.switch, found.way), expected, "{kind}");
            assert_eq!(Switch::of(version, kind), expected.1, "{kind}");
        };
        check("apps/v1", "Deployment", (SPEC_TEMPLATE, Switch::Replicas, Way::Swap));
        check("apps/v1", "ReplicaSet", (SPEC_TEMPLATE, Switch::Replicas, Way::Swap));
        check("apps/v1", "StatefulSet", (SPEC_TEMPLATE, Switch::Replicas, Way::InPlace));
        check("apps/v1", "DaemonSet", (SPEC_TEMPLATE, Switch::None, Way::InPlace));
        check("batch/v1", "Job", (SPEC_TEMPLATE, Switch::None, Way::Swap));
        check("batch/v1", "CronJob", ("/spec/jobTemplate/spec/template", Switch::Suspend, Way::Swap));
        check("v1", "Pod", ("", Switch::None, Way::Swap));
        check("argoproj.io/v1alpha1", "Rollout", (SPEC_TEMPLATE, Switch::Replicas, Way::Swap));
    }

    #[test]
    fn a_kind_of_anyones_own_says_where_its_template_is() {
        let shop = object(
            "example.com/v1",
            "Shop",
            json!({"replicas": 2, "pods": {"spec": {"containers": []}}, "other": {"template": {}}}),
        );
        let check = |path: Option<&str>, expected: Option<&str>| {
            let found = holder(&shop, path).ok().map(|holder| holder.template);
            assert_eq!(found.as_deref(), expected, "{path:?}");
        };
        check(Some("spec.pods"), Some("/spec/pods"));
        check(Some(".spec.pods"), Some("/spec/pods"));
        for path in
            [None, Some("spec.other.template"), Some("metadata.name"), Some("spec"), Some("spec..pods")]
        {
            check(path, None);
        }
        assert_eq!(holder(&shop, Some("spec.pods")).unwrap().way, Way::Swap);
        let mut uncounted = shop.clone();
        uncounted["spec"].as_object_mut().unwrap().remove("replicas");
        assert_eq!(holder(&uncounted, Some("spec.pods")).unwrap().way, Way::InPlace);
    }

    #[test]
    fn a_way_that_does_harm_is_refused() {
        let check = |version: &str, kind: &str, spec: Value, way, expected: Option<&str>| {
            let object = object(version, kind, spec);
            let found = way_refusal(&object, &holder(&object, None).unwrap(), way);
            let found = found.map(|refusal| refusal.to_string());
            assert_eq!(
                found.as_deref().map(|text| text.contains(expected.unwrap_or("?"))),
                expected.map(|_| true)
            );
        };
        let retention = |when: &str| json!({"persistentVolumeClaimRetentionPolicy": {"whenScaled": when}});
        check("apps/v1", "StatefulSet", retention("Delete"), Way::Swap, Some("loses its data"));
        check("apps/v1", "StatefulSet", retention("Delete"), Way::InPlace, None);
        check("apps/v1", "StatefulSet", retention("Retain"), Way::Swap, None);
        check("apps/v1", "StatefulSet", json!({"replicas": 2}), Way::Swap, Some("one replica"));
        check("apps/v1", "DaemonSet", json!({}), Way::Swap, Some("node"));
        check("apps/v1", "Deployment", json!({"paused": true}), Way::InPlace, Some("paused"));
        check("apps/v1", "Deployment", json!({"paused": true}), Way::Swap, None);
        check("batch/v1", "CronJob", json!({}), Way::InPlace, Some("no pod that runs"));
        check("v1", "Pod", json!({}), Way::Swap, None);
        let reference = json!({"workloadRef": {"kind": "Deployment", "name": "web"}});
        check("argoproj.io/v1alpha1", "Rollout", reference, Way::InPlace, Some("another workload's"));
    }
}
