//! An engine between a local side that keeps to the rules and a remote side that says anything.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use towline_sync_core::base::Base;
use towline_sync_core::codec::Decoder;
use towline_sync_core::engine::{Engine, EngineConfig, Side};
use towline_sync_core::message::{Body, Content, Found, Open, Outcome, Reply, Request, RootInfo, WatchMode};
use towline_sync_core::path::RelPath;
use towline_sync_core::protect::protected;
use towline_sync_core::snapshot::{Entry, File, Hash, Transition};

const CONTENT: &[u8] = b"local";

/// A local side that has what it is told to make, and looks at nothing.
struct Local {
    entries: BTreeMap<RelPath, Entry>,
    /// Steps whose content is coming; `None` for bytes to be kept.
    incoming: BTreeMap<u64, Option<Transition>>,
}

impl Local {
    fn answer(&mut self, request: Request) -> Option<Reply> {
        match request {
            Request::Open(_) | Request::Look(_) => Some(Reply::Opened(info())),
            Request::Scan { .. } | Request::Compare(_) => {
                Some(Reply::Entries { entries: self.entries.clone().into_iter().collect(), last: true })
            }
            Request::Apply { id, transition, content: Content::Incoming } => {
                self.incoming.insert(id, Some(transition));
                None
            }
            Request::Apply { id, transition, .. } => {
                self.make(transition);
                Some(Reply::Applied { id, outcome: Outcome::Done })
            }
            Request::Keep { id, .. } => {
                self.incoming.insert(id, None);
                None
            }
            Request::Cancel { id } => {
                self.incoming.remove(&id);
                None
            }
            Request::Data { id, block } if block.last => {
                if let Some(step) = self.incoming.remove(&id)? {
                    self.make(step);
                }
                Some(Reply::Applied { id, outcome: Outcome::Done })
            }
            Request::Data { .. } => None,
            Request::Read { id, .. } | Request::Sign { id, .. } => {
                Some(Reply::ReadFailed { id, actual: None, failure: None })
            }
            Request::Fetch { id, files } => {
                let found = Found { body: Body::Whole(CONTENT.to_vec()), modified: None };
                let has = |path, file| self.entries.get(path) == Some(&Entry::File(file));
                let files = files.iter().map(|wanted| has(&wanted.path, wanted.file).then(|| found.clone()));
                Some(Reply::Fetched { id, files: files.collect() })
            }
            Request::Install { id, entries } => {
                for new in entries {
                    let from = new.from.map(Entry::File);
                    self.make(Transition { path: new.path, from, to: Some(new.entry) });
                }
                Some(Reply::Installed { id, failed: vec![] })
            }
        }
    }

    fn make(&mut self, step: Transition) {
        // Nothing that runs code is ever to be written here, and nothing that was not said to be there is replaced.
        assert_eq!(protected(&step.path), None, "{step:?}");
        assert_eq!(self.entries.get(&step.path), step.from.as_ref(), "{step:?}");
        match step.to {
            Some(Entry::Opaque(_)) => panic!("{} can't be made", step.path),
            Some(entry) => self.entries.insert(step.path, entry),
            None => self.entries.remove(&step.path),
        };
    }
}

fn info() -> RootInfo {
    RootInfo { epoch: [1; 16], writable: true, case_sensitive: true, mounts: vec![] }
}

fuzz_target!(|data: &[u8]| {
    let path = |text: &str| RelPath::new(text).expect("a sound path");
    let file = Entry::File(File { hash: Hash::of(CONTENT), size: CONTENT.len() as u64, executable: false });
    let entries = [("a", file.clone()), ("d", Entry::Directory), ("d/x", file)];
    let entries = entries.into_iter().map(|(at, entry)| (path(at), entry)).collect();
    let mut local = Local { entries, incoming: BTreeMap::new() };
    let config = EngineConfig { max_entries: 100, delta_size: 2, ..EngineConfig::default() };
    let mut engine = Engine::new(config, Base::default());
    for side in Side::BOTH {
        engine.connect(side, Open { root: "/".to_owned(), ignore: vec![], excluded: vec![], create: false, watch: true });
    }
    let sound = [Reply::Opened(info()), Reply::Watching(WatchMode::Events)];
    let mut decoder = Decoder::new();
    let how = data.first().copied().unwrap_or_default();
    decoder.push(data.get(1..).unwrap_or_default());
    let hostile = std::iter::from_fn(|| decoder.next::<Reply>().ok().flatten());
    for reply in sound.into_iter().filter(|_| how & 1 == 0).chain(hostile) {
        // Answers of the local side come at once, or when the remote side has said all.
        for _ in 0..1000 {
            let Some((side, request)) = engine.poll_request() else { break };
            if let (Side::Local, Some(answer)) =
                (side, (side == Side::Local).then(|| local.answer(request)).flatten())
            {
                engine.handle_reply(Side::Local, answer).expect("the local side keeps to the rules");
            }
        }
        if engine.handle_reply(Side::Remote, reply).is_err() {
            engine.handle_disconnected(Side::Remote);
            break;
        }
        while engine.poll_event().is_some() || engine.poll_record().is_some() {}
        let _ = engine.status();
    }
});
