//! `towline down`.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use towline_patcher::Held;
use towline_session::controllers::standing::Standing;
use towline_session::down::{self, Restored};
use towline_session::{Context, SessionError, event::EVENT_VERSION, storage};

use super::{Outcome, sessions};
use crate::args::{Down, Global};
use crate::diagnose::Failure;
use crate::exit_code;
use crate::place;
use crate::project::Project;
use crate::ui::Ui;

/// Ends the sessions that are meant and says how exactly each original was restored.
pub(crate) async fn run(ui: &mut Ui, global: &Global, args: &Down) -> Outcome {
    let context = place::connect(ui, global).await?;
    let mut name = args.name.clone();
    let all = sessions::matching(&context, None).await?;
    let found = if args.all {
        all
    } else {
        // The manifest only narrows the choice down; without one the record in the cluster is enough.
        if name.is_none()
            && let Ok(project) = Project::open(global)
            && let Some(manifest) = &project.parsed.manifest
            && manifest.dev.len() == 1
        {
            let only = manifest.dev.values().next().map(|dev| dev.workload.clone());
            name = only.filter(|_| !project.example);
        }
        meant(all, name.as_deref(), args.name.is_none())?
    };
    if found.is_empty() && args.volumes && remove_claims(ui, &context, args, name.as_deref(), &[]).await? > 0
    {
        return Ok(exit_code::OK);
    }
    if found.is_empty() {
        if args.all {
            ui.say(&format!("nothing is in dev mode in namespace {}", context.namespace));
            return Ok(exit_code::OK);
        }
        let what = args.name.clone();
        return Err(SessionError::NotHeld { what, namespace: context.namespace.clone() }.into());
    }
    let mut code = exit_code::OK;
    for (lease, held) in &found {
        ui.phase(&format!("restoring {} {}", held.record.kind, held.record.name));
        let mut force = args.force;
        let restored = loop {
            match down::down(&context, lease, force, &mut |event| ui.event(&event)).await {
                Err(error @ SessionError::Held { alive: true, .. }) if !force => {
                    match ui.confirm(&format!("{error}."), &[], "end their session")? {
                        Some(true) => force = true,
                        Some(false) => return Err(Failure::new("nothing was changed")),
                        None => return Err(Failure::from(error).hint("without a terminal: --force")),
                    }
                }
                other => break other?,
            }
        };
        ui.phase_done();
        code = code.max(tell(ui, &restored));
    }
    if args.volumes {
        let ended: Vec<_> = found.iter().map(|(_, held)| held.record.name.clone()).collect();
        remove_claims(ui, &context, args, name.as_deref(), &ended).await?;
    }
    sessions::mention_abandoned(ui, &context, &[]).await;
    Ok(code)
}

/// Returns the sessions that `name` means, those of its services with them. `any`: where nothing has that name, whatever
/// there is.
fn meant(all: Vec<(Value, Held)>, name: Option<&str>, any: bool) -> Result<Vec<(Value, Held)>, Failure> {
    let is_meant = |held: &Held| {
        name.is_none_or(|name| {
            down::is_meant(&held.record, name) || held.record.main.as_deref() == Some(name)
        })
    };
    let mut found: Vec<_> = all.iter().filter(|(_, held)| is_meant(held)).cloned().collect();
    if found.is_empty() && any {
        found.clone_from(&all);
    }
    // What it belongs to, or itself: what more than one of are several things to end.
    let head = |held: &Held| held.record.main.clone().unwrap_or_else(|| held.record.dev_name.clone());
    let heads: BTreeSet<_> = found.iter().map(|(_, held)| head(held)).collect();
    let of_one_name = found.iter().filter(|(_, held)| held.record.main.is_none()).count() > 1;
    if heads.len() > 1 || of_one_name {
        let names: Vec<_> = found.iter().map(|(_, held)| down::full_name(&held.record)).collect();
        return Err(Failure::new(format!("several workloads are in dev mode: {}", names.join(", ")))
            .hint("name one of them, or end all: towline down --all")
            .code(exit_code::USAGE));
    }
    let mains: BTreeSet<_> =
        found.iter().filter(|(_, held)| held.record.main.is_none()).map(|(_, held)| head(held)).collect();
    let is_service = |held: &Held| held.record.main.as_ref().is_some_and(|main| mains.contains(main));
    let is_known = |lease: &Value| found.iter().any(|(known, _)| known == lease);
    let more: Vec<_> = all.into_iter().filter(|(lease, held)| is_service(held) && !is_known(lease)).collect();
    found.extend(more);
    Ok(found)
}

