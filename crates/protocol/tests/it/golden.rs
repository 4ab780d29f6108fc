//! The format, variant by variant. An agent in a pod may be older than the tool: a change here is a new format.

use serde::Serialize;
use towline_protocol::{
    AgentStatus, ChannelRequest, ControlReply, ControlRequest, ExitStatus, ProcessInput, ProcessOutput,
    ProcessSpec, ProcessState, Refusal, Started, TerminalSize, encode,
};

fn check<T: Serialize>(message: &T, expected: &[u8]) {
    assert_eq!(encode(message), expected, "{}", String::from_utf8_lossy(expected));
}

const SIZE: TerminalSize = TerminalSize { rows: 24, columns: 80 };

fn spec() -> ProcessSpec {
    ProcessSpec {
        argv: vec!["sh".to_owned()],
        environment: vec![("A".to_owned(), "b".to_owned())],
        workdir: Some("/w".to_owned()),
        terminal: Some(SIZE),
    }
}

const SPEC: &[u8] = b"\x01\x02sh\x01\x01A\x01b\x01\x02/w\x01\x18\x50";

fn with(first: &[u8], rest: &[u8]) -> Vec<u8> {
    [first, rest].concat()
}

fn refusal() -> Refusal {
    Refusal { errno: 2, message: "no".to_owned() }
}

#[test]
fn channel_requests() {
    check(&ChannelRequest::Control, b"\0");
    check(&ChannelRequest::Attach { seen: 300, size: None }, b"\x01\xac\x02\0");
    check(&ChannelRequest::Attach { seen: 0, size: Some(SIZE) }, b"\x01\0\x01\x18\x50");
    check(&ChannelRequest::Exec(spec()), &with(b"\x02", SPEC));
    check(&ChannelRequest::Forward { host: "db".to_owned(), port: 5432 }, b"\x03\x02db\xb8\x2a");
    check(&ChannelRequest::Sync, b"\x04");
    check(&ChannelRequest::Reverse { port: 80 }, b"\x05\x50");
}

#[test]
fn control_requests() {
    check(&ControlRequest::Status, b"\0");
    check(&ControlRequest::Start(spec()), &with(b"\x01", SPEC));
    check(&ControlRequest::Stop { grace_milliseconds: 10_000 }, b"\x02\x90\x4e");
    check(&ControlRequest::Listen { port: 9000, everywhere: false }, b"\x03\xa8\x46\0");
    check(&ControlRequest::Listen { port: 80, everywhere: true }, b"\x03\x50\x01");
    check(&ControlRequest::Usage, b"\x04");
    check(&ControlRequest::Environment, b"\x05");
}

#[test]
fn control_replies() {
    let status = |process| {
        ControlReply::Status(AgentStatus {
            instance: *b"0123456789abcdef",
            uid: 1234,
            gid: 0,
            workdir: "/app".to_owned(),
            process,
        })
    };
    let head = b"\x000123456789abcdef\xd2\x09\0\x04/app";
    check(&status(ProcessState::Idle), &with(head, b"\0"));
    check(&status(ProcessState::Running { pid: 7 }), &with(head, b"\x01\x07"));
    check(&status(ProcessState::Exited(ExitStatus::Code(1))), &with(head, b"\x02\0\x02"));
    check(&ControlReply::Started(Started::Now), b"\x01\0");
    check(&ControlReply::Started(Started::Already), b"\x01\x01");
    check(&ControlReply::Stopped, b"\x02");
    check(&ControlReply::Listening, b"\x03");
    check(&ControlReply::Failed(refusal()), b"\x04\x04\x02no");
    check(&ControlReply::Environment(b"A=b\0".to_vec()), b"\x06\x04A=b\0");
}

#[test]
fn process_inputs() {
    check(&ProcessInput::Input(b"ls".to_vec()), b"\0\x02ls");
    check(&ProcessInput::Close, b"\x01");
    check(&ProcessInput::Resize(SIZE), b"\x02\x18\x50");
    check(&ProcessInput::Signal(15), b"\x03\x1e");
}

#[test]
fn process_outputs() {
    check(&ProcessOutput::Output(b"a\n".to_vec()), b"\0\x02a\n");
    check(&ProcessOutput::Error(b"b".to_vec()), b"\x01\x01b");
    check(&ProcessOutput::Skipped(128), b"\x02\x80\x01");
    check(&ProcessOutput::Exited(ExitStatus::Code(-1)), b"\x03\0\x01");
    check(&ProcessOutput::Exited(ExitStatus::Signal(9)), b"\x03\x01\x12");
    check(&ProcessOutput::Failed(refusal()), b"\x04\x04\x02no");
}
