//! Pods are real processes, and are told of as the kubelet tells of them.

use std::fs;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use towline_cluster::embedded::Faults;
use towline_cluster::port::{
    CONFIG_MAPS, DEPLOYMENTS, DeleteOptions, EVENTS, ExecStream, LogOptions, Object,
    PERSISTENT_VOLUME_CLAIMS, PODS, REPLICA_SETS, SERVICES, Selection, WriteOptions,
};
use towline_cluster::{Cluster, ClusterError};

use super::{World, deployment, is_running, name, processes_of, shell, uid};

/// Runs until it is told to end.
const FOREVER: &str = "exec tail -f /dev/null";

async fn log_of(world: &World, pod: &Value, options: &LogOptions) -> String {
    let mut text = String::new();
    let mut reader = world.cluster.logs("default", name(pod), "main", options).await.unwrap();
    reader.read_to_string(&mut text).await.unwrap();
    text
}

async fn exec(world: &World, pod: &Value, argv: &[&str]) -> Result<ExecStream, ClusterError> {
    let argv: Vec<String> = argv.iter().map(|argument| (*argument).to_owned()).collect();
    world.cluster.exec("default", name(pod), "main", &argv).await
}

async fn reasons(world: &World, about: &str) -> Vec<String> {
    let events = world.cluster.list(EVENTS, Some("default"), &Selection::default()).await.unwrap();
    let about = events.iter().filter(|event| event["involvedObject"]["name"] == about);
    about.map(|event| event["reason"].as_str().unwrap().to_owned()).collect()
}

/// Runs a pod that prints something, ends well, and is not started again. Returns what it printed.
async fn printed(world: &World, container: Value, volumes: Value) -> String {
    let mut container = container;
    container["name"] = json!("main");
    container["image"] = json!("shell");
    let body = json!({
        "metadata": {"name": "once", "labels": {"app": "web"}, "annotations": {"note": "here"}},
        "spec": {"restartPolicy": "Never", "containers": [container], "volumes": volumes},
    });
    world.create(PODS, body).await.unwrap();
    let pod =
        world.until_pod(|pod| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))).await;
    let text = log_of(world, &pod, &LogOptions::default()).await;
    assert_eq!(pod["status"]["phase"], "Succeeded", "{text}");
    text
}

#[tokio::test]
async fn a_deployment_runs_its_pods_and_scales_them() {
    let world = World::new();
    world.create(DEPLOYMENTS, deployment("web", 2, json!({}))).await.unwrap();
    let ready = |count: u64| {
        move |all: &[Value]| all[0]["status"]["availableReplicas"].as_u64().unwrap_or(0) == count
    };
    let live = world.until(DEPLOYMENTS, ready(2)).await.remove(0);
    assert_eq!(live["status"]["conditions"][0]["type"], "Available");
    assert_eq!(live["status"]["conditions"][0]["status"], "True");
    assert_eq!(live["status"]["observedGeneration"], 1);
    let pods = world.pods().await;
    assert_eq!(pods.len(), 2);
    let sets = world.cluster.list(REPLICA_SETS, Some("default"), &Selection::default()).await.unwrap();
    assert_eq!(sets[0]["metadata"]["ownerReferences"][0]["uid"], *uid(&live));
    for pod in &pods {
        assert!(pod["metadata"]["labels"]["pod-template-hash"].is_string());
        assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], *uid(&sets[0]));
        assert!(!processes_of(pod).is_empty());
        let told = reasons(&world, name(pod)).await;
        assert!(
            ["Scheduled", "Pulled", "Started"].iter().all(|reason| told.iter().any(|told| told == reason)),
            "{told:?}"
        );
    }

    world.merge(DEPLOYMENTS, "web", json!({"spec": {"replicas": 0}})).await.unwrap();
    assert!(world.pods().await.is_empty());
    assert!(pods.iter().all(|pod| processes_of(pod).is_empty()), "scaled to nothing");
    let live = world.get(DEPLOYMENTS, "web").await.unwrap();
    assert!(live["status"].get("replicas").is_none(), "zeros are left out: {}", live["status"]);

    world.merge(DEPLOYMENTS, "web", json!({"spec": {"replicas": 1}})).await.unwrap();
    let pod = world.until_pod(is_running).await;
    world.delete(DEPLOYMENTS, "web").await.unwrap();
    assert!(world.pods().await.is_empty());
    assert!(processes_of(&pod).is_empty());
    assert_eq!(fs::read_dir(world.state().join("pods")).unwrap().count(), 0, "no folder is left");
}

