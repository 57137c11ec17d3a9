//! Calls to any RPC with arbitrary bytes and headers, through a correct HTTP/2 implementation.

use std::time::Duration;

use anyhow::{Context as _, Result};
use h2::SendStream;
use h2::client::ResponseFuture;
use http::Request;
use prost::bytes::Bytes;
use tokio::net::TcpStream;
use tonic::Status;

use super::client::reason;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A gRPC frame with a message. `flag` says whether it is compressed.
pub fn framed(flag: u8, message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[flag], &length.to_be_bytes()[..], message]
        .concat()
        .into()
}

/// A connection.
pub struct Raw {
    client: h2::client::SendRequest<Bytes>,
    address: String,
}

impl Raw {
    pub async fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let (client, connection) = h2::client::handshake(stream).await?;
        // It ends when the last sender is dropped.
        tokio::spawn(connection);
        Ok(Self {
            client,
            address: address.to_owned(),
        })
    }

    /// Calls an RPC, given as `package.Service/Method`, and returns the status of the response.
    pub async fn call(&self, rpc: &str, headers: &[(&str, &str)], body: Bytes) -> Result<Status> {
        let work = self.exchange(rpc, headers, body);
        tokio::time::timeout(TIMEOUT, work).await?
    }

    async fn exchange(&self, rpc: &str, headers: &[(&str, &str)], body: Bytes) -> Result<Status> {
        self.begin(rpc, headers).await?.end(body).await
    }

    /// Starts a call without sending its body.
    pub async fn begin(&self, rpc: &str, headers: &[(&str, &str)]) -> Result<StartedCall> {
        let mut request = Request::post(format!("http://{}/{rpc}", self.address))
            .header("te", "trailers")
            .header("content-type", "application/grpc");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut client = self.client.clone().ready().await?;
        let (response, stream) = client.send_request(request.body(())?, false)?;
        Ok(StartedCall { response, stream })
    }
}

/// A call whose body is not complete.
pub struct StartedCall {
    response: ResponseFuture,
    stream: SendStream<Bytes>,
}

impl StartedCall {
    /// Sends a part of the body.
    pub fn send(&mut self, part: Bytes) -> Result<()> {
        Ok(self.stream.send_data(part, false)?)
    }

    /// Sends the rest of the body and returns the status of the response.
    pub async fn end(mut self, rest: Bytes) -> Result<Status> {
        // This fails if the server responded without waiting for the body.
        let _ = self.stream.send_data(rest, true);
        let response = self.response.await?;
        if let Some(status) = Status::from_header_map(response.headers()) {
            return Ok(status);
        }
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            let length = data?.len();
            body.flow_control().release_capacity(length)?;
        }
        let trailers = body.trailers().await?.context("no trailers")?;
        Status::from_header_map(&trailers).context("no status")
    }
}

/// A status as the contract defines it: the code and the reason.
pub fn code_and_reason(status: &Status) -> String {
    format!("{:?} {}", status.code(), reason(status))
        .trim_end()
        .to_owned()
}
