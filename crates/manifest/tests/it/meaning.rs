//! What each field and each of its shorthands means.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    path::Path,
    time::Duration,
};

use towline_manifest::{
    Capabilities, Dev, ForwardTarget, Hook, Lifecycle, Mode, Probes, PullPolicy, Toleration, unsupported,
};

use crate::disk::{lines, manifest, read, read_at, repository};

/// Returns the dev service that `fields`, in flow style, spell; they must have no error.
fn dev(fields: &str) -> Dev {
    let parsed = read(&format!("dev:\n  api: {fields}\n"));
    assert!(!parsed.problems.has_errors(), "{fields}\n{}", lines(&parsed));
    parsed.manifest.unwrap().dev("api").unwrap().clone()
}

#[test]
fn a_service_without_fields_has_defaults() {
    for fields in ["{}", "", "~"] {
        let dev = dev(fields);
        assert_eq!(dev.command_line(), ["sh"]);
        assert_eq!(dev.workload, "api");
        assert_eq!(dev.sync.folders.len(), 1);
        assert_eq!(dev.sync.folders[0].local, Path::new("/repo"));
        assert_eq!(dev.sync.folders[0].remote, "/okteto");
        assert_eq!(dev.interface, IpAddr::from([127, 0, 0, 1]));
        assert_eq!(unsupported(&dev), [""; 0]);
    }
}

#[test]
fn a_command_is_for_the_shell_when_it_has_a_blank() {
    for (fields, expected) in [
        ("{command: bash}", vec!["bash"]),
        ("{command: npm run dev}", vec!["sh", "-c", "npm run dev"]),
        ("{command: [npm, run, dev]}", vec!["npm", "run", "dev"]),
        ("{command: []}", vec!["sh"]),
        ("{command: [a], args: [b, 1]}", vec!["a", "b", "1"]),
        ("{args: [-c, id]}", vec!["sh", "-c", "id"]),
        ("{command: echo $HOME}", vec!["sh", "-c", "echo $HOME"]),
    ] {
        assert_eq!(dev(fields).command_line(), expected, "{fields}");
    }
}

#[test]
fn folders_are_split_after_expansion() {
    for (fields, expected) in [
        ("{sync: ['.:/app']}", vec![("/repo", "/app")]),
        ("{sync: ['${SRC:-.}:${DST:-/app}']}", vec![("/repo", "/app")]),
        ("{sync: ['$ROOT/src:/app']}", vec![("/repo/src", "/app")]),
        ("{sync: {folders: ['src:/app/./x//']}}", vec![("/repo/src", "/app/x")]),
        ("{sync: ['.:/app', 'sub:/x']}", vec![("/repo", "/app"), ("/repo/sub", "/x")]),
        ("{workdir: /usr/src}", vec![("/repo", "/usr/src")]),
        ("{volumes: ['src:/app']}", vec![("/repo/src", "/app")]),
        ("{sync: []}", vec![]),
    ] {
        let text = format!("dev:\n  api: {fields}\n");
        let parsed = read_at("/repo/okteto.yml", &text, &repository(), &[("ROOT", "/repo")]);
        assert!(!parsed.problems.has_errors(), "{fields}\n{}", lines(&parsed));
        let manifest = parsed.manifest.unwrap();
        let folders: Vec<_> = manifest.dev["api"]
            .sync
            .folders
            .iter()
            .map(|folder| (folder.local.to_str().unwrap(), folder.remote.as_str()))
            .collect();
        assert_eq!(folders, expected, "{fields}");
    }
}

#[test]
fn a_manifest_in_the_dot_folder_counts_from_the_repository() {
    let text = "dev:\n  a: {sync: ['.:/app']}\n  b: {sync: ['../sub:/app']}\n";
    let parsed = read_at("/repo/.okteto/okteto.yml", text, &repository(), &[]);
    assert!(parsed.problems.is_empty(), "{}", lines(&parsed));
    let manifest = parsed.manifest.unwrap();
    assert_eq!(manifest.dev["a"].sync.folders[0].local, Path::new("/repo"));
    assert_eq!(manifest.dev["b"].sync.folders[0].local, Path::new("/repo/sub"));
}

