//! Every message of the agent's protocol, from bytes of a peer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use towline_protocol::{
    ChannelRequest, ControlReply, ControlRequest, ProcessInput, ProcessOutput, decode, encode,
};

/// What decodes, encodes to bytes that decode to the same.
macro_rules! check {
    ($bytes:expr, $($message:ty),+) => {$(
        if let Ok(message) = decode::<$message>($bytes) {
            assert_eq!(decode::<$message>(&encode(&message)).expect("an encoded message decodes"), message);
        }
    )+};
}

fuzz_target!(|data: &[u8]| {
    check!(data, ChannelRequest, ControlRequest, ControlReply, ProcessInput, ProcessOutput);
});
