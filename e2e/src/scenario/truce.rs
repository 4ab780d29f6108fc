//! A session beside controllers that write to the same workload: who would undo it is told, paused if that is wanted, and
//! woken up again.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{LimitRange, Namespace, ResourceQuota};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use towline_cluster::port::{
    APPLICATION_SETS, APPLICATIONS, DEPLOYMENTS, HELM_RELEASES, HORIZONTAL_POD_AUTOSCALERS, KUSTOMIZATIONS,
    POD_DISRUPTION_BUDGETS, ROLLOUTS, Resource, SCALED_OBJECTS, VERTICAL_POD_AUTOSCALERS,
};

use crate::adapter::Adapter;
use crate::app::{App, NAME};
use crate::controller::{
    Controller, argo_compares, argo_heals, flux_corrects, keda_scales, parent_heals, set_regenerates,
};
use crate::crds;
use crate::kube::KubeAdapter;
use crate::project::Project;
use crate::scenario::restricted;
use crate::snapshot::{Snapshot, lasting};
use crate::towline::{Finished, Running, Towline};
use crate::waiting::{self, is_settled};

/// How often a controller looks before we believe that it leaves something alone.
const LOOKS: usize = 20;

/// The workload, its project on a laptop, and one of its controllers.
struct Stage<'a> {
    adapter: &'a KubeAdapter,
    controller: Controller,
    towline: Towline,
    /// The controller's object, as the session must leave it.
    owner: (&'static Resource, Value),
    before: Snapshot,
    _project: Project,
}

impl<'a> Stage<'a> {
    /// Deploys the workload, lets the controller take it as `git` says, and creates the controller's own object.
    async fn set(
        adapter: &'a KubeAdapter,
        manager: &'static str,
        git: Option<&Value>,
        (resource, object): (&'static Resource, Value),
    ) -> Self {
        crds::install(adapter.client()).await;
        let app = App::deploy(adapter, 1).await;
        let controller = Controller::new(adapter, manager);
        if let Some(git) = git {
            controller.sync(git).await;
        }
        controller.create(resource, &object).await;
        waiting::object(adapter, DEPLOYMENTS, NAME, is_settled).await;
        let before = Snapshot::of(adapter).await;
        let owner = lasting(controller.read(resource, NAME).await);
        let (project, _) = app.project(adapter, "").await;
        let towline = Towline::new(adapter, &project);
        Self { adapter, controller, towline, owner: (resource, owner), before, _project: project }
    }

    async fn owner(&self) -> Value {
        self.controller.read(self.owner.0, NAME).await
    }

    /// `up` is refused with these words, and has changed nothing.
    async fn refused(&self, code: &str, words: &[&str]) {
        let refused = self.towline.run(&["up"]).await.expect(1);
        expect_words(&refused, words);
        assert!(codes(&refused).contains(&code.to_owned()), "{:?}", codes(&refused));
        self.before.expect_unchanged(self.adapter).await;
    }

    /// Begins with the controller paused, and waits until the original is down.
    async fn up_paused(&self) -> Running {
        let mut up = self.towline.start(&["up", "--gitops", "pause"]);
        up.until("it is paused", |event| event["action"] == "paused").await;
        up.until_state("ready").await;
        waiting::object(self.adapter, DEPLOYMENTS, NAME, |it| it["spec"]["replicas"] == 0).await;
        up
    }

    /// Somebody ends the session, from a machine that knows nothing of it; all is as it was.
    async fn ended_by_another(&self, up: Running) {
        let elsewhere = Project::new();
        let bob = Towline::new(self.adapter, &elsewhere).with("USER", "bob");
        let down = bob.run(&["down", NAME, "--force"]).await.expect(0);
        assert!(down.log.of_kind("object").any(|event| event["action"] == "unpaused"), "{}", down.log);
        assert!(down.log.of_kind("restored").any(|event| event["exact"] == true), "{}", down.log);
        up.ended().await;
        assert_eq!(lasting(self.owner().await), self.owner.1, "the controller's object is as it was");
        self.before.expect_unchanged(self.adapter).await;
    }
}

fn codes(finished: &Finished) -> Vec<String> {
    let codes = finished.log.of_kind("controller").filter_map(|event| event["code"].as_str());
    codes.map(str::to_owned).collect()
}

fn expect_words(finished: &Finished, words: &[&str]) {
    let error = finished.log.error().to_string();
    let missing: Vec<_> = words.iter().filter(|word| !error.contains(**word)).collect();
    assert!(missing.is_empty(), "{missing:?} not in {error}");
}

/// What Git says of the workload, with these marks.
fn git(labels: &Value, annotations: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
           "metadata": {"name": NAME, "labels": labels, "annotations": annotations}, "spec": {"replicas": 1}})
}