#[tokio::test]
async fn a_recreated_pod_waits_for_the_last_one_to_go() {
    let world = World::new();
    let mut body = deployment(
        "web",
        1,
        shell("trap '' TERM; echo up; while :; do read line </dev/null; tail -f /dev/null; done"),
    );
    body["spec"]["strategy"] = json!({"type": "Recreate"});
    body["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(1);
    world.create(DEPLOYMENTS, body).await.unwrap();
    let first = world.until_pod(is_running).await;
    let change = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "shell", "command": ["sh", "-c", FOREVER]}]}}}});
    world.merge(DEPLOYMENTS, "web", change).await.unwrap();
    let second = world.until_pod(|pod| is_running(pod) && uid(pod) != uid(&first)).await;
    assert!(processes_of(&first).is_empty());
    assert!(!processes_of(&second).is_empty());
}

#[tokio::test]
async fn a_rolling_change_replaces_pods() {
    let world = World::new();
    world.create(DEPLOYMENTS, deployment("web", 1, shell(FOREVER))).await.unwrap();
    let first = world.until_pod(is_running).await;
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {"restarted": "now"}}}}});
    world.merge(DEPLOYMENTS, "web", patch).await.unwrap();
    let second = world.until_pod(|pod| is_running(pod) && uid(pod) != uid(&first)).await;
    assert_eq!(second["metadata"]["annotations"]["restarted"], "now");
    assert!(processes_of(&first).is_empty());
}

#[tokio::test]
async fn the_environment_comes_from_everywhere() {
    let world = World::new();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"PASSWORD": "cGFzcw=="}});
    world.cluster.apply(&[secret]).await.unwrap();
    let map = json!({"metadata": {"name": "c"}, "data": {"COLOUR": "green", "SIZE": "big"}});
    world.create(CONFIG_MAPS, map).await.unwrap();
    let container = json!({
        "command": ["sh", "-c", "echo \"$COLOUR $SIZE $P_PASSWORD $ONE $TWO $NAME $APP $NOTE $0\"; pwd; tool; cat page", "$(ONE)"],
        "envFrom": [{"configMapRef": {"name": "c"}}, {"secretRef": {"name": "s"}, "prefix": "P_"},
                    {"secretRef": {"name": "none", "optional": true}}],
        "env": [
            {"name": "SIZE", "value": "small"},
            {"name": "ONE", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "COLOUR"}}},
            {"name": "TWO", "value": "$(ONE)-$(P_PASSWORD)"},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "NOTE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['note']"}}},
        ],
    });
    let text = printed(&world, container, json!([])).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "green small pass green green-pass once web here green");
    assert!(lines[1].ends_with("/rootfs/app"), "{text}");
    assert_eq!(lines[2..], ["tool from the image", "production"]);
}

