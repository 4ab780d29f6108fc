//! `towline up --detach`: the same `up` in a process of its own, watched until it is ready.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::Outcome;
use crate::diagnose::Failure;
use crate::exit_code;
use crate::ui::Ui;

/// How long the command is watched after its start.
const FIRST_BREATH: Duration = Duration::from_millis(300);

/// Starts the process, shows what it says, and returns when it is ready or over.
pub(crate) async fn run(ui: &mut Ui, home: &Path) -> Outcome {
    let log = home.join("detached.log");
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
    while let Some(line) = lines.next_line().await? {
        let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
        if ui.is_json() {
            ui.json(&event);
        }
        let text = |field: &str| event.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        match text("kind").as_str() {
            "state" if text("state") == "ready" => {
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
                return Ok(exit_code::OK);
            }
            "state" => ui.phase(&text("state")),
            "forwarding" => ui.say(&format!("forwarding {} to {}", text("local"), text("remote"))),
            "pod" => ui.say(&format!("pod {}: {}: {}", text("pod"), text("reason"), text("message"))),
            "warning" => ui.say(&text("message")),
            "controller" => ui.say(&format!("{} {}; {}", text("controller"), text("does"), text("answer"))),
            "error" => {
                let hints = event.get("hints").and_then(Value::as_array).into_iter().flatten();
                let mut failure = Failure::new(text("message"));
                failure.hints = hints.filter_map(Value::as_str).map(str::to_owned).collect();
                failure.detail = event.get("detail").and_then(Value::as_str).map(str::to_owned);
                let code = event.get("code").and_then(Value::as_u64).and_then(|code| u8::try_from(code).ok());
                return Err(failure.code(code.unwrap_or(exit_code::REFUSED)));
            }
            _ => {}
        }
    }
    let status = child.wait().await?;
    Err(Failure::new(format!("the session ended: {status}"))
        .hint(format!("its words are in {}", log.display())))
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
