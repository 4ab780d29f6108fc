//! Processes in pods, over a scripted WebSocket.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};
use towline_cluster::ClusterError;
use towline_cluster::port::ExecStream;

use super::server::{Reply, Server, connect_to, pace, status, write_kubeconfig};

type Socket = WebSocketStream<TcpStream>;

/// Accepts one exec, hands its socket and what was asked for to `pod`, and starts a process through it.
async fn exec<P, F>(
    protocol: &'static str,
    pod: P,
) -> (Result<ExecStream, ClusterError>, JoinHandle<F::Output>)
where
    P: FnOnce(String, Socket) -> F + Send + 'static,
    F: Future<Output: Send> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    pace();
    let pod = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut uri = String::new();
        #[expect(clippy::result_large_err, reason = "the handshake's own callback type")]
        let answer = |request: &Request, mut response: Response| {
            uri = request.uri().to_string();
            response.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
            Ok(response)
        };
        let socket = accept_hdr_async(socket, answer).await.unwrap();
        pod(uri, socket).await
    });
    let folder = tempfile::tempdir().unwrap();
    let cluster = connect_to(write_kubeconfig(&folder, port, "{}")).await;
    let argv = ["agent", "serve", "a b&c"].map(str::to_owned);
    (cluster.exec("shop", "web-1", "app", &argv).await, pod)
}

fn frame(channel: u8, payload: &[u8]) -> Message {
    Message::binary([&[channel], payload].concat())
}

fn end(status: &serde_json::Value) -> Message {
    frame(3, status.to_string().as_bytes())
}

/// Returns the next frame that is no ping.
async fn next_frame(socket: &mut Socket) -> Option<Vec<u8>> {
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Binary(frame) = message {
            return Some(frame.into());
        }
    }
    None
}

#[tokio::test(start_paused = true)]
async fn streams_are_tied_and_input_can_be_closed() {
    let (stream, pod) = exec("v5.channel.k8s.io", |uri, mut socket| async move {
        for channel in 0..=3 {
            socket.send(frame(channel, b"")).await.unwrap();
        }
        let mut input = Vec::new();
        loop {
            match next_frame(&mut socket).await.unwrap().split_at(1) {
                ([0], payload) => input.extend_from_slice(payload),
                ([255], [0]) => break,
                other => panic!("{other:?}"),
            }
        }
        for chunk in input.chunks(1000) {
            socket.send(frame(1, chunk)).await.unwrap();
        }
        socket.send(frame(2, b"done")).await.unwrap();
        socket.send(end(&json!({ "status": "Success" }))).await.unwrap();
        uri
    })
    .await;
    let mut stream = stream.unwrap();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    stream.stdin.write_all(&sent).await.unwrap();
    stream.stdin.shutdown().await.unwrap();
    let (mut output, mut errors) = (Vec::new(), String::new());
    stream.stdout.read_to_end(&mut output).await.unwrap();
    stream.stderr.read_to_string(&mut errors).await.unwrap();
    assert!(output == sent, "{} of {} bytes", output.len(), sent.len());
    assert_eq!(errors, "done");
    assert_eq!(
        pod.await.unwrap(),
        "/api/v1/namespaces/shop/pods/web-1/exec?container=app&stdin=true&stdout=true&stderr=true&command=agent\
         &command=serve&command=a%20b%26c"
    );
}

