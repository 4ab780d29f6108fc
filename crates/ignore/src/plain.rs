//! Lines made of text and `*`: their globs mean what the textbook says, so that a path can be decided about component
//! by component.
//!
//! `foo/*.o` and the three globs that come with it match a path if and only if `foo/*.o` matches the whole of some
//! run of its components, the last of which need not be the path's last. Lists, ranges and braces are written out
//! first, where that is exact and does not become too much.

use crate::glob::{One, Part};

/// A line is written out to at most so many forms.
const MAX_FORMS: usize = 32;

/// One written-out form of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plain {
    /// Its first component is the first of the path.
    pub(crate) rooted: bool,
    /// It matches what lies below what it names, and not that itself.
    pub(crate) below: bool,
    /// Empty if every path is meant.
    pub(crate) components: Vec<Component>,
}

/// A component of a form: texts with a `*` between each and the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Component {
    pieces: Vec<Box<str>>,
}

impl Component {
    /// Returns the text if there is no `*`.
    pub(crate) fn literal(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [text] => Some(text),
            _ => None,
        }
    }

    /// Returns what stands before the first `*`.
    pub(crate) fn start(&self) -> &str {
        self.pieces.first().map_or("", |text| text)
    }

    /// Returns what stands behind the last `*`.
    pub(crate) fn end(&self) -> &str {
        self.pieces.last().map_or("", |text| text)
    }

    /// Returns the texts.
    pub(crate) fn pieces(&self) -> &[Box<str>] {
        &self.pieces
    }

    fn matches(&self, name: &str) -> bool {
        let [start, middle @ .., end] = self.pieces.as_slice() else {
            return self.literal() == Some(name);
        };
        let Some(mut rest) = name.strip_prefix(&**start).and_then(|rest| rest.strip_suffix(&**end)) else {
            return false;
        };
        middle.iter().all(|text| match rest.find(&**text) {
            Some(at) => {
                rest = &rest[at + text.len()..];
                true
            }
            None => false,
        })
    }
}

impl Plain {
    /// Tells whether it names `name` in the folder `above`, or at the root.
    pub(crate) fn names(&self, above: Option<&str>, name: &str) -> bool {
        let Some((last, components)) = self.components.split_last() else { return true };
        if !last.matches(name) {
            return false;
        }
        if components.is_empty() {
            return !self.rooted || above.is_none();
        }
        let Some(above) = above else { return false };
        let mut folders = above.rsplit('/');
        let matches = |component: &Component| folders.next().is_some_and(|name| component.matches(name));
        components.iter().rev().all(matches) && !(self.rooted && folders.next().is_some())
    }

    /// Returns what it costs in memory and time, in parts of globs.
    pub(crate) fn cost(&self) -> usize {
        self.components.iter().map(|component| component.pieces.len()).sum::<usize>() + 1
    }
}

/// How the globs of a line came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// The line begins with `/`.
    Root,
    /// The line begins with `**/`: the glob as it is comes first.
    Anywhere,
    /// Neither: the glob as it is comes second.
    Name,
}

/// Writes out a line with these globs, if that is exact.
pub(crate) fn forms(start: Start, globs: &[Vec<Part>]) -> Option<Vec<Plain>> {
    let below = globs.len() == if start == Start::Root { 1 } else { 2 };
    let named = named(start, below, globs)?;
    if globs != expected(start, below, &named) {
        return None;
    }
    let forms = written_out(&named)?;
    Some(forms.into_iter().map(|pieces| plain(start, below, &pieces)).collect())
}

/// Returns what the line names, at the root of what it may stand in.
fn named(start: Start, below: bool, globs: &[Vec<Part>]) -> Option<Vec<Part>> {
    let mut named = globs.get(usize::from(start == Start::Anywhere))?.clone();
    if below {
        if named.pop() != Some(Part::Super) {
            return None;
        }
        let Some(Part::Text(text)) = named.pop() else { return None };
        let text = text.strip_suffix('/')?;
        if !text.is_empty() {
            named.push(Part::Text(text.into()));
        }
    }
    (!named.is_empty()).then_some(named)
}

/// Returns the globs that a line which names this has, if its parts are independent of what is added around them.
fn expected(start: Start, below: bool, named: &[Part]) -> Vec<Vec<Part>> {
    let slash = || Part::Text("/".into());
    let anywhere = match named {
        [Part::Text(text), rest @ ..] => {
            [&[Part::Super, Part::Text(format!("/{text}").into())], rest].concat()
        }
        _ => [&[Part::Super, slash()], named].concat(),
    };
    let content = |parts: &[Part]| match parts {
        [rest @ .., Part::Text(text)] => {
            [rest, &[Part::Text(format!("{text}/").into()), Part::Super]].concat()
        }
        _ => [parts, &[slash(), Part::Super]].concat(),
    };
    let mut globs = match start {
        Start::Root => vec![named.to_vec()],
        Start::Anywhere => vec![anywhere, named.to_vec()],
        Start::Name => vec![named.to_vec(), anywhere],
    };
    let contents: Vec<_> = globs.iter().map(|parts| content(parts)).collect();
    if below {
        return contents;
    }
    globs.extend(contents);
    globs
}

/// A form as texts with a `*` between each and the next; a `/` stands in the texts.
type Pieces = Vec<String>;

