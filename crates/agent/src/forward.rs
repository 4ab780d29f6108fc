//! Ports: dialled from the pod, and listened for on its loopback.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use towline_link::{Channel, Link, Priority};
use towline_protocol::{ChannelRequest, encode};

use crate::thread;

/// How long a name and a connection may take together; the kernel alone would try for minutes.
const PATIENCE: Duration = Duration::from_secs(15);
/// After a connection that could not be accepted: descriptors have run out, and come back as others leave.
const PAUSE: Duration = Duration::from_millis(100);

/// Dials, then carries bytes both ways until both ends are done.
pub(crate) async fn dial(host: &str, port: u16, channel: Channel) {
    let dialled = tokio::time::timeout(PATIENCE, connect(host, port)).await;
    match dialled.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"))) {
        Ok(socket) => carry(socket, channel).await,
        Err(error) => channel.reset(&format!("can't connect to {host}:{port} from the pod: {error}")),
    }
}

async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    if host == "localhost" || host == "127.0.0.1" {
        // Needs no resolver. What listens on "localhost" listens on one of the two, and its user can't say which.
        return match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
            Err(refused) => TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.map_err(|_| refused),
            connected => connected,
        };
    }
    TcpStream::connect(&*resolve(host.to_owned(), port).await?).await
}

async fn resolve(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    let (found_tx, found_rx) = oneshot::channel();
    // The system's resolver blocks. Where no thread can be had, this fails and the runtime's own pool would panic.
    thread::start("resolver", move || {
        // Who asked may have given up.
        let _ = found_tx.send((host.as_str(), port).to_socket_addrs().map(Iterator::collect));
    })?;
    found_rx.await.unwrap_or_else(|_| Err(io::Error::other("the resolver failed")))
}

/// Carries bytes both ways. What broke on one side is broken off on the other: it must never look complete.
async fn carry(mut socket: TcpStream, mut channel: Channel) {
    // Keys and questions are small; they are not to wait for more.
    let _ = socket.set_nodelay(true);
    if let Err(error) = copy_bidirectional(&mut socket, &mut channel).await {
        let _ = socket.set_zero_linger();
        channel.reset(&format!("the connection in the pod broke: {error}"));
    }
}

/// The listeners that were asked for. They outlive the client that asked; the newest one gets the connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listeners {
    by_port: Arc<Mutex<HashMap<u16, watch::Sender<Link>>>>,
}

impl Listeners {
    /// Listens on the pod's loopback, or `everywhere` in it, or gives a listener that is there to this client. The
    /// future is to be run by the caller for as long as the agent lives.
    pub(crate) fn listen(
        &self,
        port: u16,
        everywhere: bool,
        link: &Link,
    ) -> io::Result<Option<impl Future<Output = ()> + Send + use<>>> {
        let mut by_port = self.by_port.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link_tx) = by_port.get(&port) {
            link_tx.send_replace(link.clone());
            return Ok(None);
        }
        // The first that can be had: one of IPv6 takes connections of IPv4 too (`ipv6(7)`), where the pod has IPv6.
        let addresses: [IpAddr; 2] = if everywhere {
            [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()]
        } else {
            [Ipv4Addr::LOCALHOST.into(); 2]
        };
        let addresses = addresses.map(|address| SocketAddr::new(address, port));
        let listener = std::net::TcpListener::bind(addresses.as_slice())?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let (link_tx, link_rx) = watch::channel(link.clone());
        by_port.insert(port, link_tx);
        Ok(Some(serve(listener, port, link_rx)))
    }
}

async fn serve(listener: TcpListener, port: u16, link_rx: watch::Receiver<Link>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                let link = link_rx.borrow().clone();
                connections.spawn(async move {
                    let request = encode(&ChannelRequest::Reverse { port });
                    match link.open(request, Priority::Normal).await {
                        Ok(channel) => carry(socket, channel).await,
                        // The laptop is gone: refused, as if nobody listened.
                        Err(_) => drop(socket.set_zero_linger()),
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
