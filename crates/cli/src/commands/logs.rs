//! `towline logs`.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use towline_cluster::port::LogOptions;

use super::{Outcome, sessions};
use crate::args::{Global, Logs};
use crate::exit_code;
use crate::place;
use crate::ui::Ui;

/// Copies the container's log to standard output as it is.
pub(crate) async fn run(ui: &mut Ui, global: &Global, args: &Logs) -> Outcome {
    let context = place::connect(ui, global).await?;
    let (_, held) = sessions::one(&context, args.name.as_deref()).await?;
    sessions::mention_abandoned(ui, &context, &[&held.record.name]).await;
    let pod = sessions::dev_pod_name(&context, &held).await?;
    let options = LogOptions { follow: args.follow, tail: args.tail, previous: args.previous };
    let mut log = context.cluster.logs(&context.namespace, &pod, &held.record.container, &options).await?;
    let mut stdout = tokio::io::stdout();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let count = tokio::select! {
            count = log.read(&mut buffer) => count?,
            _ = tokio::signal::ctrl_c() => return Ok(exit_code::INTERRUPTED),
        };
        if count == 0 || stdout.write_all(&buffer[..count]).await.is_err() || stdout.flush().await.is_err() {
            return Ok(exit_code::OK);
        }
    }
}
