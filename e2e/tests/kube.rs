//! The scenarios on the real cluster that `KUBECONFIG` names.

use e2e::adapter::run;
use e2e::kube::KubeAdapter;
use e2e::scenario::{
    autocreate, canary, contention, crashes, hybrid, interactive, kill, loss, monorepo, refusal, restricted,
    rights, session, several, storage, truce, workloads,
};
use e2e::workload;

macro_rules! scenarios {
    ($($name:ident = $scenario:path;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let name = stringify!($name).replace('_', "-");
                run(KubeAdapter::new(&name, &[]).await, async |adapter| $scenario(&*adapter).await).await;
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
    an_api_server_that_goes_away = loss::of_the_api_server;
    eight_at_once = contention::at_once;
    a_session_that_is_taken_over = contention::taken_over;
    a_terminal = interactive::at_a_terminal;
    here_in_its_place = hybrid::whole;
    here_and_another_pod = hybrid::of_another_pod;
    here_without_the_api_server = hybrid::without_the_api_server;
    here_until_it_ends = hybrid::ended;
    here_at_a_terminal = hybrid::at_a_terminal;
    bad_input = refusal::of_bad_input;
    what_is_kept = storage::kept;
    values_show_nowhere = canary::nowhere;
    exactly_these_rights = rights::exactly;
    a_workload_that_is_not_there = autocreate::of_nothing;
    several_side_by_side = several::side_by_side;
    a_service_of_another = several::with_services;
    a_claim_of_a_failed_session = storage::undone;
    a_cluster_that_says_no = refusal::of_the_cluster;
    argo_cd_that_heals = truce::with_self_healing;
    an_application_set = truce::with_an_application_set;
    an_app_of_apps = truce::with_an_app_of_apps;
    argo_cd_that_syncs = truce::with_syncs;
    argo_cd_that_compares = truce::told_whether_in_sync;
    argo_cd_that_prunes = truce::with_pruning;
    flux = truce::with_flux;
    keda = truce::with_keda;
    a_helm_release = truce::with_a_helm_release;
    bystanders = truce::with_bystanders;
    denials = truce::known_denials;
    an_autoscaler = truce::with_an_autoscaler;
    a_plan_that_can_t_be = truce::told_by_a_dry_run;
    a_monorepo = monorepo::one_of_its_services;
    a_quota_that_is_used_up = workloads::with_a_quota;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restricted_namespace_and_no_shell() {
    let tools = KubeAdapter::new("tools", &[]).await;
    run(tools, async |tools| {
        let restricted = KubeAdapter::new("restricted", &[restricted::LABEL]).await;
        run(restricted, async |adapter| restricted::no_shell(&adapter, &tools).await).await;
    })
    .await;
}

macro_rules! workloads {
    ($($name:ident = $case:expr;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let name = stringify!($name).replace('_', "-");
                run(KubeAdapter::new(&name, &[]).await, async |adapter| workloads::play(&adapter, $case).await).await;
            }
        )*
    };
}

workloads! {
    a_deployment_swapped = workload::SWAPPED;
    a_deployment_in_place = workload::IN_PLACE;
    a_stateful_set = workload::STATEFUL;
    a_stateful_set_swapped = workload::STATEFUL_SWAPPED;
    a_daemon_set = workload::DAEMON;
    a_replica_set = workload::REPLICAS;
    a_cron_job = workload::CRON;
    a_job = workload::JOB;
    a_pod = workload::POD;
    a_rollout = workload::ROLLOUT;
    a_rollout_that_refers = workload::ROLLOUT_THAT_REFERS;
    a_kind_of_ones_own = workload::CUSTOM;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_waits_or_ends_it() {
    let stateful = KubeAdapter::new("on-change-stateful", &[]).await;
    let deployment = KubeAdapter::new("on-change-deployment", &[]).await;
    tokio::join!(
        run(stateful, async |adapter| workloads::on_change(&adapter, workload::STATEFUL).await),
        run(deployment, async |adapter| workloads::on_change(&adapter, workload::IN_PLACE).await),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_write() {
    crashes::sweep().await;
}
