//! The names, labels and annotations that everything of ours carries.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::workload::digest;

/// The value of [`MANAGED_BY_LABEL`] on everything that we create.
pub const MANAGED_BY: &str = "towline";
/// Who made the object; on a pod the workload's own value stays.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The session that an object belongs to; also in the clone's selector.
pub const SESSION_LABEL: &str = "towline.dev/session";
/// Marks dev mode for tools that know Okteto's labels; the value is `true`.
pub const DEV_LABEL: &str = "dev.okteto.com";
/// The name of the dev service, for tools that know Okteto's labels.
pub const DEV_NAME_LABEL: &str = "interactive.dev.okteto.com";
/// The [`crate::Record`] as JSON, on the Lease.
pub const JOURNAL_ANNOTATION: &str = "towline.dev/journal";
/// The way back without Towline, on the Lease.
pub const HOW_TO_UNDO_ANNOTATION: &str = "towline.dev/how-to-undo";

/// Stands, on the dev pod, for what the user's mounted files hold.
pub(crate) const SECRETS_ANNOTATION: &str = "towline.dev/secrets";

/// On a dev pod that only stands in for a command that runs elsewhere: another way of development is another pod.
pub(crate) const STANDS_IN_ANNOTATION: &str = "towline.dev/stands-in";

/// The longest name of an object, in bytes (RFC 1123 subdomain).
const MAX_NAME_BYTES: usize = 253;

/// Returns the labels of every object that belongs to one session.
pub fn labels(session: &str, dev_name: &str) -> BTreeMap<String, String> {
    [
        (MANAGED_BY_LABEL, MANAGED_BY),
        (DEV_LABEL, "true"),
        (DEV_NAME_LABEL, dev_name),
        (SESSION_LABEL, session),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// Returns the clone's name: the workload's, cut to 40 bytes, and four characters of the session.
pub fn clone_name(name: &str, session: &str) -> String {
    let head = cut(name, 40).trim_end_matches(['-', '.']);
    format!("{head}-towline-{}", cut(session, 4))
}

/// Returns the name of the claim that keeps a workload's files between sessions, the same for every session of it.
pub fn claim_name(name: &str) -> String {
    let full = format!("{name}-towline");
    if full.len() <= MAX_NAME_BYTES {
        return full;
    }
    let hash = digest("", &Value::from(name));
    format!("{}-{}-towline", cut(name, 200).trim_end_matches(['-', '.']), cut(&hash, 12))
}

/// Returns the name of the Secret that carries a session's files.
pub fn secret_name(session: &str) -> String {
    format!("towline-{session}")
}

/// Returns the name of the Lease that guards a workload, the same for every session of it.
///
/// A name that would be too long is cut and told apart by a hash.
pub fn lease_name(kind: &str, name: &str) -> String {
    let full = format!("towline.{}.{name}", kind.to_ascii_lowercase());
    if full.len() <= MAX_NAME_BYTES {
        return full;
    }
    let hash = digest("", &Value::from(name));
    format!("{}-{}", cut(&full, 200).trim_end_matches(['-', '.']), cut(&hash, 12))
}

/// Tells whether `name` is an RFC 1123 subdomain: safe in a path, a command line and a terminal.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        })
}

/// Tells whether `value` may be a label's value.
pub(crate) fn is_label_value(value: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    value.len() <= 63
        && value.bytes().all(inner)
        && value.bytes().next().is_none_or(|byte| byte.is_ascii_alphanumeric())
        && value.bytes().last().is_none_or(|byte| byte.is_ascii_alphanumeric())
}

/// Tells whether `session` looks like a session id: it becomes part of names and labels.
pub(crate) fn is_session(session: &str) -> bool {
    (4..=32).contains(&session.len())
        && session.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Returns at most `bytes` bytes of `text`, cut between characters.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clone_names_are_valid_and_short() {
        let check = |name: &str, expected: &str| {
            let clone = clone_name(name, "ab12cdefgh");
            assert_eq!(clone, expected);
            assert!(is_name(&clone), "{clone}");
        };
        check("web", "web-towline-ab12");
        check(&"a".repeat(200), &format!("{}-towline-ab12", "a".repeat(40)));
        check(&format!("{}.{}", "a".repeat(39), "b".repeat(30)), &format!("{}-towline-ab12", "a".repeat(39)));
        check(&format!("{}-{}", "a".repeat(39), "b".repeat(30)), &format!("{}-towline-ab12", "a".repeat(39)));
    }

    #[test]
    fn lease_names_are_valid_and_distinct() {
        assert_eq!(lease_name("Deployment", "web"), "towline.deployment.web");
        let long = |last: &str| lease_name("Deployment", &format!("{}{last}", "a".repeat(252)));
        assert!(is_name(&long("x")));
        assert!(long("x").len() <= MAX_NAME_BYTES);
        assert_ne!(long("x"), long("y"));
    }

    #[test]
    fn claim_names_are_valid_and_distinct() {
        assert_eq!(claim_name("web"), "web-towline");
        let long = |last: &str| claim_name(&format!("{}{last}", "a".repeat(252)));
        assert!(is_name(&long("x")) && long("x") != long("y"));
        assert!(is_name(&secret_name("ab12cdefgh")));
    }

    #[test]
    fn names_and_values_are_told_from_others() {
        let names = |name: &str, expected: bool| assert_eq!(is_name(name), expected, "{name:?}");
        names("web", true);
        names("web.v1-2", true);
        for bad in ["", "Web", "-web", "web-", "a..b", "a b", "a;b", "a$(b)", "ä", "a\n"] {
            names(bad, false);
        }
        assert!(is_label_value(""));
        assert!(is_label_value("a_b.C-1"));
        for bad in ["-a", "a-", "a b", "ä", &"a".repeat(64)] {
            assert!(!is_label_value(bad), "{bad:?}");
        }
    }
}
