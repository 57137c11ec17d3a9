//! Who changed operators and service accounts, from the lines of the server and of the commands alone.

use leadsmith_proto as proto;
use serde_json::Value;
use uuid::Uuid;

use super::{caller, command, lines, lines_so_far, logged, serve, text};
use crate::harness::{PASSWORD, reason};
use crate::on_both_empty;

/// The record, and what the call did: its effect, or its reason to fail.
fn outcome(line: &Value) -> (String, String, String) {
    let rpc = text(line, "rpc").trim_start_matches("leadsmith.v1.");
    let effect = if line["effect"].is_null() {
        "reason"
    } else {
        "effect"
    };
    let records = text(line, "records");
    (
        rpc.to_owned(),
        text(line, effect).to_owned(),
        records.to_owned(),
    )
}

on_both_empty! {
    async fn changes_of_people_and_machines_name_their_records(database: TestDatabase) {
        let mut server = serve(&database).await;
        let created = command(&database, "operator create --username ada --role ADMIN").run().await;
        assert_eq!(created.code, Some(0), "{created:?}");
        let ada = caller(&server, "ada").await;
        let new = proto::CreateOperatorRequest {
            operator: Some(proto::Operator {
                username: "bob".into(),
                role: proto::Role::Sales.into(),
                ..Default::default()
            }),
            password: PASSWORD.into(),
            request_id: Uuid::now_v7().to_string(),
            ..Default::default()
        };
        let bob = ada.operators().create(new.clone()).await.unwrap().into_inner().operator.unwrap();
        ada.operators().create(new).await.unwrap();
        let disable = proto::DisableOperatorRequest {
            id: bob.id.clone(),
            request_id: Uuid::now_v7().to_string(),
            ..Default::default()
        };
        let tried = proto::DisableOperatorRequest {
            validate_only: true,
            request_id: String::new(),
            ..disable.clone()
        };
        ada.operators().disable(tried).await.unwrap();
        for _ in 0..2 {
            ada.operators().disable(disable.clone()).await.unwrap();
        }
        let own = ada.auth().who_am_i(proto::WhoAmIRequest {}).await.unwrap().into_inner();
        let own = own.principal.unwrap().id;
        let last = proto::DisableOperatorRequest { id: own.clone(), ..Default::default() };
        let refused = ada.operators().disable(last).await.unwrap_err();
        assert_eq!(reason(&refused), "LAST_ADMIN");
        let account = proto::CreateServiceAccountRequest {
            service_account: Some(proto::ServiceAccount {
                name: "crm".into(),
                role: proto::Role::Sales.into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let account = ada.service_accounts().create(account).await.unwrap().into_inner();
        let account = account.service_account.unwrap().id;
        let create = proto::CreateKeyRequest { id: account.clone(), ..Default::default() };
        let created = ada.service_accounts().create_key(create).await.unwrap().into_inner();
        let key = created.key.unwrap().id;
        let revoke = proto::RevokeKeyRequest { id: key.clone(), ..Default::default() };
        ada.service_accounts().revoke_key(revoke).await.unwrap();
        let end = proto::EndOtherSessionsRequest::default();
        ada.auth().end_other_sessions(end).await.unwrap();
        logged(&server, "the last call", |line| text(line, "rpc").ends_with("/EndOtherSessions")).await;

        let log = lines_so_far(&server);
        let calls: Vec<_> = log
            .iter()
            .filter(|line| text(line, "message").starts_with("call ") && text(line, "principal") == "ada")
            .map(outcome)
            .filter(|(rpc, ..)| rpc != "AuthService/SignIn")
            .collect();
        let line = |rpc: &str, effect: &str, record: String| (rpc.to_owned(), effect.to_owned(), record);
        let (ada_record, bob_record) = (format!("operator/{own}"), format!("operator/{}", bob.id));
        let account_record = format!("service_account/{account}");
        assert_eq!(calls, [
            line("OperatorService/Create", "changed", bob_record.clone()),
            line("OperatorService/Create", "replayed", bob_record.clone()),
            line("OperatorService/Disable", "validated", bob_record.clone()),
            line("OperatorService/Disable", "changed", bob_record.clone()),
            line("OperatorService/Disable", "replayed", bob_record.clone()),
            line("OperatorService/Disable", "LAST_ADMIN", ada_record.clone()),
            line("ServiceAccountService/Create", "changed", account_record.clone()),
            line("ServiceAccountService/CreateKey", "changed", account_record.clone()),
            line("ServiceAccountService/RevokeKey", "changed", account_record),
            line("AuthService/EndOtherSessions", "changed", ada_record),
        ]);
        assert!(!server.log().contains(&created.api_key));

        // A command names the user of the operating system, as the history does.
        let enabled = command(&database, "operator enable --username bob").run().await;
        let lines = lines(&enabled.err);
        let line = lines.iter().find(|line| line["message"] == "command completed").unwrap();
        assert_eq!(text(line, "command"), "operator enable");
        assert_eq!(text(line, "records"), bob_record);
        assert_eq!(text(line, "principal_kind"), "COMMAND_LINE");
        let history = proto::ListOperatorHistoryRequest { id: bob.id, ..Default::default() };
        let history = ada.operators().list_history(history).await.unwrap().into_inner();
        let entry = &history.entries[0];
        let actor = entry.actor.clone().unwrap();
        assert_eq!(entry.rpc, "leadsmith operator enable");
        assert_eq!(actor.kind(), proto::PrincipalKind::CommandLine);
        assert_eq!((actor.id.as_str(), actor.name.as_str()), ("", text(line, "principal")));
        assert!(line["uid"].is_number() && !actor.name.is_empty(), "{line}");
        server.terminate();
        assert!(server.ended(std::time::Duration::from_secs(10)).await.success());
    }
}
