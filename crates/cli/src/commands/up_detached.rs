//! `towline up --detach`: the same `up` in a process of its own, watched until it is ready.

use std::collections::BTreeSet;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::Outcome;
use crate::diagnose::Failure;
use crate::exit_code;
use crate::ui::{Ui, phase_of};

/// How long the command is watched after its start.
const FIRST_BREATH: Duration = Duration::from_millis(300);

/// Starts the process, shows what it says, and returns when the services of these names are ready or over.
pub(crate) async fn run(ui: &mut Ui, home: &Path, manifest: &Path, names: &[String]) -> Outcome {
    let log = log_file(home, manifest, names)?;
    let file = |append: bool| {
        std::fs::OpenOptions::new().create(true).append(append).write(true).mode(0o600).open(&log)
    };
    file(true)
        .and_then(|file| file.set_len(0))
        .map_err(|error| Failure::new(format!("{}: {error}", log.display())))?;
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--detach");
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command
        .args(detached(&arguments.collect::<Vec<_>>()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(file(true)?)
        // A session that outlives the terminal must not get its signals.
        .process_group(0);
    let mut child =
        command.spawn().map_err(|error| Failure::new(format!("can't start the session: {error}")))?;
    let Some(stdout) = child.stdout.take() else { return Err(Failure::new("the session has no output")) };
    let mut lines = BufReader::new(stdout).lines();
    ui.services(names.iter().map(String::as_str));
    let mut waiting: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let mut failed = None;
    while let Some(line) = lines.next_line().await? {
        let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
        if ui.is_json() {
            ui.json(&event);
        }
        let text = |field: &str| event.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let service = event.get("service").and_then(Value::as_str);
        if !ui.is_json() {
            ui.speak_for(service);
        }
        match text("kind").as_str() {
            "state" if text("state") == "ready" => {
                // One alone says of nothing whose it is.
                waiting.retain(|name| service.is_some_and(|service| service != *name));
                if waiting.is_empty() {
                    break;
                }
            }
            "state" => {
                if let Some(words) = phase_of(&text("state")) {
                    ui.phase(words);
                }
            }
            "forwarding" if event["reverse"] == true => {
                ui.say(&format!("forwarding {} to {}", text("remote"), text("local")));
            }
            "forwarding" => ui.say(&format!("forwarding {} to {}", text("local"), text("remote"))),
            "pod" => ui.say(&format!("pod {}: {}: {}", text("pod"), text("reason"), text("message"))),
            "warning" => ui.say(&text("message")),
            "controller" => ui.say(&format!("{} {}; {}", text("controller"), text("does"), text("answer"))),
            "error" => {
                let failure = failure_of(&event);
                let Some(service) = service else { return Err(failed.unwrap_or(failure)) };
                if !ui.is_json() {
                    ui.failure(&failure);
                }
                waiting.remove(service);
                failed = Some(Failure::new(format!("{service} did not begin")).code(failure.code));
                if waiting.is_empty() {
                    break;
                }
            }
            _ => {}
        }
    }
    ui.speak_for(None);
    if !waiting.is_empty() {
        let status = child.wait().await?;
        return Err(Failure::new(format!("the session ended: {status}"))
            .hint(format!("its words are in {}", log.display())));
    }
    if let Some(failure) = failed {
        return Err(failure.hint("the others go on: towline status, towline down --all"));
    }
    // A command that can't do its work mostly says so at once.
    let ended = async {
        while let Ok(Some(line)) = lines.next_line().await {
            let event = serde_json::from_str::<Value>(&line).unwrap_or_default();
            if event["kind"] == "commandExited" {
                return event["code"].as_u64();
            }
        }
        None
    };
    if let Ok(Some(code)) = tokio::time::timeout(FIRST_BREATH, ended).await {
        let failure = Failure::new(format!("the command ended at once with exit code {code}"))
            .hint("see what it said: towline logs")
            .hint("dev mode is still on: towline up tries again, towline down ends it");
        return Err(failure.code(u8::try_from(code).unwrap_or(exit_code::REFUSED)));
    }
    if !ui.is_json() {
        ui.phase_done();
        ui.say("ready; the session goes on in the background: towline status, towline down");
    }
    Ok(exit_code::OK)
}

fn failure_of(event: &Value) -> Failure {
    let text = |field: &str| event.get(field).and_then(Value::as_str).map(str::to_owned);
    let hints = event.get("hints").and_then(Value::as_array).into_iter().flatten();
    let mut failure = Failure::new(text("message").unwrap_or_default());
    failure.hints = hints.filter_map(Value::as_str).map(str::to_owned).collect();
    failure.detail = text("detail");
    let code = event.get("code").and_then(Value::as_u64).and_then(|code| u8::try_from(code).ok());
    failure.code(code.unwrap_or(exit_code::REFUSED))
}

/// Returns where the process that stays puts its words: a file for each manifest and choice of services.
fn log_file(home: &Path, manifest: &Path, names: &[String]) -> Result<PathBuf, Failure> {
    let folder = home.join("detached");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(manifest.as_os_str().as_encoded_bytes());
    for name in names {
        hasher.update(b"\0").update(name.as_bytes());
    }
    Ok(folder.join(format!("{}.log", &hasher.finalize().to_hex()[..16])))
}

/// Returns the arguments of the process that stays: the same, as JSON events, with the mark before any `--`.
fn detached(arguments: &[std::ffi::OsString]) -> Vec<std::ffi::OsString> {
    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    let (own, command) = arguments.split_at(end);
    let mut kept = Vec::new();
    let mut skip = false;
    for argument in own {
        let output = argument == "--output";
        let joined = argument.to_str().is_some_and(|text| text.starts_with("--output="));
        if !std::mem::replace(&mut skip, output) && !output && !joined {
            kept.push(argument.clone());
        }
    }
    kept.extend(["--detached", "--output", "json"].map(Into::into));
    kept.extend(command.iter().cloned());
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_stays_speaks_json_and_runs_the_same_command() {
        let words = |line: &str| line.split(' ').map(Into::into).collect::<Vec<std::ffi::OsString>>();
        assert_eq!(
            detached(&words("up web --output human -n shop -- npm --output x")),
            words("up web -n shop --detached --output json -- npm --output x")
        );
        assert_eq!(detached(&words("up --output=plain")), words("up --detached --output json"));
    }
}
