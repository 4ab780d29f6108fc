//! What Okteto has left, in the namespace and on this machine.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{Facts, Outcome, pass, warn};
use crate::pod::text;

/// The whole Deployment as it was, variables included: readable by everyone who may look at the workload.
const WHOLE: &str = "dev.okteto.com/deployment";
const REPLICAS: &str = "dev.okteto.com/replicas";

pub(super) fn in_cluster(facts: &Facts) -> Vec<Outcome> {
    let namespace = &facts.namespace_name;
    let mut found = Vec::new();
    for workload in &facts.workloads {
        let name = text(workload, "/metadata/name");
        let annotation = |key: &str| workload.pointer("/metadata/annotations")?.get(key)?.as_str();
        if annotation(WHOLE).is_some() {
            found.push(warn(
                format!("Deployment {name} carries {WHOLE}, with its variables in the clear"),
                format!("kubectl -n {namespace} annotate deployment {name} {WHOLE}-"),
            ));
        }
        if let Some(replicas) = annotation(REPLICAS)
            && towline_patcher::replicas(workload) == 0
        {
            found.push(warn(
                format!(
                    "Deployment {name} was left at 0 replicas by a session of Okteto's; it had {replicas}"
                ),
                format!(
                    "okteto down; or: kubectl -n {namespace} scale deployment {name} --replicas={replicas}"
                ),
            ));
        }
    }
    for pod in &facts.pods {
        let init = pod.pointer("/spec/initContainers").and_then(Value::as_array);
        if init.into_iter().flatten().any(|container| text(container, "/name") == "okteto-bin") {
            let name = text(pod, "/metadata/name");
            found.push(warn(
                format!("pod {name} is a dev container of Okteto's: its SSH and sync ports are open to every pod, with keys that everyone knows"),
                "end that session: okteto down",
            ));
        }
    }
    let claims: Vec<&str> = facts
        .claims
        .iter()
        .filter(|claim| claim.ends_with("-okteto") || claim.starts_with("okteto-"))
        .map(String::as_str)
        .collect();
    if !claims.is_empty() {
        found.push(warn(
            format!("volume claims of Okteto's are left: {}", claims.join(", ")),
            format!(
                "if nobody needs what is in them: kubectl -n {namespace} delete pvc {}",
                claims.join(" ")
            ),
        ));
    }
    if found.is_empty() {
        found.push(pass("nothing of Okteto's is left in the namespace, as far as you may look"));
    }
    found
}

/// A block of `~/.ssh/config` for hosts of Okteto's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SshEntry {
    pub(super) host: String,
    /// What is wrong with it.
    pub(super) faults: Vec<&'static str>,
}

/// Reads an SSH configuration.
pub(super) fn ssh_entries(config: &str) -> Vec<SshEntry> {
    let mut entries: Vec<SshEntry> = Vec::new();
    let mut inside = false;
    for line in config.lines() {
        let mut words = line.split(|c: char| c.is_whitespace() || c == '=').filter(|word| !word.is_empty());
        let Some(key) = words.next().filter(|key| !key.starts_with('#')) else { continue };
        let values: Vec<&str> = words.collect();
        if key.eq_ignore_ascii_case("host") {
            inside = values.iter().any(|host| host.ends_with(".okteto"));
            if inside {
                entries.push(SshEntry { host: values.join(" "), faults: Vec::new() });
            }
            continue;
        }
        let Some(entry) = entries.last_mut().filter(|_| inside) else { continue };
        let value = values.first().copied().unwrap_or_default();
        let is =
            |name: &str, wanted: &str| key.eq_ignore_ascii_case(name) && value.eq_ignore_ascii_case(wanted);
        if is("StrictHostKeyChecking", "no") || is("UserKnownHostsFile", "/dev/null") {
            let fault = "accepts any host key, and Okteto's own is known to everyone";
            if !entry.faults.contains(&fault) {
                entry.faults.push(fault);
            }
        } else if is("ForwardAgent", "yes") {
            entry.faults.push("lends your keys to the pod");
        }
    }
    entries
}

