//! Spells requests: paths, queries, content types, and what may be repeated.

use std::fmt::Write as _;

use ::kube::client::Body;
use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE};
use http::{Method, Request};
use serde_json::{Map, Value, json};

use super::FIELD_MANAGER;
use crate::error::ClusterError;
use crate::port::{DeleteOptions, LogOptions, Object, Patch, Resource, WriteOptions};

/// Whether a request can be repeated without harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing is stored: reads, reviews, dry runs.
    Nothing,
    /// The cluster may be changed.
    Write,
}

/// How the answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transfer {
    /// One document, compressed if the server likes.
    Document,
    /// Piece by piece as it happens: never compressed, since a compressor would hold pieces back.
    Stream,
}

/// One request to the API server, and what errors about it name.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// As in a Role.
    pub(super) verb: &'static str,
    /// What it is about.
    pub(super) object: Object,
    /// Whether it can be repeated.
    pub(super) effect: Effect,
    transfer: Transfer,
    method: Method,
    uri: Uri,
    content_type: &'static str,
    body: Bytes,
}

impl Call {
    fn new(verb: &'static str, object: Object, effect: Effect, method: Method, uri: Uri) -> Self {
        Self {
            verb,
            object,
            effect,
            transfer: Transfer::Document,
            method,
            uri,
            content_type: "application/json",
            body: Bytes::new(),
        }
    }

    fn with_body(mut self, body: &Value) -> Self {
        self.body = Bytes::from(body.to_string());
        self
    }

    /// Reads one object.
    pub(super) fn get(object: &Object) -> Result<Self, ClusterError> {
        let uri = Uri::object(object)?;
        Ok(Self::new("get", object.clone(), Effect::Nothing, Method::GET, uri))
    }

    /// Asks what a group, or a version of it, has to offer.
    pub(super) fn discover(resource: &'static Resource, group: &str, version: Option<&str>) -> Self {
        let uri = Uri::api(group, version);
        Self::new("get", ClusterError::kind_of(resource, ""), Effect::Nothing, Method::GET, uri)
    }

    /// Reads a kind at `uri`, in pages.
    pub(super) fn list(object: Object, uri: Uri) -> Self {
        Self::new("list", object, Effect::Nothing, Method::GET, uri)
    }

    /// Opens a stream of events at `uri`.
    pub(super) fn watch(object: Object, uri: Uri) -> Self {
        let call = Self::new("watch", object, Effect::Nothing, Method::GET, uri);
        Self { transfer: Transfer::Stream, ..call }
    }

    /// Creates `body`.
    pub(super) fn create(
        resource: &'static Resource,
        namespace: &str,
        body: &Value,
        options: &WriteOptions,
    ) -> Result<Self, ClusterError> {
        let name = body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let namespace = if resource.namespaced { namespace } else { "" };
        let object = Object::new(resource, namespace, name);
        if resource.namespaced {
            check_segment(&object, "namespace", namespace)?;
        }
        let uri = Uri::collection(resource, Some(namespace));
        Ok(Self::write("create", object, Method::POST, uri, options).with_body(body))
    }

    /// Puts `body` in the place of an object.
    pub(super) fn replace(
        object: &Object,
        body: &Value,
        options: &WriteOptions,
    ) -> Result<Self, ClusterError> {
        let uri = Uri::object(object)?;
        Ok(Self::write("update", object.clone(), Method::PUT, uri, options).with_body(body))
    }

    /// Changes an object in part.
    pub(super) fn patch(
        object: &Object,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<Self, ClusterError> {
        let (content_type, body) = match patch {
            Patch::Merge(body) => ("application/merge-patch+json", body),
            Patch::Json(body) => ("application/json-patch+json", body),
        };
        let uri = Uri::object(object)?;
        let call = Self::write("patch", object.clone(), Method::PATCH, uri, options).with_body(body);
        Ok(Self { content_type, ..call })
    }

    /// Deletes an object under conditions.
    pub(super) fn delete(object: &Object, options: &DeleteOptions) -> Result<Self, ClusterError> {
        let mut preconditions = Map::new();
        if let Some(uid) = &options.uid {
            preconditions.insert("uid".to_owned(), json!(uid));
        }
        if let Some(version) = &options.resource_version {
            preconditions.insert("resourceVersion".to_owned(), json!(version));
        }
        let mut body =
            json!({ "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background" });
        if !preconditions.is_empty() {
            body["preconditions"] = Value::Object(preconditions);
        }
        if let Some(seconds) = options.grace_period_seconds {
            body["gracePeriodSeconds"] = json!(seconds);
        }
        let uri = Uri::object(object)?;
        Ok(Self::new("delete", object.clone(), Effect::Write, Method::DELETE, uri).with_body(&body))
    }

    /// Asks a question that is spelled as a create and stores nothing.
    pub(super) fn review(resource: &'static Resource, body: &Value) -> Self {
        let uri = Uri::collection(resource, None);
        Self::new("create", ClusterError::kind_of(resource, ""), Effect::Nothing, Method::POST, uri)
            .with_body(body)
    }

    /// Streams a container's log.
    pub(super) fn logs(pod: &Object, container: &str, options: &LogOptions) -> Result<Self, ClusterError> {
        let mut uri = Uri::object(pod)?.subresource("log").query("container", container);
        if options.follow {
            uri = uri.query("follow", "true");
        }
        if options.previous {
            uri = uri.query("previous", "true");
        }
        if let Some(lines) = options.tail {
            uri = uri.query("tailLines", &lines.to_string());
        }
        let call = Self::new("get", pod.clone(), Effect::Nothing, Method::GET, uri);
        Ok(Self { transfer: Transfer::Stream, ..call })
    }

    /// Starts a process; its streams are tied to ours by an upgrade of the connection.
    pub(super) fn exec(pod: &Object, container: &str, argv: &[String]) -> Result<Self, ClusterError> {
        let mut uri = Uri::object(pod)?.subresource("exec").query("container", container);
        for stream in ["stdin", "stdout", "stderr"] {
            uri = uri.query(stream, "true");
        }
        for word in argv {
            uri = uri.query("command", word);
        }
        Ok(Self::new("create", pod.clone(), Effect::Write, Method::GET, uri))
    }

    fn write(verb: &'static str, object: Object, method: Method, uri: Uri, options: &WriteOptions) -> Self {
        let uri = uri.query("fieldManager", FIELD_MANAGER);
        if options.dry_run {
            Self::new(verb, object, Effect::Nothing, method, uri.query("dryRun", "All"))
        } else {
            Self::new(verb, object, Effect::Write, method, uri)
        }
    }

    /// Spells the request for one attempt.
    pub(super) fn to_request<B: From<Vec<u8>>>(&self) -> Result<Request<B>, http::Error> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(&self.uri.text)
            .header(ACCEPT, "application/json");
        if self.transfer == Transfer::Stream {
            request = request.header(ACCEPT, "*/*").header(ACCEPT_ENCODING, "identity");
        }
        if !self.body.is_empty() {
            request = request.header(CONTENT_TYPE, self.content_type);
        }
        request.body(B::from(self.body.to_vec()))
    }

