//! The reads of `LeadService`.

use prost::Message as _;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{LeadApi, render};
use crate::core::violations::{Reason, Violations};
use crate::db::search::Needles;
use crate::features::leads::model::{Filter, LeadState, OrderKey, Ordering, Total};
use crate::grpc::enums::WireEnum as _;
use crate::grpc::page::{MAX_PAGE_BYTES, paged};
use crate::grpc::{self, read};
use leadsmith_proto as proto;

/// The maximum number of characters of a query.
const MAX_QUERY: usize = 200;
/// The maximum number of ids of a batch.
const MAX_BATCH: usize = 100;

paged!(
    ListLeadsRequest,
    SearchLeadsRequest,
    ListHistoryRequest,
    ListDuplicatesRequest
);

/// The response of a list: a page of leads, the totals, and fields that not all of them have.
macro_rules! found {
    ($response:ident, $page:ident, $total:ident $(, $more:ident)?) => {
        proto::$response {
            leads: $page.rows,
            next_page_token: $page.next_page_token,
            total_size: render::total_size(&$total),
            total_size_is_bound: $total.is_bound(),
            state_totals: render::state_totals(&$total),
            $($more,)?
        }
    };
}

impl LeadApi {
    pub(super) async fn read_get(
        &self,
        request: Request<proto::GetLeadRequest>,
    ) -> Result<Response<proto::GetLeadResponse>, Status> {
        let (call, body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let id = read::id(&mut violations, "id", &body.id);
        violations.finish()?;
        call.notes.about("lead", id);
        let lead = self.leads.get(id).await?;
        Ok(Response::new(proto::GetLeadResponse {
            lead: Some(render::lead(lead)),
        }))
    }

    pub(super) async fn read_list(
        &self,
        request: Request<proto::ListLeadsRequest>,
    ) -> Result<Response<proto::ListLeadsResponse>, Status> {
        let (call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let states = states(&mut violations, &mut body.states);
        let with_total = std::mem::take(&mut body.with_total);
        let page = self.page_tokens.page(&mut violations, &call, &mut body);
        let ordering = ordering(&mut violations, &body.order_by);
        let filter = filter(&mut violations, states, body);
        violations.finish()?;
        let watch_token = page.watch_token().await?;
        let rows = self.leads.list(&filter, ordering, page.input()?).await?;
        let page = page.build(rows, |last| ordering.position(last), render::lead)?;
        let total = match with_total {
            true => self.leads.total(&filter, call.principal.id).await?,
            false => Total::default(),
        };
        Ok(Response::new(found!(
            ListLeadsResponse,
            page,
            total,
            watch_token
        )))
    }

    pub(super) async fn read_search(
        &self,
        request: Request<proto::SearchLeadsRequest>,
    ) -> Result<Response<proto::SearchLeadsResponse>, Status> {
        let (call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let states = states(&mut violations, &mut body.states);
        let with_total = std::mem::take(&mut body.with_total);
        let page = self.page_tokens.page(&mut violations, &call, &mut body);
        let query = read::text(&mut violations, "query", &body.query, MAX_QUERY);
        let needles = Needles::query(&query);
        match (&needles, query.is_empty()) {
            (Some(_), _) => {}
            (None, true) => violations.add(
                "query",
                Reason::Required,
                "is required: send a part of a name, company, email or phone",
            ),
            (None, false) => violations.add(
                "query",
                Reason::ValueNotAllowed,
                "consists of accents and invisible characters only: send at least one other character",
            ),
        }
        violations.finish()?;
        // Present, because without violations.
        let needles = needles.unwrap_or_default();
        let rows = self.leads.search(&needles, &states, page.input()?).await?;
        let page = page.build(rows, |last| last.seq, render::lead)?;
        let total = match with_total {
            true => {
                let principal = call.principal.id;
                self.leads.total_found(&needles, &states, principal).await?
            }
            false => Total::default(),
        };
        Ok(Response::new(found!(SearchLeadsResponse, page, total)))
    }

    pub(super) async fn read_batch_get(
        &self,
        request: Request<proto::BatchGetLeadsRequest>,
    ) -> Result<Response<proto::BatchGetLeadsResponse>, Status> {
        let (call, body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let ids = ids(&mut violations, &body.ids);
        violations.finish()?;
        let batch = self.leads.batch_get(ids, call.principal.id).await?;
        let mut response = proto::BatchGetLeadsResponse {
            missing_ids: batch.missing.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        let mut remaining = batch.remaining;
        let mut bytes = 0;
        for lead in batch.leads {
            let (id, lead) = (lead.id, render::lead(lead));
            bytes += lead.encoded_len();
            match bytes > MAX_PAGE_BYTES && !response.leads.is_empty() {
                true => remaining.push(id),
                false => response.leads.push(lead),
            }
        }
        // In the order in which they were asked for.
        let is_remaining = |id: &&String| {
            let id = id.parse();
            id.is_ok_and(|id: Uuid| remaining.contains(&id))
        };
        response.remaining_ids = body.ids.iter().filter(is_remaining).cloned().collect();
        Ok(Response::new(response))
    }

    pub(super) async fn read_list_duplicates(
        &self,
        request: Request<proto::ListDuplicatesRequest>,
    ) -> Result<Response<proto::ListDuplicatesResponse>, Status> {
        let (call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let page = self.page_tokens.page(&mut violations, &call, &mut body);
        let id = read::id(&mut violations, "id", &body.id);
        violations.finish()?;
        call.notes.about("lead", id);
        let rows = self.leads.duplicates(id, page.input()?).await?;
        let page = page.build(rows, |last| last.lead.seq, render::duplicate)?;
        Ok(Response::new(proto::ListDuplicatesResponse {
            duplicates: page.rows,
            next_page_token: page.next_page_token,
        }))
    }

    pub(super) async fn read_list_history(
        &self,
        request: Request<proto::ListHistoryRequest>,
    ) -> Result<Response<proto::ListHistoryResponse>, Status> {
        let (call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let page = self.page_tokens.page(&mut violations, &call, &mut body);
        let id = read::id(&mut violations, "id", &body.id);
        violations.finish()?;
        call.notes.about("lead", id);
        let rows = self.leads.history(id, page.input()?).await?;
        let page = page.build(rows, |last| last.version, grpc::render::entry)?;
        Ok(Response::new(proto::ListHistoryResponse {
            entries: page.rows,
            next_page_token: page.next_page_token,
        }))
    }
}

/// Parses the ids of a batch.
fn ids(violations: &mut Violations, ids: &[String]) -> Vec<Uuid> {
    if ids.is_empty() {
        violations.add(
            "ids",
            Reason::Required,
            "is required: send 1 to 100 ids of leads",
        );
    }
    if ids.len() > MAX_BATCH {
        let problem =
            format_args!("must have at most {MAX_BATCH} elements: send the others in another call");
        violations.add("ids", Reason::TooMany, problem);
        return Vec::new();
    }
    let ids = ids.iter().enumerate();
    ids.map(|(index, id)| read::id(violations, &format!("ids[{index}]"), id))
        .collect()
}

fn ordering(violations: &mut Violations, order_by: &str) -> Ordering {
    Ordering::parse(order_by).unwrap_or_else(|| {
        violations.add(
            "order_by",
            Reason::ValueUnknown,
            "must be create_time, update_time, last_name or company, followed by \" desc\" for descending order",
        );
        Ordering {
            key: OrderKey::CreateTime,
            descending: true,
        }
    })
}

fn states(violations: &mut Violations, states: &mut Vec<i32>) -> Vec<LeadState> {
    read::enums(violations, "states", states, LeadState::from_wire)
}

fn filter(
    violations: &mut Violations,
    mut states: Vec<LeadState>,
    body: proto::ListLeadsRequest,
) -> Filter {
    if states.is_empty() {
        states.push(LeadState::Open);
    }
    read::country(violations, "country_code", &body.country_code);
    Filter {
        states,
        owner_id: read::optional_id(violations, "owner_id", &body.owner_id),
        country_code: body.country_code,
        source: read::text(violations, "source", &body.source, 100),
        create_time_after: read::time(violations, "create_time_after", body.create_time_after),
        create_time_before: read::time(violations, "create_time_before", body.create_time_before),
        update_time_after: read::time(violations, "update_time_after", body.update_time_after),
        update_time_before: read::time(violations, "update_time_before", body.update_time_before),
    }
}
