//! A proxy to PostgreSQL that adds latency, like that of a database in another building.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The proxy listens until it is dropped.
pub struct Proxy {
    pub port: u16,
    listening: JoinHandle<()>,
}

impl Proxy {
    /// Forwards everything to a socket, with this delay in each direction.
    pub async fn start(socket: PathBuf, delay: Duration) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let listening = tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                let Ok(server) = UnixStream::connect(&socket).await else {
                    continue;
                };
                let _ = caller.set_nodelay(true);
                let (from_caller, to_caller) = caller.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(pass(from_caller, to_server, delay));
                tokio::spawn(pass(from_server, to_caller, delay));
            }
        });
        Ok(Self { port, listening })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Forwards one direction until either side closes it. A delayed chunk does not delay the reading of the next one.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
    delay: Duration,
) {
    let (sent, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(1_000);
    tokio::spawn(async move {
        while let Some((time, bytes)) = due.recv().await {
            tokio::time::sleep_until(time).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    });
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let bytes = buffer[..length].to_vec();
        if sent.send((Instant::now() + delay, bytes)).await.is_err() {
            return;
        }
    }
}
