//! What the rules say about the entries of one folder.

use crate::index::{Index, Name, State};
use crate::pattern::lower;
use crate::rules::{is_internal, is_temporary};
use crate::{Decision, Rules};

/// A folder, and what is known about the paths in it.
///
/// ```
/// # use towline_ignore::Rules;
/// let rules = Rules::from_lines(&["/apps/*/dist".to_owned(), "*.log".to_owned()])?;
/// let shop = rules.folder("apps").enter("shop");
/// assert!(shop.decide("dist").skip_dir && shop.decide("today.log").ignored);
/// assert!(!shop.decide("src").ignored);
/// # Ok::<(), towline_ignore::LoadError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Folder<'a> {
    rules: &'a Rules,
    path: String,
    exact: State,
    /// The path without upper case, where rules are that do not tell it apart.
    folded: Option<(String, State)>,
    internal: bool,
}

impl<'a> Folder<'a> {
    pub(crate) fn new(rules: &'a Rules, path: &str) -> Self {
        let path = if path == "." { "" } else { path };
        let (exact, folded) = rules.indexes();
        let root = path.is_empty();
        let folded = (!folded.is_empty()).then(|| {
            let path = lower(path);
            let state = if root { folded.root() } else { folded.state(&path) };
            (path, state)
        });
        Self {
            rules,
            path: path.to_owned(),
            exact: if root { exact.root() } else { exact.state(path) },
            folded,
            internal: path.split('/').next().is_some_and(is_internal),
        }
    }

    /// Goes to the folder `name` in this one. It may be ignored.
    #[must_use]
    pub fn enter(&self, name: &str) -> Self {
        let (exact, folded) = self.rules.indexes();
        let mut next = Self { path: joined(&self.path, name), ..self.clone() };
        exact.enter(&mut next.exact, above(&self.path), Name::first_of(name));
        if let Some((path, state)) = &mut next.folded {
            let name = lower(name);
            folded.enter(state, above(path), Name::first_of(&name));
            *path = joined(path, &name);
        }
        next.internal |= self.path.is_empty() && is_internal(name);
        next
    }

    /// Decides about the entry `name`, which is one component, as [`Rules::decide`] does about its path.
    pub fn decide(&self, name: &str) -> Decision<'a> {
        if self.internal || is_temporary(name) || self.path.is_empty() && is_internal(name) {
            return Decision::ALWAYS;
        }
        let (exact, folded) = self.rules.indexes();
        let first = |index: &Index, mut state: State, folder: &str, name: &str| {
            index.enter(&mut state, above(folder), Name::first_of(name));
            if index.needs_path(&state) {
                index.first(&state, &joined(folder, name))
            } else {
                index.first(&state, "")
            }
        };
        let mut position = first(exact, self.exact, &self.path, name);
        if let Some((path, state)) = &self.folded {
            position = position.min(first(folded, *state, path, &lower(name)));
        }
        self.rules.decision(position)
    }
}

fn above(folder: &str) -> Option<&str> {
    (!folder.is_empty()).then_some(folder)
}

fn joined(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { [folder, "/", name].concat() }
}
