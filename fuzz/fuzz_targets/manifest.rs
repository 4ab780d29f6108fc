//! The text of a manifest: problems with places that lie in it, and the same ones every time.
#![no_main]

use std::io;
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use towline_manifest::{Context, Disk, Kind, Source, parse};

struct Folders;

impl Disk for Folders {
    fn kind(&self, _: &Path) -> Kind {
        Kind::Folder
    }

    fn read(&self, _: &Path, _: usize) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn canonical(&self, path: &Path) -> Option<PathBuf> {
        Some(path.to_owned())
    }
}

fuzz_target!(|text: &str| {
    let variables = |name: &str| (name.len() % 2 == 0).then(|| name.to_lowercase());
    let context = Context { variables: &variables, disk: &Folders, repository: None };
    let source = || Source { name: "okteto.yml", text, path: Path::new("/repository/okteto.yml") };
    let (one, other) = (parse(source(), &context), parse(source(), &context));
    assert_eq!(one.manifest, other.manifest);
    assert_eq!(one.trust_hash, other.trust_hash);
    assert!(one.manifest.is_some() || !one.problems.is_empty());
});
