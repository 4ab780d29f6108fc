//! What is seen inside the container, by the programs that its image has.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncReadExt;

use super::{Facts, Known, Outcome, fail, pass, unknown, warn};
use crate::context::Context;
use crate::pod::text;

/// How long a program in the container may take.
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_BYTES: u64 = 256 * 1024;

/// A port that something listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Socket {
    pub(super) port: u16,
    /// Whether only the pod itself can connect.
    pub(super) loopback: bool,
}

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Inside {
    /// The names of pid 1's variables. Their values are dropped where they are read.
    pub(super) variables: Option<BTreeSet<String>>,
    pub(super) sockets: Option<BTreeSet<Socket>>,
    /// The command's program, and whether it is there.
    pub(super) program: Option<(String, Known<bool>)>,
}

/// Looks around in a container.
pub(super) async fn look(
    context: &Context,
    pod: &Value,
    container: &str,
    program: Option<&str>,
) -> Known<Inside> {
    let name = text(pod, "/metadata/name");
    let run = async |words: &[&str]| run(context, &name, container, words).await;
    let sockets = run(&["cat", "/proc/net/tcp", "/proc/net/tcp6"]).await;
    let variables = run(&["cat", "/proc/1/environ"]).await;
    let program = match program {
        Some(program) => {
            let script = "command -v \"$1\" >/dev/null 2>&1 && echo there || echo missing";
            let answer = run(&["sh", "-c", script, "sh", program]).await.and_then(|answer| {
                match answer.trim_ascii() {
                    b"there" => Ok(true),
                    b"missing" => Ok(false),
                    _ => Err("the image has no shell to ask".to_owned()),
                }
            });
            Some((program.to_owned(), answer))
        }
        None => None,
    };
    Ok(Inside {
        variables: variables.ok().map(|bytes| names(&bytes)).filter(|names| !names.is_empty()),
        sockets: sockets
            .ok()
            .filter(|bytes| !bytes.is_empty())
            .map(|bytes| listening(&String::from_utf8_lossy(&bytes))),
        program,
    })
}

/// Runs a program and returns what it writes.
async fn run(context: &Context, pod: &str, container: &str, words: &[&str]) -> Known<Vec<u8>> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let reading = async {
        let stream = context.cluster.exec(&context.namespace, pod, container, &words).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        let read = stream.stdout.take(MAX_BYTES).read_to_end(&mut bytes).await;
        read.map(|_| bytes).map_err(|error| error.to_string())
    };
    tokio::time::timeout(PATIENCE, reading).await.map_err(|_| "it took too long".to_owned())?
}

fn names(environment: &[u8]) -> BTreeSet<String> {
    let variables = environment.split(|byte| *byte == 0).filter(|variable| !variable.is_empty());
    let name = |variable: &[u8]| {
        let end = variable.iter().position(|byte| *byte == b'=')?;
        String::from_utf8(variable[..end].to_vec()).ok()
    };
    variables.filter_map(name).collect()
}

/// Reads `/proc/net/tcp` and `tcp6` (`proc_net(5)`): state 0A is LISTEN.
fn listening(text: &str) -> BTreeSet<Socket> {
    text.lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields.get(3) != Some(&"0A") {
                return None;
            }
            let (address, port) = fields[1].rsplit_once(':')?;
            // Each word of an address is in the machine's byte order; 127.0.0.0/8 ends in 7F, ::1 in 01000000.
            let loopback = match address.len() {
                8 => address.ends_with("7F"),
                _ => {
                    address == "00000000000000000000000001000000"
                        || address.starts_with("0000000000000000FFFF0000") && address.ends_with("7F")
                }
            };
            Some(Socket { port: u16::from_str_radix(port, 16).ok()?, loopback })
        })
        .collect()
}

fn inside(facts: &Facts) -> Result<Option<&Inside>, Vec<Outcome>> {
    match (&facts.inside, &facts.pod) {
        (Ok(inside), _) => Ok(Some(inside)),
        (Err(_), Ok(None)) => Ok(None),
        (Err(why), _) => Err(vec![unknown(format!("the container could not be looked into: {why}"))]),
    }
}

