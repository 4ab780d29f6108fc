//! The plan of `towline up`: made, agreed to where a controller is to be paused, and shown.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use towline_session::controllers::Effect;
use towline_session::event::EVENT_VERSION;
use towline_session::plan::{self, UpPlan};
use towline_session::plan_view::{Change, ObjectPlan, PlanView};
use towline_session::{Context, Gitops, UpRequest};

use crate::args;
use crate::diagnose::Failure;
use crate::ui::{self, Ui};

/// Returns what the session does about controllers; asking means to know first what could be paused.
pub(crate) fn gitops(chosen: args::Gitops) -> Gitops {
    match chosen {
        args::Gitops::Leave => Gitops::Leave,
        args::Gitops::Ask | args::Gitops::Pause => Gitops::Pause,
    }
}

/// Makes the plan. Where the user wants to be asked about pauses, asks.
pub(crate) async fn make(
    ui: &mut Ui,
    context: &Context,
    request: UpRequest,
    args: &args::Up,
) -> Result<UpPlan, Failure> {
    let planned = plan::plan(context, request.clone()).await?;
    ui.phase_done();
    if args.gitops != args::Gitops::Ask || args.dry_run || planned.truce.pauses.is_empty() {
        return Ok(planned);
    }
    let details: Vec<_> =
        planned.truce.pauses.iter().map(|pause| format!("{}: {}", pause.target(), pause.words())).collect();
    let question = "controllers that would undo dev mode can be paused until it ends:";
    match ui.confirm(question, &details, "pause them")? {
        Some(true) => Ok(planned),
        Some(false) => Ok(plan::plan(context, UpRequest { gitops: Gitops::Leave, ..request }).await?),
        None => Err(Failure::new("there is something to pause, and nobody can be asked")
            .hint("without a terminal: --gitops pause, or --gitops leave")),
    }
}

/// Says who else has to do with the workload. Who stands in the way is told with the refusal.
pub(crate) fn mention(ui: &mut Ui, planned: &UpPlan) {
    for finding in &planned.truce.findings {
        let refused = planned.obstacles.iter().any(|obstacle| obstacle.code == finding.code);
        if ui.is_json() {
            let mut line = json!({"version": EVENT_VERSION, "time": ui::now(), "kind": "controller"});
            if let (Some(line), Ok(Value::Object(fields))) =
                (line.as_object_mut(), serde_json::to_value(finding))
            {
                line.extend(fields);
            }
            ui.json(&line);
        } else if finding.effect == Effect::Harmless || planned.truce.is_paused(finding) {
            ui.say(&finding.line());
        } else if !refused {
            ui.warn(&finding.line());
        }
    }
}

/// Shows the plans: one as it is, several by the names of their services.
pub(crate) fn show(ui: &Ui, plans: &[UpPlan]) {
    let views = plans.iter().map(|plan| (plan.request.plan.dev_name.as_str(), plan.view()));
    let views: BTreeMap<&str, PlanView> = views.collect();
    if ui.is_json() && plans.len() > 1 {
        return ui.json(&json!({"version": EVENT_VERSION, "kind": "plans", "plans": views}));
    }
    for plan in plans {
        let name = plan.request.plan.dev_name.as_str();
        if plans.len() > 1 {
            ui.data(&format!("{name}:"));
        }
        show_one(ui, &views[name]);
    }
}

/// Shows a whole plan: the objects as a diff with a reason for each field, then who and what they meet.
fn show_one(ui: &Ui, plan: &PlanView) {
    if ui.is_json() {
        let mut line = json!({"version": EVENT_VERSION, "kind": "plan"});
        if let (Some(line), Ok(Value::Object(fields))) = (line.as_object_mut(), serde_json::to_value(plan)) {
            line.extend(fields);
        }
        return ui.json(&line);
    }
    for object in &plan.objects {
        show_object(ui, object);
    }
    if let Some(here) = &plan.here {
        ui.data(&format!("run on this machine: {} (in {})", ui::command_line(&here.command), here.folder));
        ui.data(&format!("  variables: {}", here.variables.join(", ")));
        if !here.variables_from.is_empty() {
            ui.data(&format!("  and those of {}", here.variables_from.join(", ")));
        }
        ui.data("  and those of its image, but for what is about the container itself (docs/hybrid.md)");
    }
    ui.data("traffic");
    for note in &plan.traffic.notes {
        ui.data(&format!("  {note}"));
    }
    if !plan.owners.is_empty() || !plan.controllers.is_empty() {
        ui.data("who else writes here");
    }
    for owner in &plan.owners {
        ui.data(&format!("  {} is {}'s ({}), and is given back", owner.path, owner.manager, owner.operation));
    }
    for finding in &plan.controllers {
        ui.data(&format!("  {}", finding.line()));
    }
    let words = |needed: bool, has: bool| {
        let rights = plan.rights.iter().filter(|right| right.needed == needed && right.has == has);
        rights.map(|right| format!("{} {}", right.verb, right.resource)).collect::<Vec<_>>()
    };
    ui.data("rights");
    ui.data(&format!("  all {} that the way in and the way back need", words(true, true).len()));
    let missing = words(false, false);
    if !missing.is_empty() {
        ui.data(&format!("  not there, and done without: {}", missing.join(", ")));
    }
}

fn show_object(ui: &Ui, object: &ObjectPlan) {
    let name = &object.object.name;
    ui.data(&format!("{} {} {name} ({})", object.action, object.object.kind, object.why));
    for Change { path, before, after, reason } in &object.changes {
        ui.data(&format!("  {path}: {reason}"));
        ui.diff(before.as_ref().map(pretty).as_deref(), after.as_ref().map(pretty).as_deref());
    }
}

/// A value on as many lines as a person needs to read it.
fn pretty(value: &Value) -> String {
    let short = value.to_string();
    if short.len() <= 80 { short } else { serde_json::to_string_pretty(value).unwrap_or(short) }
}
