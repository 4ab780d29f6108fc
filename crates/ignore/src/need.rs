//! What the name of a component must hold so that a line can match: the key to find the line by.

use crate::glob::Part;
use crate::plain::Component;

/// What some component of every matching path has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Need {
    /// It is this.
    Name(Box<str>),
    /// It ends with this, which begins with its last dot.
    Extension(Box<str>),
    /// It holds this, which begins with a dot and has no other, and then another dot.
    Inner(Box<str>),
    /// It begins with this.
    Start(Box<str>),
    /// It ends with this.
    End(Box<str>),
    /// Nothing in particular.
    Nothing,
}

impl Need {
    /// Returns the key of a component.
    pub(crate) fn of_component(component: &Component) -> Self {
        if let Some(text) = component.literal() {
            return Self::Name(text.into());
        }
        let (start, end) = (component.start(), component.end());
        let start = (!start.is_empty()).then(|| Self::Start(start.into()));
        let inner = component.pieces().iter().rev().skip(1).find_map(|text| between_dots(text));
        let needs = [start, ending(end), inner.map(|text| Self::Inner(text.into()))];
        needs.into_iter().flatten().max_by_key(Self::weight).unwrap_or(Self::Nothing)
    }

    /// Returns the key of a glob, given the parts that it names something by. The text in them, braces
    /// apart, is in every path that matches; what stands at either end reaches to the end of a component.
    pub(crate) fn of_parts(parts: &[Part]) -> Self {
        let mut best = Self::Nothing;
        for (at, part) in parts.iter().enumerate() {
            let Part::Text(text) = part else { continue };
            let from_start = at == 0 || text.starts_with('/');
            let to_end = at + 1 == parts.len() || text.ends_with('/');
            let names: Vec<&str> = text.trim_matches('/').split('/').collect();
            for (number, &name) in names.iter().enumerate() {
                let need = match (from_start || number > 0, to_end || number + 1 < names.len()) {
                    _ if name.is_empty() => continue,
                    (true, true) => Self::Name(name.into()),
                    (true, false) => Self::Start(name.into()),
                    (false, true) => ending(name).unwrap_or(Self::Nothing),
                    (false, false) => {
                        between_dots(name).map_or(Self::Nothing, |text| Self::Inner(text.into()))
                    }
                };
                if need.weight() > best.weight() {
                    best = need;
                }
            }
        }
        best
    }

    /// How few names have it, by guess.
    fn weight(&self) -> usize {
        match self {
            Self::Name(text) => 3 * text.len() + 100,
            Self::Start(text) => 3 * text.len(),
            Self::Extension(text) | Self::Inner(text) => 3 * text.len() + 1,
            Self::End(text) => 2 * text.len(),
            Self::Nothing => 0,
        }
    }
}

/// Returns the key of an ending.
fn ending(text: &str) -> Option<Need> {
    match text.rfind('.') {
        Some(dot) => Some(Need::Extension(text[dot..].into())),
        None if text.is_empty() => None,
        None => Some(Need::End(text.into())),
    }
}

/// Returns what stands between two dots, with the first.
fn between_dots(text: &str) -> Option<&str> {
    let (first, _) = text.match_indices('.').next()?;
    let length = text[first + 1..].find('.')?;
    Some(&text[first..=first + length])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::glob::parse;

    #[track_caller]
    fn check(pattern: &str, expected: &Need) {
        assert_eq!(&Need::of_parts(&parse(pattern).unwrap()), expected, "{pattern}");
    }

    #[test]
    fn keys_of_globs() {
        check("dist/**/*.map", &Need::Name("dist".into()));
        check("a/**/fixtures?", &Need::Name("a".into()));
        check("?fixtures", &Need::End("fixtures".into()));
        check("fixtures?", &Need::Start("fixtures".into()));
        check("?.tar.gz", &Need::Extension(".gz".into()));
        check("?.tar.?", &Need::Inner(".tar".into()));
        check("?tar?", &Need::Nothing);
        check("{a,b}?", &Need::Nothing);
        check("?/", &Need::Nothing);
    }
}
