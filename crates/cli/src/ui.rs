//! Everything that is printed: data on standard output, talk on standard error.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use miette::{GraphicalReportHandler, GraphicalTheme};
use serde::Serialize;
use serde_json::{Value, json};
use towline_manifest::{Problem, Severity};
use towline_session::event::EVENT_VERSION;
use towline_session::{Ending, Event, State};

use crate::args::Output;
use crate::diagnose::Failure;
use crate::sanitize::clean;

const GREEN: Style = AnsiColor::Green.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const RED: Style = AnsiColor::Red.on_default();
const DIM: Style = Style::new().dimmed();

/// The one place that prints.
#[derive(Debug)]
pub(crate) struct Ui {
    output: Output,
    phase: Option<Phase>,
    /// While the user's command has the terminal, lines must not disturb it.
    quiet: bool,
    /// Whether the command's pod was out of reach meanwhile.
    lost: bool,
    /// Whether the command runs on this machine.
    hybrid: bool,
    /// The service that is spoken of, where there are several.
    service: Option<String>,
    /// The service whose command has the terminal, where there are several.
    owner: Option<String>,
    /// How wide the longest name of a service is.
    width: usize,
}

#[derive(Debug)]
struct Phase {
    words: String,
    began: Instant,
    bar: Option<ProgressBar>,
}

impl Ui {
    /// Chooses the form: as asked, else by whether standard error is a terminal.
    pub(crate) fn new(output: Option<Output>) -> Self {
        let human = std::io::stderr().is_terminal();
        let output = output.unwrap_or(if human { Output::Human } else { Output::Plain });
        Self {
            output,
            phase: None,
            quiet: false,
            lost: false,
            hybrid: false,
            service: None,
            owner: None,
            width: 0,
        }
    }

    /// Tells whether data goes out as JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Tells whether a live line shows what a phase is at.
    pub(crate) fn is_live(&self) -> bool {
        self.output == Output::Human && std::io::stderr().is_terminal()
    }

