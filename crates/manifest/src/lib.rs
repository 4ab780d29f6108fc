//! Text of okteto.yml to a typed manifest and all its problems, each with a span.
//!
//! Pure: what depends on the user's environment or disk is asked through [`Context`], so that
//! `validate` and `up` can't disagree and every rule is tested without either.
//!
//! ```
//! use std::{io, path::{Path, PathBuf}};
//! use towline_manifest::{Context, Disk, Kind, Source, parse};
//!
//! struct EmptyFolders;
//! impl Disk for EmptyFolders {
//!     fn kind(&self, _: &Path) -> Kind {
//!         Kind::Folder
//!     }
//!     fn read(&self, _: &Path, _: usize) -> io::Result<String> {
//!         Err(io::ErrorKind::NotFound.into())
//!     }
//!     fn canonical(&self, path: &Path) -> Option<PathBuf> {
//!         Some(path.to_owned())
//!     }
//! }
//!
//! let text = "dev:\n  api:\n    sync: ['${SRC:-src}:/app']\n    command: npm start\n";
//! let source = Source { name: "okteto.yml", text, path: Path::new("/repo/okteto.yml") };
//! let parsed = parse(source, &Context { variables: &|_| None, disk: &EmptyFolders, repository: None });
//!
//! assert!(parsed.problems.is_empty());
//! let manifest = parsed.manifest.unwrap();
//! let api = manifest.dev("api").unwrap();
//! assert_eq!(api.sync.folders[0].local, Path::new("/repo/src"));
//! assert_eq!(api.command_line(), ["sh", "-c", "npm start"]);
//! assert_eq!(manifest.dev("apo").unwrap_err().nearest.as_deref(), Some("api"));
//! ```

#![forbid(unsafe_code)]

mod dev;
mod disk;
pub mod dotenv;
mod expand;
mod json_schema;
mod language;
mod manifest;
mod node;
mod objects;
mod origin;
mod paths;
mod print;
mod problem;
mod quantity;
mod read;
mod sections;
mod suggest;
mod trust;
mod write;
mod yaml;

pub use self::{
    dev::{
        Capabilities, Dev, EnvironmentVariable, ExternalVolume, Forward, ForwardTarget, Hook, InitContainer,
        Lifecycle, Metadata, Mode, PersistentVolume, Probes, PullPolicy, Resources, Reverse, SecretFile,
        SecurityContext, Sync, SyncFolder, Timeout, Toleration, unsupported,
    },
    disk::{Disk, Kind},
    expand::{ExpandError, Expanded, Lookup, Outcome, Reference, expand},
    json_schema::json_schema,
    language::{Fate, FieldFact, fields},
    manifest::{Context, Manifest, Parsed, Source, UnknownDev, parse},
    node::{Entry, Node, Scalar, Value},
    objects::objects,
    origin::{FilePlace, Origin, UsedVariable, VariableSource},
    paths::{candidates, compose_candidates, project_root, resolve_local, stignore_places},
    problem::{Place, Problem, Problems, Severity, SourceText, Span},
    sections::{
        Artifact, Build, BuildSecret, Command, Compose, ComposeFile, Dependency, Deploy, Destroy, Divert,
        DivertHost, Endpoint, EndpointRule, External, ExternalEndpoint, Host, Test, VirtualService,
    },
    suggest::nearest,
    trust::{Outside, Sensitive, is_sensitive, privileges},
    write::yaml,
    yaml::field_path,
};
