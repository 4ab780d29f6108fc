//! Finding the session that a verb is about: by workload, by dev service, or because there is only one.

use std::time::Duration;

use serde_json::Value;
use towline_cluster::port::{PODS, Selection};
use towline_patcher::{Held, SESSION_LABEL};
use towline_session::{Context, SessionError, down, gc, journal, pod};

use crate::diagnose::Failure;
use crate::ui::Ui;

/// Returns the sessions of the namespace that `name` means; all of them without one.
pub(crate) async fn matching(context: &Context, name: Option<&str>) -> Result<Vec<(Value, Held)>, Failure> {
    let mut sessions = down::sessions(context).await?;
    if let Some(name) = name {
        sessions.retain(|(_, held)| down::is_meant(&held.record, name));
    }
    Ok(sessions)
}

/// Says which sessions of the namespace, but those of `workloads`, nobody has been heard of for long, and how to end them.
pub(crate) async fn mention_abandoned(ui: &mut Ui, context: &Context, workloads: &[&str]) {
    // What can't be looked at is no reason not to do what was asked for.
    let Ok(found) = gc::abandoned(context, false, gc::ABANDONED).await else { return };
    for one in found.iter().filter(|one| !workloads.contains(&one.held.record.name.as_str())) {
        let record = &one.held.record;
        ui.warn(&format!(
            "{} {} is in dev mode by {}, not heard of for {}; towline down {} ends it, towline gc all such",
            record.kind,
            record.name,
            journal::person(&one.held.holder),
            age(one.silence),
            record.name,
        ));
    }
}

/// Returns a time as people say it, rounded down.
pub(crate) fn age(time: Duration) -> String {
    let minutes = time.as_secs() / 60;
    match minutes {
        0..120 => format!("{minutes} minutes"),
        120..2880 => format!("{} hours", minutes / 60),
        _ if minutes / 1440 > 36_500 => "an unknown time".to_owned(),
        _ => format!("{} days", minutes / 1440),
    }
}

/// Returns the one session that `name` means.
pub(crate) async fn one(context: &Context, name: Option<&str>) -> Result<(Value, Held), Failure> {
    let mut sessions = matching(context, name).await?;
    let mut leads = sessions.iter().filter(|(_, held)| held.record.main.is_none());
    // Services come with the dev service that they belong to, and are named where they are meant.
    if let (Some((_, lead)), None) = (leads.next().cloned(), leads.next())
        && sessions
            .iter()
            .all(|(_, held)| held.record.main.as_ref().is_none_or(|main| *main == lead.record.dev_name))
    {
        sessions.retain(|(_, held)| held.record.main.is_none());
    }
    if sessions.len() > 1 {
        let names: Vec<_> = sessions.iter().map(|(_, held)| down::full_name(&held.record)).collect();
        return Err(Failure::new(format!("several workloads are in dev mode: {}", names.join(", ")))
            .hint("name one of them")
            .code(crate::exit_code::USAGE));
    }
    sessions.pop().ok_or_else(|| {
        let what = name.map(str::to_owned);
        SessionError::NotHeld { what, namespace: context.namespace.clone() }.into()
    })
}

/// Returns the dev pod of a session, if there is one.
pub(crate) async fn dev_pod(context: &Context, held: &Held) -> Result<Option<Value>, Failure> {
    let labels = vec![(SESSION_LABEL.to_owned(), held.record.session.clone())];
    let selection = Selection { name: None, labels };
    let pods = context.cluster.list(PODS, Some(&context.namespace), &selection).await?;
    Ok(pod::choose(&pods).cloned())
}

/// Returns the name of the dev pod, or says that there is none.
pub(crate) async fn dev_pod_name(context: &Context, held: &Held) -> Result<String, Failure> {
    let pod = dev_pod(context, held).await?.ok_or_else(|| {
        Failure::new(format!("the dev container of {} has no pod", held.record.name))
            .hint("see why: towline status")
    })?;
    Ok(pod::view(&pod, &held.record.container, &[]).name)
}
