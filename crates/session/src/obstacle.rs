//! What stands in a session's way, told all at once and before anything is written: the server's denials in its own
//! words, controllers that would undo dev mode, each with what mends it.

use serde::Serialize;
use towline_cluster::ClusterError;

/// One thing that stands in the way. With any of them `up` does not begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Obstacle {
    /// What it is, for programs. Listed in `docs/events.md`.
    pub code: &'static str,
    /// What can't be done, or to which object.
    pub what: String,
    /// Why; a server's words are cleaned and cut.
    pub why: String,
    /// What to do about it.
    pub mend: String,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl Obstacle {
    /// Reads what the server said to a dry run; `None` where it is no denial, but a failure.
    pub fn of(error: &ClusterError) -> Option<Self> {
        let (what, words) = match error {
            ClusterError::Forbidden { verb, object, message } => (format!("{verb} {object}"), message),
            ClusterError::Invalid { object, message } => (object.to_string(), message),
            // A webhook may answer with any code.
            ClusterError::Server { verb, object, message, code } if *code < 500 => {
                (format!("{verb} {object}"), message)
            }
            _ => return None,
        };
        let (code, mend) = denier(words);
        let mend = match named(words, "admission webhook") {
            Some(webhook) if code == "webhook" => {
                format!(
                    "the webhook {webhook} decides that: set what it asks for in the manifest, or ask its owners"
                )
            }
            Some(_) | None => mend.to_owned(),
        };
        Some(Self { code, what, why: words.clone(), mend })
    }
}

/// Tells who in the cluster refuses, by the words that Kubernetes' own parts use, and what mends it.
fn denier(words: &str) -> (&'static str, &'static str) {
    const DENIERS: &[(&str, &str, &str)] = &[
        (
            "violates PodSecurity",
            "podSecurity",
            "the namespace enforces Pod Security: set what it asks for in the manifest's securityContext",
        ),
        (
            "exceeded quota",
            "quota",
            "lower the manifest's resources, or free some: kubectl describe resourcequota",
        ),
        (
            "failed quota",
            "quota",
            "the quota wants requests or limits on every container: set the manifest's resources",
        ),
        (
            "usage per Container",
            "limitRange",
            "set the manifest's resources within the namespace's LimitRange: kubectl describe limitrange",
        ),
        (
            "usage per Pod",
            "limitRange",
            "set the manifest's resources within the namespace's LimitRange: kubectl describe limitrange",
        ),
        (
            "ValidatingAdmissionPolicy",
            "policy",
            "a policy of the cluster decides that: set what it asks for in the manifest, or ask its owners",
        ),
        (
            "admission webhook",
            "webhook",
            "a webhook of the cluster decides that: set what it asks for in the manifest, or ask its owners",
        ),
        ("being terminated", "terminating", "the namespace is being deleted: choose another with -n"),
        ("is forbidden: User", "rights", "ask for the right, or see what you may: kubectl auth can-i --list"),
    ];
    let found = DENIERS.iter().find(|(sign, _, _)| words.contains(sign));
    found.map_or(("denied", "change the manifest so that the cluster takes it"), |(_, code, mend)| {
        (code, mend)
    })
}

/// Returns the quoted name that follows `kind` in a message.
fn named<'w>(words: &'w str, kind: &str) -> Option<&'w str> {
    let (_, rest) = words.split_once(kind)?;
    let (name, _) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
    Some(name)
}

#[cfg(test)]
mod tests {
    use towline_cluster::port::{Object, PODS};

    use super::*;

    #[test]
    fn who_refuses_is_told_by_the_words_of_kubernetes() {
        let check = |words: &str, code: &str, mend: &str| {
            let object = Object::new(PODS, "shop", "");
            let error = ClusterError::Forbidden { verb: "create", object, message: words.to_owned() };
            let obstacle = Obstacle::of(&error).unwrap();
            assert_eq!(obstacle.code, code, "{words}");
            assert!(obstacle.mend.contains(mend), "{words}: {}", obstacle.mend);
            assert_eq!(obstacle.why, words);
        };
        check(
            "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false",
            "podSecurity",
            "securityContext",
        );
        check("pods \"x\" is forbidden: exceeded quota: team, requested: pods=1", "quota", "free some");
        check(
            "pods \"x\" is forbidden: failed quota: team: must specify limits.cpu",
            "quota",
            "every container",
        );
        check(
            "pods \"x\" is forbidden: maximum cpu usage per Container is 1, but limit is 2",
            "limitRange",
            "LimitRange",
        );
        check(
            "admission webhook \"hosts.example.com\" denied the request: host must end in .dev.example.com",
            "webhook",
            "hosts.example.com",
        );
        check(
            "deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'min' with binding 'min' denied request: no",
            "policy",
            "owners",
        );
        check("pods is forbidden: User \"ann\" cannot create resource \"pods\"", "rights", "can-i");
        check("no", "denied", "manifest");
    }

    #[test]
    fn a_failure_is_no_denial() {
        let object = Object::new(PODS, "shop", "");
        let server = |code| ClusterError::Server {
            verb: "create",
            object: object.clone(),
            code,
            message: "admission webhook \"a\" denied the request: no".to_owned(),
        };
        assert_eq!(Obstacle::of(&server(418)).map(|it| it.code), Some("webhook"));
        assert_eq!(Obstacle::of(&server(500)), None);
        assert_eq!(Obstacle::of(&ClusterError::NotFound { object: object.clone() }), None);
        assert_eq!(Obstacle::of(&ClusterError::Conflict { object, message: String::new() }), None);
    }
}
