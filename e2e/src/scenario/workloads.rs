//! Every kind and way, and what others do meanwhile: after `down` the workload is as its twin that was never in dev
//! mode.

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::PostParams;
use serde_json::{Value, json};
use towline_cluster::port::{DEPLOYMENTS, Object, ROLLOUTS};

use crate::adapter::Adapter;
use crate::app::{App, NAME};
use crate::controller::{Controller, rollouts_serve};
use crate::crds;
use crate::kube::KubeAdapter;
use crate::project::Project;
use crate::snapshot::Snapshot;
use crate::towline::Towline;
use crate::waiting::{self, eventually, is_settled};
use crate::workload::{self, Case, SHOPS};

/// Worlds of one case at a time.
const AT_ONCE: usize = 3;
/// Another name of the same image: it is there without a registry.
const NEXT_IMAGE: &str = "docker.io/library/debian:dev";
/// Where `kubectl apply` keeps what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What somebody else does while dev mode is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    Nothing,
    /// A new image, by the server-side apply of the workload's owner.
    Image,
    /// A new image by `kubectl apply`, which merges on the client and keeps what it applied in an annotation.
    Kubectl,
    /// A new image by `helm upgrade`, which brings back whatever is not as in the chart.
    Helm,
    /// A label of the workload, by a server-side apply.
    Label,
    /// Another number of replicas.
    Scale,
    /// The workload is deleted and made anew: it is another one then.
    Recreate,
}

impl Meanwhile {
    const ALL: [Self; 7] =
        [Self::Nothing, Self::Image, Self::Kubectl, Self::Helm, Self::Label, Self::Scale, Self::Recreate];

    fn is_for(self, case: Case) -> bool {
        match self {
            Self::Nothing | Self::Label | Self::Recreate => true,
            Self::Image | Self::Kubectl | Self::Helm => case.is_mutable(),
            Self::Scale => case.scales(),
        }
    }

    /// Writes the workload for the first time, as whoever changes it later does.
    async fn create(self, adapter: &KubeAdapter, case: Case, name: &str) {
        let image = adapter.images().image;
        match self {
            Self::Kubectl | Self::Helm => {
                for object in case.objects(name, &image) {
                    workload::create(adapter, self.manager(), &self.marked(object)).await;
                }
            }
            _ => case.apply(adapter, name, &image).await,
        }
    }

    async fn happen(self, adapter: &KubeAdapter, case: Case, name: &str) {
        let resource = case.resource;
        let head = || json!({"apiVersion": resource.api_version(), "kind": resource.kind, "metadata": {"name": name}});
        match self {
            Self::Nothing => {}
            Self::Image => case.apply(adapter, name, NEXT_IMAGE).await,
            // Both send what is not as it is to be: merged, all of it comes to the same.
            Self::Kubectl | Self::Helm => {
                for object in case.objects(name, NEXT_IMAGE) {
                    workload::merge(adapter, self.manager(), &self.marked(object)).await;
                }
            }
            Self::Label => {
                let mut labelled = head();
                labelled["metadata"]["labels"] = json!({"team": "shop"});
                workload::apply(adapter, "team", &labelled).await;
            }
            Self::Scale => {
                let mut scaled = head();
                scaled["spec"] = json!({"replicas": 3});
                workload::merge(adapter, "scaler", &scaled).await;
            }
            Self::Recreate => {
                case.delete(adapter, name).await;
                for object in case.objects(name, &adapter.images().image) {
                    workload::create(adapter, "e2e", &object).await;
                }
            }
        }
    }

    fn manager(self) -> &'static str {
        if self == Self::Kubectl { "kubectl-client-side-apply" } else { "helm" }
    }

    fn marked(self, mut object: Value) -> Value {
        if self == Self::Kubectl {
            let applied = object.to_string();
            object["metadata"]["annotations"] = json!({LAST_APPLIED: applied});
        }
        object
    }
}

/// Plays a case with everything that may happen meanwhile.
pub async fn play(adapter: &KubeAdapter, case: Case) {
    let _rollouts = prepare(adapter, case).await;
    let all = Meanwhile::ALL.into_iter().filter(|meanwhile| meanwhile.is_for(case));
    stream::iter(all).for_each_concurrent(AT_ONCE, |meanwhile| once(adapter, case, meanwhile)).await;
    workload::expect_nothing_of_ours(adapter).await;
}

/// Sees to it that the kind is there, and somebody who plays its controller where pods are waited for.
async fn prepare(adapter: &KubeAdapter, case: Case) -> Option<crate::controller::Playing> {
    if case.resource == SHOPS || case.resource == ROLLOUTS {
        crds::install(adapter.client()).await;
    }
    let controller = Controller::new(adapter, "rollouts-controller");
    (case.resource == ROLLOUTS).then(|| controller.play(rollouts_serve))
}

