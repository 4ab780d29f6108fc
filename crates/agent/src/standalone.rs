//! `serve --root DIR`: one folder's replica for who is at the other end of standard input and output, reached by ssh,
//! `docker exec` or anything else that carries two streams. It lives as long as they do, and does nothing but sync.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tokio::task::JoinSet;
use towline_link::message::{MessageReader, MessageWriter};
use towline_link::{Channel, Config, Connection, Hello, LinkOptions, Role};
use towline_protocol::{ChannelRequest, ControlReply, ControlRequest, Refusal, VERSION, decode};
use towline_sync_fs::ReplicaOptions;

use crate::serve::{fill_random, usage};
use crate::stdio;
use crate::sync;

/// Serves until the streams end.
pub(crate) fn run(root: &Path) -> io::Result<()> {
    let root = std::path::absolute(root)?;
    // Said before anybody waits for an answer: it is a word on standard error that people understand.
    if std::fs::metadata(&root).is_ok_and(|meta| !meta.is_dir()) {
        return Err(io::Error::other(format!("{} is not a folder", root.display())));
    }
    let options =
        ReplicaOptions { keep: keep_folder(&root), prefix: Some(root), ..ReplicaOptions::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(serve(options));
    // A replica that is told to end tidies up behind itself.
    drop(runtime);
    served
}

async fn serve(options: ReplicaOptions) -> io::Result<()> {
    let (stdin, stdout) = (stdio::input(io::stdin().as_fd())?, stdio::output(io::stdout().as_fd())?);
    let mut nonce = [0; 16];
    fill_random(&mut nonce)?;
    let hello = Hello { program: [0; 32], version: VERSION.to_owned(), nonce };
    let link = LinkOptions { hello, role: Role::Agent, config: Config::default() };
    let Connection { mut incoming, driver, .. } =
        towline_link::establish(stdin, stdout, link).await.map_err(io::Error::other)?;
    let mut channels = JoinSet::new();
    let driving = driver.run();
    tokio::pin!(driving);
    loop {
        tokio::select! {
            _ = &mut driving => break,
            Some((opening, channel)) = incoming.accept() => {
                let options = options.clone();
                channels.spawn(async move {
                    match decode(&opening) {
                        Ok(ChannelRequest::Sync) => sync::serve(channel, options).await,
                        Ok(ChannelRequest::Control) => control(channel).await,
                        Ok(_) => channel.reset("this agent serves one folder and nothing else"),
                        Err(error) => channel.reset(&format!("can't understand the channel: {error}")),
                    }
                });
            }
            Some(_) = channels.join_next() => {}
        }
    }
    // Their channels have ended with the link, so they end too.
    while channels.join_next().await.is_some() {}
    Ok(())
}

async fn control(channel: Channel) {
    let (reader, writer) = channel.split();
    let (mut reader, mut writer) = (MessageReader::new(reader), MessageWriter::new(writer));
    while let Ok(Some(request)) = reader.next::<ControlRequest>().await {
        let reply = match request {
            ControlRequest::Usage => usage(),
            _ => ControlReply::Failed(Refusal {
                errno: 0,
                message: "this agent serves one folder and nothing else".to_owned(),
            }),
        };
        if writer.send(&reply).await.is_err() {
            return;
        }
    }
}

/// Returns where what must outlive us is kept, outside the folder; without such a place it is kept in the folder, in the
/// part of it that is never synced.
#[expect(clippy::disallowed_methods, reason = "the places that the user's environment names for this")]
fn keep_folder(root: &Path) -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = variable("TOWLINE_HOME")
        .or_else(|| variable("XDG_STATE_HOME").map(|state| state.join("towline")))
        .or_else(|| variable("HOME").map(|home| home.join(".local/state/towline")))?;
    let is_inside = |home: &Path| {
        let (home, root) = (home.canonicalize(), root.canonicalize());
        matches!((home, root), (Ok(home), Ok(root)) if home.starts_with(&root))
    };
    // Much of it may not be made yet.
    if home.ancestors().find(|ancestor| ancestor.exists()).is_some_and(is_inside) {
        return None;
    }
    let name = blake3::hash(root.as_os_str().as_encoded_bytes()).to_hex();
    let folder = home.join("agent").join(&name[..16]);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).ok()?;
    Some(folder)
}
