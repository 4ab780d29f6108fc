//! Text from the cluster, the pod or the disk on its way to a terminal.

use std::fmt::Write;

/// Replaces what could move the cursor, hide text or turn it around: control characters (C0, C1, DEL), directional
/// and invisible ones. Line breaks stay when `lines` is set.
pub(crate) fn clean(text: &str, lines: bool) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        let harmful = character.is_control()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if !harmful || (lines && character == '\n') {
            clean.push(character);
        } else {
            // Writing to a String does not fail.
            let _ = write!(clean, "{}", character.escape_unicode());
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        for (text, expected) in [
            ("plain ü 文", "plain ü 文"),
            ("\u{1b}[2Jx", "\\u{1b}[2Jx"),
            ("a\rb", "a\\u{d}b"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("x\u{202e}gpj.exe", "x\\u{202e}gpj.exe"),
            ("a\u{200b}b", "a\\u{200b}b"),
            ("a\nb", "a\\u{a}b"),
        ] {
            assert_eq!(clean(text, false), expected);
        }
        assert_eq!(clean("a\nb\u{7}", true), "a\nb\\u{7}");
    }
}
