//! The two small languages for amounts: Kubernetes quantities and Go's durations.

use std::time::Duration;

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
    let mut total = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (digits, unit) = rest.split_at(number);
        let length = unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len());
        if !is_decimal(digits) {
            return None;
        }
        let scale = match &unit[..length] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += digits.parse::<f64>().ok()? * scale;
        rest = &unit[length..];
    }
    let sane = !text.is_empty() && total <= f64::from(u32::MAX);
    if sane { Duration::try_from_secs_f64(total).ok() } else { None }
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
