//! Reads `.env` files in the dialect of Compose: what `envFiles` names.
//!
//! `NAME=value`, `NAME: value` and `export NAME=value`; a `NAME` alone takes the user's own value. `#`
//! starts a comment at the start of a line or after a blank. In single quotes everything is literal; in
//! double quotes `\n`, `\r`, `\t`, `\"`, `\\` and `\$` are known; both may go on over lines. Variables
//! are expanded outside single quotes: the user's own first, then those given earlier in the file.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use crate::{
    disk::{Disk, Kind},
    expand::{Lookup, Outcome, expand},
    origin::FilePlace,
    problem::{Problem, Severity, SourceText, Span, quoted},
    yaml::MAX_BYTES,
};

/// One variable of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// The name.
    pub name: String,
    /// The value; `None` for a name alone that the user's environment doesn't have.
    pub value: Option<String>,
    /// Where the name stands.
    pub span: Span,
    /// Every variable that the value asks for.
    pub mentions: Vec<Mention>,
}

/// A variable that a value asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention {
    /// The variable.
    pub name: String,
    /// Where the value came from.
    pub origin: Origin,
}

/// Where the value of a variable that was asked for came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The user's environment.
    User,
    /// The file itself: an earlier variable, or a default.
    Text,
    /// Nowhere: it isn't set, and nothing stands for it.
    Nowhere,
}

/// A line that can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub span: Span,
}

/// Returns the variables of an env file, in order, and every line that can't be read.
pub fn parse(text: &str, lookup: &Lookup<'_>) -> (Vec<Variable>, Vec<Fault>) {
    let mut reader = Reader { text, at: 0, lookup, known: BTreeMap::new() };
    reader.at += if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let (mut variables, mut faults) = (Vec::new(), Vec::new());
    while reader.skip_to_entry() {
        match reader.entry() {
            Ok(variable) => {
                reader.known.insert(variable.name.clone(), variable.value.clone().unwrap_or_default());
                variables.push(variable);
            }
            Err(fault) => {
                faults.push(fault);
                reader.skip_line();
            }
        }
    }
    (variables, faults)
}

/// The project's `.env`: variables for those that the user's environment doesn't have.
#[derive(Debug, Default)]
pub(crate) struct DotEnv {
    values: BTreeMap<String, (String, FilePlace)>,
    /// Whether it is there.
    pub(crate) found: bool,
    /// What is wrong with it: no more than warnings, because other programs read it their own way.
    pub(crate) problems: Vec<Problem>,
}

impl DotEnv {
    /// Reads `.env` in `folder`, if it is there; `lookup` gives the user's own variables.
    pub(crate) fn read(folder: &Path, disk: &dyn Disk, lookup: &Lookup<'_>) -> Self {
        let path = folder.join(".env");
        let mut dotenv = Self::default();
        if disk.kind(&path) != Kind::File {
            return dotenv;
        }
        dotenv.found = true;
        let name = path.to_string_lossy();
        let mut warn = |file: &Arc<SourceText>, span: Span, message: String| {
            let (severity, file) = (Severity::Warning, Arc::clone(file));
            dotenv.problems.push(Problem { severity, message, path: String::new(), span, hint: None, file });
        };
        let text = match disk.read(&path, MAX_BYTES) {
            Ok(text) if text.len() <= MAX_BYTES => text,
            Ok(_) => {
                let file = Arc::new(SourceText::new(&name, ""));
                warn(
                    &file,
                    Span::default(),
                    format!("the file is larger than {MAX_BYTES} bytes and was not read"),
                );
                return dotenv;
            }
            Err(error) => {
                let file = Arc::new(SourceText::new(&name, ""));
                warn(&file, Span::default(), format!("the file can't be read: {error}"));
                return dotenv;
            }
        };
        let file = Arc::new(SourceText::new(&name, &text));
        let (variables, faults) = parse(&text, lookup);
        for fault in faults {
            warn(&file, fault.span, fault.message);
        }
        for variable in variables {
            let place = FilePlace::new(&file, variable.span);
            dotenv.values.extend(variable.value.map(|value| (variable.name, (value, place))));
        }
        dotenv
    }