fn tracked(adapter: &KubeAdapter) -> Value {
    let namespace = adapter.namespace();
    let id = format!("{namespace}_{NAME}:apps/Deployment:{namespace}/{NAME}");
    git(&json!({}), &json!({"argocd.argoproj.io/tracking-id": id}))
}

fn application(sync_policy: &Value) -> (&'static Resource, Value) {
    (
        APPLICATIONS,
        json!({"metadata": {"name": NAME}, "spec": {"project": "default", "syncPolicy": sync_policy}}),
    )
}

/// An Application that heals itself is refused with what mends it, or paused and woken up again.
pub async fn with_self_healing(adapter: &KubeAdapter) {
    let git = tracked(adapter);
    let policy = json!({"automated": {"prune": true, "selfHeal": true}});
    let stage = Stage::set(adapter, "argocd-controller", Some(&git), application(&policy)).await;
    let argo = stage.controller.play({
        let git = git.clone();
        move |controller| argo_heals(controller, APPLICATIONS, git.clone())
    });
    stage
        .refused("argocd.selfHeal", &["heals itself", "RespectIgnoreDifferences=true", "--gitops pause"])
        .await;

    let up = stage.up_paused().await;
    let owner = stage.owner().await;
    assert_eq!(owner["spec"]["syncPolicy"]["automated"]["enabled"], false, "{owner}");
    assert!(owner["metadata"]["annotations"]["towline.dev/paused-by"].is_string(), "{owner}");
    argo.looks(LOOKS).await;
    assert_eq!(argo.writes(), 0, "it heals although it is paused");
    stage.ended_by_another(up).await;

    // It is awake again.
    stage.controller.scale(3).await;
    argo.wrote().await;
    waiting::object(adapter, DEPLOYMENTS, NAME, |it| it["spec"]["replicas"] == 1).await;
}

/// What an ApplicationSet would take back is not set; once it says that it leaves it, it is.
pub async fn with_an_application_set(adapter: &KubeAdapter) {
    crds::install(adapter.client()).await;
    let policy = json!({"automated": {"selfHeal": true}});
    let generator = Controller::new(adapter, "argocd-applicationset-controller");
    generator
        .create(APPLICATION_SETS, &json!({"metadata": {"name": NAME}, "spec": {"generators": []}}))
        .await;
    let set = generator.read(APPLICATION_SETS, NAME).await;
    let (resource, mut object) = application(&policy);
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": set["apiVersion"], "kind": set["kind"], "name": NAME, "uid": set["metadata"]["uid"], "controller": true}]);
    let git = tracked(adapter);
    let stage = Stage::set(adapter, "argocd-controller", Some(&git), (resource, object)).await;
    let argo = stage.controller.play(move |controller| argo_heals(controller, APPLICATIONS, git.clone()));
    let regenerating = generator.play({
        let policy = policy.clone();
        move |controller| set_regenerates(controller, APPLICATION_SETS, APPLICATIONS, policy.clone())
    });

    let refused = stage.towline.run(&["up", "--gitops", "pause"]).await.expect(1);
    expect_words(
        &refused,
        &["ApplicationSet hello would take the pause back", "ignoreApplicationDifferences"],
    );
    stage.before.expect_unchanged(adapter).await;

    let rules = json!({"spec": {"ignoreApplicationDifferences": [{"jsonPointers": ["/spec/syncPolicy"]}]}});
    generator.change(APPLICATION_SETS, NAME, &rules).await;
    let up = stage.up_paused().await;
    argo.looks(LOOKS).await;
    regenerating.looks(LOOKS).await;
    assert_eq!((argo.writes(), regenerating.writes()), (0, 0), "somebody took it back");
    stage.ended_by_another(up).await;
}

