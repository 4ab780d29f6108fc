//! How many instructions each benchmark takes, beside what the repository says it does.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run;

/// The counts that were accepted last.
const BASELINE: &str = "benches/instructions.json";
/// The page that shows them, between two marks.
const PAGE: &str = "docs/benchmarks.md";
const MARKS: (&str, &str) = ("<!-- instructions -->\n", "<!-- end of instructions -->\n");
const HARNESSES: &[&str] =
    &["instructions", "delta_instructions", "wire_instructions", "disk_instructions", "ignore_instructions"];
/// A benchmark may take so much more than was accepted, in percent.
const TOLERANCE: u64 = 3;

/// Instructions by benchmark.
type Counts = BTreeMap<String, u64>;

/// Measures, and prints what was found beside what was accepted.
pub(crate) fn print() -> Result<()> {
    println!("{}", table(&measure()?, &baseline()?));
    Ok(())
}

/// Fails when a benchmark takes more than was accepted, when one was not accepted, or when the page shows others.
pub(crate) fn check() -> Result<()> {
    if let Some(missing) = missing() {
        #[expect(clippy::disallowed_methods, reason = "only here it matters who looks on")]
        if std::env::var_os("CI").is_some() {
            bail!("{missing}");
        }
        println!("left out: {missing}");
        return Ok(());
    }
    let accepted = baseline()?;
    let page = fs::read_to_string(run::root().join(PAGE)).with_context(|| format!("can't read {PAGE}"))?;
    if with_table(&page, &accepted)? != page {
        bail!("{PAGE}: the table is not that of {BASELINE}\nhint: cargo xtask bench instructions --accept");
    }
    let found = measure()?;
    println!("{}", table(&found, &accepted));
    let complaints = complaints(&found, &accepted);
    if !complaints.is_empty() {
        let hint = "if it must be so, say why in the commit: cargo xtask bench instructions --accept";
        bail!("{}\nhint: {hint}", complaints.join("\n"));
    }
    Ok(())
}

/// Measures, and makes the repository say so.
pub(crate) fn accept() -> Result<()> {
    let found = measure()?;
    println!("{}", table(&found, &baseline()?));
    let text = serde_json::to_string_pretty(&found)? + "\n";
    fs::write(run::root().join(BASELINE), text).with_context(|| format!("can't write {BASELINE}"))?;
    let page = run::root().join(PAGE);
    let text = fs::read_to_string(&page).with_context(|| format!("can't read {PAGE}"))?;
    fs::write(&page, with_table(&text, &found)?).with_context(|| format!("can't write {PAGE}"))
}

/// Says what is needed and not there.
fn missing() -> Option<&'static str> {
    if !run::is_there("valgrind", &["--version"]) {
        return Some("instruction counts need valgrind");
    }
    // Called by itself it only complains, but it is there.
    let runner = run::command("gungraun-runner").output().is_ok();
    (!runner).then_some("instruction counts need cargo install --locked gungraun-runner --version 0.20.0")
}

fn baseline() -> Result<Counts> {
    let text = fs::read_to_string(run::root().join(BASELINE)).unwrap_or_else(|_| "{}".to_owned());
    serde_json::from_str(&text).with_context(|| format!("{BASELINE} is damaged"))
}

fn measure() -> Result<Counts> {
    if let Some(missing) = missing() {
        bail!("{missing}");
    }
    let mut counts = Counts::new();
    for harness in HARNESSES {
        let words = ["bench", "-p", "benches", "--locked", "--bench", harness];
        run::status(run::cargo(words.into_iter().chain(["--no-run"])))?;
        // On one processor: how many threads walk a tree depends on how many there are.
        let mut command = run::command("taskset");
        command.args(["--cpu-list", "0", "cargo"]).args(words).args(["--", "--output-format=json"]);
        for line in run::output(command)?.lines().filter(|line| line.starts_with('{')) {
            let (name, count) = count(&serde_json::from_str(line)?).with_context(|| format!("of {line}"))?;
            counts.insert(name, count);
        }
    }
    if counts.is_empty() {
        bail!("no benchmark said how many instructions it takes");
    }
    Ok(counts)
}