    /// Returns a variable's value.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        self.values.get(name).map(|(value, _)| value.clone())
    }

    /// Returns where a variable stands.
    pub(crate) fn place(&self, name: &str) -> Option<FilePlace> {
        self.values.get(name).map(|(_, place)| place.clone())
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    lookup: &'a Lookup<'a>,
    known: BTreeMap<String, String>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t']).len();
    }

    fn skip_line(&mut self) {
        self.at += self.rest().find('\n').map_or(self.rest().len(), |newline| newline + 1);
    }

    /// Goes to the next thing that is neither blank nor a comment; false at the end.
    fn skip_to_entry(&mut self) -> bool {
        loop {
            let rest = self.rest();
            self.at += rest.len() - rest.trim_start().len();
            match self.rest().as_bytes().first() {
                None => return false,
                Some(b'#') => self.skip_line(),
                Some(_) => return true,
            }
        }
    }

    fn entry(&mut self) -> Result<Variable, Fault> {
        if let Some(rest) = self.rest().strip_prefix("export")
            && rest.starts_with([' ', '\t'])
        {
            self.at += "export".len();
            self.skip_blanks();
        }
        let start = self.at;
        let rest = self.rest();
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let span = Span::new(start, start + length);
        if length == 0 || rest.starts_with(|c: char| c.is_ascii_digit()) {
            let line = rest.lines().next().unwrap_or_default();
            let message = format!("expected NAME=value, found {}", quoted(line));
            return Err(Fault { message, span: Span::new(start, start + line.len()) });
        }
        let name = rest[..length].to_owned();
        self.at += length;
        self.skip_blanks();
        match self.rest().as_bytes().first() {
            Some(b'=' | b':') => {
                self.at += 1;
                self.skip_blanks();
                self.value(name, span)
            }
            None | Some(b'\n' | b'\r' | b'#') => {
                self.skip_line();
                let value = (self.lookup)(&name);
                let origin = if value.is_some() { Origin::User } else { Origin::Nowhere };
                let mentions = vec![Mention { name: name.clone(), origin }];
                Ok(Variable { name, value, span, mentions })
            }
            Some(_) => {
                let message = format!("expected `=` after {}", quoted(&name));
                Err(Fault { message, span })
            }
        }
    }

    fn value(&mut self, name: String, span: Span) -> Result<Variable, Fault> {
        let raw = match self.rest().chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted_value(quote)?,
            _ => self.bare_value(),
        };
        let text = match raw {
            Raw::Expandable(text) => text,
            Raw::Literal(text) => {
                return Ok(Variable { name, value: Some(text), span, mentions: Vec::new() });
            }
        };
        let either = |wanted: &str| (self.lookup)(wanted).or_else(|| self.known.get(wanted).cloned());
        let expanded = expand(&text, &either).map_err(|error| Fault { message: error.to_string(), span })?;
        let mentions = expanded.references.into_iter().map(|reference| {
            let origin = match reference.outcome {
                Outcome::Value if (self.lookup)(&reference.name).is_some() => Origin::User,
                Outcome::Value | Outcome::Own => Origin::Text,
                Outcome::Unset => Origin::Nowhere,
            };
            Mention { name: reference.name, origin }
        });
        Ok(Variable { name, value: Some(expanded.text), span, mentions: mentions.collect() })
    }

    fn bare_value(&mut self) -> Raw {
        let rest = self.rest();
        let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
        self.skip_line();
        let comment = line
            .match_indices('#')
            .map(|(at, _)| at)
            .find(|at| *at == 0 || line[..*at].ends_with([' ', '\t']));
        Raw::Expandable(line[..comment.unwrap_or(line.len())].trim_end().to_owned())
    }

    fn quoted_value(&mut self, quote: char) -> Result<Raw, Fault> {
        let start = self.at;
        let body = &self.rest()[1..];
        let mut value = String::new();
        let mut characters = body.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                _ if character == quote => {
                    self.at += 1 + at + 1;
                    return self.after_quotes(if quote == '"' {
                        Raw::Expandable(value)
                    } else {
                        Raw::Literal(value)
                    });
                }
                '\\' if quote == '"' => match characters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 'r')) => value.push('\r'),
                    Some((_, 't')) => value.push('\t'),
                    Some((_, '$')) => value.push_str("$$"),
                    Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                    Some((_, other)) => value.extend(['\\', other]),
                    None => break,
                },
                _ => value.push(character),
            }
        }
        let message = format!("the value starts with {quote} and has no closing {quote}");
        Err(Fault { message, span: Span::new(start, start + 1) })
    }

    /// Accepts nothing but a comment behind closing quotes.
    fn after_quotes(&mut self, raw: Raw) -> Result<Raw, Fault> {
        let start = self.at;
        self.skip_blanks();
        match self.rest().as_bytes().first() {
            None | Some(b'\n' | b'\r' | b'#') => {
                self.skip_line();
                Ok(raw)
            }
            Some(_) => {
                let length = self.rest().find('\n').unwrap_or(self.rest().len());
                let message = "text follows the closing quote".to_owned();
                Err(Fault { message, span: Span::new(start, self.at + length) })
            }
        }
    }
}

