//! Sessions on the model of an API server, call by call, beside a twin that never sees us.

use serde_json::{Value, json};
use towline_patcher::{
    DevPlan, Difference, FIELD_MANAGER, Phase, Record, Restore, clone_of, give_back, hold, lease, lease_name,
    park, read_back, refusal, replicas, restore, rewrite, take_over, verify,
};

use crate::deployments::plan;
use crate::server::{Refused, Server};

/// How `spec.replicas` came to be owned before the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum History {
    /// Created and never touched again.
    Created,
    /// Applied by a GitOps controller that says the replicas.
    Applied,
    /// Applied by two that agree.
    AppliedTwice,
    /// Scaled by an autoscaler after an apply without replicas.
    Autoscaled,
    /// Scaled by hand on the main object: the owner owns nothing else.
    ScaledByHand,
}

pub(crate) const HISTORIES: [History; 5] =
    [History::Created, History::Applied, History::AppliedTwice, History::Autoscaled, History::ScaledByHand];

/// What somebody else does meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Foreign {
    Image,
    Label,
    RemoveLabel,
    UnknownField,
    Scale,
    ScaleSubresource,
    Sync,
    SyncLive,
    Recreate,
}

impl Foreign {
    pub(crate) fn touches_replicas(self) -> bool {
        matches!(self, Self::Scale | Self::ScaleSubresource | Self::Sync | Self::SyncLive)
    }

    fn run(self, server: &mut Server, history: History, number: u64) {
        let name = "web";
        server.clock = 100 + number;
        let unique = i64::try_from(10 + number).unwrap();
        let live = server.get("Deployment", name).unwrap();
        match self {
            Self::Image => {
                let mut object = live;
                object["spec"]["template"]["spec"]["containers"][0]["image"] =
                    json!(format!("shop/api:2.{number}"));
                server.replace("ci", &object).unwrap();
            }
            Self::Label => {
                let patch = json!({"metadata": {"labels": {"team": format!("t{number}")}}});
                server.merge("team", "Deployment", name, &patch).unwrap();
            }
            Self::RemoveLabel => {
                let patch = json!({"metadata": {"labels": {"team": null}}});
                server.merge("cleaner", "Deployment", name, &patch).unwrap();
            }
            Self::UnknownField => {
                let patch = json!({"spec": {"template": {"spec": {"futureOther": {"n": number}}}}});
                server.merge("future", "Deployment", name, &patch).unwrap();
            }
            Self::Scale => {
                server.merge("kubectl", "Deployment", name, &json!({"spec": {"replicas": unique}})).unwrap();
            }
            Self::ScaleSubresource => {
                server.scale("kube-controller-manager", name, unique).unwrap();
            }
            Self::Sync => {
                server.apply("argocd", name, &config(history)).unwrap();
            }
            // As Argo CD does where replicas are ignored and the ignored is respected.
            Self::SyncLive => {
                let mut config = config(history);
                config["spec"]["replicas"] = live["spec"]["replicas"].clone();
                server.apply("argocd", name, &config).unwrap();
            }
            Self::Recreate => {
                let uid = live["metadata"]["uid"].as_str().unwrap().to_owned();
                server.delete("Deployment", name, &uid).unwrap();
                server.create("argocd", &fresh(&live)).unwrap();
            }
        }
    }
}

/// What the GitOps controller has in Git.
fn config(history: History) -> Value {
    let mut config = json!({
        "metadata": {"labels": {"from-git": "yes"}},
        "spec": {"template": {"spec": {"containers": [{"name": "c0", "image": "shop/api:git"}]}}},
    });
    if matches!(history, History::Applied | History::AppliedTwice) {
        config["spec"]["replicas"] = json!(4);
    }
    config
}

fn fresh(live: &Value) -> Value {
    let mut object = live.clone();
    object["metadata"] = json!({"name": "web", "namespace": "shop", "labels": {"from-git": "yes"}});
    object["spec"]["replicas"] = json!(2);
    object
}

