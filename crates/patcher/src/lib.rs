//! A live workload and a plan: the patch, and the record that undoes it.
//!
//! Dev mode by **swap**: a clone of the workload becomes the dev container ([`clone_of`]), and the original is
//! touched in `spec.replicas` or `spec.suspend` alone ([`park`]). Dev mode **in place**: the original's own template is
//! changed ([`dev_of`], [`change`]), and goes back field by field ([`base`]). What a kind allows says [`holder`].
//!
//! The [`Record`] is written into a Lease before anything else, so that anyone finds the way back in the cluster:
//! [`restore`] and [`give_back`] yield it, [`verify`] says how exact it was.
//!
//! Pure: JSON values in, JSON values out. Objects are never typed structs, which would drop the fields they do not
//! know. No clock and no randomness: session ids and times are arguments.

#![forbid(unsafe_code)]

mod blank;
mod field_owners;
mod holder;
mod in_place;
mod names;
mod patch;
mod pause;
mod plan;
mod quantity;
mod read_back;
mod record;
mod revert;
mod storage;
mod workload;

pub use blank::{AUTOCREATED_PORT, autocreated, autocreated_service, blank};
pub use field_owners::{FIELD_MANAGER, Owner};
pub use holder::{Holder, Switch, Way, holder, way_refusal};
pub use in_place::{
    Base, InPlace, Touched, base, change, dev_of, give_fields_back, history, is_of_session, last_writer,
};
pub use names::{
    DEV_LABEL, DEV_NAME_LABEL, HOW_TO_UNDO_ANNOTATION, JOURNAL_ANNOTATION, MANAGED_BY, MANAGED_BY_LABEL,
    SESSION_LABEL, claim_name, clone_name, labels, lease_name, secret_name,
};
pub use patch::{DevClone, FieldChange, HIDDEN, clone_of, park, pod_at, pod_of};
pub use pause::Pause;
pub use plan::{Agent, DevPlan, Hook, Lifecycle, PlanError, Probes};
pub use read_back::{Drift, read_back};
pub use record::{
    Held, MAX_JOURNAL_BYTES, Phase, Record, RecordError, hold, how_to_undo, lease, renew, rewrite, take_over,
};
pub use revert::{Difference, Restore, give_back, restore, switch_writer, verify};
pub use storage::{External, Kept, SecretFile, SecretVolume, Storage};
pub use workload::{AtZero, Refusal, at_zero, refusal, replicas, template_hash};
