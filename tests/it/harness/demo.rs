//! `leadsmith demo` as a process, with what it prints.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// The running demo. It is killed on drop.
pub struct Demo {
    pub address: SocketAddr,
    /// Everything that it printed.
    pub text: String,
    pub token: String,
    pub password: String,
    child: Child,
    _folder: TempDir,
}

impl Demo {
    /// Starts it on a free port, and waits up to 10 seconds until it has printed everything.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let printed = folder.path().join("printed");
        let address = free_address();
        let child = Command::new(crate::program::binary())
            .arg("demo")
            .env("LEADSMITH_LISTEN", address.to_string())
            .stdout(File::create(&printed).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut demo = Self {
            address,
            text: String::new(),
            token: String::new(),
            password: String::new(),
            child,
            _folder: folder,
        };
        for _ in 0..500 {
            demo.text = std::fs::read_to_string(&printed).unwrap();
            if demo.text.contains("OrderService/ListRuns") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        demo.token = demo.printed_after("export TOKEN=");
        demo.password = demo.printed_after("your password is ");
        demo
    }

    /// The rest of the line after this text.
    fn printed_after(&self, text: &str) -> String {
        let line = self.text.split_once(text).map(|(_, rest)| rest);
        let line = line.unwrap_or_else(|| panic!("no {text:?} in {:?}", self.text));
        line.lines().next().unwrap().to_owned()
    }

    /// Stops it by SIGTERM.
    pub fn stop(mut self) -> ExitStatus {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that was free a moment ago.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// The grpcurl to run.
pub fn grpcurl() -> PathBuf {
    let path = std::env::var_os("LEADSMITH_TEST_GRPCURL").expect(
        "this test needs grpcurl: run it by scripts/test, which gets one, or set \
         LEADSMITH_TEST_GRPCURL to yours",
    );
    path.into()
}
