//! Ports: dialled from the pod, and listened for on its loopback.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use towline_link::{Channel, Link, Priority};
use towline_protocol::{ChannelRequest, encode};

/// Dials, then carries bytes both ways until both ends are done.
pub(crate) async fn dial(host: &str, port: u16, mut channel: Channel) {
    match TcpStream::connect((host, port)).await {
        Ok(mut socket) => {
            // Either end may leave at any time; the other sees it.
            let _ = copy_bidirectional(&mut socket, &mut channel).await;
        }
        Err(error) => channel.reset(&format!("can't connect to {host}:{port} from the pod: {error}")),
    }
}

/// The listeners that were asked for. They outlive the client that asked; the newest one gets the connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listeners {
    by_port: Arc<Mutex<HashMap<u16, watch::Sender<Link>>>>,
}

impl Listeners {
    /// Listens on the pod's loopback, or gives a listener that is there to this client. The future is to be run by
    /// the caller for as long as the agent lives.
    pub(crate) async fn listen(
        &self,
        port: u16,
        link: &Link,
    ) -> io::Result<Option<impl Future<Output = ()> + Send + use<>>> {
        if let Some(link_tx) = self.lock().get(&port) {
            link_tx.send_replace(link.clone());
            return Ok(None);
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let (link_tx, link_rx) = watch::channel(link.clone());
        self.lock().insert(port, link_tx);
        Ok(Some(serve(listener, port, link_rx)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u16, watch::Sender<Link>>> {
        self.by_port.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(listener: TcpListener, port: u16, link_rx: watch::Receiver<Link>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // What fails here is the one connection, or all descriptors are taken: the next may do better.
                let Ok((mut socket, _)) = accepted else {
                    connections.join_next().await;
                    continue;
                };
                let link = link_rx.borrow().clone();
                connections.spawn(async move {
                    let request = encode(&ChannelRequest::Reverse { port });
                    if let Ok(mut channel) = link.open(request, Priority::Normal).await {
                        let _ = copy_bidirectional(&mut socket, &mut channel).await;
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
