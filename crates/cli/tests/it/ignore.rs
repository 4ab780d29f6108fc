//! What `.stignore` does, and why.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use insta::assert_snapshot;

use crate::environment;

const RULES: &str = "// comment\n!/keep.log\n#include rules/more\n(?d)node_modules\n";

/// Runs the program with this on its standard input, and returns what it prints as data.
fn run_with_input(environment: &towline_testkit::TestEnv, arguments: &[&str], input: &[u8]) -> String {
    let mut command = environment.command(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_check_tells_the_line_that_decides() {
    let environment = environment();
    environment.write(".stignore", RULES).write("rules/more", "\n(?i)*.LOG\n");
    assert_snapshot!(
        environment.run(&["ignore", "check", "keep.log", "a/b.Log", "x/node_modules/y", "src", ".stfolder/x"]), @"
    exit 0
    --- stdout
    keep.log: synced by .stignore:2: !/keep.log
    a/b.Log: ignored by rules/more:2: (?i)*.LOG
    x/node_modules/y: ignored, deletable with its folder by .stignore:4: (?d)node_modules
    src: synced as no rule matches
    .stfolder/x: ignored as always
    --- stderr
    3 ignore rules of [TEMP]/project/.stignore
    ");
    assert_snapshot!(
        environment.run(&["ignore", "check", "--json", "keep.log", "b.Log", "node_modules", "src", ".stfolder"]), @r#"
    exit 0
    --- stdout
    {"path":"keep.log","ignored":false,"deletable":false,"caseFolded":false,"skipDir":false,"rule":{"file":".stignore","line":2,"pattern":"!/keep.log"}}
    {"path":"b.Log","ignored":true,"deletable":false,"caseFolded":true,"skipDir":true,"rule":{"file":"rules/more","line":2,"pattern":"(?i)*.LOG"}}
    {"path":"node_modules","ignored":true,"deletable":true,"caseFolded":false,"skipDir":true,"rule":{"file":".stignore","line":4,"pattern":"(?d)node_modules"}}
    {"path":"src","ignored":false,"deletable":false,"caseFolded":false,"skipDir":false,"rule":null}
    {"path":".stfolder","ignored":true,"deletable":false,"caseFolded":false,"skipDir":true,"rule":null}
    "#);
}

#[test]
fn paths_come_from_standard_input_as_they_are() {
    let environment = environment();
    environment.write("sub/.stignore", "/a\nb c\n");
    let arguments = ["--output", "json", "ignore", "check", "--root", "sub", "-"];
    let lines = run_with_input(&environment, &arguments, b"a\n./a\n\nb c\n");
    assert_snapshot!(lines, @r#"
    {"path":"a","ignored":true,"deletable":false,"caseFolded":false,"skipDir":true,"rule":{"file":".stignore","line":1,"pattern":"/a"}}
    {"path":"./a","ignored":false,"deletable":false,"caseFolded":false,"skipDir":false,"rule":null}
    {"path":"","ignored":false,"deletable":false,"caseFolded":false,"skipDir":false,"rule":null}
    {"path":"b c","ignored":true,"deletable":false,"caseFolded":false,"skipDir":true,"rule":{"file":".stignore","line":2,"pattern":"b c"}}
    "#);
    let null = [&arguments[..], &["-0"]].concat();
    assert_snapshot!(run_with_input(&environment, &null, b"b c\0a\nb\0"), @r#"
    {"path":"b c","ignored":true,"deletable":false,"caseFolded":false,"skipDir":true,"rule":{"file":".stignore","line":2,"pattern":"b c"}}
    {"path":"a\nb","ignored":false,"deletable":false,"caseFolded":false,"skipDir":false,"rule":null}
    "#);
}

#[test]
fn expand_shows_patterns_and_hash() {
    let environment = environment();
    environment
        .write(".stignore", "a\n(?d)!/b\n")
        .write(".okteto/okteto.yml", "dev: {}")
        .write(".okteto/.stignore", "c/\n");
    assert_snapshot!(environment.run(&["ignore", "expand"]), @"
    exit 0
    --- stdout
    a
    **/a
    a/**
    **/a/**
    !/b
    !/b/**
    c/**
    **/c/**
    sha256:[HASH]
    --- stderr
    3 ignore rules of [TEMP]/project/.stignore, then [TEMP]/project/.okteto/.stignore
    ");
    assert_snapshot!(environment.run(&["ignore", "expand", "--json"]), @r#"
    exit 0
    --- stdout
    {"hash":"[HASH]","kind":"ignoreRules","patterns":["a","**/a","a/**","**/a/**","!/b","!/b/**","c/**","**/c/**"],"version":1}
    "#);
}

#[test]
fn what_is_wrong_has_its_place() {
    let environment = environment();
    environment.write(".stignore", "a\n#include more\n").write("more", "ok\n[z-a]\n");
    assert_snapshot!(environment.run(&["ignore", "check", "a"]), @r#"
    exit 1
    --- stderr
    error: in [TEMP]/project: more:2: invalid pattern "[z-a]": the range runs from 'z' down to 'a'
    "#);
    assert_snapshot!(environment.run(&["ignore", "expand", "--json"]), @r#"
    exit 1
    --- stdout
    {"code":1,"detail":null,"hints":[],"kind":"error","message":"in [TEMP]/project: more:2: invalid pattern \"[z-a]\": the range runs from 'z' down to 'a'","time":"[TIME]","version":1}
    "#);
    std::fs::remove_file(environment.project().join(".stignore")).unwrap();
    std::os::unix::fs::symlink("gone", environment.project().join(".stignore")).unwrap();
    assert_snapshot!(environment.run(&["ignore", "check", "a"]), @"
    exit 1
    --- stderr
    error: in [TEMP]/project: cannot read the ignore file .stignore: it is a link to nothing
    ");
    assert_snapshot!(environment.run(&["ignore", "check", "--root", "nowhere", "a"]), @"
    exit 1
    --- stderr
    error: nowhere: No such file or directory (os error 2)
    ");
    assert!(environment.run(&["ignore", "check"]).starts_with("exit 2\n"));
    let paths = [OsStr::from_bytes(b"a\xff"), OsStr::new("b")];
    std::fs::remove_file(environment.project().join(".stignore")).unwrap();
    let output = environment.command(&["ignore", "check"]).args(paths).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"b: synced as no rule matches\n", "the others have their answer");
}
