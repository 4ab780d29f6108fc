//! Volumes and files of the manifest's own, and what of them outlives a session.

use serde_json::{Value, json};
use towline_cluster::port::{DEPLOYMENTS, LEASES, Object, PERSISTENT_VOLUME_CLAIMS, SECRETS, Selection};

use crate::adapter::Adapter;
use crate::app::{App, NAME};
use crate::kinds;
use crate::snapshot::Snapshot;
use crate::towline::Towline;

const MORE: &str = "    persistentVolume:\n      size: 64Mi\n    volumes:\n      - /cache\n    secrets:\n      - token.txt:/etc/towline/token:440\n    \
                    lifecycle:\n      postStart:\n        command: [sh, -c, \"echo begun >/tmp/begun\"]\n    timeout:\n      default: 45s\n";
const TOKEN: &str = "canary-of-a-file-7c1f";

async fn names(adapter: &dyn Adapter, kind: &'static towline_cluster::port::Resource) -> Vec<String> {
    let all = adapter.cluster().list(kind, Some(adapter.namespace()), &Selection::default()).await;
    all.expect("the cluster answers").iter().map(kinds::name).collect()
}

/// Files in the claim outlive a session, files of the Secret do not; `down --volumes` removes the rest.
pub async fn kept(adapter: &dyn Adapter) {
    let app = App::deploy(adapter, 1).await;
    let before = Snapshot::of(adapter).await;
    let secrets_before = names(adapter, SECRETS).await;
    let (project, _) = app.project(adapter, MORE).await;
    project.write("token.txt", TOKEN).write(".stignore", "/okteto.yml\n/token.txt\n/modules\n");
    let towline = Towline::new(adapter, &project);
    let mut up = towline.start(&["up"]);
    up.until_state("ready").await;

    let script = "cat /etc/towline/token; stat -L -c ' %a' /etc/towline/token; cat /tmp/begun; mkdir -p modules; \
                  echo fetched >modules/big; echo warm >/cache/it; cat index.html";
    let seen = towline.run(&["exec", "--", "sh", "-c", script]).await.expect(0).stdout;
    assert_eq!(seen, format!("{TOKEN} 440\nbegun\nfrom the laptop\n"));
    let record = Object::new(LEASES, adapter.namespace(), format!("towline.deployment.{NAME}"));
    let lease = adapter.cluster().get(&record).await.expect("the session is on").to_string();
    assert!(lease.contains("hello-towline") && !lease.contains(TOKEN), "{lease}");
    towline.run(&["down"]).await.expect(0);
    let said = up.ended().await;
    assert!(!said.stdout.contains(TOKEN) && !said.stderr.contains(TOKEN), "{}", said.stdout);
    assert_eq!(names(adapter, PERSISTENT_VOLUME_CLAIMS).await, ["hello-towline"]);
    assert_eq!(names(adapter, SECRETS).await, secrets_before);

    // Another file, the same session's way in again: the pod is another, the claim the same.
    project.write("token.txt", "second");
    let mut again = towline.start(&["up"]);
    again.until_state("ready").await;
    let script = "cat /etc/towline/token modules/big /cache/it";
    let seen = towline.run(&["exec", "--", "sh", "-c", script]).await.expect(0).stdout;
    assert_eq!(seen, "secondfetched\nwarm\n");
    again.kill().await;
    project.write("token.txt", "third");
    let mut resumed = towline.start(&["up"]);
    resumed.until_state("ready").await;
    let seen = towline.run(&["exec", "--", "cat", "/etc/towline/token"]).await.expect(0).stdout;
    assert_eq!(seen, "third");
    towline.run(&["down", "--volumes"]).await.expect(0);
    resumed.ended().await;
    before.expect_unchanged(adapter).await;
}

/// A session that never was ready takes the claim along that it made, and leaves one that was there.
pub async fn undone(adapter: &dyn Adapter) {
    let app = App::deploy(adapter, 1).await;
    let before = Snapshot::of(adapter).await;
    let (project, _) = app.project(adapter, "    volumes: [/cache]\n").await;
    let towline = Towline::new(adapter, &project);
    towline.run(&["up", "--", "no-such-program"]).await.expect(127);
    before.expect_unchanged(adapter).await;

    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "hello-towline"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}});
    adapter.apply(&[claim]).await;
    let refused = towline.run(&["up"]).await.expect(1);
    assert!(refused.stdout.contains("it is not towline's"), "{}", refused.stdout);
    let original = Object::new(DEPLOYMENTS, adapter.namespace(), NAME);
    let original: Value = adapter.cluster().get(&original).await.expect("it is there");
    assert_eq!(original["spec"]["replicas"], 1);
    assert_eq!(names(adapter, PERSISTENT_VOLUME_CLAIMS).await, ["hello-towline"]);
}
