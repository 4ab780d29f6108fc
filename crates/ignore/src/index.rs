//! Finds the first rule that matches a path without asking every rule.
//!
//! A path is walked component by component. Of the rules, those are asked whose [`Need`] the component meets; a rule
//! that must see the whole path is only noted, and asked at the end.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::glob::Glob;
use crate::need::Need;
use crate::pattern::Test;
use crate::plain::{Component, Plain};

/// The position of no rule.
pub(crate) const NONE: u32 = u32::MAX;

/// So many rules that must see the whole path are noted one by one; if there are more, all are asked.
const NOTED: usize = 6;

/// The tests of rules, by what they need. A rule is known by its position; the lowest that matches wins.
#[derive(Debug)]
pub(crate) struct Index {
    /// Which of the tables may hold something for a component that begins or ends with a byte.
    gates: Box<[Gate; 256]>,
    names: Table,
    extensions: Table,
    inner: Table,
    /// By the first four bytes.
    starts: Table,
    /// Beginnings of less than four bytes, by the first.
    short_starts: Table,
    /// By the last byte.
    ends: Table,
    /// Rooted lines without a `*`, by all their components.
    paths: Table,
    /// The most components that one of them has.
    path_depth: usize,
    /// What every component is asked for.
    everywhere: Vec<Probe>,
    /// What every path is asked for.
    always: Vec<u32>,
    /// The first rule that matches every path.
    everything: u32,
    globs: Vec<Whole>,
}

/// Which needs some text begins, or ends, with a byte.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each stands for a table")]
struct Gate {
    name_start: bool,
    name_end: bool,
    extension: bool,
    start: bool,
    short_start: bool,
    end: bool,
}

/// Rules by the hash of what they need, in order of position.
type Table = HashMap<u64, Vec<Probe>, BuildHasherDefault<Hashed>>;

/// A rule to ask about a component.
#[derive(Debug)]
struct Probe {
    position: u32,
    test: Asked,
}

#[derive(Debug)]
enum Asked {
    Plain(Plain),
    /// The number of the globs.
    Globs(u32),
}

/// Globs of a rule that match whole paths.
#[derive(Debug)]
struct Whole {
    position: u32,
    globs: Vec<Glob>,
    /// What every match contains.
    literals: Vec<Box<str>>,
}

/// What is known about a path and what lies below it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State {
    /// The first rule that matches it, but for those that must see the whole path.
    best: u32,
    /// The first rule that matches all below it.
    below: u32,
    depth: usize,
    /// The hash of its components, as long as there are rooted lines of that depth.
    hash: u64,
    /// The globs that may match it, by number; `noted` says how many are known.
    globs: [u32; NOTED],
    noted: usize,
}

/// A component of a path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name<'a> {
    text: &'a str,
    dots: usize,
    /// Where the last dot is, if there are any.
    last_dot: usize,
}

impl<'a> Name<'a> {
    /// Reads a component from the front of a path.
    pub(crate) fn first_of(path: &'a str) -> Self {
        let (mut length, mut dots, mut last_dot) = (0, 0, 0);
        for &byte in path.as_bytes() {
            match byte {
                b'/' => break,
                b'.' => (dots, last_dot) = (dots + 1, length),
                _ => {}
            }
            length += 1;
        }
        Self { text: &path[..length], dots, last_dot }
    }
}

impl Default for Index {
    fn default() -> Self {
        Self {
            gates: Box::new([Gate::default(); 256]),
            names: Table::default(),
            extensions: Table::default(),
            inner: Table::default(),
            starts: Table::default(),
            short_starts: Table::default(),
            ends: Table::default(),
            paths: Table::default(),
            path_depth: 0,
            everywhere: Vec::new(),
            always: Vec::new(),
            everything: NONE,
            globs: Vec::new(),
        }
    }
}

impl Index {
    /// Takes in the test of the rule at `position`, which is higher than all before.
    pub(crate) fn push(&mut self, position: u32, test: Test) {
        match test {
            Test::Plain(forms) => {
                for form in forms {
                    self.push_plain(position, form);
                }
            }
            Test::Globs { globs, .. } if globs.iter().any(Glob::is_everything) => {
                self.everything = self.everything.min(position);
            }
            Test::Globs { globs, literals, need } => {
                // A set of rules has at most `MAX_PARTS` globs.
                let number = u32::try_from(self.globs.len()).unwrap_or(NONE);
                self.globs.push(Whole { position, globs, literals });
                if need == Need::Nothing {
                    self.always.push(number);
                } else {
                    self.push_probe(need, Probe { position, test: Asked::Globs(number) });
                }
            }
        }
    }

