//! The matcher tree.
//!
//! It works on bytes, as the reference engine does, because some of its shortcuts cut a path inside
//! a character; a byte that begins no character reads as U+FFFD. Every answer is an `Option`: `None`
//! says that the reference engine would crash here, or that the steps are used up: each visit of a
//! node takes one step, and one more for each 64 bytes that it looks at.

use super::syntax::One;

/// What `index` found: where the match starts, and how long it can be, ascending.
type Found = Option<(usize, Vec<usize>)>;

/// A node of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// Only the empty string.
    Nothing,
    /// Itself; never empty.
    Text { text: Box<str>, chars: usize },
    /// Exactly one character.
    One(One),
    /// Any run without `/`.
    Any,
    /// Any run.
    Super,
    /// The text, then any run.
    Prefix(Box<str>),
    /// Any run, then the text.
    Suffix(Box<str>),
    /// The text, then any run without `/`.
    PrefixAny(Box<str>),
    /// Any run without `/`, then the text.
    SuffixAny(Box<str>),
    /// The text somewhere.
    Contains(Box<str>),
    /// Begins with the first and ends with the second text, which may overlap.
    PrefixSuffix(Box<str>, Box<str>),
    /// So many characters, with `without` nowhere among them.
    Every { min: usize, max: Option<usize>, without: Box<str> },
    /// One after the other, all of known length.
    Row { parts: Vec<Self>, chars: usize },
    /// One of them.
    Alternatives { members: Vec<Self>, chars: Option<usize> },
    /// A value somewhere, and what must stand on either side of it.
    Tree(Box<Tree>),
}

/// A value with its branches; no branch means that nothing may stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tree {
    value: Node,
    left: Option<Node>,
    right: Option<Node>,
    left_chars: Option<usize>,
    right_chars: Option<usize>,
    chars: Option<usize>,
}

impl Node {
    pub(super) fn text(text: &str) -> Self {
        Self::Text { text: text.into(), chars: text.chars().count() }
    }

    /// Makes a row of nodes, all of known length.
    pub(super) fn row(parts: Vec<Self>) -> Self {
        let chars = parts.iter().filter_map(Self::chars).sum();
        Self::Row { parts, chars }
    }

    /// Makes alternatives. Their length is that of the first of known length, unless a later one
    /// differs: members of unknown length before it are forgotten.
    pub(super) fn alternatives(members: Vec<Self>) -> Self {
        let mut lengths = members.iter().map(Self::chars).skip_while(Option::is_none);
        let chars = lengths.next().flatten().filter(|&first| lengths.all(|other| other == Some(first)));
        Self::Alternatives { members, chars }
    }

    /// Returns the number of characters that every match has, if the engine knows it.
    pub(super) fn chars(&self) -> Option<usize> {
        match self {
            Self::Nothing => Some(0),
            Self::One(_) => Some(1),
            Self::Text { chars, .. } | Self::Row { chars, .. } => Some(*chars),
            Self::Alternatives { chars, .. } => *chars,
            Self::Tree(tree) => tree.chars,
            Self::Any
            | Self::Super
            | Self::Prefix(_)
            | Self::Suffix(_)
            | Self::PrefixAny(_)
            | Self::SuffixAny(_)
            | Self::Contains(_)
            | Self::PrefixSuffix(..)
            | Self::Every { .. } => None,
        }
    }

    /// Returns the characters that the node does not take, if it is of the kinds that are glued by
    /// counting characters.
    pub(super) fn separators(&self) -> Option<&str> {
        match self {
            Self::Super => Some(""),
            Self::Any | Self::One(One::Wildcard) => Some("/"),
            Self::One(One::List { members, negated: true }) => Some(members),
            _ => None,
        }
    }

