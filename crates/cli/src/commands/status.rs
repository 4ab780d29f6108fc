//! `towline status`.

use std::fmt::Write;

use serde_json::json;
use towline_cluster::port::{EVENTS, Selection};
use towline_session::pod::{self, PodPhase, PodView};
use towline_session::{journal, state_file};

use super::{Outcome, sessions};
use crate::args::{Global, Status};
use crate::exit_code;
use crate::place;
use crate::ui::Ui;

/// Shows each session: who holds it, its pod, and, for one of this machine, its sync.
pub(crate) async fn run(ui: &mut Ui, global: &Global, args: &Status) -> Outcome {
    let context = place::connect(ui, global).await?;
    let found = sessions::matching(&context, args.name.as_deref()).await?;
    if found.is_empty() && !ui.is_json() {
        ui.say(&format!("nothing is in dev mode in namespace {}", context.namespace));
    }
    let events = context.cluster.list(EVENTS, Some(&context.namespace), &Selection::default()).await;
    let events = events.unwrap_or_default();
    for (_, held) in found {
        let record = &held.record;
        let view = sessions::dev_pod(&context, &held)
            .await?
            .map(|found| pod::view(&found, &record.container, &events));
        let local = state_file::read(&state_file::folder(&context, record))
            .filter(|state| state.session == record.session && state_file::is_running(state));
        let alive = journal::is_alive(&held);
        let pauses = record.pauses.iter();
        let pauses: Vec<_> = pauses.map(|it| format!("{} {}/{}", it.kind, it.namespace, it.name)).collect();
        if ui.is_json() {
            ui.json(&json!({
                "version": 1, "kind": "session", "workload": record.name, "dev": record.dev_name, "main": record.main,
                "namespace": record.namespace, "session": record.session,
                "holder": journal::person(&held.holder), "since": held.acquire_time, "alive": alive,
                "replicas": record.replicas, "scaledDown": record.parked,
                "scaledDownAgain": record.re_parks.len(), "pauses": pauses,
                "pod": view.as_ref().map(|view| json!({"name": view.name, "node": view.node,
                    "restarts": view.restarts, "phase": phase(&view.phase)})),
                "local": local,
            }));
            continue;
        }
        let mut text = format!("{} {} in namespace {}\n", record.kind, record.name, record.namespace);
        if let Some(main) = &record.main {
            let _ = writeln!(text, "  one of the services of {main}");
        }
        let since = held.acquire_time.as_deref().unwrap_or("an unknown time");
        let heard = if alive { "" } else { ", not heard of lately" };
        let _ = writeln!(text, "  held by {} since {since}{heard}", journal::person(&held.holder));
        let _ = writeln!(text, "  pod {}", pod_line(view.as_ref()));
        for pause in pauses {
            let _ = writeln!(text, "  paused until dev mode ends: {pause}");
        }
        if !record.re_parks.is_empty() {
            let _ = writeln!(
                text,
                "  others scaled the original up: undone {} times of late",
                record.re_parks.len()
            );
        }
        if let Some(local) = local {
            let _ = writeln!(text, "  {} by process {} of this machine", local.state.name(), local.pid);
            for folder in &local.folders {
                let sync = match &folder.halted {
                    Some(why) => format!("stopped: {why}"),
                    None if folder.in_sync => "in sync".to_owned(),
                    None => format!("{} of {} files", folder.files, folder.files_total),
                };
                let _ = writeln!(text, "  {} ↔ {}: {sync}", folder.local, folder.remote);
                for (path, message) in &folder.problems {
                    let _ = writeln!(text, "    not synced: {path}: {message}");
                }
                for (path, kept) in &folder.conflicts {
                    let _ = writeln!(text, "    conflict: {path}: the pod's version is {kept}");
                }
            }
            for (begins, leads) in &local.forwards {
                let _ = writeln!(text, "  {begins} → {leads}");
            }
        } else {
            text.push_str("  no process of this machine works on it\n");
        }
        ui.data(text.trim_end());
    }
    sessions::mention_abandoned(ui, &context, &[]).await;
    Ok(exit_code::OK)
}

fn pod_line(view: Option<&PodView>) -> String {
    let Some(view) = view else { return "none".to_owned() };
    let node = view.node.as_deref().map(|node| format!(" on {node}")).unwrap_or_default();
    let restarts =
        if view.restarts > 0 { format!(", started again {} times", view.restarts) } else { String::new() };
    format!("{}{node}: {}{restarts}", view.name, phase(&view.phase))
}

fn phase(phase: &PodPhase) -> String {
    let because = |why: &Option<String>| why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    match phase {
        PodPhase::Scheduling { why } => format!("waits for a node{}", because(why)),
        PodPhase::Attaching { why } => format!("is set up{}", because(why)),
        PodPhase::Pulling { image } => format!("pulls {image}"),
        PodPhase::Running => "running".to_owned(),
        PodPhase::Restarting { reason } => format!("starts again after {reason}"),
        PodPhase::Blocked { reason, message } | PodPhase::Ended { reason, message } => {
            format!("{reason}: {message}")
        }
    }
}
