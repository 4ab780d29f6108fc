//! A folder's replica behind a channel.

use std::fs;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use towline_link::{Channel, ChannelReader, ChannelWriter};
use towline_protocol::ChannelRequest;
use towline_sync_core::codec::{Decoder, Encoder};
use towline_sync_core::message::{Block, Content, DeltaOp, Open, Outcome, Reply, Request};
use towline_sync_core::path::RelPath;
use towline_sync_core::snapshot::{Entry, File, Hash, Transition};

use crate::stand::{Agent, in_time, until};

struct Remote {
    reader: ChannelReader,
    writer: ChannelWriter,
    decoder: Decoder,
}

impl Remote {
    fn new(channel: Channel) -> Self {
        let (reader, writer) = channel.split();
        Self { reader, writer, decoder: Decoder::new() }
    }

    async fn send(&mut self, requests: &[Request]) {
        self.writer.write_all(Encoder::new().encode(requests)).await.unwrap();
    }

    /// Returns the first reply that is wanted.
    async fn until<T>(&mut self, want: impl Fn(Reply) -> Option<T>) -> T {
        let mut buffer = vec![0; 4096];
        loop {
            while let Some(reply) = self.decoder.next().unwrap() {
                if let Some(found) = want(reply) {
                    return found;
                }
            }
            let count = self.reader.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0, "the end");
            self.decoder.push(&buffer[..count]);
        }
    }

    async fn open(&mut self, root: &str) {
        let open = Open {
            root: root.to_owned(),
            ignore: vec!["*.log".to_owned()],
            excluded: vec![],
            create: false,
            watch: true,
        };
        self.send(&[Request::Open(open), Request::Scan { eager: false }]).await;
    }

    /// The paths of a whole scan.
    async fn paths(&mut self) -> Vec<String> {
        let mut paths = Vec::new();
        loop {
            let (entries, last) = self
                .until(|reply| match reply {
                    Reply::Entries { entries, last } => Some((entries, last)),
                    Reply::OpenFailed(failure) | Reply::ScanFailed(failure) => panic!("{failure:?}"),
                    _ => None,
                })
                .await;
            paths.extend(entries.into_iter().map(|(path, _)| path.as_str().to_owned()));
            if last {
                return paths;
            }
        }
    }
}

#[tokio::test]
async fn a_folder_is_scanned_and_written() {
    in_time(async {
        let temp = tempfile::tempdir().unwrap();
        let (root, run_dir) = (temp.path().join("root"), temp.path().join("run"));
        fs::create_dir_all(root.join("app/src")).unwrap();
        fs::create_dir(&run_dir).unwrap();
        fs::write(root.join("app/src/main"), "text").unwrap();
        fs::write(root.join("app/noise.log"), "text").unwrap();
        let prefix = root.clone();
        let agent = Agent::start(temp, run_dir, |command| {
            command.arg("--prefix").arg(prefix);
        })
        .await;
        let client = agent.client().await;
        let mut remote = Remote::new(client.open(&ChannelRequest::Sync).await);
        remote.open("/app").await;
        assert_eq!(remote.paths().await, ["src", "src/main"]);

        let content = b"#!/bin/sh\n".repeat(1000);
        let file = File { hash: Hash::of(&content), size: content.len() as u64, executable: true };
        let path = RelPath::new("src/run").unwrap();
        let transition = Transition { path, from: None, to: Some(Entry::File(file)) };
        remote
            .send(&[
                Request::Apply { id: 1, transition, content: Content::Incoming },
                Request::Data {
                    id: 1,
                    block: Block { ops: vec![DeltaOp::Literal(content.clone())], last: true },
                },
            ])
            .await;
        let outcome = remote
            .until(|reply| match reply {
                Reply::Applied { id: 1, outcome } => Some(outcome),
                _ => None,
            })
            .await;
        assert_eq!(outcome, Outcome::Done);
        assert_eq!(fs::read(root.join("app/src/run")).unwrap(), content);

        fs::write(root.join("app/src/new"), "seen").unwrap();
        remote
            .until(|reply| match reply {
                Reply::Changed(changes) => {
                    changes.iter().any(|change| change.path.as_str() == "src/new").then_some(())
                }
                _ => None,
            })
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_replica_ends_with_its_channel() {
    in_time(async {
        let agent = Agent::new().await;
        let root = agent.temp.path().join("root");
        fs::create_dir(&root).unwrap();
        (0..500).for_each(|number| fs::write(root.join(format!("file {number}")), "x").unwrap());
        let client = agent.client().await;
        let threads = || fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap().count();
        client.status().await;
        let (before, descriptors) = (threads(), agent.descriptors());
        for _ in 0..20 {
            let mut remote = Remote::new(client.open(&ChannelRequest::Sync).await);
            remote.open(root.to_str().unwrap()).await;
            assert_eq!(remote.paths().await.len(), 500);
            // This one is left with answers that nobody takes.
            let mut deaf = Remote::new(client.open(&ChannelRequest::Sync).await);
            deaf.open(root.to_str().unwrap()).await;
            deaf.send(&[
                Request::Scan { eager: false },
                Request::Scan { eager: false },
                Request::Scan { eager: false },
            ])
            .await;
        }
        client.status().await;
        until("ended threads", || (threads() <= before).then_some(())).await;
        until("closed descriptors", || (agent.descriptors() <= descriptors).then_some(())).await;
    })
    .await;
}
