//! The scenarios on the embedded cluster.

use e2e::adapter::run;
use e2e::embedded::EmbeddedAdapter;
use e2e::scenario::{
    autocreate, canary, contention, hybrid, interactive, kill, loss, refusal, session, several, storage,
};

macro_rules! scenarios {
    ($($name:ident = $scenario:path;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                run(EmbeddedAdapter::new(), async |adapter| $scenario(&*adapter).await).await;
            }
        )*
    };
}

scenarios! {
    a_whole_session = session::whole;
    a_detached_session = session::detached;
    a_session_that_goes_on = session::resumed;
    a_dry_run = session::dry_run;
    killed_after_each_event = kill::after_each_event;
    killed_at_the_record = kill::at_the_record;
    a_pod_that_is_deleted = loss::of_the_pod;
    eight_at_once = contention::at_once;
    a_session_that_is_taken_over = contention::taken_over;
    a_terminal = interactive::at_a_terminal;
    here_in_its_place = hybrid::whole;
    here_and_another_pod = hybrid::of_another_pod;
    here_until_it_ends = hybrid::ended;
    here_at_a_terminal = hybrid::at_a_terminal;
    bad_input = refusal::of_bad_input;
    values_show_nowhere = canary::nowhere;
    a_workload_that_is_not_there = autocreate::of_nothing;
    several_side_by_side = several::side_by_side;
    a_service_of_another = several::with_services;
    a_claim_of_a_failed_session = storage::undone;
}
