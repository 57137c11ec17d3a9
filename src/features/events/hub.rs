//! The shared reader of the event log: one for each server, however many streams there are. It runs only while there are
//! streams, and reads what is new into a ring from which all streams are served.
//!
//! It is woken by the commits of this process. Commits of other processes are found by reading every `POLL_INTERVAL`:
//! PostgreSQL's NOTIFY would take a lock in every transaction that sends it, and would need a session of its own.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::model::{Event, Facts, Filter, Subject};
use super::rebuild::Rebuilder;
use super::ring::{Item, Next, Ring};
use crate::config::Limits;
use crate::core::clock::Clock;
use crate::db::event_log::position::Position;
use crate::db::event_log::{EventLog, LogPosition, Lost, Page, Start, StoredEvent};
use crate::error::Result;
use crate::grpc::watch_token::WatchTokens;

/// How often the log is read for the commits of other processes.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The shortest time from one read of the log to the next. Under load one read finds the events of several commits, and
/// the streams wake up once for them.
const READ_INTERVAL: Duration = Duration::from_millis(10);
/// The pause after the log could not be read.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// How many events the shared reader reads at once.
const PAGE: u64 = 128;
/// How many streams read the log at the same time, to reach the shared reader.
const CATCHING_UP: usize = 4;
/// How many bytes of records the shared reader remembers.
const KNOWN_BYTES: usize = 8 << 20;
/// How many bytes an event occupies beside its message.
const OVERHEAD: usize = 512;

/// Makes the message of an event, and says how many bytes it has.
pub type Render<M> = fn(Event) -> (M, usize);

/// What the streams of a server share.
pub struct Hub<M> {
    pub(super) log: EventLog,
    pub(super) tokens: WatchTokens,
    pub(super) catching_up: Semaphore,
    clock: Clock,
    render: Render<M>,
    max_size: usize,
    state: Mutex<State<M>>,
    /// Changes when there is something new for the streams.
    changes: watch::Sender<()>,
}

struct State<M> {
    /// What the streams want, and how many want the same.
    filters: HashMap<Arc<Filter>, usize>,
    is_reading: bool,
    /// None until the reader has begun.
    shared: Option<Shared<M>>,
    /// How often a ring was begun. A stream's place is a place in one ring. After an erasure another one is begun, because
    /// the events of the last one may have values that are erased now.
    rings: u64,
}

struct Shared<M> {
    incarnation: Uuid,
    ring: Ring<M>,
}

/// The place of a stream in a ring.
#[derive(Debug)]
pub struct Place {
    ring: u64,
    next: u64,
}

/// A stream that the reader knows of, until it is dropped.
pub struct Registration<M: Send + Sync + 'static> {
    pub(super) hub: Arc<Hub<M>>,
    pub(super) filter: Arc<Filter>,
}

impl<M: Send + Sync + 'static> Drop for Registration<M> {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        if let Some(count) = state.filters.get_mut(&self.filter) {
            *count -= 1;
            if *count == 0 {
                state.filters.remove(&self.filter);
            }
        }
    }
}

/// The running reader. After a panic, which is logged where it happens, the next stream starts another one; until then the
/// streams read the log by themselves.
struct Reading<M: Send + Sync + 'static>(Arc<Hub<M>>);

impl<M: Send + Sync + 'static> Drop for Reading<M> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut state = self.0.lock();
            state.is_reading = false;
            state.shared = None;
        }
    }
}

