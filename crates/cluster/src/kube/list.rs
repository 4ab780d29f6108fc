//! Reads all objects of a kind, page by page.

use serde_json::{Value, json};

use super::request::{Call, Uri};
use super::transport::Transport;
use crate::error::ClusterError;
use crate::port::{Object, Resource, Selection};

/// How many objects a page holds.
const PAGE: &str = "500";
/// A server that has more pages than this is lost in a loop.
const MAX_PAGES: usize = 1000;

/// Which objects are read or watched.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    resource: &'static Resource,
    namespace: String,
    uri: Uri,
}

impl Scope {
    /// Selects objects of a kind; `namespace` `None` means all namespaces.
    pub(super) fn new(
        resource: &'static Resource,
        namespace: Option<&str>,
        selection: &Selection,
    ) -> Result<Self, ClusterError> {
        let kind = ClusterError::kind_of(resource, namespace.unwrap_or_default());
        let refused = |message: String| ClusterError::Invalid { object: kind.clone(), message };
        if resource.namespaced && matches!(namespace, Some("" | "." | "..")) {
            return Err(refused("the namespace has no name".to_owned()));
        }
        let mut uri = Uri::collection(resource, namespace);
        if let Some(name) = &selection.name {
            uri = uri.query("fieldSelector", &format!("metadata.name={}", escape_field(name)));
        }
        if !selection.labels.is_empty() {
            let mut requirements = Vec::new();
            for (key, value) in &selection.labels {
                if key.is_empty() || !is_label(key) || !is_label(value) {
                    return Err(refused(format!("`{key}={value}` is no label")));
                }
                requirements.push(format!("{key}={value}"));
            }
            uri = uri.query("labelSelector", &requirements.join(","));
        }
        Ok(Self { resource, namespace: kind.namespace, uri })
    }

    /// Names the scope in errors.
    pub(super) fn object(&self) -> Object {
        ClusterError::kind_of(self.resource, &self.namespace)
    }

    /// Spells the request for all changes after `version`, for `seconds`.
    pub(super) fn watch_call(&self, version: &str, seconds: &str) -> Call {
        let uri = self.uri.clone().query("watch", "true").query("allowWatchBookmarks", "true");
        let uri = uri.query("resourceVersion", version).query("timeoutSeconds", seconds);
        Call::watch(self.object(), uri)
    }

    fn page_call(&self, paged: bool, token: &str) -> Call {
        let mut uri = self.uri.clone();
        if paged {
            uri = uri.query("limit", PAGE);
        }
        if !token.is_empty() {
            uri = uri.query("continue", token);
        }
        Call::list(self.object(), uri)
    }
}

/// What is there, and the version to go on from.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) items: Vec<Value>,
    pub(super) version: String,
}

/// Lists with the retries of a read.
pub(super) async fn patiently(transport: &Transport, scope: &Scope) -> Result<Listed, ClusterError> {
    list(transport, scope, true).await
}

/// Lists with one attempt for each page.
pub(super) async fn once(transport: &Transport, scope: &Scope) -> Result<Listed, ClusterError> {
    list(transport, scope, false).await
}

async fn list(transport: &Transport, scope: &Scope, patient: bool) -> Result<Listed, ClusterError> {
    let mut paged = true;
    let mut token = String::new();
    let mut items = Vec::new();
    for _ in 0..MAX_PAGES {
        let call = scope.page_call(paged, &token);
        let page = if patient { transport.value(&call).await } else { transport.value_once(&call).await };
        let mut page = match page {
            // The snapshot that the pages come from is too old: read everything at once.
            Err(ClusterError::Server { code: 410, .. }) if !token.is_empty() => {
                (paged, token) = (false, String::new());
                items.clear();
                continue;
            }
            other => other?,
        };
        let text =
            |pointer: &str| page.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let version = text("/metadata/resourceVersion");
        token = text("/metadata/continue");
        match page["items"].take() {
            Value::Array(objects) => items.extend(objects),
            Value::Null => {}
            _ => return Err(senseless(transport)),
        }
        if token.is_empty() {
            for item in &mut items {
                name_kind(scope.resource, item);
            }
            return Ok(Listed { items, version });
        }
    }
    Err(senseless(transport))
}

fn senseless(transport: &Transport) -> ClusterError {
    let message = "its list of objects makes no sense".to_owned();
    ClusterError::Unreachable { server: transport.target().server.clone(), message }
}

/// Says in a list's item what the list alone says: its kind, as when it is read by itself.
fn name_kind(resource: &Resource, item: &mut Value) {
    if let Value::Object(fields) = item {
        fields.entry("apiVersion").or_insert_with(|| json!(resource.api_version()));
        fields.entry("kind").or_insert_with(|| json!(resource.kind));
    }
}

/// A field selector's own escapes, so that a name stays a name.
fn escape_field(value: &str) -> String {
    let mut escaped = String::new();
    for char in value.chars() {
        if matches!(char, '\\' | ',' | '=') {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped
}

/// Label selectors have no escapes: what is no label could be read as a second requirement.
fn is_label(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::PODS;

    #[test]
    fn a_selection_can_not_be_widened_by_what_it_names() {
        let check = |name: Option<&str>, labels: &[(&str, &str)], expected: Option<&str>| {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let selection = Selection { name: name.map(str::to_owned), labels };
            let call = Scope::new(PODS, Some("shop"), &selection).map(|scope| scope.page_call(false, ""));
            let uri = call.ok().map(|call| call.to_client_request().unwrap().uri().to_string());
            assert_eq!(uri, expected.map(|query| format!("/api/v1/namespaces/shop/pods{query}")));
        };
        check(None, &[], Some(""));
        check(Some("web"), &[], Some("?fieldSelector=metadata.name%3Dweb"));
        check(Some("a,b=c"), &[], Some("?fieldSelector=metadata.name%3Da%5C%2Cb%5C%3Dc"));
        check(None, &[("app.io/x", "web"), ("tier", "")], Some("?labelSelector=app.io%2Fx%3Dweb%2Ctier%3D"));
        for (key, value) in [("app", "a,b!=c"), ("app in (a)", "b"), ("", "b"), ("app", "a b")] {
            check(None, &[(key, value)], None);
        }
    }
}
