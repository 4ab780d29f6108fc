//! Bytes, frames and multiplexed channels with flow control; a pipe that does not know what flows in it.
