//! HTTP/2 by hand: frames that no client would send, over plain TCP. It blocks, so it belongs on a
//! thread of its own, and that thread steps back behind the others of this machine.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Result;

/// How long writing to a server that does not read may take, and reading from one that is silent.
const PATIENCE: Duration = Duration::from_secs(2);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The kinds of frames (RFC 9113, 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RESET: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const CONTINUATION: u8 = 9;
/// Flags of DATA and HEADERS.
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header in HPACK, in clear and not to be kept by the other side.
pub fn header(name: &str, value: &str) -> Vec<u8> {
    let mut text = vec![0];
    for part in [name, value] {
        // A length of 7 bits, then the rest of it by 7 bits each.
        match part.len() {
            short @ 0..127 => text.push(u8::try_from(short).unwrap_or(0)),
            long => {
                let mut rest = long - 127;
                text.push(127);
                while rest > 127 {
                    text.push(u8::try_from(rest % 128).unwrap_or(0) | 128);
                    rest /= 128;
                }
                text.push(u8::try_from(rest).unwrap_or(0));
            }
        }
        text.extend(part.as_bytes());
    }
    text
}

/// The headers of a call to an RPC, given as `package.Service/Method`.
pub fn call(rpc: &str, token: &str) -> Vec<u8> {
    [
        header(":method", "POST"),
        header(":scheme", "http"),
        header(":path", &format!("/{rpc}")),
        header(":authority", "localhost"),
        header("te", "trailers"),
        header("content-type", "application/grpc"),
        header("authorization", &format!("Bearer {token}")),
    ]
    .concat()
}

/// A message in gRPC's frame.
pub fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(0).to_be_bytes();
    [&[0], &length[..], bytes].concat()
}

/// A connection.
pub struct Wire(TcpStream);

impl Wire {
    /// Connects, and says nothing.
    pub fn silent(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    /// Connects and says these settings, each a number and its value.
    pub fn open(address: &str, settings: &[(u16, u32)]) -> Result<Self> {
        let mut wire = Self::silent(address)?;
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        wire.send(PREFACE);
        wire.send(&frame(SETTINGS, 0, 0, &settings));
        Ok(wire)
    }

    /// Sends, and says whether the server still takes it.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// The first bytes of the preface, one after the other, with pauses.
    pub fn dribble(&mut self, pause: Duration) {
        for byte in &PREFACE[..12] {
            if !self.send(&[*byte]) {
                return;
            }
            std::thread::sleep(pause);
        }
    }

    /// Reads what comes until the server hangs up, is silent, or enough time is gone. Says whether it
    /// has hung up.
    pub fn drain(&mut self, patience: Duration) -> bool {
        let begun = Instant::now();
        let mut buffer = vec![0; 64 * 1024];
        let pause = patience.min(Duration::from_millis(50));
        if self.0.set_read_timeout(Some(pause)).is_err() {
            return true;
        }
        while begun.elapsed() < patience {
            match self.0.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return true,
            }
        }
        false
    }
}

/// Runs what blocks on a thread of its own that lets everybody else go first: it is what the server
/// does with it that is measured.
pub async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Where that cannot be, it goes on as it is.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 15);
        let _ = answer.send(work());
    });
    answered.await?
}
