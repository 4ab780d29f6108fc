//! How links end, and what their channels say then.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};
use tokio::time::{Instant, timeout};
use towline_link::{LinkError, Priority, Role, establish};
use towline_wire::{ConnectionError, HelloError};

use crate::pair::{Pair, connect, options};

const MIB: usize = 1024 * 1024;

fn cause(error: &std::io::Error) -> &LinkError {
    error.get_ref().unwrap().downcast_ref().unwrap()
}

#[tokio::test(start_paused = true)]
async fn closing_ends_both_drivers_and_all_that_waits() {
    let mut pair = Pair::new(MIB).await;
    let mut channel = pair.client.open("", Priority::Normal).await.unwrap();
    let (_, mut accepted) = pair.agent_incoming.accept().await.unwrap();
    channel.write_all(b"last words").await.unwrap();
    channel.shutdown().await.unwrap();
    pair.client.close();
    assert!(matches!(pair.client.closed().await, LinkError::Connection(ConnectionError::Closed)));
    let end = pair.agent.closed().await;
    assert!(matches!(&end, LinkError::Connection(ConnectionError::PeerClosed { .. })), "{end:?}");
    // What came before the end is still there, and complete.
    let mut text = String::new();
    accepted.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "last words");
    let error = accepted.write(b"x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    assert!(matches!(cause(&error), LinkError::Connection(ConnectionError::PeerClosed { .. })));
    let error = channel.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert!(pair.agent_incoming.accept().await.is_none());
    assert!(pair.agent.open("", Priority::Normal).await.is_err());
    let ends = [pair.drivers.join_next().await, pair.drivers.join_next().await];
    assert!(ends.iter().all(|end| matches!(end, Some(Ok(LinkError::Connection(_))))), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_falls_silent_is_found_dead_within_five_seconds() {
    let (client, agent) = connect(MIB).await;
    let driver = tokio::spawn(client.driver.run());
    let mut channel = client.link.open("", Priority::Normal).await.unwrap();
    let start = Instant::now();
    let error = channel.read_u8().await.unwrap_err();
    assert!(start.elapsed() <= Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(matches!(cause(&error), LinkError::Connection(ConnectionError::PeerDead { .. })));
    assert!(matches!(driver.await.unwrap(), LinkError::Connection(ConnectionError::PeerDead { .. })));
    drop(agent);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_lives_for_hours() {
    let pair = Pair::new(MIB).await;
    assert!(timeout(Duration::from_hours(1), pair.client.closed()).await.is_err());
    assert!(pair.client.round_trip().is_some());
    let traffic = pair.client.traffic();
    assert!(traffic.sent > 0 && traffic.sent < 250_000, "{traffic:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_or_a_driver_that_is_dropped_ends_the_link() {
    let (client, agent) = connect(MIB).await;
    let driver = tokio::spawn(client.driver.run());
    drop(agent.driver);
    assert!(matches!(agent.link.closed().await, LinkError::Abandoned));
    assert!(matches!(driver.await.unwrap(), LinkError::StreamEnded));
    assert!(matches!(client.link.closed().await, LinkError::StreamEnded));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_fails_closed() {
    let meet = async |says: &[u8], is_ended: bool| {
        let (ours, mut theirs) = duplex(MIB);
        theirs.write_all(says).await.unwrap();
        if is_ended {
            theirs.shutdown().await.unwrap();
        }
        let (reader, writer) = split(ours);
        let start = Instant::now();
        let error = establish(reader, writer, options(Role::Client)).await.unwrap_err();
        (error, start.elapsed())
    };
    let (error, after) = meet(b"", false).await;
    assert!(matches!(error, LinkError::Connection(ConnectionError::HandshakeTimeout { .. })), "{error:?}");
    assert_eq!(after, Duration::from_secs(5));
    let (error, after) = meet(b"bash: towline: command not found", false).await;
    let expected = HelloError::NotTowline { start: "bash: towline: command not found".to_owned() };
    assert!(matches!(&error, LinkError::Connection(ConnectionError::Hello(e)) if *e == expected));
    assert_eq!(after, Duration::ZERO);
    let hello = options(Role::Agent).hello.encode(Role::Agent);
    let (error, _) = meet(&hello[..30], true).await;
    assert!(matches!(error, LinkError::StreamEnded), "{error:?}");
}
