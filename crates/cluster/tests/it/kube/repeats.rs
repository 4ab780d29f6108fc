//! What is sent again, after how long, and what never is.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use towline_cluster::ClusterError;
use towline_cluster::port::{CONFIG_MAPS, Object, Patch, WriteOptions};

use super::server::{Reply, Server, connect_to, pace, status, write_kubeconfig};

/// A certificate of nobody, so that the machine's own are not asked for.
const AUTHORITY: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJkVENDQVJ1Z0F3SUJBZ0lVWmdiZWR0amZJWTdUdHVlS1Yxekdn\
     QTJKRzlnd0NnWUlLb1pJemowRUF3SXcKRHpFTk1Bc0dBMVVFQXd3RWRHVnpkREFnRncweU5qRXhNakV4TVRJNE1EbGFH\
     QTh5TVRJMk1UQXlPREV4TWpndwpPVm93RHpFTk1Bc0dBMVVFQXd3RWRHVnpkREJaTUJNR0J5cUdTTTQ5QWdFR0NDcUdT\
     TTQ5QXdFSEEwSUFCTjV6CnF4dEp4L0lNdmxZYUVFbVgrdzlVcEZ5dzJRbWc4M2ExSWZtVXJkQ2JTNDI2R2QzRm1sZ2I3\
     RnhLYUI5aFc5MSsKWk9sbFVvYjJ5ejdjeCtUTUZteWpVekJSTUIwR0ExVWREZ1FXQkJTV3FkOTRmVWh6Qlk3Vk9BM0tp\
     WXprdXlBMQpsekFmQmdOVkhTTUVHREFXZ0JTV3FkOTRmVWh6Qlk3Vk9BM0tpWXprdXlBMWx6QVBCZ05WSFJNQkFmOEVC\
     VEFECkFRSC9NQW9HQ0NxR1NNNDlCQU1DQTBnQU1FVUNJSGxCdExoNXB1YUMrRHFReVFHWXBQckUwby9MY1dkR0NvUy8K\
     WW5LVldRSDNBaUVBM1RqWXZLaTRFN283azZkUldFVGNxQVZJZWVNT2VDVGRkcTYzMGhOUTlKbz0KLS0tLS1FTkQgQ0VS\
     VElGSUNBVEUtLS0tLQo=";

fn object() -> Object {
    Object::new(CONFIG_MAPS, "shop", "web")
}

fn change() -> Patch {
    Patch::Merge(json!({ "data": { "a": "b" } }))
}

struct Told {
    answer: Result<Value, ClusterError>,
    requests: usize,
    elapsed: Duration,
}

/// Reads (or, if not, patches) against a script of first replies; after them everything is well.
async fn tell(reads: bool, dry_run: bool, replies: Vec<Reply>) -> Told {
    let server = Server::start(move |_, before| {
        replies.get(before).cloned().unwrap_or_else(|| Reply::Json(200, json!({ "kind": "ConfigMap" })))
    })
    .await;
    let cluster = server.cluster().await;
    let since = Instant::now();
    let answer = if reads {
        cluster.get(&object()).await
    } else {
        cluster.patch(&object(), &change(), &WriteOptions { dry_run }).await
    };
    Told { answer, requests: server.seen().len(), elapsed: since.elapsed() }
}

#[tokio::test(start_paused = true)]
async fn reads_are_repeated_with_growing_pauses() {
    let hiccups = vec![
        status(503, "ServiceUnavailable", "x"),
        Reply::Gone,
        Reply::Text(502, "", String::new()),
        Reply::Text(200, "", "no json".to_owned()),
    ];
    let told = tell(true, false, hiccups).await;
    assert!(told.answer.is_ok(), "{:?}", told.answer);
    assert_eq!(told.requests, 5);
    // 0.2 + 0.4 + 0.8 + 1.6 s.
    let expected = Duration::from_secs(3);
    assert!(
        told.elapsed >= expected && told.elapsed < expected + Duration::from_millis(200),
        "{:?}",
        told.elapsed
    );
}

#[tokio::test(start_paused = true)]
async fn patience_ends() {
    let told = tell(true, false, vec![status(503, "ServiceUnavailable", "busy"); 100]).await;
    let error = told.answer.unwrap_err();
    assert!(matches!(error, ClusterError::Server { code: 503, .. }), "{error:?}");
    assert!(
        told.elapsed > Duration::from_secs(10) && told.elapsed <= Duration::from_secs(20),
        "{:?}",
        told.elapsed
    );

    let told = tell(true, false, vec![Reply::Silence; 100]).await;
    let error = told.answer.unwrap_err();
    assert!(matches!(error, ClusterError::Unreachable { .. }), "{error:?}");
    assert_eq!((told.requests, told.elapsed.as_secs()), (2, 30));
}

