//! What a single file may not do.

use super::Finding;
use super::source::Source;

/// Crates that touch no clock, no disk, no socket and no environment.
pub(super) const PURE: &[&str] = &["manifest", "ignore", "patcher", "sync-core", "wire", "protocol"];
/// What they never name. Addresses (`std::net::IpAddr`) are values.
const IMPURE: &[&str] = &[
    "tokio",
    "kube",
    "std::fs",
    "std::env",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "std::net::self",
    "std::os::unix::net",
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "Instant::now",
    "SystemTime::now",
];
/// The names of crates that read YAML.
pub(super) const YAML: &[&str] = &[
    "serde_yaml",
    "serde_saphyr",
    "saphyr",
    "saphyr_parser",
    "granit_parser",
    "yaml_rust2",
    "serde_yaml_ng",
];
/// The only file that names one of them.
const YAML_HOME: &str = "crates/manifest/src/yaml.rs";
/// Lines of a file, tests not counted.
const MAX_LINES: usize = 700;
/// Macros that leave something undone.
const UNDONE: &[&str] = &["todo", "unimplemented"];

/// Checks any text: code, page, script. Tests may name homes, which are invented there.
pub(super) fn any_text(source: &Source<'_>) -> Vec<Finding> {
    // Spelled so that this file does not find itself.
    let homes = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    let lines = (1..).zip(source.text.lines());
    lines
        .filter(|(number, line)| homes.iter().any(|home| absolute(line, home)) && !source.is_test(*number))
        .map(|(number, _)| Finding::new(source.name, number, "names someone's home folder"))
        .collect()
}

/// Tells whether a path that begins with `home` stands in a line, and is not the end of a longer path.
fn absolute(line: &str, home: &str) -> bool {
    line.match_indices(home)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}".contains(c)))
}

/// Checks a Rust file.
pub(super) fn rust(source: &Source<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |line: usize, message: String| findings.push(Finding::new(source.name, line, message));

    if !source.text.trim_start().starts_with("//!") {
        say(1, "begins without a line of //! that says its one job".to_owned());
    }
    let lines = source.lines_without_tests();
    if lines > MAX_LINES {
        say(1, format!("has {lines} lines without tests; split it, {MAX_LINES} is the most"));
    }
    for row in [&["#", "[", "allow", "("][..], &["#", "!", "[", "allow", "("]] {
        for line in source.find(row) {
            say(line, "allow hides what it no longer hides: expect, with a reason".to_owned());
        }
    }
    for line in source.find(&["#", "[", "ignore"]) {
        say(line, "a test that does not run tests nothing".to_owned());
    }
    for name in UNDONE {
        for line in source.find(&[name, "!"]) {
            say(line, format!("{name}! is not done"));
        }
    }
    let pure = PURE.iter().any(|pure| source.name.starts_with(&format!("crates/{pure}/src/")));
    let shipped = source.name.starts_with("crates/") && source.name != YAML_HOME;
    for (line, path) in source.paths() {
        if source.is_test(line) {
            continue;
        }
        if pure && let Some(impure) = IMPURE.iter().find(|impure| is_below(&path, impure)) {
            say(line, format!("a pure crate names {impure}"));
        }
        if shipped && let Some(crate_name) = YAML.iter().find(|yaml| is_below(&path, yaml)) {
            say(line, format!("names {crate_name}, which only {YAML_HOME} does"));
        }
    }
    findings
}

fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, code: &str, wanted: &[(usize, &str)]) {
        let text = format!("//! Says.\n{code}");
        let findings = rust(&Source::new(name, &text));
        let found: Vec<(usize, &str)> =
            findings.iter().map(|found| (found.line, found.message.as_str())).collect();
        assert_eq!(found.len(), wanted.len(), "{code}: {findings:?}");
        for ((line, message), (wanted_line, part)) in found.iter().zip(wanted) {
            assert!(line == wanted_line && message.contains(part), "{code}: {findings:?}");
        }
    }

    #[test]
    fn pure_crates_touch_nothing() {
        let pure = "crates/wire/src/a.rs";
        check(pure, "use std::time::{Duration, Instant};\nfn a(now: Instant) {}", &[]);
        check(pure, "use std::net::{IpAddr, Ipv4Addr};", &[]);
        check(pure, "use crate::kube::a;", &[]);
        check(pure, "// std::fs\nconst A: &str = \"std::fs\";", &[]);
        check(pure, "use std::{fs, io};", &[(2, "std::fs")]);
        check(pure, "fn a() { std::env::var(b) }", &[(2, "std::env")]);
        check(pure, "use tokio::sync::mpsc;", &[(2, "tokio")]);
        check(pure, "\nuse std::net::{IpAddr, TcpStream};", &[(3, "TcpStream")]);
        check(pure, "fn a() { Instant::now() }", &[(2, "Instant::now")]);
        check(pure, "fn a() { std::time::SystemTime::now() }", &[(2, "SystemTime::now")]);
        check(pure, "#[cfg(test)]\nmod tests {\n    use std::fs;\n}", &[]);
        check("crates/wire/tests/it/main.rs", "use std::fs;", &[]);
        check("crates/session/src/a.rs", "use std::fs;", &[]);
    }

    #[test]
    fn one_file_reads_yaml() {
        check(YAML_HOME, "use serde_saphyr::a;", &[]);
        check("crates/manifest/src/read.rs", "use crate::yaml::a;", &[]);
        check("crates/manifest/src/read.rs", "use serde_saphyr::a;", &[(2, "serde_saphyr")]);
        check("crates/cli/src/a.rs", "fn a() { serde_yaml::to_string(b) }", &[(2, "serde_yaml")]);
        check("crates/manifest/src/yaml/tests.rs", "use serde_yaml::Value;", &[]);
    }

    #[test]
    fn nothing_is_hidden_or_left_undone() {
        let any = "e2e/src/lib.rs";
        check(any, "#[expect(dead_code, reason = \"a\")]\nfn a() {}", &[]);
        check(any, "#[allow(dead_code)]\nfn a() {}", &[(2, "expect")]);
        check(any, "#![allow(dead_code)]", &[(2, "expect")]);
        check(any, "#[ignore = \"slow\"]\nfn a() {}", &[(2, "tests nothing")]);
        check(any, "fn a() { todo!() }", &[(2, "todo!")]);
        check(any, "fn a() {\n    unimplemented!()\n}", &[(3, "unimplemented!")]);
        check(any, "fn todo() {}", &[]);
    }

    #[test]
    fn a_module_says_its_job() {
        let finding = rust(&Source::new("crates/wire/src/a.rs", "fn a() {}"));
        assert_eq!(
            finding[0].to_string(),
            "crates/wire/src/a.rs:1: begins without a line of //! that says its one job"
        );
    }

    #[test]
    fn long_files_are_split() {
        check("crates/cli/src/a.rs", &"fn a() {}\n".repeat(MAX_LINES - 1), &[]);
        check("crates/cli/src/a.rs", &"fn a() {}\n".repeat(MAX_LINES), &[(1, "701 lines")]);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}", "fn a() {}\n".repeat(MAX_LINES));
        check("crates/cli/src/a.rs", &tests, &[]);
    }

    #[test]
    fn nobodys_home_is_named() {
        let check = |line: &str, wanted: usize| {
            assert_eq!(any_text(&Source::new("a.md", line)).len(), wanted, "{line}");
        };
        let home = concat!("/ho", "me/");
        check(&format!("cd {home}ada/src"), 1);
        check(&format!("\"{}.cargo\"", concat!("/ro", "ot/")), 1);
        check(&format!("x\ny {}ada", concat!("/Us", "ers/")), 1);
        check(&format!("#[cfg(test)]\nmod tests {{ {home}ada }}"), 0);
        check("$HOME/src, ~/src", 0);
        check(&format!("crates{home}src"), 0);
    }
}
