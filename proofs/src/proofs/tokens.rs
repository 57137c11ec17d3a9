//! A page token returns the next page of the list that it was issued for, and nothing else. It is rejected with a
//! flipped bit or a missing byte, with other filters, for another principal, and in another RPC. Shown to fail by
//! `token-unsealed`.

use anyhow::{Result, ensure};
use leadsmith_proto::{ListLeadsRequest, SearchLeadsRequest};
use tonic::{Code, Status};

use crate::harness::client::{Caller, reason};
use crate::harness::context::Context;
use crate::harness::report::Findings;

const LEADS: usize = 5;

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let fixture = context.fixture()?;
    let server = context.serve(&fixture, &[]).await?;
    let caller = fixture.caller(&server).await?;
    let other = fixture.caller_as(&server, 1).await?;
    for number in 0..LEADS {
        caller.create(&format!("Bell {number}"), "").await?;
    }
    let mut tried = 0;
    let orders: &[&str] = context.size(
        &["last_name"],
        &[
            "last_name",
            "company desc",
            "create_time",
            "update_time desc",
        ],
    );
    for order_by in orders {
        let list_request = ListLeadsRequest {
            page_size: 2,
            order_by: (*order_by).to_owned(),
            ..Default::default()
        };
        let response = caller
            .leads()
            .list(caller.request(list_request.clone()))
            .await?;
        let token = response.into_inner().next_page_token;
        ensure!(!token.is_empty(), "there is no second page");
        let mut check = |what: &str, response: Result<usize, Status>| {
            tried += 1;
            findings.expect(is_rejected(&response), || format!("{what}: {response:?}"));
        };
        for altered in altered(&token, context.size(1, 8)) {
            let response = list(&caller, &list_request, &altered).await;
            check(&format!("{altered:?} for {token:?}"), response);
        }
        for (what, list_request) in others(&list_request) {
            check(what, list(&caller, &list_request, &token).await);
        }
        check(
            "another principal",
            list(&other, &list_request, &token).await,
        );
        let search = SearchLeadsRequest {
            query: "Bell".to_owned(),
            page_size: 2,
            page_token: token.clone(),
            ..Default::default()
        };
        let response = caller.leads().search(caller.request(search)).await;
        check(
            "another RPC",
            response.map(|response| response.into_inner().leads.len()),
        );
        // The token itself is still valid.
        let response = list(&caller, &list_request, &token).await?;
        ensure!(response == 2, "the second page has {response} leads");
    }
    findings.fact("tokens tried", tried);
    findings.finish()
}

fn is_rejected(response: &Result<usize, Status>) -> bool {
    let rejected = |status: &Status| {
        status.code() == Code::InvalidArgument && reason(status) == "PAGE_TOKEN_INVALID"
    };
    response.as_ref().err().is_some_and(rejected)
}

/// The number of leads on the page of a token.
async fn list(
    caller: &Caller,
    list_request: &ListLeadsRequest,
    token: &str,
) -> Result<usize, Status> {
    let list_request = ListLeadsRequest {
        page_token: token.to_owned(),
        ..list_request.clone()
    };
    let response = caller.leads().list(caller.request(list_request)).await?;
    Ok(response.into_inner().leads.len())
}

/// The token with each character changed, and truncated at either end at every position.
fn altered(token: &str, ways: usize) -> Vec<String> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut all = Vec::new();
    for (index, letter) in token.bytes().enumerate() {
        let position = LETTERS
            .iter()
            .position(|known| *known == letter)
            .unwrap_or(0);
        for way in 0..ways {
            let mut bytes = token.as_bytes().to_vec();
            // Flips one bit of the encoded value.
            bytes[index] = LETTERS[position ^ (1 << ((index + way) % 6))];
            all.push(String::from_utf8_lossy(&bytes).into_owned());
        }
        if index > 0 {
            all.push(token[..index].to_owned());
            all.push(token[index..].to_owned());
        }
    }
    all.push(format!("{token}A"));
    all.push(format!("{token}="));
    all.push(format!("{token}{token}"));
    all
}

/// The same request with another filter or order.
fn others(list_request: &ListLeadsRequest) -> Vec<(&'static str, ListLeadsRequest)> {
    let list_request = || list_request.clone();
    vec![
        (
            "other states",
            ListLeadsRequest {
                states: vec![2],
                ..list_request()
            },
        ),
        (
            "another source",
            ListLeadsRequest {
                source: "fair".to_owned(),
                ..list_request()
            },
        ),
        (
            "another country",
            ListLeadsRequest {
                country_code: "PT".to_owned(),
                ..list_request()
            },
        ),
        (
            "another order",
            ListLeadsRequest {
                order_by: "company".to_owned(),
                ..list_request()
            },
        ),
        (
            "the reverse",
            ListLeadsRequest {
                order_by: "last_name desc".to_owned(),
                ..list_request()
            },
        ),
    ]
}
