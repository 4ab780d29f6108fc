//! Paths that are not synced, by who says so.

use std::collections::{BTreeMap, VecDeque};

use crate::engine::{Side, SyncEvent};
use crate::message::Problem;

/// The most problems of one replica that are remembered.
const MAX_PROBLEMS: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct Problems {
    /// What the engine found at paths.
    own: BTreeMap<String, String>,
    /// What it found about the folders as a whole.
    roots: [Option<String>; 2],
    /// What each replica said.
    said: [BTreeMap<String, String>; 2],
}

impl Problems {
    pub(super) fn add(&mut self, path: &str, message: &str, events: &mut VecDeque<SyncEvent>) {
        if self.own.get(path).is_some_and(|known| known == message) {
            return;
        }
        self.own.insert(path.to_owned(), message.to_owned());
        events.push_back(SyncEvent::Problem { path: path.to_owned(), message: message.to_owned() });
    }

    pub(super) fn solve(&mut self, path: &str, events: &mut VecDeque<SyncEvent>) {
        if self.own.remove(path).is_some() && !self.is_said(path) {
            events.push_back(SyncEvent::Solved { path: path.to_owned() });
        }
    }

    /// Forgets what was found at paths: everything is looked at anew.
    pub(super) fn begin_anew(&mut self, events: &mut VecDeque<SyncEvent>) {
        let paths: Vec<_> = self.own.keys().cloned().collect();
        for path in paths {
            self.solve(&path, events);
        }
    }

    /// Sets what is wrong with a side's folder as a whole.
    pub(super) fn root(&mut self, side: Side, message: Option<String>, events: &mut VecDeque<SyncEvent>) {
        let known = &mut self.roots[side as usize];
        if *known == message {
            return;
        }
        *known = message;
        let path = root_name(side);
        events.push_back(match known {
            Some(message) => SyncEvent::Problem { path, message: message.clone() },
            None => SyncEvent::Solved { path },
        });
    }

    /// Takes a replica's whole list in place of its last.
    pub(super) fn said(&mut self, side: Side, problems: Vec<Problem>, events: &mut VecDeque<SyncEvent>) {
        let new: BTreeMap<_, _> =
            problems.into_iter().take(MAX_PROBLEMS).map(|problem| (problem.path, problem.message)).collect();
        let old = std::mem::take(&mut self.said[side as usize]);
        for (path, message) in &new {
            if old.get(path) != Some(message) {
                events.push_back(SyncEvent::Problem { path: path.clone(), message: message.clone() });
            }
        }
        self.said[side as usize] = new;
        for path in old.into_keys() {
            if !self.is_said(&path) && !self.own.contains_key(&path) {
                events.push_back(SyncEvent::Solved { path });
            }
        }
    }

    pub(super) fn all(&self) -> Vec<Problem> {
        let roots = Side::BOTH.into_iter().filter_map(|side| {
            let message = self.roots[side as usize].clone()?;
            Some(Problem { path: root_name(side), message })
        });
        let paths = self.own.iter().chain(&self.said[0]).chain(&self.said[1]);
        let paths = paths.map(|(path, message)| Problem { path: path.clone(), message: message.clone() });
        roots.chain(paths).collect()
    }

    fn is_said(&self, path: &str) -> bool {
        self.said.iter().any(|said| said.contains_key(path))
    }
}

/// Returns what stands for a folder as a whole in the place of a path.
fn root_name(side: Side) -> String {
    format!("{} folder", side.name())
}
