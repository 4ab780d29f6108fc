//! Ignore files → rules: lines, comments, escapes, includes.

use std::collections::HashSet;
use std::io;

use crate::error::{Fault, LoadError};
use crate::pattern::{Rule, Test};
use crate::rules::Rules;
use crate::{Line, MAX_INCLUDES, MAX_LINE, MAX_PARTS, MAX_TEXT};

/// What differs between the places that rules are loaded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadOptions {
    /// The system whose habits the file is written for.
    pub platform: Platform,
    /// Lets `#include ../file` leave the sync root.
    pub includes_outside: bool,
}

/// The system whose habits an ignore file is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Platform {
    /// Case counts; `\` escapes.
    #[default]
    Unix,
    /// Case does not count; `\` escapes.
    MacOs,
    /// Case does not count; `|` escapes and `\` separates, unless the file says `#escape=\`.
    Windows,
}

impl Platform {
    fn folds_case(self) -> bool {
        matches!(self, Self::MacOs | Self::Windows)
    }

    fn default_escape(self) -> char {
        if matches!(self, Self::Windows) { '|' } else { '\\' }
    }
}

/// Loads `file`, and what it includes, through `read`.
///
/// `read` gets slash paths relative to the sync root, cleaned of `.` and inner `..`. A `file` that it
/// does not find means no rules; any other failure is an error. Bytes that are no text are best read
/// as U+FFFD: they are then an error in patterns, and do no harm in comments.
pub fn load(
    file: &str,
    read: &mut dyn FnMut(&str) -> io::Result<String>,
    options: LoadOptions,
) -> Result<Rules, LoadError> {
    let text = match read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Rules::empty()),
        Err(source) => return Err(LoadError::Read { file: file.to_owned(), source }),
    };
    let mut loader = Loader {
        read,
        options,
        seen: HashSet::new(),
        opened: HashSet::new(),
        length: 0,
        rules: Collector::default(),
    };
    loader.file(file, &text)?;
    Ok(Rules::new(loader.rules.compiled))
}

/// Compiles lines that are pattern lines already, one rule each.
pub(crate) fn compile(lines: &[String]) -> Result<Rules, LoadError> {
    let file = "rules";
    let mut rules = Collector::default();
    let mut length = 0_usize;
    for (text, number) in lines.iter().zip(1..) {
        let at = |fault| LoadError::Line { file: file.to_owned(), line: number, fault };
        length = length.saturating_add(text.len());
        check_lengths(text, length).map_err(at)?;
        rules.push(Line { file: file.to_owned(), number, text: text.clone() }, false).map_err(at)?;
    }
    Ok(Rules::new(rules.compiled))
}

/// Compiles the rules of two sets anew, in order; each keeps the place that it comes from.
pub(crate) fn joined(first: &Rules, second: &Rules) -> Result<Rules, LoadError> {
    let mut rules = Collector::default();
    let mut length = 0_usize;
    for line in [first, second].into_iter().flat_map(Rules::portable_lines) {
        let at = |fault| LoadError::Line { file: line.file.clone(), line: line.number, fault };
        length = length.saturating_add(line.text.len());
        check_lengths(&line.text, length).map_err(at)?;
        rules.push(line.clone(), false).map_err(at)?;
    }
    Ok(Rules::new(rules.compiled))
}

/// Rules so far, and what they cost.
#[derive(Default)]
struct Collector {
    compiled: Vec<(Rule, Test)>,
    parts: usize,
}

impl Collector {
    fn push(&mut self, line: Line, fold: bool) -> Result<(), Fault> {
        let (rule, test) = Rule::new(line, fold)?;
        self.parts += test.cost();
        if self.parts > MAX_PARTS {
            return Err(Fault::TooMuch { what: "parts of patterns", limit: MAX_PARTS });
        }
        self.compiled.push((rule, test));
        Ok(())
    }
}

fn check_lengths(line: &str, total: usize) -> Result<(), Fault> {
    if line.len() > MAX_LINE {
        return Err(Fault::TooMuch { what: "bytes in one line", limit: MAX_LINE });
    }
    if total > MAX_TEXT {
        return Err(Fault::TooMuch { what: "bytes of text", limit: MAX_TEXT });
    }
    Ok(())
}

struct Loader<'a> {
    read: &'a mut dyn FnMut(&str) -> io::Result<String>,
    options: LoadOptions,
    /// The lines of all files so far, to skip repeated ones.
    seen: HashSet<String>,
    /// The included files so far.
    opened: HashSet<String>,
    /// The bytes of all files so far.
    length: usize,
    rules: Collector,
}

