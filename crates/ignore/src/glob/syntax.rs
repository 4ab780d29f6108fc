//! Text of a glob → its parts.
//!
//! The separator is `/`. `?`, `*` and `**` mean what they mean everywhere; `[…]` holds either one
//! range or a list and may match `/`; `{x,y}` nests and an unclosed one ends with the pattern.

use crate::MAX_DEPTH;
use crate::error::GlobFault;

/// One part of a glob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Itself; never empty.
    Text(Box<str>),
    /// Exactly one character.
    One(One),
    /// `*`: any run of characters without `/`.
    Any,
    /// `**`: any run of characters.
    Super,
    /// `{x,y}`: one of the alternatives, each of which may be empty.
    Alternatives(Vec<Vec<Self>>),
}

/// What one character may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum One {
    /// `?`: anything but `/`.
    Wildcard,
    /// `[abc]` or `[!abc]`.
    List { members: Box<str>, negated: bool },
    /// `[a-z]` or `[!a-z]`, both ends included.
    Range { lo: char, hi: char, negated: bool },
}

impl One {
    /// Tells whether `c` fits.
    pub(super) fn fits(&self, c: char) -> bool {
        match self {
            Self::Wildcard => c != '/',
            Self::List { members, negated } => members.contains(c) != *negated,
            Self::Range { lo, hi, negated } => (*lo <= c && c <= *hi) != *negated,
        }
    }
}

/// Counts the parts, nested ones and alternatives included.
pub(super) fn count(parts: &[Part]) -> usize {
    parts
        .iter()
        .map(|part| match part {
            Part::Alternatives(members) => 1 + members.iter().map(|member| 1 + count(member)).sum::<usize>(),
            Part::Text(_) | Part::One(_) | Part::Any | Part::Super => 1,
        })
        .sum()
}

/// Parses a glob.
pub(crate) fn parse(pattern: &str) -> Result<Vec<Part>, GlobFault> {
    let mut parser = Parser { rest: pattern };
    Ok(parser.sequence(0)?.0)
}

/// How a sequence of parts ended.
enum End {
    Pattern,
    Comma,
    Brace,
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    /// Takes the next character. A NUL stands for the end, as in the reference engine, which takes
    /// it off the input all the same.
    fn read(&mut self) -> Result<Option<char>, GlobFault> {
        let next = self.peek()?;
        if let Some(c) = self.rest.chars().next() {
            self.rest = &self.rest[c.len_utf8()..];
        }
        Ok(next)
    }

    fn peek(&self) -> Result<Option<char>, GlobFault> {
        match self.rest.chars().next() {
            None | Some('\0') => Ok(None),
            Some(char::REPLACEMENT_CHARACTER) => Err(GlobFault::UnreadableCharacter),
            next => Ok(next),
        }
    }

    fn sequence(&mut self, depth: usize) -> Result<(Vec<Part>, End), GlobFault> {
        let in_braces = depth > 0;
        let mut parts = Vec::new();
        loop {
            let before = self.rest;
            let part = match self.read()? {
                None => {
                    // A NUL here is the end of everything that follows, too.
                    self.rest = "";
                    return Ok((parts, End::Pattern));
                }
                Some(',') if in_braces => return Ok((parts, End::Comma)),
                Some('}') if in_braces => return Ok((parts, End::Brace)),
                Some('{') => Part::Alternatives(self.alternatives(depth + 1)?),
                Some('[') => Part::One(self.class()?),
                Some('?') => Part::One(One::Wildcard),
                Some('*') if self.rest.starts_with('*') => {
                    self.rest = &self.rest[1..];
                    Part::Super
                }
                Some('*') => Part::Any,
                Some(_) => {
                    self.rest = before;
                    let stops: &[char] =
                        if in_braces { &['?', '*', '[', '{', '}', ','] } else { &['?', '*', '[', '{'] };
                    let text = self.text(stops)?;
                    if text.is_empty() {
                        continue;
                    }
                    Part::Text(text.into())
                }
            };
            parts.push(part);
        }
    }

