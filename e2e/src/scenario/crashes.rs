//! `up` and `down` are killed before and after every write to the API server; then someone else, elsewhere and without
//! the manifest, leads back to what was there before.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures::{StreamExt, stream};
use serde_json::Value;
use towline_cluster::port::{LEASES, Selection};

use crate::adapter::Adapter;
use crate::controller::{Controller, rollouts_serve};
use crate::crds;
use crate::gate::{Gate, Moment};
use crate::kinds;
use crate::kube::{KubeAdapter, each_cluster};
use crate::project::Project;
use crate::snapshot::differences;
use crate::towline::Towline;
use crate::variables;
use crate::waiting::eventually;
use crate::workload::{self, Case};

/// Worlds at a time.
const AT_ONCE: usize = 6;
/// What is crashed: kinds and ways.
const CASES: [(&str, Case); 11] = [
    ("deployment", workload::SWAPPED),
    ("in-place", workload::IN_PLACE),
    ("stateful", workload::STATEFUL),
    ("stateful-swap", workload::STATEFUL_SWAPPED),
    ("daemon", workload::DAEMON),
    ("replicas", workload::REPLICAS),
    ("cron", workload::CRON),
    ("job", workload::JOB),
    ("pod", workload::POD),
    ("rollout", workload::ROLLOUT),
    ("custom", workload::CUSTOM),
];

/// What is killed, at which of its writes and when.
#[derive(Debug, Clone, Copy)]
enum Death {
    Up(usize, Moment),
    Down(usize, Moment),
}

/// One workload, and a project of it.
struct World<'a> {
    adapter: &'a KubeAdapter,
    case: Case,
    name: String,
    project: Project,
    before: Value,
}

/// Sweeps all kinds and ways: at every write where [`variables::CRASHES`] says so, else at one of a few.
pub async fn sweep() {
    let one_of = variables::one_of();
    let began = Instant::now();
    let mut stages = Vec::new();
    for (name, case) in CASES {
        let adapter = KubeAdapter::new(&format!("crash-{name}"), &[]).await;
        crds::install(adapter.client()).await;
        stages.push((Arc::new(adapter), case));
    }
    let died = AtomicUsize::new(0);
    let swept = {
        let sweeping = async {
            let _playing: Vec<_> = stages
                .iter()
                .map(|(adapter, _)| Controller::new(adapter, "rollouts-controller").play(rollouts_serve))
                .collect();
            let counted: Vec<_> = stream::iter(&stages)
                .map(async |(adapter, case)| (adapter, *case, count(adapter, *case).await))
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            let mut worlds = Vec::new();
            for (adapter, case, (ups, downs)) in counted {
                eprintln!("{}: {ups} writes of up, {downs} of down", case.resource.kind);
                for moment in [Moment::Before, Moment::After] {
                    worlds.extend((1..=ups).map(|nth| (adapter, case, Death::Up(nth, moment))));
                    worlds.extend((1..=downs).map(|nth| (adapter, case, Death::Down(nth, moment))));
                }
            }
            let worlds = stream::iter(worlds.into_iter().enumerate().step_by(one_of));
            worlds
                .for_each_concurrent(AT_ONCE, async |(number, (adapter, case, death))| {
                    let name = format!("w{number:03}");
                    died.fetch_add(usize::from(crash(adapter, case, name, death).await), Ordering::SeqCst);
                })
                .await;
            for (adapter, _) in &stages {
                workload::expect_nothing_of_ours(adapter).await;
            }
        };
        std::panic::AssertUnwindSafe(sweeping)
    };
    let outcome = futures::FutureExt::catch_unwind(swept).await;
    for (adapter, _) in &stages {
        adapter.close().await;
    }
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    let died = died.load(Ordering::SeqCst);
    eprintln!("crash sweep: {died} deaths in {:.0} s, no difference", began.elapsed().as_secs_f64());
    assert!(died * one_of >= 200, "{died} deaths");
}

