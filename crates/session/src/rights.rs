//! The rights that the way in and the way back need, and the Role that gives them.

use std::collections::BTreeMap;
use std::fmt::Write;

use towline_cluster::port::{CONTROLLER_REVISIONS, DEPLOYMENTS, PODS, REPLICA_SETS, Resource, Right};
use towline_patcher::Way;

use crate::kinds;
use crate::request::{UpRequest, Workload};

const fn right(
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    subresource: &'static str,
) -> Right {
    Right { verb, group, resource, subresource }
}

/// Every session's: without one of these `up` does not begin.
const NEEDED: &[Right] = &[
    right("get", "apps", "deployments", ""),
    right("list", "apps", "deployments", ""),
    right("watch", "apps", "deployments", ""),
    right("create", "apps", "deployments", ""),
    right("patch", "apps", "deployments", ""),
    right("delete", "apps", "deployments", ""),
    right("get", "", "pods", ""),
    right("list", "", "pods", ""),
    right("watch", "", "pods", ""),
    right("get", "", "pods", "exec"),
    right("create", "", "pods", "exec"),
    right("get", "", "configmaps", ""),
    right("create", "", "configmaps", ""),
    right("delete", "", "configmaps", ""),
    right("get", "coordination.k8s.io", "leases", ""),
    right("list", "coordination.k8s.io", "leases", ""),
    right("watch", "coordination.k8s.io", "leases", ""),
    right("create", "coordination.k8s.io", "leases", ""),
    right("update", "coordination.k8s.io", "leases", ""),
    right("delete", "coordination.k8s.io", "leases", ""),
];

/// Every session's: without one of these a part is missing, which is said.
const USEFUL: &[Right] = &[
    right("create", "", "pods", ""),
    right("get", "", "pods", "log"),
    right("list", "", "events", ""),
    right("watch", "", "events", ""),
    right("list", "", "configmaps", ""),
    right("list", "autoscaling", "horizontalpodautoscalers", ""),
    right("get", "", "persistentvolumeclaims", ""),
    right("list", "apps", "replicasets", ""),
    right("get", "", "services", ""),
];

/// Without it the agent can't come in a ConfigMap.
pub(crate) const CARRY_AGENT: &Right = &right("create", "", "configmaps", "");

/// For the manifest's `secrets`: one is written and deleted by its name. None is read.
const SECRETS: &[Right] = &[right("create", "", "secrets", ""), right("delete", "", "secrets", "")];

/// For a claim of ours.
const CLAIM: &[Right] =
    &[right("get", "", "persistentvolumeclaims", ""), right("create", "", "persistentvolumeclaims", "")];

/// For `down --volumes`.
const CLAIM_REMOVAL: &[Right] =
    &[right("list", "", "persistentvolumeclaims", ""), right("delete", "", "persistentvolumeclaims", "")];

/// For the Service of a workload that is made where there is none.
pub(crate) const OWN_SERVICE: &[Right] =
    &[right("create", "", "services", ""), right("delete", "", "services", "")];

/// For forwards to Services that are named by labels.
const SERVICE_LABELS: &[Right] = &[right("list", "", "services", "")];

/// The rights for one session, on the way in and on the way back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Without one of these `up` does not begin: either it would stop half way, or `down` could not undo it.
    pub needed: Vec<Right>,
    /// Without one of these a part is missing, which is said.
    pub useful: Vec<Right>,
}

/// Returns the rights of every session, whatever its manifest uses.
pub fn plain() -> Rights {
    Rights { needed: NEEDED.to_vec(), useful: USEFUL.to_vec() }
}

/// Returns the rights that a request needs: those of every session, and those for what the manifest uses.
pub fn of(request: &UpRequest) -> Rights {
    let Rights { mut needed, mut useful } = plain();
    if !request.secrets.is_empty() {
        needed.extend_from_slice(SECRETS);
    }
    if request.claim.is_some() {
        needed.extend_from_slice(CLAIM);
        useful.extend_from_slice(CLAIM_REMOVAL);
    }
    if request.forwards.iter().any(|forward| !forward.labels.is_empty()) {
        needed.extend_from_slice(SERVICE_LABELS);
    }
    if request.autocreate {
        useful.extend_from_slice(OWN_SERVICE);
    }
    if request.plan.agent.image.is_some() {
        needed.retain(|right| right.resource != CARRY_AGENT.resource);
    }
    // A kind that the manifest names; another one is found out before the first write.
    if let Workload::Name(name) = &request.workload
        && let Some((kind, _)) = name.split_once('/')
        && let Some(kind) = kinds::named(kind)
    {
        let by_pod = matches!(kind.kind, "StatefulSet" | "DaemonSet");
        let way = request.way.unwrap_or(if by_pod { Way::InPlace } else { Way::Swap });
        needed.extend(of_kind(kind, way));
        if way == Way::InPlace {
            // Without it the session's own revisions stay in the kind's history.
            let revisions = if by_pod { CONTROLLER_REVISIONS } else { REPLICA_SETS };
            useful.push(right("delete", revisions.group, revisions.plural, ""));
        }
    }
    useful.retain(|right| !needed.contains(right));
    Rights { needed, useful }
}

/// Returns the rights that all of these requests need, each once; those of every session where there is none.
pub fn of_all(requests: &[UpRequest]) -> Rights {
    let Some((first, others)) = requests.split_first() else { return plain() };
    let Rights { mut needed, mut useful } = of(first);
    for other in others.iter().map(of) {
        needed
            .extend(other.needed.iter().filter(|right| !needed.contains(right)).cloned().collect::<Vec<_>>());
        useful
            .extend(other.useful.iter().filter(|right| !useful.contains(right)).cloned().collect::<Vec<_>>());
    }
    useful.retain(|right| !needed.contains(right));
    Rights { needed, useful }
}

