//! Walks, watches, stages and atomically applies on a real disk.
//!
//! A *replica* is one folder, here or in a pod. It is spawned with [`spawn`], told what to do with
//! [`Replica::request`] and answers through a callback; it decides nothing by itself. A worker thread handles
//! requests in order, a watcher thread collects what the kernel says has changed.
//!
//! **Architecture Invariant:** below a root, nothing is reached by a path string: a parent folder is resolved
//! once by `disk` (never through a symbolic link, never across a mount) and everything else is one name in a held
//! descriptor. The folder is not ours: bytes that somebody wrote are moved aside before they are judged, never
//! overwritten or unlinked unseen.
//!
//! # The trash
//! What an apply displaces goes to a `trash` folder: `<keep>/trash` on a laptop, `<root>/.towline-stage/trash` in a
//! pod. A file's content lies there under the 64 hexadecimal digits of its BLAKE3. The file `index` beside them has
//! one JSON object per line, oldest first:
//!
//! ```json
//! {"at":1763719200,"why":"replaced","path":"src/main.rs","hash":"af13…","size":120,"executable":false}
//! {"at":1763719201,"why":"deleted","path":"bin/tool","link":"../lib/tool"}
//! ```
//!
//! `at` is in seconds since 1970; `why` is `replaced`, `deleted` or `recovered` (a version that nobody expected:
//! found by a crash's survivor, with an empty `path`, or saved in the moment of a replacement). The oldest go first when the folder outgrows its limit. Whoever restores a file
//! checks its hash first.

#![forbid(unsafe_code)]

mod apply;
mod cache;
mod commit;
mod disk;
mod fetch;
mod guard;
mod hook;
mod inbox;
mod incoming;
mod index;
mod install;
mod known;
mod make;
mod memory;
mod mounts;
mod moves;
mod options;
mod read;
mod reading;
mod replica;
mod report;
mod rules;
mod scan;
mod settle;
mod stage;
mod symlink;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests use the disk as users do: by paths")]
mod tests;
mod thread;
mod trash;
mod tree;
mod usage;
mod walk;
mod watch;
mod watch_table;
mod workspace;

pub use options::{Limits, ReplicaOptions};
pub use replica::{Replica, spawn};
pub use usage::{Usage, usage};
