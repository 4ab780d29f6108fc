//! The workload that scenarios work on: a page over HTTP, as a team would have deployed it.

use serde_json::{Value, json};
use towline_cluster::port::DEPLOYMENTS;

use crate::adapter::Adapter;
use crate::http;
use crate::project::Project;
use crate::waiting::{self, is_settled};

/// The workload's name, and its Service's. The embedded cluster brings an example of that name, which this replaces.
pub const NAME: &str = "hello";
/// The other workload's name.
pub const OTHER: &str = "other";

/// What workloads are made of.
#[derive(Debug, Clone)]
pub struct Images {
    /// The image.
    pub image: String,
    /// Serves the image's own page at `$PORT`.
    pub original: Vec<String>,
    /// Serves the folder that it is started in at `$PORT`.
    pub development: Vec<String>,
}

/// The deployed workload.
#[derive(Debug, Clone)]
pub struct App {
    /// The port in the container.
    pub port: u16,
    /// The command that serves the synced folder.
    pub command: Vec<String>,
}

impl App {
    /// Deploys it and waits until it runs.
    pub async fn deploy(adapter: &dyn Adapter, replicas: u32) -> Self {
        let images = adapter.images();
        let port = if adapter.is_real() { 8080 } else { http::free_port().await };
        adapter.apply(&objects(&images, port, replicas, adapter.is_real())).await;
        waiting::object(adapter, DEPLOYMENTS, NAME, is_settled).await;
        Self { port, command: images.development }
    }

    /// Writes a project for it: a page and a manifest with one dev service. Returns the port that leads to the container.
    pub async fn project(&self, adapter: &dyn Adapter, more: &str) -> (Project, u16) {
        let project = Project::new();
        let local = http::free_port().await;
        project.write("index.html", "from the laptop\n");
        project.write("okteto.yml", self.manifest(&[format!("{local}:{}", self.port)], more));
        // The synced folder's own manifest is of no use in the container, and the user's state lies beside it.
        project.write(".stignore", "/okteto.yml\n");
        assert!(!adapter.namespace().is_empty());
        (project, local)
    }

    /// Returns a manifest with these forwards, and more lines for the dev service.
    pub fn manifest(&self, forwards: &[String], more: &str) -> String {
        let (command, forwards) = (json!(self.command), json!(forwards));
        format!(
            "dev:\n  {NAME}:\n    command: {command}\n    workdir: /app\n    sync:\n      - .:/app\n    forward: {forwards}\n{more}"
        )
    }
}

/// Returns the objects: settings, a credential, the Deployment and its Service.
fn objects(images: &Images, port: u16, replicas: u32, rolling: bool) -> Vec<Value> {
    let labels = json!({"app": NAME, "team": "shop"});
    // Pods that share the machine's network can't run side by side.
    let strategy = if rolling {
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})
    } else {
        json!({"type": "Recreate"})
    };
    let container = json!({
        "name": "web",
        "image": images.image,
        "imagePullPolicy": "IfNotPresent",
        "command": images.original,
        "env": [
            {"name": "PORT", "value": port.to_string()},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hello-credentials", "key": "token"}}},
        ],
        "envFrom": [{"configMapRef": {"name": "hello-settings"}}],
        "ports": [{"name": "http", "containerPort": port}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
        "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "initialDelaySeconds": 5},
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}},
    });
    let template = json!({
        "metadata": {"labels": labels, "annotations": {"example.com/revision": "7"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    });
    vec![
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hello-settings"},
               "data": {"GREETING": "good morning", "MODE": "production"}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hello-credentials"},
               "data": {"token": "bm90LWZvci1ldmVyeW9uZQ=="}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
               "metadata": {"name": NAME, "labels": labels, "annotations": {"example.com/owner": "shop"}},
               "spec": {"replicas": replicas, "strategy": strategy, "selector": {"matchLabels": {"app": NAME}},
                        "template": template}}),
        service(NAME),
    ]
}

/// Returns another workload, with a page of its own, for forwards that lead beyond the container.
pub fn other(images: &Images) -> Vec<Value> {
    let serve = "mkdir -p /tmp/www && echo other >/tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www";
    let container = json!({
        "name": "web", "image": images.image, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", serve],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
    });
    vec![
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": OTHER},
               "spec": {"replicas": 1, "selector": {"matchLabels": {"app": OTHER}},
                        "template": {"metadata": {"labels": {"app": OTHER}},
                                     "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}}}}),
        service(OTHER),
    ]
}

fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
           "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}})
}
