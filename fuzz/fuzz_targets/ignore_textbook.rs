//! Ignore lines, a line each, and after an empty line a path: where no peculiarity of the engine is known, what decides is
//! what the textbook says; and what is known about a folder says the same of its entries.
#![no_main]

#[path = "../../crates/ignore/tests/it/strict.rs"]
mod strict;

use libfuzzer_sys::fuzz_target;
use towline_ignore::Rules;

fuzz_target!(|text: &str| {
    let Some((lines, path)) = text.split_once("\n\n") else { return };
    let components: Vec<&str> = path.split('/').collect();
    if path.len() > 100 || components.iter().any(|name| ["", ".", ".."].contains(name)) {
        return;
    }
    let lines: Vec<String> = lines.lines().map(str::to_owned).collect();
    let Ok(rules) = Rules::from_lines(&lines) else { return };
    let decision = rules.decide(path);
    let mut folder = rules.folder("");
    let (name, above) = components.split_last().expect("it has at least one component");
    for name in above {
        folder = folder.enter(name);
    }
    assert_eq!(folder.decide(name), decision);
    assert_eq!(rules.folder(&above.join("/")).decide(name), decision);
    let by_no_rule = decision.ignored && decision.rule.is_none();
    if by_no_rule || !path.is_ascii() || lines.iter().any(|line| strict::may_differ(line)) {
        return;
    }
    assert_eq!(decision.rule.map(|rule| rule.line as usize - 1), strict::first(&lines, path));
    assert_eq!(decision.ignored, strict::ignores(&lines, path));
});
