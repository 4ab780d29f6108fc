//! `mode: hybrid`: the command runs on this machine, in the workload's place.

use std::fs;

use serde_json::Value;
use towline_cluster::port::{DEPLOYMENTS, DeleteOptions, LEASES, Object, PODS};

use crate::adapter::Adapter;
use crate::app::{self, App, NAME, OTHER};
use crate::http;
use crate::kinds;
use crate::kube::KubeAdapter;
use crate::program;
use crate::project::Project;
use crate::pty::Terminal;
use crate::scenario::canary::files;
use crate::scenario::loss::through_a_proxy;
use crate::scenario::session::in_pod;
use crate::snapshot::Snapshot;
use crate::towline::Towline;
use crate::waiting::{self, eventually, is_settled, pods};

/// What the cluster keeps of the workload's credential, and the manifest of its own.
const SECRETS: [&str; 2] = ["not-for-everyone", "canary-of-the-manifest"];
const PAGE: &str = "from the laptop\n";

/// A workload, and a project whose command serves the project's page in its place.
struct World<'a> {
    adapter: &'a dyn Adapter,
    app: App,
    project: Project,
    /// Where the command listens.
    local: u16,
}

impl<'a> World<'a> {
    async fn new(adapter: &'a dyn Adapter) -> Self {
        let app = App::deploy(adapter, 1).await;
        if adapter.is_real() {
            adapter.apply(&app::other(&adapter.images())).await;
            waiting::object(adapter, DEPLOYMENTS, OTHER, is_settled).await;
        }
        let (project, local) = (Project::new(), http::free_port().await);
        let serve = program::hello();
        // It leaves another process behind when it ends.
        let script = format!(
            "umask 077; printf '%s,%s,%s' \"$TOKEN\" \"$GREETING\" \"$MINE\" >seen; sleep 1000 & echo \"$$ $!\" >new; \
             mv new pids; exec {}",
            serve.display()
        );
        project.write("index.html", PAGE).write("src/file", "").write("serve.sh", script);
        project.write(
            "okteto.yml",
            format!(
                "dev:\n  {NAME}:\n    mode: hybrid\n    command: [sh, serve.sh]\n    workdir: .\n    reverse: ['{}:{local}']\n    \
                 environment:\n      PORT: '{local}'\n      MINE: canary-of-the-manifest $(MODE)\n",
                app.port
            ),
        );
        Self { adapter, app, project, local }
    }

    /// Agrees to the manifest.
    async fn agree(&self, towline: &Towline) {
        let refused = towline.run(&["up"]).await.expect(1);
        let error = refused.log.of_kind("error").next().expect("it says why").clone();
        let hash = error["hints"][0].as_str().and_then(|hint| hint.rsplit(' ').next()).unwrap_or_default();
        towline.run(&["up", "--dry-run", "--trust-manifest", hash]).await.expect(0);
    }

    /// Waits until connections to the workload's Service come to the command.
    async fn is_reached(&self) {
        if !self.adapter.is_real() {
            http::reads(self.app.port, "/", PAGE).await;
            return;
        }
        eventually("the Service answers from this machine", async || {
            let page =
                in_pod(self.adapter, OTHER, &["wget", "-q", "-O", "-", &format!("http://{NAME}/")]).await;
            if page == PAGE { Ok(()) } else { Err(page) }
        })
        .await;
    }

    /// Returns the ids of the command and of the process that it started.
    async fn processes(&self) -> Vec<u32> {
        let (text, _) =
            eventually("the command has begun", async || self.project.read("pids").ok_or("no pids")).await;
        let pids: Vec<u32> = text.split_whitespace().map(|pid| pid.parse().expect("a process id")).collect();
        assert!(pids.len() == 2 && pids.iter().all(|pid| is_alive(*pid)), "{text}");
        pids
    }
}

/// Whether a process is there and not a zombie.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

