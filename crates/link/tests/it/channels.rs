//! Channels: bytes both ways, ends, resets, limits.

use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream, DuplexStream, ReadBuf, duplex,
};
use tokio::task::JoinSet;
use tokio::time::timeout;
use towline_link::{Compression, Config, Priority, ResetReason};

use crate::pair::{Pair, connect_over};

const MIB: usize = 1024 * 1024;

fn byte(at: usize) -> u8 {
    (at.wrapping_mul(31) ^ (at >> 9)).to_le_bytes()[0]
}

#[tokio::test(start_paused = true)]
async fn each_direction_ends_by_itself() {
    for buffer in [1, 7, 1000, MIB] {
        let mut pair = Pair::new(buffer).await;
        let mut asking = pair.client.open("for what", Priority::Normal).await.unwrap();
        asking.write_all(b"question").await.unwrap();
        asking.shutdown().await.unwrap();
        let (opening, mut answering) = pair.agent_incoming.accept().await.unwrap();
        assert_eq!(opening, "for what");
        let mut text = String::new();
        answering.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "question");
        answering.write_all(b"answer").await.unwrap();
        answering.shutdown().await.unwrap();
        drop(answering);
        text.clear();
        asking.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "answer");
    }
}

#[tokio::test(start_paused = true)]
async fn either_end_opens_and_a_reset_says_why() {
    let mut pair = Pair::new(MIB).await;
    let mut opened = pair.agent.open("reverse", Priority::Normal).await.unwrap();
    let (_, accepted) = pair.client_incoming.accept().await.unwrap();
    accepted.reset("connection refused");
    let mut buffer = [0; 10];
    let error = opened.read(&mut buffer).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(ResetReason::of(&error), Some(&ResetReason("connection refused".to_owned())));
    let error = opened.write(b"x").await.unwrap_err();
    assert_eq!(ResetReason::of(&error).unwrap().0, "connection refused");
    assert_eq!(opened.shutdown().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn what_was_finished_survives_a_later_drop() {
    let mut pair = Pair::new(MIB).await;
    let mut reading = pair.client.open("", Priority::Bulk).await.unwrap();
    let (_, mut writing) = pair.agent_incoming.accept().await.unwrap();
    // More than the stream and the window hold: the shutdown has to wait for the reader.
    let writer = tokio::spawn(async move {
        let bytes: Vec<u8> = (0..3 * MIB).map(byte).collect();
        writing.write_all(&bytes).await.unwrap();
        writing.shutdown().await.unwrap();
        drop(writing);
    });
    let mut bytes = Vec::new();
    reading.read_to_end(&mut bytes).await.unwrap();
    assert!(bytes.len() == 3 * MIB && bytes.iter().enumerate().all(|(at, b)| *b == byte(at)));
    writer.await.unwrap();
    // The other direction was not at its end.
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(reading.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_drop_before_the_end_is_no_end() {
    let mut pair = Pair::new(MIB).await;
    let mut reading = pair.client.open("", Priority::Normal).await.unwrap();
    let (_, mut writing) = pair.agent_incoming.accept().await.unwrap();
    writing.write_all(b"half of").await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    drop(writing);
    let mut bytes = Vec::new();
    assert_eq!(reading.read_to_end(&mut bytes).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(bytes, b"half of");
}

#[tokio::test(start_paused = true)]
async fn dropping_one_half_early_wakes_the_other() {
    let pair = Pair::new(MIB).await;
    let (mut reader, writer) = pair.client.open("", Priority::Normal).await.unwrap().split();
    let reading = tokio::spawn(async move { reader.read_u8().await.unwrap_err().kind() });
    tokio::task::yield_now().await;
    drop(writer);
    assert_eq!(reading.await.unwrap(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stalls_bounds_what_is_held_for_it() {
    let mut pair = Pair::new(MIB).await;
    let mut writing = pair.client.open("", Priority::Bulk).await.unwrap();
    let (_, mut reading) = pair.agent_incoming.accept().await.unwrap();
    let mut written = 0;
    let block: Vec<u8> = (0..512 * 64).map(byte).collect();
    while let Ok(result) =
        timeout(Duration::from_secs(1), writing.write(&block[written % block.len()..])).await
    {
        written += result.unwrap();
    }
    assert!((2 * MIB..=2 * MIB + 512 * 1024).contains(&written), "{written} bytes were taken");
    assert!(pair.agent.traffic().received < (2 * MIB + 64 * 1024) as u64);

    // Others are not held up, and slow reading gets everything in the end.
    let mut keys = pair.client.open("", Priority::Interactive).await.unwrap();
    keys.write_all(b"q").await.unwrap();
    let (_, mut terminal) = pair.agent_incoming.accept().await.unwrap();
    assert_eq!(terminal.read_u8().await.unwrap(), b'q');
    let total = 8 * MIB;
    let writer = tokio::spawn(async move {
        while written < total {
            let end = block.len().min(written % block.len() + total - written);
            written += writing.write(&block[written % block.len()..end]).await.unwrap();
        }
        writing.shutdown().await.unwrap();
        writing
    });
    let (mut read, mut buffer) = (0, vec![0; 50_000]);
    loop {
        let count = reading.read(&mut buffer).await.unwrap();
        if count == 0 {
            break;
        }
        assert!(buffer[..count].iter().zip(read..).all(|(b, at)| *b == byte(at % (512 * 64))));
        read += count;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(read, total);
    writer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_packed_arrives_and_is_counted_both_ways() {
    let config = Config { compression: Compression::Always, ..Config::default() };
    let mut pair = Pair::with_config(64 * 1024, &config).await;
    let text = "const answer = require('./answer');\n".repeat(30_000);
    for (from, incoming) in
        [(&pair.client, &mut pair.agent_incoming), (&pair.agent, &mut pair.client_incoming)]
    {
        let writing = from.open("", Priority::Bulk).await.unwrap();
        let (_, mut reading) = incoming.accept().await.unwrap();
        let sent = Bytes::from(text.clone());
        let writer = tokio::spawn(async move {
            let (reader, mut writer) = writing.split();
            writer.write_bytes(sent).await.unwrap();
            writer.shutdown().await.unwrap();
            (reader, writer)
        });
        let mut received = String::new();
        reading.read_to_string(&mut received).await.unwrap();
        assert!(received == text);
        writer.await.unwrap();
    }
    let (client, agent) = (pair.client.traffic(), pair.agent.traffic());
    for traffic in [client, agent] {
        let length = text.len() as u64;
        assert!(traffic.sent < length / 5 && traffic.received < length / 5, "{traffic:?}");
        assert!(traffic.sent_unpacked > length && traffic.received_unpacked > length, "{traffic:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn pieces_are_given_on_as_they_came() {
    let mut pair = Pair::new(64 * 1024).await;
    let writing = pair.client.open("", Priority::Bulk).await.unwrap();
    let (_, reading) = pair.agent_incoming.accept().await.unwrap();
    let (_reader, mut writer) = writing.split();
    let (mut reader, _writer) = reading.split();
    let sent: Bytes = (0..5 * MIB).map(byte).collect();
    let copy = sent.clone();
    let task = tokio::spawn(async move {
        writer.write_bytes(copy).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    // A part of a piece by copy, the rest of it as it is.
    received.push(reader.read_u8().await.unwrap());
    while let Some(piece) = reader.read_bytes().await.unwrap() {
        received.extend_from_slice(&piece);
    }
    assert!(received == sent);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn many_channels_at_once_keep_their_bytes_apart() {
    let mut pair = Pair::new(64 * 1024).await;
    let mut echoes = JoinSet::new();
    let mut askers = JoinSet::new();
    for number in 0..500usize {
        let link = pair.client.clone();
        askers.spawn(async move {
            let priority = Priority::ALL[number % 3];
            let (mut reader, mut writer) = link.open("", priority).await.unwrap().split();
            let sent: Vec<u8> = (0..3000).map(|at| byte(at + number * 7)).collect();
            let mut received = Vec::new();
            let (written, read) = tokio::join!(
                async {
                    writer.write_all(&sent).await?;
                    writer.shutdown().await
                },
                reader.read_to_end(&mut received)
            );
            written.unwrap();
            read.unwrap();
            assert!(sent == received);
        });
    }
    for _ in 0..500 {
        let (_, channel) = pair.agent_incoming.accept().await.unwrap();
        echoes.spawn(async move {
            let (mut reader, mut writer) = channel.split();
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            writer.shutdown().await.unwrap();
        });
    }
    while let Some(result) = askers.join_next().await {
        result.unwrap();
    }
    while let Some(result) = echoes.join_next().await {
        result.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_accepts_means_a_reset() {
    let mut pair = Pair::new(MIB).await;
    let mut waiting = pair.client.open("", Priority::Normal).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    drop(pair.agent_incoming);
    assert_eq!(waiting.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut late = pair.client.open("", Priority::Normal).await.unwrap();
    assert_eq!(late.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    // The other direction still works.
    let _opened = pair.agent.open("", Priority::Normal).await.unwrap();
    assert!(pair.client_incoming.accept().await.is_some());
}

/// Counts what reaches the stream.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn small_frames_travel_in_one_write() {
    let writes = Arc::new(AtomicUsize::new(0));
    let (client, agent) = duplex(MIB);
    let (client, mut agent) =
        connect_over(Counted(client, Arc::clone(&writes)), agent, &Config::default()).await;
    let mut drivers = JoinSet::new();
    drivers.spawn(client.driver.run());
    drivers.spawn(agent.driver.run());
    tokio::time::sleep(Duration::from_millis(10)).await;
    let before = writes.load(Ordering::Relaxed);
    let mut channels = Vec::new();
    for _ in 0..50 {
        let mut channel = client.link.open("", Priority::Normal).await.unwrap();
        channel.write_all(b"small").await.unwrap();
        channels.push(channel);
    }
    for _ in 0..50 {
        let (_, mut channel) = agent.incoming.accept().await.unwrap();
        channel.read_exact(&mut [0; 5]).await.unwrap();
    }
    let count = writes.load(Ordering::Relaxed) - before;
    assert!(count <= 2, "{count} writes");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_buffers_is_flushed() {
    let (client, agent) = duplex(MIB);
    let (client, mut agent) =
        connect_over(BufStream::new(client), BufStream::new(agent), &Config::default()).await;
    let mut drivers = JoinSet::new();
    drivers.spawn(client.driver.run());
    drivers.spawn(agent.driver.run());
    let mut channel = client.link.open("", Priority::Normal).await.unwrap();
    channel.write_all(b"small").await.unwrap();
    let (_, mut accepted) = agent.incoming.accept().await.unwrap();
    accepted.read_exact(&mut [0; 5]).await.unwrap();
}
