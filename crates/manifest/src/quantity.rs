//! The two small languages for amounts: Kubernetes quantities and Go's durations.

use std::time::Duration;

/// The longest duration, in nanoseconds.
const MOST: u128 = u32::MAX as u128 * 1_000_000_000;

/// Returns true for an amount that Kubernetes takes for a resource, such as `500m`, `1Gi` or `2e3`.
pub(crate) fn is_quantity(text: &str) -> bool {
    let text = text.strip_prefix('+').unwrap_or(text);
    let number = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(number);
    if !is_decimal(digits) {
        return false;
    }
    match suffix {
        "" | "n" | "u" | "m" | "k" | "M" | "G" | "T" | "P" | "E" | "Ki" | "Mi" | "Gi" | "Ti" | "Pi"
        | "Ei" => true,
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).unwrap_or_default();
            let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            !exponent.is_empty() && exponent.len() <= 3 && exponent.bytes().all(|b| b.is_ascii_digit())
        }
    }
}

/// Returns the duration that `text` spells: Go's form (`1m30s`, `1.5h`, `300ms`) or plain seconds.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let mut rest = text;
    let mut total = 0u128;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (digits, unit) = rest.split_at(number);
        let length = unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len());
        let scale = match &unit[..length] {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        total += scaled(digits, scale)?;
        rest = &unit[length..];
    }
    let nanoseconds = u64::try_from(total).ok().filter(|_| !text.is_empty() && total <= MOST)?;
    Some(Duration::from_nanos(nanoseconds))
}

/// Returns a decimal number times `scale`, exactly, what is smaller than one dropped.
fn scaled(digits: &str, scale: u128) -> Option<u128> {
    if !is_decimal(digits) || digits.len() > 20 {
        return None;
    }
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let number = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u128>().ok() };
    let below = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some(number(whole)? * scale + number(fraction)? * scale / below)
}

fn is_decimal(digits: &str) -> bool {
    digits.bytes().filter(|byte| *byte == b'.').count() <= 1
        && digits.bytes().any(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for good in [
            "0", "1", "500m", "1.5", ".5", "5.", "1Gi", "128Mi", "1k", "1E", "2e3", "2E-3", "1Ei", "+1",
            "100n",
        ] {
            assert!(is_quantity(good), "{good}");
        }
        for bad in
            ["", "lots", "1GB", "1 Gi", "-1", "1.2.3", ".", "Gi", "1e", "1eX", "1gi", "1K", "1mi", "e3"]
        {
            assert!(!is_quantity(bad), "{bad}");
        }
    }

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("30", Some(30_000)),
            ("30s", Some(30_000)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("300ms", Some(300)),
            ("0", Some(0)),
            ("", None),
            ("-1", None),
            ("1d", None),
            ("s", None),
            ("1..2s", None),
            ("99999999h", None),
        ] {
            assert_eq!(duration(text), milliseconds.map(Duration::from_millis), "{text}");
        }
    }
}
