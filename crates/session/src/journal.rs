//! The session's Lease as a lock and a write-ahead journal: who holds it, and what was about to be written.

use std::time::Duration;

use serde_json::Value;
use towline_cluster::ClusterError;
use towline_cluster::port::{LEASES, Object, WriteOptions};
use towline_patcher::{Held, Record};

use crate::context::Context;
use crate::error::SessionError;
use crate::original::ATTEMPTS;

/// How long a Lease is valid without being renewed, in seconds.
pub const LEASE_SECONDS: u32 = 60;
/// In the identity of a holder that ends the session.
pub(crate) const ENDING: &str = "/down/";
/// How often a live session renews it, in seconds.
pub const RENEW_SECONDS: u64 = 20;

/// A Lease that we hold, as last seen in the cluster.
#[derive(Debug, Clone)]
pub struct Journal {
    lease: Value,
    /// What it says.
    pub record: Record,
}

/// What became of a write to the Lease.
#[derive(Debug)]
pub enum Written {
    /// It is ours and says what we wrote.
    Ours,
    /// Someone else holds it, or it is gone; in words.
    Lost(String),
}

impl Journal {
    /// Takes the lock by creating the Lease.
    pub async fn create(context: &Context, record: Record) -> Result<Self, SessionError> {
        let name = towline_patcher::lease_name(&record.kind, &record.name);
        let holder = identity(context);
        let body = towline_patcher::lease(&name, &record, &holder, &now(), LEASE_SECONDS);
        let object = Object::new(LEASES, &context.namespace, &name);
        let lease =
            match context.cluster.create(LEASES, &context.namespace, &body, &WriteOptions::default()).await {
                Ok(lease) => lease,
                Err(ClusterError::AlreadyExists { .. } | ClusterError::Ambiguous { .. }) => {
                    let lease = context.cluster.get(&object).await?;
                    let held = read(&lease)?;
                    if held.record.session != record.session {
                        return Err(held_error(&held));
                    }
                    lease
                }
                Err(error) => return Err(error.into()),
            };
        Ok(Self { lease, record })
    }