pub(super) fn environment(facts: &Facts) -> Vec<Outcome> {
    let inside = match inside(facts) {
        Ok(Some(inside)) => inside,
        Ok(None) => return Vec::new(),
        Err(seen) => return seen,
    };
    let Some(variables) = &inside.variables else {
        return vec![unknown(
            "the container's variables could not be read: its image has no cat, or it runs as another user",
        )];
    };
    let missing: Vec<&str> = expected(facts).filter(|name| !variables.contains(*name)).collect();
    if missing.is_empty() {
        return vec![pass(format!("the container has its {} variables", variables.len()))];
    }
    let list = missing.join(", ");
    vec![warn(
        format!("variables are not in the container: {list}"),
        "they come with the next pod: towline up, once what they are read from is there",
    )]
}

/// The variables that the workload names one by one, and, in dev mode, the manifest's.
fn expected(facts: &Facts) -> impl Iterator<Item = &str> {
    let workload = facts.workload.as_ref().ok().and_then(Option::as_ref);
    let container = workload.and_then(|workload| {
        let name = facts.dev.as_ref().and_then(|dev| dev.container.as_deref());
        let holder = towline_patcher::holder(workload, None).ok()?;
        crate::plan::container(workload, &holder.template, name)
    });
    let own = container.and_then(|container| container.get("env")?.as_array()).into_iter().flatten();
    let optional = |variable: &&Value| {
        let source = variable.pointer("/valueFrom").and_then(Value::as_object);
        source.into_iter().flatten().any(|(_, source)| source.get("optional") == Some(&Value::Bool(true)))
    };
    let own =
        own.filter(move |variable| !optional(variable)).filter_map(|variable| variable.get("name")?.as_str());
    let of_session = facts.session.is_some();
    let more = facts.dev.iter().filter(move |_| of_session).flat_map(|dev| &dev.environment);
    own.chain(more.map(|variable| variable.name.as_str()))
}

pub(super) fn command(facts: &Facts) -> Vec<Outcome> {
    let inside = match inside(facts) {
        Ok(Some(inside)) => inside,
        Ok(None) => return Vec::new(),
        Err(seen) => return seen,
    };
    let Some((program, answer)) = &inside.program else { return Vec::new() };
    // The manifest's image is not the one that runs before dev mode.
    let other = facts.session.is_none() && facts.dev.as_ref().is_some_and(|dev| dev.image.is_some());
    vec![match answer {
        Ok(true) => pass(format!("{program} is in the image")),
        Ok(false) if other => unknown(format!(
            "{program} is not in the workload's image; whether it is in the manifest's is seen once dev mode is on"
        )),
        Ok(false) => fail(
            format!("{program} is not in the image"),
            "name an image that has it in the manifest, or another command",
        ),
        Err(why) => unknown(format!("whether {program} is in the image could not be found out: {why}")),
    }]
}