/// Where an Application above heals this one, the pause is what it can't see.
pub async fn with_an_app_of_apps(adapter: &KubeAdapter) {
    let policy = json!({"automated": {"selfHeal": true}});
    let namespace = adapter.namespace();
    let (resource, mut object) = application(&policy);
    let id = format!("{namespace}_parent:argoproj.io/Application:{namespace}/{NAME}");
    object["metadata"]["annotations"] = json!({"argocd.argoproj.io/tracking-id": id});
    let git = tracked(adapter);
    crds::install(adapter.client()).await;
    let above = Controller::new(adapter, "argocd-controller");
    above.create(resource, &json!({"metadata": {"name": "parent"}, "spec": {"syncPolicy": policy}})).await;
    let stage = Stage::set(adapter, "argocd-controller", Some(&git), (resource, object)).await;
    let argo = stage.controller.play(move |controller| argo_heals(controller, APPLICATIONS, git.clone()));
    let parent = above.play(move |controller| parent_heals(controller, APPLICATIONS, policy.clone()));

    let up = stage.up_paused().await;
    let paused = stage.owner().await;
    assert_eq!(paused["metadata"]["annotations"]["argocd.argoproj.io/skip-reconcile"], "true", "{paused}");
    argo.looks(LOOKS).await;
    parent.looks(LOOKS).await;
    assert_eq!((argo.writes(), parent.writes()), (0, 0), "somebody took it back");
    stage.ended_by_another(up).await;
}

/// `down` says whether the app is in sync again, as its controller finds it, and what to type if it is not.
pub async fn told_whether_in_sync(adapter: &KubeAdapter) {
    let git = tracked(adapter);
    let stage = Stage::set(adapter, "argocd-controller", Some(&git), application(&json!({}))).await;
    let argo = stage.controller.play(|controller| argo_compares(controller, APPLICATIONS));
    let standing = async || {
        stage.towline.run(&["up", "--detach"]).await.expect(0);
        waiting::object(adapter, APPLICATIONS, NAME, |it| it["status"]["sync"]["status"] == "OutOfSync")
            .await;
        stage.towline.clone()
    };
    let down = standing().await.run(&["down"]).await.expect(0);
    let told = down.log.of_kind("restored").next().expect("it says what became of it")["standings"].clone();
    let who = format!("Argo CD (Application {}/{NAME})", adapter.namespace());
    assert_eq!(told, json!([{"who": who, "inSync": true}]));

    let towline = standing().await;
    drop(argo);
    let down = towline.run(&["down"]).await.expect(0);
    let told = down.log.of_kind("restored").next().expect("it says what became of it")["standings"].clone();
    assert_eq!(
        (&told[0]["inSync"], &told[0]["hint"]),
        (&json!(false), &json!("argocd app sync hello")),
        "{told}"
    );
    stage.before.expect_unchanged(adapter).await;
}

