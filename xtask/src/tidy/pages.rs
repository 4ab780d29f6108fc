//! Pages that say what the code says: each variable, exit code and event kind has its place in `docs/`.

use super::Finding;

/// Checks the pages; `read` returns a file's text, empty when there is none.
pub(super) fn check(read: &dyn Fn(&str) -> String) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (code, page, words) in [
        ("crates/cli/src/env_vars.rs", "docs/environment.md", variables as fn(&str) -> Vec<(usize, String)>),
        ("crates/cli/src/exit_code.rs", "docs/exit-codes.md", exit_codes),
        ("crates/session/src/event.rs", "docs/events.md", event_kinds),
    ] {
        let text = read(page);
        let words = words(&read(code));
        if words.is_empty() {
            findings.push(Finding::new(code, 1, format!("nothing found that {page} could describe")));
        }
        for (line, word) in words {
            if !text.contains(&format!("`{word}`")) {
                findings.push(Finding::new(code, line, format!("`{word}` is not in {page}")));
            }
        }
    }
    findings
}

/// Returns the values of `const NAME: &str = "VALUE";`.
fn variables(code: &str) -> Vec<(usize, String)> {
    constants(code, ": &str = \"", "\";")
}

/// Returns the values of `const NAME: u8 = VALUE;`.
fn exit_codes(code: &str) -> Vec<(usize, String)> {
    constants(code, ": u8 = ", ";")
}

fn constants(code: &str, before: &str, after: &str) -> Vec<(usize, String)> {
    let value = |line: &str| {
        let (_, rest) = line.split_once("const ")?.1.split_once(before)?;
        Some(rest.split_once(after)?.0.to_owned())
    };
    code.lines().enumerate().filter_map(|(number, line)| Some((number + 1, value(line)?))).collect()
}

/// Returns the kinds of `enum Event` as JSON has them.
fn event_kinds(code: &str) -> Vec<(usize, String)> {
    let lines = code.lines().enumerate();
    let body = lines.skip_while(|(_, line)| !line.starts_with("pub enum Event ")).skip(1);
    body.take_while(|(_, line)| *line != "}")
        .filter_map(|(number, line)| {
            let name = line.strip_prefix("    ")?.trim_end_matches([' ', '{', ',']);
            let first = name.chars().next().filter(char::is_ascii_uppercase)?;
            Some((number + 1, format!("{}{}", first.to_ascii_lowercase(), &name[1..])))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: &str = "pub enum State {\n    Up,\n}\npub enum Event {\n    /// A.\n    SyncHalted {\n        folder: usize,\n    },\n    Left,\n}\nenum Other {\n    No,\n}\n";

    #[test]
    fn words_are_found_in_code() {
        assert_eq!(
            variables("/// A.\npub(crate) const A: &str = \"TOWLINE_A\";\n"),
            [(2, "TOWLINE_A".to_owned())]
        );
        assert_eq!(exit_codes("pub(crate) const OK: u8 = 0;"), [(1, "0".to_owned())]);
        assert_eq!(event_kinds(EVENTS), [(6, "syncHalted".to_owned()), (9, "left".to_owned())]);
    }

    #[test]
    fn what_a_page_leaves_out_is_said() {
        let files = |name: &str| match name {
            "crates/cli/src/env_vars.rs" => "const A: &str = \"A\";\nconst B: &str = \"B\";",
            "crates/cli/src/exit_code.rs" => "const A: u8 = 70;",
            "crates/session/src/event.rs" => EVENTS,
            "docs/environment.md" => "`A`",
            "docs/events.md" => "`left` `syncHalted`",
            _ => "",
        };
        let found: Vec<String> =
            check(&|name| files(name).to_owned()).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "crates/cli/src/env_vars.rs:2: `B` is not in docs/environment.md",
                "crates/cli/src/exit_code.rs:1: `70` is not in docs/exit-codes.md",
            ]
        );
        assert_eq!(check(&|_| String::new()).len(), 3);
    }
}
