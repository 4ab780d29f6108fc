//! Bytes, frames and multiplexed channels with flow control; a pipe that does not know what flows in it.
//!
//! Three protocol objects without input, output or clock make one end of a link: [`Inbound`] makes frames of the
//! stream's bytes, [`Mux`] knows the channels, [`Outbound`] makes bytes of frames. Their owner feeds them bytes and the
//! time, and takes bytes, events and the next deadline from them. `towline-link` is such an owner.
//!
//! A stream begins with one [`Hello`] each way, sent at once by both ends; after it come frames:
//!
//! | field | bytes | |
//! | --- | --- | --- |
//! | length | 4 | of the payload, at most [`frame::MAX_PAYLOAD_BYTES`] |
//! | kind | 1 | see [`Frame`] |
//! | channel | 4 | 0 for frames that concern the whole link |
//! | checksum | 8 | of the sender's nonce, the frame's number, the three fields above and the payload |
//! | payload | length | |
//!
//! All numbers are little-endian. The checksum is XXH3 (64 bits) of the nonce (16), the number (8), the three fields (9)
//! and the XXH3 of the payload (8): against accidents, not against forgers, of whom the stream below is to keep us. As
//! it covers the nonce and the number, a frame that is lost, repeated, moved or of another session is found out like a
//! flipped bit is.
//! Everything unexpected ends the link: there is no resynchronisation and no guess.

#![forbid(unsafe_code)]

pub mod credit;
pub mod error;
pub mod frame;
pub mod hello;
pub mod mux;
pub mod unzstd;

mod config;
mod inbound;
mod liveness;
mod outbound;
mod pace;
mod pack;

pub use crate::config::{Compression, Config};
pub use crate::error::{ConnectionError, FrameError, HelloError, OpenError, UnknownChannel, Violation};
pub use crate::frame::{ChannelId, Frame, Priority};
pub use crate::hello::{Hello, Role};
pub use crate::inbound::{Inbound, Received};
pub use crate::mux::{Event, Mux};
pub use crate::outbound::{Outbound, Outgoing};
