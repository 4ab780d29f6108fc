//! Expands `$NAME` and `${NAME…}` in a text: the dialect that Okteto's users write.
//!
//! | written | becomes |
//! | --- | --- |
//! | `$V`, `${V}` | the value; empty when unset, which the caller is told |
//! | `${V:-d}` and `${V:=d}`, `${V-d}` and `${V=d}` | `d` when unset or empty, `d` when unset |
//! | `${V+x}`, `${V:+x}` | `x` when set, also when set to nothing |
//! | `${V:?m}`, `${V?m}` | the value; empty when unset |
//! | `${V:0:2}`, `${V^^}` and other shell operators | the value as it is |
//! | `$$` | `$` |
//! | `$1` | nothing |
//! | `${}`, `$` before anything else | itself |
//!
//! Defaults are expanded in turn, with any nesting of braces.

use std::ops::Range;

/// The deepest nesting of defaults.
const MAX_DEPTH: usize = 16;
/// The longest result, in bytes: a short text may name a long variable many times.
const MAX_BYTES: usize = 1024 * 1024;

/// Looks up a variable of the user's environment; `None` when it isn't set.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// A text after expansion, and what it was made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The result.
    pub text: String,
    /// Every variable that was asked for, in order.
    pub references: Vec<Reference>,
}

/// One mention of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The variable.
    pub name: String,
    /// Where the mention is in the text before expansion, in bytes.
    pub range: Range<usize>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a mention of a variable became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The variable's value.
    Value,
    /// The text's own words: a default, or what stands for "is set".
    Own,
    /// Nothing, because the variable isn't set and the text has no default.
    Unset,
}

/// A text that can't be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// `${` without its `}`.
    #[error("`${{` has no closing `}}`")]
    Unclosed {
        /// Where `${` stands, in bytes.
        at: usize,
    },
    /// Defaults inside defaults without end.
    #[error("defaults are nested more than {MAX_DEPTH} deep")]
    TooDeep {
        /// Where the innermost `${` stands, in bytes.
        at: usize,
    },
    /// The result would be too long.
    #[error("the text expands to more than {MAX_BYTES} bytes")]
    TooLong,
}

/// Returns `text` with its variables expanded.
pub fn expand(text: &str, lookup: &Lookup<'_>) -> Result<Expanded, ExpandError> {
    let mut result = Expanded::default();
    expand_part(text, 0, lookup, 0, &mut result)?;
    Ok(result)
}

/// Returns the length in bytes of the name at the start of `text`: a letter or `_`, then digits too.
pub(crate) fn name_length(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len())
}

/// Expands `text`, which starts at byte `offset` of the whole.
fn expand_part(
    text: &str,
    offset: usize,
    lookup: &Lookup<'_>,
    depth: usize,
    out: &mut Expanded,
) -> Result<(), ExpandError> {
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push(&rest[..dollar])?;
        let at = offset + (text.len() - rest.len()) + dollar;
        let after = &rest[dollar + 1..];
        let taken = match after.as_bytes().first() {
            Some(b'$') => {
                out.push("$")?;
                1
            }
            Some(b'{') => braces(after, at, lookup, depth, out)?,
            Some(digit) if digit.is_ascii_digit() => {
                out.refer("", at..at + 2, Outcome::Unset);
                1
            }
            _ => match name_length(after) {
                0 => {
                    out.push("$")?;
                    0
                }
                length => {
                    let name = &after[..length];
                    out.value(name, at..at + 1 + length, lookup(name).as_deref())?;
                    length
                }
            },
        };
        rest = &after[taken..];
    }
    out.push(rest)
}

/// Expands the braces that `after`, the text behind a `$` at byte `at`, starts with; returns their length.
fn braces(
    after: &str,
    at: usize,
    lookup: &Lookup<'_>,
    depth: usize,
    out: &mut Expanded,
) -> Result<usize, ExpandError> {
    if depth >= MAX_DEPTH {
        return Err(ExpandError::TooDeep { at });
    }
    let close = closing_brace(after).ok_or(ExpandError::Unclosed { at })?;
    let inner = &after[1..close];
    let range = at..at + 1 + close + 1;
    let length = name_length(inner);
    let (name, operator) = inner.split_at(length);
    if name.is_empty() {
        out.push("$")?;
        out.push(&after[..=close])?;
        return Ok(close + 1);
    }
    let value = lookup(name);
    let (colon, bare) = operator.strip_prefix(':').map_or((false, operator), |bare| (true, bare));
    let own = |skipped: usize| (&operator[skipped..], at + 2 + length + skipped);
    let skipped = usize::from(colon) + 1;
    let chosen = match bare.as_bytes().first() {
        Some(b'-' | b'=') => match &value {
            Some(value) if !(colon && value.is_empty()) => None,
            _ => Some(own(skipped)),
        },
        Some(b'+') => match &value {
            Some(_) => Some(own(skipped)),
            None => Some(("", at)),
        },
        _ => None,
    };
    match chosen {
        None => out.value(name, range, value.as_deref())?,
        Some((own, own_at)) => {
            out.refer(name, range, Outcome::Own);
            expand_part(own, own_at, lookup, depth + 1, out)?;
        }
    }
    Ok(close + 1)
}

