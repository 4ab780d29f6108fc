//! The embedded cluster: each scenario has its own, in a state folder that all its users share.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tempfile::TempDir;
use towline_cluster::Cluster;
use towline_cluster::embedded::{self, Embedded, EmbeddedOptions, Image};
use towline_cluster::port::{DEPLOYMENTS, DeleteOptions, Object, Selection};

use crate::adapter::Adapter;
use crate::app::Images;
use crate::program;
use crate::variables;
use crate::waiting::pods;

/// How often is looked whether the pods have ended.
const MOST_LOOKS: usize = 250;

/// One embedded cluster.
#[derive(Debug)]
pub struct EmbeddedAdapter {
    home: TempDir,
    cluster: Arc<Embedded>,
}

impl EmbeddedAdapter {
    /// Makes an empty one.
    pub fn new() -> Self {
        let own = Permissions::from_mode(0o700);
        let home = tempfile::Builder::new().prefix("towline-e2e-home-").permissions(own).tempdir();
        let home = home.expect("a temporary folder");
        let page = program::tree().join("examples/hello/production/index.html");
        let image = Image {
            name: "hello".to_owned(),
            files: vec![("bin/hello".to_owned(), program::hello()), ("srv/index.html".to_owned(), page)],
            working_dir: "/srv".to_owned(),
            command: vec!["hello".to_owned()],
        };
        let cluster = embedded::open(EmbeddedOptions {
            state_dir: home.path().canonicalize().expect("it was just made"),
            agent: program::host_agent(),
            namespace: None,
            images: vec![image],
            path_env: variables::text("PATH").unwrap_or_default(),
        })
        .expect("a new folder holds no broken cluster");
        Self { home, cluster }
    }
}

impl Default for EmbeddedAdapter {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Adapter for EmbeddedAdapter {
    fn cluster(&self) -> Arc<dyn Cluster> {
        self.cluster.clone()
    }

    fn namespace(&self) -> &'static str {
        "default"
    }

    fn images(&self) -> Images {
        let serve = vec!["hello".to_owned()];
        Images { image: "hello".to_owned(), original: serve.clone(), development: serve }
    }

    fn is_real(&self) -> bool {
        false
    }

    /// The cluster lies in the state folder, so every user has the same one.
    fn variables(&self, _: &Path) -> Vec<(String, String)> {
        let home = self.home.path().display().to_string();
        let agent = program::host_agent().display().to_string();
        vec![("TOWLINE_HOME".to_owned(), home), ("TOWLINE_AGENT".to_owned(), agent)]
    }

    fn arguments(&self) -> Vec<String> {
        vec!["--context=embedded".to_owned()]
    }

    async fn apply(&self, objects: &[Value]) {
        self.cluster.apply(objects).await.expect("the objects are valid");
    }

    /// Pods are processes of this machine: they end with their Deployments.
    async fn close(&self) {
        let all = self.cluster.list(DEPLOYMENTS, Some(self.namespace()), &Selection::default()).await;
        for deployment in all.unwrap_or_default() {
            let object = Object::new(DEPLOYMENTS, self.namespace(), crate::kinds::name(&deployment));
            let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
            let _ = self.cluster.delete(&object, &options).await;
        }
        let mut pause = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..MOST_LOOKS {
            // The embedded cluster does its controllers' work when it is asked something.
            if pods(self, "").await.is_empty() {
                return;
            }
            pause.tick().await;
        }
        eprintln!("pods of {} are left", self.home.path().display());
    }
}
