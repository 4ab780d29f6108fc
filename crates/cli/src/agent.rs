//! Where the agent comes from: named by the user, carried by the executable, beside it, or built from this source
//! tree.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use towline_cluster::embedded::Image;
use towline_session::AgentSource;

use crate::diagnose::Failure;
use crate::env_vars;
use crate::ui::Ui;

/// The target of an agent that needs nothing of an image.
const TARGET: &str = "x86_64-unknown-linux-musl";
/// The same, as Kubernetes names it.
const ARCHITECTURE: &str = "amd64";
/// What a ConfigMap has room for.
const MAX_BYTES: usize = 1_000_000;

/// What pods of the embedded cluster run.
#[derive(Debug)]
pub(crate) struct HostBuild {
    /// The agent for this machine.
    pub(crate) agent: PathBuf,
    /// The example's server, in a source tree.
    pub(crate) hello: Option<PathBuf>,
}

/// Returns the static agent that travels into a pod.
pub(crate) async fn binary(ui: &mut Ui) -> Result<AgentSource, Failure> {
    #[cfg(feature = "embed-agent")]
    {
        let _ = ui;
        return check(include_bytes!(env!("TOWLINE_EMBED_AGENT")).to_vec(), Path::new("the executable"));
    }
    #[cfg(not(feature = "embed-agent"))]
    {
        let file = match given_or_beside(&format!("towline-agent-{ARCHITECTURE}")) {
            Some(file) => file,
            None => build_static(ui).await?,
        };
        let bytes = tokio::fs::read(&file)
            .await
            .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
        check(bytes, &file)
    }
}

/// Returns what the embedded cluster runs; in a source tree it is built for this machine.
pub(crate) async fn host_build(ui: &mut Ui) -> Result<HostBuild, Failure> {
    let Some(tree) = source_tree() else {
        let agent = given_or_beside("towline-agent").ok_or_else(|| {
            Failure::new("the embedded cluster needs an agent for this machine")
                .hint("name it: TOWLINE_AGENT=FILE")
        })?;
        return Ok(HostBuild { agent, hello: None });
    };
    let folder = tree.join("target/debug");
    let files = HostBuild { agent: folder.join("towline-agent"), hello: Some(folder.join("hello")) };
    if let Some(agent) = env_vars::os(env_vars::TOWLINE_AGENT) {
        // Whoever brings the agent has built the example's server too, or does not need it.
        return Ok(HostBuild { agent: agent.into(), hello: files.hello.filter(|hello| hello.exists()) });
    }
    let missing = !files.agent.exists() || !files.hello.as_ref().is_some_and(|hello| hello.exists());
    cargo(ui, &tree, &["build", "-p", "towline-agent", "-p", "hello"], missing).await?;
    Ok(files)
}

/// Returns the image of the example's original workload.
pub(crate) fn hello_image(server: &Path) -> Image {
    let production = example().map(|example| example.join("production/index.html"));
    let page = production.map(|page| ("srv/index.html".to_owned(), page));
    Image {
        name: "hello".to_owned(),
        files: [("bin/hello".to_owned(), server.to_owned())].into_iter().chain(page).collect(),
        working_dir: "/srv".to_owned(),
        command: vec!["hello".to_owned()],
    }
}

/// Returns the objects of the example, as a team would have deployed them.
pub(crate) fn hello_objects() -> Result<Option<Vec<Value>>, Failure> {
    let Some(file) = example().map(|example| example.join("k8s.yml")) else { return Ok(None) };
    let text = std::fs::read_to_string(&file)
        .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    let objects = towline_manifest::objects(&text)
        .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    Ok(Some(objects))
}

/// Returns the folder of the example that a source tree brings.
pub(crate) fn example() -> Option<PathBuf> {
    source_tree().map(|tree| tree.join("examples/hello"))
}

/// Returns the source tree that this executable was built in, if it still lies there.
fn source_tree() -> Option<PathBuf> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let executable = std::env::current_exe().ok()?;
    (executable.starts_with(tree.join("target")) && tree.join("Cargo.lock").exists()).then(|| tree.to_owned())
}

fn given_or_beside(name: &str) -> Option<PathBuf> {
    if let Some(file) = env_vars::os(env_vars::TOWLINE_AGENT) {
        return Some(file.into());
    }
    if source_tree().is_some() {
        return None;
    }
    let beside = std::env::current_exe().ok()?.parent()?.join(name);
    beside.exists().then_some(beside)
}

fn check(bytes: Vec<u8>, file: &Path) -> Result<AgentSource, Failure> {
    if bytes.len() > MAX_BYTES {
        let message = format!(
            "the agent of {} has {} bytes; a ConfigMap has room for {MAX_BYTES}",
            file.display(),
            bytes.len()
        );
        return Err(Failure::new(message).hint("build it with: cargo xtask agent"));
    }
    Ok(AgentSource::Binary { architecture: ARCHITECTURE.to_owned(), bytes: Arc::from(bytes) })
}

/// Builds the static agent. The target's standard library is installed the first time.
#[cfg(not(feature = "embed-agent"))]
async fn build_static(ui: &mut Ui) -> Result<PathBuf, Failure> {
    let tree = source_tree().ok_or_else(|| {
        Failure::new("no agent is beside this executable").hint("name it: TOWLINE_AGENT=FILE")
    })?;
    // The standard library is built along, small, which takes a folder of its own; see .cargo/agent.toml.
    let folder = tree.join("target/agent");
    let file = folder.join(TARGET).join("agent/towline-agent");
    let missing = !file.exists();
    if missing {
        // Fails where rustup is not used; the build then says what is missing.
        for words in [["target", "add", TARGET], ["component", "add", "rust-src"]] {
            let _ = Command::new("rustup").args(words).current_dir(&tree).stdin(Stdio::null()).output().await;
        }
    }
    let configuration = [".cargo/agent.toml", "--target-dir", "target/agent"];
    let arguments = ["build", "-p", "towline-agent", "--profile", "agent", "--target", TARGET, "--config"];
    cargo(ui, &tree, &[&arguments[..], &configuration].concat(), missing).await?;
    Ok(file)
}

/// Runs cargo in the source tree. What takes its time is shown while it does.
async fn cargo(ui: &mut Ui, tree: &Path, arguments: &[&str], show: bool) -> Result<(), Failure> {
    let line = format!("cargo {}", arguments.join(" "));
    if show {
        ui.phase(&format!("building the agent ({line})"));
    }
    let program = env_vars::os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    for name in env_vars::of_cargo_run() {
        command.env_remove(name);
    }
    if arguments.contains(&TARGET) {
        // The pinned stable toolchain builds its standard library only when told so.
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    let mut child = command
        .args(arguments)
        .arg("--locked")
        .current_dir(tree)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::new(format!("can't run cargo: {error}")))?;
    let mut words = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr).lines();
        while let Some(line) = lines.next_line().await? {
            if show && line.trim_start().starts_with("Compiling") {
                ui.phase_detail(line.trim());
            }
            words.push(line);
        }
    }
    let status = child.wait().await?;
    if show {
        ui.phase_done();
    }
    if status.success() {
        return Ok(());
    }
    let mut failure = Failure::new(format!("the agent could not be built: {line} failed"));
    failure.detail = Some(words.join("\n"));
    Err(failure.hint(format!("is the target there? rustup target add {TARGET}")))
}