    /// Tells whether the node matches the whole of `s`.
    pub(super) fn matches(&self, s: &[u8], steps: &mut usize) -> Option<bool> {
        take_steps(steps, s)?;
        let matched = match self {
            Self::Nothing => s.is_empty(),
            Self::Text { text, .. } => s == text.as_bytes(),
            Self::One(one) => {
                let (c, width) = decode(s);
                s.len() <= width && one.fits(c)
            }
            Self::Any => !s.contains(&b'/'),
            Self::Super => true,
            Self::Prefix(text) => s.starts_with(text.as_bytes()),
            Self::Suffix(text) => s.ends_with(text.as_bytes()),
            Self::PrefixAny(text) => {
                s.strip_prefix(text.as_bytes()).is_some_and(|rest| !rest.contains(&b'/'))
            }
            Self::SuffixAny(text) => {
                s.strip_suffix(text.as_bytes()).is_some_and(|rest| !rest.contains(&b'/'))
            }
            Self::Contains(text) => find(s, text).is_some(),
            Self::PrefixSuffix(prefix, suffix) => {
                s.starts_with(prefix.as_bytes()) && s.ends_with(suffix.as_bytes())
            }
            Self::Every { min, max, without } => {
                let count = chars(s).count();
                *min <= count
                    && max.is_none_or(|max| count <= max)
                    && (without.is_empty() || find(s, without).is_none())
            }
            Self::Row { parts, chars: length } => {
                chars(s).take(length + 1).count() == *length && row_fits(parts, s, steps)?
            }
            Self::Alternatives { members, .. } => {
                for member in members {
                    if member.matches(s, steps)? {
                        return Some(true);
                    }
                }
                false
            }
            Self::Tree(tree) => tree.matches(s, steps)?,
        };
        Some(matched)
    }

    /// Finds the first start in `s` where the node matches, and the lengths that a match has there.
    fn index(&self, s: &[u8], steps: &mut usize) -> Option<Found> {
        take_steps(steps, s)?;
        let found = match self {
            Self::Nothing => Some((0, vec![0])),
            Self::Text { text, .. } => find(s, text).map(|at| (at, vec![text.len()])),
            Self::One(one) => chars(s).find(|(_, c)| one.fits(*c)).map(|(at, c)| (at, vec![c.len_utf8()])),
            Self::Any => {
                let end = s.iter().position(|&byte| byte == b'/').unwrap_or(s.len());
                Some((0, starts(&s[..end])))
            }
            Self::Super => Some((0, starts(s))),
            Self::Prefix(text) => find(s, text).map(|at| (at, continued(text, &s[at + text.len()..]))),
            Self::PrefixAny(text) => find(s, text).map(|at| {
                let rest = &s[at + text.len()..];
                let end = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
                (at, continued(text, &rest[..end]))
            }),
            Self::Suffix(text) => find(s, text).map(|at| (0, vec![at + text.len()])),
            Self::SuffixAny(text) => find(s, text).map(|at| {
                let start = s[..at].iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
                (start, vec![at + text.len() - start])
            }),
            Self::Contains(text) => find(s, text).map(|at| {
                let end = at + text.len();
                (0, starts(&s[end..]).into_iter().map(|start| end + start).collect())
            }),
            Self::PrefixSuffix(prefix, suffix) => find(s, prefix)
                .map(|at| (at, suffix_ends(&s[at..], suffix)))
                .filter(|(_, lengths)| !lengths.is_empty()),
            Self::Every { min, max, without } => every_index(s, *min, *max, without),
            Self::Row { parts, chars: length } => {
                for (at, _) in chars(s) {
                    if s.len() - at < *length {
                        break;
                    }
                    if row_fits(parts, &s[at..], steps)? {
                        return Some(Some((at, vec![*length])));
                    }
                }
                None
            }
            Self::Alternatives { members, .. } => {
                let mut best: Found = None;
                for member in members {
                    let Some((at, lengths)) = member.index(s, steps)? else { continue };
                    best = match best {
                        Some((first, known)) if first < at => Some((first, known)),
                        Some((first, mut known)) if first == at => {
                            known.extend(lengths);
                            known.sort_unstable();
                            known.dedup();
                            Some((first, known))
                        }
                        _ => Some((at, lengths)),
                    };
                }
                best
            }
            Self::Tree(_) => None,
        };
        Some(found)
    }
}

impl Tree {
    pub(super) fn new(value: Node, left: Option<Node>, right: Option<Node>) -> Self {
        let branch = |node: &Option<Node>| node.as_ref().map_or(Some(0), Node::chars);
        let (left_chars, right_chars) = (branch(&left), branch(&right));
        let chars =
            value.chars().zip(left_chars).zip(right_chars).map(|((value, left), right)| value + left + right);
        Self { value, left, right, left_chars, right_chars, chars }
    }

    pub(super) fn value(&self) -> &Node {
        &self.value
    }

    pub(super) fn left(&self) -> Option<&Node> {
        self.left.as_ref()
    }

    pub(super) fn right(&self) -> Option<&Node> {
        self.right.as_ref()
    }