#[tokio::test]
async fn volumes_are_folders_of_the_pod() {
    let world = World::new();
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"key": "c2VjcmV0"}});
    world.cluster.apply(&[secret]).await.unwrap();
    let map = json!({"metadata": {"name": "c"}, "data": {"a": "text"}, "binaryData": {"b": "AAEC"}});
    world.create(CONFIG_MAPS, map).await.unwrap();
    world.create(PERSISTENT_VOLUME_CLAIMS, json!({"metadata": {"name": "data"}})).await.unwrap();
    let container = json!({
        "workingDir": "/",
        "command": ["sh", "-c", "cd $HOME; cat config/a secret/key file/renamed; wc -c <config/b; stat -c %a config/a; ls app; echo kept >data/x; find escape"],
        "volumeMounts": [
            {"name": "config", "mountPath": "/config"}, {"name": "secret", "mountPath": "/secret"},
            {"name": "file", "mountPath": "/file/renamed", "subPath": "renamed"},
            {"name": "scratch", "mountPath": "/app"}, {"name": "scratch2", "mountPath": "/../../escape"},
            {"name": "claim", "mountPath": "/data"},
        ],
    });
    let volumes = json!([
        {"name": "config", "configMap": {"name": "c", "defaultMode": 0o555}},
        {"name": "secret", "secret": {"secretName": "s"}},
        {"name": "file", "configMap": {"name": "c", "items": [{"key": "a", "path": "renamed"}]}},
        {"name": "scratch", "emptyDir": {}}, {"name": "scratch2", "emptyDir": {}},
        {"name": "claim", "persistentVolumeClaim": {"claimName": "data"}},
    ]);
    let text = printed(&world, container, volumes).await;
    assert_eq!(text, "textsecrettext3\n555\nescape\n", "an emptyDir hides the image's files");
    world.delete(PODS, "once").await.unwrap();
    let claim = world.get(PERSISTENT_VOLUME_CLAIMS, "data").await.unwrap();
    let kept = world.state().join("volumes").join(uid(&claim)).join("x");
    assert_eq!(fs::read_to_string(kept).unwrap(), "kept\n", "a claim outlives its pods");
}

#[tokio::test]
async fn init_containers_run_first_and_share_volumes() {
    let world = World::new();
    let mount = |path: &str| json!([{"name": "shared", "mountPath": path}]);
    let body = json!({
        "metadata": {"name": "once"},
        "spec": {
            "restartPolicy": "Never",
            "volumes": [{"name": "shared", "emptyDir": {}}],
            "initContainers": [
                {"name": "one", "image": "shell", "command": ["sh", "-c", "cp page ../to/page"], "volumeMounts": mount("/to")},
                {"name": "two", "image": "shell", "command": ["sh", "-c", "echo two >>../from/page"], "volumeMounts": mount("/from")},
            ],
            "containers": [{"name": "main", "image": "shell", "command": ["cat", "page"], "volumeMounts": mount("/app")}],
        },
    });
    world.create(PODS, body).await.unwrap();
    let pod =
        world.until_pod(|pod| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))).await;
    assert_eq!(log_of(&world, &pod, &LogOptions::default()).await, "productiontwo\n", "{pod:#}");
    assert_eq!(pod["status"]["initContainerStatuses"][1]["state"]["terminated"]["reason"], "Completed");
}

#[tokio::test]
async fn a_crash_is_told_and_the_container_started_again() {
    let world = World::new();
    world
        .create(
            DEPLOYMENTS,
            deployment("web", 1, shell("echo run; test -f $HOME/good || exit 3; exec tail -f /dev/null")),
        )
        .await
        .unwrap();
    let pod = world
        .until_pod(|pod| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        })
        .await;
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(status["lastState"]["terminated"]["reason"], "Error");
    assert_eq!((&status["restartCount"], &status["ready"]), (&json!(1), &json!(false)));
    let previous = LogOptions { previous: true, ..LogOptions::default() };
    assert_eq!(log_of(&world, &pod, &previous).await, "run\n");
    let deployment = world.get(DEPLOYMENTS, "web").await.unwrap();
    assert_eq!(deployment["status"]["conditions"][0]["status"], "False", "{deployment:#}");

    fs::write(world.state().join("pods").join(&uid(&pod)[..13]).join("rootfs/good"), "").unwrap();
    let pod = world.until_pod(is_running).await;
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 2);
    assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 3);
}

