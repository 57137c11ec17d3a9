//! The hosts of a PostgreSQL URL: IPv4 and IPv6 addresses, alone and in lists.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Backend, TestDatabase};
use crate::program::leadsmith;

/// PostgreSQL on an IPv6 loopback address.
struct Forward {
    port: u16,
    /// The connections that used it.
    connections: Arc<AtomicUsize>,
}

impl Forward {
    async fn start(to: String) -> Self {
        let listener = TcpListener::bind("[::1]:0").await;
        let listener = listener.expect("these tests need IPv6 on loopback");
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let to = to.clone();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(to).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { port, connections }
    }

    /// How many connections came since the last call.
    fn came(&self) -> usize {
        self.connections.swap(0, Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ipv6_address_is_connected_to() {
    let database = TestDatabase::create(Backend::Postgres).await;
    let (user, rest) = database.url.rsplit_once('@').unwrap();
    let (host, name) = rest.split_once('/').unwrap();
    let forward = Forward::start(host.to_owned()).await;
    let port = forward.port;
    for (host, parameters) in [
        (format!("[::1]:{port}"), String::new()),
        (format!("[0:0:0:0:0:0:0:1]:{port}"), String::new()),
        ("localhost".to_owned(), format!("?host=[::1]&port={port}")),
        ("localhost".to_owned(), format!("?host=::1&port={port}")),
        ("localhost".to_owned(), format!("?hostaddr=::1&port={port}")),
        (format!("127.0.0.1:1,[::1]:{port}"), String::new()),
        (
            format!("[::1]:1,[::1]:{port},127.0.0.1:1"),
            "?target_session_attrs=read-write".to_owned(),
        ),
    ] {
        let url = format!("{user}@{host}/{name}{parameters}");
        let run = |command: &str| leadsmith(command).database(&url);
        run("migrate up").run().await.done();
        run("operator list").run().await.done();
        assert!(forward.came() >= 2, "{host}{parameters}");
        let mut server = run("serve").serve().await;
        let address = server.address;
        let check = leadsmith(&format!("healthcheck --listen {address}"));
        assert_eq!(check.run().await.done(), "SERVING\n");
        assert!(forward.came() >= 2, "{host}{parameters}");
        server.terminate();
        server.ended(Duration::from_secs(10)).await;
        let warned = server
            .log()
            .contains("a host of the database URL is not used now");
        assert_eq!(warned, host.contains(','), "{}", server.log());
    }
}
