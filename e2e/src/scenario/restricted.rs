//! The strictest pod there is: Pod Security `restricted`, an image without a shell, nothing writable.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use towline_cluster::port::DEPLOYMENTS;

use crate::adapter::Adapter;
use crate::app::{self, NAME, OTHER};
use crate::kube::KubeAdapter;
use crate::project::Project;
use crate::scenario::session::bytes_in_pod;
use crate::snapshot::Snapshot;
use crate::towline::Towline;
use crate::variables;
use crate::waiting::{self, is_settled};

/// The label of a namespace for this.
pub const LABEL: (&str, &str) = ("pod-security.kubernetes.io/enforce", "restricted");

/// `up` works there, and opens no socket that anybody could connect to. `tools` is another namespace, without rules,
/// that a static program with a shell is taken from.
pub async fn no_shell(adapter: &KubeAdapter, tools: &KubeAdapter) {
    tools.apply(&app::other(&tools.images())).await;
    waiting::object(tools, DEPLOYMENTS, OTHER, is_settled).await;
    let busybox = bytes_in_pod(tools, OTHER, &["cat", "/bin/busybox"]).await;
    assert!(busybox.starts_with(b"\x7fELF"), "{} bytes are no program", busybox.len());

    adapter.apply(&[deployment()]).await;
    waiting::object(adapter, DEPLOYMENTS, NAME, is_settled).await;
    let before = Snapshot::of(adapter).await;

    let project = Project::new();
    project.write("busybox", busybox).make_executable("busybox");
    project.write("page.txt", "from the laptop\n");
    project.write(
        "okteto.yml",
        "dev:\n  hello:\n    command: [./busybox, sh, -c, \"echo listening on nothing; exec ./busybox sleep 100000\"]\n    \
         workdir: /app\n    sync:\n      - .:/app\n",
    );
    let towline = Towline::new(adapter, &project);
    let mut up = towline.start(&["up"]);
    up.until_state("ready").await;
    let page = towline
        .run(&["exec", "--", "./busybox", "sh", "-c", "./busybox cat page.txt; ./busybox id -u"])
        .await;
    assert_eq!(page.expect(0).stdout, "from the laptop\n1234\n");
    let written = towline.run(&["exec", "--", "./busybox", "sh", "-c", "echo here >from-the-pod.txt"]).await;
    written.expect(0);
    up.until_synced("local", "from-the-pod.txt", false).await;

    let script = "for f in tcp tcp6 udp udp6 unix; do echo \"== $f\"; ./busybox cat /proc/net/$f; done";
    let sockets = towline.run(&["exec", "--", "./busybox", "sh", "-c", script]).await.expect(0).stdout;
    assert!(sockets.matches("local_address").count() >= 4, "the tables could be read: {sockets}");
    assert_eq!(listeners(&sockets), BTreeSet::new(), "{sockets}");

    towline.run(&["down"]).await.expect(0);
    up.ended().await;
    before.expect_unchanged(adapter).await;
}

fn deployment() -> Value {
    let container = json!({
        "name": "web", "image": variables::scratch_image(), "imagePullPolicy": "IfNotPresent",
        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]}},
    });
    let security = json!({"runAsNonRoot": true, "runAsUser": 1234, "runAsGroup": 1234,
                          "seccompProfile": {"type": "RuntimeDefault"}});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME},
           "spec": {"replicas": 1, "selector": {"matchLabels": {"app": NAME}},
                    "template": {"metadata": {"labels": {"app": NAME}},
                                 "spec": {"securityContext": security, "containers": [container]}}}})
}

/// Returns what could be connected to: listening TCP, any UDP, and unix sockets with an abstract name.
fn listeners(text: &str) -> BTreeSet<String> {
    let mut table = "";
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            table = name;
            continue;
        }
        let fields: Vec<_> = line.split_whitespace().collect();
        let numbered = fields.first().is_some_and(|first| first.ends_with(':') && !first.starts_with("Num"));
        let open = match table {
            // proc_net(5): state 0A is LISTEN.
            "tcp" | "tcp6" => numbered && fields.get(3) == Some(&"0A"),
            "udp" | "udp6" => numbered,
            _ => fields.get(7).is_some_and(|path| path.starts_with('@')),
        };
        if open {
            found.insert(format!("{table}: {line}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_connected_to_counts() {
        let text = "== tcp\n  sl  local_address rem_address   st\n   0: 0100007F:1F90 00000000:0000 0A 0\n   \
                    1: 0100007F:1F90 0100007F:1F91 01 0\n== udp\n  sl  local_address\n   7: 00000000:0035 x 07\n\
                    == unix\nNum       RefCount Protocol Flags    Type St Inode Path\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 42 /run/x.sock\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 43 @hidden\n";
        let found: Vec<_> = listeners(text).into_iter().collect();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found[0].contains("1F90") && found[1].contains("0035") && found[2].contains("@hidden"),
            "{found:?}"
        );
    }
}
