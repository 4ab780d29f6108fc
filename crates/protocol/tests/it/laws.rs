//! Laws of the encoding: round trips, and nothing but an error for foreign bytes.

use std::fmt::Debug;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use towline_protocol::{
    AgentStatus, ChannelRequest, ControlReply, ControlRequest, DecodeError, ExitStatus, MAX_MESSAGE_BYTES,
    ProcessInput, ProcessOutput, ProcessSpec, ProcessState, Refusal, Started, TerminalSize, decode,
    decode_within, encode,
};

fn terminal_size() -> impl Strategy<Value = TerminalSize> {
    any::<(u16, u16)>().prop_map(|(rows, columns)| TerminalSize { rows, columns })
}

fn process_spec() -> impl Strategy<Value = ProcessSpec> {
    let text = || "\\PC{0,20}";
    (vec(text(), 0..4), vec((text(), text()), 0..4), option::of(text()), option::of(terminal_size()))
        .prop_map(|(argv, environment, workdir, terminal)| ProcessSpec {
            argv,
            environment,
            workdir,
            terminal,
        })
}

fn channel_request() -> impl Strategy<Value = ChannelRequest> {
    prop_oneof![
        Just(ChannelRequest::Control),
        (any::<u64>(), option::of(terminal_size()))
            .prop_map(|(seen, size)| ChannelRequest::Attach { seen, size }),
        process_spec().prop_map(ChannelRequest::Exec),
        (".{0,30}", any::<u16>()).prop_map(|(host, port)| ChannelRequest::Forward { host, port }),
        Just(ChannelRequest::Sync),
        any::<u16>().prop_map(|port| ChannelRequest::Reverse { port }),
    ]
}

fn control_request() -> impl Strategy<Value = ControlRequest> {
    prop_oneof![
        Just(ControlRequest::Status),
        process_spec().prop_map(ControlRequest::Start),
        any::<u32>().prop_map(|grace_milliseconds| ControlRequest::Stop { grace_milliseconds }),
        any::<(u16, bool)>().prop_map(|(port, everywhere)| ControlRequest::Listen { port, everywhere }),
        Just(ControlRequest::Environment),
    ]
}

fn refusal() -> impl Strategy<Value = Refusal> {
    (any::<i32>(), ".{0,40}").prop_map(|(errno, message)| Refusal { errno, message })
}

fn exit_status() -> impl Strategy<Value = ExitStatus> {
    prop_oneof![any::<i32>().prop_map(ExitStatus::Code), any::<i32>().prop_map(ExitStatus::Signal)]
}

fn agent_status() -> impl Strategy<Value = AgentStatus> {
    let process = prop_oneof![
        Just(ProcessState::Idle),
        any::<u32>().prop_map(|pid| ProcessState::Running { pid }),
        exit_status().prop_map(ProcessState::Exited),
    ];
    (any::<[u8; 16]>(), any::<u32>(), any::<u32>(), ".{0,30}", process).prop_map(
        |(instance, uid, gid, workdir, process)| AgentStatus { instance, uid, gid, workdir, process },
    )
}

fn control_reply() -> impl Strategy<Value = ControlReply> {
    prop_oneof![
        agent_status().prop_map(ControlReply::Status),
        prop_oneof![Just(Started::Now), Just(Started::Already)].prop_map(ControlReply::Started),
        Just(ControlReply::Stopped),
        Just(ControlReply::Listening),
        refusal().prop_map(ControlReply::Failed),
        vec(any::<u8>(), 0..300).prop_map(ControlReply::Environment),
    ]
}

fn process_input() -> impl Strategy<Value = ProcessInput> {
    prop_oneof![
        vec(any::<u8>(), 0..300).prop_map(ProcessInput::Input),
        Just(ProcessInput::Close),
        terminal_size().prop_map(ProcessInput::Resize),
        any::<i32>().prop_map(ProcessInput::Signal),
    ]
}

