//! `towline doctor`.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use towline_manifest::{Dev, Severity};
use towline_session::controllers::truce::Gitops;
use towline_session::doctor::{self, Asked, Facts, Finding, Laptop, Places, Verdict};
use towline_session::event::EVENT_VERSION;
use towline_session::request::OnChange;
use towline_session::translate::{self, Choices, Here};
use towline_session::{AgentSource, UpRequest, rights};

use super::Outcome;
use crate::args::Global;
use crate::diagnose::Failure;
use crate::env_vars;
use crate::exit_code;
use crate::place;
use crate::project::Project;
use crate::ui::Ui;

/// Looks for what could keep dev mode from working, and says what to type. Changes nothing.
///
/// Asks the cluster, this machine and the workload's pod; docs/doctor.md lists the checks. Ends with 1 if one of them
/// failed. No value of a variable is ever shown.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Doctor {
    /// The dev service of the manifest, or a workload; may be left out when there is only one dev service.
    name: Option<String>,
    /// Writes what was found, and what it was found in, to a file for someone who is to help; values are left out.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Prints the Role that dev mode needs, for kubectl apply.
    #[arg(long, conflicts_with = "bundle")]
    rbac: bool,
}

/// Looks at everything, then tells it.
pub(crate) async fn run(ui: &mut Ui, global: &Global, args: &Doctor) -> Outcome {
    let project = Project::open(global).ok().filter(|project| !project.example);
    let manifest = project.as_ref().and_then(|project| project.parsed.manifest.as_ref());
    let dev = manifest.and_then(|manifest| match &args.name {
        Some(name) => manifest.dev(name).ok(),
        None if manifest.dev.len() == 1 => manifest.dev.values().next(),
        None => None,
    });
    let mut services = Vec::new();
    let request = match (&project, manifest, dev) {
        (Some(project), Some(manifest), Some(dev)) => {
            let agent = AgentSource::Host { hash: "doctor".to_owned() };
            let (process_environment, gitops) = (Vec::new(), Gitops::Leave);
            let (way, on_change) = (None, OnChange::default());
            let choices = Choices {
                command: None,
                process_environment,
                agent,
                takeover: false,
                gitops,
                way,
                on_change,
                here: Here::default(),
            };
            services = translate::services(dev, &project.path, &choices)?;
            Some(translate::request(manifest, dev, &project.path, choices)?)
        }
        _ => None,
    };
    if args.rbac {
        return role(ui, global, request.into_iter().chain(services).collect()).await;
    }
    let laptop = laptop(project.as_ref(), dev, request.as_ref());
    ui.phase("looking at everything");
    let facts = match place::connect(ui, global).await {
        Ok(context) => {
            let workload = args.name.clone().filter(|_| dev.is_none());
            doctor::gather(&context, Asked { dev: dev.cloned(), request, workload, laptop }).await
        }
        Err(failure) => Facts::without_cluster(&failure.message, laptop),
    };
    let findings = doctor::examine(&facts);
    ui.phase_done();
    for finding in &findings {
        show(ui, finding)?;
    }
    if let Some(file) = &args.bundle {
        write(file, &serde_json::to_vec_pretty(&doctor::bundle(&facts, &findings)).unwrap_or_default())?;
        ui.say(&format!("{} holds the findings and what they are about, without values", file.display()));
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let [fail, warn, unknown, pass] =
        [Verdict::Fail, Verdict::Warn, Verdict::Unknown, Verdict::Pass].map(count);
    if !ui.is_json() {
        ui.say(&format!("{fail} failed, {warn} warnings, {unknown} unknown, {pass} passed"));
    }
    Ok(if fail > 0 { exit_code::REFUSED } else { exit_code::OK })
}

/// Prints the Role, for the namespace that is meant.
async fn role(ui: &mut Ui, global: &Global, mut requests: Vec<UpRequest>) -> Outcome {
    let context = place::connect(ui, global).await?;
    // The image that could carry the agent is for those who can't get the right that this Role gives.
    for request in &mut requests {
        request.plan.agent.image = None;
    }
    let rights = rights::of_all(&requests);
    ui.data(rights.role(&context.namespace).trim_end());
    Ok(exit_code::OK)
}

fn laptop(project: Option<&Project>, dev: Option<&Dev>, request: Option<&UpRequest>) -> Laptop {
    let problems = |wanted: Severity| {
        let all = project.iter().flat_map(|project| project.parsed.problems.iter());
        all.filter(|problem| problem.severity == wanted).map(towline_manifest::Problem::one_line).collect()
    };
    let places = Places {
        user_home: env_vars::home_folder(),
        manifest: project.map(|project| project.path.clone()),
        problems: (problems(Severity::Error), problems(Severity::Warning)),
        privileges: dev.map(towline_manifest::privileges).unwrap_or_default(),
    };
    let (folders, forwards) =
        request.map_or((&[][..], &[][..]), |request| (&request.folders[..], &request.forwards[..]));
    Laptop::look(&places, folders, forwards)
}

fn show(ui: &Ui, finding: &Finding) -> Result<(), Failure> {
    if ui.is_json() {
        let mut object = serde_json::to_value(finding)
            .map_err(|error| Failure::new(error.to_string()).code(exit_code::INTERNAL))?;
        object["version"] = json!(EVENT_VERSION);
        object["kind"] = json!("finding");
        ui.json(&object);
        return Ok(());
    }
    let mend = finding.mend.as_ref().map(|mend| format!("\n         {mend}")).unwrap_or_default();
    ui.data(&format!("{:8} {}: {}{mend}", finding.verdict.word(), finding.check, finding.seen));
    Ok(())
}

/// Writes a file that only its owner may read.
fn write(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("{}: {error}", file.display()));
    let mut options = std::fs::OpenOptions::new();
    let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(file).map_err(failed)?;
    out.write_all(bytes).map_err(failed)
}
