//! How many instructions a replica takes on a real disk. Its threads work for whoever asks, so the whole process is
//! counted: the folder that is made for it too.
#![expect(missing_docs, clippy::exit, reason = "the macros of the harness expand to it")]

use std::fs;
use std::sync::mpsc::{Receiver, channel};

use benches::monorepo;
use gungraun::{
    Callgrind, EntryPoint, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use tempfile::TempDir;
use towline_sync_core::message::{Body, New, Open, Reply, Request};
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::{Entry, File, Hash};
use towline_sync_fs::{Replica, ReplicaOptions, spawn};

const FILES: usize = 1_000;
/// Files that are installed together.
const BATCH: usize = 100;

/// A replica of a folder of its own.
struct Desk {
    replica: Replica,
    replies: Receiver<Reply>,
    _folder: TempDir,
}

impl Desk {
    fn new(files: &[New]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for new in files {
            let path = folder.path().join(new.path.as_str());
            match &new.body {
                Body::Whole(content) if new.entry != Entry::Directory => fs::write(path, content).unwrap(),
                _ => fs::create_dir(path).unwrap(),
            }
        }
        let (reply_tx, replies) = channel();
        let replica = spawn(ReplicaOptions::default(), move |reply| reply_tx.send(reply).is_ok()).unwrap();
        let root = folder.path().to_str().unwrap().to_owned();
        replica.request(Request::Open(Open {
            root,
            ignore: Vec::new(),
            excluded: Vec::new(),
            create: false,
            watch: true,
        }));
        Self { replica, replies, _folder: folder }
    }

    fn until(&self, is_last: impl Fn(&Reply) -> bool) -> usize {
        1 + self.replies.iter().take_while(|reply| !is_last(reply)).count()
    }

    fn scan(&self) -> usize {
        self.replica.request(Request::Scan { eager: false });
        self.until(|reply| matches!(reply, Reply::Entries { last: true, .. }))
    }
}

/// Returns a monorepo's files, folders before what is in them.
fn files() -> Vec<New> {
    let [tree, ..] = monorepo::trees(FILES);
    let content = |path: &RelPath| path.as_str().bytes().cycle().take(1000).collect::<Vec<u8>>();
    tree.into_iter()
        .map(|(path, entry)| {
            let content = if entry == Entry::Directory { Vec::new() } else { content(&path) };
            let file = File { hash: Hash::of(&content), size: content.len() as u64, executable: false };
            let entry = if entry == Entry::Directory { entry } else { Entry::File(file) };
            New { path, from: None, entry, body: Body::Whole(content), modified: None }
        })
        .collect()
}

fn full() -> Desk {
    Desk::new(&files())
}

#[library_benchmark]
#[bench::first(setup = full)]
fn scan(desk: Desk) -> usize {
    desk.scan()
}

fn empty() -> (Desk, Vec<New>) {
    (Desk::new(&[]), files())
}

#[library_benchmark]
#[bench::new_files(setup = empty)]
fn apply((desk, files): (Desk, Vec<New>)) -> usize {
    let replies = desk.scan();
    let last = (files.len() / BATCH) as u64;
    for (id, entries) in (0..).zip(files.chunks(BATCH)) {
        desk.replica.request(Request::Install { id, entries: entries.to_vec() });
    }
    replies
        + desk.until(
            |reply| matches!(reply, Reply::Installed { id, failed } if failed.is_empty() && *id == last),
        )
}

library_benchmark_group!(name = disk, benchmarks = [scan, apply]);

main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::default().entry_point(EntryPoint::None)),
    library_benchmark_groups = disk
);
