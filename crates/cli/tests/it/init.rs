//! `towline init` in repositories of every kind.

use std::fs;

use insta::assert_snapshot;
use towline_testkit::TestEnv;

use crate::environment;

fn read(env: &TestEnv, path: &str) -> String {
    fs::read_to_string(env.project().join(path)).expect("it is there")
}

/// Returns what `init --dry-run` shows in a repository with these files.
fn shown(files: &[(&str, &str)]) -> String {
    let env = environment();
    for (path, text) in files {
        env.write(path, text);
    }
    let report = env.run(&["init", "--dry-run", "--no-cluster", "--output", "plain"]);
    assert!(report.starts_with("exit 0"), "{report}");
    assert!(!env.project().join("okteto.yml").exists(), "a dry run writes nothing");
    report
}

/// Returns the manifest alone, of what is shown.
fn manifest(files: &[(&str, &str)]) -> String {
    let report = shown(files);
    let text = report.split("dev:\n").nth(1).expect("a manifest");
    text.split("\n\n").next().unwrap_or_default().to_owned()
}

#[test]
fn every_language_has_its_image_and_command() {
    let mut all = String::new();
    for (what, files) in [
        ("npm", &[("package.json", r#"{"scripts": {"dev": "vite"}}"#), ("package-lock.json", "{}")][..]),
        (
            "pnpm",
            &[
                ("package.json", r#"{"engines": {"node": ">=20"}, "scripts": {"start": "node ."}}"#),
                ("pnpm-lock.yaml", ""),
            ],
        ),
        (
            "yarn",
            &[
                ("package.json", r#"{"scripts": {"start:dev": "nest start --watch"}}"#),
                ("yarn.lock", ""),
                (".nvmrc", "v22.3\n"),
            ],
        ),
        ("Django", &[("manage.py", ""), ("requirements.txt", "django\n"), (".python-version", "3.12\n")]),
        (
            "FastAPI with uv",
            &[("pyproject.toml", "dependencies = [\"fastapi\"]\n"), ("uv.lock", ""), ("app/main.py", "")],
        ),
        ("Go", &[("go.mod", "module example.com/shop\n\ngo 1.24.2\n"), ("cmd/shop/main.go", "")]),
        ("Rust", &[("Cargo.toml", "[package]\n"), ("src/main.rs", "")]),
        ("Maven", &[("pom.xml", "<artifactId>spring-boot-starter</artifactId>"), ("mvnw", "")]),
        ("Gradle", &[("build.gradle.kts", "plugins { id(\"org.springframework.boot\") }"), ("gradlew", "")]),
        ("Rails", &[("Gemfile", ""), ("package.json", "{}"), ("bin/rails", "")]),
        ("Laravel", &[("composer.json", "{}"), ("artisan", "")]),
        (".NET", &[("Shop.csproj", "")]),
        ("nothing", &[("README", "")]),
    ] {
        all.extend(["# ", what, "\n", &manifest(files), "\n"]);
    }
    assert_snapshot!(all);
}

#[test]
fn a_dockerfile_says_more_than_the_language() {
    let docker = "ARG BASE=x\nFROM ${BASE} AS base\nFROM --platform=linux/amd64 node:20-slim AS build\nWORKDIR /srv/shop\n\
                  FROM nginx:1\nEXPOSE 80 3000/tcp\n";
    assert_snapshot!(manifest(&[("package.json", r#"{"scripts": {"dev": "x"}}"#), ("Dockerfile", docker)]), @r#"
    project:
      image: node:20-slim
      workdir: /srv/shop
      command: npm install && npm run dev
      sync:
        - .:/srv/shop
      forward:
        - "8080:80"
        - "3000:3000"
    "#);
}

#[test]
fn a_workspace_is_synced_whole_and_each_app_is_a_service() {
    assert_snapshot!(shown(&[
        ("package.json", r#"{"name": "shop"}"#),
        ("pnpm-workspace.yaml", "packages: [apps/*, packages/*]\n"),
        ("apps/web/package.json", r#"{"name": "@shop/web", "scripts": {"dev": "next dev"}}"#),
        ("apps/api/package.json", r#"{"name": "@shop/api", "scripts": {"dev": "tsx watch"}}"#),
        ("apps/api/Dockerfile", "FROM node:22\nEXPOSE 8080\n"),
        ("packages/ui/package.json", r#"{"name": "@shop/ui"}"#),
        ("node_modules/x/package.json", r#"{"scripts": {"dev": "x"}}"#),
    ]), @r#"
    exit 0
    --- stdout
    # [TEMP]/project/okteto.yml
    # What `towline up` does, for each service. All fields: towline manifest schema
    dev:
      api:
        image: node:22
        workdir: /app
        command: corepack pnpm install && corepack pnpm --filter ./apps/api run dev
        sync:
          - .:/app
        forward:
          - "8080:8080"
      web:
        image: node:22
        workdir: /app
        command: corepack pnpm install && corepack pnpm --filter ./apps/web run dev
        sync:
          - .:/app
        forward:
          - "3000:3000"

    # [TEMP]/project/.stignore
    // What is not synced: one pattern a line, as Syncthing has them. The first that matches decides.

    // version control and editors
    .git
    .DS_Store
    *.swp
    *~
    .idea
    .vscode

    // Node
    node_modules
    .next
    .nuxt
    .svelte-kit
    .turbo
    .parcel-cache
    .cache
    dist
    coverage
    *.tsbuildinfo
    npm-debug.log*
    yarn-error.log
    .yarn/cache
    .pnpm-store

    --- stderr
    apps/api: Node with pnpm, a Dockerfile, part of a workspace
    apps/web: Node with pnpm, part of a workspace
    [TEMP]/project/okteto.yml would be written
    [TEMP]/project/.stignore would be written
    "#);
}

#[test]
fn projects_side_by_side_are_synced_each_by_itself() {
    assert_snapshot!(shown(&[
        ("services/orders/go.mod", "module orders\n\ngo 1.25\n"),
        ("services/orders/main.go", ""),
        ("services/mail/requirements.txt", "flask\n"),
    ]), @r#"
    exit 0
    --- stdout
    # [TEMP]/project/okteto.yml
    # What `towline up` does, for each service. All fields: towline manifest schema
    dev:
      mail:
        image: python:3.13
        workdir: /app
        command: pip install -r requirements.txt && flask run --debug --host 0.0.0.0
        sync:
          - services/mail:/app
        forward:
          - "5000:5000"
      orders:
        image: golang:1.25
        workdir: /app
        command: go run .
        sync:
          - services/orders:/app

    # [TEMP]/project/services/mail/.stignore
    // What is not synced: one pattern a line, as Syncthing has them. The first that matches decides.

    // version control and editors
    .git
    .DS_Store
    *.swp
    *~
    .idea
    .vscode

    // Python
    __pycache__
    *.py[cod]
    .venv
    venv
    .tox
    .nox
    .mypy_cache
    .pytest_cache
    .ruff_cache
    *.egg-info
    .coverage
    htmlcov

    # [TEMP]/project/services/orders/.stignore
    // What is not synced: one pattern a line, as Syncthing has them. The first that matches decides.

    // version control and editors
    .git
    .DS_Store
    *.swp
    *~
    .idea
    .vscode

    // Go
    /bin
    *.test
    *.prof
    *.out

    --- stderr
    services/mail: Python with pip
    services/orders: Go
    [TEMP]/project/okteto.yml would be written
    [TEMP]/project/services/mail/.stignore would be written
    [TEMP]/project/services/orders/.stignore would be written
    "#);
}

#[test]
fn flags_alone_are_enough_and_nothing_is_overwritten_unasked() {
    let env = environment();
    let init = |more: &[&str]| {
        let mut words =
            vec!["init", "--no-cluster", "--output", "plain", "--name", "api", "--image", "busybox"];
        words.extend(more);
        env.run(&words)
    };
    assert_snapshot!(init(&[]), @"
    exit 1
    --- stdout
    # [TEMP]/project/okteto.yml
    # What `towline up` does, for each service. All fields: towline manifest schema
    dev:
      api:
        image: busybox
        workdir: /app
        command: bash
        sync:
          - .:/app

    # [TEMP]/project/.stignore
    // What is not synced: one pattern a line, as Syncthing has them. The first that matches decides.

    // version control and editors
    .git
    .DS_Store
    *.swp
    *~
    .idea
    .vscode

    --- stderr
    no language is known here: say what to run with --image and --command
    [TEMP]/project/okteto.yml would be written
    [TEMP]/project/.stignore would be written
    error: nobody can be asked here; nothing was written
    hint: to write without a question: towline init --yes
    hint: to see no more than what it would be: towline init --dry-run
    ");
    assert_snapshot!(init(&["--yes", "--command", "sleep 1d", "--workdir", "/srv", "--forward", "8080:80"]), @r#"
    exit 0
    --- stdout
    # [TEMP]/project/okteto.yml
    # What `towline up` does, for each service. All fields: towline manifest schema
    dev:
      api:
        image: busybox
        workdir: /srv
        command: sleep 1d
        sync:
          - .:/srv
        forward:
          - "8080:80"

    # [TEMP]/project/.stignore
    // What is not synced: one pattern a line, as Syncthing has them. The first that matches decides.

    // version control and editors
    .git
    .DS_Store
    *.swp
    *~
    .idea
    .vscode

    --- stderr
    no language is known here: say what to run with --image and --command
    [TEMP]/project/okteto.yml would be written
    [TEMP]/project/.stignore would be written
    [TEMP]/project/okteto.yml is written
    [TEMP]/project/.stignore is written
    "#);
    assert_snapshot!(env.run(&["validate"]), @"
    exit 0
    --- stderr
    api: [TEMP]/project ↔ /srv, 6 ignore rules of [TEMP]/project/.stignore
    [TEMP]/project/okteto.yml is valid
    ");
    assert_snapshot!(init(&["--yes"]), @"
    exit 1
    --- stderr
    no language is known here: say what to run with --image and --command
    [TEMP]/project/okteto.yml is there and stays as it is
    [TEMP]/project/.stignore is there and stays as it is
    error: [TEMP]/project/okteto.yml is there already; nothing was written
    hint: to write it anew: towline init --force
    hint: to see what it would be: towline init --dry-run
    ");
    env.write(".stignore", "mine\n");
    assert!(init(&["--yes", "--force"]).starts_with("exit 0"));
    assert!(read(&env, "okteto.yml").contains("image: busybox\n    workdir: /app\n    command: bash\n"));
}

#[test]
fn an_own_ignore_file_stays() {
    let env = environment();
    env.write(".stignore", "mine\n").write("go.mod", "module x\n");
    let report = env.run(&["init", "--yes", "--no-cluster", "--output", "plain"]);
    assert!(report.contains(".stignore is there and stays as it is"), "{report}");
    assert_eq!(read(&env, ".stignore"), "mine\n");
    assert!(read(&env, "okteto.yml").contains("golang:"));
}

#[test]
fn a_flag_that_makes_no_sense_is_found_out_before() {
    let env = environment();
    assert_snapshot!(env.run(&["init", "--yes", "--no-cluster", "--output", "plain", "--name", "api", "--workdir", "app"]), @r#"
    exit 2
    --- stderr
    no language is known here: say what to run with --image and --command
    error: the remote path `app` is not absolute (dev.api.workdir)
    # What `towline up` does, for each service. All fields: towline manifest schema
    dev:
      api:
        workdir: app
        command: bash
        sync:
          - ".:app"

    hint: the working directory is named by a path such as /app
    "#);
}

#[test]
fn a_manifest_of_any_name_is_one_that_is_there() {
    let env = environment();
    env.write(".okteto/okteto.yaml", "dev: {}\n");
    let report = env.run(&["init", "--yes", "--no-cluster", "--output", "plain"]);
    assert!(report.contains(".okteto/okteto.yaml is there already; nothing was written"), "{report}");
}

#[test]
fn what_is_written_is_data_too() {
    let env = environment();
    env.write("go.mod", "module x\n\ngo 1.25\n").write("main.go", "");
    assert_snapshot!(env.run(&["init", "--yes", "--no-cluster", "--output", "json"]), @r##"
    exit 0
    --- stdout
    {"files":[{"path":"[TEMP]/project/okteto.yml","text":"# What `towline up` does, for each service. All fields: towline manifest schema\ndev:\n  project:\n    image: golang:1.25\n    workdir: /app\n    command: go run .\n    sync:\n      - .:/app\n"},{"path":"[TEMP]/project/.stignore","text":"// What is not synced: one pattern a line, as Syncthing has them. The first that matches decides.\n\n// version control and editors\n.git\n.DS_Store\n*.swp\n*~\n.idea\n.vscode\n\n// Go\n/bin\n*.test\n*.prof\n*.out\n"}],"findings":[".: Go"],"kept":[],"kind":"init","version":1,"written":true}
    --- stderr
    .: Go
    [TEMP]/project/okteto.yml would be written
    [TEMP]/project/.stignore would be written
    [TEMP]/project/okteto.yml is written
    [TEMP]/project/.stignore is written
    "##);
    assert!(env.run(&["validate"]).contains("project/okteto.yml is valid"));
}