#[tokio::test]
async fn a_killed_process_is_noticed_by_a_watch_and_started_again() {
    let world = World::new();
    world.create(DEPLOYMENTS, deployment("web", 1, shell(FOREVER))).await.unwrap();
    let pod = world.until_pod(is_running).await;
    let watched =
        world.until_pod(|pod| pod["status"]["containerStatuses"][0]["restartCount"] == 1 && is_running(pod));
    let kill = async {
        for pid in processes_of(&pod) {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    };
    let (again, ()) = tokio::join!(watched, kill);
    assert_eq!(uid(&again), uid(&pod));
    assert_eq!(again["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 137);
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn what_can_not_start_says_why() {
    let claim = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "none"}}]);
    let missing_map = json!([{"name": "v", "configMap": {"name": "none"}}]);
    let odd = json!([{"name": "v", "hostPath": {"path": "/"}}]);
    let mounted = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let waiting = "/status/containerStatuses/0/state/waiting";
    for (container, volumes, extra, pointer, expected, event) in [
        (
            json!({"image": "none:1"}),
            json!([]),
            json!({}),
            format!("{waiting}/reason"),
            "ImagePullBackOff",
            "BackOff",
        ),
        (
            json!({"command": ["no-such-program"]}),
            json!([]),
            json!({}),
            format!("{waiting}/reason"),
            "CrashLoopBackOff",
            "BackOff",
        ),
        (
            json!({"command": ["no-such-program"]}),
            json!([]),
            json!({}),
            "/status/containerStatuses/0/lastState/terminated/message".to_owned(),
            "executable file not found in $PATH",
            "Failed",
        ),
        (
            json!({"command": ["/no/such"]}),
            json!([]),
            json!({}),
            "/status/containerStatuses/0/lastState/terminated/reason".to_owned(),
            "StartError",
            "Failed",
        ),
        (
            json!({"envFrom": [{"configMapRef": {"name": "none"}}]}),
            json!([]),
            json!({}),
            format!("{waiting}/message"),
            "configmap \"none\" not found",
            "Failed",
        ),
        (
            mounted.clone(),
            missing_map,
            json!({}),
            "/status/conditions/2/message".to_owned(),
            "configmap \"none\" not found",
            "FailedMount",
        ),
        (
            mounted.clone(),
            odd,
            json!({}),
            "/status/conditions/2/message".to_owned(),
            "only emptyDir",
            "FailedMount",
        ),
        (
            mounted,
            claim,
            json!({}),
            "/status/conditions/0/message".to_owned(),
            "persistentvolumeclaim \"none\" not found",
            "FailedScheduling",
        ),
        (
            json!({}),
            json!([]),
            json!({"disk": "ssd"}),
            "/status/conditions/0/reason".to_owned(),
            "Unschedulable",
            "FailedScheduling",
        ),
    ] {
        let world = World::new();
        let mut body = deployment("web", 1, container);
        body["spec"]["template"]["spec"]["volumes"] = volumes;
        body["spec"]["template"]["spec"]["nodeSelector"] = extra;
        world.create(DEPLOYMENTS, body).await.unwrap();
        let told = |pod: &Value| {
            pod.pointer(&pointer).and_then(Value::as_str).is_some_and(|text| text.contains(expected))
        };
        let pod = world.until_pod(told).await;
        assert_eq!(
            pod["status"]["phase"],
            if pointer.contains("lastState") || expected == "CrashLoopBackOff" {
                "Running"
            } else {
                "Pending"
            }
        );
        let told = reasons(&world, name(&pod)).await;
        assert!(told.iter().any(|reason| reason == event), "{event}: {told:?}");
        let deployment = world.get(DEPLOYMENTS, "web").await.unwrap();
        assert!(deployment["status"].get("readyReplicas").is_none());
    }
}

#[tokio::test]
async fn a_pod_that_is_refused_is_told_once_and_then_there_is_rest() {
    let world = World::new();
    // Too long for a pod's name, which is longer.
    let name = "n".repeat(240);
    let template = deployment("web", 1, json!({}))["spec"].clone();
    world.create(REPLICA_SETS, json!({"metadata": {"name": name}, "spec": template})).await.unwrap();
    let version = || fs::read_to_string(world.state().join("version")).unwrap();
    world.pods().await;
    let before = version();
    for _ in 0..3 {
        assert!(world.pods().await.is_empty());
    }
    assert_eq!(version(), before, "nothing is written where nothing changes");
    assert_eq!(reasons(&world, &name).await, ["FailedCreate"]);
    let set = world.get(REPLICA_SETS, &name).await.unwrap();
    assert_eq!(set["status"]["conditions"][0]["type"], "ReplicaFailure");
    let mut long = deployment("web", 1, json!({}));
    long["metadata"]["name"] = json!("d".repeat(240));
    world.create(DEPLOYMENTS, long).await.unwrap();
    let live = world.get(DEPLOYMENTS, &"d".repeat(240)).await.unwrap();
    assert_eq!(live["status"]["conditions"][1]["reason"], "ReplicaSetCreateError");
}