/// Writes out lists, ranges and braces.
///
/// Characters beyond ASCII next to those are left to the tree, which counts them in its own way; so are texts next to
/// each other, as a NUL leaves them.
fn written_out(parts: &[Part]) -> Option<Vec<Pieces>> {
    let are_texts = |pair: &[Part]| matches!(pair, [Part::Text(_), Part::Text(_)]);
    if parts.windows(2).any(are_texts) {
        return None;
    }
    let mut forms: Vec<Pieces> = vec![vec![String::new()]];
    let (mut ascii, mut choices) = (true, false);
    for part in parts {
        let texts: Vec<String> = match part {
            Part::Any => {
                for form in &mut forms {
                    form.push(String::new());
                }
                continue;
            }
            Part::Text(text) => {
                ascii &= text.is_ascii();
                vec![text.to_string()]
            }
            Part::One(One::List { members, negated: false }) => members.chars().map(String::from).collect(),
            &Part::One(One::Range { lo, hi, negated: false }) => {
                (lo..=hi).take(MAX_FORMS + 1).map(String::from).collect()
            }
            Part::Alternatives(members) => {
                members.iter().map(|member| text(member)).collect::<Option<_>>()?
            }
            Part::Super | Part::One(_) => return None,
        };
        if !matches!(part, Part::Text(_)) {
            choices = true;
            ascii &= texts.iter().all(|text| text.is_ascii());
        }
        if texts.len() * forms.len() > MAX_FORMS {
            return None;
        }
        let begun = std::mem::take(&mut forms);
        let last = texts.len().checked_sub(1)?;
        for form in begun {
            for text in &texts[..last] {
                forms.push(with(form.clone(), text)?);
            }
            forms.push(with(form, &texts[last])?);
        }
    }
    (ascii || !choices).then_some(forms)
}

/// Puts a text behind the last of a form.
fn with(mut form: Pieces, text: &str) -> Option<Pieces> {
    form.last_mut()?.push_str(text);
    Some(form)
}

/// Returns the text that a member of braces is, if it is one.
fn text(member: &[Part]) -> Option<String> {
    match member {
        [Part::Text(text)] => Some(text.to_string()),
        _ => None,
    }
}

/// Splits a form into components.
fn plain(start: Start, below: bool, pieces: &[String]) -> Plain {
    let mut components = vec![Vec::<Box<str>>::new()];
    for piece in pieces {
        for (number, text) in piece.split('/').enumerate() {
            if number > 0 {
                components.push(Vec::new());
            }
            if let Some(component) = components.last_mut() {
                component.push(text.into());
            }
        }
    }
    let mut components: Vec<_> = components.into_iter().map(|pieces| Component { pieces }).collect();
    // All that is in a folder, and what lies below that: what lies below the folder.
    let is_all = |component: &Component| {
        component.pieces.len() > 1 && component.pieces.iter().all(|text| text.is_empty())
    };
    let all_in = !below && components.last().is_some_and(is_all);
    if all_in {
        components.pop();
    }
    Plain { rooted: start == Start::Root, below: below || all_in, components }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::{Rule, Test};

    fn forms_of(line: &str) -> Option<Vec<Plain>> {
        let line = crate::Line { file: String::new(), number: 1, text: line.to_owned() };
        match Rule::new(line, false).unwrap().1 {
            Test::Plain(forms) => Some(forms),
            Test::Globs { .. } => None,
        }
    }

    #[track_caller]
    fn check(line: &str, expected: Option<&[&str]>) {
        let shown = forms_of(line).map(|forms| {
            let show = |form: &Plain| {
                let names = form.components.iter().map(|component| component.pieces.join("*"));
                let names: Vec<_> = names.collect();
                let root = if form.rooted { "/" } else { "" };
                format!("{root}{}{}", names.join("/"), if form.below { "/" } else { "" })
            };
            forms.iter().map(show).collect::<Vec<_>>()
        });
        let expected = expected.map(|forms| forms.iter().map(|&form| form.to_owned()).collect());
        assert_eq!(shown, expected, "{line}");
    }

    #[test]
    fn what_is_plain() {
        check("foo", Some(&["foo"]));
        check("/a/b*c", Some(&["/a/b*c"]));
        check("**/foo/", Some(&["foo/"]));
        check("foo/**", Some(&["foo/"]));
        check("foo/*", Some(&["foo/"]));
        check("foo/*/", Some(&["foo/*/"]));
        check("/*", Some(&["//"]));
        check("*", Some(&["/"]));
        check("**//b", Some(&["/b"]));
        check("a[b-c]{d,ef}", Some(&["abd", "abef", "acd", "acef"]));
        check("{a/b,c}*", Some(&["a/b*", "c*"]));
        check("é*", Some(&["é*"]));
    }

    #[test]
    fn what_is_not() {
        for line in [
            "a**b",
            "a/**/b",
            "a?",
            "[!a]",
            "{,a}",
            "{*,a}",
            "[é]",
            "é[ab]",
            "{a",
            "[a-z][a-z]",
            "**",
            "/**",
            "a\0b",
        ] {
            check(line, None);
        }
    }

    #[test]
    fn components_match_by_their_pieces() {
        let matches = |line: &str, name: &str| forms_of(line).unwrap()[0].names(None, name);
        for (line, name, expected) in [
            ("a*a", "aa", true),
            ("a*a", "a", false),
            ("*ab*ab*", "abab", true),
            ("*ab*ab*", "abb", false),
            ("a*b*c", "abcbc", true),
        ] {
            assert_eq!(matches(line, name), expected, "{line} {name}");
        }
    }
}
