//! List, 50 OPEN leads, in every order: the rate of the first page, and the time of a page far behind it compared
//! with the first. Nothing changes meanwhile, so each response must contain the same leads.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use leadsmith_proto as proto;
use tonic::{Request, Response, Status};

use super::all_columns;
use crate::data::fold;
use crate::echo::Replies;
use crate::limits::pgbench::Script;
use crate::limits::sqlite::Queries;
use crate::limits::{Limit, Tables};
use crate::load::{Caller, Workload};
use crate::row::Row;
use crate::samples::Samples;
use crate::setting::Setting;
use crate::storage::{Database, Storage};
use crate::testbed::{Access, Testbed, Workloads};

/// How many leads a page has.
const PAGE: u64 = 50;
/// The number of the page far behind, if there are as many.
const FAR: u64 = 20_000;
/// Every order, with its columns.
const ORDERS: [(&str, &str); 8] = [
    ("create_time desc", "create_time DESC, id DESC"),
    ("create_time", "create_time, id"),
    ("update_time desc", "update_time DESC, id DESC"),
    ("update_time", "update_time, id"),
    ("last_name", "last_name_key, id"),
    ("last_name desc", "last_name_key DESC, id DESC"),
    ("company", "company_key, id"),
    ("company desc", "company_key DESC, id DESC"),
];

/// List of one page.
pub struct List {
    order_by: String,
    page_token: String,
    /// The ids of its leads.
    ids: Vec<String>,
}

impl List {
    /// The first page in the order of creation, newest first.
    pub async fn newest(caller: &mut Caller) -> Result<Self> {
        Self::page(caller, ORDERS[0].0, String::new()).await
    }

    /// The page of a token.
    async fn page(caller: &mut Caller, order_by: &str, page_token: String) -> Result<Self> {
        let body = body(order_by, &page_token, PAGE);
        let request = caller.request(body);
        let leads = caller.leads.list(request).await?.into_inner().leads;
        ensure!(leads.len() as u64 == PAGE, "a page of {}", leads.len());
        for pair in leads.windows(2) {
            let ordered = key(order_by, &pair[0]) < key(order_by, &pair[1]);
            let descending = order_by.ends_with("desc");
            ensure!(ordered != descending, "List does not order by {order_by}");
        }
        Ok(Self {
            order_by: order_by.to_owned(),
            page_token,
            ids: leads.into_iter().map(|lead| lead.id).collect(),
        })
    }
}

/// The position of a lead in an order.
fn key(order_by: &str, lead: &proto::Lead) -> (String, String) {
    let time = |time: Option<prost_types::Timestamp>| {
        let time = time.unwrap_or_default();
        format!("{:020}.{:09}", time.seconds, time.nanos)
    };
    let key = match order_by.split(' ').next() {
        Some("create_time") => time(lead.create_time),
        Some("update_time") => time(lead.update_time),
        Some("last_name") => fold(&lead.last_name),
        _ => fold(&lead.company),
    };
    (key, lead.id.clone())
}

fn body(order_by: &str, page_token: &str, size: u64) -> proto::ListLeadsRequest {
    proto::ListLeadsRequest {
        order_by: order_by.to_owned(),
        page_token: page_token.to_owned(),
        page_size: i32::try_from(size).unwrap_or(i32::MAX),
        ..proto::ListLeadsRequest::default()
    }
}

impl Workload for List {
    type Body = proto::ListLeadsRequest;
    type Reply = proto::ListLeadsResponse;
    type Expected = ();

    fn next_call(&self, _: &mut fastrand::Rng) -> Result<(Self::Body, ())> {
        Ok((body(&self.order_by, &self.page_token, PAGE), ()))
    }

    async fn send(
        caller: &mut Caller,
        request: Request<Self::Body>,
    ) -> Result<Response<Self::Reply>, Status> {
        caller.leads.list(request).await
    }

    fn echo_replies(reply: Vec<u8>) -> Replies {
        Replies {
            list: reply,
            ..Replies::default()
        }
    }

    fn check(&self, (): &(), reply: &Self::Reply) -> Result<()> {
        let ids = reply.leads.iter().map(|lead| &lead.id);
        ensure!(ids.eq(&self.ids), "other leads");
        ensure!(
            !reply.next_page_token.is_empty(),
            "no token of the next page"
        );
        Ok(())
    }
}

/// The work of the database. It reads one more lead, to learn whether there is a next page.
fn limit(storage: &Storage, order: &str, in_flight: usize) -> Limit {
    let sql = format!(
        "SELECT {} FROM leads WHERE state = 'OPEN' ORDER BY {order} LIMIT {}",
        all_columns(),
        PAGE + 1
    );
    let task = || {
        Arc::new(Queries {
            statements: vec![sql.clone()],
            rows: PAGE as usize + 1,
        })
    };
    let script = || Script {
        statements: vec![format!("{sql};\n")],
        variables: Vec::new(),
        writes: false,
    };
    Limit::new(storage, in_flight, || task(), script)
}

/// The token of a page, found by paging in larger steps: a token is bound to the order and the filters, not to the
/// size of the pages.
async fn token_of(caller: &mut Caller, order_by: &str, page: u64) -> Result<String> {
    let mut token = String::new();
    let mut left = (page - 1) * PAGE;
    while left > 0 {
        let size = left.min(1_000);
        let request = caller.request(body(order_by, &token, size));
        let reply = caller.leads.list(request).await?.into_inner();
        ensure!(
            reply.leads.len() as u64 == size,
            "a page of {}",
            reply.leads.len()
        );
        token = reply.next_page_token;
        left -= size;
    }
    Ok(token)
}

pub async fn measure(setting: &Setting, database: Database) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let bed = Testbed::start(setting, database, Access::Reads).await?;
    let storage = Tables::Reads.ready(setting, database).await?;
    // The last page has no next token.
    let far = FAR.min(bed.tested().data.open() / PAGE - 1);
    for (order_by, order) in ORDERS {
        let first = bed
            .workloads(async |side| {
                let mut caller = side.caller();
                List::page(&mut caller, order_by, String::new()).await
            })
            .await?;
        let limit = limit(&storage, order, setting.in_flight);
        let name = format!("List, {order_by}");
        let row = bed.rate(&name, setting.in_flight, &first, &limit, Some(0.6));
        rows.push(row.await?);
        let behind = bed
            .workloads(async |side| {
                let mut caller = side.caller();
                let token = token_of(&mut caller, order_by, far).await?;
                let page = List::page(&mut caller, order_by, token).await;
                page.context("the page far behind")
            })
            .await?;
        let name = format!("List, {order_by}, page {far}");
        rows.push(compare(&bed, &name, &behind, &first).await?);
    }
    Ok(rows)
}

/// The p50 of a page compared with that of the first page, with one caller.
async fn compare(
    bed: &Testbed<'_>,
    name: &str,
    page: &Workloads<List>,
    first: &Workloads<List>,
) -> Result<Row> {
    let mut samples = Samples::default();
    for round in 0..bed.setting.rounds {
        let near = bed.in_turn(round, first, 1, bed.setting.time).await?;
        let far = bed.in_turn(round, page, 1, bed.setting.time).await?;
        samples.add_times(&far, near[0].run.quantile(0.5));
    }
    Ok(bed.times(name, 1, &samples, 1.2, " × page 1"))
}
