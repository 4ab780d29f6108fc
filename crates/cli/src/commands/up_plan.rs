//! The plan of `towline up`: made, agreed to where a controller is to be paused, and shown.

use serde_json::{Value, json};
use towline_session::controllers::{Effect, Finding};
use towline_session::event::EVENT_VERSION;
use towline_session::plan::{self, UpPlan};
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

/// Says who else has to do with the workload.
pub(crate) fn mention(ui: &mut Ui, findings: &[Finding]) {
    for finding in findings {
        if ui.is_json() {
            let mut line = json!({"version": EVENT_VERSION, "time": ui::now(), "kind": "controller"});
            if let (Some(line), Ok(Value::Object(fields))) =
                (line.as_object_mut(), serde_json::to_value(finding))
            {
                line.extend(fields);
            }
            ui.json(&line);
        } else if finding.effect == Effect::Harmless {
            ui.say(&finding.line());
        } else {
            ui.warn(&finding.line());
        }
    }
}
