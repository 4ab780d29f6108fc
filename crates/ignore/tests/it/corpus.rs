//! `tests/corpus/stignore.jsonl`: ignore files, and what the reference engine made of them.

use std::collections::BTreeMap;
use std::io;

use serde::Deserialize;
use towline_ignore::{Fault, GlobFault, LoadError, LoadOptions, Rules, load};

use crate::strict;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    name: String,
    files: BTreeMap<String, String>,
    paths: Vec<Check>,
    error: Option<String>,
    hash: String,
    patterns: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "the fields of the recorded line")]
struct Check {
    path: String,
    ignored: bool,
    deletable: bool,
    case_folded: bool,
    skip_dir: bool,
    #[serde(default)]
    quirk: bool,
}

fn load_case(case: &Case) -> Result<Rules, LoadError> {
    let mut read = |file: &str| match case.files.get(file) {
        Some(text) => Ok(text.clone()),
        None if case.files.keys().any(|other| other.starts_with(&format!("{file}/"))) => {
            Err(io::Error::from(io::ErrorKind::IsADirectory))
        }
        None => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    load(".stignore", &mut read, LoadOptions { includes_outside: true, ..LoadOptions::default() })
}

/// The words of the reference engine for our error, as far as they tell its kind.
fn reference_words(error: &LoadError) -> String {
    match error {
        LoadError::Line { fault, .. } => match fault {
            Fault::SecondEscape => "mutiple #escape= lines".to_owned(),
            Fault::LateEscape => "#escape= line found after patterns".to_owned(),
            Fault::MalformedEscape { .. } => "failed to parse #escape= line".to_owned(),
            Fault::IncludeWithoutName => "failed to parse #include line: no file?".to_owned(),
            Fault::IncludeMissing { include } => {
                format!("failed to load include file {include}: file not found")
            }
            Fault::IncludedTwice { include } => {
                format!("failed to load include file {include}: multiple include")
            }
            Fault::MissingPattern { pattern } => {
                format!("invalid pattern {pattern:?} in ignore file: parse error: missing pattern")
            }
            Fault::TooMuch { .. } => "token too long".to_owned(),
            Fault::Glob { why, .. } => match why {
                GlobFault::UnexpectedEnd => "unexpected end of input".to_owned(),
                GlobFault::ExpectedClose => "expected close range character".to_owned(),
                GlobFault::ReversedRange { lo, hi } => {
                    format!("hi character '{hi}' should be greater than lo '{lo}'")
                }
                GlobFault::EmptyClass => "could not parse range".to_owned(),
                GlobFault::UnreadableCharacter => "could not read rune".to_owned(),
                other => other.to_string(),
            },
            other => other.to_string(),
        },
        LoadError::Include { include, source, .. } if source.kind() == io::ErrorKind::IsADirectory => {
            format!("failed to load include file {include}: read ")
        }
        other => other.to_string(),
    }
}

#[test]
fn every_recorded_answer_is_ours() {
    let corpus = include_str!("../corpus/stignore.jsonl");
    let (mut cases, mut checks) = (0, 0);
    let mut wrong = Vec::new();
    for line in corpus.lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        cases += 1;
        let loaded = load_case(&case);
        match (&loaded, &case.error) {
            (Ok(_), None) => {}
            (Err(error), Some(expected)) if expected.contains(&reference_words(error)) => {}
            (loaded, expected) => {
                wrong.push(format!(
                    "{}: expected error {expected:?}, got {:?}",
                    case.name,
                    loaded.as_ref().err()
                ));
            }
        }
        let rules = loaded.unwrap_or_default();
        if rules.hash() != case.hash || rules.patterns() != case.patterns {
            wrong.push(format!("{}: patterns {:?}, not {:?}", case.name, rules.patterns(), case.patterns));
        }
        let again = Rules::from_lines(&rules.lines()).unwrap();
        for check in &case.paths {
            checks += 1;
            for rules in [&rules, &again] {
                let decision = rules.decide(&check.path);
                let ours = (decision.ignored, decision.deletable, decision.case_folded, decision.skip_dir);
                let theirs = (check.ignored, check.deletable, check.case_folded, check.skip_dir);
                if ours != theirs {
                    wrong.push(format!("{} {:?}: {ours:?}, not {theirs:?}", case.name, check.path));
                }
            }
        }
    }
    assert_eq!((cases, checks), (566, 2061));
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

/// The textbook agrees with the record wherever that is not marked as peculiar, and nowhere else.
#[test]
fn the_textbook_differs_only_where_the_record_says_so() {
    let corpus = include_str!("../corpus/stignore.jsonl");
    let mut wrong = Vec::new();
    let mut quirks = 0;
    for line in corpus.lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        let rules = load_case(&case).unwrap_or_default();
        let lines = rules.lines();
        // A NUL ends a token, and no path holds one.
        if lines.iter().any(|line| line.contains('\0')) {
            continue;
        }
        for Check { path, ignored, quirk, .. } in &case.paths {
            let decision = rules.decide(path);
            if decision.rule.is_none() && decision.ignored || path.is_empty() || path == "." {
                continue;
            }
            let strictly = strict::ignores(&lines, path);
            quirks += usize::from(*quirk);
            if (strictly != *ignored) != *quirk {
                wrong.push(format!("{}: {path:?}: strictly {strictly}", case.name));
            }
        }
    }
    assert_eq!(quirks, 41);
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}
