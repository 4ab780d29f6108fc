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
    {"column":5,"file":"okteto.yml","hint":"did you mean `command`?","kind":"problem","line":3,"message":"`comand` is not a field of a dev service","path":"dev.web.comand","severity":"error","version":1}
    {"column":9,"file":"okteto.yml","hint":"create it, or correct the path before the colon","kind":"problem","line":5,"message":"the local folder `[TEMP]/project/nowhere` does not exist","path":"dev.web.sync[0]","severity":"error","version":1}
    {"column":9,"file":"okteto.yml","hint":"write localPort:remotePort, such as 8080:80, or localPort:service:remotePort","kind":"problem","line":7,"message":"`8080` is not a forward","path":"dev.web.forward[0]","severity":"error","version":1}
    {"column":3,"file":"okteto.yml","hint":null,"kind":"problem","line":8,"message":"`Web Shop` is not a Kubernetes name; it is called `web-shop`","path":"dev[\"Web Shop\"]","severity":"warning","version":1}
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
    hint: write an okteto.yml there, or name one: -f FILE
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