/// A sync that scales back is undone at once and told with its writer, three times; then nobody fights.
pub async fn with_syncs(adapter: &KubeAdapter) {
    let git = tracked(adapter);
    let stage =
        Stage::set(adapter, "argocd-controller", Some(&git), application(&json!({"automated": {}}))).await;
    let mut up = stage.towline.start(&["up"]);
    up.until("the controller is told", |event| event["code"] == "argocd.automated").await;
    up.until_state("ready").await;
    for times in 1..=3 {
        waiting::object(adapter, DEPLOYMENTS, NAME, |it| it["spec"]["replicas"] == 0).await;
        stage.controller.sync(&git).await;
        let told = up.until("it is scaled down again", |event| event["kind"] == "reparked").await;
        assert_eq!((&told["times"], &told["by"]), (&json!(times), &json!("argocd-controller")), "{told}");
    }
    waiting::object(adapter, DEPLOYMENTS, NAME, |it| it["spec"]["replicas"] == 0).await;
    stage.controller.sync(&git).await;
    let told = up.until("it is left", |event| event["kind"] == "warning").await;
    let words = told["message"].to_string();
    assert!(words.contains("by argocd-controller") && words.contains("--gitops pause"), "{words}");
    let live = stage.controller.read(DEPLOYMENTS, NAME).await;
    assert_eq!(live["spec"]["replicas"], 1);

    stage.towline.run(&["down"]).await.expect(0);
    up.ended().await;
    stage.before.expect_unchanged(adapter).await;
}

/// Whoever prunes by a label does not find the dev container.
pub async fn with_pruning(adapter: &KubeAdapter) {
    let label = "app.kubernetes.io/instance";
    let git = git(&json!({label: NAME}), &json!({}));
    let (resource, mut object) = application(&json!({"automated": {"prune": true}}));
    object["status"] = json!({"resources": [
        {"group": "apps", "kind": "Deployment", "namespace": adapter.namespace(), "name": NAME}]});
    let stage = Stage::set(adapter, "argocd-controller", Some(&git), (resource, object)).await;
    let argo = stage
        .controller
        .play(move |controller| async move { controller.prune(&format!("{label}={NAME}")).await });
    let mut up = stage.towline.start(&["up"]);
    up.until("it is known by its label", |event| event["code"] == "argocd.automated").await;
    up.until_state("ready").await;
    argo.looks(LOOKS).await;
    assert_eq!(argo.writes(), 0, "something was pruned");
    assert_eq!(waiting::pods(adapter, &format!("{NAME}-towline-")).await.len(), 1);
    stage.towline.run(&["down"]).await.expect(0);
    up.ended().await;
    stage.before.expect_unchanged(adapter).await;
}

/// Flux leaves the one workload out, and nothing else.
pub async fn with_flux(adapter: &KubeAdapter) {
    let group = "kustomize.toolkit.fluxcd.io";
    let labels = json!({format!("{group}/name"): NAME, format!("{group}/namespace"): adapter.namespace()});
    let git = git(&labels, &json!({}));
    let object = json!({"metadata": {"name": NAME}, "spec": {"interval": "1m", "prune": true}});
    let stage = Stage::set(adapter, "kustomize-controller", Some(&git), (KUSTOMIZATIONS, object)).await;
    let flux = stage.controller.play({
        let git = git.clone();
        move |controller| flux_corrects(controller, git.clone())
    });
    stage.refused("flux.kustomization", &["every 60 s", "--gitops pause"]).await;
    let up = stage.up_paused().await;
    flux.looks(LOOKS).await;
    assert_eq!(flux.writes(), 0, "it corrects what it was told to leave");
    stage.ended_by_another(up).await;
}

/// A release that corrects drift is told to leave the one workload.
pub async fn with_a_helm_release(adapter: &KubeAdapter) {
    let group = "helm.toolkit.fluxcd.io";
    let labels = json!({format!("{group}/name"): NAME, format!("{group}/namespace"): adapter.namespace()});
    let git = git(&labels, &json!({"meta.helm.sh/release-name": NAME}));
    let spec = json!({"interval": "1m", "driftDetection": {"mode": "enabled"}});
    let object = json!({"metadata": {"name": NAME}, "spec": spec});
    let stage = Stage::set(adapter, "helm-controller", Some(&git), (HELM_RELEASES, object)).await;
    stage.refused("flux.drift", &["every 60 s", "--gitops pause"]).await;
    let up = stage.up_paused().await;
    let live = stage.controller.read(DEPLOYMENTS, NAME).await;
    assert_eq!(live["metadata"]["annotations"][format!("{group}/driftDetection")], "disabled", "{live}");
    stage.ended_by_another(up).await;
}