/// A value before expansion.
enum Raw {
    Expandable(String),
    Literal(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(name: &str) -> Option<String> {
        (name == "USER_TOKEN").then(|| "mine".to_owned())
    }

    fn pairs(text: &str) -> Vec<(String, String)> {
        let (variables, faults) = parse(text, &lookup);
        assert_eq!(faults, [], "{text}");
        variables.into_iter().map(|v| (v.name, v.value.unwrap_or_else(|| "(unset)".to_owned()))).collect()
    }

    #[test]
    fn reads_the_dialect() {
        for (text, expected) in [
            ("", vec![]),
            ("# only a comment\n\n", vec![]),
            ("A=1", vec![("A", "1")]),
            ("A=1\r\nB=2\r\n", vec![("A", "1"), ("B", "2")]),
            ("export A = 1 ", vec![("A", "1")]),
            ("A: yaml style", vec![("A", "yaml style")]),
            ("A=b=c", vec![("A", "b=c")]),
            ("A=", vec![("A", "")]),
            ("A=x # comment\nB=x#y\nC=# all\n", vec![("A", "x"), ("B", "x#y"), ("C", "")]),
            ("A='x $USER_TOKEN \\n' # c", vec![("A", "x $USER_TOKEN \\n")]),
            ("A=\"x\\ty\\n\\\"q\\\" \\$B \\d\"", vec![("A", "x\ty\n\"q\" $B \\d")]),
            ("A=\"two\nlines\"\nB=2", vec![("A", "two\nlines"), ("B", "2")]),
            ("A=1\nB=$A-${C:-d}", vec![("A", "1"), ("B", "1-d")]),
            ("USER_TOKEN", vec![("USER_TOKEN", "mine")]),
            ("NOBODY\nA=1", vec![("NOBODY", "(unset)"), ("A", "1")]),
            ("export\nA=1", vec![("export", "(unset)"), ("A", "1")]),
            ("\u{feff}A=1", vec![("A", "1")]),
            ("a.b-c=1", vec![("a.b-c", "1")]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
            assert_eq!(pairs(text), expected, "{text}");
        }
    }

    #[test]
    fn tells_what_it_took_from_the_user() {
        let (variables, _) = parse("A=x${USER_TOKEN}\nB=$A\nUSER_TOKEN\nC=$NOBODY\n", &lookup);
        let mentions: Vec<_> =
            variables.iter().flat_map(|v| &v.mentions).map(|m| (m.name.as_str(), m.origin)).collect();
        assert_eq!(
            mentions,
            [
                ("USER_TOKEN", Origin::User),
                ("A", Origin::Text),
                ("USER_TOKEN", Origin::User),
                ("NOBODY", Origin::Nowhere),
            ]
        );
    }

    #[test]
    fn a_bad_line_is_named_and_the_rest_is_read() {
        let (variables, faults) = parse("=x\nA=1\nB 2\n9=x\nC='open", &lookup);
        assert_eq!(variables.len(), 1);
        let spans: Vec<_> = faults.iter().map(|fault| (fault.span.start, fault.span.end)).collect();
        assert_eq!(spans, [(0, 2), (7, 8), (11, 14), (17, 18)]);
    }

    proptest! {
        #[test]
        fn never_panics_and_spans_lie_inside(text in "([A-Z=:'\"#\\\\$ \n]|[{]|[}]|export |ü){0,60}") {
            let (variables, faults) = parse(&text, &lookup);
            let spans = variables.iter().map(|v| v.span).chain(faults.iter().map(|f| f.span));
            for span in spans {
                prop_assert!(text.get(span.start..span.end).is_some());
            }
        }
    }
}
