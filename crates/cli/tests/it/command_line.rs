//! Help, completions and wrong command lines.

use insta::assert_snapshot;

use crate::environment;

const VERBS: [&str; 11] =
    ["up", "down", "status", "exec", "logs", "sync", "ignore", "validate", "init", "manifest", "completion"];

#[test]
fn help_is_data_and_a_success() {
    let report = environment().run(&["--help"]);
    assert!(report.starts_with("exit 0\n--- stdout\n"), "{report}");
    for verb in VERBS {
        assert!(report.contains(&format!("\n  {verb} ")), "{verb} is missing: {report}");
    }
    assert!(!report.contains("--detached"), "what is hidden stays hidden: {report}");
    assert!(report.lines().all(|line| line.chars().count() <= 100), "{report}");
}

#[test]
fn each_verb_has_its_help() {
    for verb in VERBS {
        let report = environment().run(&[verb, "--help"]);
        assert!(report.starts_with("exit 0\n--- stdout\n"), "{verb}: {report}");
        assert!(report.contains(&format!("Usage: towline {verb}")), "{verb}: {report}");
    }
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    assert_snapshot!(environment().run(&["upp"]), @"
    exit 2
    --- stderr
    error: unrecognized subcommand 'upp'

      tip: a similar subcommand exists: 'up'

    Usage: towline [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    assert_snapshot!(environment().run(&["up", "--detach", "--dry-run"]), @"
    exit 2
    --- stderr
    error: the argument '--detach' cannot be used with '--dry-run'

    Usage: towline up --detach [NAME]... [-- <CMD>...]

    For more information, try '--help'.
    ");
    assert!(environment().run(&[]).starts_with("exit 2\n"));
}

#[test]
fn completions_are_scripts_of_the_shell() {
    for (shell, word) in
        [("bash", "complete -F"), ("zsh", "#compdef towline"), ("fish", "complete -c towline")]
    {
        let report = environment().run(&["completion", shell]);
        assert!(report.starts_with("exit 0\n--- stdout\n") && report.contains(word), "{shell}: {report}");
    }
}
