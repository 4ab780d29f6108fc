//! `towline ignore`.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use towline_session::translate::{Decision, Rules, ignore_rules};

use super::Outcome;
use crate::args::{Global, Output};
use crate::diagnose::Failure;
use crate::exit_code;
use crate::project::ignore_words;
use crate::ui::Ui;

/// Shows what the ignore rules of a folder do, and why.
#[derive(Debug, Clone, Args)]
pub(crate) struct Ignore {
    #[command(subcommand)]
    pub(crate) verb: IgnoreVerb,
}

/// What to show.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum IgnoreVerb {
    Check(Check),
    Expand(Expand),
}

/// Says of paths whether they are ignored, and which line of which file decides.
///
/// Paths count from the folder, with / between names, as `git ls-files` prints them; they need not be there. Each is
/// taken as it is written: ./a is not a. As JSON, each is one object a line: path, ignored, deletable, caseFolded,
/// skipDir, and rule, which is null or has file, line and pattern.
#[derive(Debug, Clone, Args)]
pub(crate) struct Check {
    /// The paths; - reads them from standard input, one a line.
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<OsString>,
    #[command(flatten)]
    pub(crate) place: Place,
    /// In standard input, a NUL ends each path, as `git ls-files -z` and `find -print0` have it.
    #[arg(short = '0', long)]
    pub(crate) null: bool,
}

/// Prints what the rules come to: every pattern as it is compiled, in order, then the hash of them all.
#[derive(Debug, Clone, Args)]
pub(crate) struct Expand {
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Whose rules.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// The synced folder, which holds the .stignore; the current folder when left out.
    #[arg(long, value_name = "DIR", default_value = ".", hide_default_value = true)]
    pub(crate) root: PathBuf,
    /// The same as --output json.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Ignore {
    /// Returns the form of output that is asked for here.
    pub(crate) fn output(&self) -> Option<Output> {
        let (IgnoreVerb::Check(Check { place, .. }) | IgnoreVerb::Expand(Expand { place })) = &self.verb;
        place.json.then_some(Output::Json)
    }
}

/// One answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "the documented form")]
struct Answer<'a> {
    path: &'a str,
    ignored: bool,
    deletable: bool,
    case_folded: bool,
    skip_dir: bool,
    rule: Option<Rule<'a>>,
}

#[derive(Serialize)]
struct Rule<'a> {
    file: &'a str,
    line: u32,
    pattern: &'a str,
}

/// Answers, or shows the rules.
pub(crate) fn run(ui: &mut Ui, global: &Global, args: &Ignore) -> Outcome {
    let (IgnoreVerb::Check(Check { place, .. }) | IgnoreVerb::Expand(Expand { place })) = &args.verb;
    let rules = load(ui, global, &place.root)?;
    match &args.verb {
        IgnoreVerb::Check(args) => check(ui, &rules, args),
        IgnoreVerb::Expand(_) => {
            let (patterns, hash) = (rules.patterns(), rules.hash());
            if ui.is_json() {
                ui.json(&json!({"version": 1, "kind": "ignoreRules", "patterns": patterns, "hash": hash}));
            } else {
                for pattern in &patterns {
                    ui.data(pattern);
                }
                ui.data(&format!("sha256:{hash}"));
            }
            Ok(exit_code::OK)
        }
    }
}

/// Answers for each path. One that is no text does not keep the others from their answer.
fn check(ui: &mut Ui, rules: &Rules, args: &Check) -> Outcome {
    let mut code = exit_code::OK;
    let mut one = |path: &OsStr| {
        if let Some(path) = path.to_str() {
            answer(ui, path, &rules.decide(path));
        } else {
            ui.failure(&Failure::new(format!("{} is not Unicode text, and never synced", path.display())));
            code = exit_code::REFUSED;
        }
    };
    for path in &args.paths {
        if path == "-" {
            let end = if args.null { b'\0' } else { b'\n' };
            for path in io::stdin().lock().split(end) {
                one(OsStr::from_bytes(&path?));
            }
        } else {
            one(path);
        }
    }
    Ok(code)
}

/// Loads the rules as `towline up` does: those of the folder, then those beside a manifest in `.okteto`.
fn load(ui: &mut Ui, global: &Global, root: &Path) -> Result<Rules, Failure> {
    let root = match root.canonicalize() {
        Ok(root) if root.is_dir() => root,
        Ok(_) => return Err(Failure::new(format!("{} is not a folder", root.display()))),
        Err(error) => return Err(Failure::new(format!("{}: {error}", root.display()))),
    };
    let named = global.file.clone();
    let found =
        || towline_manifest::candidates().iter().map(|name| root.join(name)).find(|path| path.is_file());
    // Without a manifest there is only one place for rules: that of a manifest in the folder itself.
    let manifest = named.or_else(found).unwrap_or_else(|| root.join("okteto.yml"));
    let (rules, files) = ignore_rules(&manifest, &root)?;
    if !ui.is_json() {
        ui.say(&ignore_words(rules.sources().count(), &files));
    }
    Ok(rules)
}

fn answer(ui: &Ui, path: &str, decision: &Decision<'_>) {
    if ui.is_json() {
        let &Decision { ignored, deletable, case_folded, skip_dir, rule } = decision;
        let rule = rule.map(|rule| Rule { file: rule.file, line: rule.line, pattern: rule.pattern });
        ui.json(&Answer { path, ignored, deletable, case_folded, skip_dir, rule });
    } else {
        ui.data(&words(path, decision));
    }
}

/// Says the answer in a line.
fn words(path: &str, decision: &Decision<'_>) -> String {
    let verdict = if decision.ignored { "ignored" } else { "synced" };
    let why = match decision.rule {
        Some(rule) => format!("by {}:{}: {}", rule.file, rule.line, rule.pattern),
        None if decision.ignored => "as always".to_owned(),
        None => "as no rule matches".to_owned(),
    };
    let deletable = if decision.deletable { ", deletable with its folder" } else { "" };
    let walked = if decision.ignored && !decision.skip_dir { ", but looked into" } else { "" };
    format!("{path}: {verdict}{deletable}{walked} {why}")
}