/// Returns the rights that the way into a kind needs beside those of every session.
pub fn of_kind(kind: &'static Resource, way: Way) -> Vec<Right> {
    let of = |verb, of: &'static Resource| right(verb, of.group, of.plural, "");
    let mut needed = Vec::new();
    if kind != DEPLOYMENTS {
        needed.extend(["get", "watch", "patch"].map(|verb| of(verb, kind)));
    }
    if way == Way::InPlace {
        let by_pod = matches!(kind.kind, "StatefulSet" | "DaemonSet");
        needed.push(of("list", if by_pod { CONTROLLER_REVISIONS } else { REPLICA_SETS }));
        needed.extend(by_pod.then(|| of("delete", PODS)));
    }
    needed
}

/// Returns a right as people say it, such as `get pods/log`.
pub fn words(right: &Right) -> String {
    format!("{} {}", right.verb, resource(right))
}

/// Returns the plural and the subresource as a Role has them.
pub(crate) fn resource(right: &Right) -> String {
    let slash = if right.subresource.is_empty() { "" } else { "/" };
    format!("{}{slash}{}", right.resource, right.subresource)
}

impl Rights {
    /// Returns all of them, the needed ones first.
    pub fn all(&self) -> impl Iterator<Item = &Right> {
        self.needed.iter().chain(&self.useful)
    }

    /// Writes the Role that gives all of these, as YAML to apply.
    pub fn role(&self, namespace: &str) -> String {
        let mut rules: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
        for right in self.all() {
            rules.entry((right.group, resource(right))).or_default().push(right.verb);
        }
        let mut merged: BTreeMap<(&str, Vec<&str>), Vec<String>> = BTreeMap::new();
        for ((group, resource), verbs) in rules {
            merged.entry((group, verbs)).or_default().push(resource);
        }
        let mut yaml = format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata:\n  name: towline\n  namespace: {namespace}\n\
             rules:\n"
        );
        for ((group, verbs), resources) in merged {
            let _ = writeln!(
                yaml,
                "- apiGroups: [\"{group}\"]\n  resources: [{}]\n  verbs: [{}]",
                resources.join(", "),
                verbs.join(", ")
            );
        }
        yaml
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use towline_patcher::DevPlan;

    use super::*;
    use crate::context::AgentSource;
    use crate::controllers::truce::Gitops;
    use crate::storage::{Content, SecretFile};

    pub(crate) fn request() -> UpRequest {
        UpRequest {
            workload: Workload::Name("web".to_owned()),
            plan: DevPlan::default(),
            folders: Vec::new(),
            command: Vec::new(),
            autocreate: false,
            main: None,
            hybrid: None,
            process_environment: Vec::new(),
            forwards: Vec::new(),
            reverses: Vec::new(),
            claim: None,
            secrets: Vec::new(),
            patience: Duration::ZERO,
            answer: Duration::ZERO,
            agent: AgentSource::Host { hash: String::new() },
            takeover: false,
            way: None,
            on_change: crate::request::OnChange::default(),
            gitops: Gitops::Leave,
        }
    }

    #[test]
    fn the_role_names_every_right_and_no_secret() {
        let rights = of(&request());
        let yaml = rights.role("shop");
        for right in rights.all() {
            assert!(yaml.contains(right.resource) && yaml.contains(right.verb), "{right:?}");
        }
        assert!(!yaml.contains("secrets") && !yaml.contains('*'), "{yaml}");
        assert!(yaml.contains("resources: [pods/exec]\n  verbs: [get, create]"), "{yaml}");
        assert!(yaml.contains("namespace: shop"));
    }

    #[test]
    fn what_the_manifest_uses_is_asked_for_and_nothing_else() {
        let check = |asked: UpRequest, expected: &[&str]| {
            let (plain, more) = (of(&request()), of(&asked));
            let added: Vec<_> =
                more.needed.iter().filter(|right| !plain.needed.contains(right)).map(words).collect();
            assert_eq!(added, expected);
            assert!(more.useful.iter().all(|right| !more.needed.contains(right)), "{more:?}");
        };
        check(request(), &[]);
        let content = Content(b"x".as_slice().into());
        let secrets = vec![SecretFile { path: "/t".to_owned(), mode: 0o400, content }];
        check(UpRequest { secrets, ..request() }, &["create secrets", "delete secrets"]);
        let mut by_image = request();
        by_image.plan.agent.image = Some("agent:1".to_owned());
        assert!(of(&by_image).needed.iter().all(|right| right.resource != "configmaps"));
        let workload = |name: &str| UpRequest { workload: Workload::Name(name.to_owned()), ..request() };
        check(workload("deploy/web"), &[]);
        check(workload("cronjob/web"), &["get cronjobs", "watch cronjobs", "patch cronjobs"]);
        check(
            workload("sts/web"),
            &[
                "get statefulsets",
                "watch statefulsets",
                "patch statefulsets",
                "list controllerrevisions",
                "delete pods",
            ],
        );
        let both = [workload("cronjob/web"), UpRequest { autocreate: true, ..workload("sts/web") }];
        let all = of_all(&both);
        for right in both.iter().flat_map(|one| of(one).needed) {
            assert_eq!(all.needed.iter().filter(|known| **known == right).count(), 1, "{right:?}");
        }
        assert!(OWN_SERVICE.iter().all(|right| all.useful.contains(right)));
        let claim = Some(serde_json::json!({}));
        check(
            UpRequest { claim, ..request() },
            &["get persistentvolumeclaims", "create persistentvolumeclaims"],
        );
    }
}
