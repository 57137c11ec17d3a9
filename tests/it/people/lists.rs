//! The lists of people and machines, page by page, and what their page tokens are bound to.

use leadsmith::core::role::Role;
use leadsmith_proto as proto;
use tonic::Status;

use super::OTHER;
use crate::harness::{Caller, Harness, PASSWORD, reason, sign_in};
use crate::on_both;

/// A page: the ids of its rows, and the token of the next one.
type Page = Result<(Vec<String>, String), Status>;

/// Asks for a page of a list. Expands to an async closure of the caller, the page size and the page token.
macro_rules! list {
    ($service:ident.$method:ident($request:ident { $($field:tt)* }), $rows:ident) => {
        async |caller: &Caller, page_size: i32, page_token: String| -> Page {
            let request = proto::$request { page_size, page_token, $($field)* };
            let page = caller.$service().$method(request).await?.into_inner();
            let ids = page.$rows.into_iter().map(|row| row.id).collect();
            Ok((ids, page.next_page_token))
        }
    };
}

/// Compares the pages of one row, which two servers return in turns, with the whole list, which has two rows at
/// least. A token of this list is appended to `tokens`; those of other lists, which `tokens` has, are refused.
async fn check(
    name: &str,
    callers: &Callers,
    tokens: &mut Vec<String>,
    page: impl AsyncFn(&Caller, i32, String) -> Page,
) {
    let Callers { here, there, other } = callers;
    let (whole, end) = page(here, 0, String::new()).await.unwrap();
    assert!(whole.len() >= 2 && end.is_empty(), "{name}: {whole:?}");
    let (mut read, mut token) = (Vec::new(), String::new());
    let first = page(here, 1, String::new()).await.unwrap().1;
    for caller in [here, there].into_iter().cycle().take(whole.len()) {
        let (rows, next) = page(caller, 1, token).await.unwrap();
        assert_eq!(rows.len(), 1, "{name}");
        read.extend(rows);
        token = next;
    }
    assert!(token.is_empty(), "{name}: the last page");
    assert_eq!(read, whole, "{name}");

    let negative = page(here, -1, String::new()).await.unwrap_err();
    assert_eq!(reason(&negative), "FIELD_INVALID", "{name}");
    let foreign = page(other, 1, first.clone()).await.unwrap_err();
    assert_eq!(
        reason(&foreign),
        "PAGE_TOKEN_INVALID",
        "{name}: of another principal"
    );
    let altered = [format!("{first}A"), first[1..].to_owned()];
    for wrong in tokens.iter().chain(&altered) {
        let refused = page(here, 1, wrong.clone()).await.unwrap_err();
        assert_eq!(reason(&refused), "PAGE_TOKEN_INVALID", "{name}");
    }
    tokens.push(first);
}

/// One ADMIN at two servers, and another one.
struct Callers {
    here: Caller,
    there: Caller,
    other: Caller,
}

/// An account with two keys, whose history has three entries. Returns its id.
async fn account(h: &Harness) -> String {
    let console = h.console();
    let account = console
        .create_account("billing", Role::Sales)
        .await
        .unwrap();
    console
        .create_account("website", Role::Viewer)
        .await
        .unwrap();
    for _ in 0..2 {
        console.create_key("billing").await.unwrap();
    }
    account.id.to_string()
}

on_both! {
    async fn every_list_is_read_page_by_page_on_any_server(h: Harness) {
        let second = h.another_server(|_| {}).await;
        let callers = Callers {
            here: h.admin.clone(),
            there: h.admin.at(&second),
            other: h.operator("other", Role::Admin).await,
        };
        // An operator with two sessions and two entries.
        h.console().set_password("sales", OTHER.to_owned().into()).await.unwrap();
        for username in ["sales", "admin"] {
            for _ in 0..2 {
                let password = if username == "sales" { OTHER } else { PASSWORD };
                sign_in(h.channel(), username, password).await.unwrap();
            }
        }
        let sales = h.sales.id.to_string();
        let account = account(&h).await;
        let mut tokens = Vec::new();
        let tokens = &mut tokens;

        let page = list!(operators.list(ListOperatorsRequest { enabled: None }), operators);
        check("operators", &callers, tokens, page).await;
        let page = list!(operators.list(ListOperatorsRequest { enabled: Some(true) }), operators);
        check("enabled operators", &callers, tokens, page).await;
        let page = list!(
            operators.list_sessions(ListOperatorSessionsRequest { id: sales.clone() }),
            sessions
        );
        check("sessions of an operator", &callers, tokens, page).await;
        let page = list!(
            operators.list_history(ListOperatorHistoryRequest { id: sales.clone() }),
            entries
        );
        check("history of an operator", &callers, tokens, page).await;
        let page = list!(
            service_accounts.list(ListServiceAccountsRequest {}),
            service_accounts
        );
        check("service accounts", &callers, tokens, page).await;
        let page = list!(
            service_accounts.list_keys(ListKeysRequest { id: account.clone() }),
            keys
        );
        check("keys", &callers, tokens, page).await;
        let page = list!(
            service_accounts.list_history(ListServiceAccountHistoryRequest { id: account.clone() }),
            entries
        );
        check("history of a service account", &callers, tokens, page).await;
        let page = list!(auth.list_sessions(ListSessionsRequest {}), sessions);
        check("own sessions", &callers, tokens, page).await;

        let missing = uuid::Uuid::now_v7().to_string();
        let page = list!(
            operators.list_sessions(ListOperatorSessionsRequest { id: missing.clone() }),
            sessions
        );
        let refused = page(&h.admin, 0, String::new()).await.unwrap_err();
        assert_eq!(reason(&refused), "OPERATOR_NOT_FOUND");
        let page = list!(service_accounts.list_keys(ListKeysRequest { id: missing.clone() }), keys);
        let refused = page(&h.admin, 0, String::new()).await.unwrap_err();
        assert_eq!(reason(&refused), "SERVICE_ACCOUNT_NOT_FOUND");
        second.stop().await.unwrap();
    }
}
