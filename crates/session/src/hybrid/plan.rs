//! What is found out before the first write where the command runs on this machine: the ports that lead to it, and the
//! names of the variables that it will get.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};
use towline_cluster::port::{SERVICES, Selection};

use super::environment::is_left_out;
use crate::context::Context;
use crate::controllers::selects;
use crate::error::SessionError;
use crate::plan::{UpPlan, container};
use crate::pod::text;
use crate::request::{Reverse, UpRequest};

/// A command that will run on this machine. Values of variables are not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HereView {
    /// The command line.
    pub command: Vec<String>,
    /// The folder of this machine that it runs in.
    pub folder: String,
    /// The pod's ports, with the port of this machine that each leads to.
    pub ports: Vec<(u16, u16)>,
    /// The names of the variables that the pod template and the manifest set.
    pub variables: Vec<String>,
    /// The objects that all variables are taken from, such as `Secret api`.
    pub variables_from: Vec<String>,
}

/// Makes the view of a plan; `None` where the command runs in the container.
pub(crate) fn view(plan: &UpPlan) -> Option<HereView> {
    let request = &plan.request;
    let hybrid = request.hybrid.as_ref()?;
    let dev =
        container(&plan.clone.object, crate::plan::template_of(&plan.record), Some(&plan.record.container));
    let items = |field: &str| dev.and_then(|dev| dev.get(field)?.as_array()).into_iter().flatten();
    let set = items("env").map(|variable| text(variable, "/name")).filter(|name| !is_left_out(name));
    let own = hybrid.environment.iter().map(|(name, _)| name.clone());
    let variables: BTreeSet<String> = set.chain(own).collect();
    let source = |source: &Value| {
        let of = |kind: &str, field: &str| {
            let name = source.pointer(&format!("/{field}/name"))?.as_str()?;
            Some(format!("{kind} {name}"))
        };
        of("ConfigMap", "configMapRef").or_else(|| of("Secret", "secretRef"))
    };
    Some(HereView {
        command: request.command.clone(),
        folder: hybrid.folder.display().to_string(),
        ports: request.reverses.iter().map(|reverse| (reverse.remote, reverse.local)).collect(),
        variables: variables.into_iter().collect(),
        variables_from: items("envFrom").filter_map(source).collect(),
    })
}

/// Completes a request for a command on this machine: which of the pod's ports lead to it.
pub(crate) async fn complete(
    context: &Context,
    request: &mut UpRequest,
    workload: &Value,
    template: &str,
    notes: &mut Vec<String>,
) -> Result<(), SessionError> {
    if request.hybrid.is_none() {
        return Ok(());
    }
    if request.reverses.is_empty() {
        // Without the right to list them, what the container says of itself has to do.
        let services = context.cluster.list(SERVICES, Some(&context.namespace), &Selection::default()).await;
        let pod = workload.pointer(template).cloned().unwrap_or_default();
        let found = ports(&pod, request.plan.container.as_deref(), &services.unwrap_or_default());
        request.reverses = found.into_iter().map(|port| Reverse { remote: port, local: port }).collect();
        if request.reverses.is_empty() {
            let hint = "name those that your command listens on under reverse";
            notes.push(format!("no port of the container is known, so none leads to this machine: {hint}"));
        }
    }
    forwards_beside(request, notes)?;
    if context.cluster.target().embedded {
        // A pod there is a process of this machine: what listens here on the same port is reached as the pod.
        request.reverses.retain(|reverse| reverse.remote != reverse.local);
    }
    Ok(())
}

/// Leaves out the forwards that would lead back to this machine, and fails for one that takes the command's own port.
fn forwards_beside(request: &mut UpRequest, notes: &mut Vec<String>) -> Result<(), SessionError> {
    let reverses = request.reverses.clone();
    let comes_back = |remote: u16| reverses.iter().any(|reverse| reverse.remote == remote);
    request.forwards.retain(|forward| {
        let back = forward.host.is_none() && comes_back(forward.port);
        if back {
            let (begins, port) = (forward.begins(), forward.port);
            notes.push(format!(
                "forward {begins} is left out: port {port} of the container leads to this machine"
            ));
        }
        !back
    });
    let taken = |reverse: &&Reverse| request.forwards.iter().any(|forward| forward.local == reverse.local);
    match reverses.iter().find(taken) {
        None => Ok(()),
        Some(Reverse { remote, local }) => Err(SessionError::Refused {
            what: format!("port {local} of this machine"),
            why: "a forward listens there, and your command is to listen there as well".to_owned(),
            hint: format!("give the forward another port, or your command: reverse: ['{remote}:OTHER']"),
        }),
    }
}

