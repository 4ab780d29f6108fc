//! Typed reading of a [`Node`] tree that collects every problem instead of stopping at the first.
//!
//! House rule: a method that returns `None` has reported why, or the value was absent (absent and
//! `null` are the same, as for Okteto).

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Context,
    dev::{is_name, sanitized},
    disk::Disk,
    dotenv::DotEnv,
    expand::{Lookup, Outcome, expand},
    language::{Fate, Object, Rule},
    node::{Entry, Node, Scalar, Value},
    origin::{UsedVariable, VariableSource},
    paths,
    problem::{Place, Problem, Problems, Severity, SourceText, Span, quoted},
    quantity::is_quantity,
    suggest::nearest,
    trust::{Findings, Outside, Sensitive, is_sensitive},
    yaml::push_key,
};

/// How much all expansions of one manifest together may yield, in bytes.
const MAX_EXPANDED: usize = 8 * 1024 * 1024;

/// A node with the path that leads to it.
#[derive(Debug, Clone)]
pub(crate) struct At<'n> {
    pub(crate) node: &'n Node,
    pub(crate) path: String,
    /// The key's place, where the node is a field's value: better to point at than a whole block.
    pub(crate) key_span: Option<Span>,
}

impl<'n> At<'n> {
    pub(crate) fn root(node: &'n Node) -> Self {
        Self { node, path: String::new(), key_span: None }
    }

    /// Returns where a problem with this value is shown.
    pub(crate) fn span(&self) -> Span {
        match (&self.node.value, self.key_span) {
            (Value::Null | Value::Mapping(_) | Value::Sequence(_), Some(key)) => key,
            _ => self.node.span,
        }
    }

    /// Returns where this value stands.
    pub(crate) fn place(&self) -> Place {
        Place { span: self.span(), path: self.path.clone() }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.node.value == Value::Null
    }

    pub(crate) fn is_mapping(&self) -> bool {
        matches!(self.node.value, Value::Mapping(_))
    }

    /// Returns the items of a list, without a problem when it is something else.
    fn items(&self) -> Option<Vec<Self>> {
        let Value::Sequence(items) = &self.node.value else { return None };
        let at = |(index, node)| At { node, path: format!("{}[{index}]", self.path), key_span: None };
        Some(items.iter().enumerate().map(at).collect())
    }

    /// Returns the fields of a mapping, without a problem when it is something else.
    pub(crate) fn entries(&self) -> Option<Vec<(&'n str, Self)>> {
        let Value::Mapping(entries) = &self.node.value else { return None };
        let at = |entry: &'n Entry| {
            let mut path = self.path.clone();
            push_key(&mut path, &entry.key);
            (entry.key.as_str(), At { node: &entry.node, path, key_span: Some(entry.key_span) })
        };
        Some(entries.iter().map(at).collect())
    }
}

/// The fields of one mapping, all of them known.
pub(crate) struct Fields<'n> {
    list: Vec<(&'n str, At<'n>)>,
}

impl<'n> Fields<'n> {
    /// Returns a field's value; `None` when it is absent or null.
    pub(crate) fn get(&self, name: &str) -> Option<&At<'n>> {
        self.list.iter().find(|(key, at)| *key == name && !at.is_null()).map(|(_, at)| at)
    }
}

