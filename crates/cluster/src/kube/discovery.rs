//! Which kinds the server has: their plurals and versions, as its own discovery says.

use serde_json::Value;

use super::request::Call;
use super::transport::Transport;
use crate::error::ClusterError;
use crate::port::Resource;

/// What errors about discovery name.
const API_RESOURCES: &Resource = &Resource {
    group: "",
    version: "v1",
    kind: "APIResourceList",
    plural: "apiresources",
    namespaced: false,
};

/// Finds a kind by any of its names; see [`crate::Cluster::kind`].
pub(super) async fn kind(
    transport: &Transport,
    group: &str,
    version: Option<&str>,
    name: &str,
) -> Result<Option<&'static Resource>, ClusterError> {
    let version = match version {
        Some(version) => version.to_owned(),
        None if group.is_empty() => "v1".to_owned(),
        None => {
            let call = Call::discover(API_RESOURCES, group, None);
            let Some(offer) = found(transport.value(&call).await)? else { return Ok(None) };
            text(&offer, "/preferredVersion/version").to_owned()
        }
    };
    if [group, &version].into_iter().any(|part| matches!(part, "." | "..")) || version.is_empty() {
        return Ok(None);
    }
    let call = Call::discover(API_RESOURCES, group, Some(&version));
    let Some(offer) = found(transport.value(&call).await)? else { return Ok(None) };
    Ok(pick(&offer, group, &version, name))
}

fn pick(offer: &Value, group: &str, version: &str, name: &str) -> Option<&'static Resource> {
    let list = offer.get("resources").and_then(Value::as_array);
    // `deployments/scale` is a part of another kind.
    let own = list.into_iter().flatten().filter(|kind| !text(kind, "/name").contains('/'));
    let named = |kind: &&Value| {
        let short = kind.get("shortNames").and_then(Value::as_array).into_iter().flatten();
        let names = [text(kind, "/kind"), text(kind, "/name"), text(kind, "/singularName")];
        names.into_iter().chain(short.filter_map(Value::as_str)).any(|known| known.eq_ignore_ascii_case(name))
    };
    let kind = own.into_iter().find(named)?;
    let namespaced = kind.get("namespaced").and_then(Value::as_bool) == Some(true);
    let (plural, kind) = (text(kind, "/name"), text(kind, "/kind"));
    let sound = [plural, kind].into_iter().all(|word| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
    });
    sound.then(|| Resource::interned(group, version, kind, plural, namespaced))
}

/// A group or version that is not served is no kind, and no failure.
fn found(answer: Result<Value, ClusterError>) -> Result<Option<Value>, ClusterError> {
    match answer {
        Ok(offer) => Ok(Some(offer)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_kind_is_found_by_any_of_its_names() {
        let offer = json!({"resources": [
            {"name": "shops/scale", "singularName": "", "namespaced": true, "kind": "Shop"},
            {"name": "shops", "singularName": "shop", "namespaced": true, "kind": "Shop", "shortNames": ["sh"]},
            {"name": "../x", "singularName": "bad", "namespaced": true, "kind": "Bad"},
            {"name": "regions", "singularName": "region", "namespaced": false, "kind": "Region"},
        ]});
        let check = |name: &str, expected: Option<(&str, bool)>| {
            let found = pick(&offer, "example.com", "v1", name);
            assert_eq!(found.map(|kind| (kind.plural, kind.namespaced)), expected, "{name}");
        };
        for name in ["Shop", "shop", "shops", "SH"] {
            check(name, Some(("shops", true)));
        }
        check("region", Some(("regions", false)));
        check("bad", None);
        check("stall", None);
        assert!(pick(&json!({"resources": 7}), "", "v1", "pod").is_none());
    }
}
