//! What the sections mean that are not about development, and the layouts that older projects have.

use std::path::Path;

use towline_manifest::{BuildSecret, Divert, VariableSource};

use crate::disk::{lines, manifest, read, read_at, repository};

#[test]
fn a_build_is_a_folder_or_fields() {
    let manifest = manifest(
        "build:\n  api: src\n  My_Web:\n    context: web\n    dockerfile: Dev.${KIND:-dev}\n    target: t\n    image: i\n    \
         args: [A=1, 'B=${X:-2}']\n    secrets: {one: secret.txt, two: {env: NPM_TOKEN}, three: {file: f}}\n    \
         cache_from: a\n    export_cache: [b, c]\n    depends_on: api\n",
    );
    assert_eq!(
        (manifest.build["api"].context.as_str(), manifest.build["api"].dockerfile.as_str()),
        ("src", "Dockerfile")
    );
    let web = &manifest.build["my-web"];
    assert_eq!(web.dockerfile, "Dev.dev");
    assert_eq!(
        web.args.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        ["A=1", "B=2"]
    );
    assert_eq!(web.secrets["one"], BuildSecret::File("secret.txt".to_owned()));
    assert_eq!(web.secrets["two"], BuildSecret::Variable("NPM_TOKEN".to_owned()));
    assert_eq!(
        (web.cache_from.len(), web.export_cache.len(), &web.depends_on),
        (1, 2, &vec!["api".to_owned()])
    );
}

#[test]
fn a_deployment_is_a_list_or_fields() {
    let of = |text: &str| manifest(&format!("deploy: {text}\n")).deploy.unwrap();
    let commands =
        |text: &str| of(text).commands.into_iter().map(|one| (one.name, one.command)).collect::<Vec<_>>();
    assert_eq!(
        commands("[make, {name: all, command: make all}]"),
        [("make".to_owned(), "make".to_owned()), ("all".to_owned(), "make all".to_owned()),]
    );
    assert_eq!(commands("{commands: [a]}").len(), 1);
    for (compose, files) in [
        ("compose.yml", vec!["compose.yml"]),
        ("[a.yml, {file: b.yml, services: [db]}]", vec!["a.yml", "b.yml"]),
        ("{file: a.yml, services: [db]}", vec!["a.yml"]),
        (
            "{manifest: [a.yml, b.yml], endpoints: [{path: /, service: web, port: 80}]}",
            vec!["a.yml", "b.yml"],
        ),
    ] {
        let found = of(&format!("{{compose: {compose}}}")).compose.unwrap();
        assert_eq!(found.files.iter().map(|file| file.file.as_str()).collect::<Vec<_>>(), files, "{compose}");
    }
    let named =
        of("{endpoints: {web: [{path: /, service: web, port: 80}], api: {labels: {a: b}, rules: []}}}");
    assert_eq!(named.endpoints.keys().collect::<Vec<_>>(), ["api", "web"]);
    assert_eq!(
        of("{divert: {namespace: staging}}").divert,
        Some(Divert::Nginx { namespace: "staging".to_owned() })
    );
    let istio = of(
        "{divert: {driver: istio, virtualServices: [{name: a, namespace: b, routes: [c]}], hosts: [{virtualService: a, namespace: b}]}}",
    );
    assert!(
        matches!(istio.divert, Some(Divert::Istio { virtual_services, hosts }) if virtual_services.len() == 1 && hosts.len() == 1)
    );
}

#[test]
fn tests_dependencies_and_what_is_elsewhere_are_typed() {
    let manifest = manifest(
        "icon: database\ndestroy: {image: i, remote: true, commands: [x]}\ntest:\n  unit:\n    commands: [a]\n    artifacts: [cov, {path: a, destination: b}]\n    \
         hosts: ['db:10.0.0.1', {hostname: x, ip: y}]\n    skipIfNoFileChanges: true\n    depends_on: [lint]\n  lint: {commands: [{name: n, command: c}]}\n\
         dependencies: {base: {repository: r, wait: true, timeout: 1m30s, variables: {A: 1}}, short: https://example.com/a/b}\n\
         external: {db: {icon: database, notes: n.md, endpoints: [{name: a, url: 'http://x'}]}}\n",
    );
    let unit = &manifest.test["unit"];
    assert_eq!(
        (
            unit.context.as_str(),
            unit.artifacts[0].destination.as_str(),
            unit.artifacts[1].destination.as_str()
        ),
        (".", "cov", "b")
    );
    assert_eq!((unit.hosts[0].address.as_str(), unit.hosts[1].name.as_str()), ("10.0.0.1", "x"));
    assert_eq!(manifest.dependencies["base"].timeout.map(|timeout| timeout.as_secs()), Some(90));
    assert_eq!(manifest.dependencies["short"].repository, "https://example.com/a/b");
    assert_eq!(manifest.external["db"].endpoints[0].url, "http://x");
    let listed = crate::disk::manifest("dependencies: ['https://example.com/team/movies.git']\n");
    assert_eq!(listed.dependencies.keys().collect::<Vec<_>>(), ["movies"]);
}

