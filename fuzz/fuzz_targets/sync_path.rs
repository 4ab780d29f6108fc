//! A text as a path below a root: what is taken for one stays below it, on its way through every format too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use towline_sync_core::path::{MAX_DEPTH, MAX_NAME_BYTES, MAX_PATH_BYTES, RelPath};
use towline_sync_core::protect::{protected, protected_root};

fuzz_target!(|text: &str| {
    let Ok(path) = RelPath::new(text) else {
        let is_sound = |name: &str| !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME_BYTES;
        let sound = text.split('/').all(is_sound) && text.split('/').count() <= MAX_DEPTH;
        assert!(!sound || text.len() > MAX_PATH_BYTES || text.contains('\0'), "refused without a reason");
        return;
    };
    assert_eq!(path.as_str(), text);
    assert!(!text.starts_with('/') && !text.contains('\0') && text.len() <= MAX_PATH_BYTES);
    // Walked name by name, it never leaves the root.
    assert!(
        path.components().all(|name| !name.is_empty() && name != "." && name != ".." && !name.contains('/'))
    );
    assert_eq!(path.components().collect::<Vec<_>>().join("/"), text);
    assert_eq!(path.ancestors().count() + 1, path.components().count());
    assert!(path.ancestors().all(|above| path.is_below(&above) && !above.is_below(&path)));
    match path.parent() {
        Some(parent) => assert_eq!(parent.join(path.name()).as_ref(), Ok(&path)),
        None => assert_eq!(path.name(), text),
    }
    // What is protected is so with all that is below it, but for names that are only so inside a folder.
    if let Some(root) = protected_root(&path) {
        assert!(protected(&root).is_some() && (root == path || path.is_below(&root)));
    } else {
        assert_eq!(protected(&path), None);
    }
    if protected(&path).is_some()
        && let Ok(below) = path.join("x")
    {
        assert!(protected(&below).is_some());
    }
});
