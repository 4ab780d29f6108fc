//! The adapter for a real cluster: the port over the API server's HTTP interface.
//!
//! Requests and answers are JSON values from end to end, so no field is lost that a typed struct does not know. The
//! `kube` crate gives the connection: kubeconfig, TLS, credential plugins, proxies. Its own retries are off: they would
//! repeat writes of which nobody knows whether they took place.

mod answer;
mod connect;
mod discovery;
mod exec;
mod list;
mod request;
mod transport;
mod watch;

use std::fmt;
use std::io;
use std::sync::Arc;

use ::kube::Client;
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use crate::error::ClusterError;
use crate::port::{
    Cluster, DeleteOptions, ExecStream, LogOptions, Object, PODS, Patch, Resource, Right, Selection, Target,
    Watch, WriteOptions,
};

pub use connect::{ConnectOptions, ContextInfo, connect, contexts, in_cluster};

use list::Scope;
use request::Call;
use transport::Transport;

/// The field manager that the server records for our writes.
pub const FIELD_MANAGER: &str = "towline";

/// How many access reviews are asked at the same time.
const REVIEWS_AT_ONCE: usize = 8;

const SELF_SUBJECT_ACCESS_REVIEWS: &Resource = &Resource {
    group: "authorization.k8s.io",
    version: "v1",
    kind: "SelfSubjectAccessReview",
    plural: "selfsubjectaccessreviews",
    namespaced: false,
};

/// A real cluster.
pub struct KubeCluster {
    transport: Arc<Transport>,
}

impl KubeCluster {
    /// Wraps a client that was made elsewhere; `target` says where it leads.
    ///
    /// The client must not retry by itself. [`connect`] is what most callers want.
    pub fn new(client: Client, target: Target) -> Self {
        Self { transport: Arc::new(Transport::new(client, target, None)) }
    }

    fn with_transport(transport: Transport) -> Self {
        Self { transport: Arc::new(transport) }
    }

    async fn allowed(&self, namespace: &str, right: &Right) -> Result<bool, ClusterError> {
        let review = json!({
            "apiVersion": SELF_SUBJECT_ACCESS_REVIEWS.api_version(),
            "kind": SELF_SUBJECT_ACCESS_REVIEWS.kind,
            "spec": { "resourceAttributes": {
                "namespace": namespace,
                "verb": right.verb,
                "group": right.group,
                "resource": right.resource,
                "subresource": right.subresource,
            }},
        });
        let answer = self.transport.value(&Call::review(SELF_SUBJECT_ACCESS_REVIEWS, &review)).await?;
        answer.pointer("/status/allowed").and_then(Value::as_bool).ok_or_else(|| ClusterError::Unreachable {
            server: self.target().server.clone(),
            message: "its answer to an access review makes no sense".to_owned(),
        })
    }
}

impl fmt::Debug for KubeCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KubeCluster").field(self.target()).finish()
    }
}

#[async_trait]
impl Cluster for KubeCluster {
    fn target(&self) -> &Target {
        self.transport.target()
    }

    async fn kind(
        &self,
        group: &str,
        version: Option<&str>,
        name: &str,
    ) -> Result<Option<&'static Resource>, ClusterError> {
        discovery::kind(&self.transport, group, version, name).await
    }

    async fn get(&self, object: &Object) -> Result<Value, ClusterError> {
        self.transport.value(&Call::get(object)?).await
    }

    async fn list(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        selection: &Selection,
    ) -> Result<Vec<Value>, ClusterError> {
        let scope = Scope::new(resource, namespace, selection)?;
        Ok(list::patiently(&self.transport, &scope).await?.items)
    }

    async fn watch(
        &self,
        resource: &'static Resource,
        namespace: &str,
        selection: &Selection,
    ) -> Result<Watch, ClusterError> {
        let scope = Scope::new(resource, Some(namespace), selection)?;
        watch::start(Arc::clone(&self.transport), scope).await
    }

    async fn create(
        &self,
        resource: &'static Resource,
        namespace: &str,
        body: &Value,
        options: &WriteOptions,
    ) -> Result<Value, ClusterError> {
        self.transport.value(&Call::create(resource, namespace, body, options)?).await
    }

    async fn replace(
        &self,
        object: &Object,
        body: &Value,
        options: &WriteOptions,
    ) -> Result<Value, ClusterError> {
        self.transport.value(&Call::replace(object, body, options)?).await
    }

    async fn patch(
        &self,
        object: &Object,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<Value, ClusterError> {
        self.transport.value(&Call::patch(object, patch, options)?).await
    }

    async fn delete(&self, object: &Object, options: &DeleteOptions) -> Result<(), ClusterError> {
        self.transport.value(&Call::delete(object, options)?).await.map(|_last_state| ())
    }

    async fn can(&self, namespace: &str, rights: &[Right]) -> Result<Vec<bool>, ClusterError> {
        let reviews = rights.iter().map(|right| self.allowed(namespace, right));
        // Boxed: a stream of borrowing futures is otherwise too general for the port's boxed future.
        let reviews: Vec<futures::future::BoxFuture<'_, _>> =
            reviews.map(|review| Box::pin(review) as futures::future::BoxFuture<'_, _>).collect();
        stream::iter(reviews).buffered(REVIEWS_AT_ONCE).try_collect().await
    }

    async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        argv: &[String],
    ) -> Result<ExecStream, ClusterError> {
        exec::start(&self.transport, &Object::new(PODS, namespace, pod), container, argv).await
    }

    async fn logs(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        options: &LogOptions,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, ClusterError> {
        let call = Call::logs(&Object::new(PODS, namespace, pod), container, options)?;
        let bytes = self.transport.open(&call).await?.into_data_stream().map_err(io::Error::other);
        Ok(Box::new(StreamReader::new(bytes)))
    }
}