    /// Takes over a Lease that was read as `lease`, from whoever held it then. What a live holder writes meanwhile does
    /// not keep it from being taken; that somebody else takes it does, or that one who was silent comes back.
    pub async fn take_over(context: &Context, lease: &Value) -> Result<Self, SessionError> {
        let mut lease = lease.clone();
        let mut held = read(&lease)?;
        let holder = identity(context);
        let was_silent = !is_alive(&held);
        for _ in 0..ATTEMPTS {
            let body = towline_patcher::take_over(&lease, &holder, &now(), LEASE_SECONDS);
            let object = Object::new(LEASES, &context.namespace, &held.name);
            match context.cluster.replace(&object, &body, &WriteOptions::default()).await {
                Ok(lease) => return Ok(Self { lease, record: held.record }),
                Err(ClusterError::Conflict { .. } | ClusterError::Ambiguous { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            lease = context.cluster.get(&object).await?;
            let now_held = read(&lease)?;
            if now_held.holder == holder && now_held.uid == held.uid {
                return Ok(Self { lease, record: now_held.record });
            }
            if was_silent || (&now_held.holder, &now_held.uid) != (&held.holder, &held.uid) {
                return Err(held_error(&now_held));
            }
            held = now_held;
        }
        Err(held_error(&held))
    }

    /// Writes the record as it is now. What it describes may be done only after this said [`Written::Ours`].
    pub async fn write(&mut self, context: &Context) -> Result<Written, ClusterError> {
        let body = towline_patcher::rewrite(&self.lease, &self.record);
        self.put(context, body).await
    }

    /// Says that the session lives.
    pub async fn renew(&mut self, context: &Context) -> Result<Written, ClusterError> {
        let body = towline_patcher::renew(&self.lease, &now());
        self.put(context, body).await
    }

    /// Takes in a newer state of the Lease from a watch. Tells whether it is still ours.
    pub fn seen(&mut self, lease: &Value) -> Written {
        match ours(&self.lease, lease) {
            Ok(()) => {
                self.lease = lease.clone();
                Written::Ours
            }
            Err(message) => Written::Lost(message),
        }
    }

    /// Returns the Lease's name and uid, for its deletion.
    pub fn identity(&self) -> (String, Option<String>) {
        (
            crate::pod::text(&self.lease, "/metadata/name"),
            Some(crate::pod::text(&self.lease, "/metadata/uid")),
        )
    }

    async fn put(&mut self, context: &Context, body: Value) -> Result<Written, ClusterError> {
        let object = Object::new(LEASES, &context.namespace, self.identity().0);
        let mut body = body;
        // Twice is enough: between two of our own reads only a thief writes, and a thief is seen by the second.
        for _ in 0..2 {
            match context.cluster.replace(&object, &body, &WriteOptions::default()).await {
                Ok(lease) => {
                    self.lease = lease;
                    return Ok(Written::Ours);
                }
                Err(ClusterError::Conflict { .. } | ClusterError::Ambiguous { .. }) => {}
                Err(error) if error.is_not_found() => {
                    return Ok(Written::Lost("dev mode was ended".to_owned()));
                }
                Err(error) => return Err(error),
            }
            let lease = match context.cluster.get(&object).await {
                Ok(lease) => lease,
                Err(error) if error.is_not_found() => {
                    return Ok(Written::Lost("dev mode was ended".to_owned()));
                }
                Err(error) => return Err(error),
            };
            if let Err(message) = ours(&self.lease, &lease) {
                return Ok(Written::Lost(message));
            }
            self.lease = lease;
            body = towline_patcher::renew(&towline_patcher::rewrite(&self.lease, &self.record), &now());
        }
        Err(ClusterError::Conflict { object, message: "the Lease changes too often".to_owned() })
    }
}

/// Reads a Lease of ours.
pub fn read(lease: &Value) -> Result<Held, SessionError> {
    towline_patcher::hold(lease)
        .map_err(|source| SessionError::Record { lease: crate::pod::text(lease, "/metadata/name"), source })
}

/// Says who holds a workload.
pub fn held_error(held: &Held) -> SessionError {
    SessionError::Held {
        workload: format!("{} {}", held.record.kind, held.record.name),
        holder: person(&held.holder).to_owned(),
        since: held.acquire_time.clone().unwrap_or_else(|| "an unknown time".to_owned()),
        alive: is_alive(held),
    }
}

/// Tells whether a Lease was renewed within its duration, by this machine's clock.
pub fn is_alive(held: &Held) -> bool {
    silence(held).as_secs() <= u64::from(held.duration_seconds)
}

/// Returns how long the holder has not been heard of, by this machine's clock; the longest time there is where the
/// Lease does not say when it was.
pub fn silence(held: &Held) -> Duration {
    let renewed = held.renew_time.as_deref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
    renewed.map_or(Duration::MAX, |renewed| {
        // A clock that is ahead of ours has just spoken.
        Duration::try_from(jiff::Timestamp::now().duration_since(renewed)).unwrap_or_default()
    })
}

/// Returns `user@machine` of a holder identity.
pub fn person(holder: &str) -> &str {
    holder.split_once('/').map_or(holder, |(person, _)| person)
}

/// The time as Leases have it: RFC 3339 with microseconds.
pub fn now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

/// Names this process among all that may hold a Lease: two of one user are two holders.
fn identity(context: &Context) -> String {
    format!("{}/{}", context.holder, crate::plan::random_name())
}

/// Tells whether `lease` is the one we hold, still held by us.
fn ours(held: &Value, lease: &Value) -> Result<(), String> {
    let same = |pointer| held.pointer(pointer) == lease.pointer(pointer);
    if !same("/metadata/uid") {
        return Err("dev mode was ended, and begun again by someone else".to_owned());
    }
    if !same("/spec/holderIdentity") {
        let holder = crate::pod::text(lease, "/spec/holderIdentity");
        let verb = if holder.contains(ENDING) { "is being ended" } else { "was taken over" };
        return Err(format!("dev mode {verb} by {}", person(&holder)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_kubernetes_micro_time_wants_them() {
        let now = now();
        assert_eq!(now.len(), "2026-01-01T00:00:00.000000Z".len(), "{now}");
        assert!(now.parse::<jiff::Timestamp>().is_ok());
    }

    #[test]
    fn a_holder_is_named_without_the_session() {
        assert_eq!(person("ann@host/abc"), "ann@host");
        assert_eq!(person("ann@host/down/abc"), "ann@host");
        assert_eq!(person("ann"), "ann");
    }
}
