//! What holds for any text at all.

use std::path::Path;

use proptest::prelude::*;

use crate::disk::{lines, read, read_at, repository};

/// Texts that are nearly manifests: words of the language in any order, and any character.
fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("dev:".to_owned()),
        Just("\n  api:".to_owned()),
        Just("\n    ".to_owned()),
        Just("sync: ".to_owned()),
        Just("environment: ".to_owned()),
        Just("forward: ".to_owned()),
        Just("resources: {limits: {cpu: 1}}".to_owned()),
        Just("- ".to_owned()),
        Just("[.:/app]".to_owned()),
        Just("{a: b}".to_owned()),
        Just("&a ".to_owned()),
        Just("*a ".to_owned()),
        Just("<<: ".to_owned()),
        Just("${A:-${B}}".to_owned()),
        Just("!!str ".to_owned()),
        Just("| \n".to_owned()),
        Just("---\n".to_owned()),
        Just("\t".to_owned()),
        Just("\r\n".to_owned()),
        Just("\u{feff}".to_owned()),
        "[\\PC\u{0}\u{1b}]{0,4}",
    ];
    prop::collection::vec(word, 0..30).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_text_has_an_answer_whose_places_lie_in_it(text in text()) {
        let parsed = read(&text);
        prop_assert!(parsed.manifest.is_some() || parsed.problems.has_errors());
        for problem in &parsed.problems {
            prop_assert!(problem.file.text().get(problem.span.start..problem.span.end).is_some(), "{:?}", problem);
            prop_assert!(!problem.message.is_empty());
            problem.one_line();
        }
        let again = read(&text);
        prop_assert_eq!(lines(&parsed), lines(&again));
        prop_assert_eq!(parsed.trust_hash, again.trust_hash);
    }

    #[test]
    fn a_comment_changes_nothing_but_places(name in "[a-z][a-z0-9]{0,8}", remote in "/[a-z]{1,8}") {
        let text = format!("dev:\n  {name}:\n    sync: ['.:{remote}']\n");
        let (plain, commented) = (read(&text), read(&format!("# first\n{text}")));
        prop_assert_eq!(&plain.trust_hash, &commented.trust_hash);
        let manifest = plain.manifest.unwrap();
        prop_assert_eq!(&manifest.dev[&name].sync.folders[0].remote, &remote);
    }
}

#[test]
fn bombs_are_refused() {
    let deep = format!("dev: {}", "[".repeat(100_000));
    let deep_block: String = (0..40).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    let mut aliases = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..30 {
        let before = format!("*a{}", level - 1);
        aliases += &format!("a{level}: &a{level} [{}]\n", vec![before; 10].join(","));
    }
    let anchors = format!("dev: {}{}{}", "&a [".repeat(30), "x,".repeat(400_000), "]".repeat(30));
    let merges = format!("a: &a {{{}}}\ndev: [{}]\n", many("k: 1, "), many("{<<: *a},"));
    let huge = "x".repeat(2 * 1024 * 1024);
    let many_keys: String = many("kn: 1\n");
    for (name, text) in [
        ("deep flow", &deep),
        ("deep block", &deep_block),
        ("aliases", &aliases),
        ("anchors", &anchors),
        ("merges", &merges),
        ("size", &huge),
        ("keys", &many_keys),
    ] {
        let parsed = read(text);
        assert!(parsed.problems.has_errors(), "{name}");
    }
}

/// Returns many copies of `part`, each `n` and `k` in it numbered.
fn many(part: &str) -> String {
    (0..20_000).map(|n| part.replace('k', &format!("k{n}"))).collect()
}

#[test]
fn what_is_special_survives_being_printed() {
    let disk = repository()
        .with("/repo/~odd/x", "")
        .with("/repo/a$b/x", "")
        .with("/repo/..c/x", "")
        .with("/repo/d:e/x", "");
    for (path, fields) in [
        (
            "/repo/okteto.yml",
            "{image: 'a$$b', environment: {A: 'x$$1', B: 'two\nlines', C: '${NOPE:-$$}', D: '<<', E: 'no'}}",
        ),
        (
            "/repo/okteto.yml",
            "{sync: ['./~odd:/a', 'a$$b:/b', '..c:/c', 'd:e:/d', '/lib:/e', '../lib/../repo/sub:/f']}",
        ),
        (
            "/repo/.okteto/okteto.yml",
            "{sync: ['.:/a', '../sub:/b', '/lib:/c'], envFiles: .envfile, secrets: ['secret.txt:/x:600']}",
        ),
        (
            "/repo/okteto.yml",
            "{command: echo $HOME, args: ['$1', '', ' '], workdir: /a$b, nodeSelector: {a: $b}}",
        ),
        (
            "/repo/okteto.yml",
            "{timeout: {default: 1.5ms, resources: 100us}, interface: '::1', tolerations: [{}]}",
        ),
        (
            "/repo/okteto.yml",
            "{affinity: {nodeAffinity: {a: [1e300, -0.5, .5, 1e-7, 0x10, '0x10', yes, 'yes', ~, {}, []]}}}",
        ),
        (
            "/repo/okteto.yml",
            "{forward: [{localPort: 1, remotePort: 2, labels: {a: $b}}], externalVolumes: ['a:$$b:/c'], volumes: ['/x$$y']}",
        ),
        (
            "/repo/okteto.yml",
            "{lifecycle: {preStop: {enabled: false, command: []}}, probes: {startup: true}, autocreate: true}",
        ),
        (
            "/repo/okteto.yml",
            "{sync: [], services: [{selector: {a: 'b$$c'}}, {name: w, labels: {x: y}, volumes: [/v], mode: hybrid}]}",
        ),
    ] {
        let text = format!("name: 'a$$b'\nbuild: {{a: ''}}\ndev:\n  api: {fields}\n")
            .replace("two\nlines", "two\n\n    lines");
        let parsed = read_at(path, &text, &disk, &[("HOME", "/home/me")]);
        assert!(!parsed.problems.has_errors(), "{text}\n{}", lines(&parsed));
        let manifest = parsed.manifest.unwrap();
        let printed = manifest.to_yaml(Path::new(path));
        let again = read_at(path, &printed, &disk, &[("HOME", "/home/me")]);
        assert_eq!(
            lines(&again).lines().filter(|line| line.contains("error")).count(),
            0,
            "{printed}\n{}",
            lines(&again)
        );
        assert_eq!(again.manifest, Some(manifest), "{printed}");
    }
}
