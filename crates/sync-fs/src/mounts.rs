//! Which folders and files inside a root are mounts of their own, from `/proc/self/mountinfo`.

use std::collections::BTreeSet;
use std::path::Path;

use towline_sync_core::path::RelPath;

/// Returns the mount points strictly below `root` (an absolute path without links).
pub(crate) fn below(root: &Path, mountinfo: &str) -> BTreeSet<RelPath> {
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter_map(unescape)
        .filter_map(|point| {
            let relative = Path::new(&point).strip_prefix(root).ok()?.to_str()?;
            RelPath::new(relative).ok()
        })
        .collect()
}

/// Undoes the kernel's octal escapes (`\040` for a space); `None` when the result is not UTF-8.
fn unescape(field: &str) -> Option<String> {
    let bytes = field.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let octal = (byte == b'\\').then(|| field.get(at + 1..at + 4)).flatten();
        if let Some(escaped) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            plain.push(escaped);
            at += 4;
        } else {
            plain.push(byte);
            at += 1;
        }
    }
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_lies_below() {
        let info = "22 1 0:20 / /proc rw - proc proc rw\n\
                    30 1 8:1 / / rw - ext4 /dev/sda rw\n\
                    31 30 8:2 / /app rw - ext4 /dev/sdb rw\n\
                    32 31 0:5 / /app/data\\040dir rw,relatime shared:1 - tmpfs tmpfs rw\n\
                    33 31 0:6 /sub /app/etc/config.json ro - tmpfs tmpfs rw\n\
                    34 31 0:6 / /application ro - tmpfs tmpfs rw\n\
                    short\n";
        let found: Vec<String> = below(Path::new("/app"), info).into_iter().map(String::from).collect();
        assert_eq!(found, ["data dir", "etc/config.json"]);
    }
}