/// Who only counts or watches is told, and stands in nobody's way; a Rollout of the workload does.
pub async fn with_bystanders(adapter: &KubeAdapter) {
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME});
    let object = json!({"metadata": {"name": NAME}, "spec": {"targetRef": target}});
    let stage = Stage::set(adapter, "team", None, (VERTICAL_POD_AUTOSCALERS, object)).await;
    let budget = json!({"metadata": {"name": NAME}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": NAME}}}});
    stage.controller.create(POD_DISRUPTION_BUDGETS, &budget).await;
    let marks = json!({"metadata": {"labels": {"kapp.k14s.io/app": "1"}, "annotations": {
        "rollouts.kruise.io/in-progressing": "{}", "reloader.stakater.com/auto": "true"}}});
    stage.controller.change(DEPLOYMENTS, NAME, &marks).await;
    let told = async |code: i32| {
        let dry = stage.towline.run(&["up", "--dry-run"]).await.expect(code);
        let plan = dry.log.of_kind("plan").next().cloned().unwrap_or_default();
        let controllers = plan["controllers"].as_array().cloned().unwrap_or_default();
        let codes = controllers.iter().filter_map(|found| found["code"].as_str().map(str::to_owned));
        codes.collect::<BTreeSet<_>>()
    };
    let mut expected = BTreeSet::from(
        ["vpa.target", "pdb.selects", "kapp.app", "kruise.rollout", "reloader.restarts"].map(str::to_owned),
    );
    assert_eq!(told(0).await, expected);
    let rollout = json!({"metadata": {"name": "release"}, "spec": {"workloadRef": target}});
    stage.controller.create(ROLLOUTS, &rollout).await;
    expected.insert("rollout.workloadRef".to_owned());
    assert_eq!(told(1).await, expected);
}

/// KEDA would scale up from 0 by itself.
pub async fn with_keda(adapter: &KubeAdapter) {
    let spec =
        json!({"scaleTargetRef": {"name": NAME}, "minReplicaCount": 1, "maxReplicaCount": 3, "triggers": []});
    let object = json!({"metadata": {"name": NAME}, "spec": spec});
    let stage = Stage::set(adapter, "keda-operator", None, (SCALED_OBJECTS, object)).await;
    let keda = stage.controller.play(|controller| keda_scales(controller, SCALED_OBJECTS));
    stage.refused("keda.scaledObject", &["to 1 at its next look", "--gitops pause"]).await;
    let up = stage.up_paused().await;
    keda.looks(LOOKS).await;
    assert_eq!(keda.writes(), 0, "it scales although it is paused");
    stage.ended_by_another(up).await;
}

/// A real autoscaler leaves the original at 0 alone, and its range of then counts on the way back.
pub async fn with_an_autoscaler(adapter: &KubeAdapter) {
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME});
    let object = json!({"metadata": {"name": NAME}, "spec": {
        "scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 5,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]}});
    let stage = Stage::set(adapter, "team", None, (HORIZONTAL_POD_AUTOSCALERS, object)).await;
    let mut up = stage.towline.start(&["up"]);
    let told = up.until("the autoscaler is told", |event| event["code"] == "hpa.disabled").await;
    assert!(told["answer"].as_str().is_some_and(|answer| answer.contains("1 to 5")), "{told}");
    up.until_state("ready").await;
    waiting::object(adapter, DEPLOYMENTS, NAME, |it| it["spec"]["replicas"] == 0).await;
    stage.controller.change(HORIZONTAL_POD_AUTOSCALERS, NAME, &json!({"spec": {"minReplicas": 2}})).await;
    stage.towline.run(&["down"]).await.expect(0);
    up.ended().await;
    waiting::object(adapter, DEPLOYMENTS, NAME, |it| it["spec"]["replicas"] == 2).await;
}

/// What the cluster would refuse is known for what it is by its own words.
pub async fn known_denials(adapter: &KubeAdapter) {
    let app = App::deploy(adapter, 1).await;
    let (project, _) = app.project(adapter, "").await;
    let towline = Towline::new(adapter, &project);
    // Admission learns of a new limit a moment later.
    let known_as = async |code: &str| {
        waiting::eventually("the denial is known", async || {
            let dry = towline.run(&["up", "--dry-run"]).await;
            let plan = dry.log.of_kind("plan").next().cloned().unwrap_or_default();
            if plan["obstacles"][0]["code"] == code { Ok(()) } else { Err(plan["obstacles"].clone()) }
        })
        .await;
    };
    let ranges: kube::Api<LimitRange> = adapter.api();
    let range = json!({"metadata": {"name": "few"}, "spec": {"limits": [{"type": "Container", "max": {"memory": "8Mi"}}]}});
    ranges.create(&PostParams::default(), &serde_json::from_value(range).expect("a range")).await.unwrap();
    known_as("limitRange").await;
    ranges.delete("few", &DeleteParams::default()).await.unwrap();

    let quotas: kube::Api<ResourceQuota> = adapter.api();
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"pods": "0"}}});
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).expect("a quota")).await.unwrap();
    known_as("quota").await;
    quotas.delete("few", &DeleteParams::default()).await.unwrap();

    let namespaces: kube::Api<Namespace> = kube::Api::all(adapter.client());
    let (key, value) = restricted::LABEL;
    let mark = Patch::Merge(json!({"metadata": {"labels": {key: value}}}));
    namespaces.patch(adapter.namespace(), &PatchParams::default(), &mark).await.unwrap();
    known_as("podSecurity").await;
}