    /// Looks for the value left to right and tries the branches on what stands around it. Known
    /// lengths, counted in characters, cut the search range, counted in bytes; an empty range is
    /// never searched.
    fn matches(&self, s: &[u8], steps: &mut usize) -> Option<bool> {
        if self.chars.is_some_and(|chars| chars > s.len()) {
            return Some(false);
        }
        let mut offset = self.left_chars.unwrap_or(0);
        let limit = s.len().saturating_sub(self.right_chars.unwrap_or(0));
        while offset < limit {
            let Some((at, lengths)) = self.value.index(&s[offset..limit], steps)? else {
                return Some(false);
            };
            let start = offset + at;
            if branch_matches(self.left.as_ref(), &s[..start], steps)? {
                for length in lengths.into_iter().rev() {
                    let rest = s.get(start + length..).unwrap_or_default();
                    if branch_matches(self.right.as_ref(), rest, steps)? {
                        return Some(true);
                    }
                }
            }
            offset = start + decode(&s[start..]).1;
        }
        Some(false)
    }
}

fn take_steps(steps: &mut usize, s: &[u8]) -> Option<()> {
    *steps = steps.checked_sub(1 + s.len() / 64)?;
    Some(())
}

fn branch_matches(branch: Option<&Node>, s: &[u8], steps: &mut usize) -> Option<bool> {
    match branch {
        Some(node) => node.matches(s, steps),
        None => Some(s.is_empty()),
    }
}

/// Splits the front of `s` by the lengths of `parts` and tries each on its piece. A part of length
/// 0 gets everything that is left.
fn row_fits(parts: &[Node], mut s: &[u8], steps: &mut usize) -> Option<bool> {
    for part in parts {
        let wanted = part.chars().unwrap_or(0);
        let (mut count, mut width) = (0, 0);
        for (_, c) in chars(s) {
            count += 1;
            // An invalid byte counts as wide as the U+FFFD that it reads as.
            width += c.len_utf8();
            if count == wanted {
                break;
            }
        }
        if count < wanted {
            return Some(false);
        }
        // The reference engine slices out of bounds here and crashes.
        let (piece, rest) = s.split_at_checked(width)?;
        if !part.matches(piece, steps)? {
            return Some(false);
        }
        s = rest;
    }
    Some(true)
}

/// The lengths that fit all of: at least `min` characters, at most `max`, nothing of `without`.
fn every_index(s: &[u8], min: usize, max: Option<usize>, without: &str) -> Found {
    if s.len() < min {
        return None;
    }
    let clear = if without.is_empty() { s } else { &s[..find(s, without).unwrap_or(s.len())] };
    let clear = starts(clear);
    let lengths: Vec<usize> = chars(s)
        .enumerate()
        .filter(|(index, _)| min <= index + 1 && max.is_none_or(|max| *index < max))
        .map(|(_, (at, c))| at + c.len_utf8())
        .filter(|length| clear.binary_search(length).is_ok())
        .collect();
    (!lengths.is_empty()).then_some((0, lengths))
}

/// The ends of all occurrences of `suffix`, found from the right without overlap, ascending.
fn suffix_ends(s: &[u8], suffix: &str) -> Vec<usize> {
    let mut rest = s;
    let mut ends = Vec::new();
    while let Some(at) = rest.windows(suffix.len()).rposition(|window| window == suffix.as_bytes()) {
        ends.push(at + suffix.len());
        rest = &rest[..at];
    }
    ends.reverse();
    ends
}

/// The starts of all characters of `s`, and its end.
fn starts(s: &[u8]) -> Vec<usize> {
    chars(s).map(|(at, _)| at).chain([s.len()]).collect()
}

/// The lengths of `text` followed by 0, 1, 2, … characters of `rest`.
fn continued(text: &str, rest: &[u8]) -> Vec<usize> {
    [text.len()].into_iter().chain(chars(rest).map(|(at, c)| text.len() + at + c.len_utf8())).collect()
}

fn find(s: &[u8], text: &str) -> Option<usize> {
    s.windows(text.len()).position(|window| window == text.as_bytes())
}

/// Returns the first character and its width in bytes: U+FFFD and 1 for an invalid byte, U+FFFD and
/// 0 for an empty string.
fn decode(s: &[u8]) -> (char, usize) {
    match s.first() {
        None => return (char::REPLACEMENT_CHARACTER, 0),
        Some(byte) if byte.is_ascii() => return (char::from(*byte), 1),
        Some(_) => {}
    }
    (2..=4)
        .find_map(|width| std::str::from_utf8(s.get(..width)?).ok()?.chars().next().map(|c| (c, width)))
        .unwrap_or((char::REPLACEMENT_CHARACTER, 1))
}

fn chars(s: &[u8]) -> impl Iterator<Item = (usize, char)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        let (c, width) = decode(s.get(start..)?);
        at += width;
        (width > 0).then_some((start, c))
    })
}
