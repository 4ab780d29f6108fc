//! `doctor`: what could keep dev mode from working, each with what was seen and what to type.
//!
//! Everything is looked at once, into [`Facts`]; each [`Check`] is a pure function of them. Nothing in the cluster is
//! changed: reads, server-side dry runs, and small programs that look around in a pod. No value of a variable and no
//! content of a file is in a finding or in a bundle.

mod cluster;
mod facts;
mod inside;
mod laptop;
mod left_overs;
mod scrub;
mod traffic;
mod workload;

use serde::Serialize;
use serde_json::{Value, json};

pub use self::facts::{Asked, Facts, gather};
pub use self::inside::Inside;
pub use self::laptop::{Laptop, Places};

/// How a check ended, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// It could not be looked at.
    Unknown,
    /// Dev mode works, but not as one would expect.
    Warn,
    /// Dev mode does not work, or does harm.
    Fail,
}

impl Verdict {
    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Unknown => "unknown",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The check, for programs: `namespace.exists`. Listed in `docs/doctor.md`.
    pub check: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What to do about it, where there is something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// What one check says of the facts; nothing where it has nothing to look at.
type Run = fn(&Facts) -> Vec<Outcome>;

/// One thing that is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Its name, for programs.
    pub id: &'static str,
    /// What it asks.
    pub asks: &'static str,
    run: Run,
}

/// A finding without the name of its check.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    verdict: Verdict,
    seen: String,
    mend: Option<String>,
}

fn pass(seen: impl Into<String>) -> Outcome {
    Outcome { verdict: Verdict::Pass, seen: seen.into(), mend: None }
}

fn unknown(seen: impl Into<String>) -> Outcome {
    Outcome { verdict: Verdict::Unknown, seen: seen.into(), mend: None }
}

fn warn(seen: impl Into<String>, mend: impl Into<String>) -> Outcome {
    Outcome { verdict: Verdict::Warn, seen: seen.into(), mend: Some(mend.into()) }
}

fn fail(seen: impl Into<String>, mend: impl Into<String>) -> Outcome {
    Outcome { verdict: Verdict::Fail, seen: seen.into(), mend: Some(mend.into()) }
}

/// What was found out, or why it was not.
type Known<T> = Result<T, String>;

const fn check(id: &'static str, asks: &'static str, run: Run) -> Check {
    Check { id, asks, run }
}

/// All checks, in the order in which they are told.
pub const CHECKS: &[Check] = &[
    check("target", "Which cluster and namespace is this?", cluster::target),
    check("namespace.exists", "Is the namespace there?", cluster::exists),
    check("namespace.terminating", "Is it being deleted, and what holds that up?", cluster::terminating),
    check("namespace.allowed", "Do its owners want dev mode there?", cluster::allowed),
    check("namespace.owner", "Who made it?", cluster::owner),
    check("clock", "Do the clocks agree?", cluster::clock),
    check("rights", "Are the rights there, for the way in and back?", cluster::rights),
    check("workload.exists", "Is the workload there?", workload::exists),
    check("workload.replicas", "Does it run?", workload::replicas),
    check("session", "Is someone in dev mode there?", workload::session),
    check("agent.version", "Is the agent in the pod this version's?", workload::agent),
    check("gitops", "Who else writes to it, and would undo dev mode?", workload::controllers),
    check("gitops.namespace", "Would Argo CD make the namespace anew?", workload::create_namespace),
    check("plan", "Would the cluster take the dev pod?", workload::plan),
    check("pod.state", "Is its pod well?", workload::pod),
    check("pod.references", "Are the ConfigMaps and Secrets there that it refers to?", workload::references),
    check("pod.environment", "Does the container have its variables?", inside::environment),
    check("image.command", "Has the image what the command needs?", inside::command),
    check("app.listens", "Does the app listen where its Service looks?", inside::listens),
    check("ingress.host", "Does each host belong to one Ingress?", traffic::hosts),
    check("ingress.admission", "Would the cluster take the Ingresses as they are?", traffic::admission),
    check("okteto.cluster", "Is something of Okteto's left in the namespace?", left_overs::in_cluster),
    check("manifest", "Is there one manifest, without problems?", laptop::manifest),
    check("manifest.privileges", "What does the manifest ask for beyond the workload?", laptop::privileges),
    check("ignore.place", "Has each synced folder its ignore rules?", laptop::ignore_place),
    check("ignore.cost", "What would be synced, and is it worth it?", laptop::ignore_cost),
    check("ignore.secrets", "Would credentials be synced?", laptop::ignore_secrets),
    check("names", "Do all names work on every system?", laptop::names),
    check("inotify", "Can all folders be watched?", laptop::inotify),
    check("ports", "Are the local ports free?", laptop::ports),
    check("syncers", "Does another program sync the same folder?", laptop::syncers),
    check("okteto.ssh", "Are there SSH entries of Okteto's?", left_overs::ssh),
    check("okteto.processes", "Does a process of Okteto's still run?", left_overs::processes),
];

/// Runs every check. No value of a variable is in what it returns.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let scrubber = facts.scrubber();
    let of = |check: &'static Check| {
        (check.run)(facts).into_iter().map(|seen| Finding {
            check: check.id,
            verdict: seen.verdict,
            seen: scrubber.text(&seen.seen),
            mend: seen.mend.map(|mend| scrubber.text(&mend)),
        })
    };
    CHECKS.iter().flat_map(of).collect()
}

/// Returns findings and facts as one object for someone who is to help. Variables, arguments, annotations and the data
/// of `ConfigMaps` are left out, and what they hold is blotted out wherever else it shows.
pub fn bundle(facts: &Facts, findings: &[Finding]) -> Value {
    let scrubber = facts.scrubber();
    let bundle = json!({
        "version": 1,
        "kind": "doctorBundle",
        "tool": env!("CARGO_PKG_VERSION"),
        "time": crate::journal::now(),
        "findings": findings,
        "facts": facts.shown(),
    });
    scrubber.value(bundle)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Checks the first of what a check found: its verdict, and words of what was seen or is to be typed.
    #[track_caller]
    pub(super) fn expect(found: &[Outcome], verdict: Verdict, words: &str) {
        let all =
            found.first().map(|seen| format!("{} {}", seen.seen, seen.mend.as_deref().unwrap_or_default()));
        assert!(
            found.first().is_some_and(|seen| seen.verdict == verdict) && all.unwrap().contains(words),
            "{words}: {found:#?}"
        );
    }

    #[test]
    fn each_check_has_a_name_of_its_own_and_is_documented() {
        let page = include_str!("../../../docs/doctor.md");
        let names: BTreeSet<_> = CHECKS.iter().map(|check| check.id).collect();
        assert_eq!(names.len(), CHECKS.len());
        for check in CHECKS {
            let row = format!("| `{}` | {} |", check.id, check.asks);
            assert!(page.contains(&row), "docs/doctor.md lacks: {row}");
        }
    }

    #[test]
    fn with_nothing_known_nothing_is_claimed() {
        let findings = examine(&Facts::nothing("no cluster"));
        assert!(findings.iter().all(|finding| finding.verdict <= Verdict::Unknown), "{findings:#?}");
        assert!(findings.iter().any(|finding| finding.seen.contains("no cluster")));
    }
}
