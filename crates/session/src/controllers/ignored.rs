//! Argo CD's rules of fields that it leaves alone: `ignoreDifferences` and their relatives.

use serde_json::Value;

use super::group_of;
use crate::pod::text;

/// Tells whether one of `rules` (`spec.ignoreDifferences`) covers a field of an object.
pub(super) fn covers(rules: Option<&Value>, object: &Value, path: &[&str]) -> bool {
    let rules = rules.and_then(Value::as_array);
    rules.into_iter().flatten().any(|rule| is_about(rule, object) && ignores(rule, path))
}

/// Tells whether one of `rules` (`spec.ignoreApplicationDifferences` of an ApplicationSet, `name` optional) covers a
/// field of an Application.
pub(super) fn covers_application(rules: Option<&Value>, name: &str, path: &[&str]) -> bool {
    let rules = rules.and_then(Value::as_array);
    rules.into_iter().flatten().any(|rule| {
        let wanted = text(rule, "/name");
        (wanted.is_empty() || wanted == name) && ignores(rule, path)
    })
}

/// Tells whether a text of rules (YAML in `argocd-cm`) covers `spec.replicas`. It is searched, not parsed: whoever
/// wrote one of these words into it meant this field.
pub(super) fn mentions_replicas(rules: &str) -> bool {
    let by_manager =
        rules.contains("managedFieldsManagers") && rules.contains(towline_patcher::FIELD_MANAGER);
    rules.contains("/spec/replicas") || rules.contains(".spec.replicas") || by_manager
}

fn is_about(rule: &Value, object: &Value) -> bool {
    let fits =
        |pointer: &str, value: &str, required: bool| match rule.pointer(pointer).and_then(Value::as_str) {
            None | Some("") => !required,
            Some("*") => true,
            Some(wanted) => wanted == value,
        };
    // The core group is the empty one.
    let group = group_of(object);
    fits("/group", &group, !group.is_empty())
        && fits("/kind", &text(object, "/kind"), true)
        && fits("/name", &text(object, "/metadata/name"), false)
        && fits("/namespace", &text(object, "/metadata/namespace"), false)
}

fn ignores(rule: &Value, path: &[&str]) -> bool {
    let texts = |pointer: &str| -> Vec<String> {
        let list = rule.pointer(pointer).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let pointers = texts("/jsonPointers");
    let expressions = texts("/jqPathExpressions");
    let is_above = |segments: Vec<String>| {
        !segments.is_empty() && segments.len() <= path.len() && segments.iter().zip(path).all(|(a, b)| a == b)
    };
    pointers.iter().any(|pointer| is_above(pointer_segments(pointer)))
        || expressions.iter().any(|expression| is_above(plain_jq(expression)))
        || texts("/managedFieldsManagers").iter().any(|manager| manager == towline_patcher::FIELD_MANAGER)
}

fn pointer_segments(pointer: &str) -> Vec<String> {
    let unescape = |segment: &str| segment.replace("~1", "/").replace("~0", "~");
    pointer.strip_prefix('/').map_or(Vec::new(), |rest| rest.split('/').map(unescape).collect())
}

/// The segments of a jq path without filters, such as `.spec.replicas`; of any other nothing.
fn plain_jq(expression: &str) -> Vec<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '?');
    match expression.trim().strip_prefix('.') {
        Some(rest) if rest.chars().all(plain) => {
            rest.split('.').map(|segment| segment.trim_end_matches('?').to_owned()).collect()
        }
        Some(_) | None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_covers_a_field_and_what_lies_below_it() {
        let web = json!({"apiVersion": "apps/v1", "kind": "Deployment",
                         "metadata": {"name": "web", "namespace": "shop"}});
        let check = |rule: Value, expected: bool| {
            let rules = json!([rule]);
            assert_eq!(covers(Some(&rules), &web, &["spec", "replicas"]), expected, "{rules}");
        };
        check(json!({"group": "apps", "kind": "Deployment", "jsonPointers": ["/spec/replicas"]}), true);
        check(json!({"group": "apps", "kind": "Deployment", "jsonPointers": ["/spec"]}), true);
        check(json!({"group": "*", "kind": "*", "jsonPointers": ["/spec/replicas"]}), true);
        check(
            json!({"group": "apps", "kind": "Deployment", "name": "web", "jqPathExpressions": [".spec.replicas"]}),
            true,
        );
        check(json!({"group": "apps", "kind": "Deployment", "managedFieldsManagers": ["towline"]}), true);
        check(
            json!({"group": "apps", "kind": "Deployment", "name": "api", "jsonPointers": ["/spec/replicas"]}),
            false,
        );
        check(
            json!({"group": "apps", "kind": "Deployment", "namespace": "other", "jsonPointers": ["/spec/replicas"]}),
            false,
        );
        check(json!({"kind": "Deployment", "jsonPointers": ["/spec/replicas"]}), false);
        check(json!({"group": "apps", "kind": "StatefulSet", "jsonPointers": ["/spec/replicas"]}), false);
        check(json!({"group": "apps", "kind": "Deployment", "jsonPointers": ["/spec/template"]}), false);
        check(
            json!({"group": "apps", "kind": "Deployment", "jqPathExpressions": [".spec.template[] | .x"]}),
            false,
        );
        check(json!({"group": "apps", "kind": "Deployment", "jsonPointers": "no list"}), false);
        check(json!("no object"), false);
    }

    #[test]
    fn rules_of_a_whole_installation_are_searched() {
        assert!(mentions_replicas("jsonPointers:\n- /spec/replicas\n"));
        assert!(mentions_replicas("managedFieldsManagers:\n- towline\n"));
        assert!(!mentions_replicas("managedFieldsManagers:\n- kube-controller-manager\n"));
    }
}
