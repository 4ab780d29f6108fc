//! Forwards in both directions.

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use towline_link::{Channel, ResetReason};
use towline_protocol::{ChannelRequest, ControlReply, ControlRequest, Refusal, decode};

use crate::stand::{Agent, Client, in_time, until};

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn forward(client: &Client, host: &str, port: u16) -> Channel {
    client.open(&ChannelRequest::Forward { host: host.to_owned(), port }).await
}

async fn why(mut channel: Channel) -> String {
    let error = channel.read_to_end(&mut Vec::new()).await.expect_err("a reset");
    ResetReason::of(&error).unwrap_or_else(|| panic!("{error}")).0.clone()
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_way_ends_by_itself() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        let (listener, port) = listener().await;
        let sent: Vec<u8> = (0..3_000_000_u32).map(|index| (index / 7 % 251) as u8).collect();
        for host in ["127.0.0.1", "localhost"] {
            let channel = forward(&client, host, port).await;
            let (mut socket, _) = listener.accept().await.unwrap();
            let echo = async {
                let (mut reader, mut writer) = socket.split();
                copy(&mut reader, &mut writer).await.unwrap();
                // The other direction has ended; this one goes on.
                writer.write_all(b"and more").await.unwrap();
                writer.shutdown().await.unwrap();
            };
            let talk = async {
                let (mut reader, mut writer) = channel.split();
                let mut received = Vec::new();
                let sending = async {
                    writer.write_all(&sent).await.unwrap();
                    writer.shutdown().await.unwrap();
                };
                let receiving = async { reader.read_to_end(&mut received).await.unwrap() };
                tokio::join!(sending, receiving);
                received
            };
            let ((), received) = tokio::join!(echo, talk);
            let received = received.strip_suffix(b"and more").unwrap();
            assert!(received == sent, "{} bytes", received.len());
        }
    })
    .await;
}

#[tokio::test]
async fn the_other_loopback_is_tried_too() {
    in_time(async {
        // Machines without IPv6 have only one.
        let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
        let port = listener.local_addr().unwrap().port();
        let agent = Agent::new().await;
        let client = agent.client().await;
        let mut channel = forward(&client, "127.0.0.1", port).await;
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"six").await.unwrap();
        socket.shutdown().await.unwrap();
        let mut received = [0; 3];
        channel.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"six");
    })
    .await;
}

#[tokio::test]
async fn a_dial_that_fails_says_why() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        let (closed, port) = listener().await;
        drop(closed);
        let reason = why(forward(&client, "127.0.0.1", port).await).await;
        assert!(reason.contains(&format!("127.0.0.1:{port}")) && reason.contains("refused"), "{reason}");
        let reason = why(forward(&client, "no-such-host.invalid", 80).await).await;
        assert!(reason.contains("no-such-host.invalid:80"), "{reason}");
        let reason = why(forward(&client, "", 80).await).await;
        assert!(reason.contains("can't connect"), "{reason}");
    })
    .await;
}

#[tokio::test]
async fn what_breaks_on_one_side_breaks_on_the_other() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        let (listener, port) = listener().await;
        let channel = forward(&client, "127.0.0.1", port).await;
        let (socket, _) = listener.accept().await.unwrap();
        socket.set_zero_linger().unwrap();
        drop(socket);
        let reason = why(channel).await;
        assert!(reason.contains("reset by peer"), "{reason}");

        let mut channel = forward(&client, "127.0.0.1", port).await;
        channel.write_all(b"half a").await.unwrap();
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.read_exact(&mut [0; 6]).await.unwrap();
        drop(channel);
        let error = socket.read(&mut [0]).await.expect_err("not an end that looks complete");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    })
    .await;
}

#[tokio::test]
async fn forwards_leave_nothing_open() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        let (listener, port) = listener().await;
        let before = agent.descriptors();
        for round in 0..300 {
            let mut channel = forward(&client, "127.0.0.1", port).await;
            channel.write_all(b"x").await.unwrap();
            let (mut socket, _) = listener.accept().await.unwrap();
            if round % 3 == 0 {
                drop(channel);
            } else if round % 3 == 1 {
                drop(socket);
            } else {
                channel.shutdown().await.unwrap();
                socket.read_to_end(&mut Vec::new()).await.unwrap();
                socket.shutdown().await.unwrap();
            }
        }
        until("closed descriptors", || (agent.descriptors() <= before).then_some(())).await;
    })
    .await;
}

/// Connects to the port in the pod and sees it come out at this client.
async fn reversed(client: &mut Client, port: u16) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (opening, mut channel) = client.incoming.accept().await.unwrap();
    assert_eq!(decode::<ChannelRequest>(&opening).unwrap(), ChannelRequest::Reverse { port });
    socket.write_all(b"question").await.unwrap();
    socket.shutdown().await.unwrap();
    let mut question = String::new();
    channel.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "question");
    channel.write_all(b"answer").await.unwrap();
    channel.shutdown().await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");
}

#[tokio::test]
async fn a_reverse_forward_belongs_to_whoever_asked_last() {
    in_time(async {
        let agent = Agent::new().await;
        let (closed, port) = listener().await;
        drop(closed);
        let mut first = agent.client().await;
        assert_eq!(
            first.ask(ControlRequest::Listen { port, everywhere: false }).await,
            ControlReply::Listening
        );
        assert_eq!(
            first.ask(ControlRequest::Listen { port, everywhere: false }).await,
            ControlReply::Listening
        );
        reversed(&mut first, port).await;
        let mut held = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        first.incoming.accept().await.unwrap();
        first.vanish().await;

        // Whoever was served by the one that is gone is told, and so is who comes now.
        assert!(held.read(&mut [0]).await.is_err());
        if let Ok(mut nobody) = TcpStream::connect(("127.0.0.1", port)).await {
            assert!(nobody.read(&mut [0]).await.is_err());
        }

        let mut second = agent.client().await;
        assert_eq!(
            second.ask(ControlRequest::Listen { port, everywhere: false }).await,
            ControlReply::Listening
        );
        reversed(&mut second, port).await;
        let mut third = agent.client().await;
        assert_eq!(
            third.ask(ControlRequest::Listen { port, everywhere: false }).await,
            ControlReply::Listening
        );
        reversed(&mut third, port).await;
    })
    .await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_refused() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        let (_held, port) = listener().await;
        let reply = client.ask(ControlRequest::Listen { port, everywhere: false }).await;
        let ControlReply::Failed(Refusal { errno, message }) = reply else { panic!("{reply:?}") };
        assert_eq!(errno, 98);
        assert!(message.contains(&port.to_string()), "{message}");
    })
    .await;
}

#[tokio::test]
async fn what_listens_everywhere_is_reached_at_any_address() {
    in_time(async {
        let agent = Agent::new().await;
        for (everywhere, expected) in [(false, [true, false]), (true, [true, true])] {
            let mut client = agent.client().await;
            let (closed, port) = listener().await;
            drop(closed);
            assert_eq!(
                client.ask(ControlRequest::Listen { port, everywhere }).await,
                ControlReply::Listening
            );
            reversed(&mut client, port).await;
            // Another address of the same machine, as the pod's own is beside its loopback's first.
            let reached = [
                TcpStream::connect(("127.0.0.1", port)).await,
                TcpStream::connect(("127.0.0.2", port)).await,
            ];
            assert_eq!(reached.map(|socket| socket.is_ok()), expected, "everywhere: {everywhere}");
        }
    })
    .await;
}
