//! What is wrong with a manifest, and where: value types that render with an excerpt and a caret.

use std::{fmt, sync::Arc};

use miette::{
    Diagnostic, LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents,
};

/// The most errors kept for one manifest, and the most warnings: enough to mend it, too few to flood.
const MAX_PER_SEVERITY: usize = 200;
/// The longest piece of the user's text that a message repeats, in characters.
const MAX_QUOTED: usize = 60;

/// A range of bytes in a file's text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// Returns the range from `start` to `end`, in bytes.
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// Returns true for a range that holds no byte.
    pub const fn is_empty(self) -> bool {
        self.start >= self.end
    }
}

/// Where a value of the manifest stands.
///
/// All places are equal to each other, so that two manifests are equal when they say the same.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// The value, or its key.
    pub span: Span,
    /// The field, such as `dev.api.sync[0]`.
    pub path: String,
}

impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Place {}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The manifest can't be used.
    Error,
    /// The manifest can be used; something in it may not do what its author meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// The name and text of a file that problems point into.
///
/// Control characters and those that change the direction of text are replaced by as many `?` as
/// they have bytes, so that an excerpt is safe to print and spans still fit.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceText {
    name: String,
    text: String,
}

impl SourceText {
    /// Returns the printable form of `text`, shown under `name`.
    pub fn new(name: &str, text: &str) -> Self {
        let mut printable = String::with_capacity(text.len());
        for character in text.chars() {
            let keep = matches!(character, '\n' | '\t' | '\r') || !is_unprintable(character);
            if keep {
                printable.push(character);
            } else {
                printable.extend(std::iter::repeat_n('?', character.len_utf8()));
            }
        }
        Self { name: printable_name(name), text: printable }
    }

    /// Returns the name that the user knows the file by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the printable text, byte for byte as long as the file's.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the line and the column of a byte, both from 1, the column in characters.
    pub fn position(&self, byte: usize) -> (usize, usize) {
        let before = self.text.get(..byte).unwrap_or(&self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
        (line, column)
    }
}

impl SourceCode for SourceText {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let inner = self.text.read_span(span, before, after)?;
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            inner.data(),
            *inner.span(),
            inner.line(),
            inner.column(),
            inner.line_count(),
        )))
    }
}

/// One thing that is wrong, with its place and, where there is one, its mend.
///
/// Renders through `miette` with an excerpt and a caret; [`fmt::Display`] gives the message alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong: lower case, no final stop.
    pub message: String,
    /// The field, such as `dev.api.sync[0]`; empty for the file as a whole.
    pub path: String,
    /// Where in [`Problem::file`].
    pub span: Span,
    /// What to do about it.
    pub hint: Option<String>,
    /// The file that [`Problem::span`] points into.
    pub file: Arc<SourceText>,
}

impl Problem {
    /// Returns the line and the column where the problem starts, both from 1.
    pub fn position(&self) -> (usize, usize) {
        self.file.position(self.span.start)
    }

    /// Returns the line that the problem starts on, without its end.
    pub fn excerpt(&self) -> &str {
        let (line, _) = self.position();
        self.file.text().lines().nth(line - 1).unwrap_or_default()
    }

    /// Returns how many characters of that line the problem is about; at least one.
    pub fn length(&self) -> usize {
        let text = self.file.text().get(self.span.start..self.span.end).unwrap_or_default();
        text.lines().next().unwrap_or_default().chars().count().max(1)
    }

    /// Returns the problem on one line: `file:line:column: severity: message (path)`.
    pub fn one_line(&self) -> String {
        let (line, column) = self.position();
        let Self { severity, message, path, .. } = self;
        let name = self.file.name();
        if path.is_empty() {
            format!("{name}:{line}:{column}: {severity}: {message}")
        } else {
            format!("{name}:{line}:{column}: {severity}: {message} ({path})")
        }
    }
}

impl Diagnostic for Problem {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&*self.file)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let length = self.span.end.saturating_sub(self.span.start);
        let label = (!self.path.is_empty()).then(|| self.path.clone());
        Some(Box::new(std::iter::once(LabeledSpan::new(label, self.span.start, length))))
    }
}

/// All problems of one manifest, in the order of their places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    errors: usize,
    warnings: usize,
}

impl Problems {
    /// Returns true when the manifest can't be used.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Returns the problems: the manifest's own first, each file's by place.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    /// Returns the errors alone.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter().filter(|problem| problem.severity == Severity::Error)
    }

    /// Returns the warnings alone.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter().filter(|problem| problem.severity == Severity::Warning)
    }

    /// Returns how many problems are kept.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns true when nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds a problem; past a bound for each severity it is only counted.
    pub(crate) fn push(&mut self, problem: Problem) {
        let count = match problem.severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count <= MAX_PER_SEVERITY {
            self.list.push(problem);
        }
    }

    /// Sorts by file (`main` first) and place, so that the answer doesn't depend on reading order.
    pub(crate) fn sort(&mut self, main: &Arc<SourceText>) {
        self.list.sort_by(|a, b| {
            let key = |problem: &Problem| (!Arc::ptr_eq(&problem.file, main), problem.span);
            key(a)
                .0
                .cmp(&key(b).0)
                .then_with(|| a.file.name.cmp(&b.file.name))
                .then_with(|| key(a).1.cmp(&key(b).1))
                .then_with(|| a.message.cmp(&b.message))
        });
        self.list.dedup();
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Returns the user's own text as a message may repeat it: one line, printable, not long.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_QUOTED).flat_map(printable).collect();
    if text.chars().nth(MAX_QUOTED).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

fn printable_name(name: &str) -> String {
    name.chars().flat_map(printable).collect()
}

fn printable(character: char) -> impl Iterator<Item = char> {
    let escape = is_unprintable(character);
    let escaped = escape.then(|| character.escape_unicode());
    (!escape).then_some(character).into_iter().chain(escaped.into_iter().flatten())
}

fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_counts_lines_and_characters_from_one() {
        let source = SourceText::new("f", "a\nüb\n");
        for (byte, expected) in
            [(0, (1, 1)), (1, (1, 2)), (2, (2, 1)), (4, (2, 2)), (6, (3, 1)), (99, (3, 1))]
        {
            assert_eq!(source.position(byte), expected, "byte {byte}");
        }
    }

    #[test]
    fn control_characters_are_replaced_without_moving_spans() {
        let text = "a\u{1b}[31m\u{202e}b\n";
        let source = SourceText::new("x\u{7}", text);
        assert_eq!(source.text(), "a?[31m???b\n");
        assert_eq!(source.text().len(), text.len());
        assert_eq!(source.name(), "x\\u{7}");
    }

    #[test]
    fn quoted_text_is_short_and_on_one_line() {
        assert_eq!(quoted("a\nb"), "`a\\u{a}b`");
        assert_eq!(quoted(&"x".repeat(100)).chars().count(), MAX_QUOTED + 3);
    }

    #[test]
    fn errors_past_the_bound_still_count() {
        let file = Arc::new(SourceText::new("f", ""));
        let mut problems = Problems::default();
        for severity in [Severity::Warning, Severity::Error] {
            for _ in 0..=MAX_PER_SEVERITY {
                problems.push(Problem {
                    severity,
                    message: String::new(),
                    path: String::new(),
                    span: Span::default(),
                    hint: None,
                    file: Arc::clone(&file),
                });
            }
        }
        assert!(problems.has_errors());
        assert_eq!(problems.len(), 2 * MAX_PER_SEVERITY);
    }
}
