//! A watch loses nothing, whatever the server and the network do.

use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use tokio::time::Instant;
use towline_cluster::ClusterError;
use towline_cluster::port::{PODS, Selection, Watch, WatchEvent};

use super::server::{End, Reply, Seen, Server, status};

fn pod(name: &str, version: u32) -> Value {
    json!({ "metadata": { "name": name, "resourceVersion": version.to_string() } })
}

fn listed(version: u32, names: &[&str]) -> Reply {
    let items: Vec<Value> = names.iter().map(|name| pod(name, version)).collect();
    Reply::Json(200, json!({ "metadata": { "resourceVersion": version.to_string() }, "items": items }))
}

fn line(kind: &str, object: &Value) -> String {
    json!({ "type": kind, "object": object }).to_string()
}

fn error_line(code: u16, reason: &str) -> String {
    line("ERROR", &json!({ "kind": "Status", "code": code, "reason": reason, "message": "said" }))
}

/// Shortens an event: `=a,b` all there is, `+a` applied, `-a` deleted, `!` interrupted.
fn short(event: &WatchEvent) -> String {
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    match event {
        WatchEvent::Restarted(objects) => {
            format!("={}", objects.iter().map(name).collect::<Vec<_>>().join(","))
        }
        WatchEvent::Applied(object) => format!("+{}", name(object)),
        WatchEvent::Deleted(object) => format!("-{}", name(object)),
        WatchEvent::Interrupted(_) => "!".to_owned(),
    }
}

async fn watch(server: &Server) -> Watch {
    let selection = Selection { name: Some("a".to_owned()), labels: vec![] };
    server.cluster().await.watch(PODS, "shop", &selection).await.unwrap()
}

/// Plays the replies (then silent streams), and checks the events and, of each request, `list` or the version that
/// the watch goes on from.
async fn check(replies: Vec<Reply>, events: &[&str], requests: &[&str]) {
    let server = Server::start(move |_, before| {
        replies
            .get(before)
            .cloned()
            .unwrap_or(Reply::Stream(vec![line("ADDED", &pod("end", 99))], End::Never))
    })
    .await;
    let mut watch = watch(&server).await;
    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != "+end") {
        told.push(short(&watch.next().await.unwrap()));
    }
    assert_eq!(told, events);
    let asked = |seen: &Seen| {
        let version = seen.uri.split("resourceVersion=").nth(1).and_then(|rest| rest.split('&').next());
        version.unwrap_or("list").to_owned()
    };
    assert_eq!(server.seen().iter().map(asked).collect::<Vec<_>>(), requests);
}

#[tokio::test(start_paused = true)]
async fn a_watch_goes_on_where_a_stream_ended() {
    let changes = vec![
        line("ADDED", &pod("b", 11)),
        line("MODIFIED", &pod("a", 12)),
        line("DELETED", &pod("b", 13)),
        line("BOOKMARK", &pod("", 15)),
    ];
    let broken = vec![line("ADDED", &pod("c", 16))];
    check(
        vec![listed(10, &["a"]), Reply::Stream(changes, End::Well), Reply::Stream(broken, End::Broken)],
        &["=a", "+b", "+a", "-b", "+c", "+end"],
        &["list", "10", "15", "16"],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_expired_is_listed_anew() {
    let within = vec![line("ADDED", &pod("b", 11)), error_line(410, "Expired")];
    check(
        vec![listed(10, &["a"]), Reply::Stream(within, End::Well), listed(20, &["a", "b"])],
        &["=a", "+b", "=a,b", "+end"],
        &["list", "10", "list", "20"],
    )
    .await;
    check(
        vec![listed(10, &["a"]), status(410, "Expired", "old"), listed(20, &[])],
        &["=a", "=", "+end"],
        &["list", "10", "list", "20"],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_told_once_and_ends_with_all_there_is() {
    check(
        vec![
            listed(10, &["a"]),
            Reply::Gone,
            Reply::Gone,
            status(500, "InternalError", "x"),
            status(403, "Forbidden", "x"),
            listed(30, &["z"]),
        ],
        &["=a", "!", "=z", "+end"],
        &["list", "10", "list", "list", "list", "list", "30"],
    )
    .await;
    for nonsense in
        [error_line(500, "InternalError"), "{}".to_owned(), "no json".to_owned(), line("NEW", &pod("a", 1))]
    {
        check(
            vec![listed(10, &["a"]), Reply::Stream(vec![nonsense], End::Well), listed(30, &["z"])],
            &["=a", "!", "=z", "+end"],
            &["list", "10", "list", "30"],
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_given_up() {
    let since = Instant::now();
    check(
        vec![listed(10, &["a"]), Reply::Stream(vec![], End::Never)],
        &["=a", "+end"],
        &["list", "10", "10"],
    )
    .await;
    assert_eq!(since.elapsed().as_secs(), 58);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_every_stream_is_not_hurried() {
    let server = Server::start(|_, before| match before {
        0 => listed(10, &[]),
        _ => Reply::Stream(vec![], End::Well),
    })
    .await;
    let mut watch = watch(&server).await;
    watch.next().await.unwrap();
    let nothing = tokio::time::timeout(Duration::from_mins(5), watch.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    // With pauses of up to 15 seconds there are 27. On a busy machine paused time runs on while bytes are on their way: a
    // stream then seems to have lived for a while, and the pauses begin anew. Without any there would be thousands.
    assert!(server.seen().len() < 200, "{}", server.seen().len());
}

#[tokio::test(start_paused = true)]
async fn a_watch_says_what_it_wants() {
    let server = Server::start(|_, before| match before {
        0 => listed(10, &["a"]),
        _ => Reply::Stream(vec![line("ADDED", &pod("end", 99))], End::Never),
    })
    .await;
    let mut watch = watch(&server).await;
    let (_, _) = (watch.next().await, watch.next().await);
    let seen = server.seen();
    let base = "/api/v1/namespaces/shop/pods?fieldSelector=metadata.name%3Da";
    assert_eq!(seen[0].uri, format!("{base}&limit=500"));
    assert_eq!(
        seen[1].uri,
        format!("{base}&watch=true&allowWatchBookmarks=true&resourceVersion=10&timeoutSeconds=50")
    );
    assert_eq!(seen[1].header("accept-encoding"), Some("identity"));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_may_not_begin_says_so() {
    let server = Server::start(|_, _| status(403, "Forbidden", "no")).await;
    let begun = server.cluster().await.watch(PODS, "shop", &Selection::default()).await;
    let error = begun.err().unwrap();
    assert!(matches!(error, ClusterError::Forbidden { verb: "list", .. }), "{error:?}");
}
