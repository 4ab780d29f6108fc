//! What the API server says when it does not do what was asked, and what callers may conclude from it.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;
use serde_json::Value;

use super::request::{Call, Effect};
use crate::error::ClusterError;
use crate::port::{NAMESPACES, Object};

/// The most bytes of a server's words that we repeat.
const MAX_WORDS: usize = 2 * 1024;

/// An answer that is no success: a `Status` of Kubernetes, or what a proxy on the way made up.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) code: u16,
    /// `Status.reason`, empty if there is none.
    pub(super) reason: String,
    /// The words, cleaned and cut.
    pub(super) message: String,
    /// `Status.details`: the plural and name of the object that the server means.
    about: Option<(String, String)>,
    /// Whether the API server itself speaks.
    genuine: bool,
    /// How long we are asked to wait.
    pub(super) retry_after: Option<Duration>,
}

impl Answer {
    /// Reads an answer.
    pub(super) fn new(code: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let mut answer = match serde_json::from_slice::<Value>(body) {
            Ok(status) if status["kind"] == "Status" => Self::from_status(&status),
            Ok(_) | Err(_) => Self {
                code,
                reason: String::new(),
                message: words(&String::from_utf8_lossy(body)),
                about: None,
                genuine: false,
                retry_after: None,
            },
        };
        answer.code = code;
        if answer.message.is_empty() {
            let status = http::StatusCode::from_u16(code).ok();
            let meaning = status.and_then(|status| status.canonical_reason());
            meaning.unwrap_or("no reason given").clone_into(&mut answer.message);
        }
        let header =
            headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse::<u32>().ok());
        answer.retry_after = header.map(|seconds| Duration::from_secs(seconds.into())).or(answer.retry_after);
        answer
    }

    /// Reads a `Status` object, as it also comes within streams.
    pub(super) fn from_status(status: &Value) -> Self {
        let text = |pointer: &str| status.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
        let seconds =
            status.pointer("/details/retryAfterSeconds").and_then(Value::as_u64).filter(|it| *it > 0);
        Self {
            code,
            reason: text("/reason").to_owned(),
            message: words(text("/message")),
            about: Some((text("/details/kind").to_owned(), text("/details/name").to_owned())),
            genuine: true,
            retry_after: seconds.map(Duration::from_secs),
        }
    }

    /// Takes over what the client has read already.
    pub(super) fn from_client(status: &::kube::core::Status) -> Self {
        let details = status.details.as_ref();
        Self {
            code: status.code,
            reason: status.reason.clone(),
            message: words(&status.message),
            about: details.map(|details| (details.kind.clone(), details.name.clone())),
            genuine: true,
            retry_after: None,
        }
    }

    /// Tells whether what we know is too old to go on from.
    pub(super) fn is_expired(&self) -> bool {
        self.code == 410 || matches!(self.reason.as_str(), "Expired" | "Gone")
    }

    /// Tells whether the server may have done a write although it did not say so.
    ///
    /// What admission refuses never reached the storage. What timed out may have, and a proxy that lost the server
    /// knows no more than we do.
    fn leaves_doubt(&self) -> bool {
        matches!(self.code, 408 | 502 | 504)
            || (self.code >= 500 && !self.genuine)
            || matches!(self.reason.as_str(), "Timeout" | "ServerTimeout")
            || self.message.starts_with("etcdserver:")
    }

    /// Says it in the port's words.
    pub(super) fn into_error(self, call: &Call, server: &str) -> ClusterError {
        let object = call.object.clone();
        let doubt = call.effect == Effect::Write && self.leaves_doubt();
        let Self { code, reason, message, about, .. } = self;
        match code {
            401 => ClusterError::Unauthorized { server: server.to_owned(), message },
            403 => ClusterError::Forbidden { verb: call.verb, object, message },
            404 => match about {
                Some((kind, name)) if kind == NAMESPACES.plural && object.resource != NAMESPACES => {
                    ClusterError::NotFound { object: Object::new(NAMESPACES, "", words(&name)) }
                }
                Some(_) | None => ClusterError::NotFound { object },
            },
            409 if reason == "AlreadyExists" => ClusterError::AlreadyExists { object },
            409 => ClusterError::Conflict { object, message },
            400 | 413 | 422 => ClusterError::Invalid { object, message },
            _ if doubt => ClusterError::Ambiguous { verb: call.verb, object },
            code => ClusterError::Server { verb: call.verb, object, code, message },
        }
    }
}

/// Cleans and cuts what the other side said, for a terminal: one line, no control or direction characters.
pub(super) fn words(text: &str) -> String {
    let mut cleaned = String::new();
    for char in text.trim().chars() {
        let char = match char {
            '\n' | '\t' => ' ',
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => continue,
            other if other.is_control() => continue,
            other => other,
        };
        if cleaned.len() + char.len_utf8() > MAX_WORDS {
            break;
        }
        cleaned.push(char);
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_one_clean_short_line() {
        let check = |input: &str, expected: &str| assert_eq!(words(input), expected);
        check("  plain words \n", "plain words");
        check("two\nlines\tand\r tabs", "two lines and tabs");
        check("\u{1b}[31mred\u{1b}[0m \u{202e}txt\u{7}\u{9b}1m", "[31mred[0m txt1m");
        check(&"é".repeat(2000), &"é".repeat(1024));
    }
}
