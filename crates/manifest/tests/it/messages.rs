//! What is said about a bad manifest, and how it is shown.

use miette::{GraphicalReportHandler, GraphicalTheme};

use crate::disk::{lines, read, read_at, repository};

/// Returns each problem with its excerpt, as a terminal without colours shows it.
fn rendered(text: &str) -> String {
    shown(text, GraphicalTheme::none())
}

/// Returns each problem with its excerpt, as a terminal with lines to draw shows it.
fn drawn(text: &str) -> String {
    shown(text, GraphicalTheme::unicode_nocolor())
}

fn shown(text: &str, theme: GraphicalTheme) -> String {
    let handler = GraphicalReportHandler::new_themed(theme).with_width(100).with_links(false);
    let mut out = String::new();
    for problem in &read(text).problems {
        handler.render_report(&mut out, problem).unwrap();
    }
    out
}

#[test]
fn all_problems_are_told_at_once_with_their_places() {
    insta::assert_snapshot!(rendered("dev:\n  api:\n    sinc: [.:/app]\n    image: a\n    image: b\n    forward: [80]\n    sync:\n      - nope:/app\n"), @r"
     x `sinc` is not a field of a dev service
      ,-[okteto.yml:3:5]
    2 |   api:
    3 |     sinc: [.:/app]
      :     ^^|^
      :       `-- dev.api.sinc
    4 |     image: a
      `----
     help: did you mean `sync`?
     x the key `image` is given twice
      ,-[okteto.yml:5:5]
    4 |     image: a
    5 |     image: b
      :     ^^|^^
      :       `-- dev.api.image
    6 |     forward: [80]
      `----
     help: keep one of them: the first is on line 4
     x `80` is not a forward
      ,-[okteto.yml:6:15]
    5 |     image: b
    6 |     forward: [80]
      :               ^|
      :                `-- dev.api.forward[0]
    7 |     sync:
      `----
     help: write localPort:remotePort, such as 8080:80, or localPort:service:remotePort
     x the local folder `/repo/nope` does not exist
      ,-[okteto.yml:8:9]
    7 |     sync:
    8 |       - nope:/app
      :         ^^^^|^^^^
      :             `-- dev.api.sync[0]
      `----
     help: create it, or correct the path before the colon
    ");
}

#[test]
fn broken_yaml_has_a_place() {
    insta::assert_snapshot!(rendered("dev:\n  api: {sync: [.:/app}\n"), @r#"
     x this is not valid YAML: mismatched bracket '[' closed by '}'
      ,-[okteto.yml:2:15]
    1 | dev:
    2 |   api: {sync: [.:/app}
      :               ^
      `----
    "#);
}

#[test]
fn each_bad_value_has_its_message() {
    let mut all = String::new();
    for fields in [
        "[a]",
        "{sync: 3}",
        "{sync: {folder: []}}",
        "{sync: ['/app']}",
        "{sync: ['.:/']}",
        "{sync: ['.:app']}",
        "{sync: ['.:/a/../b']}",
        "{sync: ['secret.txt:/a']}",
        "{sync: ['.:/a', './:/b']}",
        "{sync: ['.:/a', 'src:/a']}",
        "{sync: ['${SRC:/a']}",
        "{sync: [[a]]}",
        "{workdir: app}",
        "{command: ''}",
        "{environment: {'a=b': 1}}",
        "{environment: 5}",
        "{environment: [NOBODY]}",
        "{environment: {A: 'x $NOBODY y'}}",
        "{environment: {A: 'x $1'}}",
        "{envFiles: [none.env, src]}",
        "{forward: [80]}",
        "{forward: ['0:80']}",
        "{forward: ['1:2', '1:3']}",
        "{forward: ['a:b:c:d']}",
        "{forward: [{localPort: 1}]}",
        "{forward: [{localPort: 1, remotePort: 2, name: a, labels: {b: c}}]}",
        "{forward: [{localPort: 1, remotePort: 70000}]}",
        "{reverse: ['9000']}",
        "{reverse: ['1:2', '1:3']}",
        "{imagePullPolicy: always}",
        "{securityContext: {runAsUser: root}}",
        "{securityContext: {runAsUser: 0, runAsNonRoot: true}}",
        "{securityContext: {privileged: true}}",
        "{resources: {limits: {memory: 1GB}}}",
        "{probes: {live: true}}",
        "{probes: maybe}",
        "{lifecycle: {preStop: later}}",
        "{tolerations: [{operator: Exist}]}",
        "{affinity: {nodeAfinity: {}}}",
        "{metadata: {labels: [a]}}",
        "{timeout: soon}",
        "{interface: 0.0.0.0}",
        "{interface: eth0}",
        "{mode: foo}",
        "{replicas: 2}",
        "{namespace: x}",
        "{name: Bad_Name}",
        "{persistentVolume: {size: lots}}",
        "{externalVolumes: [pvc]}",
        "{volumes: [cache]}",
        "{secrets: ['none:/x']}",
        "{services: [{sync: ['.:/okteto']}]}",
        "{services: [{name: w, sync: ['src:/okteto'], forward: ['1:2'], labels: {a: b}}]}",
        "{<<: 3}",
        "{[a]: 3}",
        "{image: !!binary aGk=}",
    ] {
        let text = format!("dev:\n  api: {fields}\n");
        all += &format!("{fields}\n");
        for line in lines(&read(&text)).lines() {
            all += &format!("    {}\n", line.trim_start_matches("okteto.yml:"));
        }
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_manifest_that_is_something_else_says_what_to_do() {
    let mut all = String::new();
    for text in [
        "",
        "# only a comment\n",
        "~\n",
        "- a\n",
        "just text\n",
        "name: api\nimage: node\nsync: ['.:/app']\n",
        "dev: [api, web]\n",
        "devs: {api: {}}\n",
        "namespace: foo\ndev: {api: {}}\n",
        "dev: {api: {}}\n---\ndev: {}\n",
        "dev: {a_b: {}, a-b: {}}\n",
        "dev: {'../x': {}}\n",
        "forward: ['1:2']\n",
        "forward: ['1:a:2', '1:b:2']\n",
        "forward: ['1:a:2']\ndev: {api: {forward: ['1:2']}}\n",
        "dev: *nothing\n",
        "dev: &a {api: *a}\n",
    ] {
        all += &format!("{text:?}\n");
        for problem in &read(text).problems {
            all += &format!("    {}\n", problem.one_line().trim_start_matches("okteto.yml:"));
            if let Some(hint) = &problem.hint {
                all += &format!("        hint: {}\n", hint.replace('\n', "\\n"));
            }
        }
    }
    insta::assert_snapshot!(all);
}

#[test]
fn an_env_file_is_shown_with_its_own_lines() {
    let disk = repository().with("/repo/a.env", "A=1\nB 2\n");
    let parsed = read_at("/repo/okteto.yml", "dev: {api: {envFiles: a.env}}\n", &disk, &[]);
    assert_eq!(lines(&parsed), "/repo/a.env:2:1: error: expected `=` after `B` (dev.api.envFiles)\n");
}

#[test]
fn text_of_the_repository_cannot_drive_the_terminal() {
    let parsed = read("dev:\n  api:\n    \"\\e[31mx\": 1\n    image: '\u{9b}2J'\n    mode: \"a\\nb\"\n");
    let shown = lines(&parsed) + &rendered("dev:\n  api:\n    mode: '\u{9b}2J'\n");
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
}

#[test]
fn a_flood_of_problems_is_bounded() {
    let fields: String = (0..5000).map(|n| format!("    nope{n}: 1\n")).collect();
    let parsed = read(&format!("dev:\n  api:\n{fields}"));
    assert!(parsed.problems.has_errors());
    assert!(parsed.problems.len() <= 400);
}

#[test]
fn the_captures_in_the_documentation_are_what_is_said() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/okteto-compatibility.md");
    let page = std::fs::read_to_string(page).unwrap();
    let captures: Vec<_> = page.split("<!-- capture: ").skip(1).collect();
    assert_eq!(captures.len(), 3);
    for capture in captures {
        let (text, rest) = capture.split_once(" -->\n```text\n").unwrap();
        let (shown, _) = rest.split_once("```").unwrap();
        let said = drawn(&text.replace("\\n", "\n"));
        assert!(shown == said, "should be:\n{said}");
    }
}
