//! Compares every error in the tests with the comment of its RPC, so that the manual documents all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use leadsmith_proto::ErrorReason;
use prost_reflect::DescriptorPool;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Channel, Error};
use tonic_types::StatusExt;
use tower::Service;

/// The reasons of `error_reason.proto`, except the unspecified one.
pub fn reasons() -> BTreeSet<String> {
    let numbers = 1..1_000;
    numbers
        .filter_map(|number| ErrorReason::try_from(number).ok())
        .map(|reason| reason.as_str_name().replace("ERROR_REASON_", ""))
        .collect()
}

/// The comment of each RPC, as `package.Service/Method`.
pub fn comments() -> BTreeMap<String, String> {
    let pool = DescriptorPool::decode(leadsmith_proto::DESCRIPTORS).unwrap();
    let mut comments = BTreeMap::new();
    for file in pool.files() {
        let file = file.file_descriptor_proto();
        let Some(info) = &file.source_code_info else {
            continue;
        };
        for (s, service) in (0..).zip(&file.service) {
            for (m, method) in (0..).zip(&service.method) {
                // The field numbers of `service` in a file and of `method` in a service.
                let path = [6, s, 2, m];
                let location = info.location.iter().find(|location| location.path == path);
                let comment = location.and_then(|location| location.leading_comments.clone());
                let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                comments.insert(name, comment.unwrap_or_default());
            }
        }
    }
    comments
}

/// The reasons that a comment documents for its RPC.
pub fn promised(comment: &str) -> BTreeSet<String> {
    let (_, reasons) = comment.split_once("Reasons:").unwrap_or_default();
    reasons
        .split(|character: char| !character.is_ascii_uppercase() && character != '_')
        // Excludes parts of other words: "RPC", and initial letters.
        .filter(|word| word.len() > 3)
        .map(str::to_owned)
        .collect()
}

static PROMISED: LazyLock<BTreeMap<String, BTreeSet<String>>> = LazyLock::new(|| {
    let comments = comments().into_iter();
    comments
        .map(|(rpc, comment)| (format!("/{rpc}"), promised(&comment)))
        .collect()
});

/// A channel whose errors are compared.
#[derive(Clone)]
pub struct Documented(pub Channel);

impl Service<http::Request<Body>> for Documented {
    type Response = http::Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response, Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path().to_owned();
        let call = self.0.call(request);
        Box::pin(async move {
            let response = call.await?;
            if let Some(status) = Status::from_header_map(response.headers())
                && let Some(info) = status.get_error_details().error_info()
            {
                let promised = &PROMISED[&path];
                assert!(
                    promised.contains(&info.reason),
                    "the comment of {path} does not name {}",
                    info.reason
                );
            }
            Ok(response)
        })
    }
}
