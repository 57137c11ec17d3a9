//! The services that need no token: health and server reflection.

use std::collections::BTreeSet;

use prost_reflect::DescriptorPool;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::on_both;

on_both! {
    async fn health_answers_without_a_token(h: Harness) {
        let mut client = HealthClient::new(h.channel());
        let pool = DescriptorPool::decode(leadsmith_proto::DESCRIPTORS).unwrap();
        let mut names: Vec<String> = pool.services().map(|s| s.full_name().to_owned()).collect();
        assert!(names.len() >= 5, "{names:?}");
        names.push(String::new());
        for service in names {
            let request = HealthCheckRequest { service: service.clone() };
            let answer = client.check(request).await.unwrap_or_else(|status| {
                panic!("no health of {service:?}: {status:?}")
            });
            assert_eq!(answer.into_inner().status(), ServingStatus::Serving, "{service}");
        }
        let request = HealthCheckRequest { service: "leadsmith.v1.Nonsense".into() };
        assert_eq!(client.check(request).await.unwrap_err().code(), Code::NotFound);
    }

    async fn reflection_answers_without_a_token_and_knows_the_details_of_errors(h: Harness) {
        let pool = DescriptorPool::decode(leadsmith_proto::DESCRIPTORS).unwrap();
        let ours: BTreeSet<String> = pool.services().map(|s| s.full_name().to_owned()).collect();
        for version in ["v1", "v1alpha"] {
            let services = match version {
                "v1" => v1::services(&h).await,
                _ => v1alpha::services(&h).await,
            };
            assert!(services.is_superset(&ours), "{version}: {services:?}");
            assert!(services.contains("grpc.health.v1.Health"), "{version}");
            for message in ["ErrorInfo", "BadRequest", "RetryInfo", "PreconditionFailure", "ResourceInfo"] {
                let symbol = format!("google.rpc.{message}");
                let files = match version {
                    "v1" => v1::files_with(&h, &symbol).await,
                    _ => v1alpha::files_with(&h, &symbol).await,
                };
                let found = files.iter().any(|file| {
                    file.package() == "google.rpc"
                        && file.message_type.iter().any(|m| m.name() == message)
                });
                assert!(found, "{version} has no {symbol}");
            }
        }
    }
}

macro_rules! reflection {
    ($version:ident) => {
        mod $version {
            use std::collections::BTreeSet;

            use prost::Message;
            use prost_types::FileDescriptorProto;
            use tonic_reflection::pb::$version as pb;

            use pb::server_reflection_client::ServerReflectionClient;
            use pb::server_reflection_request::MessageRequest;
            use pb::server_reflection_response::MessageResponse;

            use crate::harness::Harness;

            async fn ask(h: &Harness, question: MessageRequest) -> MessageResponse {
                let request = pb::ServerReflectionRequest {
                    host: String::new(),
                    message_request: Some(question),
                };
                let requests = futures_util::stream::iter([request]);
                let mut client = ServerReflectionClient::new(h.channel());
                let answer = client.server_reflection_info(requests).await.unwrap();
                let message = answer.into_inner().message().await.unwrap().unwrap();
                message.message_response.unwrap()
            }

            pub async fn services(h: &Harness) -> BTreeSet<String> {
                let answer = ask(h, MessageRequest::ListServices(String::new())).await;
                let MessageResponse::ListServicesResponse(list) = answer else {
                    panic!("{answer:?}");
                };
                list.service.into_iter().map(|s| s.name).collect()
            }

            pub async fn files_with(h: &Harness, symbol: &str) -> Vec<FileDescriptorProto> {
                let answer = ask(h, MessageRequest::FileContainingSymbol(symbol.into())).await;
                let MessageResponse::FileDescriptorResponse(files) = answer else {
                    panic!("{answer:?}");
                };
                let decode = |bytes: &Vec<u8>| FileDescriptorProto::decode(bytes.as_slice());
                let files = files.file_descriptor_proto.iter().map(decode);
                files.map(|file| file.unwrap()).collect()
            }
        }
    };
}

reflection!(v1);
reflection!(v1alpha);
