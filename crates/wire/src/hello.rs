//! The first bytes of each direction: who speaks, and in which format.
//!
//! | field | bytes | |
//! | --- | --- | --- |
//! | magic | 8 | `TOWLINE` and a zero byte |
//! | format | 2 | [`FORMAT`] |
//! | length | 2 | of the four fields that follow |
//! | role | 1 | 0 client, 1 agent |
//! | program | 32 | |
//! | nonce | 16 | |
//! | version | 1 to 64 | printable ASCII |
//! | checksum | 8 | the beginning of the BLAKE3 hash of everything above |

use crate::error::HelloError;

/// The version of the wire format; ends of another one don't talk.
pub const FORMAT: u16 = 2;
/// The longest version text, in bytes.
pub const MAX_VERSION_BYTES: usize = 64;
/// The longest hello, in bytes.
pub const MAX_HELLO_BYTES: usize = HEAD_BYTES + FIXED_BYTES + MAX_VERSION_BYTES + CHECKSUM_BYTES;

const MAGIC: [u8; 8] = *b"TOWLINE\0";
const HEAD_BYTES: usize = MAGIC.len() + 2 + 2;
const FIXED_BYTES: usize = 1 + 32 + 16;
const CHECKSUM_BYTES: usize = 8;
/// How much of a foreign program's first output an error shows.
const SHOWN_BYTES: usize = 200;

/// Which end of the link this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The end that started the link.
    Client,
    /// The end that was started for it.
    Agent,
}

impl Role {
    /// Returns the other end's.
    #[must_use]
    pub fn peer(self) -> Self {
        match self {
            Self::Client => Self::Agent,
            Self::Agent => Self::Client,
        }
    }
}

/// What one end says of itself.
///
/// Whether the peer's program is an acceptable one is for the owner of the link to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The BLAKE3 hash of the agent: its own, or the one that the client has for it.
    pub program: [u8; 32],
    /// For people: 1 to [`MAX_VERSION_BYTES`] characters of printable ASCII.
    pub version: String,
    /// Random, another one for each link.
    pub nonce: [u8; 16],
}

impl Hello {
    /// Returns the bytes that travel.
    ///
    /// A version outside its limits is mended (cut, other characters become `?`), as it is for people only.
    pub fn encode(&self, role: Role) -> Vec<u8> {
        let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
        let mut version: String = self.version.chars().map(printable).take(MAX_VERSION_BYTES).collect();
        if version.is_empty() {
            version.push('?');
        }
        let length = u16::try_from(FIXED_BYTES + version.len()).expect("the version was cut just above");
        let mut bytes = Vec::with_capacity(MAX_HELLO_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.push(match role {
            Role::Client => 0,
            Role::Agent => 1,
        });
        bytes.extend_from_slice(&self.program);
        bytes.extend_from_slice(&self.nonce);
        bytes.extend_from_slice(version.as_bytes());
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        bytes
    }

    /// Takes a hello from the front of `input`, which moves on past it; `None` when it is not yet complete.
    ///
    /// Fails at the first byte that can't belong to one.
    pub fn decode(input: &mut &[u8]) -> Result<Option<(Role, Self)>, HelloError> {
        let compared = input.len().min(MAGIC.len());
        if input[..compared] != MAGIC[..compared] {
            let start = &input[..input.len().min(SHOWN_BYTES)];
            return Err(HelloError::NotTowline { start: start.escape_ascii().to_string() });
        }
        let Some(head) = input.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let [.., f0, f1, l0, l1] = *head;
        let theirs = u16::from_le_bytes([f0, f1]);
        if theirs != FORMAT {
            return Err(HelloError::Format { theirs, ours: FORMAT });
        }
        let length = usize::from(u16::from_le_bytes([l0, l1]));
        if !(FIXED_BYTES + 1..=FIXED_BYTES + MAX_VERSION_BYTES).contains(&length) {
            return Err(HelloError::Length { length });
        }
        let Some((whole, rest)) = input.split_at_checked(HEAD_BYTES + length + CHECKSUM_BYTES) else {
            return Ok(None);
        };
        let (covered, sum) = whole.split_at(HEAD_BYTES + length);
        if sum != checksum(covered) {
            return Err(HelloError::Checksum);
        }
        let (fixed, version) = covered[HEAD_BYTES..].split_at(FIXED_BYTES);
        let role = match fixed[0] {
            0 => Role::Client,
            1 => Role::Agent,
            _ => return Err(HelloError::Malformed { field: "role" }),
        };
        if !version.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') {
            return Err(HelloError::Malformed { field: "version" });
        }
        let mut hello =
            Self { program: [0; 32], version: String::from_utf8_lossy(version).into_owned(), nonce: [0; 16] };
        hello.program.copy_from_slice(&fixed[1..33]);
        hello.nonce.copy_from_slice(&fixed[33..]);
        *input = rest;
        Ok(Some((role, hello)))
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..CHECKSUM_BYTES]);
    checksum
}
