//! Where a command works: which cluster, which namespace, which folder of this machine.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use etcetera::BaseStrategy;
use towline_cluster::Cluster;
use towline_cluster::embedded::{self, EmbeddedOptions};
use towline_cluster::kube::{self, ConnectOptions};
use towline_session::Context;

use crate::agent;
use crate::args::Global;
use crate::diagnose::Failure;
use crate::env_vars;
use crate::ui::Ui;

/// The context that means the embedded cluster.
pub(crate) const EMBEDDED: &str = "embedded";

/// Tells whether the embedded cluster is meant: by name, or because there is no kubeconfig.
pub(crate) fn is_embedded(global: &Global) -> bool {
    match context_name(global) {
        Some(name) => name == EMBEDDED,
        None => env_vars::kubeconfig_files().is_empty(),
    }
}

/// Connects to the cluster that is meant.
pub(crate) async fn connect(ui: &mut Ui, global: &Global) -> Result<Context, Failure> {
    let home = home()?;
    let namespace = namespace(global);
    let cluster: Arc<dyn Cluster> = if is_embedded(global) {
        let binaries = agent::host_build(ui).await?;
        let images = binaries.hello.map(|server| agent::hello_image(&server)).into_iter().collect();
        let options = EmbeddedOptions {
            state_dir: home.clone(),
            agent: binaries.agent,
            namespace,
            images,
            path_env: env_vars::text("PATH").unwrap_or_default(),
        };
        let cluster = embedded::open(options)?;
        if let Some(objects) = agent::hello_objects()? {
            cluster.apply(&objects).await?;
        }
        cluster
    } else {
        let options = ConnectOptions {
            kubeconfig: Some(env_vars::kubeconfig_files()),
            context: context_name(global),
            namespace,
            allow_insecure: global.allow_insecure_cluster,
        };
        kube::connect(options).await?
    };
    let namespace = cluster.target().namespace.clone();
    Ok(Context { cluster, namespace, home, holder: env_vars::holder() })
}

/// Returns Towline's folder on this machine. It is made with mode 0700, and one that is not ours is refused.
pub(crate) fn home() -> Result<PathBuf, Failure> {
    let home = if let Some(home) =
        env_vars::os(env_vars::TOWLINE_HOME).or_else(|| env_vars::os(env_vars::OKTETO_FOLDER))
    {
        PathBuf::from(home)
    } else {
        let places = etcetera::choose_base_strategy()
            .map_err(|error| Failure::new(format!("no home folder: {error}")).hint("set TOWLINE_HOME"))?;
        places.state_dir().unwrap_or_else(|| places.data_dir()).join("towline")
    };
    make_private(&home)?;
    home.canonicalize().map_err(|error| Failure::new(format!("{}: {error}", home.display())))
}

fn make_private(folder: &Path) -> Result<(), Failure> {
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new(format!("the state folder {} can't be used: {error}", folder.display()))
            .hint("choose another with TOWLINE_HOME")
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| wrong(&error))?;
    let meta = folder.symlink_metadata().map_err(|error| wrong(&error))?;
    let own = fs::metadata("/proc/self").map_err(|error| wrong(&error))?.uid();
    if !meta.is_dir() || meta.uid() != own {
        return Err(wrong(&"it is not a folder of this user"));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(wrong(&"others may enter it").hint(format!("chmod 700 {}", folder.display())));
    }
    Ok(())
}

/// Returns the namespace that is meant; the context's own when `None`.
pub(crate) fn namespace(global: &Global) -> Option<String> {
    global
        .namespace
        .clone()
        .or_else(|| env_vars::text(env_vars::TOWLINE_NAMESPACE))
        .or_else(|| env_vars::text(env_vars::OKTETO_NAMESPACE))
}

/// Returns the context that is meant; the kubeconfig's current one when `None`.
pub(crate) fn context_name(global: &Global) -> Option<String> {
    global
        .context
        .clone()
        .or_else(|| env_vars::text(env_vars::TOWLINE_CONTEXT))
        .or_else(|| env_vars::text(env_vars::OKTETO_CONTEXT))
}