    fn push_plain(&mut self, position: u32, form: Plain) {
        let Some(last) = form.components.last() else {
            self.everything = self.everything.min(position);
            return;
        };
        let names: Option<Vec<&str>> = form.components.iter().map(Component::literal).collect();
        if let Some(names) = names.filter(|_| form.rooted) {
            self.path_depth = self.path_depth.max(names.len());
            let key = names.iter().fold(0, |path, name| joined(path, hash(name)));
            self.paths.entry(key).or_default().push(Probe { position, test: Asked::Plain(form) });
            return;
        }
        let need = Need::of_component(last);
        self.push_probe(need, Probe { position, test: Asked::Plain(form) });
    }

    fn push_probe(&mut self, need: Need, probe: Probe) {
        let list = match need {
            Need::Name(text) => {
                let [first, last] = ends(&text);
                self.gates[usize::from(first)].name_start = true;
                self.gates[usize::from(last)].name_end = true;
                self.names.entry(hash(&text)).or_default()
            }
            Need::Extension(text) => {
                self.gates[usize::from(ends(&text)[1])].extension = true;
                self.extensions.entry(hash(&text)).or_default()
            }
            Need::Inner(text) => self.inner.entry(hash(&text)).or_default(),
            Need::Start(text) => {
                let gate = &mut self.gates[usize::from(ends(&text)[0])];
                if let Some(head) = head(&text) {
                    gate.start = true;
                    self.starts.entry(head).or_default()
                } else {
                    gate.short_start = true;
                    self.short_starts.entry(mixed(ends(&text)[0].into())).or_default()
                }
            }
            Need::End(text) => {
                let last = ends(&text)[1];
                self.gates[usize::from(last)].end = true;
                self.ends.entry(mixed(last.into())).or_default()
            }
            Need::Nothing => &mut self.everywhere,
        };
        list.push(probe);
    }

    /// Tells whether no path matches.
    pub(crate) fn is_empty(&self) -> bool {
        let tables = [
            &self.names,
            &self.extensions,
            &self.inner,
            &self.starts,
            &self.short_starts,
            &self.ends,
            &self.paths,
        ];
        tables.iter().all(|table| table.is_empty())
            && self.everywhere.is_empty()
            && self.always.is_empty()
            && self.everything == NONE
    }

    /// Returns what is known about the root.
    pub(crate) fn root(&self) -> State {
        let everything = self.everything;
        State { best: everything, below: everything, depth: 0, hash: 0, globs: [0; NOTED], noted: 0 }
    }

    /// Returns what is known about a path.
    pub(crate) fn state(&self, path: &str) -> State {
        let mut state = self.root();
        let mut start = 0;
        loop {
            let name = Name::first_of(&path[start..]);
            // Before each component but the first is a slash.
            let above = start.checked_sub(1).map(|end| &path[..end]);
            self.enter(&mut state, above, name);
            start += name.text.len() + 1;
            if start > path.len() {
                return state;
            }
        }
    }

    /// Goes from the folder `above`, or the root, whose state this is, to an entry of it.
    pub(crate) fn enter(&self, state: &mut State, above: Option<&str>, name: Name<'_>) {
        let Name { text, dots, last_dot } = name;
        state.best = state.best.min(state.below);
        let [first, last] = ends(text);
        let (first, last) = (self.gates[usize::from(first)], self.gates[usize::from(last)]);
        let mut look = |table: &Table, key: u64| {
            if let Some(probes) = table.get(&key) {
                state.ask(probes, above, text);
            }
        };
        if first.name_start && last.name_end {
            look(&self.names, hash(text));
        }
        if first.start
            && let Some(head) = head(text)
        {
            look(&self.starts, head);
        }
        if first.short_start {
            look(&self.short_starts, mixed(ends(text)[0].into()));
        }
        if last.end {
            look(&self.ends, mixed(ends(text)[1].into()));
        }
        if last.extension && dots > 0 {
            look(&self.extensions, hash(&text[last_dot..]));
        }
        if dots > 1 && !self.inner.is_empty() {
            let mut end = last_dot;
            while let Some(dot) = text[..end].rfind('.') {
                look(&self.inner, hash(&text[dot..end]));
                end = dot;
            }
        }
        state.ask(&self.everywhere, above, text);
        if state.depth < self.path_depth {
            state.hash = joined(state.hash, hash(text));
            if let Some(probes) = self.paths.get(&state.hash) {
                state.ask(probes, above, text);
            }
        }
        state.depth += 1;
    }

    /// Returns the position of the first rule that matches the path whose state this is.
    pub(crate) fn first(&self, state: &State, path: &str) -> u32 {
        let mut best = state.best;
        let mut ask = |number: u32| {
            // The numbers are those of `push`.
            let Some(Whole { position, globs, literals }) = self.globs.get(number as usize) else { return };
            if *position < best
                && literals.iter().all(|text| path.contains(&**text))
                && globs.iter().any(|glob| glob.matches(path))
            {
                best = *position;
            }
        };
        match state.globs.get(..state.noted) {
            Some(noted) => {
                noted.iter().copied().for_each(&mut ask);
                self.always.iter().copied().for_each(&mut ask);
            }
            None => (0..).zip(&self.globs).for_each(|(number, _)| ask(number)),
        }
        best
    }

