//! The events that `towline` tells as JSON.

use std::fmt;

use serde_json::Value;

/// The lines of standard output so far.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// One object for each line.
    pub events: Vec<Value>,
}

impl Log {
    /// Reads a whole output.
    pub fn read(stdout: &str) -> Self {
        Self { events: stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect() }
    }

    /// Returns the events of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.events.iter().filter(move |event| event["kind"] == kind)
    }

    /// Returns the states in the order they came.
    pub fn states(&self) -> Vec<&str> {
        self.of_kind("state").filter_map(|event| event["state"].as_str()).collect()
    }

    /// Returns the only error.
    pub fn error(&self) -> &Value {
        let mut errors = self.of_kind("error");
        let error = errors.next().unwrap_or_else(|| panic!("no error was told:\n{self}"));
        assert!(errors.next().is_none(), "more than one error was told:\n{self}");
        error
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.events.iter().try_for_each(|event| writeln!(f, "  {event}"))
    }
}

/// Returns what an event is about in a few words: its kind, and its state or action if it has one.
pub fn label(event: &Value) -> String {
    let word = |field: &str| event[field].as_str();
    let kind = word("kind").unwrap_or_default();
    match kind {
        "state" => format!("state {}", word("state").unwrap_or_default()),
        "object" => {
            let object = word("object").unwrap_or_default();
            let object = object.split(' ').next().unwrap_or_default();
            format!("{} {object}", word("action").unwrap_or_default())
        }
        _ => kind.to_owned(),
    }
}
