//! The rights that the way in and the way back need, and the Role that gives them.

use std::collections::BTreeMap;
use std::fmt::Write;

use towline_cluster::port::Right;

const fn right(
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    subresource: &'static str,
) -> Right {
    Right { verb, group, resource, subresource }
}

/// Without one of these `up` does not begin: either it would stop half way, or `down` could not undo it.
pub const NEEDED: &[Right] = &[
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

/// Without one of these a part is missing, which is said.
pub const USEFUL: &[Right] = &[
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

/// Writes the Role that gives all of these, as YAML to apply.
pub fn role(namespace: &str) -> String {
    let mut rules: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
    for right in NEEDED.iter().chain(USEFUL) {
        let slash = if right.subresource.is_empty() { "" } else { "/" };
        let resource = format!("{}{slash}{}", right.resource, right.subresource);
        rules.entry((right.group, resource)).or_default().push(right.verb);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_names_every_right_and_no_secret() {
        let yaml = role("shop");
        for right in NEEDED.iter().chain(USEFUL) {
            assert!(yaml.contains(right.resource) && yaml.contains(right.verb), "{right:?}");
        }
        assert!(!yaml.contains("secrets") && !yaml.contains('*'), "{yaml}");
        assert!(yaml.contains("resources: [pods/exec]\n  verbs: [get, create]"), "{yaml}");
        assert!(yaml.contains("namespace: shop"));
    }
}