/// Returns how many writes `up` and `down` make.
async fn count(adapter: &KubeAdapter, case: Case) -> (usize, usize) {
    let world = World::new(adapter, case, "counted".to_owned()).await;
    let gate = Gate::open(adapter, None).await;
    world.up(&gate).await;
    let ups = gate.writes().len();
    let gate = Gate::open(adapter, None).await;
    world.through(&gate, "bob").run(&["down", &world.name, "--force"]).await.expect(0);
    let downs = gate.writes().len();
    world.end("nothing").await;
    (ups, downs)
}

/// Lets one die and leads back; tells whether it died.
async fn crash(adapter: &KubeAdapter, case: Case, name: String, death: Death) -> bool {
    let what = format!("{case:?} {death:?} {name}");
    let world = World::new(adapter, case, name).await;
    let died = match death {
        Death::Up(nth, moment) => world.up(&Gate::open(adapter, Some((nth, moment))).await).await,
        Death::Down(nth, moment) => {
            world.up(&Gate::open(adapter, None).await).await;
            let gate = Gate::open(adapter, Some((nth, moment))).await;
            let mut down = world.through(&gate, "bob").start(&["down", &world.name, "--force"]);
            let died = tokio::select! {
                () = gate.closed() => true,
                _ = down.next_where("the end", |_| false) => false,
            };
            down.kill().await;
            died
        }
    };
    world.end(&what).await;
    died
}

impl<'a> World<'a> {
    async fn new(adapter: &'a KubeAdapter, case: Case, name: String) -> Self {
        case.apply(adapter, &name, &adapter.images().image).await;
        case.until_observed(adapter, &name).await;
        let before = case.settled(adapter, &name, &name).await.expect("it was just made");
        Self { adapter, case, project: case.project(&name), name, before }
    }

    /// The program as of somebody whose way to the server is the gate.
    fn through(&self, gate: &Gate, user: &str) -> Towline {
        let file = self.adapter.kubeconfig(&format!("{}-{user}", self.name), |config| {
            each_cluster(config, |cluster| cluster.server = Some(gate.url()));
        });
        let towline =
            Towline::new(self.adapter, &self.project).with("KUBECONFIG", &file.display().to_string());
        towline.with("USER", user)
    }

    /// Runs `up` until the gate closes, or all is written; then it is killed. Tells whether the gate has closed.
    async fn up(&self, gate: &Gate) -> bool {
        let words = ["up"].into_iter().chain(self.case.arguments());
        let mut up = self.through(gate, "ann").start(&words.collect::<Vec<_>>());
        let written = async {
            up.until_state("ready").await;
            let parked = |event: &Value| event["action"] == "scaled" || event["action"] == "suspended";
            // Where both can't run at once it is turned off first.
            if self.case.parks() && !up.log().events.iter().any(parked) {
                up.until("the original is turned off", parked).await;
            }
        };
        let died = tokio::select! {
            () = gate.closed() => true,
            () = written => false,
        };
        up.kill().await;
        died
    }

    /// Somebody who knows nothing of it ends the session, if there is one.
    async fn end(self, what: &str) {
        let elsewhere = Project::new();
        let towline = Towline::new(self.adapter, &elsewhere).with("USER", "eve");
        let all = Selection::default();
        let leases = self.adapter.cluster().list(LEASES, Some(self.adapter.namespace()), &all).await.unwrap();
        let lease = format!(".{}", self.name);
        if leases.iter().any(|found| kinds::name(found).ends_with(&lease)) {
            let down = towline.run(&["down", &self.name, "--force"]).await.expect(0);
            let said = down.log.of_kind("restored").next().expect("it says what became of it");
            assert_eq!(said["exact"], true, "{what}: {said}");
        }
        eventually(what, async || {
            let found = self.case.settled(self.adapter, &self.name, &self.name).await?;
            differences(what, &self.before, &found)
        })
        .await;
        self.case.delete(self.adapter, &self.name).await;
    }
}