#[tokio::test]
async fn a_pod_starts_when_what_it_lacked_is_there() {
    let world = World::new();
    let container =
        json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "k"}}}]});
    world.create(DEPLOYMENTS, deployment("web", 1, container)).await.unwrap();
    world
        .until_pod(|pod| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"]
                == "CreateContainerConfigError"
        })
        .await;
    world.create(CONFIG_MAPS, json!({"metadata": {"name": "late"}, "data": {"k": "v"}})).await.unwrap();
    world.until_pod(is_running).await;
}

#[tokio::test]
async fn a_pod_is_asked_to_end_and_killed_after_its_grace() {
    let world = World::new();
    for (line, grace, last) in [
        (
            "trap 'echo asked; exit 0' TERM; echo up; while :; do tail -f /dev/null & wait $!; done",
            30,
            "asked\n",
        ),
        ("trap '' TERM; echo up; while :; do tail -f /dev/null; done", 1, "up\n"),
    ] {
        let mut container = shell(line);
        container["name"] = json!("main");
        container["image"] = json!("shell");
        let body = json!({"metadata": {"name": "once"}, "spec": {"terminationGracePeriodSeconds": grace, "containers": [container]}});
        world.create(PODS, body).await.unwrap();
        let pod = world.until_pod(is_running).await;
        let follow = LogOptions { follow: true, ..LogOptions::default() };
        let mut log = world.cluster.logs("default", "once", "main", &follow).await.unwrap();
        let mut first = [0; 3];
        log.read_exact(&mut first).await.unwrap();
        world.delete(PODS, "once").await.unwrap();
        world.until(PODS, <[Value]>::is_empty).await;
        assert!(processes_of(&pod).is_empty());
        let mut rest = String::from("up\n");
        log.read_to_string(&mut rest).await.unwrap();
        assert!(rest.ends_with(last), "{rest}");
    }
}

#[tokio::test]
async fn a_pod_without_grace_goes_at_once_with_all_it_started() {
    let world = World::new();
    let line = "trap '' TERM; (setsid tail -f /dev/null &) ; tail -f /dev/null & echo up; wait";
    world.create(DEPLOYMENTS, deployment("web", 1, shell(line))).await.unwrap();
    let pod = world.until_pod(is_running).await;
    let at_once = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    world.merge(DEPLOYMENTS, "web", json!({"spec": {"replicas": 0}})).await.unwrap();
    let _ = world.cluster.delete(&Object::new(PODS, "default", name(&pod)), &at_once).await;
    assert!(processes_of(&pod).is_empty(), "also what left the process group");
}

#[tokio::test]
async fn logs_follow_to_the_end_and_can_be_cut() {
    let world = World::new();
    let line = "echo one; echo two; echo three >&2; read line <$HOME/shared/gate; echo \"last $line\"";
    let mut container = shell(line);
    container["name"] = json!("main");
    container["image"] = json!("shell");
    let init = json!({"name": "gate", "image": "shell", "command": ["mkfifo", "../shared/gate"], "volumeMounts": [{"name": "s", "mountPath": "/shared"}]});
    container["volumeMounts"] = json!([{"name": "s", "mountPath": "/shared"}]);
    let body = json!({"metadata": {"name": "once"}, "spec": {
        "restartPolicy": "Never", "volumes": [{"name": "s", "emptyDir": {}}], "initContainers": [init], "containers": [container],
    }});
    world.create(PODS, body).await.unwrap();
    let pod = world.until_pod(is_running).await;
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let mut log = world.cluster.logs("default", "once", "main", &follow).await.unwrap();
    let mut start = vec![0; "one\ntwo\nthree\n".len()];
    log.read_exact(&mut start).await.unwrap();
    assert_eq!(start, b"one\ntwo\nthree\n");
    let tail = LogOptions { tail: Some(1), ..LogOptions::default() };
    assert_eq!(log_of(&world, &pod, &tail).await, "three\n");
    let mut stream = exec(&world, &pod, &["sh", "-c", "echo word >$HOME/shared/gate"]).await.unwrap();
    stream.stdout.read_to_end(&mut Vec::new()).await.unwrap();
    let mut rest = String::new();
    log.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "last word\n");
    let previous = LogOptions { previous: true, ..LogOptions::default() };
    let error = world.cluster.logs("default", "once", "main", &previous).await.err().unwrap();
    assert!(matches!(error, ClusterError::Invalid { .. }), "{error}");
    let error = world.cluster.logs("default", "none", "main", &follow).await.err().unwrap();
    assert!(error.is_not_found(), "{error}");
}