impl Loader<'_> {
    fn file(&mut self, file: &str, text: &str) -> Result<(), LoadError> {
        let error = |line, fault| LoadError::Line { file: file.to_owned(), line, fault };
        for (raw, number) in text.split('\n').zip(1..) {
            self.length += raw.len() + 1;
            check_lengths(raw, self.length).map_err(|fault| error(number, fault))?;
        }
        let mut escape = Escape::new(self.options.platform);
        let mut has_patterns = false;
        for (raw, number) in text.split('\n').zip(1..) {
            let line = raw.trim();
            if let Some(rest) = line.strip_prefix("#escape") {
                escape.set(line, rest, has_patterns).map_err(|fault| error(number, fault))?;
                continue;
            }
            if line.is_empty() || !self.seen.insert(line.to_owned()) || line.starts_with("//") {
                continue;
            }
            let resolved = escape.resolve(line);
            if resolved.starts_with("#include") {
                self.include(file, number, &resolved)?;
            } else {
                has_patterns = true;
                let line = Line { file: file.to_owned(), number, text: resolved };
                let folds_case = self.options.platform.folds_case();
                self.rules.push(line, folds_case).map_err(|fault| error(number, fault))?;
            }
        }
        Ok(())
    }

    fn include(&mut self, file: &str, number: u32, line: &str) -> Result<(), LoadError> {
        let error = |fault| LoadError::Line { file: file.to_owned(), line: number, fault };
        let name = line.split_once(' ').map_or("", |(_, name)| name.trim());
        if name.is_empty() {
            return Err(error(Fault::IncludeWithoutName));
        }
        let include = join_clean(file, name);
        if !self.options.includes_outside && (include == ".." || include.starts_with("../")) {
            return Err(error(Fault::IncludeOutside { include }));
        }
        if self.opened.contains(&include) {
            return Err(error(Fault::IncludedTwice { include }));
        }
        if self.opened.len() == MAX_INCLUDES {
            return Err(error(Fault::TooMuch { what: "included files", limit: MAX_INCLUDES }));
        }
        match (self.read)(&include) {
            Ok(text) => {
                self.opened.insert(include.clone());
                self.file(&include, &text)
            }
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                Err(error(Fault::IncludeMissing { include }))
            }
            Err(source) => Err(LoadError::Include { file: file.to_owned(), line: number, include, source }),
        }
    }
}

/// The escape character of one file.
struct Escape {
    platform: Platform,
    character: char,
    is_set: bool,
}

impl Escape {
    fn new(platform: Platform) -> Self {
        Self { platform, character: platform.default_escape(), is_set: false }
    }

    /// Obeys an `#escape` line; `rest` is what follows the word.
    fn set(&mut self, line: &str, rest: &str, has_patterns: bool) -> Result<(), Fault> {
        if self.is_set {
            return Err(Fault::SecondEscape);
        }
        if has_patterns {
            return Err(Fault::LateEscape);
        }
        let mut value = rest.trim().strip_prefix('=').unwrap_or_default().trim_start().chars();
        let (Some(character), None) = (value.next(), value.next()) else {
            return Err(Fault::MalformedEscape { text: line.to_owned() });
        };
        self.character = character;
        self.is_set = true;
        Ok(())
    }

