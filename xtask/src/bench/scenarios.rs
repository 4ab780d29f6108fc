//! `cargo xtask bench scenarios`: a folder of 50,000 files brought up to date by towline and by what else is there.
//!
//! Every tool gets the same folders, one after the other, in one run: what counts is how they stand to each other.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run;

const FILES: usize = 50_000;
/// Files in one folder.
const IN_FOLDER: usize = 8;
/// Each measurement is taken so often; the best counts, since what else runs can only add to it.
const TIMES: usize = 3;
/// A large file, in bytes.
const LARGE: usize = 1 << 30;
const WORDS: [&str; 16] = [
    "export ", "const ", "return ", "await ", "value", "items", "index", "session", " = ", "(", ") {\n",
    "}\n", "\n  ", ".map", "null", ";\n",
];

/// Who brings a folder up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tool {
    Towline,
    Tar,
    Rsync,
}

/// What one call took.
#[derive(Debug, Clone, Copy)]
struct Taken {
    time: Duration,
    /// Bytes on the way, both ways together, where the tool says.
    bytes: Option<u64>,
}

/// The folders of one run, removed at its end.
struct Bench {
    folder: PathBuf,
    program: PathBuf,
    agent: PathBuf,
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Where it can't be removed there is nobody to tell but who sees it lie there.
        let _left = fs::remove_dir_all(&self.folder);
    }
}

/// Measures, and prints a table.
pub(super) fn print() -> Result<()> {
    run::status(run::cargo(["build", "--release", "--locked", "-p", "cli", "-p", "towline-agent"]))?;
    let programs = run::target_folder()?.join("release");
    // Not on a disk, if it can be helped: its own speed would be what is measured.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { run::target_folder()? };
    let folder = place.join(format!("towline-bench-{}", std::process::id()));
    let bench = Bench { folder, program: programs.join("towline"), agent: programs.join("towline-agent") };
    let mut tools = vec![Tool::Towline];
    tools.extend(run::is_there("tar", &["--version"]).then_some(Tool::Tar));
    tools.extend(run::is_there("rsync", &["--version"]).then_some(Tool::Rsync));

    let mut rows = Vec::new();
    let source = bench.folder.join("source");
    println!("making {FILES} files in {}", bench.folder.display());
    make_tree(&source)?;
    let home = bench.home();
    let mut anew = |target: &Path| clear(target).and_then(|()| clear(&home));
    bench.measure("first sync", &source, &tools, &mut anew, &mut rows)?;
    bench.measure("nothing changed", &source, &tools, |_| Ok(()), &mut rows)?;
    let mut edit = 0;
    let mut one_edit = |_: &Path| {
        edit += 1;
        append(&file(&source, 4711), &format!("// edit {edit}\n"))
    };
    bench.measure("one edit", &source, &tools, &mut one_edit, &mut rows)?;
    let mut branch = 0;
    let mut switch = |_: &Path| {
        branch += 1;
        switch_branch(&source, branch)
    };
    bench.measure("branch switch", &source, &tools, &mut switch, &mut rows)?;
    fs::remove_dir_all(&bench.folder)?;

    tools.retain(|tool| *tool != Tool::Tar);
    fs::create_dir_all(&source)?;
    let large = source.join("large.bin");
    fs::write(&large, noise(1, LARGE))?;
    for tool in &tools {
        bench.call(*tool, &source, &bench.target(*tool))?;
    }
    let mut inserted = |_: &Path| {
        let mut bytes = fs::read(&large)?;
        bytes.insert(0, b'x');
        Ok(fs::write(&large, bytes)?)
    };
    bench.measure("1 GiB, a byte inserted in front", &source, &tools, &mut inserted, &mut rows)?;
    println!("{}", table(&rows));
    Ok(())
}

impl Bench {
    fn target(&self, tool: Tool) -> PathBuf {
        self.folder.join(format!("{tool:?}").to_lowercase())
    }

