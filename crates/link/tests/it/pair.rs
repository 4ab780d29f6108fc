//! Two connected ends whose drivers run.

use tokio::io::{AsyncRead, AsyncWrite, duplex, split};
use tokio::task::JoinSet;
use towline_link::{Config, Connection, Hello, Incoming, Link, LinkError, LinkOptions, Role, establish};

pub(crate) fn options(role: Role) -> LinkOptions {
    options_with(role, &Config::default())
}

fn options_with(role: Role, config: &Config) -> LinkOptions {
    let seed = role as u8 + 1;
    let hello = Hello { program: [seed; 32], version: format!("test {seed}"), nonce: [seed; 16] };
    LinkOptions { hello, role, config: config.clone() }
}

/// Both ends of a handshake over a stream that holds so many bytes.
pub(crate) async fn connect(buffer: usize) -> (Connection, Connection) {
    let (client, agent) = duplex(buffer);
    connect_over(client, agent, &Config::default()).await
}

pub(crate) async fn connect_over<C, A>(client: C, agent: A, config: &Config) -> (Connection, Connection)
where
    C: AsyncRead + AsyncWrite + Send + 'static,
    A: AsyncRead + AsyncWrite + Send + 'static,
{
    let ((client_reader, client_writer), (agent_reader, agent_writer)) = (split(client), split(agent));
    let (client, agent) = tokio::join!(
        establish(client_reader, client_writer, options_with(Role::Client, config)),
        establish(agent_reader, agent_writer, options_with(Role::Agent, config)),
    );
    let (client, agent) = (client.unwrap(), agent.unwrap());
    assert_eq!(client.peer, options(Role::Agent).hello);
    assert_eq!(agent.peer, options(Role::Client).hello);
    (client, agent)
}

pub(crate) struct Pair {
    pub(crate) client: Link,
    pub(crate) agent: Link,
    pub(crate) client_incoming: Incoming,
    pub(crate) agent_incoming: Incoming,
    pub(crate) drivers: JoinSet<LinkError>,
}

impl Pair {
    pub(crate) async fn new(buffer: usize) -> Self {
        Self::with_config(buffer, &Config::default()).await
    }

    pub(crate) async fn with_config(buffer: usize, config: &Config) -> Self {
        let (client, agent) = duplex(buffer);
        let (client, agent) = connect_over(client, agent, config).await;
        let mut drivers = JoinSet::new();
        drivers.spawn(client.driver.run());
        drivers.spawn(agent.driver.run());
        Self {
            client: client.link,
            agent: agent.link,
            client_incoming: client.incoming,
            agent_incoming: agent.incoming,
            drivers,
        }
    }
}
