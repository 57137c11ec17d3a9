//! Operators and service accounts over gRPC. This file has what the tests share.

mod last_admin;
mod lists;
mod operators;
mod passwords;
mod retries;
mod service_accounts;
mod sessions;

use leadsmith_proto as proto;
use tonic::Status;

use crate::harness::Caller;

const OTHER: &str = "another horse, another battery";

/// The request of a new operator with this username and the tests' password.
fn new_operator(username: &str, role: proto::Role) -> proto::CreateOperatorRequest {
    proto::CreateOperatorRequest {
        operator: Some(proto::Operator {
            username: username.into(),
            role: role.into(),
            ..Default::default()
        }),
        password: crate::harness::PASSWORD.into(),
        ..Default::default()
    }
}

async fn create(caller: &Caller, username: &str, role: proto::Role) -> proto::Operator {
    let answer = caller
        .operators()
        .create(new_operator(username, role))
        .await;
    answer.unwrap().into_inner().operator.unwrap()
}

async fn get(caller: &Caller, id: &str) -> proto::Operator {
    let request = proto::GetOperatorRequest { id: id.into() };
    let answer = caller.operators().get(request).await.unwrap();
    answer.into_inner().operator.unwrap()
}

async fn update(
    caller: &Caller,
    operator: proto::Operator,
    paths: &[&str],
) -> Result<proto::Operator, Status> {
    let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    let request = proto::UpdateOperatorRequest {
        operator: Some(operator),
        update_mask: (!paths.is_empty()).then_some(prost_types::FieldMask { paths }),
        ..Default::default()
    };
    let answer = caller.operators().update(request).await?;
    Ok(answer.into_inner().operator.unwrap())
}

async fn disable(caller: &Caller, id: &str) -> Result<proto::Operator, Status> {
    let request = proto::DisableOperatorRequest {
        id: id.into(),
        ..Default::default()
    };
    let answer = caller.operators().disable(request).await?;
    Ok(answer.into_inner().operator.unwrap())
}

async fn enable(caller: &Caller, id: &str) -> Result<proto::Operator, Status> {
    let request = proto::EnableOperatorRequest {
        id: id.into(),
        ..Default::default()
    };
    let answer = caller.operators().enable(request).await?;
    Ok(answer.into_inner().operator.unwrap())
}

/// An operator's history, newest first.
async fn history(caller: &Caller, id: &str) -> Vec<proto::HistoryEntry> {
    let request = proto::ListOperatorHistoryRequest {
        id: id.into(),
        ..Default::default()
    };
    let answer = caller.operators().list_history(request).await.unwrap();
    answer.into_inner().entries
}

/// The changed fields of an entry: the names with the old and the new values.
fn changes(entry: &proto::HistoryEntry) -> Vec<(&str, &str, &str)> {
    let changes = entry.changes.iter();
    changes
        .map(|change| {
            (
                change.field.as_str(),
                change.old_value.as_str(),
                change.new_value.as_str(),
            )
        })
        .collect()
}
