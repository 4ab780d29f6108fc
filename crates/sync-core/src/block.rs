//! Block sums of a file: what a peer needs to find the parts it shares with another version.
//!
//! A signature has two levels. Every block has a strong sum of 24 bits, which tells whether the block is the same; the
//! blocks are small (128 bytes up to 64 KiB files, 4 KiB from 16 MiB on), so that an edit costs one of them. Every
//! 16th block of a large file, and every second one of a small one, is an *anchor*: a rolling sum of 32 bits besides lets it
//! be found at any offset, and the blocks around it are then compared one by one.
//!
//! - **Why 24 bits:** whoever builds a file from a delta compares the whole file's BLAKE3 in the end, so a chance
//!   match costs one more transfer, never a wrong file. A changed block passes for the old one once in 16 million
//!   times: on average 64 bytes for each changed block of a 1 GiB file, a sixtieth of the block. Each further byte
//!   would be a quarter of a megabyte in the signature of such a file, which must fit one message.
//! - **Why 128 bytes:** an edit of a small text costs a block of literals, and is the most frequent thing there is to
//!   send. The sums of small files take 3.9 % of their size, on the disk of the side that edits; with blocks of 256
//!   bytes and an anchor in each it would be 2.7 %, and an edit half as long again.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use serde::de::{DeserializeSeed, Error, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use twox_hash::XxHash3_64;

pub(crate) use self::layout::Layout;
use self::layout::{ROLLING_BYTES, STRONG_BYTES};
pub(crate) use self::rolling::{Filter, Rolling};

mod layout;
mod rolling;

/// The longest sums of a signature, in bytes: with them it fits a message.
pub const MAX_SUM_BYTES: usize = 1_011_712;
/// Bytes asked of a reader at once.
const READ_BYTES: usize = 64 * 1024;

/// The block sums of a file, from which a peer that holds a newer version computes a delta.
///
/// Which blocks there are follows from the file's size alone. A clone shares the sums. On the wire it is the size and
/// one run of bytes, whose length is checked against the size before it is copied.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature {
    size: u64,
    /// For each anchor its rolling sum and then the strong sums up to the next; all little endian.
    sums: Arc<[u8]>,
}

/// Why something is no signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The sums don't fit the file's size.
    #[error("signature of a file of {size} bytes has {sums} bytes of sums instead of {expected}")]
    Sums {
        /// The file's length in bytes.
        size: u64,
        /// What came, in bytes.
        sums: usize,
        /// What a file of that size has, in bytes.
        expected: usize,
    },
    /// The file was longer or shorter than it was said to be: it is changing.
    #[error("file of {size} bytes has {read} now")]
    Changed {
        /// What it was said to have, in bytes.
        size: u64,
        /// What it has, in bytes.
        read: u64,
    },
}

/// Returns how long the sums of a file of `size` bytes are, in bytes: at most [`MAX_SUM_BYTES`].
pub fn sum_bytes(size: u64) -> usize {
    Layout::of(size).sum_bytes()
}

impl Signature {
    /// Returns the signature of a file of `size` bytes with these [`sums`](Self::sums).
    pub fn new(size: u64, sums: &[u8]) -> Result<Self, SignatureError> {
        let expected = Layout::of(size).sum_bytes();
        if sums.len() == expected {
            Ok(Self { size, sums: sums.into() })
        } else {
            Err(SignatureError::Sums { size, sums: sums.len(), expected })
        }
    }

    /// Returns the file's length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the sums as they are kept and sent: with the size, all there is to it.
    pub fn sums(&self) -> &[u8] {
        &self.sums
    }

    /// Tells whether no block is known: the file is empty, or longer than 1 TiB.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// Tells whether this can be the signature of a file of `size` bytes.
    pub fn is_sound(&self, size: u64) -> bool {
        self.size == size
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::of(self.size)
    }

    /// Returns the strong sum of a block in this signature's layout; of a block that is not there, one that no block has.
    pub(crate) fn strong(&self, layout: Layout, block: usize) -> u32 {
        let sum = self.sums.get(layout.strong_at(block)..).and_then(<[u8]>::first_chunk);
        sum.map_or(u32::MAX, |[low, middle, high]: &[u8; STRONG_BYTES]| {
            u32::from_le_bytes([*low, *middle, *high, 0])
        })
    }