async fn until_gone(pids: &[u32]) {
    eventually("no process is left", async || {
        let left: Vec<_> = pids.iter().filter(|pid| is_alive(**pid)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

/// Asked first, a plan without values, traffic and variables of the workload, and the way back with nothing left running.
pub async fn whole(adapter: &dyn Adapter) {
    let world = World::new(adapter).await;
    let before = Snapshot::of(adapter).await;
    let towline = Towline::new(adapter, &world.project).with("RUST_LOG", "trace");
    world.agree(&towline).await;
    let planned = towline.run(&["up", "--dry-run"]).await.expect(0);
    let plan = planned.log.of_kind("plan").next().expect("the plan").clone();
    let here = &plan["here"];
    assert_eq!(here["ports"], serde_json::json!([[world.app.port, world.local]]), "{here}");
    assert_eq!(here["variablesFrom"], serde_json::json!(["ConfigMap hello-settings"]), "{here}");
    assert_eq!(here["variables"], serde_json::json!(["MINE", "PORT", "TOKEN"]), "{here}");
    before.expect_unchanged(adapter).await;

    let mut up = towline.start(&["up"]);
    let told = up.until("the variables are told of", |event| event["kind"] == "environment").await;
    assert!(told["leftOut"].as_array().is_some_and(|names| names.contains(&Value::from("PATH"))), "{told}");
    up.until_state("ready").await;
    world.is_reached().await;
    let seen = world.project.read("seen").expect("the command wrote it");
    assert_eq!(seen, "not-for-everyone,good morning,canary-of-the-manifest production");
    let pids = world.processes().await;

    let lease = Object::new(LEASES, adapter.namespace(), format!("towline.deployment.{NAME}"));
    let record = adapter.cluster().get(&lease).await.expect("the session is on").to_string();
    let in_state = files(&world.project.home());
    let down = towline.run(&["down"]).await.expect(0);
    let ended = up.ended().await;
    until_gone(&pids).await;
    before.expect_unchanged(adapter).await;
    let texts =
        [planned.stdout, planned.stderr, down.stdout, down.stderr, ended.stdout, ended.stderr, record];
    for text in texts.into_iter().chain(in_state.into_iter().map(|(_, text)| text)) {
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} shows: {text}");
        }
    }
}

/// The pod goes and another comes: the command never stops, and is reached again.
pub async fn of_another_pod(adapter: &dyn Adapter) {
    let world = World::new(adapter).await;
    let towline = Towline::new(adapter, &world.project);
    world.agree(&towline).await;
    let mut up = towline.start(&["up"]);
    up.until_state("ready").await;
    world.is_reached().await;
    let pids = world.processes().await;

    let pod = pods(adapter, "hello-towline-").await.first().map(kinds::name).expect("there is a dev pod");
    let object = Object::new(PODS, adapter.namespace(), pod);
    adapter.cluster().delete(&object, &DeleteOptions::default()).await.unwrap();
    up.until("another container answers", |event| event["kind"] == "connected" && event["restarted"] == true)
        .await;
    up.until_state("ready").await;
    world.is_reached().await;
    assert_eq!(world.processes().await, pids);
    assert_eq!(up.log().of_kind("commandStarted").count(), 1, "{}", up.log());
    towline.run(&["down"]).await.expect(0);
    up.ended().await;
    until_gone(&pids).await;
}

/// The API server goes away: the command never stops, and is reached again once the server is back.
pub async fn without_the_api_server(adapter: &KubeAdapter) {
    let world = World::new(adapter).await;
    let direct = Towline::new(adapter, &world.project);
    world.agree(&direct).await;
    let (mut proxy, kubeconfig) = through_a_proxy(adapter).await;
    let mut up = direct.clone().with("KUBECONFIG", &kubeconfig).start(&["up"]);
    up.until_state("ready").await;
    world.is_reached().await;
    let pids = world.processes().await;

    proxy.cut().await;
    up.until("the user is told", |event| event["kind"] == "disconnected").await;
    assert_eq!(world.processes().await, pids);
    http::reads(world.local, "/", PAGE).await;
    proxy.reopen().await;
    up.until("the same container answers", |event| {
        event["kind"] == "connected" && event["restarted"] == false
    })
    .await;
    world.is_reached().await;
    assert_eq!(world.processes().await, pids);
    direct.run(&["down"]).await.expect(0);
    up.ended().await;
    until_gone(&pids).await;
}

/// However `up` ends, nothing of the command goes on; and its exit code is `up`'s.
pub async fn ended(adapter: &dyn Adapter) {
    let world = World::new(adapter).await;
    let before = Snapshot::of(adapter).await;
    let towline = Towline::new(adapter, &world.project);
    world.agree(&towline).await;
    let missing = towline.run(&["up", "--", "no-such-program"]).await.expect(127);
    assert!(missing.stdout.contains("command not found on this machine"), "{}", missing.stdout);
    before.expect_unchanged(adapter).await;
    towline.run(&["up", "--", "sh", "-c", "exit 7"]).await.expect(7);

    let mut up = towline.start(&["up"]);
    up.until_state("ready").await;
    let killed = world.processes().await;
    up.kill().await;
    until_gone(&killed).await;

    world.project.remove("pids");
    let mut up = towline.start(&["up"]);
    up.until_state("ready").await;
    let left = world.processes().await;
    up.terminate().await;
    assert_eq!(up.ended().await.code, Some(130));
    until_gone(&left).await;

    world.project.remove("pids");
    towline.run(&["up", "--detach"]).await.expect(0);
    let detached = world.processes().await;
    towline.run(&["down"]).await.expect(0);
    until_gone(&detached).await;
    before.expect_unchanged(adapter).await;
}

/// A shell on a terminal of its own: size, Ctrl-C for what it runs, and the way out, which takes its jobs along.
pub async fn at_a_terminal(adapter: &dyn Adapter) {
    let world = World::new(adapter).await;
    let towline = Towline::new(adapter, &world.project);
    world.agree(&towline).await;
    let command = towline.command(&["up", "--", "sh", "-i"], "human");
    let mut terminal = Terminal::start(&command, 30, 100).expect("setsid is there");
    terminal.shows("the command runs on this machine").await;
    // What is typed is shown too, so each answer is a text that was not typed.
    terminal.type_in("echo size $(stty size) $TOKEN\r");
    terminal.shows("size 30 100 not-for-everyone").await;
    terminal.resize(40, 120);
    terminal.type_in("while test \"$(stty size)\" != '40 120'; do :; done; echo now $((40 + 2))\r");
    terminal.shows("now 42").await;
    terminal.type_in("sleep 1000 & echo \"$$ $!\" >pids; echo jobs $((7 * 3))\r");
    terminal.shows("jobs 21").await;
    let pids = world.processes().await;
    terminal.type_in(
        "(trap 'exit 55' INT; echo armed $((60 + 6)); while :; do sleep 1; done) || echo caught $?\r",
    );
    terminal.shows("armed 66").await;
    terminal.type_in("\x03");
    terminal.shows("caught 55").await;
    terminal.type_in("\r~.");
    terminal.shows("dev mode is still on").await;
    let (status, screen) = terminal.ended().await;
    assert_eq!(status.code(), Some(130), "{screen}");
    until_gone(&pids).await;
    towline.run(&["down"]).await.expect(0);
}
