//! `cargo xtask agent`: the static agent, and the proof that any image can run it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{elf, run};

const TARGET: &str = "x86_64-unknown-linux-musl";
/// A ConfigMap holds 1,048,576 bytes, and there is more in it than the agent.
const MAX_BYTES: u64 = 1_000_000;

/// Builds and checks; returns the file.
pub(crate) fn run() -> Result<PathBuf> {
    ensure_target()?;
    let folder = run::target_folder()?.join("agent");
    let mut build = run::cargo([
        "build",
        "--config",
        ".cargo/agent.toml",
        "-p",
        "towline-agent",
        "--profile",
        "agent",
        "--target",
        TARGET,
        "--locked",
        "--target-dir",
    ]);
    // The standard library is built along, which the pinned stable toolchain does only when told so. A folder of its
    // own keeps everything else from being built anew with that.
    build.arg(&folder).env("RUSTC_BOOTSTRAP", "1");
    run::status(build)?;
    let file = folder.join(TARGET).join("agent/towline-agent");
    let bytes = fs::read(&file).with_context(|| format!("can't read {}", file.display()))?;
    elf::is_static(&bytes).with_context(|| format!("{} is not static", file.display()))?;
    fits(bytes.len() as u64)?;
    println!("{}: {} bytes of {MAX_BYTES}, static", file.display(), bytes.len());
    match in_empty_root(&file)? {
        Some(version) => println!("in an empty root: {version}"),
        None => println!("in an empty root: not tried, this user can't change the root folder"),
    }
    Ok(file)
}

fn ensure_target() -> Result<()> {
    for (kind, name) in [("target", TARGET), ("component", "rust-src")] {
        let mut list = run::command("rustup");
        list.args([kind, "list", "--installed"]);
        // Where rust does not come from rustup, the build says what is missing.
        let Ok(installed) = run::output(list) else { return Ok(()) };
        if !installed.lines().any(|line| line == name) {
            let mut add = run::command("rustup");
            add.args([kind, "add", name]);
            run::status(add)?;
        }
    }
    Ok(())
}

fn fits(bytes: u64) -> Result<()> {
    if bytes > MAX_BYTES {
        bail!("the agent has {bytes} bytes, {} more than a ConfigMap has room for", bytes - MAX_BYTES);
    }
    Ok(())
}

/// Runs the agent where there is no other file. `None` where we may not.
fn in_empty_root(file: &Path) -> Result<Option<String>> {
    let root = run::target_folder()?.join("xtask/empty-root");
    fs::create_dir_all(&root)?;
    fs::copy(file, root.join("agent"))?;
    let mut command = if fs::metadata("/proc/self")?.uid() == 0 {
        run::command("chroot")
    } else if run::is_there("unshare", &["-r", "true"]) {
        let mut command = run::command("unshare");
        command.args(["-r", "chroot"]);
        command
    } else {
        return Ok(None);
    };
    command.arg(&root).args(["/agent", "version"]).env_clear();
    // The program itself is found before the environment goes.
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    Ok(Some(run::output(command)?.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_too_many_is_refused() {
        fits(MAX_BYTES).unwrap();
        let error = fits(MAX_BYTES + 1).unwrap_err().to_string();
        assert!(error.contains("1 more"), "{error}");
    }
}
