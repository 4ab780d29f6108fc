//! The language of okteto.yml, written down once: every field with its shape, what it is for and what becomes of it.
//!
//! The reader asks it which fields exist, the JSON Schema and the table of `docs/okteto-compatibility.md` are made from
//! it, so that the parser, the editor and the documentation can't disagree.

mod dev;
mod pod;
mod sections;

use std::collections::BTreeSet;

use serde_json::Value;

pub(crate) use self::{
    dev::{DEV, FORWARD, GLOBAL_FORWARD, SERVICE, SYNC, TIMEOUT, VERSION_ONE},
    pod::{
        AFFINITY, CAPABILITIES, HOOK, INIT_CONTAINER, LIFECYCLE, METADATA, PERSISTENT_VOLUME, PROBES,
        RESOURCES, SECURITY_CONTEXT, TOLERATION,
    },
    sections::{
        ARTIFACT, BUILD, BUILD_SECRET, COMMAND, COMPOSE, COMPOSE_FILE, DEPENDENCY, DEPLOY, DESTROY,
        DIVERT_HOST, DIVERT_ISTIO, DIVERT_NGINX, ENDPOINT, EXTERNAL, EXTERNAL_ENDPOINT, HOST, NAMED_ENDPOINT,
        TEST, TOP, VIRTUAL_SERVICE,
    },
};

/// A mapping with fields of its own.
pub(crate) struct Object {
    /// Its name in the schema.
    pub(crate) id: &'static str,
    /// What messages call it.
    pub(crate) what: &'static str,
    pub(crate) fields: &'static [Field],
    pub(crate) rule: Rule,
}

/// Which fields of an [`Object`] go together.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    Free,
    ExactlyOne,
    NotBoth(&'static str, &'static str),
    AtLeastOne(&'static [&'static str]),
}

/// One field of an [`Object`].
#[derive(Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) shape: Shape,
    pub(crate) fate: Fate,
    pub(crate) required: bool,
}

/// What may stand in a field. Wherever there is text, a number or a boolean is taken as it is written.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// Text, with an example.
    Text(&'static str),
    /// One of these words; the last one is the example.
    Word(&'static [&'static str]),
    /// `true` or `false`, with an example.
    Flag(bool),
    /// A whole number between the first two, with an example.
    Number(i64, i64, i64),
    /// A list.
    List(&'static Self),
    /// A mapping from names, of which one is given, to values that may not be missing.
    Map(&'static str, &'static Self),
    /// A mapping from names to values that may be missing.
    Loose(&'static str, &'static Self),
    /// Names and texts: a mapping, or a list of `NAME=value`.
    Pairs(&'static str, &'static str),
    /// A mapping with fields.
    Object(&'static Object),
    /// One of these; the first is the usual one.
    Either(&'static [Self]),
    /// A mapping that Kubernetes knows better; an example in JSON.
    Anything(&'static str),
}

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It does what it does for Okteto.
    Honoured,
    /// It does something else, and why.
    Differently(&'static str),
    /// It is read, checked and shown, and nothing is done about it yet.
    NotYet(&'static str),
    /// It is refused: what the message says, and what to do.
    Refused(&'static str, &'static str),
}

/// A field of the language, as the documentation lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldFact {
    /// The field, such as `dev.*.sync.compression`; `*` stands for a name that the author chooses, `[]` for an item.
    pub path: String,
    /// What it is for.
    pub help: &'static str,
    /// What becomes of it.
    pub fate: Fate,
    /// A value that means something else than leaving it out.
    pub example: Value,
}

/// Returns every field of the language, each before those inside it.
pub fn fields() -> Vec<FieldFact> {
    let mut facts: Vec<FieldFact> = Vec::new();
    TOP.facts("", None, &mut facts);
    let mut seen = BTreeSet::new();
    facts.retain(|fact| seen.insert(fact.path.clone()));
    facts
}

impl Object {
    /// Returns the field called `name`.
    pub(crate) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Returns the names of the fields that are not refused.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().filter(|field| !field.is_refused()).map(|field| field.name)
    }

    fn facts(&self, path: &str, above: Option<Fate>, facts: &mut Vec<FieldFact>) {
        for field in self.fields {
            let path = if path.is_empty() { field.name.to_owned() } else { format!("{path}.{}", field.name) };
            let fate = match (above, field.fate) {
                (Some(above), Fate::Honoured) => above,
                (_, own) => own,
            };
            let example = field.shape.example();
            facts.push(FieldFact { path: path.clone(), help: field.help, fate, example });
            let handed_down = matches!(fate, Fate::NotYet(_)).then_some(fate);
            if !field.is_refused() {
                field.shape.facts(&path, handed_down, facts);
            }
        }
    }
}

impl Field {
    const fn new(name: &'static str, shape: Shape, help: &'static str) -> Self {
        Self { name, help, shape, fate: Fate::Honoured, required: false }
    }

    const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    const fn differently(mut self, why: &'static str) -> Self {
        self.fate = Fate::Differently(why);
        self
    }

    const fn not_yet(mut self, instead: &'static str) -> Self {
        self.fate = Fate::NotYet(instead);
        self
    }

    const fn refused(name: &'static str, message: &'static str, hint: &'static str) -> Self {
        Self {
            name,
            help: message,
            shape: Shape::Text(""),
            fate: Fate::Refused(message, hint),
            required: false,
        }
    }

    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.fate, Fate::Refused(..))
    }
}

impl Shape {
    /// Returns a value of this shape.
    pub(crate) fn example(&self) -> Value {
        match self {
            Self::Text(text) => (*text).into(),
            Self::Word(words) => words.last().copied().unwrap_or_default().into(),
            Self::Flag(flag) => (*flag).into(),
            Self::Number(_, _, number) => (*number).into(),
            Self::List(item) => vec![item.example()].into(),
            Self::Map(key, value) | Self::Loose(key, value) => {
                serde_json::Map::from_iter([((*key).to_owned(), value.example())]).into()
            }
            Self::Pairs(name, value) => {
                serde_json::Map::from_iter([((*name).to_owned(), (*value).into())]).into()
            }
            Self::Object(object) => {
                let needed = object.fields.iter().enumerate().filter(|(at, field)| match object.rule {
                    Rule::ExactlyOne => *at == 0,
                    Rule::AtLeastOne(names) => field.required || names.first() == Some(&field.name),
                    Rule::Free | Rule::NotBoth(..) => field.required,
                });
                let fields = needed.map(|(_, field)| (field.name.to_owned(), field.shape.example()));
                fields.collect::<serde_json::Map<_, _>>().into()
            }
            Self::Either(shapes) => shapes.first().map(Self::example).unwrap_or_default(),
            Self::Anything(example) => serde_json::from_str(example).unwrap_or_default(),
        }
    }

    fn facts(&self, path: &str, above: Option<Fate>, facts: &mut Vec<FieldFact>) {
        match self {
            Self::Object(object) => object.facts(path, above, facts),
            Self::List(item) => item.facts(&format!("{path}[]"), above, facts),
            Self::Map(_, value) | Self::Loose(_, value) => value.facts(&format!("{path}.*"), above, facts),
            Self::Either(shapes) => {
                for shape in *shapes {
                    shape.facts(path, above, facts);
                }
            }
            Self::Text(_)
            | Self::Word(_)
            | Self::Flag(_)
            | Self::Number(..)
            | Self::Pairs(..)
            | Self::Anything(_) => {}
        }
    }
}
