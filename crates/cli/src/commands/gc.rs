//! `towline gc`.

use std::time::Duration;

use serde_json::json;
use towline_session::event::EVENT_VERSION;
use towline_session::gc::{self, Leftovers};
use towline_session::journal;

use super::{Outcome, down, sessions};
use crate::args::Global;
use crate::diagnose::Failure;
use crate::exit_code;
use crate::place;
use crate::ui::Ui;

/// Ends the sessions that nobody holds any more, and removes what others left.
///
/// A session counts when its holder has not been heard of for a while: the laptop was closed, or has died. Each is ended
/// as `towline down` does it. Volume claims of dev services stay; `towline down --volumes` removes them.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Gc {
    /// In all namespaces.
    #[arg(long)]
    all_namespaces: bool,
    /// Only those not heard of for this long, such as 90s, 30m, 8h or 7d. One that is alive is left alone in any case.
    #[arg(long, value_name = "DURATION", default_value = "8h", value_parser = duration)]
    older_than: Duration,
    /// Says what would be ended and removed, and changes nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Finds, then ends and removes, one after the other; one that fails keeps none of the others.
pub(crate) async fn run(ui: &mut Ui, global: &Global, args: &Gc) -> Outcome {
    let context = place::connect(ui, global).await?;
    let found = gc::find(&context, args.all_namespaces, args.older_than).await?;
    let mut code = exit_code::OK;
    if found.sessions.is_empty() && found.orphans.is_empty() && found.pauses.is_empty() && !ui.is_json() {
        let place = if args.all_namespaces { "any namespace" } else { context.namespace.as_str() };
        ui.say(&format!("nothing is left by anyone in {place}"));
    }
    if args.dry_run {
        show(ui, &found);
    } else {
        for one in &found.sessions {
            let record = &one.held.record;
            ui.phase(&format!("restoring {} {} in namespace {}", record.kind, record.name, record.namespace));
            match one.end(&mut |event| ui.event(&event)).await {
                Ok(restored) => {
                    ui.phase_done();
                    code = code.max(down::tell(ui, &restored));
                }
                Err(error) => {
                    ui.failure(&Failure::from(error));
                    code = exit_code::REFUSED;
                }
            }
        }
        for orphan in &found.orphans {
            match orphan.remove(&context, &mut |event| ui.event(&event)).await {
                Ok(true) => ui.say(&format!("removed {}", orphan.object)),
                Ok(false) => {}
                Err(error) => {
                    ui.failure(&Failure::from(error));
                    code = exit_code::REFUSED;
                }
            }
        }
    }
    if !args.dry_run {
        for pause in &found.pauses {
            if let Err(error) = pause.wake(&context, &mut |event| ui.event(&event)).await {
                ui.failure(&Failure::from(error));
                code = exit_code::REFUSED;
            }
        }
    }
    for orphan in &found.orphans {
        if let Some(why) = &orphan.keep {
            ui.warn(&format!("{} stays: {why}", orphan.object));
            code = exit_code::REFUSED;
        }
    }
    for error in found.unreadable {
        ui.failure(&Failure::from(error));
        code = exit_code::REFUSED;
    }
    Ok(code)
}

fn show(ui: &Ui, found: &Leftovers) {
    for one in &found.sessions {
        let record = &one.held.record;
        let person = journal::person(&one.held.holder);
        if ui.is_json() {
            ui.json(&json!({
                "version": EVENT_VERSION, "kind": "abandoned", "workload": record.name, "namespace": record.namespace,
                "holder": person, "since": one.held.acquire_time, "silentSeconds": one.silence.as_secs(),
            }));
        } else {
            ui.data(&format!(
                "{} {} in namespace {}, by {person}, not heard of for {}",
                record.kind,
                record.name,
                record.namespace,
                sessions::age(one.silence)
            ));
        }
    }
    for pause in &found.pauses {
        if ui.is_json() {
            ui.json(&json!({"version": EVENT_VERSION, "kind": "forgottenPause", "object": pause.target()}));
        } else {
            ui.data(&format!("{} is paused for a session that is gone", pause.target()));
        }
    }
    for orphan in found.orphans.iter().filter(|orphan| orphan.keep.is_none()) {
        if ui.is_json() {
            let object = &orphan.object;
            ui.json(&json!({
                "version": EVENT_VERSION, "kind": "orphan", "object": format!("{} {}", object.resource.kind, object.name),
                "namespace": object.namespace,
            }));
        } else {
            ui.data(&format!("{}, whose session is gone", orphan.object));
        }
    }
}

/// Reads a number and its unit.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        unit => return Err(format!("{unit:?} is no unit: write s, m, h or d")),
    };
    let number: u64 = digits.parse().map_err(|_| "expected a number and a unit, such as 8h".to_owned())?;
    number.checked_mul(factor).map(Duration::from_secs).ok_or_else(|| "that is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_a_unit() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(duration(text).ok(), expected.map(Duration::from_secs), "{text:?}");
        };
        check("0", Some(0));
        check("90s", Some(90));
        check("30m", Some(1800));
        check("8h", Some(28_800));
        check("7d", Some(604_800));
        for bad in
            ["", "h", "8 h", "-1h", "1.5h", "8w", "99999999999999999999d", "18446744073709551615d", "é"]
        {
            check(bad, None);
        }
    }
}