#[test]
fn forwards_have_four_spellings() {
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let dev = dev("{forward: [8080:80, '5432:postgres:5432', {localPort: 1, remotePort: 2}, \
         {localPort: 3, remotePort: 4, name: svc}, {localPort: 5, remotePort: 6, labels: {a: b}}], \
         reverse: ['9000:9001']}");
    let forwards: Vec<_> = dev.forward.into_iter().map(|f| (f.local, f.target, f.remote)).collect();
    assert_eq!(
        forwards,
        [
            (8080, ForwardTarget::Container, 80),
            (5432, ForwardTarget::Service("postgres".to_owned()), 5432),
            (1, ForwardTarget::Container, 2),
            (3, ForwardTarget::Service("svc".to_owned()), 4),
            (5, ForwardTarget::Labels(labels), 6),
        ]
    );
    assert_eq!((dev.reverse[0].remote, dev.reverse[0].local), (9000, 9001));
}

#[test]
fn forwards_of_the_manifest_join_those_of_the_service() {
    let manifest = manifest("forward: ['1:db:2']\ndev:\n  api: {forward: ['3:4']}\n");
    let dev = manifest.dev("api").unwrap();
    assert_eq!(manifest.forwards(dev).map(|forward| forward.local).collect::<Vec<_>>(), [3, 1]);
}

#[test]
fn variables_come_from_files_lists_and_maps() {
    let variables = |fields: &str, user: &[(&str, &str)]| {
        let disk = repository().with("/repo/b.env", "A=2\nB=file\nEMPTY=\nUSER_SET=\n");
        let text = format!("dev:\n  api: {fields}\n");
        let parsed = read_at("/repo/okteto.yml", &text, &disk, user);
        assert!(!parsed.problems.has_errors(), "{fields}\n{}", lines(&parsed));
        let dev = &parsed.manifest.unwrap().dev["api"];
        dev.environment.iter().map(|v| format!("{}={}", v.name, v.value)).collect::<Vec<_>>()
    };
    for (fields, expected) in [
        ("{environment: {B: 1, A: true, C: null, D: '${X:-y}'}}", vec!["A=true", "B=1", "C=", "D=y"]),
        (
            "{environment: ['A=b=c', 'B=', 'USER_SET', 'C=$USER_SET$$']}",
            vec!["A=b=c", "B=", "C=mine$", "USER_SET=mine"],
        ),
        ("{envFiles: .envfile}", vec!["A=1"]),
        ("{envFiles: [.envfile, b.env]}", vec!["A=2", "B=file", "USER_SET=mine"]),
        ("{envFiles: [b.env], environment: {B: own}}", vec!["A=2", "B=own", "USER_SET=mine"]),
    ] {
        assert_eq!(variables(fields, &[("USER_SET", "mine")]), expected, "{fields}");
    }
}

#[test]
fn the_pods_fields_are_typed() {
    let dev = dev("{name: real, selector: {app: x}, container: main, image: 'node:${V:-20}', \
         imagePullPolicy: IfNotPresent, resources: {requests: {cpu: 500m}, limits: {nvidia.com/gpu: 1, memory: 1Gi}}, \
         securityContext: {runAsUser: 1000, runAsNonRoot: yes, capabilities: {add: [SYS_PTRACE], drop: [ALL]}}, \
         nodeSelector: {disk: ssd}, affinity: {nodeAffinity: {x: [1, yes, '1']}}, \
         tolerations: [{key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 5}], \
         priorityClassName: high, serviceAccount: sa, metadata: {labels: [a=b], annotations: {c: d}}, \
         timeout: {default: 90, resources: 1.5h}, interface: '::1'}");
    assert_eq!(dev.workload, "real");
    assert_eq!(dev.name, "api");
    assert_eq!(dev.image.as_deref(), Some("node:20"));
    assert_eq!(dev.image_pull_policy, Some(PullPolicy::IfNotPresent));
    assert_eq!(dev.resources.requests["cpu"], "500m");
    assert_eq!(dev.resources.limits["nvidia.com/gpu"], "1");
    assert_eq!(dev.security_context.run_as_user, Some(1000));
    assert_eq!(dev.security_context.run_as_non_root, Some(true));
    let capabilities = Capabilities { add: vec!["SYS_PTRACE".to_owned()], drop: vec!["ALL".to_owned()] };
    assert_eq!(dev.security_context.capabilities, capabilities);
    assert_eq!(dev.affinity, Some(serde_json::json!({"nodeAffinity": {"x": [1, true, "1"]}})));
    assert_eq!(
        dev.tolerations,
        [Toleration {
            key: Some("a".to_owned()),
            operator: Some("Exists".to_owned()),
            value: None,
            effect: Some("NoExecute".to_owned()),
            toleration_seconds: Some(5),
        }]
    );
    assert_eq!((dev.metadata.labels["a"].as_str(), dev.metadata.annotations["c"].as_str()), ("b", "d"));
    assert_eq!(dev.timeout.default, Duration::from_secs(90));
    assert_eq!(dev.timeout.resources, Duration::from_mins(90));
    assert_eq!(dev.interface, IpAddr::V6(Ipv6Addr::LOCALHOST));
}

