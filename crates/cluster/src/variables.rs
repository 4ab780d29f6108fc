//! References from one variable of a container to another.

/// Replaces each `$(NAME)` by what `known` gives for the name. `$$` stands for `$`, and an unknown name stays as it is
/// (Kubernetes: "dependent environment variables").
pub fn expand<'v>(text: &str, known: impl Fn(&str) -> Option<&'v str>) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
            continue;
        }
        let named = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        if let Some((value, after)) = named.and_then(|(name, after)| Some((known(name)?, after))) {
            result.push_str(value);
            rest = after;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_as_kubernetes_does() {
        let known = |name: &str| match name {
            "A" => Some("1"),
            "B" => Some("$(A)"),
            _ => None,
        };
        let check = |text: &str, expected: &str| assert_eq!(expand(text, known), expected, "{text}");
        check("$(A)-$(A)", "1-1");
        check("$(B)", "$(A)");
        check("$$(A)", "$(A)");
        check("$(C) $A $", "$(C) $A $");
        check("$(A", "$(A");
        check("100$$", "100$");
    }
}
