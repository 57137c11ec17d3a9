//! A page token opens the next page of what it was made for and nothing else: not with a byte flipped or
//! missing, not with other filters, not for somebody else, not by another RPC. Shown to fail by
//! `token-unsealed`.

use anyhow::{Result, ensure};
use leadsmith::wire::proto::{ListLeadsRequest, SearchLeadsRequest};
use tonic::{Code, Status};

use crate::harness::client::{Caller, reason};
use crate::harness::context::Context;
use crate::harness::report::Findings;

const LEADS: usize = 5;

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let desk = context.desk()?;
    let server = context.serve(&desk, &[]).await?;
    let caller = desk.caller(&server).await?;
    let other = desk.caller_as(&server, 1).await?;
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
        let asked = ListLeadsRequest {
            page_size: 2,
            order_by: (*order_by).to_owned(),
            ..Default::default()
        };
        let answer = caller.leads().list(caller.request(asked.clone())).await?;
        let token = answer.into_inner().next_page_token;
        ensure!(!token.is_empty(), "there is no second page");
        let mut check = |what: &str, answer: Result<usize, Status>| {
            tried += 1;
            findings.expect(is_refused(&answer), || format!("{what}: {answer:?}"));
        };
        for altered in altered(&token, context.size(1, 8)) {
            let answer = list(&caller, &asked, &altered).await;
            check(&format!("{altered:?} for {token:?}"), answer);
        }
        for (what, asked) in others(&asked) {
            check(what, list(&caller, &asked, &token).await);
        }
        check("another principal", list(&other, &asked, &token).await);
        let search = SearchLeadsRequest {
            query: "Bell".to_owned(),
            page_size: 2,
            page_token: token.clone(),
            ..Default::default()
        };
        let answer = caller.leads().search(caller.request(search)).await;
        check(
            "another RPC",
            answer.map(|answer| answer.into_inner().leads.len()),
        );
        // The token itself is as good as before.
        let answer = list(&caller, &asked, &token).await?;
        ensure!(answer == 2, "the second page has {answer} leads");
    }
    findings.fact("tokens tried", tried);
    findings.finish()
}

fn is_refused(answer: &Result<usize, Status>) -> bool {
    let refused = |status: &Status| {
        status.code() == Code::InvalidArgument && reason(status) == "PAGE_TOKEN_INVALID"
    };
    answer.as_ref().err().is_some_and(refused)
}

/// How many leads the page has that a token opens.
async fn list(caller: &Caller, asked: &ListLeadsRequest, token: &str) -> Result<usize, Status> {
    let asked = ListLeadsRequest {
        page_token: token.to_owned(),
        ..asked.clone()
    };
    let answer = caller.leads().list(caller.request(asked)).await?;
    Ok(answer.into_inner().leads.len())
}

/// The token with each character made another, and each of its ends cut off.
fn altered(token: &str, ways: usize) -> Vec<String> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut all = Vec::new();
    for (index, letter) in token.bytes().enumerate() {
        let place = LETTERS
            .iter()
            .position(|known| *known == letter)
            .unwrap_or(0);
        for way in 0..ways {
            let mut bytes = token.as_bytes().to_vec();
            // A bit of what it stands for is flipped.
            bytes[index] = LETTERS[place ^ (1 << ((index + way) % 6))];
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

/// The same question with something else in it.
fn others(asked: &ListLeadsRequest) -> Vec<(&'static str, ListLeadsRequest)> {
    let asked = || asked.clone();
    vec![
        (
            "other states",
            ListLeadsRequest {
                states: vec![2],
                ..asked()
            },
        ),
        (
            "another source",
            ListLeadsRequest {
                source: "fair".to_owned(),
                ..asked()
            },
        ),
        (
            "another country",
            ListLeadsRequest {
                country_code: "PT".to_owned(),
                ..asked()
            },
        ),
        (
            "another order",
            ListLeadsRequest {
                order_by: "company".to_owned(),
                ..asked()
            },
        ),
        (
            "the reverse",
            ListLeadsRequest {
                order_by: "last_name desc".to_owned(),
                ..asked()
            },
        ),
    ]
}
