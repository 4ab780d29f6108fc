//! Ports: listeners on this machine's loopback whose connections the agent dials, and the other way round.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use towline_link::{Channel, Link, Priority, ResetReason};
use towline_protocol::{ChannelRequest, encode};

use crate::error::SessionError;
use crate::event::Event;
use crate::request::{Forward, Reverse};

/// Binds every port before anything is written to the cluster.
pub(crate) async fn bind(forwards: &[Forward]) -> Result<Vec<(Forward, TcpListener)>, SessionError> {
    let mut bound = Vec::new();
    for forward in forwards {
        let port = forward.local;
        let listener = TcpListener::bind((forward.interface, port)).await.map_err(|source| {
            if source.kind() == std::io::ErrorKind::AddrInUse {
                SessionError::PortInUse { port }
            } else {
                SessionError::Listen { port, source }
            }
        })?;
        bound.push((forward.clone(), listener));
    }
    Ok(bound)
}

/// Accepts connections for one forward, for as long as it is polled. While the agent can't be reached, connections
/// wait for it as they would for a slow server.
pub(crate) async fn serve(
    forward: Forward,
    listener: TcpListener,
    link_rx: watch::Receiver<Option<Link>>,
    event_tx: mpsc::Sender<Event>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    let (forward, link_rx, event_tx) = (forward.clone(), link_rx.clone(), event_tx.clone());
                    connections.spawn(async move {
                        if let Err(message) = carry(&forward, socket, link_rx).await {
                            let local = forward.begins();
                            let _ = event_tx.send(Event::ForwardFailed { local, message }).await;
                        }
                    });
                }
                Err(error) => {
                    let local = forward.begins();
                    let _ = event_tx.send(Event::ForwardFailed { local, message: error.to_string() }).await;
                    // Out of descriptors: the next accept would fail at once, so let a connection end first.
                    if connections.join_next().await.is_none() {
                        return;
                    }
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(
    forward: &Forward,
    mut socket: TcpStream,
    mut link_rx: watch::Receiver<Option<Link>>,
) -> Result<(), String> {
    let link = match link_rx.wait_for(Option::is_some).await {
        Ok(link) => link.clone(),
        Err(_) => return Ok(()),
    };
    let Some(link) = link else { return Ok(()) };
    let host = forward.host.clone().unwrap_or_else(|| Ipv4Addr::LOCALHOST.to_string());
    let request = ChannelRequest::Forward { host, port: forward.port };
    let mut channel =
        link.open(encode(&request), Priority::Normal).await.map_err(|error| error.to_string())?;
    match copy_bidirectional(&mut socket, &mut channel).await {
        Ok(_) => Ok(()),
        // What the agent says of a dial that failed; a client that went away is no news.
        Err(error) => match ResetReason::of(&error) {
            Some(reason) => Err(reason.0.clone()),
            None => Ok(()),
        },
    }
}

/// Ports of this machine where nothing took the last connection from the pod. A probe comes every second, and to say it
/// once is enough.
#[derive(Debug, Clone, Default)]
pub(crate) struct Silent(Arc<Mutex<BTreeSet<u16>>>);

impl Silent {
    /// Takes in how a connection to a port went, and tells whether that is to be told.
    fn is_news(&self, port: u16, reached: bool) -> bool {
        let mut ports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reached {
            ports.remove(&port);
            return false;
        }
        ports.insert(port)
    }
}

/// Ties a connection that came from the pod to a port of this machine, or tells why it can't be.
pub(crate) async fn serve_reverse(
    reverse: Reverse,
    channel: Channel,
    silent: Silent,
    event_tx: mpsc::Sender<Event>,
) {
    let carried = carry_reverse(reverse, channel).await;
    if silent.is_news(reverse.local, carried.is_ok())
        && let Err(message) = carried
    {
        let local = reverse.leads();
        let _ = event_tx.send(Event::ForwardFailed { local, message }).await;
    }
}

async fn carry_reverse(reverse: Reverse, mut channel: Channel) -> Result<(), String> {
    match TcpStream::connect((Ipv4Addr::LOCALHOST, reverse.local)).await {
        Ok(mut socket) => {
            // Either end may leave at any time.
            let _ = copy_bidirectional(&mut socket, &mut channel).await;
            Ok(())
        }
        Err(error) => {
            let message = format!("nothing listens on port {} of this machine: {error}", reverse.local);
            channel.reset(&message);
            Err(message)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;

    #[test]
    fn a_port_where_nothing_listens_is_told_of_once() {
        let silent = Silent::default();
        let told = [(1, false), (1, false), (2, false), (1, true), (1, false)]
            .map(|(port, reached)| silent.is_news(port, reached));
        assert_eq!(told, [true, false, true, false, true]);
    }

    #[tokio::test]
    async fn a_forward_listens_on_its_interface_alone() {
        let on = |interface| Forward { interface, local: 0, host: None, labels: BTreeMap::new(), port: 80 };
        for (interface, begins) in [
            (IpAddr::from(Ipv4Addr::LOCALHOST), "localhost:0"),
            (IpAddr::from([127, 0, 0, 2]), "127.0.0.2:0"),
            (IpAddr::from(Ipv6Addr::LOCALHOST), "[::1]:0"),
        ] {
            assert_eq!(on(interface).begins(), begins);
        }
        let interface = IpAddr::from([127, 0, 0, 2]);
        let bound = bind(&[on(interface)]).await.unwrap();
        let address = bound[0].1.local_addr().unwrap();
        assert_eq!(address.ip(), interface);
        TcpStream::connect(address).await.unwrap();
        let taken = Forward { local: address.port(), ..on(interface) };
        assert!(matches!(bind(&[taken]).await, Err(SessionError::PortInUse { .. })));
    }
}
