//! Values that must not show: planted where people keep secrets, looked for in everything that is written.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use towline_cluster::port::{DEPLOYMENTS, EVENTS, LEASES, Object, Patch, Selection, WriteOptions};

use crate::adapter::Adapter;
use crate::app::{App, NAME};
use crate::towline::{Finished, Towline};

/// What every planted value begins with.
const CANARY: &str = "canary-5e3a9";
const MORE: &str = "    environment:\n      PLANTED: canary-5e3a9-manifest\n    envFiles: [planted.env]\n    secrets: ['planted.txt:/etc/towline/planted:440']\n    \
                    metadata:\n      annotations:\n        example.com/planted: canary-5e3a9-annotation-of-the-manifest\n";

/// Plants values in variables, arguments, annotations and files, and goes through a session at the highest log level.
pub async fn nowhere(adapter: &dyn Adapter) {
    let app = App::deploy(adapter, 1).await;
    plant(adapter).await;
    let (project, _) = app.project(adapter, MORE).await;
    project
        .write("planted.env", "ALSO_PLANTED=canary-5e3a9-env-file\n")
        .write("planted.txt", "canary-5e3a9-file\n")
        .write(".stignore", "/okteto.yml\n/planted.*\n/bundle.json\n");
    let towline = Towline::new(adapter, &project).with("RUST_LOG", "trace");
    let mut told: Vec<(String, String)> = Vec::new();
    let mut hear = |what: &str, finished: Finished| {
        told.push((format!("{what}: standard output"), finished.stdout));
        told.push((format!("{what}: standard error"), finished.stderr));
    };

    let mut up = towline.start(&["up"]);
    up.until_state("ready").await;
    hear("status", towline.run(&["status"]).await.expect(0));
    // A process of the embedded cluster sees this machine's files, not the pod's.
    let file = if adapter.is_real() { "test -s /etc/towline/planted" } else { "true" };
    let script = format!("test -n \"$PLANTED\" && test -n \"$ALSO_PLANTED\" && {file}");
    let seen = towline.run(&["exec", "--", "sh", "-c", &script]).await;
    hear("exec", seen.expect(0));
    hear("doctor", towline.run(&["doctor", "--bundle", "bundle.json"]).await);
    hear("a second up", towline.clone().with("USER", "bob").run(&["up"]).await.expect(1));
    let lease = Object::new(LEASES, adapter.namespace(), format!("towline.deployment.{NAME}"));
    let record = adapter.cluster().get(&lease).await.expect("the session is on").to_string();
    let in_state = files(&project.home());
    hear("gc", towline.run(&["gc", "--older-than", "0"]).await.expect(0));
    hear("down", towline.run(&["down"]).await.expect(0));
    hear("up", up.ended().await);
    hear("a command that is not there", towline.run(&["up", "--", "no-such-program"]).await.expect(127));
    hear("an image that is not there", {
        let good = project.read("okteto.yml").expect("it was just written");
        project.write("okteto.yml", format!("{good}    image: localhost/no-such-image:dev\n"));
        towline.run(&["up"]).await.expect(1)
    });

    told.push(("the record".to_owned(), record));
    told.push(("the bundle".to_owned(), project.read("bundle.json").expect("it was written")));
    told.extend(in_state);
    told.extend(files(&project.home()));
    let events = adapter.cluster().list(EVENTS, Some(adapter.namespace()), &Selection::default()).await;
    told.push(("events".to_owned(), Value::from(events.expect("the cluster answers")).to_string()));
    let bytes: usize = told.iter().map(|(_, text)| text.len()).sum();
    assert!(told.len() > 20 && bytes > 10_000, "{} texts with {bytes} bytes were looked through", told.len());
    for (what, text) in &told {
        if let Some(at) = text.find(CANARY) {
            let start = text[..at].char_indices().rev().nth(200).map_or(0, |(index, _)| index);
            panic!("{what} shows a planted value: …{}", text[start..].chars().take(400).collect::<String>());
        }
    }
}

/// Gives the workload a variable, an argument and an annotation with a planted value.
async fn plant(adapter: &dyn Adapter) {
    let object = Object::new(DEPLOYMENTS, adapter.namespace(), NAME);
    let found = adapter.cluster().get(&object).await.expect("it is there");
    let container = "/spec/template/spec/containers/0";
    let patch = json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": found["metadata"]["resourceVersion"]},
        {"op": "add", "path": format!("{container}/env/-"), "value": {"name": "DIRECT", "value": "canary-5e3a9-variable"}},
        {"op": "add", "path": format!("{container}/args"), "value": ["canary-5e3a9-argument"]},
        {"op": "add", "path": "/spec/template/metadata/annotations/example.com~1planted", "value": "canary-5e3a9-annotation"},
    ]);
    adapter
        .cluster()
        .patch(&object, &Patch::Json(patch), &WriteOptions::default())
        .await
        .expect("it is valid");
    crate::waiting::object(adapter, DEPLOYMENTS, NAME, crate::waiting::is_settled).await;
}

/// Reads every file below a folder, as far as it is text, but for what the embedded cluster keeps for itself.
pub(crate) fn files(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && entry.file_name() != "embedded" {
            found.extend(files(&path));
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            found.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    found
}
