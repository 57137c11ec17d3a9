//! Calls below the generated clients: any path, any bytes, any `authorization` header.

use std::time::Duration;

use prost::bytes::{Buf, BufMut};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Takes messages as the bytes they are.
#[derive(Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}

/// Sends one message to an RPC, given as `package.Service/Method`, and takes the first one of the
/// answer, of which a stream may have none.
pub async fn call(
    channel: &Channel,
    rpc: &str,
    authorization: Option<&[u8]>,
    body: Vec<u8>,
) -> Result<Option<Vec<u8>>, Status> {
    let mut request = Request::new(futures_util::stream::iter([body]));
    if let Some(value) = authorization {
        let value = MetadataValue::try_from(value).unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let path = format!("/{rpc}").parse().unwrap();
    let mut client = Grpc::new(channel.clone());
    let work = async {
        client.ready().await.unwrap();
        let answer = client.streaming(request, path, Bytes).await?;
        answer.into_inner().message().await
    };
    tokio::time::timeout(Duration::from_secs(20), work)
        .await
        .unwrap_or_else(|_| panic!("{rpc} does not answer"))
}
