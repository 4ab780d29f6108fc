//! `cargo xtask reference`: `docs/cli-reference.md` is what the program itself says about its verbs.

use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::run;

const FILE: &str = "docs/cli-reference.md";
const COLUMNS: &str = "100";

/// Writes the page.
pub(crate) fn write() -> Result<()> {
    fs::write(run::root().join(FILE), page()?).with_context(|| format!("can't write {FILE}"))?;
    println!("{FILE} is written");
    Ok(())
}

/// Fails when the page is not what the program says.
pub(crate) fn check() -> Result<()> {
    let found = fs::read_to_string(run::root().join(FILE)).unwrap_or_default();
    match first_difference(&found, &page()?) {
        None => Ok(()),
        Some(line) => bail!("{FILE}:{line}: not what the program says any more\nhint: cargo xtask reference"),
    }
}

fn page() -> Result<String> {
    run::status(run::cargo(["build", "-p", "cli", "--locked"]))?;
    let program = run::target_folder()?.join("debug/towline");
    let help = |words: &[&str]| {
        let mut command = run::command(&program);
        command.args(words).arg("--help").env("COLUMNS", COLUMNS);
        run::output(command)
    };
    let top = help(&[])?;
    let mut sections = vec![("towline".to_owned(), top.clone())];
    for verb in verbs(&top) {
        sections.push((format!("towline {verb}"), help(&[verb])?));
    }
    if sections.len() == 1 {
        bail!("no verbs found in the help of towline");
    }
    Ok(render(&sections))
}

/// Returns the verbs that a help text lists.
fn verbs(help: &str) -> Vec<&str> {
    let list = help.lines().skip_while(|line| line.trim_end() != "Commands:").skip(1);
    list.take_while(|line| !line.trim().is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .collect()
}

fn render(sections: &[(String, String)]) -> String {
    let mut page =
        "# Command line\n\nWritten by `cargo xtask reference` from the help texts; exit codes are in \
                    [exit-codes.md](exit-codes.md), variables in [environment.md](environment.md).\n"
            .to_owned();
    for (name, help) in sections {
        let help = help.trim().lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        // Writing into a string can't fail.
        let _ = write!(page, "\n## {name}\n\n```text\n{help}\n```\n");
    }
    page
}

/// Returns the number of the first line in which two texts differ.
fn first_difference(one: &str, other: &str) -> Option<usize> {
    if one == other {
        return None;
    }
    let same = one.lines().zip(other.lines()).take_while(|(one, other)| one == other).count();
    Some(same + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_read_from_the_list() {
        let help = "Does.\n\nUsage: x\n\nCommands:\n  up    Turns\n         on and on\n  down  Ends\n  help  Prints\n\n\
                    Options:\n  -h  Help\n";
        assert_eq!(verbs(help), ["up", "down"]);
        assert!(verbs("Usage: x\n").is_empty());
    }

    #[test]
    fn a_page_has_a_section_for_each_verb() {
        let page = render(&[("towline".into(), "\nA  \n".into()), ("towline up".into(), "B\n".into())]);
        assert!(
            page.ends_with("\n## towline\n\n```text\nA\n```\n\n## towline up\n\n```text\nB\n```\n"),
            "{page}"
        );
    }

    #[test]
    fn a_stale_page_is_found_out() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(2));
        assert_eq!(first_difference("", "a\n"), Some(1));
        assert_eq!(first_difference("a\n", "a\nb\n"), Some(2));
    }
}