#[test]
fn probes_and_hooks_have_a_short_form() {
    let all = Probes { liveness: true, readiness: true, startup: true };
    for (fields, expected) in [
        ("{}", Probes::default()),
        ("{probes: true}", all),
        ("{probes: {readiness: true}}", Probes { readiness: true, ..Probes::default() }),
    ] {
        assert_eq!(dev(fields).probes, expected, "{fields}");
    }
    let on = Hook { enabled: true, command: None };
    let command = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
    for (fields, expected) in [
        ("{lifecycle: true}", Lifecycle { post_start: on.clone(), pre_stop: on.clone() }),
        ("{lifecycle: {preStop: true}}", Lifecycle { pre_stop: on.clone(), ..Lifecycle::default() }),
        (
            "{lifecycle: {postStart: {command: echo hi}}}",
            Lifecycle {
                post_start: Hook { enabled: true, command: command(&["sh", "-c", "echo hi"]) },
                pre_stop: Hook::default(),
            },
        ),
        (
            "{lifecycle: {preStop: {enabled: false, command: [a, b]}}}",
            Lifecycle {
                post_start: Hook::default(),
                pre_stop: Hook { enabled: false, command: command(&["a", "b"]) },
            },
        ),
    ] {
        assert_eq!(dev(fields).lifecycle, expected, "{fields}");
    }
}

#[test]
fn what_is_not_acted_on_is_named_once() {
    let parsed = read(
        "dev:\n  api:\n    sync: {folders: ['.:/app'], compression: false, verbose: true, rescanInterval: 60}\n    remote: 22000\n    autocreate: true\n    \
         sshServerPort: 3333\n    volumes: [/cache]\n    externalVolumes: ['pvc:sub:/d']\n    \
         persistentVolume: {size: 10Gi}\n    secrets: ['secret.txt:/etc/s:400']\n    \
         forward: [{localPort: 1, remotePort: 2, labels: {a: b}}]\n    timeout: 2m\n    \
         lifecycle: {postStart: {command: a}, preStop: {command: b}}\n    initContainer: {image: x}\n    services: [{name: worker, sync: ['.:/app'], replicas: 2}]\n",
    );
    assert_eq!(
        lines(&parsed),
        "okteto.yml:2:3: warning: `remote`, `sshServerPort` are read but not acted on yet (dev.api)\n"
    );
    let manifest = parsed.manifest.unwrap();
    let dev = &manifest.dev["api"];
    assert_eq!(dev.secrets[0].mode, 0o400);
    assert_eq!(dev.external_volumes[0].sub_path.as_deref(), Some("sub"));
    assert_eq!(dev.services[0].replicas, Some(2));
    assert_eq!(dev.services[0].workload, "worker");
}

#[test]
fn what_happens_anyway_needs_no_warning() {
    for fields in [
        "{sync: {folders: ['.:/app'], compression: true, verbose: false, rescanInterval: 300}}",
        "{timeout: {default: 1m, resources: 5m}}",
        "{lifecycle: {postStart: true}, interface: 127.0.0.2, persistentVolume: {enabled: false}}",
        "{mode: sync, autocreate: false, forward: ['1:db:2'], reverse: ['3:4'], volumes: []}",
    ] {
        let parsed = read(&format!("dev:\n  api: {fields}\n"));
        assert_eq!(lines(&parsed), "", "{fields}");
    }
}

