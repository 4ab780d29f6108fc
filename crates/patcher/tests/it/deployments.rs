//! Workloads and plans for the tests.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use towline_patcher::{Agent, DevPlan};

/// A secret that may be nowhere but in a pod template.
pub(crate) const CANARY: &str = "canary-7f3a";
/// The session of the tests.
pub(crate) const SESSION: &str = "k3v7q2xwab";

/// Returns a plan that changes only what every plan changes.
pub(crate) fn plan() -> DevPlan {
    DevPlan {
        session: SESSION.to_owned(),
        dev_name: "api".to_owned(),
        agent: Agent {
            config_map: "towline-agent-amd64-0a1b2c3d".to_owned(),
            key: "agent".to_owned(),
            image: None,
        },
        ..DevPlan::default()
    }
}

/// Returns a Deployment as clusters have them, with the API server's own fields.
pub(crate) fn realistic() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "api", "namespace": "shop", "uid": "0f2c", "resourceVersion": "4711", "generation": 7,
            "creationTimestamp": "2024-05-01T10:00:00Z",
            "labels": {"app": "api", "app.kubernetes.io/instance": "shop", "app.kubernetes.io/managed-by": "Helm"},
            "annotations": {
                "argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/api",
                "kubectl.kubernetes.io/last-applied-configuration": CANARY,
                "deployment.kubernetes.io/revision": "12",
            },
            "managedFields": [{
                "manager": "argocd-controller", "operation": "Apply", "apiVersion": "apps/v1",
                "fieldsType": "FieldsV1", "time": "2024-05-02T10:00:00Z",
                "fieldsV1": {"f:spec": {"f:replicas": {}, "f:template": {}}},
            }],
        },
        "spec": {
            "replicas": 3, "revisionHistoryLimit": 5, "progressDeadlineSeconds": 600, "minReadySeconds": 10,
            "paused": true,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
            "selector": {
                "matchLabels": {"app": "api"},
                "matchExpressions": [{"key": "track", "operator": "In", "values": ["stable"]}],
            },
            "template": {
                "metadata": {
                    "creationTimestamp": null,
                    "labels": {"app": "api", "track": "stable", "app.kubernetes.io/managed-by": "Helm"},
                    "annotations": {"checksum/config": "abc", "vault.hashicorp.com/agent-inject": "true"},
                },
                "spec": {
                    "serviceAccountName": "api", "serviceAccount": "api", "restartPolicy": "Always",
                    "terminationGracePeriodSeconds": 45, "schedulerName": "default-scheduler",
                    "nodeSelector": {"pool": "apps"}, "imagePullSecrets": [{"name": "registry"}],
                    "futureField": {"kept": [1, 2, 3]},
                    "initContainers": [{"name": "migrate", "image": "shop/api:1.4", "command": ["migrate", CANARY]}],
                    "containers": [
                        {"name": "proxy", "image": "envoy:1", "ports": [{"containerPort": 8443}],
                         "readinessProbe": {"tcpSocket": {"port": 8443}}},
                        {
                            "name": "api", "image": "shop/api:1.4", "imagePullPolicy": "IfNotPresent",
                            "command": ["/app/server"], "args": ["--token", CANARY], "workingDir": "/app",
                            "stdin": true, "tty": true, "futureField": "kept",
                            "env": [
                                {"name": "MODE", "value": "production"},
                                {"name": "PASSWORD", "value": CANARY},
                                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "api", "key": "token"}}},
                            ],
                            "envFrom": [{"secretRef": {"name": "api-env"}}, {"configMapRef": {"name": "api"}}],
                            "ports": [{"containerPort": 8080, "name": "http", "protocol": "TCP"}],
                            "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}},
                            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
                            "startupProbe": {"httpGet": {"path": "/live", "port": "http"}},
                            "lifecycle": {"preStop": {"sleep": {"seconds": 5}}, "postStart": {"exec": {"command": ["x"]}}},
                            "resources": {"limits": {"memory": "512Mi"}, "requests": {"cpu": "100m", "memory": "256Mi"}},
                            "volumeMounts": [{"name": "data", "mountPath": "/app/uploads"}],
                        },
                    ],
                    "volumes": [
                        {"name": "data", "persistentVolumeClaim": {"claimName": "api-data"}},
                        {"name": "config", "configMap": {"name": "api", "defaultMode": 420}},
                    ],
                },
            },
        },
        "status": {"replicas": 3, "readyReplicas": 3},
    })
}

/// Returns a Deployment that a `restricted` namespace admits: one static binary, read-only, not root.
pub(crate) fn restricted() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "hello", "namespace": "locked", "uid": "9a", "resourceVersion": "1", "generation": 1},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "hello"}},
            "template": {
                "metadata": {"labels": {"app": "hello"}},
                "spec": {
                    "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": "hello", "image": "hello:1",
                        "securityContext": {
                            "runAsUser": 1234, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        "resources": {"limits": {"cpu": "1", "memory": "64Mi"}},
                    }],
                },
            },
        },
    })
}

/// Any JSON of some depth.
pub(crate) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z0-9 ]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{1,6}", inner, 0..3).prop_map(|map| json!(map)),
        ]
    })
}

/// Members under names that no version of Kubernetes has.
fn unknown() -> impl Strategy<Value = Map<String, Value>> {
    proptest::collection::btree_map("future[A-Z][a-z]{0,4}", any_json(), 0..3)
        .prop_map(|map| map.into_iter().collect())
}

fn some_of(known: &Value) -> impl Strategy<Value = Map<String, Value>> + use<> {
    let known = known.as_object().cloned().unwrap_or_default();
    let len = known.len();
    proptest::collection::vec(any::<bool>(), len).prop_map(move |take| {
        known.clone().into_iter().zip(take).filter_map(|(member, take)| take.then_some(member)).collect()
    })
}

fn container(name: String) -> impl Strategy<Value = Value> {
    let known = realistic()["spec"]["template"]["spec"]["containers"][1].clone();
    (some_of(&known), unknown()).prop_map(move |(mut members, unknown)| {
        members.extend(unknown);
        members.insert("name".to_owned(), json!(name));
        members.insert("image".to_owned(), json!("shop/api:1.4"));
        Value::Object(members)
    })
}

/// Any Deployment named `web`: known and unknown fields there or not, one to three containers.
pub(crate) fn any_deployment() -> impl Strategy<Value = Value> {
    let spec = realistic()["spec"].clone();
    let pod = spec["template"]["spec"].clone();
    let containers = (1..4usize)
        .prop_flat_map(|count| (0..count).map(|index| container(format!("c{index}"))).collect::<Vec<_>>());
    let labels = proptest::collection::btree_map("[a-z]{1,5}", "[a-z]{1,5}", 0..3);
    (some_of(&spec), some_of(&pod), containers, unknown(), unknown(), labels, 1..9i64).prop_map(
        |(mut spec, mut pod, containers, of_spec, of_pod, mut labels, replicas)| {
            labels.insert("app".to_owned(), "api".to_owned());
            spec.extend(of_spec);
            pod.extend(of_pod);
            pod.insert("containers".to_owned(), json!(containers));
            spec.insert("replicas".to_owned(), json!(replicas));
            spec.insert("selector".to_owned(), json!({"matchLabels": {"app": "api"}}));
            spec.insert(
                "template".to_owned(),
                json!({"metadata": {"labels": labels, "annotations": BTreeMap::from([("a", "b")])}, "spec": pod}),
            );
            json!({
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "api"}},
                "spec": spec,
            })
        },
    )
}
