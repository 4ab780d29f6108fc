//! Finding the session that a verb is about: by workload, by dev service, or because there is only one.

use serde_json::Value;
use towline_cluster::port::{PODS, Selection};
use towline_patcher::{Held, SESSION_LABEL};
use towline_session::{Context, SessionError, down, pod};

use crate::diagnose::Failure;

/// Returns the sessions of the namespace that `name` means; all of them without one.
pub(crate) async fn matching(context: &Context, name: Option<&str>) -> Result<Vec<(Value, Held)>, Failure> {
    let mut sessions = down::sessions(context).await?;
    if let Some(name) = name {
        sessions.retain(|(_, held)| held.record.name == name || held.record.dev_name == name);
    }
    Ok(sessions)
}

/// Returns the one session that `name` means.
pub(crate) async fn one(context: &Context, name: Option<&str>) -> Result<(Value, Held), Failure> {
    let mut sessions = matching(context, name).await?;
    if sessions.len() > 1 {
        let names: Vec<_> = sessions.iter().map(|(_, held)| held.record.name.clone()).collect();
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