    fn alternatives(&mut self, depth: usize) -> Result<Vec<Vec<Part>>, GlobFault> {
        if depth > MAX_DEPTH {
            return Err(GlobFault::TooDeep);
        }
        let mut members = Vec::new();
        loop {
            let (member, end) = self.sequence(depth)?;
            members.push(member);
            if !matches!(end, End::Comma) {
                return Ok(members);
            }
        }
    }

    /// Reads text up to an unescaped stop character, which stays, or up to the end.
    fn text(&mut self, stops: &[char]) -> Result<String, GlobFault> {
        let mut text = String::new();
        let mut escaped = false;
        loop {
            let before = self.rest;
            match self.read()? {
                None => return Ok(text),
                Some('\\') if !escaped => escaped = true,
                Some(c) if !escaped && stops.contains(&c) => {
                    self.rest = before;
                    return Ok(text);
                }
                Some(c) => {
                    escaped = false;
                    text.push(c);
                }
            }
        }
    }

    /// Reads a class after its `[`.
    fn class(&mut self) -> Result<One, GlobFault> {
        let mut negated = false;
        let mut before = self.rest;
        let mut first = self.read()?.ok_or(GlobFault::UnexpectedEnd)?;
        if first == '!' {
            negated = true;
            before = self.rest;
            first = self.read()?.ok_or(GlobFault::UnexpectedEnd)?;
        }
        if self.peek()? == Some('-') {
            self.read()?;
            let hi = self.read()?.ok_or(GlobFault::UnexpectedEnd)?;
            self.close()?;
            if hi < first {
                return Err(GlobFault::ReversedRange { lo: first, hi });
            }
            return Ok(One::Range { lo: first, hi, negated });
        }
        self.rest = before;
        let members = self.text(&[']'])?;
        self.close()?;
        if members.is_empty() {
            return Err(GlobFault::EmptyClass);
        }
        Ok(One::List { members: members.into(), negated })
    }

    fn close(&mut self) -> Result<(), GlobFault> {
        match self.read()? {
            None => Err(GlobFault::UnexpectedEnd),
            Some(']') => Ok(()),
            Some(_) => Err(GlobFault::ExpectedClose),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Part {
        Part::Text(text.into())
    }

    #[track_caller]
    fn check(pattern: &str, expected: Result<&[Part], GlobFault>) {
        assert_eq!(parse(pattern), expected.map(<[Part]>::to_vec), "{pattern}");
    }

    #[test]
    fn tokens() {
        check("", Ok(&[]));
        check("a,}]", Ok(&[text("a,}]")]));
        check("***", Ok(&[Part::Super, Part::Any]));
        check(r"\*a\", Ok(&[text("*a")]));
        check("[!!a]", Ok(&[Part::One(One::List { members: "!a".into(), negated: true })]));
        check(r"[\--]", Err(GlobFault::ReversedRange { lo: '\\', hi: '-' }));
        check(
            "{a,{,b}",
            Ok(&[Part::Alternatives(vec![
                vec![text("a")],
                vec![Part::Alternatives(vec![vec![], vec![text("b")]])],
            ])]),
        );
    }

    #[test]
    fn nul_ends_a_token() {
        check("nul\0x", Ok(&[text("nul"), text("x")]));
        check("*\0x", Ok(&[Part::Any]));
    }

    #[test]
    fn faults() {
        check("[a", Err(GlobFault::UnexpectedEnd));
        check("[a-b", Err(GlobFault::UnexpectedEnd));
        check("[a-c0-9]", Err(GlobFault::ExpectedClose));
        check("[z-a]", Err(GlobFault::ReversedRange { lo: 'z', hi: 'a' }));
        check("[]a]", Err(GlobFault::EmptyClass));
        check("a\u{fffd}", Err(GlobFault::UnreadableCharacter));
        check(&"{".repeat(MAX_DEPTH + 1), Err(GlobFault::TooDeep));
        assert!(parse(&"{".repeat(MAX_DEPTH)).is_ok());
    }
}