/// A dry run tells everything as data, what the cluster refuses included.
pub async fn told_by_a_dry_run(adapter: &KubeAdapter) {
    let git = tracked(adapter);
    let policy = json!({"automated": {"selfHeal": true}});
    let stage = Stage::set(adapter, "argocd-controller", Some(&git), application(&policy)).await;
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}});
    let quotas: kube::Api<ResourceQuota> = adapter.api();
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).expect("a quota")).await.unwrap();
    waiting::eventually("the quota is counted", async || {
        let status = quotas.get("few").await.unwrap().status.and_then(|status| status.used);
        status.filter(|used| used.contains_key("pods")).ok_or("not yet")
    })
    .await;

    let dry = stage.towline.run(&["up", "--dry-run", "--gitops", "pause"]).await.expect(1);
    expect_words(&dry, &["exceeded quota", "kubectl describe resourcequota"]);
    let plan = dry.log.of_kind("plan").next().expect("it tells its plan").clone();
    assert_eq!(plan["obstacles"][0]["code"], "quota", "{plan}");
    let objects = plan["objects"].as_array().cloned().unwrap_or_default();
    let steps: Vec<_> = objects
        .iter()
        .map(|it| format!("{} {}", it["action"], it["object"]["kind"]).replace('"', ""))
        .collect();
    let expected =
        ["create Lease", "pause Application", "create ConfigMap", "create Deployment", "change Deployment"];
    assert_eq!(steps, expected);
    let pause = &objects[1]["changes"][0];
    assert_eq!(
        (&pause["path"], &pause["before"], &pause["after"]),
        (&json!("spec.syncPolicy.automated.enabled"), &Value::Null, &json!(false))
    );
    let owners = plan["owners"].as_array().cloned().unwrap_or_default();
    assert!(
        owners
            .iter()
            .any(|owner| owner["manager"] == "argocd-controller" && owner["path"] == "spec.replicas"),
        "{owners:?}"
    );
    assert_eq!(plan["traffic"]["services"], json!([NAME]), "{plan}");
    assert_eq!(plan["traffic"]["handOver"], "overlap");
    assert!(
        plan["rights"].as_array().is_some_and(|rights| rights.iter().all(|right| right["has"] == true)),
        "{plan}"
    );
    stage.before.expect_unchanged(adapter).await;
    assert_eq!(lasting(stage.owner().await), stage.owner.1);
}
