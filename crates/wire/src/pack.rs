//! Packs the data of one direction.

use bytes::{BufMut, BytesMut};

use crate::frame::{Kind, MAX_DATA_BYTES};
use crate::hello::Role;

/// Below this, packing is not worth its time, in bytes.
const MIN_BYTES: usize = 128;
/// How much of a payload is looked at before it is packed, in pieces from all over it.
const PROBE_BYTES: usize = 4 * 1024;
const PROBE_PIECE_BYTES: usize = 256;
/// So many payloads at most are skipped after some that did not shrink, before the next is tried.
const MAX_SKIPPED: u32 = 16;

/// Returns how many bytes packing saved; below 0 when it did not pay.
pub(crate) fn saved(raw: usize, packed: usize) -> i64 {
    // Both are at most the length of a payload.
    i64::try_from(raw).unwrap_or(i64::MAX) - i64::try_from(packed).unwrap_or(i64::MAX)
}

/// Packs payloads, each of which goes out when it was packed: with zstd all of them are one stream.
#[derive(Debug)]
pub(crate) struct Packer {
    coder: Coder,
    /// Payloads left to be skipped, and how many that will be after the next disappointment.
    skip: u32,
    next_skip: u32,
}

impl Packer {
    /// The client packs with zstd, which an agent has the small half of; the agent, which often has half a processor,
    /// with lz4. So does a client that was built without.
    pub(crate) fn new(role: Role) -> Self {
        let coder = match role {
            #[cfg(feature = "zstd-encoder")]
            Role::Client => Coder::Zstd(Zstd::default()),
            _ => Coder::Lz4,
        };
        Self { coder, skip: 0, next_skip: 0 }
    }

    /// Returns the payload that is to travel for `bytes`, and its kind; `None` when they are better sent as they are.
    pub(crate) fn pack(&mut self, bytes: &[u8]) -> Option<(Kind, BytesMut)> {
        if !(MIN_BYTES..=MAX_DATA_BYTES).contains(&bytes.len()) {
            return None;
        }
        if self.skip > 0 || !is_compressible(bytes) {
            self.skip = self.skip.saturating_sub(1);
            return None;
        }
        let mut out = BytesMut::new();
        out.put_u32_le(u32::try_from(bytes.len()).ok()?);
        let kind = self.coder.pack(bytes, &mut out)?;
        if out.len() > bytes.len() / 16 * 15 {
            self.next_skip = (self.next_skip * 2).clamp(1, MAX_SKIPPED);
            self.skip = self.next_skip;
        } else {
            self.next_skip = 0;
        }
        Some((kind, out))
    }
}

/// Returns whether the bytes look as if they would shrink: in a sample, some occur clearly more often than others.
fn is_compressible(bytes: &[u8]) -> bool {
    let mut counts = [0u32; 256];
    let mut sampled = 0u32;
    let stride = (bytes.len() / (PROBE_BYTES / PROBE_PIECE_BYTES)).max(PROBE_PIECE_BYTES);
    for piece in bytes.chunks(stride) {
        for byte in piece.iter().take(PROBE_PIECE_BYTES) {
            counts[usize::from(*byte)] += 1;
            sampled += 1;
        }
    }
    // How many pairs of equal bytes there are, against what chance gives: 1/256 of all pairs.
    let pairs: u64 = counts.iter().map(|count| u64::from(*count) * u64::from(count.saturating_sub(1))).sum();
    let chance = u64::from(sampled) * u64::from(sampled.saturating_sub(1)) / 256;
    pairs * 4 > chance * 5 + 4 * 256
}

#[derive(Debug)]
enum Coder {
    /// One stream for the whole direction, so that what was sent before is known to what follows.
    #[cfg(feature = "zstd-encoder")]
    Zstd(Zstd),
    /// Each payload by itself.
    Lz4,
}

impl Coder {
    fn pack(&mut self, bytes: &[u8], out: &mut BytesMut) -> Option<Kind> {
        match self {
            #[cfg(feature = "zstd-encoder")]
            Self::Zstd(zstd) => zstd.pack(bytes, out),
            Self::Lz4 => {
                let start = out.len();
                out.resize(start + lz4_flex::block::get_maximum_output_size(bytes.len()), 0);
                let length = lz4_flex::block::compress_into(bytes, &mut out[start..]).ok()?;
                out.truncate(start + length);
                Some(Kind::DataLz4)
            }
        }
    }
}

#[cfg(feature = "zstd-encoder")]
#[derive(Default)]
struct Zstd(Option<zstd::stream::raw::Encoder<'static>>);

#[cfg(feature = "zstd-encoder")]
impl Zstd {
    /// Of zstd's levels the one beyond which a little more costs a lot.
    const LEVEL: i32 = 3;
    /// What the beginning of the stream and the flush of a piece take beside zstd's own bound, in bytes.
    const SLACK_BYTES: usize = 64;

    fn pack(&mut self, bytes: &[u8], out: &mut BytesMut) -> Option<Kind> {
        use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

        if self.0.is_none() {
            let mut encoder = Encoder::new(Self::LEVEL).ok()?;
            encoder.set_parameter(CParameter::WindowLog(crate::unzstd::WINDOW_LOG)).ok()?;
            self.0 = Some(encoder);
        }
        let encoder = self.0.as_mut()?;
        let start = out.len();
        out.resize(start + zstd::zstd_safe::compress_bound(bytes.len()) + Self::SLACK_BYTES, 0);
        let mut packed = OutBuffer::around(&mut out[start..]);
        let mut raw = InBuffer::around(bytes);
        let mut is_sound = true;
        while is_sound && raw.pos < bytes.len() {
            is_sound = encoder.run(&mut raw, &mut packed).is_ok();
        }
        let is_flushed = is_sound && encoder.flush(&mut packed).is_ok_and(|left| left == 0);
        assert!(is_flushed, "zstd needs no more room than its own bound");
        let length = packed.pos();
        out.truncate(start + length);
        Some(Kind::DataZstd)
    }
}

#[cfg(feature = "zstd-encoder")]
impl std::fmt::Debug for Zstd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zstd").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_will_not_shrink_is_told_by_a_look() {
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        })
        .take(100_000)
        .collect();
        let text = "const answer = require('./answer');\n".repeat(1000);
        let hex: Vec<u8> = noise.iter().map(|byte| b"0123456789abcdef"[usize::from(byte % 16)]).collect();
        for length in [200, 4000, 100_000] {
            assert!(!is_compressible(&noise[..length]), "{length} random bytes");
            assert!(is_compressible(&hex[..length]), "{length} digits");
            assert!(is_compressible(&text.as_bytes()[..length.min(text.len())]), "{length} bytes of text");
        }
    }
}