#[tokio::test]
async fn exec_ties_three_streams_to_a_process_in_the_container() {
    let world = World::new();
    let mut container = shell(FOREVER);
    container["env"] = json!([{"name": "COLOUR", "value": "green"}]);
    world.create(DEPLOYMENTS, deployment("web", 1, container)).await.unwrap();
    let pod = world.until_pod(is_running).await;
    let mut stream =
        exec(&world, &pod, &["sh", "-c", "read line; echo \"$COLOUR $line\"; echo oops >&2; cat page"])
            .await
            .unwrap();
    stream.stdin.write_all(b"word\n").await.unwrap();
    let (mut out, mut errors) = (String::new(), String::new());
    stream.stdout.read_to_string(&mut out).await.unwrap();
    stream.stderr.read_to_string(&mut errors).await.unwrap();
    assert_eq!((out.as_str(), errors.as_str()), ("green word\nproduction", "oops\n"));
    let error = exec(&world, &pod, &["no-such-program"]).await.unwrap_err();
    assert!(matches!(&error, ClusterError::Exec { message, .. } if message.contains("not found")), "{error}");
    let error = world.cluster.exec("default", "none", "main", &["sh".to_owned()]).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    let error = world.cluster.exec("default", name(&pod), "none", &["sh".to_owned()]).await.unwrap_err();
    assert!(matches!(error, ClusterError::Exec { .. }), "{error}");
}

#[tokio::test]
async fn the_hosts_agent_takes_the_agents_place() {
    let world = World::new();
    let agent = "/.towline/bin/agent";
    let mut body = deployment("web", 1, json!({"command": [agent, "run", "--run-dir", "/.towline/run"]}));
    body["spec"]["template"]["spec"]["initContainers"] =
        json!([{"name": "seed", "image": "shell", "command": [agent, "seed", "/app", "/seed"]}]);
    world.create(DEPLOYMENTS, body).await.unwrap();
    let pod = world.until_pod(is_running).await;
    let folder = world.state().join("pods").join(&uid(&pod)[..13]);
    let folder = folder.display();
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let mut log = world.cluster.logs("default", name(&pod), "main", &follow).await.unwrap();
    let expected = format!("agent run --run-dir {folder}/run --prefix {folder}/rootfs\n");
    let mut line = vec![0; expected.len()];
    log.read_exact(&mut line).await.unwrap();
    assert_eq!(String::from_utf8(line).unwrap(), expected);
    let mut reader = world.cluster.logs("default", name(&pod), "seed", &LogOptions::default()).await.unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, format!("agent seed /app /seed --prefix {folder}/rootfs-seed\n"));
    let mut stream = exec(&world, &pod, &[agent, "connect", "--run-dir", "/.towline/run"]).await.unwrap();
    let mut text = String::new();
    stream.stdout.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, format!("agent connect --run-dir {folder}/run\n"));
}

#[tokio::test]
async fn services_and_a_dry_run_of_a_pod_are_accepted() {
    let world = World::new();
    let service =
        json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    let service = world.create(SERVICES, service).await.unwrap();
    assert_eq!(service["spec"]["clusterIP"], "127.0.0.1");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], 80);
    let body =
        json!({"metadata": {"name": "once"}, "spec": {"containers": [{"name": "main", "image": "shell"}]}});
    let cluster = world.cluster.with_faults(Faults::default());
    cluster.create(PODS, "default", &body, &WriteOptions { dry_run: true }).await.unwrap();
    assert!(world.pods().await.is_empty());
}
