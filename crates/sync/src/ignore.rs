//! Reading ignore files.

use std::fs;
use std::io;
use std::path::Path;

use towline_ignore::{LoadError, LoadOptions, Rules};

/// Returns the rules of an ignore file in the language of `.stignore`, what it includes flattened in.
///
/// # Errors
///
/// A file that can't be read or understood is an error: without its rules, what it protects would be synced.
pub fn ignore_lines(file: &Path) -> Result<Vec<String>, LoadError> {
    ignore_rules(file).map(|rules| rules.lines())
}

/// Returns the same rules, each with the place that it comes from.
pub(crate) fn ignore_rules(file: &Path) -> Result<Rules, LoadError> {
    let base = file.parent().unwrap_or(Path::new("")).to_owned();
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut read = |name: &str| -> io::Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(base.join(name))?).into_owned())
    };
    towline_ignore::load(&name, &mut read, LoadOptions::default())
}
