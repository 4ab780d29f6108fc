//! Reads and checks what all objects share: names, labels, owners, times.

use jiff::Timestamp;
use rustix::rand::{GetRandomFlags, getrandom};
use serde_json::{Map, Value, json};

/// Returns the object's name, empty when it has none.
pub(super) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// Returns the object's namespace, empty when it has none.
pub(super) fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// Returns the object's uid, empty when it has none.
pub(super) fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

/// Returns the text at a JSON pointer, empty when there is none.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the list at a JSON pointer, empty when there is none.
pub(super) fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Returns the entries of the map at a JSON pointer that are text.
pub(super) fn strings<'a>(object: &'a Value, pointer: &str) -> Vec<(&'a str, &'a str)> {
    let Some(map) = object.pointer(pointer).and_then(Value::as_object) else { return Vec::new() };
    map.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect()
}

/// Tells whether the object is being deleted.
pub(super) fn is_deleting(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string)
}

/// Tells whether the object has all these labels.
pub(super) fn has_labels<'a>(object: &Value, wanted: impl IntoIterator<Item = (&'a str, &'a str)>) -> bool {
    let labels = object.pointer("/metadata/labels");
    wanted.into_iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)?.as_str()) == Some(value))
}

/// Returns the uid of the owner that controls the object.
pub(super) fn controller(object: &Value) -> Option<&str> {
    let owners = items(object, "/metadata/ownerReferences");
    owners.iter().find(|owner| owner["controller"] == json!(true))?["uid"].as_str()
}

/// Returns a reference by which `owner` controls an object.
pub(super) fn controlled_by(owner: &Value) -> Value {
    json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": name(owner), "uid": uid(owner),
        "controller": true, "blockOwnerDeletion": true,
    }])
}

/// Returns the map under a key, made when it is missing or no map.
pub(super) fn map_mut<'a>(parent: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !parent.is_object() {
        *parent = json!({});
    }
    if !parent[key].is_object() {
        parent[key] = json!({});
    }
    // Both levels were just made maps.
    parent[key].as_object_mut().expect("a map")
}

/// The longest name, in bytes. Kubernetes takes 253, but a name with our endings must fit into a file's, of 255.
const MAX_NAME_BYTES: usize = 240;

/// Tells whether this is a DNS label (RFC 1123), as namespaces and containers are named.
pub(super) fn is_label(name: &str) -> bool {
    name.len() <= 63 && is_dns_part(name)
}

/// Tells whether this is a DNS subdomain (RFC 1123), as most objects are named.
pub(super) fn is_subdomain(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES && name.split('.').all(is_dns_part)
}

fn is_dns_part(part: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
}

/// Returns now, to the second, as Kubernetes writes times.
pub(super) fn now() -> String {
    seconds(Timestamp::now().as_second())
}

/// Returns this many milliseconds since 1970.
pub(super) fn now_milliseconds() -> i64 {
    Timestamp::now().as_millisecond()
}

/// Writes a time given in seconds since 1970.
pub(super) fn seconds(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_string()
}

/// Reads a time, in milliseconds since 1970.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// Returns a random UUID.
pub(super) fn new_uid() -> String {
    let random = random_hex(16);
    let part = |from: usize, to: usize| random.get(from..to).unwrap_or_default();
    format!("{}-{}-4{}-a{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}

/// Returns this many random bytes as hexadecimal text.
pub(super) fn random_hex(bytes: usize) -> String {
    use std::fmt::Write;
    let mut buffer = vec![0_u8; bytes];
    // Linux gives small requests whole once the pool is up, and blocks until then.
    getrandom(&mut buffer, GetRandomFlags::empty()).expect("the kernel gives random bytes");
    buffer.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns five random letters and digits, as generated names end.
pub(super) fn random_name() -> String {
    let mut text = random_hex(3);
    text.truncate(5);
    text
}