#[test]
fn a_forward_of_the_whole_manifest_may_name_labels() {
    let parsed = read("forward: [{localPort: 1, remotePort: 2, labels: {a: b}}]\ndev:\n  api: {}\n");
    assert_eq!(lines(&parsed), "");
    let labels = [("a".to_owned(), "b".to_owned())].into();
    assert_eq!(parsed.manifest.unwrap().forward[0].target, ForwardTarget::Labels(labels));
}

#[test]
fn names_are_made_kubernetes_names() {
    let parsed = read("dev:\n  My_Api: {}\n");
    assert_eq!(
        lines(&parsed),
        "okteto.yml:2:3: warning: `My_Api` is not a Kubernetes name; it is called `my-api` (dev.My_Api)\n"
    );
    let manifest = parsed.manifest.unwrap();
    assert_eq!(manifest.dev("My_Api").unwrap().name, "my-api");
    assert_eq!(manifest.dev("my-api").unwrap().name, "my-api");
}

#[test]
fn an_unknown_service_is_told_the_nearest() {
    let manifest = manifest("dev:\n  frontend: {}\n  api: {}\n");
    let error = manifest.dev("fronted").unwrap_err();
    assert_eq!(error.to_string(), "the manifest has no dev service `fronted`");
    assert_eq!(error.nearest.as_deref(), Some("frontend"));
    assert_eq!(error.known, ["frontend", "api"]);
}

#[test]
fn aliases_and_merge_keys_work() {
    let manifest = manifest(
        "dev:\n  base: &base\n    sync: ['.:/app']\n    image: a\n    environment: &env {A: 1}\n  \
         api:\n    <<: *base\n    image: b\n  web:\n    sync: ['src:/web']\n    environment: *env\n",
    );
    assert_eq!(manifest.dev["api"].image.as_deref(), Some("b"));
    assert_eq!(manifest.dev["api"].sync.folders[0].remote, "/app");
    assert_eq!(manifest.dev["web"].environment[0].name, "A");
}

#[test]
fn hybrid_mode_runs_in_a_local_folder_and_has_no_use_for_the_containers() {
    let check = |fields: &str, folder: &str, command: &[&str], expected: &str| {
        let parsed = read(&format!("dev:\n  api:\n    mode: hybrid\n{fields}"));
        assert_eq!(lines(&parsed), expected, "{fields}");
        let manifest = parsed.manifest.unwrap();
        let dev = &manifest.dev["api"];
        assert_eq!(dev.mode, Mode::Hybrid { folder: folder.into() }, "{fields}");
        assert_eq!(dev.command_line(), command, "{fields}");
        assert_eq!((dev.sync.folders.len(), &dev.workdir), (0, &None), "{fields}");
    };
    check("", "/repo", &[], "");
    check("    command: yarn start\n", "/repo", &["sh", "-c", "yarn start"], "");
    check("    workdir: src\n", "/repo/src", &[], "");
    check(
        "    sync: ['.:/app']\n    image: node\n    resources: {limits: {cpu: 1}}\n",
        "/repo",
        &[],
        "okteto.yml:3:11: warning: `image`, `sync`, `resources` have no effect with `mode: hybrid` (dev.api.mode)\n",
    );
    let missing = read("dev:\n  api: {mode: hybrid, workdir: /usr/src/missing}\n");
    assert_eq!(
        lines(&missing),
        "okteto.yml:2:32: error: the local folder `/usr/src/missing` does not exist (dev.api.workdir)\n"
    );
}

#[test]
fn hybrid_mode_asks_first_and_sends_nothing() {
    let text = "dev:\n  api:\n    environment: [API_TOKEN]\n    command: x\n";
    let variables = &[("API_TOKEN", "t")];
    for (mode, sent) in [("sync", 1), ("hybrid", 0)] {
        let parsed =
            read_at("/repo/okteto.yml", &format!("{text}    mode: {mode}\n"), &repository(), variables);
        assert_eq!(parsed.sensitive.len(), sent, "{mode}");
        assert!(parsed.needs_consent(), "{mode}");
    }
    assert!(!read("dev:\n  api: {command: x}\n").needs_consent());
}