impl<M: Send + Sync + 'static> Hub<M> {
    /// A hub without streams.
    pub fn new(
        log: EventLog,
        tokens: WatchTokens,
        clock: Clock,
        limits: &Limits,
        render: Render<M>,
    ) -> Arc<Self> {
        // Shown as 0 until the first stream ends.
        let ended = &log.db().metrics().watches_ended;
        ended.with_label_values(&["complete"]);
        Arc::new(Self {
            log,
            tokens,
            clock,
            render,
            catching_up: Semaphore::new(CATCHING_UP),
            max_size: limits.watch_buffer,
            state: Mutex::new(State {
                filters: HashMap::new(),
                is_reading: false,
                shared: None,
                rings: 0,
            }),
            changes: watch::Sender::new(()),
        })
    }

    /// Registers a stream, and starts the reader if it does not run.
    pub(super) fn register(self: &Arc<Self>, filter: Filter) -> Registration<M> {
        let filter = Arc::new(filter);
        let mut state = self.lock();
        *state.filters.entry(Arc::clone(&filter)).or_default() += 1;
        if !state.is_reading {
            state.is_reading = true;
            tokio::spawn(Arc::clone(self).follow());
        }
        drop(state);
        Registration {
            hub: Arc::clone(self),
            filter,
        }
    }

    /// How often a ring was begun. What a stream has read before it changes, and has not sent, may be erased.
    pub(super) fn rings(&self) -> u64 {
        self.lock().rings
    }

    /// Notified when there is something new.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The place in the ring of a stream that has read up to this position. None if it has to read more of the log first.
    pub(super) fn place_after(&self, from: &LogPosition) -> Option<Place> {
        let state = self.lock();
        let shared = state.shared.as_ref()?;
        if shared.incarnation != from.incarnation {
            return None;
        }
        let next = shared.ring.place_after(&from.position)?;
        Some(Place {
            ring: state.rings,
            next,
        })
    }

    /// What a stream finds at its place. None if there is another ring now, or none: the stream has to read the log.
    pub(super) fn next(
        &self,
        place: &mut Place,
        filter: &Filter,
        read: Option<&Position>,
    ) -> Option<Next<M>> {
        let state = self.lock();
        let shared = state
            .shared
            .as_ref()
            .filter(|_| state.rings == place.ring)?;
        Some(shared.ring.next(&mut place.next, filter, read))
    }

    /// Follows the log as long as there are streams.
    async fn follow(self: Arc<Self>) {
        let _guard = Reading(Arc::clone(&self));
        let rebuilder = Rebuilder::new(self.log.db().clone(), KNOWN_BYTES);
        while !self.is_finished() {
            let begun = match self.log.identify().await {
                Ok(()) => self.log.begin(Start::Now).await,
                Err(error) => Err(error),
            };
            let lost = match begun {
                Ok(begun) => {
                    self.begin_ring(&begun);
                    self.follow_from(begun, &rebuilder).await
                }
                Err(error) => {
                    tracing::debug!(error = error.detail(), "the event log cannot be read");
                    tokio::time::sleep(RETRY_INTERVAL).await;
                    continue;
                }
            };
            if let Some(lost) = lost {
                tracing::warn!(?lost, "the event log has lost events that were not read");
                self.lock().shared = None;
                self.changes.send_replace(());
            }
        }
    }

    /// Whether there are no streams. If so, the next one starts another reader.
    fn is_finished(&self) -> bool {
        let mut state = self.lock();
        if !state.filters.is_empty() {
            return false;
        }
        state.is_reading = false;
        state.shared = None;
        true
    }

    fn begin_ring(&self, begun: &LogPosition) {
        let mut state = self.lock();
        state.rings += 1;
        state.shared = Some(Shared {
            incarnation: begun.incarnation,
            ring: Ring::new(begun.position.clone(), self.max_size),
        });
        drop(state);
        self.changes.send_replace(());
    }

    /// Returns why the log cannot be followed any more; `None` if there are no streams.
    async fn follow_from(&self, mut at: LogPosition, rebuilder: &Rebuilder) -> Option<Lost> {
        loop {
            if self.lock().filters.is_empty() {
                return None;
            }
            let begun = Instant::now();
            let read = match self.log.read(&at, PAGE).await {
                Ok(Ok(page)) => {
                    let (end, is_complete) = (page.position.clone(), page.is_complete);
                    let filters: Vec<_> = self.lock().filters.keys().map(Arc::clone).collect();
                    let items = self.items(at.incarnation, page, rebuilder, &filters).await;
                    items.map(|items| (items, end, is_complete))
                }
                Ok(Err(lost)) => return Some(lost),
                Err(error) => Err(error),
            };
            let is_complete = match read {
                Ok((items, end, is_complete)) => {
                    let mut facts = items.iter().filter_map(|item| item.facts.as_ref());
                    if facts.any(Facts::is_erasure) {
                        self.begin_ring(&at);
                    }
                    at.position = end.clone();
                    self.publish(items, end);
                    is_complete
                }
                Err(error) => {
                    tracing::debug!(error = error.detail(), "the event log cannot be read");
                    tokio::time::sleep(RETRY_INTERVAL).await;
                    continue;
                }
            };
            if is_complete {
                tokio::select! {
                    () = self.log.db().next_event_commit() => {}
                    () = tokio::time::sleep(POLL_INTERVAL) => {}
                }
                tokio::time::sleep_until(begun + READ_INTERVAL).await;
            }
        }
    }

    fn publish(&self, items: Vec<Item<M>>, end: Position) {
        let is_new = !items.is_empty();
        let now = self.clock.now();
        let metrics = self.log.db().metrics();
        for facts in items.iter().filter_map(|item| item.facts.as_ref()) {
            metrics
                .event_delay_seconds
                .observe(seconds(now, facts.time));
        }
        if let Some(shared) = self.lock().shared.as_mut() {
            shared.ring.push(items, end);
        }
        if is_new {
            self.changes.send_replace(());
        }
    }

    /// The events of a page. Those that one of the filters wants are ready to be sent; of the others the message is left
    /// out, because the record before and after costs more than all the rest.
    pub(super) async fn items(
        &self,
        incarnation: Uuid,
        page: Page,
        rebuilder: &Rebuilder,
        filters: &[Arc<Filter>],
    ) -> Result<Vec<Item<M>>> {
        let (stored, positions): (Vec<_>, Vec<_>) = page.events.into_iter().unzip();
        let mut items = Vec::with_capacity(stored.len());
        for (event, position) in stored.iter().zip(positions) {
            items.push(Item {
                place: event.place,
                position,
                token: String::new(),
                facts: facts(event),
                message: None,
                size: OVERHEAD,
            });
        }
        // All of a record or none: its versions are computed from each other.
        let mut records = HashSet::new();
        for (event, item) in stored.iter().zip(&items) {
            if let Some(facts) = &item.facts
                && filters.iter().any(|filter| filter.matches(facts))
            {
                records.insert(event.subject_id);
            }
        }
        let wanted = stored.into_iter().zip(&mut items);
        let wanted = wanted.filter(|(event, _)| records.contains(&event.subject_id));
        let (stored, wanted): (Vec<_>, Vec<_>) = wanted.unzip();
        let events = rebuilder.complete(stored).await?;
        for (event, item) in events.into_iter().zip(wanted) {
            if let Some((message, size)) = event.map(self.render) {
                item.message = Some(Arc::new(message));
                item.size += size;
                item.token = self.tokens.issue(incarnation, &item.position, None);
            }
        }
        Ok(items)
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// What filters look at. None for an event of a kind that is not known, which a later version of this program wrote.
fn facts(event: &StoredEvent) -> Option<Facts> {
    Some(Facts {
        subject: Subject::of_type(&event.r#type)?,
        r#type: event.r#type.clone(),
        root_id: event.lead_id,
        time: event.time,
    })
}

/// The time from `then` to `now`; 0 if the clock that wrote `then` is ahead.
fn seconds(now: DateTime<Utc>, then: DateTime<Utc>) -> f64 {
    (now - then).to_std().unwrap_or_default().as_secs_f64()
}