/// Reads one manifest: what it needs to know, and what it found.
pub(crate) struct Reader<'a> {
    pub(crate) file: Arc<SourceText>,
    pub(crate) problems: Problems,
    pub(crate) findings: Findings,
    pub(crate) disk: &'a dyn Disk,
    /// Whether what is read now is acted on: only then does a credential in it need the user's consent.
    pub(crate) acted_on: bool,
    /// The variables that were expanded, by the value's place.
    pub(crate) used: BTreeMap<Span, Vec<UsedVariable>>,
    /// Where variables of the dev container come from, when from an env file: by the field's path.
    pub(crate) from_files: BTreeMap<String, (Arc<SourceText>, Span)>,
    manifest: &'a Path,
    repository: PathBuf,
    lookup: &'a Lookup<'a>,
    dotenv: &'a DotEnv,
    expanded: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(
        file: Arc<SourceText>,
        manifest: &'a Path,
        context: &Context<'a>,
        dotenv: &'a DotEnv,
    ) -> Self {
        let repository = context.repository.map_or_else(|| paths::project_root(manifest), Path::to_owned);
        Self {
            file,
            problems: Problems::default(),
            findings: Findings::default(),
            disk: context.disk,
            acted_on: true,
            used: BTreeMap::new(),
            from_files: BTreeMap::new(),
            manifest,
            repository,
            lookup: context.variables,
            dotenv,
            expanded: 0,
        }
    }

    /// Returns the local path that `text` means, noting it when it leads out of the repository.
    pub(crate) fn local(&mut self, at: &At<'_>, text: &str) -> PathBuf {
        let home = match text.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                self.lookup("HOME").map(|home| format!("{home}{rest}"))
            }
            _ => None,
        };
        let local = paths::resolve_local(self.manifest, home.as_deref().unwrap_or(text));
        let linked = match (self.disk.canonical(&self.repository), self.disk.canonical(&local)) {
            (Some(root), Some(real)) if paths::is_outside(&root, &real) => Some(real),
            _ => None,
        };
        let (path, span) = (at.path.clone(), at.span());
        if paths::is_outside(&self.repository, &local) {
            self.findings.outside.push(Outside { local: local.clone(), path, span });
        } else if let Some(real) = linked {
            self.findings.linked.push((path.clone(), real.clone()));
            self.findings.outside.push(Outside { local: real, path, span });
        }
        local
    }

    /// Returns a variable: the user's own, else that of `.env`.
    pub(crate) fn lookup(&self, name: &str) -> Option<String> {
        (self.lookup)(name).or_else(|| self.dotenv.value(name))
    }

    /// Returns where a variable that is set comes from.
    fn source(&self, name: &str) -> VariableSource {
        if (self.lookup)(name).is_some() {
            VariableSource::Environment
        } else if let Some(place) = self.dotenv.place(name) {
            VariableSource::File(place)
        } else {
            VariableSource::Nowhere
        }
    }

    /// Notes that the value of `at` takes a variable of the user.
    pub(crate) fn note_variable(&mut self, at: &At<'_>, span: Span, name: &str) {
        let source = self.source(name);
        self.used.entry(at.node.span).or_default().push(UsedVariable { name: name.to_owned(), source });
        if is_sensitive(name) {
            let file = Arc::clone(&self.file);
            self.disclose(&at.path, file, span, name);
        }
    }

    /// Notes that the value of a credential-like variable goes where others may read it.
    pub(crate) fn disclose(&mut self, path: &str, file: Arc<SourceText>, span: Span, name: &str) {
        let message = if self.acted_on {
            format!(
                "the value of {}, which looks like a credential, goes into the cluster in the clear",
                quoted(name)
            )
        } else {
            format!(
                "the value of {}, which looks like a credential, would be in the clear here",
                quoted(name)
            )
        };
        let (path, hint) = (path.to_owned(), Some("let the workload take it from a Secret".to_owned()));
        if self.acted_on {
            let (variable, file) = (name.to_owned(), file.name().to_owned());
            self.findings.sensitive.push(Sensitive { variable, path: path.clone(), file, span });
        }
        self.findings.disclosures.push(Problem {
            severity: Severity::Warning,
            message,
            path,
            span,
            hint,
            file,
        });
    }

    // Problems.

    pub(crate) fn error(&mut self, at: &At<'_>, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.report(Severity::Error, &at.path, at.span(), message.into(), hint.into());
    }

    pub(crate) fn warn(&mut self, at: &At<'_>, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.report(Severity::Warning, &at.path, at.span(), message.into(), hint.into());
    }

    pub(crate) fn report(
        &mut self,
        severity: Severity,
        path: &str,
        span: Span,
        message: String,
        hint: Option<String>,
    ) {
        let (path, file) = (path.to_owned(), Arc::clone(&self.file));
        self.problems.push(Problem { severity, message, path, span, hint, file });
    }

    pub(crate) fn expected(&mut self, at: &At<'_>, what: &str) {
        let found = match &at.node.value {
            Value::Scalar(Scalar { text, .. }) => quoted(text),
            _ => at.node.kind().to_owned(),
        };
        self.error(at, format!("expected {what}, found {found}"), None);
    }

    // Scalars.

    /// Returns a string; numbers and booleans are taken as they are written, as Okteto does.
    pub(crate) fn string(&mut self, at: &At<'_>) -> Option<String> {
        match &at.node.value {
            Value::Scalar(scalar) => Some(scalar.text.clone()),
            Value::Null => None,
            _ => {
                self.expected(at, "a string");
                None
            }
        }
    }

    /// Returns a string after expansion of its variables.
    pub(crate) fn expanded(&mut self, at: &At<'_>) -> Option<String> {
        let text = self.string(at)?;
        let place = self.place(at, &text);
        self.expand(at, &text, place)
    }

    /// Returns where exactly a scalar's text stands, within its quotes; `None` when it has escapes.
    pub(crate) fn place(&self, at: &At<'_>, text: &str) -> Option<Span> {
        let Span { start, end } = at.node.span;
        let candidates = [(start, end), (start + 1, end.saturating_sub(1))];
        let found =
            candidates.into_iter().find(|(start, end)| self.file.text().get(*start..*end) == Some(text));
        found.map(|(start, end)| Span::new(start, end))
    }

    /// Returns `text`, a part of the value at `at`, after expansion.
    ///
    /// Unset variables and credential-like ones are noted; `span` is where the text stands, when it
    /// stands there without escapes.
    pub(crate) fn expand(&mut self, at: &At<'_>, text: &str, span: Option<Span>) -> Option<String> {
        let result = expand(text, &|name| self.lookup(name));
        let expanded = match result {
            Ok(expanded) if self.expanded + expanded.text.len() <= MAX_EXPANDED => expanded,
            Ok(_) => {
                self.error(at, "the variables of this manifest expand to too much text", None);
                return None;
            }
            Err(error) => {
                let hint = "write `$$` for a plain dollar sign".to_owned();
                self.error(at, error.to_string(), hint);
                return None;
            }
        };
        self.expanded += expanded.text.len();
        for reference in expanded.references {
            let Range { start, end } = reference.range;
            let span = span.map_or_else(|| at.span(), |span| Span::new(span.start + start, span.start + end));
            let name = reference.name;
            match reference.outcome {
                Outcome::Value => self.note_variable(at, span, &name),
                Outcome::Unset => {
                    self.unset(&at.path, span, &name);
                    let source = VariableSource::Nowhere;
                    self.used.entry(at.node.span).or_default().push(UsedVariable { name, source });
                }
                Outcome::Own => {
                    let source = VariableSource::Default;
                    self.used.entry(at.node.span).or_default().push(UsedVariable { name, source });
                }
            }
        }
        Some(expanded.text)
    }

    /// Warns of a variable that isn't set; an empty name is a shell's `$1`.
    pub(crate) fn unset(&mut self, path: &str, span: Span, name: &str) {
        let (message, hint) = if name.is_empty() {
            let message = "`$` before a digit stands for nothing here".to_owned();
            (message, "write `$$` for a plain dollar sign".to_owned())
        } else {
            let message = format!("the variable {} is not set, so nothing stands here", quoted(name));
            let hint = if name.starts_with("OKTETO_BUILD_") {
                format!("nothing is built here: set {name} to the image, or leave it to the workload's own")
            } else {
                format!("set it, or give a default: ${{{name}:-value}}")
            };
            (message, hint)
        };
        self.report(Severity::Warning, path, span, message, Some(hint));
    }

    pub(crate) fn boolean(&mut self, at: &At<'_>) -> Option<bool> {
        let value = match &at.node.value {
            Value::Scalar(scalar) => scalar.boolean(),
            Value::Null => return None,
            _ => None,
        };
        if value.is_none() {
            self.expected(at, "`true` or `false`");
        }
        value
    }

    /// Returns an integer between `least` and `most`.
    pub(crate) fn integer(&mut self, at: &At<'_>, least: i64, most: i64) -> Option<i64> {
        let value = match &at.node.value {
            Value::Scalar(scalar) => scalar.integer(),
            Value::Null => return None,
            _ => None,
        };
        let value = value.filter(|value| (least..=most).contains(value));
        if value.is_none() {
            let most = if most == i64::MAX { "any number up".to_owned() } else { most.to_string() };
            self.expected(at, &format!("a whole number from {least} to {most}"));
        }
        value
    }

    /// Returns a port, which is not 0.
    pub(crate) fn port(&mut self, at: &At<'_>) -> Option<u16> {
        self.integer(at, 1, 65_535).and_then(|port| u16::try_from(port).ok())
    }

    /// Returns the string, if it is one of `allowed`.
    pub(crate) fn one_of(&mut self, at: &At<'_>, allowed: &[&'static str]) -> Option<&'static str> {
        let text = self.string(at)?;
        let found = allowed.iter().copied().find(|word| *word == text);
        if found.is_none() {
            let hint = nearest(&text, allowed.iter().copied()).map(|word| format!("did you mean `{word}`?"));
            let words: Vec<_> = allowed.iter().map(|word| format!("`{word}`")).collect();
            self.error(at, format!("expected one of {}, found {}", words.join(", "), quoted(&text)), hint);
        }
        found
    }

    // Collections.

    /// Returns the items of a list; one that holds nothing is reported.
    pub(crate) fn list<'n>(&mut self, at: &At<'n>) -> Vec<At<'n>> {
        if at.is_null() {
            return Vec::new();
        }
        let Some(mut items) = at.items() else {
            self.expected(at, "a list");
            return Vec::new();
        };
        for empty in items.iter().filter(|item| item.is_null()) {
            let span = if empty.node.span.is_empty() { at.span() } else { empty.node.span };
            let hint = Some("write it, or remove the item".to_owned());
            self.report(Severity::Error, &empty.path, span, "this item is empty".to_owned(), hint);
        }
        items.retain(|item| !item.is_null());
        items
    }

    /// Returns the items of a list that may not be long, because each costs much more than its text.
    pub(crate) fn few<'n>(&mut self, at: &At<'n>, most: usize) -> Vec<At<'n>> {
        let mut items = self.list(at);
        if items.len() > most {
            self.error(at, format!("there are {} of them; at most {most} are read", items.len()), None);
            items.truncate(most);
        }
        items
    }

    /// Returns the entries of a mapping of names; one with a lone value is not reported here.
    pub(crate) fn named<'n>(&mut self, at: &At<'n>) -> Vec<(&'n str, At<'n>)> {
        if at.is_null() {
            return Vec::new();
        }
        at.entries().unwrap_or_else(|| {
            self.expected(at, "a mapping of names");
            Vec::new()
        })
    }

    /// Returns the value of a name that must have one; `what` says what is missing.
    pub(crate) fn given<'r, 'n>(&mut self, at: &'r At<'n>, what: &str) -> Option<&'r At<'n>> {
        if !at.is_null() {
            return Some(at);
        }
        self.error(at, "nothing is said here", format!("write {what}, or remove the name"));
        None
    }

    /// Returns `key` as Kubernetes takes it, unless that is `taken`.
    pub(crate) fn kubernetes_name(
        &mut self,
        key: &str,
        at: &At<'_>,
        what: &str,
        taken: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let span = at.key_span.unwrap_or(at.node.span);
        let name = sanitized(key);
        if !is_name(&name) {
            let message = format!("{} is not a name that {what} can have", quoted(key));
            let hint = "use lower-case letters, digits and `-` inside".to_owned();
            self.report(Severity::Error, &at.path, span, message, Some(hint));
        } else if name != key {
            let message = format!("{} is not a Kubernetes name; it is called `{name}`", quoted(key));
            self.report(Severity::Warning, &at.path, span, message, None);
        }
        if taken(&name) {
            let what = what.strip_prefix("a ").unwrap_or(what);
            let message = format!("another {what} is called `{name}` already");
            self.report(Severity::Error, &at.path, span, message, Some("rename one of them".to_owned()));
            return None;
        }
        Some(name)
    }

    /// Returns the items of a list, or a lone value as a list of one: the shorthand of many fields.
    pub(crate) fn one_or_list<'n>(&mut self, at: &At<'n>) -> Vec<At<'n>> {
        match &at.node.value {
            Value::Null => Vec::new(),
            Value::Scalar(_) => vec![at.clone()],
            _ => self.list(at),
        }
    }

    pub(crate) fn strings(&mut self, at: &At<'_>) -> Vec<String> {
        self.list(at).iter().map(|item| self.string(item).unwrap_or_default()).collect()
    }

    /// Returns the fields of `object`, after naming each that it doesn't have and each that is missing.
    pub(crate) fn fields<'n>(&mut self, at: &At<'n>, object: &'static Object) -> Option<Fields<'n>> {
        if at.is_null() {
            return None;
        }
        let Some(entries) = at.entries() else {
            self.expected(at, "a mapping");
            return None;
        };
        let mut list = Vec::new();
        for (key, at) in entries {
            let span = at.key_span.unwrap_or(at.node.span);
            let (message, hint) = match object.field(key).map(|field| field.fate) {
                Some(Fate::Refused(message, hint)) => (message.to_owned(), Some(hint.to_owned())),
                Some(_) => {
                    list.push((key, at));
                    continue;
                }
                None => {
                    let hint = nearest(key, object.names()).map(|word| format!("did you mean `{word}`?"));
                    (format!("{} is not a field of {}", quoted(key), object.what), hint)
                }
            };
            self.report(Severity::Error, &at.path, span, message, hint);
        }
        let fields = Fields { list };
        self.check_rule(at, object, &fields);
        Some(fields)
    }

    fn check_rule(&mut self, at: &At<'_>, object: &'static Object, fields: &Fields<'_>) {
        let what = object.what;
        for field in object.fields.iter().filter(|field| field.required && fields.get(field.name).is_none()) {
            self.error(at, format!("{what} needs `{}`", field.name), None);
        }
        let quoted =
            |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
        let given = |names: &[&str]| names.iter().filter(|name| fields.get(name).is_some()).count();
        match object.rule {
            Rule::Free => {}
            Rule::ExactlyOne => {
                let names: Vec<_> = object.names().collect();
                if given(&names) != 1 {
                    self.error(at, format!("{what} takes {}, exactly one of them", quoted(&names)), None);
                }
            }
            Rule::NotBoth(one, other) => {
                if given(&[one, other]) == 2 {
                    self.error(at, format!("{what} takes {}, not both", quoted(&[one, other])), None);
                }
            }
            Rule::AtLeastOne(names) => {
                if given(names) == 0 {
                    self.error(at, format!("{what} needs {}", quoted(names)), None);
                }
            }
        }
    }

    /// Returns a mapping of strings, also when written as a list of `NAME=value`; values are expanded.
    pub(crate) fn string_map(&mut self, at: &At<'_>) -> BTreeMap<String, String> {
        self.text_map(at, true)
    }

    /// Returns a mapping of strings, also when written as a list of `NAME=value`; values are taken as they are.
    pub(crate) fn plain_map(&mut self, at: &At<'_>) -> BTreeMap<String, String> {
        self.text_map(at, false)
    }

    fn text_map(&mut self, at: &At<'_>, expand: bool) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        let text =
            |reader: &mut Self, at: &At<'_>| if expand { reader.expanded(at) } else { reader.string(at) };
        if matches!(at.node.value, Value::Sequence(_)) {
            for item in self.list(at) {
                let Some(text) = text(self, &item) else { continue };
                match text.split_once('=') {
                    Some((name, value)) => {
                        map.insert(name.to_owned(), value.to_owned());
                    }
                    None => self.error(&item, format!("expected NAME=value, found {}", quoted(&text)), None),
                }
            }
            return map;
        }
        let Some(entries) = at.entries() else {
            if !at.is_null() {
                self.expected(at, "a mapping, or a list of NAME=value");
            }
            return map;
        };
        for (key, value) in entries {
            let value = if value.is_null() { Some(String::new()) } else { text(self, &value) };
            map.extend(value.map(|value| (key.to_owned(), value)));
        }
        map
    }

    /// Returns a mapping of resource names to Kubernetes quantities.
    pub(crate) fn quantities(&mut self, at: &At<'_>) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        let Some(entries) = at.entries() else {
            if !at.is_null() {
                self.expected(at, "a mapping of resource names to amounts");
            }
            return map;
        };
        for (key, value) in entries {
            if let Some(amount) = self.quantity(&value) {
                map.insert(key.to_owned(), amount);
            }
        }
        map
    }

    pub(crate) fn quantity(&mut self, at: &At<'_>) -> Option<String> {
        let text = self.string(at)?;
        if is_quantity(&text) {
            return Some(text);
        }
        let hint = "write an amount such as 500m, 2, 512Mi or 5Gi".to_owned();
        self.error(at, format!("{} is not an amount that Kubernetes knows", quoted(&text)), hint);
        None
    }
}
