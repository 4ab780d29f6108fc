//! Kubernetes quantities: `500m` and `0.5` are the same amount, and the server stores its own way of writing it.

use serde_json::Value;

/// Tells whether two values are the same quantity. Amounts are compared in billionths; what is no quantity, or too
/// large for that, is the same only if it is written the same.
pub(crate) fn same_quantity(a: &Value, b: &Value) -> bool {
    a == b || billionths(a).is_some_and(|amount| billionths(b) == Some(amount))
}

fn billionths(value: &Value) -> Option<i128> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(&text)),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (binary, decimal) = scale(suffix)?;
    // digits × 1024^binary × 10^(decimal + 9 − fraction digits)
    let exponent = decimal.checked_add(9)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let amount = digits.checked_mul(1024_i128.checked_pow(binary)?)?;
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    let amount = if exponent >= 0 {
        amount.checked_mul(power)?
    } else {
        (amount % power == 0).then_some(amount / power)?
    };
    Some(sign * amount)
}

/// Returns the powers of 1024 and of 10 that a suffix stands for.
fn scale(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (1, 0),
        "Mi" => (2, 0),
        "Gi" => (3, 0),
        "Ti" => (4, 0),
        "Pi" => (5, 0),
        "Ei" => (6, 0),
        _ => (0, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_are_compared_not_texts() {
        let check =
            |a: Value, b: Value, expected: bool| assert_eq!(same_quantity(&a, &b), expected, "{a} {b}");
        check(json!("0.5"), json!("500m"), true);
        check(json!(1), json!("1"), true);
        check(json!(0.25), json!("250m"), true);
        check(json!("1024Mi"), json!("1Gi"), true);
        check(json!("1e3"), json!("1k"), true);
        check(json!("1E"), json!("1e18"), true);
        check(json!("1.5Gi"), json!("1536Mi"), true);
        check(json!("1G"), json!("1Gi"), false);
        check(json!("1"), json!("1m"), false);
        check(json!("-1"), json!("1"), false);
        check(json!(""), json!("0"), false);
        check(json!("x"), json!("x"), true);
        check(json!("1e999999999999"), json!("1"), false);
        check(json!("9".repeat(60)), json!("1"), false);
        check(json!("1.2.3"), json!("1"), false);
    }
}
