//! Lists and searches: their contents, their order, and that each row is on exactly one page.

mod batches;
mod clients;
mod duplicates;
mod filters;
mod large;
mod ordering;
mod others;
mod outdated;
mod paging;
mod search;
mod search_format;
pub mod search_index;
mod search_text;
mod tokens;
mod totals;

use leadsmith_proto::{
    Lead, LeadState, ListLeadsRequest, ListLeadsResponse, SearchLeadsRequest, SearchLeadsResponse,
};
use tonic::{Response, Status};

use crate::harness::Caller;

/// Every order of a list of leads.
pub const ORDERS: [&str; 8] = [
    "create_time",
    "create_time desc",
    "update_time",
    "update_time desc",
    "last_name",
    "last_name desc",
    "company",
    "company desc",
];

pub const STATES: [LeadState; 3] = [
    LeadState::Open,
    LeadState::Deactivated,
    LeadState::Converted,
];

/// Every combination of states, starting with none.
pub fn choices_of_states() -> Vec<Vec<LeadState>> {
    (0..8)
        .map(|bits: usize| {
            (0..3)
                .filter(|bit| bits & (1 << bit) != 0)
                .map(|bit| STATES[bit])
                .collect()
        })
        .collect()
}

pub fn numbers(states: &[LeadState]) -> Vec<i32> {
    states.iter().map(|state| i32::from(*state)).collect()
}

pub async fn list(caller: &Caller, request: ListLeadsRequest) -> Result<ListLeadsResponse, Status> {
    caller.leads().list(request).await.map(Response::into_inner)
}

pub async fn search(
    caller: &Caller,
    request: SearchLeadsRequest,
) -> Result<SearchLeadsResponse, Status> {
    caller
        .leads()
        .search(request)
        .await
        .map(Response::into_inner)
}

/// More pages than any list of these tests has.
const MOST_PAGES: usize = 2_000;

/// All pages, each requested with the token of the previous one.
pub async fn pages<T>(mut page: impl AsyncFnMut(String) -> (Vec<T>, String)) -> Vec<Vec<T>> {
    let mut all = Vec::new();
    let mut token = String::new();
    for _ in 0..MOST_PAGES {
        let (rows, next) = page(token).await;
        all.push(rows);
        if next.is_empty() {
            return all;
        }
        token = next;
    }
    panic!("the pages do not end");
}

/// Every lead of a list, read in pages of this size. All but the last must be full.
pub async fn walk(caller: &Caller, request: &ListLeadsRequest, page_size: i32) -> Vec<Lead> {
    let pages = pages(async |page_token| {
        let request = ListLeadsRequest {
            page_size,
            page_token,
            ..request.clone()
        };
        let answer = list(caller, request).await.unwrap();
        (answer.leads, answer.next_page_token)
    })
    .await;
    let size = usize::try_from(page_size).unwrap();
    for page in &pages[..pages.len() - 1] {
        assert_eq!(page.len(), size, "a page before the last is full");
    }
    let last = pages.last().unwrap().len();
    assert!(last <= size);
    assert!(
        last > 0 || pages.len() == 1,
        "no page is empty but of an empty list"
    );
    pages.into_iter().flatten().collect()
}

pub fn ids(leads: &[Lead]) -> Vec<&str> {
    leads.iter().map(|lead| lead.id.as_str()).collect()
}

/// A lead's last name and company, which identify it.
pub fn names(leads: &[Lead]) -> Vec<(&str, &str)> {
    leads
        .iter()
        .map(|lead| (lead.last_name.as_str(), lead.company.as_str()))
        .collect()
}
