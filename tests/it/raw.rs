//! Calls without the generated clients: any path, any bytes, any `authorization` header.

use std::time::Duration;

use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::codec::Bytes;

/// Sends one message to an RPC, given as `package.Service/Method`, and returns the first message of the response.
/// A stream may have none.
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
