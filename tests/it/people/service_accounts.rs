//! Service accounts and their keys.

use std::time::Duration;

use leadsmith::core::role::Role;
use leadsmith_proto as proto;
use prost::Message as _;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use tonic::{Request, Status};
use uuid::Uuid;

use super::changes;
use crate::harness::{
    Backend, Caller, Harness, eventually, is_let_in, metadata, reason, violations,
};
use crate::on_both;

fn new_account(name: &str, role: proto::Role) -> proto::CreateServiceAccountRequest {
    proto::CreateServiceAccountRequest {
        service_account: Some(proto::ServiceAccount {
            name: name.into(),
            role: role.into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn create(caller: &Caller, name: &str) -> proto::ServiceAccount {
    let request = new_account(name, proto::Role::Sales);
    let answer = caller.service_accounts().create(request).await.unwrap();
    answer.into_inner().service_account.unwrap()
}

async fn create_key(caller: &Caller, id: &str) -> proto::CreateKeyResponse {
    let request = proto::CreateKeyRequest {
        id: id.into(),
        ..Default::default()
    };
    caller
        .service_accounts()
        .create_key(request)
        .await
        .unwrap()
        .into_inner()
}

async fn update(
    caller: &Caller,
    service_account: proto::ServiceAccount,
) -> Result<proto::ServiceAccount, Status> {
    let request = proto::UpdateServiceAccountRequest {
        service_account: Some(service_account),
        ..Default::default()
    };
    let answer = caller.service_accounts().update(request).await?;
    Ok(answer.into_inner().service_account.unwrap())
}

async fn history(h: &Harness, id: &str) -> Vec<proto::HistoryEntry> {
    let request = proto::ListServiceAccountHistoryRequest {
        id: id.into(),
        ..Default::default()
    };
    let answer = h
        .admin
        .service_accounts()
        .list_history(request)
        .await
        .unwrap();
    answer.into_inner().entries
}

on_both! {
    async fn an_account_calls_by_its_key_until_the_key_or_the_account_ends(h: Harness) {
        let second = h.another_server(|_| {}).await;
        let account = create(&h.admin, "billing").await;
        let created = create_key(&h.admin, &account.id).await;
        let key = created.key.unwrap();
        let billing = h.with_token(&created.api_key);
        billing.create_lead("Lovelace").await;
        assert!(is_let_in(&billing.at(&second)).await);

        let disable = proto::DisableServiceAccountRequest { id: account.id.clone(), ..Default::default() };
        let disabled = h.admin.service_accounts().disable(disable).await.unwrap().into_inner();
        assert!(!disabled.service_account.unwrap().enabled);
        assert!(!is_let_in(&billing).await);
        eventually("disabled everywhere", async || !is_let_in(&billing.at(&second)).await).await;
        let enable = proto::EnableServiceAccountRequest { id: account.id.clone(), ..Default::default() };
        h.admin.service_accounts().enable(enable).await.unwrap();
        eventually("enabled", async || is_let_in(&billing).await).await;

        let revoke = proto::RevokeKeyRequest { id: key.id.clone(), ..Default::default() };
        let revoked = h.admin.service_accounts().revoke_key(revoke.clone()).await.unwrap().into_inner();
        assert!(revoked.key.as_ref().unwrap().revoke_time.is_some());
        assert!(!is_let_in(&billing).await);
        let again = h.admin.service_accounts().revoke_key(revoke).await.unwrap().into_inner();
        assert_eq!(again, revoked, "no change");
        let unknown = proto::RevokeKeyRequest { id: Uuid::now_v7().to_string(), ..Default::default() };
        let refused = h.admin.service_accounts().revoke_key(unknown).await.unwrap_err();
        assert_eq!(reason(&refused), "API_KEY_NOT_FOUND");

        let entries = history(&h, &account.id).await;
        let field = format!("keys.{}", key.id);
        let told: Vec<_> = entries.iter().rev().map(changes).collect();
        let expected: [&[(&str, &str, &str)]; 5] = [
            &[("name", "", "billing"), ("role", "", "SALES"), ("enabled", "", "true")],
            &[(&field, "", "active")],
            &[("enabled", "true", "false")],
            &[("enabled", "false", "true")],
            &[(&field, "active", "revoked")],
        ];
        assert_eq!(told, expected);
        second.stop().await.unwrap();
    }

    async fn a_retry_of_create_key_gets_the_first_answer_without_the_key(h: Harness) {
        let account = create(&h.admin, "billing").await;
        let request = proto::CreateKeyRequest {
            id: account.id.clone(),
            request_id: Uuid::now_v7().to_string(),
            ..Default::default()
        };
        let first = h.admin.service_accounts().create_key(request.clone()).await.unwrap().into_inner();
        assert!(first.api_key.starts_with("lsk_"));
        let retry = h.admin.service_accounts().create_key(request.clone()).await.unwrap().into_inner();
        assert_eq!(retry, proto::CreateKeyResponse { api_key: String::new(), ..first.clone() });
        let second = h.another_server(|_| {}).await;
        let there = h.admin.at(&second).service_accounts().create_key(request).await.unwrap();
        assert_eq!(there.into_inner().encode_to_vec(), retry.encode_to_vec());
        assert!(is_let_in(&h.with_token(&first.api_key)).await);
        let list = proto::ListKeysRequest { id: account.id.clone(), ..Default::default() };
        let keys = h.admin.service_accounts().list_keys(list).await.unwrap().into_inner().keys;
        assert_eq!(keys.len(), 1);
        let preview = proto::CreateKeyRequest { id: account.id, validate_only: true, ..Default::default() };
        let preview = h.admin.service_accounts().create_key(preview).await.unwrap().into_inner();
        assert_eq!((preview.api_key.as_str(), preview.key.unwrap().id.as_str()), ("", ""));
        second.stop().await.unwrap();
    }

    async fn names_and_certificate_names_belong_to_one_account(h: Harness) {
        let billing = create(&h.admin, "billing").await;
        let crm = create(&h.admin, "crm").await;
        let taken = new_account("billing", proto::Role::Admin);
        let taken = h.admin.service_accounts().create(taken).await.unwrap_err();
        assert_eq!(reason(&taken), "DUPLICATE_SERVICE_ACCOUNT");
        assert_eq!(metadata(&taken, "service_account_id"), billing.id);
        let named = |account: &proto::ServiceAccount| proto::ServiceAccount {
            certificate_name: "DNS:crm.example".into(),
            ..account.clone()
        };
        let with_name = update(&h.admin, named(&crm)).await.unwrap();
        assert_eq!((with_name.certificate_name.as_str(), with_name.etag.as_str()), ("DNS:crm.example", "\"2\""));
        let taken = update(&h.admin, named(&billing)).await.unwrap_err();
        assert_eq!(reason(&taken), "DUPLICATE_CERTIFICATE_NAME");
        assert_eq!(metadata(&taken, "service_account_id"), crm.id);
        let stale = update(&h.admin, named(&crm)).await.unwrap_err();
        assert_eq!(reason(&stale), "ETAG_MISMATCH");
        let wrong = proto::ServiceAccount { certificate_name: "crm".into(), ..with_name };
        let wrong = update(&h.admin, wrong).await.unwrap_err();
        assert_eq!(violations(&wrong)[0].0, "service_account.certificate_name");
        let list = proto::ListServiceAccountsRequest { page_size: 1, ..Default::default() };
        let page = h.admin.service_accounts().list(list.clone()).await.unwrap().into_inner();
        assert_eq!(page.service_accounts, [billing]);
        let next = proto::ListServiceAccountsRequest { page_token: page.next_page_token, ..list };
        let page = h.admin.service_accounts().list(next).await.unwrap().into_inner();
        assert_eq!(page.service_accounts[0].id, crm.id);
        assert_eq!(page.next_page_token, "");
        let get = proto::GetServiceAccountRequest { id: Uuid::now_v7().to_string() };
        let unknown = h.admin.service_accounts().get(get).await.unwrap_err();
        assert_eq!(reason(&unknown), "SERVICE_ACCOUNT_NOT_FOUND");
    }

    async fn changes_of_the_command_line_stand_in_the_history(h: Harness) {
        let console = h.console();
        let account = console.create_account("billing", Role::Viewer).await.unwrap();
        let (key, _) = console.create_key("billing").await.unwrap();
        console.revoke_key(key.key.id).await.unwrap();
        console.set_certificate("billing", Some("DNS:x.example")).await.unwrap();
        let entries = history(&h, &account.id.to_string()).await;
        let commands: Vec<_> = entries.iter().rev().map(|entry| entry.rpc.as_str()).collect();
        assert_eq!(commands, [
            "leadsmith service-account create", "leadsmith service-account create-key",
            "leadsmith service-account revoke-key", "leadsmith service-account set-certificate",
        ]);
        let actor = entries[0].actor.as_ref().unwrap();
        assert_eq!(actor.kind(), proto::PrincipalKind::CommandLine);
    }
}

#[tokio::test]
async fn an_account_disabled_by_a_client_that_did_not_wait_is_refused_from_the_commit_on() {
    let h = Harness::start(Backend::Postgres).await;
    let account = create(&h.admin, "billing").await;
    let billing = h.with_token(&create_key(&h.admin, &account.id).await.api_key);
    // Commits take longer than the client waits.
    let db = h.database.connect().await;
    for sql in [
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_sleep(0.6); RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON service_accounts DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION slow()",
    ] {
        db.execute_unprepared(sql).await.unwrap();
    }
    assert!(is_let_in(&billing).await, "and its identity is cached");
    let mut request = Request::new(proto::DisableServiceAccountRequest {
        id: account.id.clone(),
        ..Default::default()
    });
    request.set_timeout(Duration::from_millis(200));
    let status = h.admin.service_accounts().disable(request).await;
    assert_eq!(reason(&status.unwrap_err()), "DEADLINE_EXCEEDED");
    eventually("committed", async || {
        let query = "SELECT name FROM service_accounts WHERE disable_time IS NOT NULL";
        let row = db.query_one_raw(Statement::from_string(DbBackend::Postgres, query));
        row.await.unwrap().is_some()
    })
    .await;
    // Otherwise the cache would accept the key for two seconds after the look-up.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!is_let_in(&billing).await);
}
