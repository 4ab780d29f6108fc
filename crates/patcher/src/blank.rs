//! The dev container of a workload that is not there: made of nothing but the manifest, and gone with its session.

use serde_json::{Value, json};

use crate::names::SESSION_LABEL;
use crate::patch::{DevClone, clone_of};
use crate::plan::{DevPlan, PlanError};
use crate::record::Record;

/// The port of the Service that comes with such a workload, as Okteto's users know it.
pub const AUTOCREATED_PORT: u16 = 8080;

/// Returns a Deployment as it would be read if it were there, with one container. Nothing selects its pods: it has no
/// label of anybody's. Its uid is the session's id, which no object has.
pub fn blank(namespace: &str, name: &str, image: &str, plan: &DevPlan) -> Value {
    let container = plan.container.as_deref().unwrap_or("dev");
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "uid": plan.session, "resourceVersion": "0"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {}},
            "template": {"metadata": {"labels": {}}, "spec": {"containers": [{"name": container, "image": image}]}},
        },
    })
}

/// Returns the dev container's Deployment for a [`blank`] workload. It belongs to nothing: there is no original that it
/// could go with.
pub fn autocreated(blank: &Value, plan: &DevPlan) -> Result<DevClone, PlanError> {
    let mut clone = clone_of(blank, plan)?;
    if let Some(metadata) = clone.object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("ownerReferences");
    }
    Ok(clone)
}

/// Returns the Service that leads to an autocreated workload's pod.
pub fn autocreated_service(record: &Record, name: &str, lease: &str, lease_uid: Option<&str>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": record.metadata(name, lease, lease_uid),
        "spec": {
            "selector": {(SESSION_LABEL): record.session},
            "ports": [{"name": "http", "port": AUTOCREATED_PORT, "targetPort": AUTOCREATED_PORT}],
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_is_made_of_nothing_is_selected_by_nobody_but_the_session() {
        let plan = DevPlan {
            session: "abcdefghij".to_owned(),
            dev_name: "api".to_owned(),
            labels: BTreeMap::from([("team".to_owned(), "shop".to_owned())]),
            ..DevPlan::default()
        };
        let blank = blank("default", "api", "node", &plan);
        let clone = autocreated(&blank, &plan).unwrap();
        assert_eq!(clone.object.pointer("/metadata/ownerReferences"), None, "nothing takes it along");
        assert_eq!(
            clone.object.pointer("/spec/selector/matchLabels").unwrap(),
            &json!({(SESSION_LABEL): "abcdefghij"})
        );
        let labels = clone.object.pointer("/spec/template/metadata/labels").unwrap().as_object().unwrap();
        assert_eq!(labels["team"], "shop");
        assert!(
            !labels.values().any(|value| value == "api") || labels.contains_key(crate::names::DEV_NAME_LABEL)
        );
        let mut record = Record::new(&blank, &plan, &clone, "test").unwrap();
        assert!(record.parks());
        record.autocreated = true;
        assert!(!record.parks(), "there is nothing to turn off");
        let service = autocreated_service(&record, "api", "lease", Some("1"));
        assert_eq!(service["spec"]["selector"], json!({(SESSION_LABEL): "abcdefghij"}));
        assert!(record.made(&service) && record.made(&clone.object));
    }
}