/// Reads one line of the harness: the benchmark's name and its instructions.
fn count(summary: &Value) -> Result<(String, u64)> {
    let function = summary["function_name"].as_str().context("no name")?;
    let name = match summary["id"].as_str() {
        Some(id) => format!("{function} {id}"),
        None => function.to_owned(),
    };
    let profiles = summary["profiles"].as_array().context("no profiles")?;
    let profile = profiles.first().context("no profile")?;
    let count = profile["data"]["total"]["metrics"]["Ir"]["values"]["new"].as_u64();
    Ok((name, count.context("no instructions")?))
}

fn complaints(found: &Counts, accepted: &Counts) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, &count) in found {
        match accepted.get(name) {
            None => complaints.push(format!("{name}: not in {BASELINE}")),
            Some(&before) if count.saturating_mul(100) > before.saturating_mul(100 + TOLERANCE) => {
                complaints.push(format!("{name}: {count} instructions, {before} were accepted"));
            }
            Some(_) => {}
        }
    }
    let gone = accepted.keys().filter(|name| !found.contains_key(*name));
    complaints.extend(gone.map(|name| format!("{name}: in {BASELINE}, but not measured any more")));
    complaints
}

/// Returns by how many percent `count` is more than `before`.
#[expect(clippy::cast_precision_loss, reason = "a percentage")]
fn change(count: u64, before: u64) -> f64 {
    (count as f64 / before.max(1) as f64 - 1.0) * 100.0
}

fn table(found: &Counts, accepted: &Counts) -> String {
    let mut table = "| benchmark | instructions | change |\n| --- | ---: | ---: |\n".to_owned();
    for (name, &count) in found {
        let change =
            accepted.get(name).map_or("new".to_owned(), |&before| format!("{:+.2} %", change(count, before)));
        // Writing to a string can't fail.
        let _ = writeln!(table, "| {name} | {} | {change} |", grouped(count));
    }
    table
}

/// Returns the page with the accepted counts between its marks.
fn with_table(page: &str, accepted: &Counts) -> Result<String> {
    let (head, rest) =
        page.split_once(MARKS.0).with_context(|| format!("{PAGE} has no {}", MARKS.0.trim()))?;
    let (_, tail) = rest.split_once(MARKS.1).with_context(|| format!("{PAGE} has no {}", MARKS.1.trim()))?;
    let mut table = "| benchmark | instructions |\n| --- | ---: |\n".to_owned();
    for (name, &count) in accepted {
        let _ = writeln!(table, "| {name} | {} |", grouped(count));
    }
    Ok([head, MARKS.0, &table, MARKS.1, tail].concat())
}

/// Writes a number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap_or_default()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn counts(counts: &[(&str, u64)]) -> Counts {
        counts.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    }

    #[test]
    fn more_than_three_percent_is_too_much() {
        let accepted = counts(&[("scan", 1000)]);
        assert_eq!(complaints(&counts(&[("scan", 1030)]), &accepted), [""; 0]);
        assert_eq!(complaints(&counts(&[("scan", 500)]), &accepted), [""; 0]);
        assert_eq!(
            complaints(&counts(&[("scan", 1031)]), &accepted),
            ["scan: 1031 instructions, 1000 were accepted"]
        );
    }

    #[test]
    fn what_comes_and_goes_is_told() {
        let told = complaints(&counts(&[("new", 1)]), &counts(&[("old", 1)]));
        assert_eq!(told.len(), 2, "{told:?}");
    }

    #[test]
    fn a_line_of_the_harness_is_read() {
        let metrics = json!({"Ir": {"values": {"new": 12, "old": 7}}});
        let profile = json!({"data": {"total": {"metrics": metrics}}});
        let line = json!({"function_name": "scan", "id": "monorepo", "profiles": [profile]});
        assert_eq!(count(&line).unwrap(), ("scan monorepo".to_owned(), 12));
        assert!(count(&json!({"function_name": "scan"})).is_err());
    }

    #[test]
    fn the_page_gets_its_table() {
        let page = format!("a\n{}old\n{}b\n", MARKS.0, MARKS.1);
        let page = with_table(&page, &counts(&[("scan", 1_234_567)])).unwrap();
        assert!(page.contains("| scan | 1,234,567 |\n") && !page.contains("old"), "{page}");
        assert!(page.starts_with("a\n") && page.ends_with("b\n"));
    }
}
