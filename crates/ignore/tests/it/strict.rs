//! A second opinion: ignore lines by the textbook meaning of globs, written as plainly as possible.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

/// What a token of a glob matches.
enum Token {
    /// One character.
    One(Box<dyn Fn(char) -> bool>),
    /// A run without `/`.
    Star,
    /// A run.
    Stars,
    /// One of these.
    Braces(Vec<Vec<Self>>),
}

/// Tells whether the first of these lines that matches the path ignores it. The lines are known to be valid.
pub(crate) fn ignores(lines: &[String], path: &str) -> bool {
    first(lines, path).is_some_and(|first| prefixes(&lines[first]).0.contains(&"!"))
}

/// Returns the number of that line.
pub(crate) fn first(lines: &[String], path: &str) -> Option<usize> {
    lines.iter().position(|line| line_matches(line, path))
}

/// Tells whether the engine that all must agree with is known to have its own mind about a line: everything but text,
/// `*`, `?`, lists, ranges, one level of braces around texts, and `**` as a folder at either end.
pub(crate) fn may_differ(line: &str) -> bool {
    let (_, pattern) = prefixes(line);
    let pattern = pattern.strip_prefix('/').unwrap_or(pattern);
    let pattern = pattern.strip_prefix("**/").unwrap_or(pattern);
    let pattern = pattern.strip_suffix("/**").or_else(|| pattern.strip_suffix('/')).unwrap_or(pattern);
    let braces = pattern.split('{').skip(1).any(|rest| {
        let Some((inside, _)) = rest.split_once('}') else { return true };
        inside.split(',').any(str::is_empty) || inside.contains(['*', '?', '[', ']', '\\'])
    });
    pattern.is_empty()
        || !pattern.is_ascii()
        || pattern.contains(['\0', '\\'])
        || pattern.contains("**")
        || pattern.contains("[!")
        || braces
}

/// Takes `!`, `(?d)` and `(?i)` off a line, each once, and returns those that are left.
fn prefixes(line: &str) -> (Vec<&'static str>, &str) {
    let mut rest = line;
    let mut left = vec!["!", "(?d)", "(?i)"];
    while let Some(at) = left.iter().position(|prefix| rest.starts_with(prefix)) {
        rest = &rest[left.remove(at).len()..];
    }
    (left, rest)
}

fn line_matches(line: &str, path: &str) -> bool {
    let (absent, pattern) = prefixes(line);
    let folded = !absent.contains(&"(?i)");
    let fold = |text: &str| -> String {
        let lower = |c: char| c.to_lowercase().next().unwrap_or(c);
        if folded { text.chars().map(lower).collect() } else { text.to_owned() }
    };
    let (pattern, path) = (fold(pattern), fold(path));
    let sources = if pattern.ends_with("/**") {
        vec![pattern]
    } else if pattern.ends_with('/') {
        vec![pattern + "**"]
    } else {
        vec![pattern.clone(), pattern + "/**"]
    };
    sources.iter().any(|source| {
        if let Some(rooted) = source.strip_prefix('/') {
            return matches(rooted, &path);
        }
        let inner = source.strip_prefix("**/").filter(|inner| !inner.is_empty());
        matches(source, &path)
            || inner.map_or_else(|| matches(&format!("**/{source}"), &path), |inner| matches(inner, &path))
    })
}

fn matches(glob: &str, path: &str) -> bool {
    let path: Vec<char> = path.chars().collect();
    let tokens = tokens(&mut glob.chars().peekable(), false);
    ends(&tokens, &path, BTreeSet::from([0])).contains(&path.len())
}

/// Returns the places where the tokens can end that begin at one of these.
fn ends(tokens: &[Token], path: &[char], mut at: BTreeSet<usize>) -> BTreeSet<usize> {
    for token in tokens {
        at = at.iter().flat_map(|&start| steps(token, path, start)).collect();
    }
    at
}

fn steps(token: &Token, path: &[char], start: usize) -> BTreeSet<usize> {
    match token {
        Token::One(fits) => path.get(start).filter(|&&c| fits(c)).map(|_| start + 1).into_iter().collect(),
        Token::Star => (start..=path.len()).take_while(|&end| !path[start..end].contains(&'/')).collect(),
        Token::Stars => (start..=path.len()).collect(),
        Token::Braces(members) => {
            members.iter().flat_map(|member| ends(member, path, BTreeSet::from([start]))).collect()
        }
    }
}

/// Reads tokens up to the end, or inside braces up to the `,` or `}` that ends them, which stays.
fn tokens(glob: &mut Peekable<Chars<'_>>, in_braces: bool) -> Vec<Token> {
    let mut tokens = Vec::new();
    while let Some(&c) = glob.peek() {
        if in_braces && (c == ',' || c == '}') {
            break;
        }
        glob.next();
        match c {
            '?' => tokens.push(Token::One(Box::new(|c| c != '/'))),
            '*' if glob.next_if_eq(&'*').is_some() => tokens.push(Token::Stars),
            '*' => tokens.push(Token::Star),
            '[' => tokens.push(class(glob)),
            '{' => {
                let mut members = vec![self::tokens(glob, true)];
                while glob.next() == Some(',') {
                    members.push(self::tokens(glob, true));
                }
                tokens.push(Token::Braces(members));
            }
            '\\' => tokens.extend(glob.next().map(|c| Token::One(Box::new(move |other| other == c)))),
            _ => tokens.push(Token::One(Box::new(move |other| other == c))),
        }
    }
    tokens
}

/// Reads a list or a range after its `[`.
fn class(glob: &mut Peekable<Chars<'_>>) -> Token {
    let negated = glob.next_if_eq(&'!').is_some();
    let mut ahead = glob.clone();
    if let (Some(lo), Some('-'), Some(hi)) = (ahead.next(), ahead.next(), ahead.next()) {
        ahead.next();
        *glob = ahead;
        return Token::One(Box::new(move |c| (lo..=hi).contains(&c) != negated));
    }
    let mut members = Vec::new();
    while let Some(c) = glob.next().filter(|&c| c != ']') {
        members.extend(if c == '\\' { glob.next() } else { Some(c) });
    }
    Token::One(Box::new(move |c| members.contains(&c) != negated))
}
