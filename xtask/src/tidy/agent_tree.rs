//! What the agent is made of: it travels through the API server, so it stays small.

use super::Finding;

/// Asks cargo for the agent's packages and their features, a line each.
pub(super) const ARGUMENTS: &[&str] = &[
    "tree",
    "--locked",
    "-p",
    "towline-agent",
    "--target",
    "x86_64-unknown-linux-musl",
    "-e",
    "normal,build,features",
    "--prefix",
    "none",
];
/// Packages that the agent never has.
const BANNED: &[&str] =
    &["kube", "k8s-openapi", "clap", "serde_json", "anyhow", "hyper", "rustls", "towline-manifest"];
/// Features that bring what the agent does not need: package and feature.
const BANNED_FEATURES: &[(&str, &str)] = &[("tokio", "full"), ("tokio", "rt-multi-thread")];
const FILE: &str = "crates/agent/Cargo.toml";

/// Checks what cargo answered.
pub(super) fn check(tree: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |message: String| {
        let finding = Finding::new(FILE, 1, message);
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    };
    for line in tree.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [package, "feature", feature, ..] => {
                let feature = feature.trim_matches('"');
                if BANNED_FEATURES.contains(&(package, feature)) {
                    say(format!("the agent's tree has {package} with feature {feature}"));
                }
            }
            [package, ..] if BANNED.contains(package) => say(format!("the agent's tree has {package}")),
            _ => {}
        }
    }
    if !tree.contains("towline-agent") {
        say("cargo tree says nothing about the agent".to_owned());
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heavy_packages_are_found() {
        let check = |line: &str, wanted: usize| {
            let tree = format!("towline-agent v0.1.0 (/w)\n{line}\n{line} (*)\n");
            assert_eq!(check(&tree).len(), wanted, "{line}");
        };
        check("tokio v1.54.0", 0);
        check("tokio feature \"net\"", 0);
        check("serde v1.0.0", 0);
        check("tokio feature \"full\"", 1);
        check("serde_json v1.0.0", 1);
        check("clap v4.6.0", 1);
    }

    #[test]
    fn an_empty_answer_is_no_good_news() {
        assert_eq!(check("").len(), 1);
    }
}
