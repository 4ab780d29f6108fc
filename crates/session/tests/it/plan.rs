//! What a plan bears, and that it writes nothing.

use towline_cluster::ClusterError;
use towline_cluster::embedded::Moment;
use towline_cluster::port::{DEPLOYMENTS, LEASES, Object, Selection};
use towline_session::{SessionError, plan};

use crate::world::{World, request};

fn conflict() -> ClusterError {
    ClusterError::Conflict {
        object: Object::new(DEPLOYMENTS, "default", "web"),
        message: "the object has been modified".to_owned(),
    }
}

#[tokio::test]
async fn a_workload_that_changes_while_it_is_looked_at_is_looked_at_again() {
    let world = World::new().await;
    for _ in 0..3 {
        world.faults.fail("patch", "deployments", 1, Moment::Before, conflict());
    }
    let planned = plan::plan(&world.context, request()).await.unwrap();
    assert_eq!(planned.record.name, "web");
    let dry_runs = world.faults.calls().iter().filter(|call| **call == ("patch", "deployments")).count();
    assert_eq!(dry_runs, 4);
    let leases = world.context.cluster.list(LEASES, None, &Selection::default()).await.unwrap();
    assert!(leases.is_empty(), "a plan writes nothing: {leases:?}");
}

#[tokio::test]
async fn a_workload_that_never_holds_still_is_given_up() {
    let world = World::new().await;
    for _ in 0..1000 {
        world.faults.fail("patch", "deployments", 1, Moment::Before, conflict());
    }
    let error = plan::plan(&world.context, request()).await.unwrap_err();
    assert!(matches!(error, SessionError::Cluster(ClusterError::Conflict { .. })), "{error}");
}
