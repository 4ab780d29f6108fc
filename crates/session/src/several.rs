//! Several sessions that one `up` begins. Up to the last Lease it is all of them or none; from then on each has a life of
//! its own.

use std::collections::BTreeMap;

use towline_protocol::TerminalSize;

use crate::context::Context;
use crate::error::SessionError;
use crate::plan::UpPlan;
use crate::request::{Forward, UpRequest};
use crate::up::{self, Prepared, Session};

/// Leaves a forward that several requests have, and that leads beyond their containers, to the first of them.
pub fn share_forwards(requests: &mut [UpRequest]) {
    let mut seen: Vec<Forward> = Vec::new();
    for request in requests {
        let beyond = |forward: &Forward| forward.host.is_some() || !forward.labels.is_empty();
        request.forwards.retain(|forward| !(beyond(forward) && seen.contains(forward)));
        seen.extend(request.forwards.iter().cloned());
    }
}

/// Fails for plans that can't be carried out side by side.
pub fn check(plans: &[UpPlan]) -> Result<(), SessionError> {
    let mut workloads = BTreeMap::new();
    let mut ports = BTreeMap::new();
    for plan in plans {
        let (name, record) = (plan.request.plan.dev_name.as_str(), &plan.record);
        if let Some(other) = workloads.insert((&record.kind, &record.name), name) {
            return Err(SessionError::Refused {
                what: format!("{other} and {name}"),
                why: format!("both are about {} {}", record.kind, record.name),
                hint: "leave one of them out, or name another workload in the manifest".to_owned(),
            });
        }
        for forward in &plan.request.forwards {
            if let Some(other) = ports.insert((forward.interface, forward.local), name) {
                return Err(SessionError::Refused {
                    what: format!("{other} and {name}"),
                    why: format!("both forward port {} of this machine", forward.local),
                    hint: "choose another local port in the manifest's forward for one of them".to_owned(),
                });
            }
        }
    }
    Ok(())
}

/// Begins the sessions of several plans, in their order. `sizes` are the terminals of their commands.
///
/// Ports, folders and Leases are taken for all of them before anything else is written for any; if that fails for one,
/// nothing of any stays. A session that fails later undoes itself, and the others go on.
pub async fn up(
    context: &Context,
    plans: Vec<(UpPlan, Option<TerminalSize>)>,
) -> Result<Vec<Session>, SessionError> {
    let mut prepared = Vec::new();
    for (plan, size) in plans {
        prepared.push((Prepared::new(context, plan).await?, size));
    }
    let mut held = Vec::new();
    for (prepared, size) in prepared {
        match prepared.hold().await {
            Ok(holding) => held.push((holding, size)),
            Err(error) => {
                for (holding, _) in held {
                    holding.let_go(&error.to_string()).await?;
                }
                return Err(error);
            }
        }
    }
    Ok(held.into_iter().map(|(holding, size): (up::Holding, _)| holding.begin(size)).collect())
}