    /// Rewrites a line so that `\` is its escape character.
    fn resolve(&self, line: &str) -> String {
        if self.character == '\\' {
            return line.to_owned();
        }
        let line = match self.platform {
            Platform::Windows => line.replace('\\', "/"),
            Platform::Unix | Platform::MacOs => line.to_owned(),
        };
        line.replace(self.character, r"\").replace(r"\\", &format!(r"\{}", self.character))
    }
}

/// Joins the folder of `file` and `name`, which stays relative even with a leading slash, and
/// cleans the path of empty components, `.` and inner `..`.
fn join_clean(file: &str, name: &str) -> String {
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut clean: Vec<&str> = Vec::new();
    for component in folder.split('/').chain(name.split('/')) {
        match component {
            "" | "." => {}
            ".." if clean.last().is_some_and(|&last| last != "..") => {
                clean.pop();
            }
            _ => clean.push(component),
        }
    }
    if clean.is_empty() { ".".to_owned() } else { clean.join("/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(platform: Platform, text: &str, expected: Result<&[&str], &str>) {
        let mut read = |_: &str| Ok(text.to_owned());
        let options = LoadOptions { platform, includes_outside: false };
        let loaded =
            load(".stignore", &mut read, options).map(|rules| rules.lines()).map_err(|e| e.to_string());
        let expected = expected.map(|lines| lines.iter().map(|&line| line.to_owned()).collect());
        assert_eq!(loaded, expected.map_err(str::to_owned), "{text:?}");
    }

    #[test]
    fn lines() {
        check(Platform::Unix, " a \r\n// comment\n\na\n#b", Ok(&["a", "#b"]));
        check(Platform::Unix, "#escape = |\na|*\nb\\\\", Ok(&[r"a\*", r"b\|"]));
        check(
            Platform::Unix,
            "a\n#escape=|",
            Err(".stignore:2: the #escape line must come before the first pattern of the file"),
        );
        check(
            Platform::Unix,
            "\n[",
            Err(".stignore:2: invalid pattern \"[\": unexpected end of the pattern inside [ ]"),
        );
    }

    #[test]
    fn platforms_fold_case_and_have_their_own_separator() {
        check(Platform::MacOs, "A\n(?d)!B\n(?d)(?i)C", Ok(&["(?i)A", "(?i)(?d)!B", "(?d)(?i)C"]));
        check(Platform::Windows, r"a\|*b", Ok(&[r"(?i)a/\*b"]));
        check(Platform::Windows, "#escape=\\\na\\*", Ok(&[r"(?i)a\*"]));
    }

    #[test]
    fn an_include_stays_inside_unless_allowed() {
        let mut read = |file: &str| match file {
            ".stignore" => Ok("#include sub/../../out".to_owned()),
            "../out" => Ok("x".to_owned()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        let error = load(".stignore", &mut read, LoadOptions::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            ".stignore:1: the included file ../out is outside the synchronized folder"
        );
        let options = LoadOptions { includes_outside: true, ..LoadOptions::default() };
        assert_eq!(load(".stignore", &mut read, options).unwrap().lines(), ["x"]);
    }

    #[test]
    fn a_missing_file_is_empty_and_an_unreadable_one_is_an_error() {
        let fail =
            |kind| load(".stignore", &mut |_: &str| Err(io::Error::from(kind)), LoadOptions::default());
        assert!(fail(io::ErrorKind::NotFound).unwrap().lines().is_empty());
        assert_eq!(
            fail(io::ErrorKind::PermissionDenied).unwrap_err().to_string(),
            "cannot read the ignore file .stignore: permission denied"
        );
    }

    #[test]
    fn too_much_is_an_error() {
        let numbered: Vec<String> = (0..20_000).map(|number| format!("{number}*?")).collect();
        let numbered = numbered.join("\n");
        let limits = [
            ("a".repeat(MAX_LINE + 1), "bytes in one line"),
            (format!("{}\n", "a".repeat(1000)).repeat(1100), "bytes of text"),
            (numbered, "parts of patterns"),
        ];
        for (text, what) in limits {
            let error =
                load(".stignore", &mut |_: &str| Ok(text.clone()), LoadOptions::default()).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
            let lines: Vec<String> =
                text.split('\n').filter(|line| !line.is_empty()).map(str::to_owned).collect();
            let error = Rules::from_lines(&lines).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
        }
        let mut files = 0;
        let mut read = |_: &str| {
            files += 1;
            Ok(format!("#include f{files}"))
        };
        let error = load(".stignore", &mut read, LoadOptions::default()).unwrap_err();
        assert!(error.to_string().ends_with("more than 256 included files"), "{error}");
    }

    #[test]
    fn joined_sets_decide_in_order_and_know_their_places() {
        let rules = |file: &str, text: &str, platform| {
            let options = LoadOptions { platform, ..LoadOptions::default() };
            load(file, &mut |_: &str| Ok(text.to_owned()), options).unwrap()
        };
        let first = rules(".stignore", "// ours\n!keep.log\nB", Platform::MacOs);
        let second = rules(".okteto/.stignore", "*.log\nB\n", Platform::Unix);
        let both = first.followed_by(&second).unwrap();
        assert_eq!(both.lines(), [first.lines(), second.lines()].concat());
        assert_eq!(both.hash(), Rules::from_lines(&both.lines()).unwrap().hash());
        for (path, ignored, place) in [
            ("keep.log", false, Some((".stignore", 2))),
            ("x.log", true, Some((".okteto/.stignore", 1))),
            ("b", true, Some((".stignore", 3))),
            ("a", false, None),
        ] {
            let decision = both.decide(path);
            let found = decision.rule.map(|rule| (rule.file, rule.line));
            assert_eq!((decision.ignored, found), (ignored, place), "{path}");
        }

        let half: Vec<String> = (0..6_000).map(|number| format!("{number}*?")).collect();
        let half = rules("a", &half.join("\n"), Platform::Unix);
        let error = half.followed_by(&half).unwrap_err();
        assert!(error.to_string().contains("parts of patterns"), "{error}");
    }

    #[test]
    fn paths_of_includes() {
        for (file, name, expected) in [
            (".stignore", "a", "a"),
            ("s/i", "/a", "s/a"),
            ("s/i", "../../a", "../a"),
            ("../i", "a", "../a"),
            ("s/i", "..", "."),
            (".stignore", "./a//b", "a/b"),
        ] {
            assert_eq!(join_clean(file, name), expected, "{file} {name}");
        }
    }
}
