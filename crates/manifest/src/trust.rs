//! What a user should agree to once before a manifest from a repository is followed.

use std::path::PathBuf;

use crate::{
    dev::Dev,
    node::{Node, hash_text},
    problem::{Problems, Span},
};

/// A credential-like variable of the user's environment whose value would go into the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sensitive {
    /// The variable.
    pub variable: String,
    /// The field that it goes into, such as `dev.api.environment.TOKEN`.
    pub path: String,
    /// The name of the file that mentions it: the manifest, or one of its `envFiles`.
    pub file: String,
    /// Where in that file.
    pub span: Span,
}

/// A local path that leads out of the repository and would be read, and maybe written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    /// The path on this machine, symbolic links followed where they lead out.
    pub local: PathBuf,
    /// The field that names it, such as `dev.api.sync[0]`.
    pub path: String,
    /// Where in the manifest.
    pub span: Span,
}

/// What reading a manifest found that matters to trust, each with the path of its field.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) sensitive: Vec<Sensitive>,
    pub(crate) outside: Vec<Outside>,
    /// Warnings of credential-like variables whose values others could read.
    pub(crate) disclosures: Problems,
    /// Credential-like variables that env files mention, whether or not they are set.
    pub(crate) mentioned: Vec<(String, String)>,
    /// Where symbolic links in the repository lead out of it.
    pub(crate) linked: Vec<(String, PathBuf)>,
}

/// Returns true for a variable whose name says that its value may be a credential.
///
/// Errs on the side of asking: a question once is cheaper than a leaked token.
pub fn is_sensitive(name: &str) -> bool {
    const PARTS: [&str; 9] =
        ["KEY", "TOKEN", "SECRET", "PASS", "CREDENTIAL", "PRIVATE", "COOKIE", "AUTH", "_PWD"];
    const PREFIXES: [&str; 8] = ["AWS_", "AZURE_", "GITHUB_", "GITLAB_", "GOOGLE_", "KUBE", "SSH_", "VAULT_"];
    const SUFFIXES: [&str; 3] = ["DATABASE_URL", "_DSN", "CONNECTION_STRING"];
    let name = name.to_ascii_uppercase();
    PARTS.iter().any(|part| name.contains(part))
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// Returns what a dev service would be allowed that its workload may not be: a sentence each, for the
/// plan. They are part of the trust hash, so a change of them asks again.
pub fn privileges(dev: &Dev) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut say = |applies: bool, sentence: String| {
        if applies {
            sentences.push(sentence);
        }
    };
    let context = &dev.security_context;
    say(context.run_as_user == Some(0), "runs as root (securityContext.runAsUser: 0)".into());
    say(context.run_as_group == Some(0), "runs in root's group (securityContext.runAsGroup: 0)".into());
    say(context.fs_group == Some(0), "gives volumes to root's group (securityContext.fsGroup: 0)".into());
    say(
        context.run_as_non_root == Some(false),
        "lifts the ban on root (securityContext.runAsNonRoot: false)".into(),
    );
    say(
        context.allow_privilege_escalation == Some(true),
        "allows programs to gain rights (securityContext.allowPrivilegeEscalation: true)".into(),
    );
    say(
        context.read_only_root_filesystem == Some(false),
        "makes the image's files writable (securityContext.readOnlyRootFilesystem: false)".into(),
    );
    if !context.capabilities.add.is_empty() {
        let list = context.capabilities.add.join(", ");
        say(true, format!("adds capabilities: {list} (securityContext.capabilities.add)"));
    }
    if let Some(image) = &dev.image {
        say(true, format!("runs another image: {image}"));
    }
    if let Some(account) = &dev.service_account {
        say(true, format!("acts as the service account {account}"));
    }
    if let Some(class) = &dev.priority_class_name {
        say(true, format!("is scheduled with the priority class {class}"));
    }
    for toleration in &dev.tolerations {
        let key = toleration.key.as_deref().unwrap_or("every taint");
        say(true, format!("may run on nodes that are tainted: {key}"));
    }
    for reverse in &dev.reverse {
        let (remote, local) = (reverse.remote, reverse.local);
        say(true, format!("reaches port {local} of this machine from the pod's port {remote} (reverse)"));
    }
    sentences
}

/// Returns the hash that an agreement is bound to, as hexadecimal BLAKE3.
///
/// It covers the manifest's meaning before expansion (comments, styles, aliases and the order of keys
/// don't change it, nor does the user's environment), which credential-like variables its env files
/// mention, and where symbolic links lead out of the repository.
pub(crate) fn hash(manifest: &Node, findings: &Findings) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("towline 1 manifest trust");
    manifest.hash_into(&mut hasher);
    let mut hash_pairs = |pairs: Vec<(String, String)>| {
        hasher.update(&(pairs.len() as u64).to_le_bytes());
        for (a, b) in pairs {
            hash_text(&mut hasher, &a);
            hash_text(&mut hasher, &b);
        }
    };
    let mut mentioned = findings.mentioned.clone();
    mentioned.sort();
    mentioned.dedup();
    hash_pairs(mentioned);
    hash_pairs(
        findings.linked.iter().map(|(path, to)| (path.clone(), to.to_string_lossy().into_owned())).collect(),
    );
    hasher.finalize().to_hex().to_string()
}

/// Returns the hash of an agreement to both.
pub(crate) fn joined(one: &str, other: &str) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("towline 1 manifest trust");
    hash_text(&mut hasher, one);
    hash_text(&mut hasher, other);
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credential_like_names_are_known() {
        for name in [
            "AWS_SECRET_ACCESS_KEY",
            "AWS_PROFILE",
            "GITHUB_TOKEN",
            "GITHUB_ACTOR",
            "npm_token",
            "DB_PASSWORD",
            "PGPASSFILE",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "KUBECONFIG",
            "STRIPE_KEY",
            "MYSQL_PWD",
            "SSH_AUTH_SOCK",
            "DATABASE_URL",
            "SENTRY_DSN",
        ] {
            assert!(is_sensitive(name), "{name}");
        }
        for name in ["HOME", "USER", "PWD", "PATH", "OKTETO_NAMESPACE", "TAG", "SRC", "OLDPWD", "PORT"] {
            assert!(!is_sensitive(name), "{name}");
        }
    }
}
