//! The Deployments of the namespace, where a cluster can be reached.

use std::time::Duration;

use serde_json::Value;
use towline_cluster::kube::{self, ConnectOptions};
use towline_cluster::port::{DEPLOYMENTS, Selection};

use crate::args::Global;
use crate::env_vars;
use crate::place;

/// How long a cluster may take to answer before it is left out.
const PATIENCE: Duration = Duration::from_secs(4);

/// A Deployment that may be developed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Workload {
    pub(super) name: String,
    /// The ports of its first container.
    pub(super) ports: Vec<u16>,
}

/// Returns the namespace's Deployments; `None` when no cluster is meant or none answers.
pub(super) async fn list(global: &Global) -> Option<Vec<Workload>> {
    if place::is_embedded(global) {
        return None;
    }
    tokio::time::timeout(PATIENCE, ask(global)).await.ok().flatten()
}

async fn ask(global: &Global) -> Option<Vec<Workload>> {
    let options = ConnectOptions {
        kubeconfig: Some(env_vars::kubeconfig_files()),
        context: place::context_name(global),
        namespace: place::namespace(global),
        allow_insecure: global.allow_insecure_cluster,
    };
    let cluster = kube::connect(options).await.ok()?;
    let namespace = cluster.target().namespace.clone();
    let found = cluster.list(DEPLOYMENTS, Some(&namespace), &Selection::default()).await.ok()?;
    Some(found.iter().filter_map(workload).collect())
}

fn workload(deployment: &Value) -> Option<Workload> {
    let name = deployment.pointer("/metadata/name")?.as_str()?.to_owned();
    let ports = deployment.pointer("/spec/template/spec/containers/0/ports").and_then(Value::as_array);
    let port = |port: &Value| u16::try_from(port.get("containerPort")?.as_u64()?).ok();
    Some(Workload { name, ports: ports.into_iter().flatten().filter_map(port).collect() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deployment_tells_its_name_and_ports() {
        let deployment = json!({
            "metadata": {"name": "api"},
            "spec": {"template": {"spec": {"containers": [{"ports": [{"containerPort": 8080}, {"containerPort": 70000}]}]}}},
        });
        assert_eq!(workload(&deployment), Some(Workload { name: "api".to_owned(), ports: vec![8080] }));
        assert_eq!(workload(&json!({"metadata": {}})), None);
    }
}
