//! What is found out from the manifest alone.

use insta::assert_snapshot;

use crate::environment;

const GOOD: &str = "dev:\n  web:\n    command: [sh]\n    sync:\n      - .:/app\n";
const BAD: &str = "dev:\n  web:\n    comand: [sh]\n    sync:\n      - nowhere:/app\n    forward:\n      - 8080\n  Web Shop: {}\n";

#[test]
fn a_good_manifest_is_valid() {
    let env = environment();
    env.write("okteto.yml", GOOD).write(".stignore", "*.log\n/target\n");
    assert_snapshot!(env.run(&["validate"]), @"
    exit 0
    --- stderr
    web: [TEMP]/project ↔ /app, 2 ignore rules of [TEMP]/project/.stignore
    [TEMP]/project/okteto.yml is valid
    ");
    assert_snapshot!(env.run(&["validate", "--output", "json"]), @r#"
    exit 0
    --- stdout
    {"file":"[TEMP]/project/okteto.yml","folders":[{"dev":"web","ignoreFiles":["[TEMP]/project/.stignore"],"local":"[TEMP]/project","remote":"/app","rules":2}],"kind":"validated","valid":true,"version":1}
    "#);
}

#[test]
fn every_problem_is_shown_at_its_place() {
    let env = environment();
    env.write("okteto.yml", BAD);
    assert_snapshot!(env.run(&["validate", "--output", "human"]), @r#"
    exit 1
    --- stderr
      × `comand` is not a field of a dev service
       ╭─[okteto.yml:3:5]
     2 │   web:
     3 │     comand: [sh]
       ·     ───┬──
       ·        ╰── dev.web.comand
     4 │     sync:
       ╰────
      help: did you mean `command`?
      × the local folder `[TEMP]/project/nowhere` does not exist
       ╭─[okteto.yml:5:9]
     4 │     sync:
     5 │       - nowhere:/app
       ·         ──────┬─────
       ·               ╰── dev.web.sync[0]
     6 │     forward:
       ╰────
      help: create it, or correct the path before the colon
      × `8080` is not a forward
       ╭─[okteto.yml:7:9]
     6 │     forward:
     7 │       - 8080
       ·         ──┬─
       ·           ╰── dev.web.forward[0]
     8 │   Web Shop: {}
       ╰────
      help: write localPort:remotePort, such as 8080:80, or localPort:service:remotePort
      ⚠ `Web Shop` is not a Kubernetes name; it is called `web-shop`
       ╭─[okteto.yml:8:3]
     7 │       - 8080
     8 │   Web Shop: {}
       ·   ────┬───
       ·       ╰── dev["Web Shop"]
       ╰────
    web-shop: [TEMP]/project ↔ /okteto, no .stignore
    "#);
    assert_snapshot!(env.run(&["validate", "--output", "plain"]), @r#"
    exit 1
    --- stderr
    okteto.yml:3:5: error: `comand` is not a field of a dev service (dev.web.comand)
    hint: did you mean `command`?
    okteto.yml:5:9: error: the local folder `[TEMP]/project/nowhere` does not exist (dev.web.sync[0])
    hint: create it, or correct the path before the colon
    okteto.yml:7:9: error: `8080` is not a forward (dev.web.forward[0])
    hint: write localPort:remotePort, such as 8080:80, or localPort:service:remotePort
    okteto.yml:8:3: warning: `Web Shop` is not a Kubernetes name; it is called `web-shop` (dev["Web Shop"])
    web-shop: [TEMP]/project ↔ /okteto, no .stignore
    "#);
    assert_snapshot!(env.run(&["validate", "--output", "json"]), @r#"
    exit 1
    --- stdout
    {"column":5,"excerpt":"    comand: [sh]","file":"okteto.yml","hint":"did you mean `command`?","kind":"problem","length":6,"line":3,"message":"`comand` is not a field of a dev service","path":"dev.web.comand","severity":"error","version":1}
    {"column":9,"excerpt":"      - nowhere:/app","file":"okteto.yml","hint":"create it, or correct the path before the colon","kind":"problem","length":12,"line":5,"message":"the local folder `[TEMP]/project/nowhere` does not exist","path":"dev.web.sync[0]","severity":"error","version":1}
    {"column":9,"excerpt":"      - 8080","file":"okteto.yml","hint":"write localPort:remotePort, such as 8080:80, or localPort:service:remotePort","kind":"problem","length":4,"line":7,"message":"`8080` is not a forward","path":"dev.web.forward[0]","severity":"error","version":1}
    {"column":3,"excerpt":"  Web Shop: {}","file":"okteto.yml","hint":null,"kind":"problem","length":8,"line":8,"message":"`Web Shop` is not a Kubernetes name; it is called `web-shop`","path":"dev[\"Web Shop\"]","severity":"warning","version":1}
    {"file":"[TEMP]/project/okteto.yml","folders":[{"dev":"web-shop","ignoreFiles":[],"local":"[TEMP]/project","remote":"/okteto","rules":0}],"kind":"validated","valid":false,"version":1}
    "#);
}

#[test]
fn a_manifest_of_a_repository_says_which_files_are_used() {
    let env = environment();
    env.write(".okteto/okteto.yml", GOOD).write(".okteto/.stignore", "*.log\n");
    assert_snapshot!(env.run(&["validate"]), @"
    exit 0
    --- stderr
    web: [TEMP]/project ↔ /app, 1 ignore rule of [TEMP]/project/.okteto/.stignore
    [TEMP]/project/.okteto/okteto.yml is valid
    ");
}

#[test]
fn without_a_manifest_nothing_is_guessed() {
    let mut env = environment();
    // Some kubeconfig is named, so that the embedded cluster's example is not meant.
    env.set("KUBECONFIG", "/nonexistent/kubeconfig");
    assert_snapshot!(env.run(&["up"]), @"
    exit 1
    --- stderr
    error: no manifest in [TEMP]/project or the folders above it
    hint: make an okteto.yml that fits: towline init
    hint: or name one: -f FILE
    ");
    assert_snapshot!(env.run(&["validate", "-f", "other.yml"]), @"
    exit 1
    --- stderr
    error: other.yml: No such file or directory (os error 2)
    hint: name a manifest that is there: -f FILE
    ");
}

#[test]
fn what_touches_this_machine_is_agreed_to_first() {
    let mut env = environment();
    env.set("API_TOKEN", "not-for-everyone");
    env.set("TOWLINE_CONTEXT", "embedded");
    let manifest = GOOD.to_owned() + "    environment:\n      TOKEN: ${API_TOKEN}\n";
    env.write("okteto.yml", &manifest);
    let refused = env.run(&["up", "--output", "plain"]);
    assert_snapshot!(refused, @"
    exit 1
    --- stderr
    error: [TEMP]/project/okteto.yml needs your agreement first; nothing was changed
    it wants to send your variable API_TOKEN into the cluster, in the clear (dev.web.environment.TOKEN)
    hint: to agree: towline up --trust-manifest [HASH]
    ");

    let output = env.command(&["up", "--output", "plain"]).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let hash = text
        .split("--trust-manifest ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .expect("a hash");
    // Agreed to once it goes on, to where an agent would be needed, and does not ask again.
    let agreed = env.run(&["up", "--output", "plain", "--trust-manifest", hash]);
    assert_snapshot!(agreed, @"
    exit 1
    --- stderr
    error: the embedded cluster needs an agent for this machine
    hint: name it: TOWLINE_AGENT=FILE
    ");
    assert!(!env.run(&["up", "--output", "plain"]).contains("agreement"));

    // Another manifest is asked about again, and the old agreement is not one for it.
    env.write("okteto.yml", &manifest.replace("TOKEN:", "OTHER:"));
    assert!(env.run(&["up", "--output", "plain", "--trust-manifest", hash]).contains("needs your agreement"));
    assert!(!env.run(&["up"]).contains("not-for-everyone"), "the value itself is never shown");
}

#[test]
fn a_command_of_the_repository_runs_here_only_once_it_was_agreed_to() {
    let mut env = environment();
    env.set("KUBECONFIG", "/nonexistent/kubeconfig");
    let manifest = "dev:\n  web:\n    mode: hybrid\n    image: node\n    command: touch ran\n";
    env.write("okteto.yml", manifest);
    let refused = env.run(&["up", "--output", "plain"]);
    let asked = "it wants to run `touch ran` on this machine with the workload's variables, and lead the workload's \
                 connections to the ports of this machine (dev.web.mode)";
    assert!(refused.starts_with("exit 1") && refused.contains(asked), "{refused}");
    assert!(refused.contains("`image` has no effect with `mode: hybrid`"), "{refused}");
    // The same manifest in the container needs no such thing.
    env.write("okteto.yml", &manifest.replace("hybrid", "sync"));
    let goes_on = env.run(&["up", "--output", "plain"]);
    assert!(!goes_on.contains("agreement"), "{goes_on}");
}

#[test]
fn a_file_is_named_with_or_without_a_flag() {
    let env = environment();
    env.write("other.yml", GOOD);
    assert_eq!(env.run(&["validate", "other.yml"]), env.run(&["validate", "-f", "other.yml"]));
    assert!(env.run(&["validate", "other.yml"]).contains("other.yml is valid"));
    assert!(env.run(&["validate", "other.yml", "-f", "other.yml"]).starts_with("exit 2"), "one of the two");
}

#[test]
fn a_compose_file_alone_is_no_manifest() {
    let mut env = environment();
    env.set("KUBECONFIG", "/nonexistent/kubeconfig");
    env.write("docker-compose.yml", "services: {}\n");
    assert_snapshot!(env.run(&["validate"]), @"
    exit 1
    --- stderr
    error: no manifest in [TEMP]/project or the folders above it
    hint: [TEMP]/project/docker-compose.yml says what to deploy, not what to develop on
    hint: make an okteto.yml that fits: towline init
    hint: or name one: -f FILE
    ");
}

const SHOWN: &str = "# ours\ndev:\n  Web_1:\n    image: shop:${TAG:-dev}\n    command: npm run dev\n    environment:\n      \
                     - USER_NAME\n      - LEVEL=${LOG_LEVEL}\n      - TOKEN=a-${API_TOKEN}\n    envFiles: vars.env\n    sync: [.:/app]\n";

/// Returns a project whose manifest takes something from everywhere.
fn project_with_variables() -> towline_testkit::TestEnv {
    let mut env = environment();
    env.set("API_TOKEN", "not-for-everyone");
    env.set("USER_NAME", "somebody");
    env.write("okteto.yml", SHOWN).write(".env", "LOG_LEVEL=debug\nUSER_NAME=nobody\n");
    env.write("vars.env", "DB_PASSWORD=hunter2\nPORT=8080\n");
    env
}

#[test]
fn the_effective_manifest_is_shown_and_no_credential() {
    let env = project_with_variables();
    assert_snapshot!(env.run(&["manifest", "show"]), @r#"
    exit 0
    --- stdout
    dev:
      web-1:
        image: shop:dev
        command:
          - sh
          - "-c"
          - npm run dev
        environment:
          DB_PASSWORD: "<DB_PASSWORD>"
          LEVEL: debug
          PORT: "8080"
          TOKEN: "<API_TOKEN>"
          USER_NAME: somebody
        envFiles:
          - vars.env
        sync:
          folders:
            - .:/app
          compression: true
          verbose: false
          rescanInterval: 300
        timeout:
          default: "60s"
          resources: "120s"
        interface: localhost
        mode: sync
    --- stderr
    okteto.yml:3:3: warning: `Web_1` is not a Kubernetes name; it is called `web-1` (dev.Web_1)
    "#);
    assert_snapshot!(env.run(&["manifest", "show", "--origin"]), @r#"
    exit 0
    --- stdout
    dev:
      web-1:
        image: shop:dev  # okteto.yml:4:12, TAG not taken
        command:
          - sh  # okteto.yml:5:14
          - "-c"  # okteto.yml:5:14
          - npm run dev  # okteto.yml:5:14
        environment:
          DB_PASSWORD: "<DB_PASSWORD>"  # [TEMP]/project/vars.env:1:1
          LEVEL: debug  # okteto.yml:8:9, LOG_LEVEL from [TEMP]/project/.env:1:1
          PORT: "8080"  # [TEMP]/project/vars.env:2:1
          TOKEN: "<API_TOKEN>"  # okteto.yml:9:9, API_TOKEN from your environment
          USER_NAME: somebody  # okteto.yml:7:9, USER_NAME from your environment
        envFiles:
          - vars.env  # okteto.yml:10:15
        sync:
          folders:
            - .:/app  # okteto.yml:11:12
          compression: true  # okteto.yml:11:11
          verbose: false  # okteto.yml:11:11
          rescanInterval: 300  # okteto.yml:11:11
        timeout:
          default: "60s"  # default
          resources: "120s"  # default
        interface: localhost  # default
        mode: sync  # default
    --- stderr
    okteto.yml:3:3: warning: `Web_1` is not a Kubernetes name; it is called `web-1` (dev.Web_1)
    "#);
    assert_snapshot!(env.run(&["manifest", "show", "--origin", "--output", "json"]), @r#"
    exit 0
    --- stdout
    {"column":3,"excerpt":"  Web_1:","file":"okteto.yml","hint":null,"kind":"problem","length":5,"line":3,"message":"`Web_1` is not a Kubernetes name; it is called `web-1`","path":"dev.Web_1","severity":"warning","version":1}
    {"file":"[TEMP]/project/okteto.yml","kind":"manifest","manifest":{"dev":{"web-1":{"command":["sh","-c","npm run dev"],"envFiles":["vars.env"],"environment":{"DB_PASSWORD":"<DB_PASSWORD>","LEVEL":"debug","PORT":"8080","TOKEN":"<API_TOKEN>","USER_NAME":"somebody"},"image":"shop:dev","interface":"localhost","mode":"sync","sync":{"compression":true,"folders":[".:/app"],"rescanInterval":300,"verbose":false},"timeout":{"default":"60s","resources":"120s"}}}},"origins":{"dev.web-1.command[0]":{"place":{"column":14,"file":"okteto.yml","line":5},"variables":[]},"dev.web-1.command[1]":{"place":{"column":14,"file":"okteto.yml","line":5},"variables":[]},"dev.web-1.command[2]":{"place":{"column":14,"file":"okteto.yml","line":5},"variables":[]},"dev.web-1.envFiles[0]":{"place":{"column":15,"file":"okteto.yml","line":10},"variables":[]},"dev.web-1.environment.DB_PASSWORD":{"place":{"column":1,"file":"[TEMP]/project/vars.env","line":1},"variables":[]},"dev.web-1.environment.LEVEL":{"place":{"column":9,"file":"okteto.yml","line":8},"variables":[{"from":"file","name":"LOG_LEVEL","place":{"column":1,"file":"[TEMP]/project/.env","line":1}}]},"dev.web-1.environment.PORT":{"place":{"column":1,"file":"[TEMP]/project/vars.env","line":2},"variables":[]},"dev.web-1.environment.TOKEN":{"place":{"column":9,"file":"okteto.yml","line":9},"variables":[{"from":"environment","name":"API_TOKEN"}]},"dev.web-1.environment.USER_NAME":{"place":{"column":9,"file":"okteto.yml","line":7},"variables":[{"from":"environment","name":"USER_NAME"}]},"dev.web-1.image":{"place":{"column":12,"file":"okteto.yml","line":4},"variables":[{"from":"default","name":"TAG"}]},"dev.web-1.interface":{"place":null,"variables":[]},"dev.web-1.mode":{"place":null,"variables":[]},"dev.web-1.sync.compression":{"place":{"column":11,"file":"okteto.yml","line":11},"variables":[]},"dev.web-1.sync.folders[0]":{"place":{"column":12,"file":"okteto.yml","line":11},"variables":[]},"dev.web-1.sync.rescanInterval":{"place":{"column":11,"file":"okteto.yml","line":11},"variables":[]},"dev.web-1.sync.verbose":{"place":{"column":11,"file":"okteto.yml","line":11},"variables":[]},"dev.web-1.timeout.default":{"place":null,"variables":[]},"dev.web-1.timeout.resources":{"place":null,"variables":[]}},"version":1}
    "#);
    // What is shown is a manifest itself.
    let report = env.run(&["manifest", "show"]);
    let text =
        report.split("--- stdout\n").nth(1).and_then(|rest| rest.split("--- stderr").next()).expect("data");
    env.write("again.yml", text);
    assert!(env.run(&["validate", "again.yml"]).starts_with("exit 0"));
}

#[test]
fn credentials_that_others_could_read_are_named() {
    let env = project_with_variables();
    assert_snapshot!(env.run(&["validate", "--output", "plain"]), @"
    exit 0
    --- stderr
    okteto.yml:3:3: warning: `Web_1` is not a Kubernetes name; it is called `web-1` (dev.Web_1)
    okteto.yml:9:17: warning: the value of `API_TOKEN`, which looks like a credential, goes into the cluster in the clear (dev.Web_1.environment[2])
    hint: let the workload take it from a Secret
    web-1: [TEMP]/project ↔ /app, no .stignore
    [TEMP]/project/okteto.yml is valid
    ");
}

#[test]
fn what_is_broken_is_not_shown() {
    let env = environment();
    env.write("okteto.yml", BAD);
    let report = env.run(&["manifest", "show", "--output", "plain"]);
    assert!(report.starts_with("exit 1\n--- stderr\n") && report.contains("comand"), "{report}");
}

#[test]
fn the_schema_is_the_one_of_the_documentation() {
    let report = environment().run(&["manifest", "schema"]);
    let committed = include_str!("../../../../docs/manifest.schema.json");
    assert_eq!(report.trim_end(), format!("exit 0\n--- stdout\n{}", committed.trim_end()));
}

#[test]
fn warnings_of_what_is_not_run_are_for_validate_alone() {
    let env = environment();
    let text = GOOD.to_owned() + "build: {web: {context: '$NOBODY'}}\n";
    env.write("okteto.yml", &text);
    let words = "the variable `NOBODY` is not set";
    assert!(env.run(&["validate", "--output", "plain"]).contains(words));
    assert!(!env.run(&["up", "--output", "plain", "--context", "embedded"]).contains(words));
}

/// The manifests that Okteto's own parser and schema were asked about, as a user sees them validated.
#[test]
fn the_corpus_is_validated() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifest/tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(corpus)
        .expect("it is there")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.strip_suffix(".yml").is_some())
        .collect();
    files.sort();
    assert_eq!(files.len(), 53);
    let env = environment();
    env.write("src/main.js", "")
        .write("sub/dir/x", "")
        .write("secret.txt", "hello\n")
        .write(".envfile", "A=1\n");
    let mut all = String::new();
    for file in files {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifest/tests/corpus").join(&file);
        env.write(&file, &std::fs::read_to_string(path).expect("it is there"));
        let report = env.run(&["validate", &file, "--output", "plain"]);
        all.extend([&file, ": ", report.trim_end(), "\n"]);
    }
    assert_snapshot!(all);
}
