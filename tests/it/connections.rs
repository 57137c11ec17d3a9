//! The limit of connections, and how long they may be idle.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::harness::{Backend, Harness};

/// Whether the other side closes the connection within this time.
async fn closes(stream: &mut TcpStream, within: Duration) -> bool {
    let mut byte = [0; 1];
    let ended = async {
        // The server first sends its settings. Only the end of the stream matters.
        while let Ok(1..) = stream.read(&mut byte).await {}
    };
    tokio::time::timeout(within, ended).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_has_its_share_of_connections_and_gets_it_back() {
    let h = Harness::start_with(Backend::Sqlite, |settings| {
        settings.limits.max_connections_per_address = 10;
    })
    .await;
    let lead = h.sales.create_lead("Door").await;
    let mut held = Vec::new();
    for _ in 0..9 {
        held.push(TcpStream::connect(h.server.address).await.unwrap());
    }
    let mut over = TcpStream::connect(h.server.address).await.unwrap();
    assert!(
        closes(&mut over, Duration::from_secs(1)).await,
        "over the limit"
    );
    assert_eq!(h.sales.get(&lead.id).await, lead, "those inside go on");
    drop(held);
    let begun = Instant::now();
    loop {
        let mut stream = TcpStream::connect(h.server.address).await.unwrap();
        if !closes(&mut stream, Duration::from_millis(200)).await {
            break;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "places are not given back"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_connects_and_says_nothing_is_let_go() {
    let h = Harness::start(Backend::Sqlite).await;
    let mut silent = TcpStream::connect(h.server.address).await.unwrap();
    assert!(closes(&mut silent, Duration::from_secs(8)).await);
}
