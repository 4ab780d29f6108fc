//! `towline up`.

use towline_patcher::Way;
use towline_protocol::TerminalSize;
use towline_session::plan::UpPlan;
use towline_session::request::OnChange;
use towline_session::translate::{self, Choices, Here};
use towline_session::{AgentSource, Context, SessionError, UpRequest, several};

use super::up_follow::{Member, follow};
use super::{Outcome, sessions};
use crate::agent;
use crate::args::{self, Global, Up};
use crate::commands::{up_detached, up_plan};
use crate::diagnose::Failure;
use crate::env_vars;
use crate::exit_code;
use crate::place;
use crate::project::{Project, ignore_words};
use crate::terminal;
use crate::trust;
use crate::ui::{self, Ui};

/// Plans, begins, then stays with the sessions until they end.
pub(crate) async fn run(ui: &mut Ui, global: &Global, args: &Up) -> Outcome {
    let project = Project::open(global)?;
    let manifest = project.manifest(ui)?;
    let devs = project.devs(manifest, &args.names, args.all)?;
    if devs.len() > 1 && !args.command.is_empty() {
        return Err(Failure::new("a command is for one dev service")
            .hint("leave it out, or name one service")
            .code(exit_code::USAGE));
    }
    if project.example {
        ui.say(&format!(
            "no manifest here and no kubeconfig: trying the example {} on the embedded cluster",
            project.path.display()
        ));
    }
    trust::require(ui, &place::home()?, &project, args.trust_manifest.as_deref())?;
    if args.detach {
        let services = devs.iter().flat_map(|dev| std::iter::once(*dev).chain(&dev.services));
        let names: Vec<_> = services.map(|dev| dev.name.clone()).collect();
        return up_detached::run(ui, &place::home()?, &project.path, &names).await;
    }
    let context = place::connect(ui, global).await?;
    let agent = if context.cluster.target().embedded {
        let file = agent::host_build(ui).await?.agent;
        let bytes = tokio::fs::read(&file)
            .await
            .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
        AgentSource::Host { hash: blake3::hash(&bytes).to_hex().to_string() }
    } else {
        agent::binary(ui).await?
    };
    // Who works on one service has the terminal; several share it line by line.
    let leads = devs.len() == 1;
    let size = terminal::size().filter(|_| leads && !args.detached && !ui.is_json());
    let mut requests = Vec::new();
    for dev in devs {
        let choices = choices(args, agent.clone(), size)?;
        let services = translate::services(dev, &project.path, &choices)?;
        requests.push(translate::request(manifest, dev, &project.path, choices)?);
        requests.extend(services);
    }
    several::share_forwards(&mut requests);
    let plans = Box::pin(plan(ui, &context, requests, args)).await?;
    if args.dry_run {
        up_plan::show(ui, &plans);
        return stand_in_the_way(ui, &plans).map_or(Ok(exit_code::OK), Err);
    }
    if plans.len() > 1
        && let Some(failure) = stand_in_the_way(ui, &plans)
    {
        return Err(failure);
    }
    for plan in &plans {
        ui.speak_for(name_of(plan, plans.len()));
        up_plan::mention(ui, plan);
    }
    ui.speak_for(None);
    let names: Vec<_> =
        plans.iter().map(|plan| (plan.request.plan.dev_name.clone(), plan.record.name.clone())).collect();
    let sizes = std::iter::once(size).chain(std::iter::repeat(None));
    let sessions = Box::pin(several::up(&context, plans.into_iter().zip(sizes).collect())).await?;
    let members = names.into_iter().zip(sessions);
    let members = members.map(|((name, workload), session)| Member::new(name, workload, session)).collect();
    follow(ui, &context, args, members, leads, size).await
}