    /// Makes room for the names of services.
    pub(crate) fn services<'n>(&mut self, names: impl Iterator<Item = &'n str>) {
        self.width = names.map(|name| name.chars().count()).max().unwrap_or(0);
    }

    /// Says whom the lines that follow are about: a service among several, or everything.
    pub(crate) fn speak_for(&mut self, service: Option<&str>) {
        if self.service.as_deref() != service {
            self.phase_done();
            self.service = service.map(|name| clean(name, false));
        }
    }

    /// Shows a line of a command's output, behind its service's name.
    pub(crate) fn output(&self, line: &[u8]) {
        let mut stdout = std::io::stdout().lock();
        let prefix = self.service.as_ref().map(|name| self.prefix(name)).unwrap_or_default();
        // A reader that has gone wants no more.
        let _ = stdout.write_all(prefix.as_bytes()).and_then(|()| stdout.write_all(line));
        if !line.ends_with(b"\n") {
            let _ = stdout.write_all(b"\n");
        }
        let _ = stdout.flush();
    }

    fn prefix(&self, service: &str) -> String {
        format!("{service:width$} | ", width = self.width)
    }

    /// Prints data for a person.
    #[expect(clippy::unused_self, reason = "all output goes through the one that knows its form")]
    pub(crate) fn data(&self, text: &str) {
        // A reader that has gone wants no more.
        let _ = writeln!(anstream::stdout(), "{}", clean(text, true));
    }

    /// Prints what goes and what comes in its place, line by line.
    #[expect(clippy::unused_self, reason = "all output goes through the one that knows its form")]
    pub(crate) fn diff(&self, before: Option<&str>, after: Option<&str>) {
        let mut stdout = anstream::stdout().lock();
        for (text, sign, style) in [(before, '-', RED), (after, '+', GREEN)] {
            for line in text.into_iter().flat_map(str::lines) {
                let _ = writeln!(stdout, "    {style}{sign} {}{style:#}", clean(line, false));
            }
        }
    }

    /// Prints one JSON object on a line, with the service's name where there are several.
    pub(crate) fn json(&self, value: &impl Serialize) {
        let line = match (&self.service, serde_json::to_value(value)) {
            (Some(service), Ok(Value::Object(mut object))) => {
                object.insert("service".to_owned(), json!(service));
                serde_json::to_string(&object)
            }
            _ => serde_json::to_string(value),
        };
        if let Ok(line) = line {
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }

    /// Says something.
    pub(crate) fn say(&mut self, text: &str) {
        self.line(&clean(text, true));
    }

    /// Takes in that the command runs on this machine.
    pub(crate) fn is_hybrid(&mut self) {
        self.hybrid = true;
    }

    /// Begins a phase; the one before is done.
    pub(crate) fn phase(&mut self, words: &str) {
        self.phase_done();
        let words = clean(words, false);
        if self.service.is_some() {
            // Several at once have no one line that is live.
            return self.line(&words);
        }
        let bar = self.is_live().then(|| {
            let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed:.dim}");
            let bar = ProgressBar::new_spinner();
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar.set_message(words.clone());
            bar
        });
        if self.output == Output::Plain {
            self.line(&words);
        }
        self.phase = Some(Phase { words, began: Instant::now(), bar });
    }

    /// Says what the phase is at.
    pub(crate) fn phase_detail(&mut self, detail: &str) {
        if let Some(Phase { words, bar: Some(bar), .. }) = &self.phase {
            bar.set_message(format!("{words}: {}", clean(detail, false)));
        }
    }

    /// Ends the phase, if there is one.
    pub(crate) fn phase_done(&mut self) {
        let Some(phase) = self.phase.take() else { return };
        if let Some(bar) = &phase.bar {
            bar.finish_and_clear();
        }
        if self.output == Output::Human {
            let seconds = phase.began.elapsed().as_secs_f64();
            self.line(&format!("{GREEN}✓{GREEN:#} {} {DIM}{seconds:.1} s{DIM:#}", phase.words));
        }
    }

    /// Drops the phase without a word: what comes next says why.
    fn phase_broken(&mut self) {
        if let Some(Phase { bar: Some(bar), .. }) = self.phase.take() {
            bar.finish_and_clear();
        }
    }

    /// The command has the terminal now, or no more.
    pub(crate) fn command_has_terminal(&mut self, has: bool) {
        self.phase_done();
        if has {
            self.say(&format!("{}; Enter ~ . leaves", self.ready()));
        }
        self.quiet = has;
        self.owner.clone_from(&self.service);
    }

    /// Warns.
    pub(crate) fn warn(&mut self, text: &str) {
        if self.is_json() {
            return self.event(&Event::Warning { message: text.to_owned() });
        }
        self.line(&format!("{YELLOW}warning{YELLOW:#}: {}", clean(text, true)));
    }

    /// Says what went wrong and what to do.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        self.phase_broken();
        if self.is_json() {
            return self.json(&json!({
                "version": EVENT_VERSION, "time": now(), "kind": "error", "message": failure.message,
                "hints": failure.hints, "detail": failure.detail, "code": failure.code,
            }));
        }
        self.line(&format!("{RED}error{RED:#}: {}", clean(&failure.message, true)));
        if let Some(detail) = &failure.detail {
            self.line(&clean(detail, true));
        }
        for hint in &failure.hints {
            self.line(&format!("{GREEN}hint{GREEN:#}: {}", clean(hint, true)));
        }
    }

    /// Shows what is wrong with a manifest, each problem at its place.
    pub(crate) fn problems<'p>(&mut self, problems: impl IntoIterator<Item = &'p Problem>) {
        let mut problems = problems.into_iter().peekable();
        if problems.peek().is_none() {
            return;
        }
        self.phase_broken();
        let theme = if anstream::AutoStream::choice(&std::io::stderr()) == anstream::ColorChoice::Never {
            GraphicalTheme::unicode_nocolor()
        } else {
            GraphicalTheme::unicode()
        };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(100).with_links(false);
        for problem in problems {
            if self.is_json() {
                let (line, column) = problem.position();
                let severity = match problem.severity {
                    Severity::Error => "error",
                    Severity::Warning => "warning",
                };
                self.json(&json!({
                    "version": EVENT_VERSION, "kind": "problem", "severity": severity, "message": problem.message,
                    "file": problem.file.name(), "line": line, "column": column, "path": problem.path,
                    "hint": problem.hint, "excerpt": problem.excerpt(), "length": problem.length(),
                }));
                continue;
            }
            if self.output == Output::Plain {
                self.line(&clean(&problem.one_line(), false));
                if let Some(hint) = &problem.hint {
                    self.line(&format!("hint: {}", clean(hint, false)));
                }
                continue;
            }
            let mut text = String::new();
            if handler.render_report(&mut text, problem).is_ok() {
                self.line(text.trim_end());
            }
        }
    }

    /// Asks for a yes. `None` where nobody can be asked.
    pub(crate) fn confirm(
        &mut self,
        question: &str,
        details: &[String],
        yes: &str,
    ) -> Result<Option<bool>, Failure> {
        self.phase_broken();
        if self.is_json() || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Ok(None);
        }
        self.line(&clean(question, true));
        for detail in details {
            self.line(&format!("  - {}", clean(detail, false)));
        }
        match inquire::Confirm::new(&format!("{yes}?")).with_default(false).prompt() {
            Ok(answer) => Ok(Some(answer)),
            Err(inquire::InquireError::OperationCanceled | inquire::InquireError::OperationInterrupted) => {
                Ok(Some(false))
            }
            Err(error) => Err(Failure::new(format!("the question could not be asked: {error}"))),
        }
    }

    /// Tells an event.
    pub(crate) fn event(&mut self, event: &Event) {
        if self.is_json() {
            return self.json(&event_json(event));
        }
        match event {
            Event::State { state } => self.state(*state),
            Event::SyncProgress { files, files_total, bytes, bytes_total, .. } => {
                let (done, all) = (megabytes(*bytes), megabytes(*bytes_total));
                self.phase_detail(&format!("{files} of {files_total} files, {done} of {all} MB"));
            }
            Event::Object { action: action @ ("paused" | "unpaused"), object } => {
                self.say(&format!("{action} {object}"));
            }
            Event::Object { action, object } => {
                if !self.quiet && self.output == Output::Plain {
                    self.say(&format!("{action} {object}"));
                } else {
                    self.phase_detail(&format!("{action} {object}"));
                }
            }
            Event::Pod { pod, reason, message } => self.say(&format!("pod {pod}: {reason}: {message}")),
            Event::Connected { restarted: true, .. } => {
                self.say("the container was started anew; the files are synced again");
            }
            Event::Disconnected { reason } => {
                self.warn(&format!("the connection to the pod broke ({reason}); trying again"));
            }
            Event::Conflict { path, kept, .. } => self.warn(&format!(
                "{path} was changed on both sides: yours keeps the name, the pod's is kept as {kept}"
            )),
            Event::SyncHalted { message, .. } => self.warn(&format!(
                "sync stopped: {message}. If the deletions are wanted: towline up --approve-deletions"
            )),
            Event::SyncProblem { path, message, .. } => {
                self.warn(&format!("{path} is not synced: {message}"));
            }
            Event::Forwarding { local, remote, reverse } => {
                let (from, to) = if *reverse { (remote, local) } else { (local, remote) };
                self.say(&format!("forwarding {from} to {to}"));
            }
            Event::ForwardFailed { local, message } => self.warn(&format!("{local}: {message}")),
            Event::Reparked { times, by } => {
                let who = by.as_deref().unwrap_or("someone");
                self.warn(&format!(
                    "{who} scaled the original up; it is scaled down again ({times} of 3 in ten minutes)"
                ));
            }
            Event::OriginalChanged { by, then } => {
                let who = by.as_deref().unwrap_or("someone");
                self.warn(&format!(
                    "{who} changed the workload: {}",
                    match *then {
                        "rebased" => "the dev container is made anew with it",
                        "kept" => "it comes into force with towline down",
                        "left" => "dev mode ends",
                        _ => "the dev container is a clone of it as it was; towline up takes the change up",
                    }
                ));
            }
            Event::Environment { variables, left_out } => {
                let not = if left_out.is_empty() {
                    String::new()
                } else {
                    format!(", without {}", left_out.join(", "))
                };
                self.say(&format!("the command gets {variables} variables of the container{not}"));
            }
            Event::Warning { message } => self.warn(message),
            Event::Ended { ending } => self.ended(ending),
            // What is as it should be needs no words.
            _ => {}
        }
    }

    fn state(&mut self, state: State) {
        if self.quiet && self.service != self.owner {
            return;
        }
        if self.quiet {
            if state < State::StartingSync {
                self.lost = true;
            } else if state == State::Ready && std::mem::take(&mut self.lost) {
                self.say("connected again, and in sync");
            }
            return;
        }
        match state {
            // There is nothing to sync: the command's variables come next.
            State::StartingSync if self.hybrid => {}
            State::Ready => {
                self.phase_done();
                self.say(self.ready());
            }
            State::Failed => self.phase_broken(),
            _ => self.phase(phase_of(state.name()).unwrap_or_default()),
        }
    }

    fn ready(&self) -> &'static str {
        if self.hybrid {
            "ready: the command runs on this machine, in the workload's place"
        } else {
            "ready: edits on either side reach the other at once"
        }
    }

    fn ended(&mut self, ending: &Ending) {
        self.phase_broken();
        if let Ending::Lost { message } | Ending::Undone { message } = ending {
            self.warn(message);
        }
    }

    /// Writes a line of talk, below whatever the command has on the screen.
    fn line(&mut self, text: &str) {
        let text = match &self.service {
            Some(name) => {
                let prefix = self.prefix(name);
                &format!("{DIM}{prefix}{DIM:#}{}", text.replace('\n', &format!("\n{DIM}{prefix}{DIM:#}")))
            }
            None => text,
        };
        let write = || {
            let mut stderr = anstream::stderr().lock();
            let result = if self.quiet {
                // In raw mode a line break alone does not return to the left.
                writeln!(stderr, "\r\n[towline] {}\r", text.replace('\n', "\r\n"))
            } else {
                writeln!(stderr, "{text}")
            };
            drop(result);
        };
        match self.phase.as_ref().and_then(|phase| phase.bar.as_ref()) {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

/// Returns an event's documented JSON: its own fields, the format's version and the time.
pub(crate) fn event_json(event: &Event) -> Value {
    let mut object = json!({"version": EVENT_VERSION, "time": now()});
    if let (Some(object), Ok(Value::Object(fields))) = (object.as_object_mut(), serde_json::to_value(event)) {
        object.extend(fields);
    }
    object
}

/// Returns the time as events have it.
pub(crate) fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// Returns a command as a person would type it.
pub(crate) fn command_line(command: &[String]) -> String {
    match command {
        [shell, flag, script] if shell == "sh" && flag == "-c" => script.clone(),
        words => words.join(" "),
    }
}

/// Returns bytes as megabytes with one decimal.
fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{}.{}", tenths / 10, tenths % 10)
}
/// Returns what a session does in a state, by the state's name, as people are told.
pub(crate) fn phase_of(state: &str) -> Option<&'static str> {
    Some(match state {
        "activating" => "writing the record and the dev container's objects",
        "starting" => "waiting for the pod",
        "attaching" => "setting up the container",
        "pulling" => "pulling the image",
        "startingSync" => "looking through the files on both sides",
        "synchronizing" => "syncing files",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_on_the_way_has_words() {
        let states = [
            State::Activating,
            State::Starting,
            State::Attaching,
            State::Pulling,
            State::StartingSync,
            State::Synchronizing,
        ];
        let words: std::collections::BTreeSet<_> =
            states.into_iter().filter_map(|state| phase_of(state.name())).collect();
        assert_eq!(words.len(), states.len());
        assert_eq!(phase_of(State::Ready.name()), None);
    }
}