/// The process died.
#[derive(Debug)]
pub(crate) struct Crash;

/// One cluster with a session, and its twin.
pub(crate) struct World {
    pub(crate) ours: Server,
    pub(crate) twin: Server,
    history: History,
    plan: DevPlan,
    /// Before which call somebody else does what.
    schedule: Vec<(usize, Foreign)>,
    /// At which calls the process dies; `true` after the server has done it.
    crashes: Vec<(usize, bool)>,
    pub(crate) calls: usize,
    pub(crate) done: Vec<Foreign>,
    now: i64,
}

impl World {
    pub(crate) fn new(
        history: History,
        original: &Value,
        schedule: Vec<(usize, Foreign)>,
        crashes: Vec<(usize, bool)>,
    ) -> Self {
        let mut server = Server::default();
        server.create("creator", original).unwrap();
        server.clock = 1;
        server.apply("argocd", "web", &config(history)).unwrap();
        server.clock = 2;
        match history {
            History::Created | History::Applied => {}
            History::AppliedTwice => {
                server.apply("flux", "web", &json!({"spec": {"replicas": 4}})).unwrap();
            }
            History::Autoscaled => {
                server.scale("kube-controller-manager", "web", 9).unwrap();
            }
            History::ScaledByHand => {
                server.merge("kubectl-edit", "Deployment", "web", &json!({"spec": {"replicas": 9}})).unwrap();
            }
        }
        server.clock = 50;
        Self {
            twin: server.clone(),
            ours: server,
            history,
            plan: plan(),
            schedule,
            crashes,
            calls: 0,
            done: Vec::new(),
            now: 1_700_000_000,
        }
    }

    /// Makes one call, with what happens around it.
    fn call<T>(
        &mut self,
        call: impl FnOnce(&mut Server) -> Result<T, Refused>,
    ) -> Result<Result<T, Refused>, Crash> {
        let number = self.calls;
        self.calls += 1;
        let due: Vec<Foreign> =
            self.schedule.iter().filter(|(at, _)| *at == number).map(|(_, foreign)| *foreign).collect();
        for foreign in due {
            let unique = self.done.len() as u64;
            foreign.run(&mut self.ours, self.history, unique);
            foreign.run(&mut self.twin, self.history, unique);
            self.done.push(foreign);
        }
        if self.crashes.contains(&(number, false)) {
            return Err(Crash);
        }
        let answer = call(&mut self.ours);
        if self.crashes.contains(&(number, true)) { Err(Crash) } else { Ok(answer) }
    }

    fn original(&mut self) -> Result<Option<Value>, Crash> {
        Ok(self.call(|server| server.get("Deployment", "web"))?.ok())
    }