/// Makes all plans, so that whatever is wrong with any of them is told at once.
async fn plan(
    ui: &mut Ui,
    context: &Context,
    requests: Vec<UpRequest>,
    args: &Up,
) -> Result<Vec<UpPlan>, Failure> {
    let count = requests.len();
    ui.services(requests.iter().map(|request| request.plan.dev_name.as_str()));
    let mut plans = Vec::new();
    for request in requests {
        let name = request.plan.dev_name.clone();
        ui.speak_for((count > 1).then_some(name.as_str()));
        for folder in &request.folders {
            let ignore = ignore_words(folder.ignore.len(), &folder.ignore_files);
            ui.say(&format!("{} ↔ {}, {ignore}", folder.local.display(), folder.remote));
        }
        if let Some(hybrid) = &request.hybrid {
            if count == 1 {
                ui.is_hybrid();
            }
            let (folder, command) = (hybrid.folder.display(), ui::command_line(&request.command));
            ui.say(&format!("runs on this machine, in {folder}: {command}"));
        }
        let (workload, target) = (request.workload.to_string(), context.cluster.target());
        ui.phase(&format!("checking {workload} in namespace {} of {}", context.namespace, target.context));
        match Box::pin(up_plan::make(ui, context, request, args)).await {
            Ok(plan) => plans.push(plan),
            Err(failure) if count > 1 => ui.failure(&failure),
            Err(failure) => return Err(failure),
        }
    }
    ui.speak_for(None);
    if plans.len() < count {
        let failed = count - plans.len();
        return Err(Failure::new(format!("{failed} of {count} services can't begin; nothing was changed")));
    }
    several::check(&plans)?;
    let workloads: Vec<_> = plans.iter().map(|plan| plan.record.name.as_str()).collect();
    sessions::mention_abandoned(ui, context, &workloads).await;
    for plan in &plans {
        ui.speak_for(name_of(plan, count));
        for note in &plan.notes {
            ui.warn(note);
        }
    }
    ui.speak_for(None);
    Ok(plans)
}

/// Returns the name by which a plan's lines are told from those of others.
fn name_of(plan: &UpPlan, count: usize) -> Option<&str> {
    (count > 1).then_some(plan.request.plan.dev_name.as_str())
}

/// Returns what keeps the plans from being carried out, if anything does: with one, none is.
fn stand_in_the_way(ui: &mut Ui, plans: &[UpPlan]) -> Option<Failure> {
    let failure = |plan: &UpPlan| SessionError::Obstacles { obstacles: plan.obstacles.clone() }.into();
    let hindered: Vec<_> = plans.iter().filter(|plan| !plan.obstacles.is_empty()).collect();
    match (hindered.as_slice(), plans.len()) {
        ([], _) => None,
        ([plan], 1) => Some(failure(plan)),
        (_, count) => {
            for plan in &hindered {
                ui.speak_for(name_of(plan, count));
                ui.failure(&failure(plan));
            }
            ui.speak_for(None);
            let hindered = hindered.len();
            Some(Failure::new(format!("{hindered} of {count} services can't begin; nothing was changed")))
        }
    }
}

fn choices(args: &Up, agent: AgentSource, size: Option<TerminalSize>) -> Result<Choices, Failure> {
    Ok(Choices {
        command: (!args.command.is_empty()).then(|| args.command.clone()),
        process_environment: environment(size),
        agent,
        takeover: args.takeover,
        gitops: up_plan::gitops(args.gitops),
        way: match (args.in_place, args.swap) {
            (true, _) => Some(Way::InPlace),
            (false, true) => Some(Way::Swap),
            (false, false) => None,
        },
        on_change: match args.on_change {
            args::OnChange::Rebase => OnChange::Rebase,
            args::OnChange::Keep => OnChange::Keep,
            args::OnChange::Leave => OnChange::Leave,
        },
        here: here()?,
    })
}

/// What a command needs that runs on this machine.
fn here() -> Result<Here, Failure> {
    Ok(Here {
        shell: env_vars::text("SHELL"),
        path: env_vars::os("PATH").unwrap_or_default(),
        helper: std::env::current_exe()?,
    })
}

/// What a process needs to know of the user's terminal.
pub(crate) fn environment(size: Option<TerminalSize>) -> Vec<(String, String)> {
    let terminal = size.and_then(|_| env_vars::text("TERM"));
    terminal.map(|terminal| ("TERM".to_owned(), terminal)).into_iter().collect()
}