/// Returns where the brace that `text` starts with is closed; a `${` inside opens another.
fn closing_brace(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0usize;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if at == 0 || bytes[at - 1] == b'$' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

impl Expanded {
    fn push(&mut self, text: &str) -> Result<(), ExpandError> {
        if self.text.len() + text.len() > MAX_BYTES {
            return Err(ExpandError::TooLong);
        }
        self.text.push_str(text);
        Ok(())
    }

    fn value(&mut self, name: &str, range: Range<usize>, value: Option<&str>) -> Result<(), ExpandError> {
        self.refer(name, range, if value.is_some() { Outcome::Value } else { Outcome::Unset });
        self.push(value.unwrap_or_default())
    }

    fn refer(&mut self, name: &str, range: Range<usize>, outcome: Outcome) {
        self.references.push(Reference { name: name.to_owned(), range, outcome });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "V" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            "LONG" => Some("x".repeat(1024)),
            _ => None,
        }
    }

    #[test]
    fn expands_the_dialect() {
        for (input, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$V", "value"),
            ("${V}", "value"),
            ("a${V}b", "avalueb"),
            ("$V$V", "valuevalue"),
            ("$V-x", "value-x"),
            ("${NOPE}", ""),
            ("p@ss$word", "p@ss"),
            ("${V:-d}", "value"),
            ("${NOPE:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NOPE-d}", "d"),
            ("${NOPE:=d}", "d"),
            ("${NOPE=d}", "d"),
            ("${EMPTY=d}", ""),
            ("${V+x}", "x"),
            ("${NOPE+x}", ""),
            ("${EMPTY+x}", "x"),
            ("${EMPTY:+x}", "x"),
            ("${V:?missing}", "value"),
            ("${NOPE:?missing}", ""),
            ("${V:0:2}", "value"),
            ("${V^^}", "value"),
            ("$$", "$"),
            ("$$V", "$V"),
            ("$1 costs $5", " costs "),
            ("${}", "${}"),
            ("100$", "100$"),
            ("$ x", "$ x"),
            ("${NOPE:-$V}", "value"),
            ("${NOPE:-${V}}", "value"),
            ("${NOPE:-${NOPE:-${V}/x}}", "value/x"),
            ("${NOPE:-{}}", "{}"),
            ("ü${V}ü", "üvalueü"),
            ("${NOPE:-.}:/app", ".:/app"),
        ] {
            assert_eq!(
                expand(input, &lookup).map(|expanded| expanded.text),
                Ok(expected.to_owned()),
                "{input}"
            );
        }
    }

    #[test]
    fn refuses_what_has_no_end() {
        assert_eq!(expand("a${V", &lookup), Err(ExpandError::Unclosed { at: 1 }));
        let deep = "${A:-".repeat(40) + &"}".repeat(40);
        assert!(matches!(expand(&deep, &lookup), Err(ExpandError::TooDeep { .. })));
        assert_eq!(expand(&"$LONG".repeat(1025), &lookup), Err(ExpandError::TooLong));
    }

    #[test]
    fn tells_which_variables_were_used_and_how() {
        let expanded = expand("$V ${NOPE} ${NOPE:-${V}} ${V+x}", &lookup).unwrap();
        let told: Vec<_> =
            expanded.references.iter().map(|r| (r.name.as_str(), r.range.clone(), r.outcome)).collect();
        assert_eq!(
            told,
            [
                ("V", 0..2, Outcome::Value),
                ("NOPE", 3..10, Outcome::Unset),
                ("NOPE", 11..24, Outcome::Own),
                ("V", 19..23, Outcome::Value),
                ("V", 25..31, Outcome::Own),
            ]
        );
    }

    proptest! {
        #[test]
        fn never_panics_and_ranges_lie_inside(text in "([$]|[{]|[}]|:-|[+=?^]|V|NOPE|1|ü| ){0,40}") {
            if let Ok(expanded) = expand(&text, &lookup) {
                for reference in expanded.references {
                    prop_assert!(text.get(reference.range.clone()).is_some_and(|part| part.starts_with('$')));
                }
            }
        }

        #[test]
        fn a_text_without_dollars_stays(text in "[^$]*") {
            let expanded = expand(&text, &lookup).unwrap();
            prop_assert_eq!(expanded.text, text);
            prop_assert!(expanded.references.is_empty());
        }

        #[test]
        fn doubling_the_dollars_gives_the_text_back(text in ".*") {
            prop_assert_eq!(expand(&text.replace('$', "$$"), &lookup).unwrap().text, text);
        }
    }
}