fn process_output() -> impl Strategy<Value = ProcessOutput> {
    prop_oneof![
        vec(any::<u8>(), 0..300).prop_map(ProcessOutput::Output),
        vec(any::<u8>(), 0..300).prop_map(ProcessOutput::Error),
        any::<u64>().prop_map(ProcessOutput::Skipped),
        exit_status().prop_map(ProcessOutput::Exited),
        refusal().prop_map(ProcessOutput::Failed),
    ]
}

/// What holds for every message: it comes back, and neither a part of it nor more than it is a message.
fn check<T: Serialize + DeserializeOwned + Debug + PartialEq>(message: &T) {
    let mut bytes = encode(message);
    assert_eq!(&decode::<T>(&bytes).unwrap(), message);
    for length in 0..bytes.len() {
        assert!(matches!(decode::<T>(&bytes[..length]), Err(DecodeError::Malformed(_))), "{length} bytes");
    }
    bytes.push(0);
    assert!(matches!(decode::<T>(&bytes), Err(DecodeError::Trailing { count: 1 })));
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(
        channel_request in channel_request(),
        control_request in control_request(),
        control_reply in control_reply(),
        process_input in process_input(),
        process_output in process_output(),
    ) {
        check(&channel_request);
        check(&control_request);
        check(&control_reply);
        check(&process_input);
        check(&process_output);
    }

    #[test]
    fn arbitrary_bytes_are_a_message_or_an_error(bytes in vec(any::<u8>(), 0..400)) {
        // A message that is read is one that could have been sent.
        fn check<T: Serialize + DeserializeOwned + Debug + PartialEq>(bytes: &[u8]) {
            if let Ok(message) = decode::<T>(bytes) {
                assert_eq!(decode::<T>(&encode(&message)).unwrap(), message);
            }
        }
        check::<ChannelRequest>(&bytes);
        check::<ControlRequest>(&bytes);
        check::<ControlReply>(&bytes);
        check::<ProcessInput>(&bytes);
        check::<ProcessOutput>(&bytes);
    }
}

#[test]
fn a_message_over_the_limit_is_refused_whatever_it_holds() {
    let longest = |limit: usize| {
        // The variant, and the length in three bytes.
        let message = ProcessInput::Input(vec![b'x'; limit - 4]);
        let bytes = encode(&message);
        assert_eq!(bytes.len(), limit);
        bytes
    };
    assert!(decode::<ProcessInput>(&longest(MAX_MESSAGE_BYTES)).is_ok());
    let over = longest(MAX_MESSAGE_BYTES + 1);
    let length = over.len();
    assert!(matches!(decode::<ProcessInput>(&over), Err(DecodeError::TooLong { length: l }) if l == length));
    assert!(decode_within::<ProcessInput>(&over, length).is_ok());
    assert!(matches!(decode_within::<ProcessInput>(&over, 10), Err(DecodeError::TooLong { .. })));
}

#[test]
fn an_announced_length_is_no_reason_to_allocate() {
    // A list of 2^35 arguments, of which none follows.
    let bytes = [2, 0x80, 0x80, 0x80, 0x80, 0x80, 1];
    assert!(matches!(decode::<ChannelRequest>(&bytes), Err(DecodeError::Malformed(_))));
    // 4 GiB of input, of which one byte follows.
    let bytes = [0, 0xff, 0xff, 0xff, 0xff, 0x0f, 1];
    assert!(matches!(decode::<ProcessInput>(&bytes), Err(DecodeError::Malformed(_))));
}

#[test]
fn an_exit_status_gives_the_code_of_a_shell() {
    let check = |status: ExitStatus, expected| assert_eq!(status.code(), expected);
    check(ExitStatus::Code(0), 0);
    check(ExitStatus::Code(3), 3);
    check(ExitStatus::Signal(9), 137);
    check(ExitStatus::Signal(15), 143);
}
