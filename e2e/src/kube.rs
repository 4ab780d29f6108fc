//! A real cluster: the one that `KUBECONFIG` names, with a namespace for each scenario.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{DeleteParams, DynamicObject, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tempfile::TempDir;
use towline_cluster::Cluster;
use towline_cluster::kube::{ConnectOptions, connect};

use crate::adapter::Adapter;
use crate::app::Images;
use crate::kinds;
use crate::program;
use crate::variables;
use crate::waiting::eventually;

/// The field manager of what the suite writes.
const MANAGER: &str = "e2e";

/// A namespace of a real cluster.
pub struct KubeAdapter {
    folder: TempDir,
    kubeconfig: Kubeconfig,
    config: Config,
    client: Client,
    cluster: Arc<dyn Cluster>,
    namespace: String,
}

impl KubeAdapter {
    /// Makes a namespace for a scenario, with labels.
    pub async fn new(scenario: &str, labels: &[(&str, &str)]) -> Self {
        let folder =
            tempfile::Builder::new().prefix("towline-e2e-kube-").tempdir().expect("a temporary folder");
        let paths =
            variables::text("KUBECONFIG").expect("KUBECONFIG names a cluster that may be played with");
        let mut kubeconfig = Kubeconfig::default();
        for path in std::env::split_paths(&paths) {
            let next =
                Kubeconfig::read_from(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            kubeconfig = kubeconfig.merge(next).expect("the files fit together");
        }
        let config = Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await;
        let config = config.expect("the kubeconfig is complete");
        let client = Client::try_from(config.clone()).expect("a client can be made");

        let id = folder.path().file_name().and_then(|name| name.to_str()).unwrap_or_default().to_lowercase();
        let id: String = id.chars().rev().filter(char::is_ascii_alphanumeric).take(6).collect();
        let namespace = format!("e2e-{scenario}-{id}");
        let labels: serde_json::Map<_, _> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let object = json!({"metadata": {"name": namespace, "labels": labels}});
        let object: Namespace = serde_json::from_value(object).expect("a namespace");
        Api::all(client.clone())
            .create(&PostParams::default(), &object)
            .await
            .expect("a namespace may be made");

        let file = folder.path().join("kubeconfig");
        write(&kubeconfig, &file);
        let options = ConnectOptions {
            kubeconfig: Some(vec![file]),
            namespace: Some(namespace.clone()),
            ..ConnectOptions::default()
        };
        let cluster = connect(options).await.expect("the kubeconfig is complete");
        let adapter = Self { folder, kubeconfig, config, client, cluster, namespace };
        // What a new namespace gets from controllers comes a moment later.
        let (accounts, maps): (Api<ServiceAccount>, Api<ConfigMap>) = (adapter.api(), adapter.api());
        eventually("the namespace is complete", async || {
            accounts.get("default").await?;
            maps.get("kube-root-ca.crt").await.map(|_| ())
        })
        .await;
        adapter
    }

    /// Returns the client that the suite itself uses.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Returns how the server is reached, and as whom.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns a typed client for the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Writes another kubeconfig, made from the one that works, and returns its file.
    pub fn kubeconfig(&self, name: &str, change: impl FnOnce(&mut Kubeconfig)) -> PathBuf {
        let mut kubeconfig = self.kubeconfig.clone();
        change(&mut kubeconfig);
        let file = self.folder.path().join(name);
        write(&kubeconfig, &file);
        file
    }

    /// Returns the address of the API server as `host:port`, and the host alone.
    pub fn server(&self) -> (String, String) {
        let context = self.kubeconfig.current_context.as_deref();
        let context = self.kubeconfig.contexts.iter().find(|known| Some(known.name.as_str()) == context);
        let context = context.and_then(|context| context.context.as_ref()).expect("a current context");
        let cluster = self.kubeconfig.clusters.iter().find(|known| known.name == context.cluster);
        let server = cluster.and_then(|known| known.cluster.as_ref()?.server.clone()).expect("a server");
        let address = server.trim_start_matches("https://").trim_end_matches('/').to_owned();
        let (host, address) = match address.rsplit_once(':') {
            Some((host, _)) => (host.to_owned(), address.clone()),
            None => (address.clone(), format!("{address}:443")),
        };
        (address, host)
    }
}

/// Changes the cluster that a kubeconfig's contexts lead to.
pub fn each_cluster(kubeconfig: &mut Kubeconfig, change: impl Fn(&mut kube::config::Cluster)) {
    kubeconfig.clusters.iter_mut().filter_map(|known| known.cluster.as_mut()).for_each(change);
}

/// Changes who a kubeconfig says its user is: whoever has the token.
pub fn log_in_with(kubeconfig: &mut Kubeconfig, token: &str) {
    for user in &mut kubeconfig.auth_infos {
        user.auth_info = serde_json::from_value(json!({"token": token})).ok();
    }
}

/// JSON is YAML, which spares a writer of it.
fn write(kubeconfig: &Kubeconfig, file: &Path) {
    let text = serde_json::to_vec(kubeconfig).expect("it was read from a file");
    std::fs::write(file, text).expect("the folder is ours");
}

#[async_trait]
impl Adapter for KubeAdapter {
    fn cluster(&self) -> Arc<dyn Cluster> {
        Arc::clone(&self.cluster)
    }

    fn namespace(&self) -> &str {
        &self.namespace
    }

    fn images(&self) -> Images {
        let original =
            "mkdir -p /tmp/www && echo original >/tmp/www/index.html && exec httpd -f -p $PORT -h /tmp/www";
        let words = |text: &str| ["sh", "-c", text].map(str::to_owned).to_vec();
        Images {
            image: variables::image(),
            original: words(original),
            development: words("echo listening on $PORT; exec httpd -f -p $PORT"),
        }
    }

    fn is_real(&self) -> bool {
        true
    }

    fn variables(&self, _: &Path) -> Vec<(String, String)> {
        let kubeconfig = self.folder.path().join("kubeconfig").display().to_string();
        let agent = program::static_agent().display().to_string();
        vec![("KUBECONFIG".to_owned(), kubeconfig), ("TOWLINE_AGENT".to_owned(), agent)]
    }

    fn arguments(&self) -> Vec<String> {
        vec![format!("--namespace={}", self.namespace)]
    }

    async fn apply(&self, objects: &[Value]) {
        let options = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        for object in objects {
            let kind = kinds::of(object);
            let of_kind = GroupVersionKind::gvk(kind.group, kind.version, kind.kind);
            let resource = ApiResource::from_gvk_with_plural(&of_kind, kind.plural);
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
            let body = serde_json::from_value(object.clone()).expect("an object");
            api.create(&options, &body).await.unwrap_or_else(|error| panic!("{object}: {error}"));
        }
    }

    /// The namespace goes by itself; nobody waits for it.
    async fn close(&self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        if let Err(error) = namespaces.delete(&self.namespace, &DeleteParams::default().grace_period(0)).await
        {
            eprintln!("namespace {} is left: {error}", self.namespace);
        }
    }
}
