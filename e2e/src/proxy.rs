//! A way to the API server that can be cut and opened again, as when the server is restarted.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Carries connections from a port of this machine to a server.
#[derive(Debug)]
pub struct Proxy {
    server: String,
    address: SocketAddr,
    carrier: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Opens a way to `server`, given as `host:port`.
    pub async fn open(server: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let carrier = Some(tokio::spawn(carry(listener, server.clone())));
        Self { server, address, carrier }
    }

    /// Returns the address on this machine.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection; new ones are refused.
    pub async fn cut(&mut self) {
        if let Some(carrier) = self.carrier.take() {
            carrier.abort();
            let _ = carrier.await;
        }
    }

    /// Opens the way again, at the same address.
    pub async fn reopen(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the port is still ours");
        self.carrier = Some(tokio::spawn(carry(listener, self.server.clone())));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(carrier) = &self.carrier {
            carrier.abort();
        }
    }
}

async fn carry(listener: TcpListener, server: String) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((mut near, _)) = accepted else { continue };
                let server = server.clone();
                connections.spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(server).await {
                        let _ = copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
