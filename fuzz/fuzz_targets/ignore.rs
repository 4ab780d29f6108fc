//! An ignore file, a file that it may include, and a path, apart from each other by U+0001.
#![no_main]

use std::io;

use libfuzzer_sys::fuzz_target;
use towline_ignore::{LoadOptions, Platform, Rules, load};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let mut pieces = text.splitn(3, '\u{1}');
    let mut piece = || pieces.next().unwrap_or_default();
    let (root, included, path) = (piece(), piece(), piece());
    let platform = match data.len() % 3 {
        0 => Platform::Unix,
        1 => Platform::MacOs,
        _ => Platform::Windows,
    };
    let mut read = |file: &str| match file {
        ".stignore" => Ok(root.to_owned()),
        "a" => Ok(included.to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    let Ok(rules) = load(".stignore", &mut read, LoadOptions { platform, includes_outside: false }) else {
        return;
    };
    let again = Rules::from_lines(&rules.lines()).expect("flattened lines compile");
    assert_eq!(rules.patterns(), again.patterns());
    let (one, other) = (rules.decide(path), again.decide(path));
    assert_eq!(
        (one.ignored, one.deletable, one.case_folded, one.skip_dir),
        (other.ignored, other.deletable, other.case_folded, other.skip_dir)
    );
});
