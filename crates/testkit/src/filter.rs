//! Takes out of a text what differs each time.

/// Replaces each RFC 3339 time in UTC by `[TIME]`.
pub fn times(text: &str) -> String {
    const SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    replace(text, "[TIME]", |rest| {
        let fits = rest.len() > SHAPE.len()
            && rest
                .iter()
                .zip(SHAPE)
                .all(|(byte, shape)| if *shape == b'd' { byte.is_ascii_digit() } else { byte == shape });
        let fraction =
            rest.get(SHAPE.len()..)?.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
        let end = SHAPE.len() + fraction;
        (fits && rest[end] == b'Z').then_some(end + 1)
    })
}

/// Replaces each hexadecimal number of 64 digits by `[HASH]`.
pub fn hashes(text: &str) -> String {
    const DIGITS: usize = 64;
    replace(text, "[HASH]", |rest| {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        (digits == DIGITS).then_some(DIGITS)
    })
}

/// Removes spaces at the ends of lines.
pub fn trailing_spaces(text: &str) -> String {
    text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Replaces what `find` says is so many bytes long, wherever it begins.
fn replace(text: &str, by: &str, find: impl Fn(&[u8]) -> Option<usize>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(character) = text[at..].chars().next() {
        if let Some(length) = find(&text.as_bytes()[at..]) {
            out.push_str(by);
            at += length;
        } else {
            out.push(character);
            at += character.len_utf8();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_each_time_goes() {
        let check =
            |filter: fn(&str) -> String, text: &str, expected: &str| assert_eq!(filter(text), expected);
        check(times, "at 2026-11-21T12:05:02.123Z, ↔", "at [TIME], ↔");
        check(times, "at 2026-11-21T12:05:02Z", "at [TIME]");
        check(times, "on 2026-11-21", "on 2026-11-21");
        check(times, "2026-11-21T12:05:02", "2026-11-21T12:05:02");
        let hash = "0123456789abcdef".repeat(4);
        check(hashes, &format!("hash {hash}!"), "hash [HASH]!");
        check(hashes, "deadbeef", "deadbeef");
        check(trailing_spaces, "a  \n b\n", "a\n b\n");
    }
}