pub(super) fn ssh(facts: &Facts) -> Vec<Outcome> {
    let of = |entry: &SshEntry| {
        let faults =
            if entry.faults.is_empty() { "is not needed".to_owned() } else { entry.faults.join(", and ") };
        warn(
            format!("the entry {} in ~/.ssh/config {faults}", entry.host),
            format!("remove the block that begins with: Host {}", entry.host),
        )
    };
    let found: Vec<Outcome> = facts.laptop.ssh.iter().map(of).collect();
    if found.is_empty() { vec![pass("~/.ssh/config has no entries of Okteto's")] } else { found }
}

/// Returns the processes that Okteto's own files name and that still run: the file's name without its end, and the pid.
pub(super) fn running(okteto_home: &Path, is_running: impl Fn(u32) -> Option<String>) -> Vec<(String, u32)> {
    let folders = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let mut found = Vec::new();
    for session in folders(okteto_home).iter().flat_map(|namespace| folders(namespace)) {
        for program in ["okteto", "syncthing"] {
            let pid = fs::read_to_string(session.join(format!("{program}.pid"))).ok();
            let pid = pid.and_then(|text| text.trim().parse().ok());
            // A number that was used again belongs to a stranger.
            if let Some(pid) = pid
                && is_running(pid).is_some_and(|name| name.contains(program))
            {
                found.push((program.to_owned(), pid));
            }
        }
    }
    found.sort();
    found
}

pub(super) fn processes(facts: &Facts) -> Vec<Outcome> {
    let of = |(program, pid): &(String, u32)| {
        warn(
            format!(
                "{program} of a session of Okteto's still runs as process {pid}, and may still sync its folder"
            ),
            format!("okteto down; or, if nothing else ends it: kill {pid}"),
        )
    };
    let found: Vec<Outcome> = facts.laptop.processes.iter().map(of).collect();
    if found.is_empty() { vec![pass("no process of Okteto's runs")] } else { found }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Laptop;
    use super::super::Verdict::{Pass, Warn};
    use super::*;

    #[test]
    fn entries_of_ssh_are_told_apart() {
        let config = "# Host x.okteto\nHost api.okteto\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  \
                      ForwardAgent yes\nHost other\n  ForwardAgent yes\nhost=web.okteto\n\tPort 2222\n";
        let found = ssh_entries(config);
        let shown: Vec<_> = found.iter().map(|entry| (entry.host.as_str(), entry.faults.len())).collect();
        assert_eq!(shown, [("api.okteto", 2), ("web.okteto", 0)]);
        let laptop = Laptop { ssh: found, ..Laptop::default() };
        let seen = ssh(&Facts { laptop, ..Facts::nothing("no") });
        assert!(seen[0].verdict == Warn && seen[0].seen.contains("lends your keys"), "{seen:#?}");
        assert_eq!(ssh(&Facts::nothing("no"))[0].verdict, Pass);
    }

    #[test]
    fn a_number_that_was_used_again_is_a_stranger() {
        let temp = tempfile::tempdir().unwrap();
        let session = temp.path().join("shop/api");
        fs::create_dir_all(&session).unwrap();
        fs::write(session.join("okteto.pid"), "10\n").unwrap();
        fs::write(session.join("syncthing.pid"), "11").unwrap();
        let check = |name: Option<&str>, expected: &[u32]| {
            let found: Vec<u32> =
                running(temp.path(), |_| name.map(str::to_owned)).into_iter().map(|(_, pid)| pid).collect();
            assert_eq!(found, expected, "{name:?}");
        };
        check(Some("/usr/bin/okteto"), &[10]);
        check(Some("syncthing"), &[11]);
        check(Some("postgres"), &[]);
        check(None, &[]);
    }

    #[test]
    fn what_is_left_in_the_namespace() {
        let workload = json!({"metadata": {"name": "api", "annotations": {WHOLE: "{}", REPLICAS: "3"}}, "spec": {"replicas": 0}});
        let pod = json!({"metadata": {"name": "p"}, "spec": {"initContainers": [{"name": "okteto-bin"}]}});
        let facts = Facts {
            workloads: vec![workload],
            pods: vec![pod],
            claims: vec!["api-okteto".to_owned(), "data".to_owned()],
            ..Facts::nothing("no")
        };
        let found = in_cluster(&facts);
        assert!(found.len() == 4 && found.iter().all(|seen| seen.verdict == Warn), "{found:#?}");
        assert!(found[1].seen.contains("it had 3"));
        assert!(found[3].seen.ends_with("left: api-okteto"));
        assert_eq!(in_cluster(&Facts::nothing("no"))[0].verdict, Pass);
    }
}
