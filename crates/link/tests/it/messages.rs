//! Messages on a stream: framing, limits, cancel-safety.

use std::time::Duration;

use tokio::io::{AsyncWriteExt, duplex};
use tokio::time::timeout;
use towline_link::message::{MessageError, MessageReader, MessageWriter};
use towline_protocol::{DecodeError, MAX_MESSAGE_BYTES, ProcessInput};

/// Reads all messages that these bytes hold.
async fn read_all(bytes: &[u8]) -> Result<Vec<ProcessInput>, MessageError> {
    let mut reader = MessageReader::new(bytes);
    let mut messages = Vec::new();
    while let Some(message) = reader.next().await? {
        messages.push(message);
    }
    Ok(messages)
}

#[tokio::test(start_paused = true)]
async fn messages_arrive_in_order_and_end_cleanly() {
    let (ours, theirs) = duplex(1000);
    let sent: Vec<_> = (0..20).map(|size| ProcessInput::Input(vec![7; size * size * 600])).collect();
    let copy = sent.clone();
    let writing = tokio::spawn(async move {
        let mut writer = MessageWriter::new(theirs);
        for message in &copy {
            writer.send(message).await.unwrap();
        }
        writer.finish().await.unwrap();
    });
    let mut reader = MessageReader::new(ours);
    for message in &sent {
        assert_eq!(reader.next::<ProcessInput>().await.unwrap().as_ref(), Some(message));
    }
    assert!(reader.next::<ProcessInput>().await.unwrap().is_none());
    writing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_read_loses_nothing() {
    let (ours, mut theirs) = duplex(1000);
    let mut bytes = Vec::new();
    let mut writer = MessageWriter::new(&mut bytes);
    writer.send(&ProcessInput::Signal(15)).await.unwrap();
    writer.send(&ProcessInput::Input(b"hello".to_vec())).await.unwrap();
    let mut reader = MessageReader::new(ours);
    let mut messages = Vec::new();
    for byte in bytes {
        theirs.write_u8(byte).await.unwrap();
        if let Ok(message) = timeout(Duration::from_millis(1), reader.next::<ProcessInput>()).await {
            messages.push(message.unwrap().unwrap());
        }
    }
    assert_eq!(messages, [ProcessInput::Signal(15), ProcessInput::Input(b"hello".to_vec())]);
}

#[tokio::test]
async fn what_is_no_message_is_an_error() {
    let sound = [2, 0, 0, 0, 3, 30, 1, 0, 0, 0, 1];
    assert_eq!(read_all(&sound).await.unwrap(), [ProcessInput::Signal(15), ProcessInput::Close]);
    for length in [1, 3, 4, 5, 7, 10] {
        assert!(matches!(read_all(&sound[..length]).await, Err(MessageError::Truncated)), "{length}");
    }
    let too_long = read_all(&[1, 0, 4, 0]).await;
    assert!(matches!(too_long, Err(MessageError::Decode(DecodeError::TooLong { length: 0x40001 }))));
    let trailing = read_all(&[2, 0, 0, 0, 1, 1]).await;
    assert!(matches!(trailing, Err(MessageError::Decode(DecodeError::Trailing { count: 1 }))));
    let malformed = read_all(&[1, 0, 0, 0, 99]).await;
    assert!(matches!(malformed, Err(MessageError::Decode(DecodeError::Malformed(_)))));
}

#[tokio::test]
async fn the_limit_holds_for_both_directions() {
    let longest = ProcessInput::Input(vec![0; MAX_MESSAGE_BYTES - 4]);
    let longer = ProcessInput::Input(vec![0; MAX_MESSAGE_BYTES - 3]);
    let mut bytes = Vec::new();
    let mut writer = MessageWriter::new(&mut bytes);
    writer.send(&longest).await.unwrap();
    assert!(matches!(writer.send(&longer).await, Err(MessageError::TooLong { .. })));
    assert_eq!(read_all(&bytes).await.unwrap(), [longest]);
    let mut bytes = Vec::new();
    MessageWriter::with_limit(&mut bytes, MAX_MESSAGE_BYTES + 1).send(&longer).await.unwrap();
    assert!(read_all(&bytes).await.is_err());
    let mut reader = MessageReader::with_limit(&bytes[..], MAX_MESSAGE_BYTES + 1);
    assert_eq!(reader.next::<ProcessInput>().await.unwrap(), Some(longer));
}
