//! The plan for a workload that is not there and that the manifest wants made.

use serde_json::Value;
use towline_cluster::port::{LEASES, Object, Right, SERVICES};
use towline_patcher::{Record, Way};

use super::{
    UpPlan, architecture, dry_run, existing, mounts_in_folders, random_name, read_only_folders, store,
};
use crate::context::Context;
use crate::controllers::truce::Truce;
use crate::error::SessionError;
use crate::hybrid;
use crate::journal;
use crate::kinds::{self, Found};
use crate::plan_view::{RightView, Surroundings};
use crate::request::{UpRequest, Workload};
use crate::rights;

/// What runs when the manifest names no image, as Okteto's users expect.
const IMAGE: &str = "okteto/dev";
/// Where the template of a Deployment is.
const TEMPLATE: &str = "/spec/template";

/// Returns the name of the Deployment to make, where one is to be made.
pub(super) fn name(request: &UpRequest) -> Option<String> {
    let Workload::Name(name) = &request.workload else { return None };
    match name.split_once('/') {
        _ if !request.autocreate => None,
        None => Some(name.clone()),
        Some((kind, name)) => {
            kinds::named(kind).is_some_and(|kind| kind.kind == "Deployment").then(|| name.to_owned())
        }
    }
}

/// Plans a dev container that is made of the manifest alone. Writes nothing.
pub(super) async fn plan(
    context: &Context,
    name: &str,
    mut request: UpRequest,
    rights: Vec<RightView>,
    mut notes: Vec<String>,
) -> Result<UpPlan, SessionError> {
    if request.way == Some(Way::InPlace) {
        return Err(SessionError::Refused {
            what: format!("Deployment {name}"),
            why: "there is none whose template could be changed".to_owned(),
            hint: "leave --in-place out: autocreate makes a dev container".to_owned(),
        });
    }
    request.plan.session = session(context, name).await?;
    request.plan.agent.config_map = request.agent.config_map_name();
    "agent".clone_into(&mut request.plan.agent.key);
    request.plan.arch_selector = architecture(context, &request.agent, &mut notes).await?;
    let image = request.plan.image.clone().unwrap_or_else(|| IMAGE.to_owned());
    let original = towline_patcher::blank(&context.namespace, name, &image, &request.plan);
    let found = Found { resource: towline_cluster::port::DEPLOYMENTS, object: original.clone() };
    let resumed = existing(context, &found, request.takeover).await?;
    let (claim, claim_is_new) = store(context, &original, TEMPLATE, &mut request, &mut notes).await?;
    hybrid::complete(context, &mut request, &original, TEMPLATE, &mut notes).await?;
    request.plan.scratch = read_only_folders(&original, TEMPLATE, &request);
    let clone = towline_patcher::autocreated(&original, &request.plan)?;
    let mut record = Record::new(&original, &request.plan, &clone, env!("CARGO_PKG_VERSION"))?;
    record.autocreated = true;
    record.claim_is_new = claim_is_new;
    record.main.clone_from(&request.main);
    notes.push(format!(
        "there is no workload {name}: {image} becomes the dev container, and goes with dev mode"
    ));
    record.service = match &resumed {
        Some((_, held)) => held.record.service.clone(),
        None => service(context, name, &mut notes).await?,
    };
    let mut obstacles = Vec::new();
    if !resumed.as_ref().is_some_and(|(_, held)| held.record.is_of(&clone)) {
        dry_run(context, &original, &clone, &record, &mut notes, &mut obstacles).await?;
    }
    notes.extend(mounts_in_folders(&clone, &record, &request));
    let surroundings = Surroundings::read(context, rights).await;
    let truce = Truce::default();
    Ok(UpPlan { original, clone, record, resumed, truce, obstacles, surroundings, notes, claim, request })
}

/// Returns the session that made it before, else a new one.
async fn session(context: &Context, name: &str) -> Result<String, SessionError> {
    let lease = Object::new(LEASES, &context.namespace, towline_patcher::lease_name("Deployment", name));
    match context.cluster.get(&lease).await {
        Ok(lease) => {
            let record = journal::read(&lease)?.record;
            Ok(if record.autocreated { record.session } else { random_name() })
        }
        Err(error) if error.is_not_found() => Ok(random_name()),
        Err(error) => Err(error.into()),
    }
}

/// Returns the name of the Service to make; none where there is one, or where it may not be made.
async fn service(
    context: &Context,
    name: &str,
    notes: &mut Vec<String>,
) -> Result<Option<String>, SessionError> {
    let rights: &[Right] = rights::OWN_SERVICE;
    if !context.cluster.can(&context.namespace, rights).await?.iter().all(|has| *has) {
        return Ok(None);
    }
    match context.cluster.get(&Object::new(SERVICES, &context.namespace, name)).await {
        Ok(found) => {
            let selector = found.pointer("/spec/selector").map(Value::to_string).unwrap_or_default();
            notes.push(format!(
                "Service {name} is there and stays as it is: it leads to the dev pod where the manifest's metadata.labels \
                 are what it selects ({selector})"
            ));
            Ok(None)
        }
        Err(error) if error.is_not_found() => Ok(Some(name.to_owned())),
        // Without the right to look there is none to be sure of.
        Err(towline_cluster::ClusterError::Forbidden { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