    /// Tells whether [`first`](Self::first) looks at the path.
    pub(crate) fn needs_path(&self, state: &State) -> bool {
        state.noted > 0 || !self.always.is_empty()
    }
}

impl State {
    /// Asks rules about `name` in `above`.
    fn ask(&mut self, probes: &[Probe], above: Option<&str>, name: &str) {
        for Probe { position, test } in probes {
            if *position >= self.best {
                return;
            }
            match test {
                Asked::Globs(number) => self.note(*number),
                Asked::Plain(form) if !form.names(above, name) => {}
                Asked::Plain(form) if form.below => self.below = self.below.min(*position),
                Asked::Plain(_) => self.best = *position,
            }
        }
    }

    /// Notes that the globs with this number may match.
    fn note(&mut self, number: u32) {
        match self.globs.get(..self.noted) {
            Some(noted) if noted.contains(&number) => {}
            Some(_) if self.noted < NOTED => {
                self.globs[self.noted] = number;
                self.noted += 1;
            }
            _ => self.noted = NOTED + 1,
        }
    }
}

/// Returns the first and the last byte; 0 if there is none.
fn ends(text: &str) -> [u8; 2] {
    let bytes = text.as_bytes();
    [bytes.first(), bytes.last()].map(|byte| byte.copied().unwrap_or(0))
}

/// Returns the hash of the first four bytes.
fn head(text: &str) -> Option<u64> {
    text.as_bytes().first_chunk::<4>().map(|head| mixed(u32::from_le_bytes(*head).into()))
}

/// Hashes the bytes of a name. Who writes the rules could make names collide, and would only wait longer.
fn hash(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut state = bytes.len() as u64;
    for word in bytes.as_chunks::<8>().0 {
        state = mixed(state ^ u64::from_le_bytes(*word));
    }
    let rest = match (bytes.last_chunk::<8>(), bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(last), ..) => u64::from_le_bytes(*last),
        (None, Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
        }
        _ => bytes.iter().fold(0, |rest, &byte| rest << 8 | u64::from(byte)),
    };
    mixed(state ^ rest)
}

/// Returns the hash of a path and a name in it.
fn joined(path: u64, name: u64) -> u64 {
    mixed(path.wrapping_add(1) ^ name.rotate_left(17))
}

/// Spreads the bits: a product's upper half depends on all of them.
fn mixed(bits: u64) -> u64 {
    let (low, high) = (bits ^ 0x9e37_79b9_7f4a_7c15).carrying_mul(0xd6e8_feb8_6659_fd93, 0);
    low ^ high
}

/// Takes keys as they are: they are hashes.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = mixed(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::glob::parse;
    use crate::pattern::{Rule, lower};
    use crate::{Decision, Rules};

    /// Asks every glob of every rule in order.
    fn slow(lines: &[String], path: &str) -> Option<usize> {
        lines.iter().position(|text| {
            let line = crate::Line { file: String::new(), number: 1, text: text.clone() };
            let (rule, _) = Rule::new(line, false).unwrap();
            let path = if rule.flags.folded { lower(path) } else { path.to_owned() };
            let rooted = rule.texts[0].starts_with('/');
            rule.texts.iter().any(|text| {
                let glob = if rooted { &text[1..] } else { text };
                Glob::new(parse(glob).unwrap()).matches(&path)
            })
        })
    }

    fn deciding_line(decision: &Decision<'_>) -> Option<usize> {
        decision.rule.map(|rule| rule.line as usize - 1)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn the_index_finds_what_the_globs_find(
            lines in prop::collection::vec(
                "(\\(\\?i\\))?(/|\\*\\*/)?[aB.é]{0,2}[*?{]?[ab.é~,/]{0,3}([*\\\\\u{0}]|\\[[ab/é]{1,2}\\]|\\{[ab],[b./]{1,2}\\}|/\\*\\*)?[ab.é/*]{0,2}",
                1..6,
            ),
            path in "[abAB.é~/]{1,9}",
        ) {
            prop_assume!(path != "." && Rules::from_lines(&lines).is_ok());
            let rules = Rules::from_lines(&lines).unwrap();
            prop_assert_eq!(deciding_line(&rules.decide(&path)), slow(&lines, &path));
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if !path.starts_with('/') && folder != "." && !name.is_empty() {
                prop_assert_eq!(rules.folder(folder).decide(name), rules.decide(&path));
            }
        }
    }
}
