//! Finds the cluster: kubeconfig files, contexts, and what of them is refused.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::kube::Config;
use ::kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::KubeCluster;
use super::answer::words;
use super::transport::{Failure, Transport, make_client};
use crate::error::ClusterError;
use crate::port::{Cluster, Target};

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How many other names an error offers.
const MAX_NAMES: usize = 5;

/// Which cluster, and as whom.
#[derive(Debug, Clone, Default)]
pub struct ConnectOptions {
    /// The kubeconfig files, the first one to say something wins; `None` for the service account of the pod we run in.
    ///
    /// The caller reads `KUBECONFIG`, or names `~/.kube/config`. Files that are missing are passed over while one is
    /// there.
    pub kubeconfig: Option<Vec<PathBuf>>,
    /// The context; the kubeconfig's current one when `None`.
    pub context: Option<String>,
    /// The namespace; the context's, or else `default`, when `None`.
    pub namespace: Option<String>,
    /// Permits a server whose identity is not verified.
    pub allow_insecure: bool,
}

/// A context of the kubeconfig.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextInfo {
    /// Its name.
    pub name: String,
    /// The name of its cluster.
    pub cluster: String,
    /// The API server's address, empty if the cluster is not defined.
    pub server: String,
    /// Its namespace, if it names one.
    pub namespace: Option<String>,
    /// Whether it is the current one.
    pub current: bool,
}

/// Connects to a cluster. Nothing is sent yet; a credential plugin may run.
///
/// # Errors
/// `Config` when the kubeconfig can't be used, `Unauthorized` when its credential plugin fails.
pub async fn connect(options: ConnectOptions) -> Result<Arc<dyn Cluster>, ClusterError> {
    let Some(paths) = options.kubeconfig else { return in_cluster(options.namespace).await };
    let kubeconfig = read(&paths)?;
    let context = choose_context(&kubeconfig, options.context)?;
    let chosen = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &chosen)
        .await
        .map_err(|error| refused(format!("context `{context}`: {}", config_words(&error))))?;
    if !options.allow_insecure {
        check_secure(&context, &config)?;
    }
    if let Some(namespace) = options.namespace {
        config.default_namespace = namespace;
    }
    from_config(context, config).await
}

/// Connects to the cluster that this process runs in, as the pod's service account.
///
/// # Errors
/// `Config` when this process does not run in a pod.
pub async fn in_cluster(namespace: Option<String>) -> Result<Arc<dyn Cluster>, ClusterError> {
    let mut config = Config::incluster().map_err(|error| refused(format!("not in a pod: {error}")))?;
    if let Some(namespace) = namespace {
        config.default_namespace = namespace;
    }
    from_config("in-cluster".to_owned(), config).await
}

/// Lists the contexts of the kubeconfig files, in their order.
///
/// # Errors
/// `Config` when the files can't be read.
pub fn contexts(paths: &[PathBuf]) -> Result<Vec<ContextInfo>, ClusterError> {
    let kubeconfig = read(paths)?;
    let current = kubeconfig.current_context.unwrap_or_default();
    let clusters = kubeconfig.clusters;
    let server = |name: &str| {
        let cluster = clusters.iter().find(|cluster| cluster.name == name)?.cluster.as_ref()?;
        cluster.server.clone()
    };
    let contexts = kubeconfig.contexts.into_iter().map(|named| {
        let context = named.context.unwrap_or_default();
        ContextInfo {
            current: named.name == current,
            name: named.name,
            server: server(&context.cluster).unwrap_or_default(),
            cluster: context.cluster,
            namespace: context.namespace.filter(|namespace| !namespace.is_empty()),
        }
    });
    Ok(contexts.collect())
}

async fn from_config(context: String, mut config: Config) -> Result<Arc<dyn Cluster>, ClusterError> {
    // The client's own retries repeat writes after a 504, which may have taken place.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_LIMIT);
    if config.default_namespace.is_empty() {
        "default".clone_into(&mut config.default_namespace);
    }
    let target = Target {
        context: context.clone(),
        server: config.cluster_url.to_string().trim_end_matches('/').to_owned(),
        namespace: config.default_namespace.clone(),
        embedded: false,
    };
    let client = make_client(config.clone()).await.map_err(|failure| match failure {
        Failure::NoCredentials(message) => {
            ClusterError::Unauthorized { server: target.server.clone(), message }
        }
        Failure::NotSent { message, .. } | Failure::NoAnswer(message) => {
            refused(format!("context `{context}`: {message}"))
        }
        Failure::Refused(answer) => refused(format!("context `{context}`: {}", answer.message)),
    })?;
    let renewable = config.auth_info.exec.is_some();
    Ok(Arc::new(KubeCluster::with_transport(Transport::new(client, target, renewable.then_some(config)))))
}

