//! A Lease that is taken over while its holder lives.

use towline_cluster::port::{LEASES, Object};
use towline_session::journal::Journal;
use towline_session::{SessionError, plan};

use crate::world::{World, request};

#[tokio::test]
async fn a_holder_that_renews_does_not_keep_its_lease() {
    let world = World::new().await;
    let context = &world.context;
    let planned = plan::plan(context, request()).await.unwrap();
    let mut first = Journal::create(context, planned.record).await.unwrap();
    let object = Object::new(LEASES, &context.namespace, first.identity().0);
    let seen = context.cluster.get(&object).await.unwrap();
    // It says that it lives, and writes its record anew, after it was looked at.
    first.renew(context).await.unwrap();
    first.record.replicas = 7;
    first.write(context).await.unwrap();
    let taken = Journal::take_over(context, &seen).await.unwrap();
    assert_eq!(taken.record.replicas, 7, "the record is the last that was written");

    // Somebody else who took it first keeps it.
    let error = Journal::take_over(context, &seen).await.unwrap_err();
    assert!(matches!(error, SessionError::Held { .. }), "{error:?}");
}
