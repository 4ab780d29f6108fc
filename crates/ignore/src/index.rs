//! Finds the first rule that matches a path without asking every rule.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::glob::Glob;
use crate::pattern::Test;

/// The tests of rules, by kind. A rule is known by its position; the lowest that matches wins.
#[derive(Debug, Default)]
pub(crate) struct Index {
    names: Table<usize>,
    tops: Table<usize>,
    /// Endings of names, by what they hold from their last dot on.
    extensions: Table<Vec<(usize, Box<str>)>>,
    /// Endings of names without a dot.
    endings: Vec<(usize, Box<str>)>,
    beginnings: Vec<(usize, Box<str>)>,
    globs: Vec<(usize, Pairs, Vec<Glob>)>,
}

impl Index {
    /// Takes in the test of the rule at `position`, which is higher than all before.
    pub(crate) fn push(&mut self, position: usize, test: Test) {
        match test {
            Test::Name(name) => {
                self.names.entry(name).or_insert(position);
            }
            Test::Top(name) => {
                self.tops.entry(name).or_insert(position);
            }
            Test::NamePrefix(start) => self.beginnings.push((position, start)),
            Test::NameSuffix(end) => match extension(&end) {
                Some(key) => self.extensions.entry(key.into()).or_default().push((position, end)),
                None => self.endings.push((position, end)),
            },
            Test::Globs { globs, literals } => {
                let pairs = literals.iter().fold(Pairs::default(), |pairs, literal| pairs.with(literal));
                self.globs.push((position, pairs, globs));
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let Self { names, tops, extensions, endings, beginnings, globs } = self;
        names.entries.is_empty()
            && tops.entries.is_empty()
            && extensions.entries.is_empty()
            && endings.is_empty()
            && beginnings.is_empty()
            && globs.is_empty()
    }

    /// Returns the lowest position below `bound` whose rule matches `path`.
    pub(crate) fn first(&self, path: &str, bound: usize) -> Option<usize> {
        let mut best = bound;
        let mut offer = |position: Option<usize>| best = best.min(position.unwrap_or(bound));
        offer(path.split('/').next().and_then(|top| self.tops.get(top)).copied());
        for name in path.split('/') {
            let lowest = |list: &[(usize, Box<str>)], fits: fn(&str, &str) -> bool| {
                list.iter().find(|(_, text)| fits(name, text)).map(|(position, _)| *position)
            };
            let ends = |name: &str, text: &str| name.ends_with(text);
            offer(self.names.get(name).copied());
            offer(extension(name).and_then(|key| lowest(self.extensions.get(key)?, ends)));
            offer(lowest(&self.endings, ends));
            offer(lowest(&self.beginnings, |name, text| name.starts_with(text)));
        }
        if let Some((first, ..)) = self.globs.first()
            && *first < best
        {
            let pairs = Pairs::default().with(path);
            let found = self
                .globs
                .iter()
                .take_while(|(position, ..)| *position < best)
                .filter(|(_, needed, _)| pairs.has(*needed))
                .find(|(.., globs)| globs.iter().any(|glob| glob.matches(path)));
            best = found.map_or(best, |(position, ..)| *position);
        }
        (best < bound).then_some(best)
    }
}

/// Values by name. Most names that are asked for are not in it, and a look at their length and
/// ends settles that without hashing them.
#[derive(Debug, Default)]
struct Table<T> {
    /// The marks of all names in it.
    marks: [u64; 4],
    entries: HashMap<Box<str>, T>,
}

impl<T> Table<T> {
    /// Returns the word and the bit of a name's length, first and last byte.
    fn mark(name: &str) -> (usize, u64) {
        let bytes = name.as_bytes();
        let (first, last) = (bytes.first().copied().unwrap_or(0), bytes.last().copied().unwrap_or(0));
        let mark = bytes.len().wrapping_mul(41) + usize::from(first) * 11 + usize::from(last) * 3;
        (mark / 64 % 4, 1 << (mark % 64))
    }

    fn get(&self, name: &str) -> Option<&T> {
        let (word, bit) = Self::mark(name);
        if self.marks[word] & bit == 0 { None } else { self.entries.get(name) }
    }

    fn entry(&mut self, name: Box<str>) -> Entry<'_, Box<str>, T> {
        let (word, bit) = Self::mark(&name);
        self.marks[word] |= bit;
        self.entries.entry(name)
    }
}

/// Returns what follows the last dot, with the dot.
fn extension(name: &str) -> Option<&str> {
    name.rfind('.').map(|dot| &name[dot..])
}

/// Which pairs of neighbouring bytes occur in a text, by a hash: what a text contains has no pair
/// that the text has not. It spares most globs a look at most paths.
#[derive(Debug, Clone, Copy, Default)]
struct Pairs(u128);

impl Pairs {
    fn with(self, text: &str) -> Self {
        let bits = text
            .as_bytes()
            .windows(2)
            .map(|pair| 1 << (pair[0].wrapping_mul(31).wrapping_add(pair[1]) % 128));
        Self(bits.fold(self.0, |all, bit: u128| all | bit))
    }

    fn has(self, needed: Self) -> bool {
        self.0 & needed.0 == needed.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Rules;
    use crate::glob::parse;
    use crate::pattern::{Rule, lower};

    /// Asks every glob of every rule in order.
    fn slow(lines: &[String], path: &str) -> Option<usize> {
        lines.iter().position(|text| {
            let line = crate::Line { file: String::new(), number: 1, text: text.clone() };
            let (rule, _) = Rule::new(line, false).unwrap();
            let path = if rule.flags.folded { lower(path) } else { path.to_owned() };
            rule.texts
                .iter()
                .any(|text| Glob::new(parse(text.strip_prefix('/').unwrap_or(text)).unwrap()).matches(&path))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_index_finds_what_the_globs_find(
            lines in prop::collection::vec(
                "(\\(\\?i\\))?(/|\\*\\*/)?[aB.é]{0,2}[*?{]?[ab.é~,/]{0,3}[*\\\\\u{0}]?[ab.é/]{0,1}",
                1..6,
            ),
            path in "[abAB.é~/]{1,7}",
        ) {
            prop_assume!(path != "." && Rules::from_lines(&lines).is_ok());
            let rules = Rules::from_lines(&lines).unwrap();
            let found = rules.decide(&path).rule.map(|rule| rule.line as usize - 1);
            prop_assert_eq!(found, slow(&lines, &path));
        }
    }
}