fn read(paths: &[PathBuf]) -> Result<Kubeconfig, ClusterError> {
    let mut merged = None;
    for path in paths.iter().filter(|path| !path.as_os_str().is_empty()) {
        let one = match Kubeconfig::read_from(path) {
            Err(KubeconfigError::ReadConfig(error, _)) if error.kind() == std::io::ErrorKind::NotFound => {
                continue;
            }
            other => {
                other.map_err(|error| refused(format!("{}: {}", path.display(), config_words(&error))))?
            }
        };
        merged = Some(match merged {
            None => one,
            Some(before) => Kubeconfig::merge(before, one)
                .map_err(|error| refused(format!("{}: {}", path.display(), config_words(&error))))?,
        });
    }
    merged.ok_or_else(|| {
        let names: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        refused(format!("no such file: {}", names.join(", ")))
    })
}

fn choose_context(kubeconfig: &Kubeconfig, wanted: Option<String>) -> Result<String, ClusterError> {
    let names: Vec<&str> = kubeconfig.contexts.iter().map(|context| context.name.as_str()).collect();
    let current = kubeconfig.current_context.clone().filter(|name| !name.is_empty());
    let Some(context) = wanted.or(current) else {
        return Err(refused(format!("no context is chosen; there is {}", some_of(&names))));
    };
    if names.contains(&context.as_str()) {
        return Ok(context);
    }
    let near = nearest(&context, &names);
    Err(refused(if near.is_empty() {
        format!("no context `{context}`; there is {}", some_of(&names))
    } else {
        format!("no context `{context}`; did you mean {}?", some_of(&near))
    }))
}

fn some_of(names: &[&str]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let shown: Vec<_> = names.iter().take(MAX_NAMES).map(|name| format!("`{}`", words(name))).collect();
    let more = names.len().saturating_sub(MAX_NAMES);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

/// Returns the names that a slip of the keyboard or a part of the name could mean, the nearest first.
fn nearest<'a>(wanted: &str, names: &[&'a str]) -> Vec<&'a str> {
    let slips = (wanted.chars().count() / 3).max(2);
    let mut near: Vec<(usize, &str)> = names
        .iter()
        .map(|name| (distance(wanted, name), *name))
        .filter(|(distance, name)| *distance <= slips || (wanted.len() > 2 && name.contains(wanted)))
        .collect();
    near.sort_unstable();
    near.into_iter().map(|(_, name)| name).collect()
}

/// Counts the characters to insert, drop or change on the way from one text to the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, left) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, right) in to.iter().enumerate() {
            let changed = diagonal + usize::from(left != *right);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

/// Refuses a server that anyone on the way could play.
fn check_secure(context: &str, config: &Config) -> Result<(), ClusterError> {
    if config.accept_invalid_certs {
        return Err(refused(format!(
            "context `{context}` sets insecure-skip-tls-verify: anyone on the way could play the server"
        )));
    }
    let host = config.cluster_url.host().unwrap_or_default().trim_matches(['[', ']']);
    let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if config.cluster_url.scheme_str() != Some("https") && !here {
        return Err(refused(format!(
            "context `{context}` has a server without TLS ({}): anyone on the way could read the credentials",
            config.cluster_url
        )));
    }
    Ok(())
}

/// The first line only: the others quote the file, and it holds credentials.
fn config_words(error: &KubeconfigError) -> String {
    words(error.to_string().lines().next().unwrap_or_default())
}

fn refused(message: String) -> ClusterError {
    ClusterError::Config { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        let check = |from: &str, to: &str, expected: usize| {
            assert_eq!(distance(from, to), expected, "{from} {to}");
            assert_eq!(distance(to, from), expected, "{to} {from}");
        };
        check("", "", 0);
        check("prod", "prod", 0);
        check("prod", "prd", 1);
        check("staging", "stagign", 2);
        check("", "abc", 3);
        check("kitten", "sitting", 3);
    }
}