#[tokio::test(start_paused = true)]
async fn an_echo_of_much_does_not_block_itself() {
    let (stream, _pod) = exec("v5.channel.k8s.io", |_, mut socket| async move {
        while let Some(echo) = next_frame(&mut socket).await {
            match echo.split_at(1) {
                ([0], payload) => socket.send(frame(1, payload)).await.unwrap(),
                _ => break,
            }
        }
        socket.send(end(&json!({ "status": "Success" }))).await.unwrap();
    })
    .await;
    let ExecStream { mut stdin, mut stdout, stderr } = stream.unwrap();
    drop(stderr);
    let sent = vec![7_u8; 20_000_000];
    let write = async {
        stdin.write_all(&sent).await.unwrap();
        drop(stdin);
    };
    let mut received = Vec::new();
    let ((), read) = tokio::join!(write, stdout.read_to_end(&mut received));
    read.unwrap();
    assert!(received == sent, "{}", received.len());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_can_not_be_started_is_an_error() {
    let (stream, _pod) = exec("v5.channel.k8s.io", |_, mut socket| async move {
        let status =
            json!({ "status": "Failure", "reason": "InternalError", "message": "no such\u{1b} file" });
        socket.send(end(&status)).await.unwrap();
    })
    .await;
    let error = stream.unwrap_err();
    assert_eq!(error.to_string(), "cannot run agent in pod web-1: no such file");
}

#[tokio::test(start_paused = true)]
async fn a_late_failure_to_start_is_told_by_the_streams() {
    let (stream, _pod) = exec("v5.channel.k8s.io", |_, mut socket| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let status = json!({ "status": "Failure", "reason": "InternalError", "message": "no such file" });
        socket.send(end(&status)).await.unwrap();
    })
    .await;
    let mut stream = stream.unwrap();
    let mut said = Vec::new();
    let failed = stream.stderr.read_to_end(&mut said).await.unwrap_err();
    assert_eq!((said.as_slice(), failed.to_string().as_str()), (&b"no such file"[..], "no such file"));
    assert_eq!(stream.stdout.read(&mut [0; 9]).await.unwrap_err().to_string(), "no such file");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_fails_ends_like_any_other() {
    let (stream, _pod) = exec("v5.channel.k8s.io", |_, mut socket| async move {
        socket.send(frame(1, b"bye")).await.unwrap();
        let status = json!({ "status": "Failure", "reason": "NonZeroExitCode", "message": "exit code 3" });
        socket.send(end(&status)).await.unwrap();
    })
    .await;
    let mut said = String::new();
    stream.unwrap().stdout.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "bye");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_is_an_error_not_an_end() {
    let (stream, _pod) = exec("v5.channel.k8s.io", |_, mut socket| async move {
        socket.send(frame(1, b"half a")).await.unwrap();
    })
    .await;
    let mut stream = stream.unwrap();
    let mut said = Vec::new();
    stream.stdout.read_to_end(&mut said).await.unwrap_err();
    assert_eq!(said, b"half a");
    stream.stderr.read_to_end(&mut said).await.unwrap_err();
    let written = stream.stdin.write_all(&vec![0; 4_000_000]).await;
    assert!(written.is_err());
}

#[tokio::test(start_paused = true)]
async fn silence_is_noticed_once_the_server_answers_pings() {
    let (stream, _pod) = exec("v5.channel.k8s.io", |_, mut socket| async move {
        // One read answers the first ping.
        socket.next().await.unwrap().unwrap();
        socket.flush().await.unwrap();
        let _open = socket;
        std::future::pending::<()>().await;
    })
    .await;
    let mut stream = stream.unwrap();
    let since = Instant::now();
    let error = stream.stdout.read(&mut [0; 9]).await.unwrap_err();
    assert!(error.to_string().contains("silent"), "{error}");
    assert!(since.elapsed() <= Duration::from_secs(6), "{:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_does_not_read_is_not_taken_for_dead() {
    let (stream, _pod) = exec("v5.channel.k8s.io", |_, mut socket| async move {
        socket.next().await.unwrap().unwrap();
        socket.flush().await.unwrap();
        tokio::time::sleep(Duration::from_secs(40)).await;
        socket.send(frame(1, b"awake")).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let mut stream = stream.unwrap();
    stream.stdin.write_all(b"much").await.unwrap();
    let mut said = [0; 5];
    stream.stdout.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"awake");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_streams_closes_the_connection() {
    let (stream, pod) =
        exec(
            "v5.channel.k8s.io",
            |_, mut socket| async move { while next_frame(&mut socket).await.is_some() {} },
        )
        .await;
    drop(stream.unwrap());
    pod.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refused_exec_says_why() {
    let check = async |reply: Reply, expected: &str| {
        let server = Server::start(move |_, _| reply.clone()).await;
        let argv = ["agent".to_owned()];
        let error = server.cluster().await.exec("shop", "web-1", "app", &argv).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(server.seen().len(), 1);
    };
    let it = "Pod web-1 in namespace shop";
    check(status(404, "NotFound", "x"), &format!("{it} not found")).await;
    check(status(403, "Forbidden", "no"), &format!("not allowed to create {it}: no")).await;
    check(status(400, "BadRequest", "no container app"), "cannot run agent in pod web-1: no container app")
        .await;
    check(status(500, "InternalError", "not found"), "cannot run agent in pod web-1: not found").await;
    check(Reply::Json(200, json!({})), "cannot run agent in pod web-1: failed to switch protocol: 200 OK")
        .await;
}
