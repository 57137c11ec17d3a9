//! A reader that lists all leads while they change, and then watches from the watch_token of the list. The list and the
//! events together must have every lead as it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use leadsmith_proto::{LeadState, ListLeadsRequest};
use uuid::Uuid;

use super::events::Filter;
use super::history::History;
use super::readers::{Habit, Reader};
use super::shared::Shared;
use crate::harness::client::{Caller, version};

const NAME: &str = "the reader that lists first";
/// How often the list is tried.
const ATTEMPTS: usize = 200;

/// What a list has shown, and the stream after it.
pub struct Follower {
    pub reader: Reader,
    /// The version of each lead in the list.
    listed: HashMap<Uuid, i64>,
}

impl Follower {
    /// Lists the leads. Until the reader has received marks, nothing is deleted.
    pub async fn list(
        shared: &Arc<Shared>,
        callers: &[Caller],
        random: fastrand::Rng,
    ) -> Result<Self> {
        shared.keep_from(NAME, 0);
        for attempt in 0..ATTEMPTS {
            let Ok((token, listed)) = list(&callers[attempt % callers.len()]).await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (habit, filter) = (Habit::Restless, Filter::Leads);
            let mut reader = Reader::new(NAME, habit, filter, shared, &token, random);
            // The records do not begin with their first versions.
            reader.stream.lose();
            return Ok(Self { reader, listed });
        }
        None.context("the leads could not be listed")
    }

    /// Reads until the last mark has come.
    pub async fn run(self) -> Self {
        Self {
            reader: self.reader.run().await,
            ..self
        }
    }

    /// The first violation.
    pub fn violation(&self, history: &History) -> Option<String> {
        let mut expected = history.expected(|change| change.subject == "LEAD");
        expected.stored.clear();
        if let Some(why) = self.reader.stream.violation(&expected) {
            return Some(why);
        }
        let first = self.reader.stream.first_versions();
        for (record, changes) in &expected.changes {
            let listed = self.listed.get(record).copied().unwrap_or(0);
            let last = changes.last().map_or(0, |change| change.version);
            // Without an event it has not changed since.
            let followed_from = first.get(record).map_or(last, |first| first - 1);
            if listed < followed_from {
                return Some(format!(
                    "version {} of {record} came neither in the list nor as an event",
                    listed + 1
                ));
            }
        }
        None
    }

    /// How many leads were listed.
    pub fn listed(&self) -> usize {
        self.listed.len()
    }
}

/// The watch_token of the first page, and the leads of all pages.
async fn list(caller: &Caller) -> Result<(String, HashMap<Uuid, i64>)> {
    let states = [
        LeadState::Open,
        LeadState::Converted,
        LeadState::Deactivated,
    ];
    let (mut token, mut listed, mut page_token) = (None, HashMap::new(), String::new());
    loop {
        let request = ListLeadsRequest {
            page_size: 200,
            page_token,
            states: states.map(i32::from).to_vec(),
            ..Default::default()
        };
        let page = caller.leads().list(caller.request(request)).await?;
        let page = page.into_inner();
        token.get_or_insert(page.watch_token);
        for lead in page.leads {
            listed.insert(lead.id.parse()?, version(&lead));
        }
        if page.next_page_token.is_empty() {
            return Ok((token.unwrap_or_default(), listed));
        }
        page_token = page.next_page_token;
    }
}
