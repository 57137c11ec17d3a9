//! The plans of the statements behind lists and searches, among 100,000 leads: a page is found by an
//! index, in every order and at every depth. The statements are those of the service itself.

mod dashboard_plans;
mod event_plans;
mod list_plans;
mod opportunity_plans;
mod plan;
mod rpcs;
mod search_plans;
mod total_plans;

use leadsmith::core::text_enum::TextEnum as _;
use leadsmith::features::leads::model::LeadState;
use sea_orm::ConnectionTrait;

use crate::bulk;
use crate::harness::Backend;
use crate::on_both;
use dashboard_plans::every_dashboard;
use event_plans::{every_read_of_the_event_log, the_oldest_events_are_listed};
use list_plans::{common_filters, every_list, rare_filters};
use opportunity_plans::every_list_of_opportunities;
use plan::what_scans_is_rejected;
use rpcs::{
    deep_pages_answer, searches_answer, slow_searches_leave_the_others_their_connections,
    what_takes_too_long_is_ended,
};
use search_plans::every_search;
use total_plans::every_total;

pub use plan::check;

const LEADS: usize = 100_000;
/// The rows of a page, and one more that shows whether there is a next page.
pub const LIMIT: u64 = 51;

/// Every set of states except the empty one.
fn choices_of_states() -> Vec<Vec<LeadState>> {
    (1..8_usize)
        .map(|bits| {
            let chosen = LeadState::ALL.iter().enumerate();
            chosen
                .filter(|(bit, _)| bits & (1 << bit) != 0)
                .map(|(_, state)| *state)
                .collect()
        })
        .collect()
}

on_both! {
    async fn pages_among_very_many_leads_are_found_by_an_index(h: Harness) {
        let db = h.database.connect().await;
        bulk::load(&db, LEADS).await;

        let mut problems = Vec::new();
        every_list(&db, &mut problems).await;
        every_search(&db, &mut problems).await;
        every_total(&db, &mut problems).await;
        rare_filters(&db, &mut problems).await;
        common_filters(&db, &mut problems).await;
        every_list_of_opportunities(&db, &mut problems).await;
        every_dashboard(&db, &mut problems).await;
        every_read_of_the_event_log(&db, &mut problems).await;
        if h.database.backend == Backend::Sqlite {
            // SQLite without statistics: only the bulk load of these tests runs ANALYZE on it.
            db.execute_unprepared("DELETE FROM sqlite_stat1").await.unwrap();
            let db = h.database.connect().await;
            rare_filters(&db, &mut problems).await;
            common_filters(&db, &mut problems).await;
        }
        let first = problems.first();
        assert!(first.is_none(), "{} problems, the first: {}", problems.len(), first.unwrap());
        what_scans_is_rejected(&db).await;
        deep_pages_answer(&h).await;
        the_oldest_events_are_listed(&h).await;
        searches_answer(&h).await;
        slow_searches_leave_the_others_their_connections(&h).await;
        what_takes_too_long_is_ended(&h).await;
    }
}
