//! Reads from an ELF file whether it needs a loader. The few fields that this takes are read by hand.

use anyhow::{Context, Result, bail};

/// The program header of a dynamic loader's path.
const PT_INTERP: u32 = 3;

/// Returns `Ok` for a program that the kernel starts by itself: one without a loader.
pub(crate) fn is_static(bytes: &[u8]) -> Result<()> {
    if bytes.get(..6) != Some(b"\x7fELF\x02\x01") {
        bail!("not a little-endian 64-bit ELF file");
    }
    let start = usize::try_from(u64::from_le_bytes(field(bytes, 32)?))?;
    let size = usize::from(u16::from_le_bytes(field(bytes, 54)?));
    let count = usize::from(u16::from_le_bytes(field(bytes, 56)?));
    if count == 0 {
        bail!("no program headers");
    }
    for number in 0..count {
        let at = size.checked_mul(number).and_then(|offset| offset.checked_add(start));
        let kind = u32::from_le_bytes(field(bytes, at.context("program headers out of bounds")?)?);
        if kind == PT_INTERP {
            bail!("it needs a loader: program header {number} is PT_INTERP");
        }
    }
    Ok(())
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let end = at.checked_add(N).context("field out of bounds")?;
    Ok(bytes.get(at..end).context("the file ends too early")?.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(kinds: &[u32]) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01".to_vec();
        bytes.resize(64, 0);
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = u8::try_from(kinds.len()).unwrap();
        for kind in kinds {
            bytes.extend(kind.to_le_bytes());
            bytes.resize(bytes.len() + 52, 0);
        }
        bytes
    }

    #[test]
    fn a_loader_is_found_in_any_header() {
        is_static(&file(&[1, 2, 6])).unwrap();
        assert!(is_static(&file(&[1, 2, PT_INTERP])).is_err());
        assert!(is_static(&file(&[PT_INTERP])).is_err());
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert!(is_static(b"#!/bin/sh").is_err());
        assert!(is_static(&file(&[])).is_err());
        let whole = file(&[1, 1]);
        assert!(is_static(&whole[..whole.len() - 54]).is_err());
        let mut lost = file(&[1]);
        lost[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(is_static(&lost).is_err());
    }

    #[test]
    fn this_test_itself_needs_a_loader() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(is_static(&own).is_err(), cfg!(target_env = "gnu"));
    }
}