    /// Returns the rolling sum of an anchor in this signature's layout.
    pub(crate) fn rolling(&self, layout: Layout, anchor: usize) -> u32 {
        let at = layout.strong_at(anchor).saturating_sub(ROLLING_BYTES);
        let sum = self.sums.get(at..).and_then(<[u8]>::first_chunk);
        sum.map_or(0, |sum| u32::from_le_bytes(*sum))
    }

    /// Returns the anchors that have the full length: their block numbers and rolling sums.
    pub(crate) fn anchors(&self) -> impl Iterator<Item = (usize, u32)> {
        let layout = self.layout();
        let group = ROLLING_BYTES + layout.stride * STRONG_BYTES;
        let starts = (0..layout.blocks).step_by(layout.stride);
        starts.zip(self.sums.chunks(group)).filter_map(move |(block, sums)| {
            let sum = sums.first_chunk().filter(|_| layout.length(block) == Some(layout.block));
            sum.map(|sum| (block, u32::from_le_bytes(*sum)))
        })
    }
}

/// Returns the strong sum of a block: the low 24 bits of its XXH3.
#[expect(clippy::cast_possible_truncation, reason = "that is what is wanted")]
pub(crate) fn strong(block: &[u8]) -> u32 {
    XxHash3_64::oneshot(block) as u32 & 0x00ff_ffff
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signature").field("size", &self.size).finish_non_exhaustive()
    }
}

/// Signs a file while it is read for another purpose: takes its bytes in order, in pieces of any length.
#[derive(Debug, Clone)]
pub struct SignatureBuilder {
    size: u64,
    layout: Layout,
    sums: Vec<u8>,
    /// The number of the block that comes next.
    next: usize,
    /// The beginning of that block, where a piece ended inside it.
    partial: Vec<u8>,
    read: u64,
}

impl SignatureBuilder {
    /// Starts the signature of a file of `size` bytes.
    pub fn new(size: u64) -> Self {
        let layout = Layout::of(size);
        let sums = Vec::with_capacity(layout.sum_bytes());
        Self { size, layout, sums, next: 0, partial: Vec::new(), read: 0 }
    }

    /// Takes the next bytes. What goes beyond the size is only counted.
    pub fn push(&mut self, mut bytes: &[u8]) {
        self.read = self.read.saturating_add(bytes.len() as u64);
        while let Some(length) = self.layout.length(self.next)
            && !bytes.is_empty()
        {
            if self.partial.is_empty()
                && let Some((block, rest)) = bytes.split_at_checked(length)
            {
                self.block(block);
                bytes = rest;
                continue;
            }
            let (now, rest) = bytes.split_at(bytes.len().min(length - self.partial.len()));
            self.partial.extend_from_slice(now);
            bytes = rest;
            if self.partial.len() == length {
                let mut block = std::mem::take(&mut self.partial);
                self.block(&block);
                block.clear();
                self.partial = block;
            }
        }
    }

    fn block(&mut self, block: &[u8]) {
        if self.next.is_multiple_of(self.layout.stride) {
            self.sums.extend_from_slice(&Rolling::of(block).value().to_le_bytes());
        }
        self.sums.extend_from_slice(&strong(block).to_le_bytes()[..STRONG_BYTES]);
        self.next += 1;
    }

    /// Returns the signature, if the file had the length it was said to have.
    pub fn finish(self) -> Result<Signature, SignatureError> {
        if self.read == self.size {
            Ok(Signature { size: self.size, sums: self.sums.into() })
        } else {
            Err(SignatureError::Changed { size: self.size, read: self.read })
        }
    }
}

/// Signs the blocks of a file of `size` bytes, read from `reader`.
///
/// Fails with [`io::ErrorKind::UnexpectedEof`] where the file is shorter, and [`io::ErrorKind::InvalidData`] where it
/// is longer: it is changing.
pub fn sign(mut reader: impl Read, size: u64) -> io::Result<Signature> {
    let mut builder = SignatureBuilder::new(size);
    let mut buffer = vec![0; usize::try_from(size).map_or(READ_BYTES, |size| (size + 1).min(READ_BYTES))];
    while builder.read <= size {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => builder.push(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let kind = if builder.read < size { io::ErrorKind::UnexpectedEof } else { io::ErrorKind::InvalidData };
    builder.finish().map_err(|error| io::Error::new(kind, error))
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Run<'a>(&'a [u8]);
        impl Serialize for Run<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(self.0)
            }
        }
        let mut pair = serializer.serialize_tuple(2)?;
        pair.serialize_element(&self.size)?;
        pair.serialize_element(&Run(&self.sums))?;
        pair.end()
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(2, Pair)
    }
}