pub(super) fn listens(facts: &Facts) -> Vec<Outcome> {
    let inside = match inside(facts) {
        Ok(Some(inside)) => inside,
        Ok(None) => return Vec::new(),
        Err(seen) => return seen,
    };
    let (Ok(Some(pod)), Ok(services)) = (&facts.pod, &facts.services) else { return Vec::new() };
    let Some(sockets) = &inside.sockets else {
        return vec![unknown("what the container listens on could not be read: its image has no cat")];
    };
    let mut found = Vec::new();
    for (service, port) in super::traffic::target_ports(services, pod) {
        let of_port: Vec<&Socket> = sockets.iter().filter(|socket| socket.port == port).collect();
        found.push(if of_port.iter().any(|socket| !socket.loopback) {
            pass(format!("something listens on port {port}, where Service {service} looks"))
        } else if !of_port.is_empty() {
            fail(
                format!(
                    "port {port}, where Service {service} looks, is open on the container's loopback only"
                ),
                "let the app listen on all addresses, such as with --host 0.0.0.0",
            )
        } else {
            let others: Vec<String> = sockets
                .iter()
                .map(|socket| socket.port.to_string())
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect();
            let open = if others.is_empty() {
                "no port is open".to_owned()
            } else {
                format!("open are {}", others.join(", "))
            };
            warn(
                format!("nothing listens on port {port}, where Service {service} looks; {open}"),
                format!("let the app listen on port {port}, or see whether it runs: towline logs"),
            )
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict::{self, Fail, Pass, Unknown, Warn};
    use super::*;

    #[test]
    fn sockets_are_read_as_the_kernel_writes_them() {
        let text = "  sl  local_address rem_address   st\n   0: 0100007F:1F90 00000000:0000 0A 0\n   \
                    1: 00000000:0BB8 00000000:0000 0A 0\n   2: 00000000:0BB9 0100007F:1F91 01 0\n   \
                    3: 00000000000000000000000001000000:1F91 0:0 0A\n   4: 00000000000000000000000000000000:0050 0:0 0A\n\
                    nonsense\n  5: zz 0 0A 0A\n";
        let found: Vec<_> =
            listening(text).into_iter().map(|socket| (socket.port, socket.loopback)).collect();
        assert_eq!(found, [(80, false), (3000, false), (8080, true), (8081, true)]);
    }

    #[test]
    fn of_variables_only_names_are_kept() {
        let found = names(b"PATH=/bin\0TOKEN=canary=x\0\0broken\0EMPTY=\0");
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["EMPTY", "PATH", "TOKEN"]);
    }

    fn with(inside: Inside) -> Facts {
        let pod = json!({"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "a", "ports": [{"name": "http", "containerPort": 3000}]}]}});
        let service = json!({"metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}});
        let workload = json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "env": [{"name": "A"},
            {"name": "B", "valueFrom": {"secretKeyRef": {"optional": true}}}]}]}}}});
        Facts {
            inside: Ok(inside),
            pod: Ok(Some(pod)),
            services: Ok(vec![service]),
            workload: Ok(Some(workload)),
            ..Facts::nothing("no")
        }
    }

    #[track_caller]
    fn expect(found: &[Outcome], verdict: Verdict, words: &str) {
        assert!(
            found.len() == 1 && found[0].verdict == verdict && found[0].seen.contains(words),
            "{words}: {found:#?}"
        );
    }

    #[test]
    fn an_app_is_reachable_or_the_reason_is_said() {
        let at = |sockets: &[(u16, bool)]| {
            let sockets = sockets.iter().map(|(port, loopback)| Socket { port: *port, loopback: *loopback });
            with(Inside { sockets: Some(sockets.collect()), ..Inside::default() })
        };
        expect(&listens(&at(&[(3000, false), (9229, true)])), Pass, "port 3000");
        expect(&listens(&at(&[(3000, true)])), Fail, "loopback only");
        expect(&listens(&at(&[(5173, false)])), Warn, "open are 5173");
        expect(&listens(&at(&[])), Warn, "no port is open");
        expect(&listens(&with(Inside::default())), Unknown, "no cat");
        expect(
            &listens(&Facts {
                inside: Err("gone".to_owned()),
                pod: Err("x".to_owned()),
                ..Facts::nothing("no")
            }),
            Unknown,
            "gone",
        );
    }

    #[test]
    fn variables_and_programs_that_are_missing() {
        let variables = |names: &[&str]| {
            let variables = names.iter().map(|name| (*name).to_owned()).collect();
            with(Inside { variables: Some(variables), ..Inside::default() })
        };
        expect(&environment(&variables(&["A", "PATH"])), Pass, "2 variables");
        expect(&environment(&variables(&["PATH"])), Warn, "not in the container: A");
        let program =
            |answer| with(Inside { program: Some(("npm".to_owned(), answer)), ..Inside::default() });
        expect(&command(&program(Ok(true))), Pass, "npm is in the image");
        expect(&command(&program(Ok(false))), Fail, "npm is not in the image");
        expect(&command(&program(Err("no shell".to_owned()))), Unknown, "no shell");
    }
}
