//! Agents that can't be spoken with.

use tokio::io::{duplex, split};
use towline_link::{Config, Hello, LinkOptions, Role, establish};
use towline_sync::agent::Agent;

/// Connects to an agent that says this version of itself.
async fn connect(version: &str) -> Result<Agent, String> {
    let (near, far) = duplex(4096);
    let (far_reader, far_writer) = split(far);
    let hello = Hello { program: [0; 32], version: version.to_owned(), nonce: [1; 16] };
    let options = LinkOptions { hello, role: Role::Agent, config: Config::default() };
    let answering = tokio::spawn(async move {
        let connection = establish(far_reader, far_writer, options).await.unwrap();
        connection.driver.run().await
    });
    let (reader, writer) = split(near);
    let connected =
        Agent::connect(reader, writer, Config::default()).await.map_err(|error| error.to_string());
    if connected.is_err() {
        answering.await.unwrap();
    }
    connected
}

#[tokio::test]
async fn an_agent_of_another_version_is_not_spoken_with() {
    let error = connect("0.0.1-other").await.unwrap_err();
    assert!(error.starts_with("the agent is of version 0.0.1-other, this is "), "{error}");
    let agent = connect(towline_protocol::VERSION).await.unwrap();
    agent.close();
}
