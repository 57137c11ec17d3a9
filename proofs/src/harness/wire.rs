//! Hand-made HTTP/2: frames that no normal client would send, over plain TCP. It uses blocking I/O, so it must run
//! on its own thread, which has a lower priority than the server.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Result;

/// How long a write may block if the server does not read, and a read if the server does not write.
const TIMEOUT: Duration = Duration::from_secs(2);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (RFC 9113, 6).
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

/// An HPACK header without compression, which the receiver must not store in its dynamic table.
pub fn header(name: &str, value: &str) -> Vec<u8> {
    let mut text = vec![0];
    for part in [name, value] {
        // A prefix of 7 bits, then the rest of the length in groups of 7 bits.
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

/// A gRPC frame with a message.
pub fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(0).to_be_bytes();
    [&[0], &length[..], bytes].concat()
}

/// A connection.
pub struct Wire(TcpStream);

impl Wire {
    /// Connects without sending anything.
    pub fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self(stream))
    }

    /// Connects and sends these settings, each an identifier and its value.
    pub fn open(address: &str, settings: &[(u16, u32)]) -> Result<Self> {
        let mut wire = Self::connect(address)?;
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        wire.send(PREFACE);
        wire.send(&frame(SETTINGS, 0, 0, &settings));
        Ok(wire)
    }

    /// Sends bytes. Returns whether the server still accepts them.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// Sends the first bytes of the preface one by one, with pauses.
    pub fn send_preface_slowly(&mut self, pause: Duration) {
        for byte in &PREFACE[..12] {
            if !self.send(&[*byte]) {
                return;
            }
            std::thread::sleep(pause);
        }
    }

    /// Reads and discards data until the server closes the connection or the time is over. Returns whether the
    /// server has closed it.
    pub fn read_until_closed(&mut self, time_limit: Duration) -> bool {
        let started = Instant::now();
        let mut buffer = vec![0; 64 * 1024];
        let pause = time_limit.min(Duration::from_millis(50));
        if self.0.set_read_timeout(Some(pause)).is_err() {
            return true;
        }
        while started.elapsed() < time_limit {
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

/// Runs blocking work on its own thread with a low priority, because the sender must not take processor time from
/// the server, whose behaviour is measured.
pub async fn on_own_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // If the priority cannot be changed, the work runs anyway.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 15);
        let _ = sender.send(work());
    });
    receiver.await?
}
