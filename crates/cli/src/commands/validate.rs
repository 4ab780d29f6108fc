//! `towline validate`.

use serde_json::json;
use towline_session::translate::ignore_rules;

use super::Outcome;
use crate::args::{Global, Validate};
use crate::diagnose::Failure;
use crate::exit_code;
use crate::project::{Project, ignore_words};
use crate::ui::Ui;

/// Checks the manifest and its ignore files, all at once, and says which files are used.
pub(crate) fn run(ui: &mut Ui, global: &Global, args: &Validate) -> Outcome {
    let project = Project::open(&global.with_file(args.manifest.as_ref()))?;
    ui.problems(project.parsed.problems.iter().chain(&project.parsed.disclosures));
    let mut broken = project.parsed.problems.has_errors();
    let mut folders = Vec::new();
    for dev in project.parsed.manifest.iter().flat_map(|manifest| manifest.dev.values()) {
        for folder in &dev.sync.folders {
            if !folder.local.is_dir() {
                continue;
            }
            let local = folder.local.display().to_string();
            match ignore_rules(&project.path, &folder.local) {
                Ok((rules, files)) => {
                    folders.push((
                        dev.name.clone(),
                        local,
                        folder.remote.clone(),
                        files,
                        rules.lines().len(),
                    ));
                }
                Err(error) => {
                    broken = true;
                    ui.failure(&Failure::from(error));
                }
            }
        }
    }
    let path = project.path.display().to_string();
    if ui.is_json() {
        let folders: Vec<_> = folders
            .iter()
            .map(|(dev, local, remote, files, rules)| {
                json!({"dev": dev, "local": local, "remote": remote, "ignoreFiles": files, "rules": rules})
            })
            .collect();
        ui.json(
            &json!({"version": 1, "kind": "validated", "file": path, "valid": !broken, "folders": folders}),
        );
    } else {
        for (dev, local, remote, files, rules) in &folders {
            ui.say(&format!("{dev}: {local} ↔ {remote}, {}", ignore_words(*rules, files)));
        }
        if !broken {
            ui.say(&format!("{path} is valid"));
        }
    }
    Ok(if broken { exit_code::REFUSED } else { exit_code::OK })
}