/// Reads a signature: its size, then its sums.
struct Pair;

impl<'de> Visitor<'de> for Pair {
    type Value = Signature;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size and block sums")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Signature, A::Error> {
        let missing = |index| A::Error::invalid_length(index, &self);
        let size = pair.next_element()?.ok_or_else(|| missing(0))?;
        pair.next_element_seed(Sums { size })?.ok_or_else(|| missing(1))
    }
}

/// Reads the sums of a file of a known size.
struct Sums {
    size: u64,
}

impl<'de> DeserializeSeed<'de> for Sums {
    type Value = Signature;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Signature, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Sums {
    type Value = Signature;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of block sums", Layout::of(self.size).sum_bytes())
    }

    fn visit_bytes<E: Error>(self, sums: &[u8]) -> Result<Signature, E> {
        Signature::new(self.size, sums).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_changing_file_is_an_error() {
        assert_eq!(sign(&b"abc"[..], 4).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(sign(&b"abc"[..], 2).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(sign(&[1; 9000][..], 0).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(
            sign(io::repeat(1).take(300_000), 300_001).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        assert!(sign(&b"abc"[..], 3).unwrap().is_sound(3));
        assert!(sign(&b""[..], 0).unwrap().is_empty());
    }

    #[test]
    fn sums_that_do_not_fit_the_size_are_refused() {
        let sound = sign(&[1; 3000][..], 3000).unwrap();
        assert_eq!(sound.sums().len(), 12 * 4 + 24 * 3);
        assert_eq!(Signature::new(3000, sound.sums()).as_ref(), Ok(&sound));
        for (size, sums) in [(3000, 83), (3000, 0), (0, 1), (u64::MAX, 7), (1 << 40, 84), (3073, 84)] {
            let error = Signature::new(size, &vec![0; sums]).unwrap_err();
            assert!(matches!(error, SignatureError::Sums { .. }), "{error}");
        }
        assert!(Signature::new(u64::MAX, &[]).unwrap().is_empty());
    }

    #[test]
    fn golden_bytes() {
        let bytes = postcard::to_stdvec(&sign(&[7; 300][..], 300).unwrap()).unwrap();
        // The size and the length, then for each second block the rolling sum (7 times each place, and 7 for each byte
        // from bit 24 on) and for each block the strong sum.
        let rolling = |length: u32| (7 * length * (length + 1) / 2 + ((7 * length) << 24)).to_le_bytes();
        let expected =
            [&[0xac, 2, 17][..], &rolling(128), &[112, 148, 243].repeat(2), &rolling(44), &[77, 128, 215]]
                .concat();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_length_that_lies_is_refused() {
        let mut bytes = postcard::to_stdvec(&sign(&[7; 300][..], 300).unwrap()).unwrap();
        assert!(postcard::from_bytes::<Signature>(&bytes).is_ok());
        bytes[..2].copy_from_slice(&[0xd8, 4]);
        assert!(postcard::from_bytes::<Signature>(&bytes).is_err(), "another size");
        assert!(postcard::from_bytes::<Signature>(&[0xac, 2, 0xff, 0xff, 0xff, 0xff, 0xf]).is_err());
        assert!(postcard::from_bytes::<Signature>(&[]).is_err());
    }

    proptest! {
        #[test]
        fn the_same_in_any_pieces(
            sums in prop::collection::vec(any::<u64>(), 0..100),
            size in 0usize..300_000,
            cuts in prop::collection::vec(1usize..9000, 1..40),
        ) {
            let content: Vec<u8> = sums.iter().flat_map(|sum| sum.to_le_bytes()).cycle().take(size).collect();
            let mut builder = SignatureBuilder::new(content.len() as u64);
            let mut rest = &content[..];
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(*cut));
                builder.push(now);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            let signature = builder.finish().unwrap();
            prop_assert_eq!(&signature, &sign(&content[..], content.len() as u64).unwrap());
            let bytes = postcard::to_stdvec(&signature).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Signature>(&bytes).unwrap(), signature);
        }
    }
}
