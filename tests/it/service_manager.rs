//! Notifications for a service manager such as systemd, received by a real socket: ready once calls are accepted, alive
//! while the process works, stopping before the calls are finished.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::{Backend, TestDatabase, eventually};
use crate::program::{Program, leadsmith};

/// Stands in for the service manager.
struct Manager {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Manager {
    fn listen() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        Self { socket, folder }
    }

    /// The program as this service manager starts it.
    fn start(&self, arguments: &str, url: &str) -> Program {
        let path = self.folder.path().join("notify");
        leadsmith(arguments)
            .database(url)
            .env("NOTIFY_SOCKET", path.to_str().unwrap())
    }

    /// The next notification, if one arrives in time.
    fn next(&self, time_limit: Duration) -> Option<String> {
        let mut buffer = [0; 4096];
        self.socket.set_read_timeout(Some(time_limit)).unwrap();
        match self.socket.recv(&mut buffer) {
            Ok(length) => Some(String::from_utf8(buffer[..length].to_vec()).unwrap()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Skips what has arrived, and returns the times between the next notifications, which all say `WATCHDOG=1`.
    fn intervals(&self, count: usize) -> Vec<Duration> {
        while self.next(Duration::from_millis(1)).is_some() {}
        let mut times = Vec::new();
        for _ in 0..=count {
            let next = self.next(Duration::from_secs(5));
            assert_eq!(next.as_deref(), Some("WATCHDOG=1\n"));
            times.push(Instant::now());
        }
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

/// The time limit of the watchdog in microseconds, and half of it.
const LIMIT: &str = "600000";
const HALF: Duration = Duration::from_millis(300);

/// Checks that the notifications come at half of the time limit. A busy machine may delay one.
fn are_half(intervals: &[Duration]) {
    let total: Duration = intervals.iter().sum();
    let wanted = HALF * u32::try_from(intervals.len()).unwrap();
    let tolerance = Duration::from_millis(250);
    assert!(
        total + tolerance > wanted && total < wanted + 2 * tolerance,
        "{intervals:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_says_that_it_is_ready_alive_and_stopping() {
    let manager = Manager::listen();
    let database = TestDatabase::create(Backend::Sqlite).await;
    let mut server = manager
        .start("serve", &database.url)
        .env("WATCHDOG_USEC", LIMIT)
        .serve()
        .await;
    let ready = manager.next(Duration::from_secs(5)).unwrap();
    let address = ready
        .strip_prefix("READY=1\nSTATUS=serving on ")
        .unwrap_or_else(|| panic!("{ready}"));
    let address: SocketAddr = address.trim_end().parse().unwrap();
    assert_eq!(address, server.address);
    TcpStream::connect(address).unwrap();
    are_half(&manager.intervals(4));

    // A restart would not repair the database, so an outage is no reason for one.
    let file = database.url.strip_prefix("sqlite:").unwrap();
    std::fs::rename(file, format!("{file}.moved")).unwrap();
    eventually("the outage is noticed", async || {
        server.log().contains("NOT_SERVING")
    })
    .await;
    are_half(&manager.intervals(4));
    std::fs::rename(format!("{file}.moved"), file).unwrap();

    // A process that does not run sends nothing.
    server.signal("STOP");
    while manager.next(Duration::from_millis(1)).is_some() {}
    assert_eq!(manager.next(HALF * 3), None);
    server.signal("CONT");
    are_half(&manager.intervals(4));

    server.terminate();
    let mut last = String::new();
    while !last.starts_with("STOPPING=1\n") {
        last = manager.next(Duration::from_secs(5)).unwrap();
        assert!(
            last == "WATCHDOG=1\n" || last.starts_with("STOPPING=1\nSTATUS="),
            "{last}"
        );
    }
    let status = server.ended(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_watchdog_only_the_start_and_the_stop_are_notified() {
    let manager = Manager::listen();
    let database = TestDatabase::create(Backend::Sqlite).await;
    let serve = || manager.start("serve", &database.url);
    // The watchdog of another process does not count.
    let other = serve()
        .env("WATCHDOG_USEC", "100000")
        .env("WATCHDOG_PID", "1");
    for program in [serve(), other] {
        let mut server = program.serve().await;
        let ready = manager.next(Duration::from_secs(5)).unwrap();
        assert!(ready.starts_with("READY=1\n"), "{ready}");
        assert_eq!(manager.next(Duration::from_millis(500)), None);
        server.terminate();
        server.ended(Duration::from_secs(10)).await;
        let stopping = manager.next(Duration::from_secs(1)).unwrap();
        assert!(stopping.starts_with("STOPPING=1\n"), "{stopping}");
        assert_eq!(manager.next(Duration::from_millis(1)), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_start_is_never_ready() {
    let manager = Manager::listen();
    let missing = manager.start("serve --migrate false", "sqlite:missing.db");
    assert_eq!(missing.run().await.code, Some(69));
    let wrong = manager.start("serve --max-calls 0", "sqlite:missing.db");
    assert_eq!(wrong.run().await.code, Some(2));
    assert_eq!(manager.next(Duration::from_millis(1)), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_manager_that_is_gone_does_no_harm() {
    let database = TestDatabase::create(Backend::Sqlite).await;
    let mut server = leadsmith("serve")
        .database(&database.url)
        .env("NOTIFY_SOCKET", "/nonexistent/notify")
        .serve()
        .await;
    eventually("the log says so", async || {
        server
            .log()
            .contains("the service manager cannot be notified")
    })
    .await;
    server.terminate();
    assert_eq!(server.ended(Duration::from_secs(10)).await.code(), Some(0));
}
