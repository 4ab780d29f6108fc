//! What is done about the controllers that were found: left, paused, or in the way.

use serde::Serialize;
use towline_cluster::ClusterError;

use super::pause::{self, PausePlan, Trial};
use super::{Effect, Finding};
use crate::context::Context;
use crate::obstacle::Obstacle;

/// What to do about controllers that would undo the session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Gitops {
    /// Nothing. A session that would not last is refused.
    #[default]
    Leave,
    /// Pauses each that can be paused, until the session ends.
    Pause,
}

/// The terms on which a session begins.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Truce {
    /// Who else has to do with the workload, those that matter most first.
    pub findings: Vec<Finding>,
    /// What will be paused.
    pub pauses: Vec<PausePlan>,
}

impl Truce {
    /// Tells whether a finding's controller will be paused.
    pub fn is_paused(&self, finding: &Finding) -> bool {
        finding.pauses.iter().any(|plan| self.pauses.contains(plan))
    }
}

/// Decides about each finding. What stands in the way is added to `obstacles`.
pub(crate) async fn settle(
    context: &Context,
    mut findings: Vec<Finding>,
    gitops: Gitops,
    obstacles: &mut Vec<Obstacle>,
) -> Result<Truce, ClusterError> {
    let mut pauses = Vec::new();
    for finding in &mut findings {
        let mut denied = None;
        if gitops == Gitops::Pause && finding.effect != Effect::Harmless {
            for plan in &finding.pauses {
                match pause::try_out(context, plan).await? {
                    Trial::Works => {
                        finding.answer = format!("it is paused until dev mode ends ({})", plan.words());
                        pauses.push(plan.clone());
                        denied = None;
                        break;
                    }
                    Trial::Unknown => {}
                    Trial::Denied(error) => denied = denied.or(Some(error)),
                }
            }
        }
        let is_paused = finding.pauses.iter().any(|plan| pauses.contains(plan));
        if let Some(error) = &denied {
            finding.answer = format!("it can't be paused: {error}");
        }
        if !is_paused && finding.effect >= Effect::Undoes {
            obstacles.push(obstacle(finding, gitops));
        }
    }
    Ok(Truce { findings, pauses })
}

fn obstacle(finding: &Finding, gitops: Gitops) -> Obstacle {
    let mut mend: Vec<String> = finding.mend.iter().cloned().collect();
    if gitops == Gitops::Leave && !finding.pauses.is_empty() {
        mend.push("or have it paused while you develop: towline up --gitops pause".to_owned());
    }
    Obstacle {
        code: finding.code,
        what: finding.who(),
        why: format!("it {}; {}", finding.does, finding.answer),
        mend: mend.join("\n"),
    }
}
