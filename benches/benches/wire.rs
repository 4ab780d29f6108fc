//! How much a link carries from a writer to a reader, on one processor: both ends, their drivers and the stream between
//! them.

use bytes::Bytes;
use divan::Bencher;
use divan::counter::BytesCount;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex, split};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use towline_link::{Channel, Compression, Config, Connection, Hello, LinkOptions, Priority, Role, establish};

const TOTAL_BYTES: usize = 1 << 30;
const WRITES: [usize; 3] = [4 << 10, 64 << 10, 256 << 10];
const STREAM_BYTES: usize = 256 * 1024;

fn main() {
    divan::main();
}

fn options(role: Role) -> LinkOptions {
    let hello = Hello { program: [0; 32], version: "bench".to_owned(), nonce: [role as u8; 16] };
    LinkOptions { hello, role, config: Config { compression: Compression::Never, ..Config::default() } }
}

/// Two ends of a link over this stream, whose drivers run, and a channel between them.
async fn connect(
    client: impl AsyncRead + AsyncWrite + Send + 'static,
    agent: impl AsyncRead + AsyncWrite + Send + 'static,
) -> (Channel, Channel, JoinSet<towline_link::LinkError>) {
    let ((client_reader, client_writer), (agent_reader, agent_writer)) = (split(client), split(agent));
    let (client, agent) = tokio::join!(
        establish(client_reader, client_writer, options(Role::Client)),
        establish(agent_reader, agent_writer, options(Role::Agent)),
    );
    let Connection { link, driver, incoming: _unused, .. } = client.unwrap();
    let Connection { mut incoming, driver: agent_driver, .. } = agent.unwrap();
    let mut drivers = JoinSet::new();
    drivers.spawn(driver.run());
    drivers.spawn(agent_driver.run());
    let channel = link.open("", Priority::Bulk).await.unwrap();
    let (_, accepted) = incoming.accept().await.unwrap();
    (channel, accepted, drivers)
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Copies all bytes in and out, as sockets and files do.
async fn copy(from: Channel, to: Channel, write: usize) {
    let (_reader, mut writer) = from.split();
    let (mut reader, _writer) = to.split();
    let writing = tokio::spawn(async move {
        let block = vec![7; write];
        for _ in 0..TOTAL_BYTES / write {
            writer.write_all(&block).await.unwrap();
        }
        writer.shutdown().await.unwrap();
    });
    let mut buffer = vec![0; 256 * 1024];
    while reader.read(&mut buffer).await.unwrap() > 0 {}
    writing.await.unwrap();
}

#[divan::bench(sample_count = 3, args = WRITES)]
fn in_memory(bencher: Bencher<'_, '_>, write: usize) {
    let runtime = runtime();
    bencher.counter(BytesCount::new(TOTAL_BYTES)).bench_local(|| {
        runtime.block_on(async {
            let (client, agent) = duplex(STREAM_BYTES);
            let (from, to, _drivers) = connect(client, agent).await;
            copy(from, to, write).await;
        });
    });
}

#[divan::bench(sample_count = 3, args = WRITES)]
fn unix_socket(bencher: Bencher<'_, '_>, write: usize) {
    let runtime = runtime();
    bencher.counter(BytesCount::new(TOTAL_BYTES)).bench_local(|| {
        runtime.block_on(async {
            let (client, agent) = UnixStream::pair().unwrap();
            let (from, to, _drivers) = connect(client, agent).await;
            copy(from, to, write).await;
        });
    });
}

/// The same without a copy at either end.
#[divan::bench(sample_count = 3)]
fn unix_socket_without_copies(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let block = Bytes::from(vec![7; 256 << 10]);
    bencher.counter(BytesCount::new(TOTAL_BYTES)).bench_local(|| {
        runtime.block_on(async {
            let (client, agent) = UnixStream::pair().unwrap();
            let (from, to, _drivers) = connect(client, agent).await;
            let (_reader, mut writer) = from.split();
            let (mut reader, _writer) = to.split();
            let block = block.clone();
            let writing = tokio::spawn(async move {
                for _ in 0..TOTAL_BYTES / block.len() {
                    writer.write_bytes(block.clone()).await.unwrap();
                }
                writer.shutdown().await.unwrap();
            });
            while reader.read_bytes().await.unwrap().is_some() {}
            writing.await.unwrap();
        });
    });
}

/// The stream alone.
#[divan::bench(sample_count = 3)]
fn unix_socket_bare(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    bencher.counter(BytesCount::new(TOTAL_BYTES)).bench_local(|| {
        runtime.block_on(async {
            let (mut client, mut agent) = UnixStream::pair().unwrap();
            let writing = tokio::spawn(async move {
                let block = vec![7; 256 << 10];
                for _ in 0..TOTAL_BYTES / block.len() {
                    client.write_all(&block).await.unwrap();
                }
            });
            let mut buffer = vec![0; 256 * 1024];
            while agent.read(&mut buffer).await.unwrap() > 0 {}
            writing.await.unwrap();
        });
    });
}