async fn once(adapter: &KubeAdapter, case: Case, meanwhile: Meanwhile) {
    let what = format!("{case:?} {meanwhile:?}");
    // The names have one length and occur in nothing else.
    let names = ["alpha", "bravo"].map(|twin| format!("{twin}-{}", format!("{meanwhile:?}").to_lowercase()));
    let names = [names[0].as_str(), names[1].as_str()];
    for name in names {
        meanwhile.create(adapter, case, name).await;
    }
    for name in names {
        case.until_observed(adapter, name).await;
    }
    let claims = workload::claims(adapter, names[0]).await;
    let project = case.project(names[0]);
    let towline = Towline::new(adapter, &project);
    let up: Vec<&str> = ["up", "--detach"].into_iter().chain(case.arguments()).collect();
    towline.run(&up).await.expect(0);

    for name in names {
        meanwhile.happen(adapter, case, name).await;
    }
    towline.run(&["down"]).await.expect(0);
    workload::expect_equal(adapter, case, &what, names).await;
    // More replicas have claims of their own.
    let claims_now = workload::claims(adapter, names[0]).await;
    assert!(claims.iter().all(|claim| claims_now.contains(claim)), "{what}: {claims_now:?}, not {claims:?}");
    for name in names {
        case.delete(adapter, name).await;
    }
}

/// A change of a workload that is changed in place comes into force with `down`, or ends dev mode.
pub async fn on_change(adapter: &KubeAdapter, case: Case) {
    for choice in ["keep", "leave"] {
        let names = [format!("alpha-{choice}"), format!("bravo-{choice}")];
        let names = [names[0].as_str(), names[1].as_str()];
        for name in names {
            case.apply(adapter, name, &adapter.images().image).await;
        }
        for name in names {
            case.until_observed(adapter, name).await;
        }
        let project = case.project(names[0]);
        let towline = Towline::new(adapter, &project);
        let words = ["up", "--on-change", choice].into_iter().chain(case.arguments());
        let mut up = towline.start(&words.collect::<Vec<_>>());
        up.until_state("ready").await;
        // Only the image, by somebody who does not know of the rest.
        for name in names {
            let object = case.objects(name, NEXT_IMAGE).remove(0);
            let container = json!({"name": "work", "image": NEXT_IMAGE});
            let spec = json!({"template": {"spec": {"containers": [container]}}});
            let patch = json!({"apiVersion": object["apiVersion"], "kind": object["kind"],
                               "metadata": {"name": name}, "spec": spec});
            workload::merge(adapter, "ci", &patch).await;
        }
        let then = up.until("the change is told", |event| event["kind"] == "originalChanged").await;
        assert_eq!(then["by"], "ci", "{then}");
        if choice == "leave" {
            assert_eq!(then["then"], "left", "{then}");
            up.ended().await.expect(1);
        } else {
            assert_eq!(then["then"], "kept", "{then}");
            let object = Object::new(case.resource, adapter.namespace(), names[0]);
            eventually("the dev container is as it was", async || {
                let live = adapter.cluster().get(&object).await.map_err(|error| error.to_string())?;
                let image = live.pointer(&format!("{}/spec/containers/0/image", case.template()));
                let is_ours = image.is_some_and(|image| *image != NEXT_IMAGE);
                if is_ours { Ok(()) } else { Err(format!("its image is {image:?}")) }
            })
            .await;
            towline.run(&["down"]).await.expect(0);
            up.ended().await;
        }
        workload::expect_equal(adapter, case, choice, names).await;
    }
    workload::expect_nothing_of_ours(adapter).await;
}

/// A namespace whose quota is used up: `up` changes nothing, and `down` gives back what there is no room for beside the
/// dev container.
pub async fn with_a_quota(adapter: &KubeAdapter) {
    let app = App::deploy(adapter, 1).await;
    let before = Snapshot::of(adapter).await;
    let (project, _) = app.project(adapter, "").await;
    let towline = Towline::new(adapter, &project);
    limit(adapter, "one", 1).await;
    let refused = towline.run(&["up"]).await.expect(1);
    let told = refused.log.error().to_string();
    assert!(told.contains("exceeded quota"), "{told}");
    before.expect_unchanged(adapter).await;

    let quotas: kube::Api<ResourceQuota> = adapter.api();
    quotas.delete("one", &kube::api::DeleteParams::default()).await.unwrap();
    eventually("there is room again", async || {
        let dry = towline.run(&["up", "--dry-run"]).await;
        if dry.code == Some(0) { Ok(()) } else { Err(dry.stdout) }
    })
    .await;
    towline.run(&["up", "--detach"]).await.expect(0);
    waiting::object(adapter, DEPLOYMENTS, NAME, |original| original["spec"]["replicas"] == 0).await;
    limit(adapter, "full", 1).await;
    let elsewhere = Project::new();
    let bob = Towline::new(adapter, &elsewhere).with("USER", "bob");
    bob.run(&["down", NAME, "--force"]).await.expect(0);
    waiting::object(adapter, DEPLOYMENTS, NAME, is_settled).await;
    before.expect_unchanged(adapter).await;
}

/// Lets the namespace have so many pods, and waits until they are counted.
async fn limit(adapter: &KubeAdapter, name: &str, pods: u32) {
    let quotas: kube::Api<ResourceQuota> = adapter.api();
    let quota = json!({"metadata": {"name": name}, "spec": {"hard": {"pods": pods.to_string()}}});
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).expect("a quota")).await.unwrap();
    eventually("the quota is counted", async || {
        let used = quotas.get(name).await.unwrap().status.and_then(|status| status.used).unwrap_or_default();
        let used: Option<u32> = used.get("pods").and_then(|used| used.0.parse().ok());
        if used.is_some_and(|used| used >= pods) { Ok(()) } else { Err(used) }
    })
    .await;
}
