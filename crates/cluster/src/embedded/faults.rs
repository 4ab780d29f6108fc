//! Makes the embedded cluster fail on purpose, for tests of everything that talks to a cluster.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::ClusterError;
use crate::port::Right;

/// Failures that were asked for, and rights that are denied. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

/// When a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before it took place: nothing happened.
    Before,
    /// After it took place: only the answer is lost.
    After,
}

#[derive(Debug, Default)]
struct State {
    planned: Vec<Planned>,
    denied: Vec<Right>,
    calls: Vec<(&'static str, &'static str)>,
    /// Writes that are left until the caller dies, and when in the last of them.
    death: Option<(usize, Moment)>,
    dead: bool,
    /// The changes after which a watch is dropped, and how many were told since the last drop.
    drops: Option<(usize, usize)>,
}

#[derive(Debug)]
struct Planned {
    verb: &'static str,
    plural: &'static str,
    left: usize,
    moment: Moment,
    error: ClusterError,
}

impl Faults {
    /// Makes the `nth` call from now on (1 is the next) of a verb on a kind fail once; `*` stands for any.
    ///
    /// Verbs are those of Roles: get, list, watch, create, update, patch, delete; exec is `create` on `pods/exec`,
    /// logs are `get` on `pods/log`.
    pub fn fail(
        &self,
        verb: &'static str,
        plural: &'static str,
        nth: usize,
        moment: Moment,
        error: ClusterError,
    ) {
        self.with(|state| state.planned.push(Planned { verb, plural, left: nth, moment, error }));
    }

    /// Kills whoever calls, at the `nth` write from now on (1 is the next): that call and all after it never return.
    ///
    /// A write is a create, an update, a patch or a delete; one for a dry run counts as well.
    pub fn kill(&self, nth: usize, moment: Moment) {
        self.with(|state| state.death = Some((nth, moment)));
    }

    /// Drops a watch at every `nth` change that it would tell (1 is each): the change is not told, the watch is
    /// interrupted as by a 410, and begins again with what is there by then.
    pub fn drop_watches(&self, nth: usize) {
        self.with(|state| state.drops = Some((nth, 0)));
    }

    /// Counts a change that a watch is about to tell; tells whether the watch is dropped at it.
    pub(super) fn drops_watch(&self) -> bool {
        self.with(|state| {
            let Some((nth, told)) = state.drops.as_mut() else { return false };
            *told += 1;
            let drops = *told >= *nth;
            if drops {
                *told = 0;
            }
            drops
        })
    }

    /// Tells whether the death that was asked for has come.
    pub fn is_dead(&self) -> bool {
        self.with(|state| state.dead)
    }

    /// Denies a right: [`crate::Cluster::can`] says no and the calls that need it are forbidden.
    pub fn deny(&self, right: Right) {
        self.with(|state| state.denied.push(right));
    }

    /// Takes back all that was asked for.
    pub fn clear(&self) {
        self.with(|state| *state = State::default());
    }

    /// Returns verb and kind of all calls since the last [`Self::clear`], in order: the points at which to fail.
    pub fn calls(&self) -> Vec<(&'static str, &'static str)> {
        self.with(|state| state.calls.clone())
    }

    pub(super) fn is_denied(&self, right: &Right) -> bool {
        self.with(|state| state.denied.contains(right))
    }

    /// Counts a call, and returns the failure that is due.
    pub(super) fn next(&self, verb: &'static str, plural: &'static str) -> Option<(Moment, ClusterError)> {
        self.with(|state| {
            state.calls.push((verb, plural));
            let mut due = None;
            for (index, planned) in state.planned.iter_mut().enumerate() {
                if (planned.verb == "*" || planned.verb == verb)
                    && (planned.plural == "*" || planned.plural == plural)
                {
                    planned.left = planned.left.saturating_sub(1);
                    if planned.left == 0 && due.is_none() {
                        due = Some(index);
                    }
                }
            }
            due.map(|index| state.planned.remove(index)).map(|planned| (planned.moment, planned.error))
        })
    }

    /// Counts a call for the death that was asked for; tells when in this call it comes, if it does.
    pub(super) fn dies(&self, verb: &'static str) -> Option<Moment> {
        self.with(|state| {
            if state.dead {
                return Some(Moment::Before);
            }
            let (left, moment) = state.death.as_mut()?;
            if matches!(verb, "create" | "update" | "patch" | "delete") {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    state.dead = true;
                    return Some(*moment);
                }
            }
            None
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        // A panic elsewhere leaves lists that are still whole.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