    /// Spells the request with the client's own body.
    pub(super) fn to_client_request(&self) -> Result<Request<Body>, http::Error> {
        self.to_request()
    }
}

/// A path and query on the API server; what others named is escaped.
#[derive(Debug, Clone)]
pub(super) struct Uri {
    text: String,
}

impl Uri {
    /// A kind in a namespace, or in all of them.
    pub(super) fn collection(resource: &Resource, namespace: Option<&str>) -> Self {
        let root = if resource.group.is_empty() { "/api/" } else { "/apis/" };
        let mut text = format!("{root}{}", resource.api_version());
        if let Some(namespace) = namespace.filter(|_| resource.namespaced) {
            text.push_str("/namespaces/");
            push_escaped(&mut text, namespace);
        }
        text.push('/');
        text.push_str(resource.plural);
        Self { text }
    }

    /// What a group has to offer, or one version of it.
    fn api(group: &str, version: Option<&str>) -> Self {
        let mut text = if group.is_empty() { "/api".to_owned() } else { "/apis/".to_owned() };
        push_escaped(&mut text, group);
        if let Some(version) = version {
            text.push('/');
            push_escaped(&mut text, version);
        }
        Self { text }
    }

    /// One object. An empty name would lead to the whole kind, and dots to another place: neither gets through.
    fn object(object: &Object) -> Result<Self, ClusterError> {
        check_segment(object, "name", &object.name)?;
        if object.resource.namespaced {
            check_segment(object, "namespace", &object.namespace)?;
        }
        let mut uri = Self::collection(object.resource, Some(&object.namespace));
        uri.text.push('/');
        push_escaped(&mut uri.text, &object.name);
        Ok(uri)
    }

    fn subresource(mut self, name: &'static str) -> Self {
        self.text.push('/');
        self.text.push_str(name);
        self
    }

    /// Adds a parameter.
    pub(super) fn query(mut self, name: &'static str, value: &str) -> Self {
        self.text.push(if self.text.contains('?') { '&' } else { '?' });
        self.text.push_str(name);
        self.text.push('=');
        push_escaped(&mut self.text, value);
        self
    }
}

fn check_segment(object: &Object, what: &str, segment: &str) -> Result<(), ClusterError> {
    if matches!(segment, "" | "." | "..") {
        let message = format!("`{segment}` is no {what}");
        return Err(ClusterError::Invalid { object: object.clone(), message });
    }
    Ok(())
}

/// Percent-encodes everything that RFC 3986 does not call unreserved.
fn push_escaped(text: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::{CONFIG_MAPS, DEPLOYMENTS, NODES};

    #[test]
    fn paths_name_what_is_asked_for() {
        let check = |object: Object, expected: Option<&str>| {
            assert_eq!(Uri::object(&object).ok().map(|uri| uri.text).as_deref(), expected, "{object}");
        };
        check(Object::new(CONFIG_MAPS, "shop", "web"), Some("/api/v1/namespaces/shop/configmaps/web"));
        check(Object::new(DEPLOYMENTS, "shop", "web"), Some("/apis/apps/v1/namespaces/shop/deployments/web"));
        check(Object::new(NODES, "", "n1"), Some("/api/v1/nodes/n1"));
        check(
            Object::new(CONFIG_MAPS, "shop", "../../x?y=1#z%2e"),
            Some("/api/v1/namespaces/shop/configmaps/..%2F..%2Fx%3Fy%3D1%23z%252e"),
        );
        for name in ["", ".", ".."] {
            check(Object::new(CONFIG_MAPS, "shop", name), None);
            check(Object::new(CONFIG_MAPS, name, "web"), None);
        }
    }
}
