//! What leads to the workload: Services and Ingresses.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Facts, Outcome, fail, pass, unknown, warn};
use crate::pod::text;

/// Returns the ports of a pod that Services lead to, each with its Service.
pub(super) fn target_ports(services: &[Value], pod: &Value) -> Vec<(String, u16)> {
    let labels = pod.pointer("/metadata/labels");
    let selects = |service: &&Value| {
        let selector = service.pointer("/spec/selector").and_then(Value::as_object);
        selector.is_some_and(|wanted| {
            !wanted.is_empty()
                && wanted.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
        })
    };
    let mut ports = Vec::new();
    for service in services.iter().filter(selects) {
        for port in service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten() {
            let number = match port.get("targetPort").or_else(|| port.get("port")) {
                Some(Value::String(name)) => named_port(pod, name),
                Some(number) => number.as_u64().and_then(|number| u16::try_from(number).ok()),
                None => None,
            };
            let udp = text(port, "/protocol") == "UDP";
            ports.extend(number.filter(|_| !udp).map(|number| (text(service, "/metadata/name"), number)));
        }
    }
    ports
}

fn named_port(pod: &Value, name: &str) -> Option<u16> {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array)?;
    let ports = containers.iter().filter_map(|container| container.get("ports")?.as_array()).flatten();
    let port = ports.into_iter().find(|port| text(port, "/name") == name)?;
    u16::try_from(port.get("containerPort")?.as_u64()?).ok()
}

pub(super) fn hosts(facts: &Facts) -> Vec<Outcome> {
    let ingresses = match &facts.ingresses {
        Ok(ingresses) => ingresses,
        Err(why) => return vec![unknown(format!("the Ingresses could not be read: {why}"))],
    };
    // Two Ingresses may share a host, as long as they lead from different paths.
    let mut owners: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for ingress in ingresses {
        let who = format!("{}/{}", text(ingress, "/metadata/namespace"), text(ingress, "/metadata/name"));
        for rule in ingress.pointer("/spec/rules").and_then(Value::as_array).into_iter().flatten() {
            let host = text(rule, "/host");
            let paths = rule.pointer("/http/paths").and_then(Value::as_array);
            for path in paths.into_iter().flatten().map(|path| text(path, "/path")) {
                let path = if path.is_empty() { "/".to_owned() } else { path };
                let owners = owners.entry((host.clone(), path)).or_default();
                if !owners.contains(&who) {
                    owners.push(who.clone());
                }
            }
        }
    }
    let here = format!("{}/", facts.namespace_name);
    let mut found: Vec<Outcome> = owners
        .iter()
        .filter(|((host, _), owners)| {
            !host.is_empty() && owners.len() > 1 && owners.iter().any(|owner| owner.starts_with(&here))
        })
        .map(|((host, path), owners)| {
            warn(
                format!("{host}{path} belongs to {} Ingresses: {}", owners.len(), owners.join(", ")),
                "which of them gets the requests is chance: keep one, or give each a host of its own",
            )
        })
        .collect();
    if found.is_empty() {
        let place =
            if facts.everywhere { "the cluster" } else { "the namespace, the only one you may look at" };
        found.push(pass(format!("no host of the namespace's Ingresses is given twice in {place}")));
    }
    found
}

pub(super) fn admission(facts: &Facts) -> Vec<Outcome> {
    let of = |(name, answer): &(String, Result<Option<String>, String>)| match answer {
        Ok(None) => pass(format!("Ingress {name} would be taken as it is")),
        Ok(Some(why)) => fail(
            format!("Ingress {name} would not be taken as it is: {why}"),
            "a policy of the cluster decides about hosts: rename the host as it says, or ask its owners",
        ),
        Err(why) => unknown(format!("whether Ingress {name} would be taken could not be asked: {why}")),
    };
    facts.refusals.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict::{Fail, Pass, Unknown, Warn};
    use super::*;

    fn ingress(namespace: &str, name: &str, host: &str, path: &str) -> Value {
        json!({"metadata": {"namespace": namespace, "name": name},
               "spec": {"rules": [{"host": host, "http": {"paths": [{"path": path}]}}]}})
    }

    #[test]
    fn a_host_that_two_ingresses_want() {
        let facts = |ingresses| Facts {
            ingresses: Ok(ingresses),
            everywhere: true,
            namespace_name: "shop".to_owned(),
            ..Facts::nothing("no")
        };
        let check =
            |ingresses: Vec<Value>, expected| assert_eq!(hosts(&facts(ingresses))[0].verdict, expected);
        check(vec![], Pass);
        check(vec![ingress("shop", "a", "a.example", "/"), ingress("shop", "b", "b.example", "/")], Pass);
        check(vec![ingress("shop", "a", "a.example", "/"), ingress("shop", "b", "a.example", "/api")], Pass);
        check(vec![ingress("shop", "a", "a.example", ""), ingress("test", "b", "a.example", "/")], Warn);
        check(vec![ingress("x", "a", "a.example", "/"), ingress("y", "b", "a.example", "/")], Pass);
        check(vec![ingress("shop", "a", "", "/"), ingress("shop", "b", "", "/")], Pass);
        assert_eq!(hosts(&Facts::nothing("no"))[0].verdict, Unknown);
    }

    #[test]
    fn what_a_policy_says_to_an_ingress_is_told() {
        let refusals = vec![
            ("a".to_owned(), Ok(None)),
            ("b".to_owned(), Ok(Some("host must end with .dev".to_owned()))),
            ("c".to_owned(), Err("cannot patch".to_owned())),
        ];
        let found = admission(&Facts { refusals, ..Facts::nothing("no") });
        let verdicts: Vec<_> = found.iter().map(|seen| seen.verdict).collect();
        assert_eq!(verdicts, [Pass, Fail, Unknown]);
        assert!(found[1].seen.contains("must end with .dev"));
    }

    #[test]
    fn ports_are_found_by_number_and_by_name() {
        let pod = json!({"metadata": {"labels": {"app": "web", "x": "y"}},
            "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 3000}]}]}});
        let service = |selector: Value, ports: Value| json!({"metadata": {"name": "s"}, "spec": {"selector": selector, "ports": ports}});
        let check = |service: Value, expected: &[u16]| {
            let found: Vec<u16> = target_ports(&[service], &pod).into_iter().map(|(_, port)| port).collect();
            assert_eq!(found, expected);
        };
        let app = || json!({"app": "web"});
        check(
            service(
                app(),
                json!([{"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 4000}, {"port": 82}]),
            ),
            &[3000, 4000, 82],
        );
        check(
            service(app(), json!([{"port": 80, "targetPort": "none"}, {"port": 53, "protocol": "UDP"}])),
            &[],
        );
        check(service(json!({"app": "other"}), json!([{"port": 80}])), &[]);
        check(service(json!({}), json!([{"port": 80}])), &[]);
    }
}