#[tokio::test(start_paused = true)]
async fn the_server_says_how_long_to_wait() {
    let busy = Reply::Text(429, "Retry-After: 7\r\n", String::new());
    for reads in [true, false] {
        let told = tell(reads, false, vec![busy.clone()]).await;
        assert!(told.answer.is_ok(), "{:?}", told.answer);
        assert_eq!((told.requests, told.elapsed.as_secs()), (2, 7));
    }
    let told = tell(false, false, vec![Reply::Text(429, "Retry-After: 100000000\r\n", String::new())]).await;
    let error = told.answer.unwrap_err();
    assert!(matches!(error, ClusterError::Server { code: 429, .. }), "{error:?}");
    assert_eq!((told.requests, told.elapsed.as_secs()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_write_is_sent_once() {
    for reply in [
        Reply::Gone,
        Reply::Silence,
        status(504, "Timeout", "x"),
        status(500, "InternalError", "x"),
        status(503, "ServiceUnavailable", "x"),
        status(409, "Conflict", "x"),
    ] {
        let told = tell(false, false, vec![reply.clone()]).await;
        assert!(told.answer.is_err(), "{reply:?}");
        assert_eq!(told.requests, 1, "{reply:?}");
    }
    let told = tell(false, false, vec![Reply::Gone]).await;
    let error = told.answer.unwrap_err();
    assert!(matches!(error, ClusterError::Ambiguous { verb: "patch", .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_is_repeated_like_a_read() {
    let told = tell(false, true, vec![Reply::Gone, status(504, "Timeout", "x")]).await;
    assert!(told.answer.is_ok(), "{:?}", told.answer);
    assert_eq!(told.requests, 3);
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_for_a_server_that_is_not_there_yet() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    pace();
    let folder = tempfile::tempdir().unwrap();
    let cluster = connect_to(write_kubeconfig(&folder, address.port(), "{}")).await;
    let (object, change, options) = (object(), change(), WriteOptions::default());
    let write = cluster.patch(&object, &change, &options);
    let starts = |after| async move {
        sleep(after).await;
        Server::on(TcpListener::bind(address).await.unwrap(), |_, _| {
            Reply::Json(200, json!({ "kind": "ConfigMap" }))
        })
    };
    let (written, server) = tokio::join!(write, starts(Duration::from_secs(1)));
    assert!(written.is_ok(), "{written:?}");
    assert_eq!(server.seen().len(), 1);
    drop(server);

    // A server that has answered once is waited for longer: it is likely to come back.
    let write = cluster.patch(&object, &change, &options);
    let (written, server) = tokio::join!(write, starts(Duration::from_secs(5)));
    assert!(written.is_ok(), "{written:?}");
    drop(server);

    let since = Instant::now();
    let never = cluster.patch(&object, &change, &options).await.unwrap_err();
    assert!(
        matches!(&never, ClusterError::Unreachable { message, .. } if message.contains("refused")),
        "{never:?}"
    );
    assert!(since.elapsed() > Duration::from_secs(10) && since.elapsed() <= Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_never_there_is_told_soon() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    pace();
    let folder = tempfile::tempdir().unwrap();
    let cluster = connect_to(write_kubeconfig(&folder, port, "{}")).await;
    for reads in [true, false] {
        let since = Instant::now();
        let error = if reads {
            cluster.get(&object()).await.unwrap_err()
        } else {
            cluster.patch(&object(), &change(), &WriteOptions::default()).await.unwrap_err()
        };
        assert!(
            matches!(&error, ClusterError::Unreachable { message, .. } if message.contains("refused")),
            "{error:?}"
        );
        assert!(since.elapsed() > Duration::from_secs(1), "tried again: {:?}", since.elapsed());
        assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_can_not_be_trusted_is_not_asked_again() {
    let server = Server::start(|_, _| Reply::Gone).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let talks = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ended = socket.read_to_end(&mut Vec::new()).await;
    });
    let path = server.kubeconfig();
    let plain = format!("server: 'http://127.0.0.1:{}'", server.port);
    let secure = format!("server: 'https://127.0.0.1:{port}', certificate-authority-data: {AUTHORITY}");
    std::fs::write(&path, std::fs::read_to_string(&path).unwrap().replace(&plain, &secure)).unwrap();
    let since = Instant::now();
    let error = connect_to(path).await.get(&object()).await.unwrap_err();
    assert!(matches!(error, ClusterError::Unreachable { .. }), "{error:?}");
    assert!(since.elapsed() < Duration::from_millis(200), "{:?}", since.elapsed());
    talks.await.unwrap();
}
