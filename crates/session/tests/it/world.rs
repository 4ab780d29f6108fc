//! A cluster with one Deployment, and what a session on it is asked for.

use std::time::Duration;

use serde_json::json;
use towline_cluster::embedded::{EmbeddedOptions, Faults, open};
use towline_patcher::DevPlan;
use towline_session::request::{OnChange, Workload};
use towline_session::{AgentSource, Context, Gitops, UpRequest};

/// Everything lies in a folder that goes with it. No process runs: the Deployment's image is not known.
pub(crate) struct World {
    pub(crate) context: Context,
    pub(crate) faults: Faults,
    _folder: tempfile::TempDir,
}

impl World {
    /// Makes the cluster with the Deployment `web` in it.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cluster = open(EmbeddedOptions {
            state_dir: folder.path().join("state"),
            agent: folder.path().join("no-agent"),
            namespace: None,
            images: Vec::new(),
            path_env: String::new(),
        })
        .unwrap();
        let labels = json!({"app": "web"});
        let containers = json!([{"name": "web", "image": "nowhere"}]);
        let web = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {
                "replicas": 1, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
            },
        });
        cluster.apply(&[web]).await.unwrap();
        let faults = Faults::default();
        let context = Context {
            cluster: std::sync::Arc::new(cluster.with_faults(faults.clone())),
            namespace: "default".to_owned(),
            home: folder.path().join("home"),
            holder: "ada@laptop".to_owned(),
        };
        Self { context, faults, _folder: folder }
    }
}

/// Asks for a session on the Deployment `web`, with nothing but its name.
pub(crate) fn request() -> UpRequest {
    UpRequest {
        workload: Workload::Name("web".to_owned()),
        way: None,
        on_change: OnChange::default(),
        plan: DevPlan { dev_name: "web".to_owned(), ..DevPlan::default() },
        folders: Vec::new(),
        command: vec!["sh".to_owned()],
        autocreate: false,
        main: None,
        hybrid: None,
        process_environment: Vec::new(),
        forwards: Vec::new(),
        reverses: Vec::new(),
        claim: None,
        secrets: Vec::new(),
        patience: Duration::from_mins(2),
        answer: Duration::from_mins(1),
        agent: AgentSource::Host { hash: "0123456789abcdef".to_owned() },
        takeover: false,
        gitops: Gitops::Leave,
    }
}
