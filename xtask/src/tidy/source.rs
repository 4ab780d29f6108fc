//! Rust text as the rules see it: without comments and the insides of strings, with tests told apart.

/// A Rust file.
#[derive(Debug)]
pub(super) struct Source<'a> {
    /// Relative to the repository's root, with `/`.
    pub(super) name: &'a str,
    /// As it is.
    pub(super) text: &'a str,
    /// Words and signs outside of comments and strings.
    pub(super) tokens: Vec<Token>,
    /// The lines that only tests see, each as its first and its last, counted from one.
    tests: Vec<(usize, usize)>,
}

/// A word or a sign, and its line, counted from one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
}

impl<'a> Source<'a> {
    pub(super) fn new(name: &'a str, text: &'a str) -> Self {
        let tokens = tokens(&blanked(text));
        let tests = tests(&tokens);
        Self { name, text, tokens, tests }
    }

    /// Tells whether a line is compiled for tests only.
    pub(super) fn is_test(&self, line: usize) -> bool {
        let parts: Vec<&str> = self.name.split('/').collect();
        let folder = parts.iter().any(|part| matches!(*part, "tests" | "benches" | "fuzz_targets"));
        folder
            || parts.last() == Some(&"tests.rs")
            || self.tests.iter().any(|(first, last)| (*first..=*last).contains(&line))
    }

    /// Returns the lines that are not for tests only.
    pub(super) fn lines_without_tests(&self) -> usize {
        (1..=self.text.lines().count()).filter(|line| !self.is_test(*line)).count()
    }

    /// Tells whether a row of tokens stands anywhere, and where.
    pub(super) fn find(&self, row: &[&str]) -> impl Iterator<Item = usize> {
        let fits =
            move |window: &&[Token]| window.iter().zip(row).all(|(token, wanted)| token.text == *wanted);
        self.tokens.windows(row.len()).filter(fits).map(|window| window[0].line)
    }

    /// Returns every path (`a::b::c`) with its line; groups (`a::{b, c::d}`) are spread out.
    pub(super) fn paths(&self) -> Vec<(usize, String)> {
        let mut paths = Vec::new();
        let mut open: Vec<String> = Vec::new();
        let mut path = String::new();
        let mut line = 0;
        let mut joined = false;
        for token in &self.tokens {
            let word = token.text.starts_with(|c: char| c.is_alphabetic() || c == '_');
            if token.text == "::" {
                joined = true;
                continue;
            }
            let goes_on = joined && !path.is_empty() && (word || token.text == "{");
            if !goes_on && !path.is_empty() {
                paths.push((line, std::mem::take(&mut path)));
            }
            match token.text.as_str() {
                "{" => open.push(std::mem::take(&mut path)),
                "}" => drop(open.pop()),
                _ if goes_on => path = format!("{path}::{}", token.text),
                _ if word => {
                    line = token.line;
                    path = match open.last() {
                        Some(prefix) if !prefix.is_empty() => format!("{prefix}::{}", token.text),
                        _ => token.text.clone(),
                    };
                }
                _ => {}
            }
            joined = false;
        }
        if !path.is_empty() {
            paths.push((line, path));
        }
        paths
    }
}

/// Returns the text with comments, and what stands in strings and characters, as spaces; lines stay where they are.
fn blanked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = opaque(rest, out.chars().next_back());
        if length == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (hidden, after) = rest.split_at(length);
        out.extend(hidden.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = after;
    }
    out
}

/// Returns the length of the comment, string or character that `rest` begins with; 0 when it begins with none.
fn opaque(rest: &str, before: Option<char>) -> usize {
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if rest.starts_with('"') {
        return string(rest);
    }
    if !in_word && rest.starts_with(['r', 'b', 'c']) {
        let raw = rest.trim_start_matches(['b', 'c']);
        let marks = raw.strip_prefix('r').map(|raw| raw.len() - raw.trim_start_matches('#').len());
        if let Some(marks) = marks
            && raw[1 + marks..].starts_with('"')
        {
            let end = format!("\"{}", "#".repeat(marks));
            let start = rest.len() - raw.len() + marks + 2;
            return rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len());
        }
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    0
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character, not the name of a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), _) => {
            rest[2..].char_indices().skip(1).find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 3)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

fn tokens(blanked: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (number, text) in blanked.lines().enumerate() {
        let line = number + 1;
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let length = match word {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                length => length,
            };
            tokens.push(Token { text: rest[..length].to_owned(), line });
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

/// Returns the lines of what follows each `#[cfg(test)]`: to the end of its block, or of its statement.
fn tests(tokens: &[Token]) -> Vec<(usize, usize)> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut spans = Vec::new();
    for (at, window) in tokens.windows(MARK.len()).enumerate() {
        if !window.iter().zip(MARK).all(|(token, wanted)| token.text == wanted) {
            continue;
        }
        let mut depth = 0_usize;
        let mut last = window[0].line;
        for token in &tokens[at + MARK.len()..] {
            last = token.line;
            match token.text.as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 && token.text == "}" {
                        break;
                    }
                }
                ";" if depth == 0 => break,
                _ => {}
            }
        }
        spans.push((window[0].line, last));
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_no_code() {
        let check = |text: &str, words: &[&str]| {
            let found: Vec<String> = Source::new("a.rs", text)
                .tokens
                .into_iter()
                .map(|token| token.text)
                .filter(|text| text.chars().all(char::is_alphanumeric))
                .collect();
            assert_eq!(found, words, "{text}");
        };
        check("a // b\nc", &["a", "c"]);
        check("a /* b /* c */ d */ e", &["a", "e"]);
        check(r#"a "b \" c" d"#, &["a", "d"]);
        check(r##"a r#"b " c"# d"##, &["a", "d"]);
        check(r#"a br"b\" c"#, &["a", "c"]);
        check(r"a '\'' b '\u{41}' c '{' d", &["a", "b", "c", "d"]);
        check("fn a<'b>(c: &'b str) {}", &["fn", "a", "b", "c", "b", "str"]);
        check("a \"never ends", &["a"]);
        check("a /* never ends", &["a"]);
    }

    #[test]
    fn paths_are_spread_out() {
        let check = |text: &str, wanted: &[&str]| {
            let source = Source::new("a.rs", text);
            let found: Vec<String> = source.paths().into_iter().map(|(_, path)| path).collect();
            assert_eq!(found, wanted, "{text}");
        };
        check("use std::{fs, io::{self, Read}};", &["use", "std::fs", "std::io::self", "std::io::Read"]);
        check("let a = std::fs::read(b);", &["let", "a", "std::fs::read", "b"]);
        check("Vec::<u8>::new()", &["Vec", "u8", "new"]);
        check("fn a() { b::c(); }", &["fn", "a", "b::c"]);
        check("use a::\n    b;", &["use", "a::b"]);
    }

    #[test]
    fn tests_are_told_apart() {
        let source =
            Source::new("src/a.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n");
        let tests: Vec<usize> = (1..=6).filter(|line| source.is_test(*line)).collect();
        assert_eq!(tests, [2, 3, 4, 5]);
        assert_eq!(source.lines_without_tests(), 2);
        let source = Source::new("src/a.rs", "#[cfg(test)]\nmod tests;\nfn c() {}\n");
        assert!(source.is_test(2) && !source.is_test(3));
        assert!(Source::new("src/a/tests/b.rs", "fn a() {}").is_test(1));
        assert!(Source::new("src/tests.rs", "fn a() {}").is_test(1));
    }
}
