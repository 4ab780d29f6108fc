//! `towline validate`.

use serde_json::json;
use towline_session::translate::ignore_rules;

use super::Outcome;
use crate::args::Global;
use crate::diagnose::Failure;
use crate::exit_code;
use crate::project::Project;
use crate::ui::Ui;

/// Checks the manifest and its ignore files, all at once, and says which files are used.
pub(crate) fn run(ui: &mut Ui, global: &Global) -> Outcome {
    let project = Project::open(global)?;
    ui.problems(&project.parsed.problems);
    let mut broken = project.parsed.problems.has_errors();
    let mut folders = Vec::new();
    for dev in project.parsed.manifest.iter().flat_map(|manifest| manifest.dev.values()) {
        for folder in &dev.sync.folders {
            if !folder.local.is_dir() {
                continue;
            }
            let local = folder.local.display().to_string();
            match ignore_rules(&project.path, &folder.local) {
                Ok((rules, file)) => {
                    let file = file.map(|file| file.display().to_string());
                    folders.push((dev.name.clone(), local, folder.remote.clone(), file, rules.lines().len()));
                }
                Err(error) => {
                    broken = true;
                    ui.failure(&Failure::new(format!("{local}: {error}")));
                }
            }
        }
    }
    let path = project.path.display().to_string();
    if ui.is_json() {
        let folders: Vec<_> = folders
            .iter()
            .map(|(dev, local, remote, file, rules)| {
                json!({"dev": dev, "local": local, "remote": remote, "ignoreFile": file, "rules": rules})
            })
            .collect();
        ui.json(
            &json!({"version": 1, "kind": "validated", "file": path, "valid": !broken, "folders": folders}),
        );
    } else {
        for (dev, local, remote, file, rules) in &folders {
            let ignore = match file {
                Some(file) => format!("{rules} rules of {file}"),
                None => "no .stignore".to_owned(),
            };
            ui.say(&format!("{dev}: {local} ↔ {remote}, {ignore}"));
        }
        if !broken {
            ui.say(&format!("{path} is valid"));
        }
    }
    Ok(if broken { exit_code::REFUSED } else { exit_code::OK })
}