/// Removes the claims of what is meant: all, those of the sessions that were ended, or that of a name. Returns how many.
async fn remove_claims(
    ui: &mut Ui,
    context: &Context,
    args: &Down,
    name: Option<&str>,
    ended: &[String],
) -> Result<usize, Failure> {
    if args.all {
        return Ok(storage::remove_claims(context, &mut |event| ui.event(&event)).await?);
    }
    let mut removed = 0;
    let named = name.filter(|_| ended.is_empty());
    for workload in ended.iter().map(String::as_str).chain(named) {
        let there = storage::remove_claim(context, workload, &mut |event| ui.event(&event)).await?;
        if there {
            ui.say(&format!("the volume claim of {workload} is removed, with all that was in it"));
        }
        removed += usize::from(there);
    }
    Ok(removed)
}

/// Says how exactly an original was restored. Returns the exit code for it.
pub(super) fn tell(ui: &mut Ui, restored: &Restored) -> u8 {
    if ui.is_json() {
        let differences: Vec<_> = restored
            .differences
            .iter()
            .map(|difference| {
                json!({"path": difference.path, "want": difference.want, "found": difference.found,
                       "owner": difference.owner})
            })
            .collect();
        ui.json(&json!({
            "version": EVENT_VERSION, "kind": "restored", "workload": restored.workload, "said": restored.said,
            "exact": restored.differences.is_empty(), "differences": differences,
            "standings": restored.standings,
        }));
    } else if restored.differences.is_empty() {
        ui.say(&format!("{} {}; restored exactly", restored.workload, restored.said));
    } else {
        ui.say(&format!("{} {}; what others changed stays:", restored.workload, restored.said));
        for difference in &restored.differences {
            let value =
                |value: &Option<Value>| value.as_ref().map_or("nothing".to_owned(), ToString::to_string);
            let owner = difference.owner.as_deref().map(|owner| format!(", by {owner}")).unwrap_or_default();
            ui.say(&format!(
                "  {} was {}, is {}{owner}",
                difference.path,
                value(&difference.want),
                value(&difference.found)
            ));
        }
    }
    if !ui.is_json() {
        for standing in &restored.standings {
            ui.say(&words(standing));
        }
    }
    let unexplained = restored.differences.iter().any(|difference| difference.owner.is_none());
    if unexplained { exit_code::REFUSED } else { exit_code::OK }
}

/// Says in a line whether a controller has the workload in sync.
fn words(standing: &Standing) -> String {
    let who = &standing.who;
    if standing.in_sync {
        return format!("{who} has it in sync");
    }
    let why = standing.why.as_deref().unwrap_or("it does not say why");
    let hint = standing.hint.as_ref().map(|hint| format!("; to sync: {hint}")).unwrap_or_default();
    format!("{who} does not have it in sync yet: {why}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_says_what_to_type() {
        let check = |in_sync, why: Option<&str>, hint: Option<&str>, expected: &str| {
            let who = "Argo CD (Application argocd/shop)".to_owned();
            let standing =
                Standing { who, in_sync, why: why.map(str::to_owned), hint: hint.map(str::to_owned) };
            assert_eq!(words(&standing), expected);
        };
        check(true, None, None, "Argo CD (Application argocd/shop) has it in sync");
        check(
            false,
            Some("it is suspended"),
            Some("argocd app sync shop"),
            "Argo CD (Application argocd/shop) does not have it in sync yet: it is suspended; to sync: argocd app sync shop",
        );
    }
}