/// Returns the ports that connections to a container come to: those that it names, and those that Services lead to. The
/// pod template's other containers keep theirs.
fn ports(pod: &Value, name: Option<&str>, services: &[Value]) -> BTreeSet<u16> {
    let items = |value: &'_ Value, path: &str| {
        value.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let is_tcp = |port: &Value| matches!(text(port, "/protocol").as_str(), "" | "TCP");
    let number =
        |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let of = |container: &Value| {
        let named = items(container, "/ports");
        named
            .iter()
            .filter(|port| is_tcp(port))
            .filter_map(|port| number(&port["containerPort"]))
            .collect::<Vec<_>>()
    };
    let containers = items(pod, "/spec/containers");
    let is_it = |index: usize, container: &Value| match name {
        Some(name) => text(container, "/name") == name,
        None => index == 0,
    };
    let (mut own, mut others) = (BTreeSet::new(), BTreeSet::new());
    for (index, container) in containers.iter().enumerate() {
        if is_it(index, container) { own.extend(of(container)) } else { others.extend(of(container)) }
    }
    let workload = json!({"spec": {"template": pod}});
    for service in services {
        let Some(selector) = service.pointer("/spec/selector").filter(|selector| selector.is_object()) else {
            continue;
        };
        if selects(Some(&json!({"matchLabels": selector})), &workload) {
            for port in items(service, "/spec/ports").iter().filter(|port| is_tcp(port)) {
                let target =
                    port.get("targetPort").filter(|target| !target.is_null()).unwrap_or(&port["port"]);
                own.extend(number(target).filter(|port| !others.contains(port)));
            }
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use super::*;
    use crate::request::Forward;

    #[test]
    fn a_containers_ports_are_its_own_and_those_that_services_lead_to() {
        let pod = json!({
            "metadata": {"labels": {"app": "web", "tier": "front"}},
            "spec": {"containers": [
                {"name": "web", "ports": [{"name": "http", "containerPort": 8080}, {"containerPort": 53, "protocol": "UDP"}]},
                {"name": "proxy", "ports": [{"containerPort": 15001, "protocol": "TCP"}]},
            ]},
        });
        let service = |selector: Value, ports: Value| json!({"spec": {"selector": selector, "ports": ports}});
        let check = |name: Option<&str>, services: &[Value], expected: &[u16]| {
            assert_eq!(
                ports(&pod, name, services),
                expected.iter().copied().collect(),
                "{name:?} {services:?}"
            );
        };
        check(None, &[], &[8080]);
        check(Some("web"), &[], &[8080]);
        check(Some("proxy"), &[], &[15001]);
        let to = |target: Value| service(json!({"app": "web"}), json!([{"port": 80, "targetPort": target}]));
        check(None, &[to(json!("http"))], &[8080]);
        check(None, &[to(json!(9000))], &[8080, 9000]);
        check(None, &[to(Value::Null)], &[80, 8080]);
        check(None, &[to(json!(15001)), to(json!(70000)), to(json!(0))], &[8080]);
        check(None, &[service(json!({"app": "other"}), json!([{"port": 81}]))], &[8080]);
        check(None, &[service(Value::Null, json!([{"port": 81}]))], &[8080]);
        check(None, &[service(json!({"app": "web"}), json!([{"port": 81, "protocol": "UDP"}]))], &[8080]);
        assert!(ports(&Value::Null, None, &[Value::Null]).is_empty());
    }

    #[test]
    fn a_forward_is_beside_the_commands_ports() {
        let check = |host: Option<&str>, local: u16, port: u16, expected: Result<usize, ()>| {
            let forward = Forward {
                interface: Ipv4Addr::LOCALHOST.into(),
                local,
                host: host.map(str::to_owned),
                labels: BTreeMap::new(),
                port,
            };
            let mut request = crate::rights::tests::request();
            request.reverses = vec![Reverse { remote: 80, local: 8080 }];
            request.forwards = vec![forward];
            let mut notes = Vec::new();
            let done = forwards_beside(&mut request, &mut notes).map_err(drop);
            assert_eq!(done.map(|()| request.forwards.len()), expected, "{host:?} {local} {port}");
            assert_eq!(notes.len(), usize::from(expected == Ok(0)), "{notes:?}");
        };
        check(Some("db"), 5432, 5432, Ok(1));
        check(None, 9000, 80, Ok(0));
        check(None, 8080, 80, Ok(0));
        // A sidecar's.
        check(None, 9000, 15000, Ok(1));
        check(Some("db"), 8080, 80, Err(()));
    }
}
