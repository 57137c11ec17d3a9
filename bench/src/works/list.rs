//! List, 50 OPEN leads, in every order: the first page's rate, and what a page far behind it costs
//! beside the first. Nothing changes meanwhile, so each answer must have the same leads.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use leadsmith::leads::model::fold;
use leadsmith::wire::proto;
use tonic::{Request, Response, Status};

use super::all_columns;
use crate::data::DataSet;
use crate::echo::Answers;
use crate::limits::Limit;
use crate::limits::pgbench::Pgbench;
use crate::limits::sqlite::{Loop, Queries};
use crate::load::{Caller, Work};
use crate::measure::Bed;
use crate::place::Place;
use crate::report::{Bar, Row, Spread};
use crate::setting::Setting;

/// How many leads a page has.
const PAGE: u64 = 50;
/// The page far behind, if there are as many.
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
    /// The first page in the order in which leads were created, the newest first.
    pub async fn newest(caller: &mut Caller) -> Result<Self> {
        Self::page(caller, ORDERS[0].0, String::new()).await
    }

    /// The page that begins at a token.
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

/// Where a lead stands in an order.
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

impl Work for List {
    type Body = proto::ListLeadsRequest;
    type Answer = proto::ListLeadsResponse;
    type Asked = ();

    fn ask(&self, _: &mut fastrand::Rng) -> Result<(Self::Body, ())> {
        Ok((body(&self.order_by, &self.page_token, PAGE), ()))
    }

    async fn send(
        caller: &mut Caller,
        request: Request<Self::Body>,
    ) -> Result<Response<Self::Answer>, Status> {
        caller.leads.list(request).await
    }

    fn echoed(answer: Vec<u8>) -> Answers {
        Answers {
            list: answer,
            ..Answers::default()
        }
    }

    fn check(&self, (): &(), answer: &Self::Answer) -> Result<()> {
        let ids = answer.leads.iter().map(|lead| &lead.id);
        ensure!(ids.eq(&self.ids), "other leads");
        ensure!(
            !answer.next_page_token.is_empty(),
            "no token of the next page"
        );
        Ok(())
    }
}

/// What the database does for it. It looks for one more, to learn whether there is a next page.
fn limit(data: &DataSet, order: &str, in_flight: usize) -> Limit {
    let sql = format!(
        "SELECT {} FROM leads WHERE state = 'OPEN' ORDER BY {order} LIMIT {}",
        all_columns(),
        PAGE + 1
    );
    match &data.place {
        Place::Sqlite(file) => Limit::Sqlite(Loop {
            file: file.clone(),
            task: Arc::new(Queries {
                statements: vec![sql],
                rows: PAGE as usize + 1,
            }),
        }),
        Place::Postgres(cluster, name) => {
            let scripts = vec![sql + ";\n"];
            Limit::Postgres(Pgbench::new(cluster, name, scripts, Vec::new(), in_flight))
        }
    }
}

/// The token of a page, by walking there in larger steps: a token is bound to the order and the
/// filters, not to the size of the pages.
async fn token_of(caller: &mut Caller, order_by: &str, page: u64) -> Result<String> {
    let mut token = String::new();
    let mut left = (page - 1) * PAGE;
    while left > 0 {
        let size = left.min(1_000);
        let request = caller.request(body(order_by, &token, size));
        let answer = caller.leads.list(request).await?.into_inner();
        ensure!(
            answer.leads.len() as u64 == size,
            "a page of {}",
            answer.leads.len()
        );
        token = answer.next_page_token;
        left -= size;
    }
    Ok(token)
}

pub async fn measure(setting: &Setting) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for database in setting.databases() {
        let data = DataSet::ready(setting, database, setting.leads).await?;
        let bed = Bed::start(setting, data).await?;
        let mut caller = bed.service.callers[0].clone();
        // The last page has no token behind it.
        let far = FAR.min(bed.data.open() / PAGE - 1);
        for (order_by, order) in ORDERS {
            let first = Arc::new(List::page(&mut caller, order_by, String::new()).await?);
            let limit = limit(&bed.data, order, setting.in_flight);
            let name = format!("List, {order_by}");
            let row = bed.rate(&name, setting.in_flight, &first, &limit, Some(0.6));
            rows.push(row.await?);
            let token = token_of(&mut caller, order_by, far).await?;
            let page = List::page(&mut caller, order_by, token).await;
            let page = Arc::new(page.context("the page far behind")?);
            let name = format!("List, {order_by}, page {far}");
            rows.push(compare(&bed, &name, &page, &first).await?);
        }
    }
    Ok(rows)
}

/// The p50 of a page beside the first's, one caller at a time.
async fn compare(bed: &Bed<'_>, name: &str, page: &Arc<List>, first: &Arc<List>) -> Result<Row> {
    let (mut times, mut firsts, mut ratios, mut p99) = (vec![], vec![], vec![], vec![]);
    for _ in 0..bed.setting.rounds {
        let near = bed.serve(first, 1).await?;
        let far = bed.serve(page, 1).await?;
        firsts.push(near.quantile(0.5));
        times.push(far.quantile(0.5));
        p99.push(far.quantile(0.99));
        ratios.push(far.quantile(0.5) / near.quantile(0.5));
    }
    let ratio = Spread::of(&ratios);
    Ok(Row {
        limit: Some(Spread::of(&firsts)),
        bar: Some(Bar::at_most(1.2, " × page 1", ratio.median)),
        ratio: Some(ratio),
        p50: Some(Spread::of(&times).median),
        p99: Some(Spread::of(&p99).median),
        ..bed.row(name, 1)
    })
}