    /// Returns where towline keeps what it knows.
    fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// Has every tool do its work after each preparation, and keeps the best of each.
    fn measure(
        &self,
        name: &'static str,
        source: &Path,
        tools: &[Tool],
        mut prepare: impl FnMut(&Path) -> Result<()>,
        rows: &mut Vec<(&'static str, Tool, Taken)>,
    ) -> Result<()> {
        let mut best: Vec<Option<Taken>> = vec![None; tools.len()];
        for _ in 0..TIMES {
            // A change of the source is made once, for all of them.
            let mut prepared = false;
            for (tool, best) in tools.iter().zip(&mut best) {
                let target = self.target(*tool);
                if !prepared || name == "first sync" {
                    prepare(&target)?;
                    prepared = true;
                }
                let taken = self.call(*tool, source, &target)?;
                if best.is_none_or(|best| taken.time < best.time) {
                    *best = Some(taken);
                }
            }
        }
        rows.extend(tools.iter().zip(best).filter_map(|(tool, best)| Some((name, *tool, best?))));
        Ok(())
    }

    fn call(&self, tool: Tool, source: &Path, target: &Path) -> Result<Taken> {
        fs::create_dir_all(target)?;
        let [source, target] = [source, target].map(|path| path.display().to_string());
        let mut command = match tool {
            Tool::Towline => {
                let mut command = run::command(&self.program);
                let agent = format!("{} serve --root {target}", self.agent.display());
                command.args(["sync", &source, "--to", &agent, "--stats", "--output", "json"]);
                command.env("TOWLINE_HOME", self.home());
                command
            }
            Tool::Tar => {
                let mut command = run::command("sh");
                command.args(["-c", "tar -C \"$1\" -cf - . | tar -C \"$2\" -xf -", "sh", &source, &target]);
                command
            }
            Tool::Rsync => {
                let mut command = run::command("rsync");
                // As if the other folder were on another machine.
                command.args(["-a", "--delete", "--no-whole-file", "--stats"]);
                command.args([format!("{source}/"), format!("{target}/")]);
                command
            }
        };
        let began = Instant::now();
        let output = command.stdin(Stdio::null()).output().with_context(|| format!("can't run {tool:?}"))?;
        let time = began.elapsed();
        if !output.status.success() {
            bail!("{tool:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(Taken { time, bytes: bytes(tool, &String::from_utf8_lossy(&output.stdout)) })
    }
}

/// Reads from a tool's words how many bytes went, both ways.
fn bytes(tool: Tool, said: &str) -> Option<u64> {
    match tool {
        Tool::Towline => {
            let mut lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let stats = lines.rfind(|line| line["kind"] == "stats")?;
            let wire = &stats["wire"];
            Some(wire["sentBytes"].as_u64()? + wire["receivedBytes"].as_u64()?)
        }
        Tool::Tar => None,
        Tool::Rsync => {
            let number = |name: &str| -> Option<u64> {
                let line = said.lines().find(|line| line.starts_with(name))?;
                line.split_once(": ")?.1.replace([',', '.'], "").parse().ok()
            };
            Some(number("Total bytes sent")? + number("Total bytes received")?)
        }
    }
}

fn clear(target: &Path) -> Result<()> {
    if target.exists() {
        fs::remove_dir_all(target)?;
    }
    Ok(())
}

fn file(source: &Path, number: usize) -> PathBuf {
    let folder = number / IN_FOLDER;
    source
        .join(format!("packages/unit-{}/src/part-{}", folder / 40, folder % 40))
        .join(format!("file-{number}.ts"))
}

/// Makes what a monorepo looks like to a syncer: many folders, small files, text.
fn make_tree(source: &Path) -> Result<()> {
    for number in 0..FILES {
        let file = file(source, number);
        if number % IN_FOLDER == 0 {
            fs::create_dir_all(file.parent().context("it lies in a folder")?)?;
        }
        fs::write(&file, text(number as u64, 512 + (number * 7919) % 7000))?;
    }
    Ok(())
}

/// Does what `git switch` does between two branches that differ in 2,500 files, 1,500 names and 1,000 more.
fn switch_branch(source: &Path, branch: usize) -> Result<()> {
    for change in 0..2_500 {
        append(&file(source, change * 17), &format!("// branch {branch}\n"))?;
    }
    for rename in 0..1_500 {
        let file = file(source, 1 + rename * 17);
        let other = file.with_extension("tsx");
        let (from, to) = if branch % 2 == 1 { (file, other) } else { (other, file) };
        fs::rename(from, to)?;
    }
    for gone in 0..1_000 {
        let number = 2 + gone * 17;
        if branch % 2 == 1 {
            fs::remove_file(file(source, number))?;
        } else {
            fs::write(file(source, number), text(number as u64, 3000))?;
        }
    }
    Ok(())
}

fn append(file: &Path, line: &str) -> Result<()> {
    let mut text = fs::read_to_string(file)?;
    text.push_str(line);
    Ok(fs::write(file, text)?)
}

/// Returns text that repeats itself as much as code does.
fn text(seed: u64, length: usize) -> String {
    let mut random = seed;
    let mut text = String::with_capacity(length + 16);
    while text.len() < length {
        random = next(random);
        text.push_str(WORDS[usize::try_from(random >> 60).unwrap_or_default()]);
        if random.is_multiple_of(5) {
            let _ = write!(text, "{:x}", random >> 40);
        }
    }
    text
}

/// Returns bytes that nothing can shorten.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = seed;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        random = next(random);
        bytes.extend((random ^ (random >> 29)).to_le_bytes());
    }
    bytes
}

fn next(random: u64) -> u64 {
    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
}

fn table(rows: &[(&str, Tool, Taken)]) -> String {
    let mut table =
        "| what | tool | seconds | of towline's | bytes |\n| --- | --- | ---: | ---: | ---: |\n".to_owned();
    for (name, tool, taken) in rows {
        let ours = rows.iter().find(|(what, tool, _)| what == name && *tool == Tool::Towline);
        let ratio = ours.map_or(1.0, |(_, _, ours)| taken.time.as_secs_f64() / ours.time.as_secs_f64());
        let bytes = taken.bytes.map_or_else(|| "–".to_owned(), super::instructions::grouped);
        let tool = format!("{tool:?}").to_lowercase();
        // Writing to a string can't fail.
        let _ =
            writeln!(table, "| {name} | {tool} | {:.3} | {ratio:.2} | {bytes} |", taken.time.as_secs_f64());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_from_what_a_tool_says() {
        let said = "Number of files: 3\nTotal bytes sent: 1,234\nTotal bytes received: 56\n";
        assert_eq!(bytes(Tool::Rsync, said), Some(1290));
        assert_eq!(bytes(Tool::Rsync, "nothing"), None);
        let said =
            "{\"kind\":\"synced\"}\n{\"kind\":\"stats\",\"wire\":{\"sentBytes\":5,\"receivedBytes\":7}}\n";
        assert_eq!(bytes(Tool::Towline, said), Some(12));
    }
}
