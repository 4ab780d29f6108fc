//! What changed between two looks at one tree.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::path::RelPath;
use crate::snapshot::{Change, Entry};

/// Returns the changes that turn `old` into `new`, by path.
pub fn diff(old: &BTreeMap<RelPath, Entry>, new: &BTreeMap<RelPath, Entry>) -> Vec<Change> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let mut changes = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
        };
        let before = if order == Ordering::Greater { None } else { old.next() };
        let after = if order == Ordering::Less { None } else { new.next() };
        if before.map(|(_, entry)| entry) != after.map(|(_, entry)| entry)
            && let Some((path, _)) = before.or(after)
        {
            changes.push(Change { path: path.clone(), entry: after.map(|(_, entry)| entry.clone()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tree() -> impl Strategy<Value = BTreeMap<RelPath, Entry>> {
        let entry = prop_oneof![Just(Entry::Directory), "[xy]".prop_map(|target| Entry::Symlink { target })];
        prop::collection::btree_map("[a-e]".prop_map(|path| RelPath::new(path).unwrap()), entry, 0..5)
    }

    proptest! {
        #[test]
        fn applying_the_changes_gives_the_new_tree(old in tree(), new in tree()) {
            let mut tree = old.clone();
            for Change { path, entry } in diff(&old, &new) {
                prop_assert_ne!(tree.get(&path), entry.as_ref());
                match entry {
                    Some(entry) => tree.insert(path, entry),
                    None => tree.remove(&path),
                };
            }
            prop_assert_eq!(tree, new);
        }
    }
}