#[test]
fn mistakes_in_sections_have_their_place() {
    let mut all = String::new();
    for text in [
        "build: {api: }",
        "build: {api: {contxt: .}}",
        "build: {api: {secrets: {a: {file: x, env: y}, b: {}}}}",
        "build: {a: {depends_on: b}, b: {depends_on: [c]}, c: {depends_on: a}, d: {depends_on: a}}",
        "build: {a: {depends_on: a}, web: {depends_on: [wbe]}}",
        "build: {a_b: ., a-b: .}",
        "deploy: {comands: [x]}",
        "deploy: {divert: {}}",
        "deploy: {divert: {driver: istio, namespace: x}}",
        "deploy: {divert: {driver: linkerd}}",
        "deploy: {endpoints: [{path: /, service: a}]}",
        "deploy: [{name: x}]",
        "deploy: [~, '']",
        "test: {unit: {image: x}}",
        "test: {unit: {commands: []}}",
        "test: {unit: {commands: [a], hosts: ['db', ':1', {hostname: a}]}}",
        "dependencies: [movies]",
        "dependencies: {a: {branch: main}, b: }",
        "dependencies: {a: {repository: r, timeout: soon}}",
        "external: {db: {endpoints: []}}",
        "external: {db: {endpoints: [{url: a}, {url: b}, {name: c}]}}",
        "external: {db: }",
        "forward: [{localPort: 1, remotePort: 2, name: 'no name'}]",
    ] {
        all.extend([text, "\n"]);
        for line in lines(&read(&format!("{text}\n"))).lines() {
            all.extend(["    ", line.trim_start_matches("okteto.yml:"), "\n"]);
        }
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_manifest_of_version_one_is_one_dev_service() {
    let text = "name: my-api\nimage: node\ncommand: npm start\nsync: [src:/app]\nlabels: {app: x}\nannotations: {a: b}\n\
                healthchecks: true\nforward: [8080:80]\nservices: [{labels: {app: y}, sync: [src:/app]}]\n";
    let manifest = manifest(text);
    let dev = manifest.dev("my-api").unwrap();
    assert_eq!(
        (dev.command_line().len(), dev.selector["app"].as_str(), dev.metadata.annotations["a"].as_str()),
        (3, "x", "b")
    );
    assert!(dev.probes.liveness && dev.probes.readiness && dev.probes.startup);
    assert_eq!(dev.services[0].selector["app"], "y");
    let told = read("name: a\nsync: [.:/app]\nnamespace: x\npush: {image: y}\n");
    assert_eq!(
        lines(&told),
        "okteto.yml:1:1: warning: `push` is read but not acted on yet\n\
         okteto.yml:3:12: warning: `namespace` is not taken from the manifest (namespace)\n"
    );
    let nameless = read("image: node\nsinc: [.:/app]\n");
    assert_eq!(
        lines(&nameless),
        "okteto.yml:1:1: error: a manifest of version 1 needs `name`\n\
         okteto.yml:2:1: error: `sinc` is not a field of a manifest of version 1 (sinc)\n"
    );
}

#[test]
fn other_manifests_give_their_dev_services() {
    let disk = repository().with("/repo/api/okteto.yml", "name: api\nsync: [.:/api]\n").with(
        "/repo/web/okteto.yml",
        "dev: {web: {image: '$TAG', sync: ['.:/web']}}\ndevs: [../okteto.yml]\n",
    );
    let text = "deploy: [x]\ndevs: [api/okteto.yml, web/okteto.yml]\n";
    let parsed = read_at("/repo/okteto-pipeline.yml", text, &disk, &[("TAG", "x:1")]);
    assert_eq!(lines(&parsed), "");
    let folders = |name: &str| parsed.manifest.as_ref().unwrap().dev[name].sync.folders[0].local.clone();
    assert_eq!(
        (folders("api").as_path(), folders("web").as_path()),
        (Path::new("/repo/api"), Path::new("/repo/web"))
    );
    assert_ne!(
        parsed.trust_hash,
        read_at("/repo/okteto-pipeline.yml", "deploy: [x]\n", &disk, &[]).trust_hash
    );
    let origins = parsed.origins();
    assert_eq!(origins["dev.web.image"].place.as_ref().unwrap().file, "/repo/web/okteto.yml");
    assert_eq!(origins["dev.api.sync.folders[0]"].place.as_ref().unwrap().line, 2);
    assert_eq!(origins["deploy.commands[0]"].place.as_ref().unwrap().file, "okteto.yml");

    let twice =
        read_at("/repo/okteto.yml", "devs: [web/okteto.yml, web/okteto.yml, none.yml, src]\n", &disk, &[]);
    insta::assert_snapshot!(lines(&twice), @"
    okteto.yml:1:40: error: there is no manifest `/repo/none.yml` (devs[2])
    okteto.yml:1:50: error: `/repo/src` is a folder, not a manifest (devs[3])
    /repo/web/okteto.yml:1:7: error: another dev service is called `web` already, in dev.web (dev.web)
    /repo/web/okteto.yml:1:21: warning: the variable `TAG` is not set, so nothing stands here (dev.web.image)
    ");
    let ignored = read_at("/repo/okteto.yml", "dev: [none.yml, api/okteto.yml]\n", &disk, &[]);
    assert!(!ignored.problems.has_errors(), "{}", lines(&ignored));
    assert_eq!(ignored.manifest.unwrap().dev.keys().collect::<Vec<_>>(), ["api"]);
}

#[test]
fn variables_of_the_env_file_stand_in_for_those_that_are_not_set() {
    let disk = repository()
        .with("/repo/.env", "TAG=from-file\nUSER=file\nTOKEN=secret\nBASE=${USER}-x\nnot a line\n");
    let text = "dev:\n  api:\n    image: a:${TAG}\n    environment: ['A=$USER', 'B=$BASE', TOKEN, 'C=${NOPE:-$TAG}']\n";
    let parsed = read_at("/repo/.okteto/okteto.yml", text, &disk, &[("USER", "me")]);
    assert_eq!(lines(&parsed), "/repo/.env:5:1: warning: expected `=` after `not`\n");
    let dev = &parsed.manifest.as_ref().unwrap().dev["api"];
    assert_eq!(dev.image.as_deref(), Some("a:from-file"));
    let values: Vec<_> = dev.environment.iter().map(|variable| variable.value.as_str()).collect();
    assert_eq!(values, ["me", "me-x", "from-file", "secret"]);
    assert_eq!(parsed.sensitive.len(), 1, "a credential is one wherever it comes from");
    assert_eq!(parsed.disclosures.len(), 1);
    let origins = parsed.origins();
    let sources =
        |path: &str| origins[path].variables.iter().map(|used| used.source.clone()).collect::<Vec<_>>();
    assert_eq!(sources("dev.api.environment.A"), [VariableSource::Environment]);
    let [VariableSource::File(place)] = &sources("dev.api.image")[..] else { panic!("of the file") };
    assert_eq!((place.file.as_str(), place.line, place.column), ("/repo/.env", 1, 1));
    assert!(matches!(
        sources("dev.api.environment.C")[..],
        [VariableSource::Default, VariableSource::File(_)]
    ));
    assert!(origins["dev.api.timeout.default"].place.is_none());
}

#[test]
fn what_is_not_expanded_stays() {
    let parsed = read_at(
        "/repo/okteto.yml",
        "dev:\n  api: {command: echo $A, nodeSelector: {a: $A}, workdir: /$A, serviceAccount: $A, selector: {a: $A}}\n",
        &repository(),
        &[("A", "x")],
    );
    let dev = &parsed.manifest.unwrap().dev["api"];
    assert_eq!(
        (dev.command[2].as_str(), dev.node_selector["a"].as_str(), dev.selector["a"].as_str()),
        ("echo $A", "$A", "x")
    );
    assert_eq!((dev.workdir.as_deref(), dev.service_account.as_deref()), (Some("/$A"), Some("$A")));
}

#[test]
fn what_costs_more_than_its_text_is_bounded() {
    let many =
        |count: usize, part: &str| (0..count).map(|n| part.replace('#', &n.to_string())).collect::<String>();
    for text in [
        format!("dev: {{{}}}\n", many(20_000, "a#: {}, ")),
        format!("dev: {{api: {{services: [{}]}}}}\n", many(20_000, "{name: a#}, ")),
        format!("devs: [{}]\n", many(20_000, "a#, ")),
        format!("build: {{{}}}\n", many(10_000, "a#: {depends_on: b#}, ")),
        format!("build: {{{}z: {{depends_on: a0}}}}\n", many(5_000, "a#: {depends_on: [z]}, ")),
        format!("forward: [{}]\ndev: {{{}}}\n", many(10_000, "'1#:a:1', "), many(1_000, "a#: {}, ")),
    ] {
        let parsed = read(&text);
        assert!(parsed.problems.len() <= 400);
    }
}