    /// Begins dev mode and watches the original for `watch` rounds.
    pub(crate) fn up(&mut self, watch: usize) -> Result<(), Crash> {
        let Some(original) = self.original()? else { return Ok(()) };
        assert_eq!(refusal(&original), None);
        let clone = clone_of(&original, &self.plan).unwrap();
        let mut record = Record::new(&original, &self.plan, &clone, "0.1.0").unwrap();
        let held = lease(&lease_name("Deployment", "web"), &record, "alice@laptop", "t0", 60);
        let Ok(mut held) = self.call(|server| server.create(FIELD_MANAGER, &held))? else { return Ok(()) };
        let create = |world: &mut Self| -> Result<(), Crash> {
            if let Ok(stored) = world.call(|server| server.create(FIELD_MANAGER, &clone.object))? {
                assert_eq!(read_back(&clone.object, &stored), []);
            }
            Ok(())
        };
        if record.down_first.is_none() {
            create(self)?;
        }
        if !self.park(&mut held, &mut record)? {
            return Ok(());
        }
        if record.down_first.is_some() {
            create(self)?;
        }
        record.phase = Phase::Dev;
        held = self.call(|server| server.replace(FIELD_MANAGER, &rewrite(&held, &record)))?.unwrap();
        for _ in 0..watch {
            self.now += 1;
            let Some(original) = self.original()? else { return Ok(()) };
            if original["metadata"]["uid"] != record.uid.as_str() {
                return Ok(());
            }
            if replicas(&original) > 0 && record.may_re_park(self.now) {
                record.re_parked(self.now);
                if !self.park(&mut held, &mut record)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Scales the original down; tells whether it is still the same object.
    fn park(&mut self, held: &mut Value, record: &mut Record) -> Result<bool, Crash> {
        for _ in 0..20 {
            let Some(original) = self.original()? else { return Ok(false) };
            if original["metadata"]["uid"] != record.uid.as_str() {
                return Ok(false);
            }
            record.observe(&original);
            *held = self.call(|server| server.replace(FIELD_MANAGER, &rewrite(held, record)))?.unwrap();
            let patch = park(&original, record);
            if self.call(|server| server.merge(FIELD_MANAGER, "Deployment", "web", &patch))?.is_ok() {
                return Ok(true);
            }
        }
        panic!("never parked");
    }

    /// Ends dev mode from what the cluster says alone. Returns what is not as before, where there was a session.
    pub(crate) fn down(&mut self) -> Result<Option<Vec<Difference>>, Crash> {
        let name = lease_name("Deployment", "web");
        let Ok(found) = self.call(|server| server.get("Lease", &name))? else { return Ok(None) };
        let mut record = hold(&found).unwrap().record;
        record.phase = Phase::Restoring;
        let taken = rewrite(&take_over(&found, "bob@desk", "t1", 60), &record);
        let taken = self.call(|server| server.replace(FIELD_MANAGER, &taken))?.unwrap();
        if record.down_first.is_some() {
            self.delete_clone(&record)?;
        }
        self.restore(taken, &mut record)?;
        if record.down_first.is_none() {
            self.delete_clone(&record)?;
        }
        let differences = verify(self.original()?.as_ref(), &record, None);
        let uid = found["metadata"]["uid"].as_str().unwrap();
        self.call(|server| server.delete("Lease", &name, uid))?.unwrap();
        Ok(Some(differences))
    }

    fn restore(&mut self, mut held: Value, record: &mut Record) -> Result<(), Crash> {
        loop {
            let original = self.original()?;
            if original.as_ref().is_some_and(|original| record.join_owners(original)) {
                held = self.call(|server| server.replace(FIELD_MANAGER, &rewrite(&held, record)))?.unwrap();
            }
            match restore(original.as_ref(), record, None) {
                Restore::Scale(patch) => {
                    if self.call(|server| server.merge(FIELD_MANAGER, "Deployment", "web", &patch))?.is_ok() {
                        break;
                    }
                }
                Restore::Nothing { .. } => break,
                Restore::Gone | Restore::Replaced => return Ok(()),
            }
        }
        loop {
            let Some(original) = self.original()? else { return Ok(()) };
            let Some(patch) = give_back(&original, record) else { return Ok(()) };
            if self.call(|server| server.json_patch(FIELD_MANAGER, "Deployment", "web", &patch))?.is_ok() {
                return Ok(());
            }
        }
    }

    fn delete_clone(&mut self, record: &Record) -> Result<(), Crash> {
        if let Ok(clone) = self.call(|server| server.get("Deployment", &record.clone))? {
            assert!(record.made(&clone));
            let uid = clone["metadata"]["uid"].as_str().unwrap();
            let _gone_meanwhile = self.call(|server| server.delete("Deployment", &record.clone, uid))?;
        }
        Ok(())
    }

    /// Runs a session to its end, `down` again as often as the process dies.
    pub(crate) fn run(&mut self, watch: usize) -> Option<Vec<Difference>> {
        let _died_or_not = self.up(watch);
        for _ in 0..20 {
            if let Ok(differences) = self.down() {
                return differences;
            }
        }
        panic!("down never came to its end");
    }
}
