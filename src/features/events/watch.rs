//! One stream of events.
//!
//! A stream begins by reading the log by itself, in pages, until it reaches the shared reader. From then on it is served
//! from the events that all streams share. If its client reads so slowly that these were dropped, it ends.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::errors;
use super::hub::{Hub, Place, Registration};
use super::model::Filter;
use super::rebuild::Rebuilder;
use super::ring::{Item, Next};
use crate::auth::stream::{StreamEnd, StreamLease};
use crate::db::event_log::position::Position;
use crate::db::event_log::{LogPosition, Lost, Page, Start};
use crate::error::{Error, Result};

/// A checkpoint comes at least this often. The contract promises 10 s.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
/// How many events a stream reads of the log at once.
const PAGE: u64 = 64;
/// How many bytes of records a stream remembers while it reads the log.
const KNOWN_BYTES: usize = 512 << 10;
/// How long a stream waits for the shared reader before it reads the log again.
const WAIT_FOR_READER: Duration = Duration::from_millis(100);
/// How often a start is tried again that retention has overtaken.
const ATTEMPTS: usize = 3;

/// Where a stream begins.
#[derive(Clone, Debug)]
pub enum Begin {
    /// At a place that is found now.
    Start(Start),
    /// At the position of a token.
    Position(LogPosition),
}

/// What a stream sends, each with the resume token after it.
#[derive(Debug)]
pub enum Signal<M> {
    /// An event.
    Event(Arc<M>, String),
    /// A mark without an event.
    Checkpoint(String),
}

/// A stream.
pub struct Watch<M: Send + Sync + 'static> {
    registration: Registration<M>,
    /// Everything before it was sent or did not match.
    at: LogPosition,
    source: Source<M>,
    changes: watch::Receiver<()>,
    end: Pin<Box<dyn Future<Output = StreamEnd> + Send>>,
    next_checkpoint: Instant,
    is_ended: bool,
}

/// Where the next event comes from.
enum Source<M> {
    /// The log: the events of the last page that are not sent yet.
    Log {
        page: VecDeque<Item<M>>,
        /// Whether the next page has to be read, also if the ring has its events.
        must_read: bool,
        /// The position after the page.
        end: Position,
        /// [`Hub::rings`] before the page was read.
        rings: u64,
        rebuilder: Box<Rebuilder>,
    },
    /// The ring. `read` is what the stream has read beyond the ring's position.
    Ring {
        place: Place,
        read: Option<Position>,
    },
}

/// Why a stream waits no longer.
enum Woken {
    Ended(StreamEnd),
    Due,
}

impl<M: Send + Sync + 'static> Watch<M> {
    /// Opens a stream.
    ///
    /// # Errors
    /// `RESUME_TOKEN_EXPIRED`; `DATABASE_UNAVAILABLE`.
    pub async fn open(
        hub: &Arc<Hub<M>>,
        begin: Begin,
        filter: Filter,
        lease: &StreamLease,
    ) -> Result<Self> {
        let registration = hub.register(filter);
        let changes = hub.changes();
        let rebuilder = Box::new(Rebuilder::new(hub.log.db().clone(), KNOWN_BYTES));
        let rings = hub.rings();
        let (at, page) = first_page(hub, begin).await?;
        let end = page.position.clone();
        let filters = [Arc::clone(&registration.filter)];
        let page = hub
            .items(at.incarnation, page, &rebuilder, &filters)
            .await?;
        Ok(Self {
            registration,
            at,
            source: Source::Log {
                page: page.into(),
                must_read: false,
                end,
                rings,
                rebuilder,
            },
            changes,
            end: Box::pin(lease.ended()),
            // The first message is a checkpoint.
            next_checkpoint: Instant::now(),
            is_ended: false,
        })
    }

    /// The next signal. `None` after the last one; an error is the last one too.
    pub async fn next(&mut self) -> Option<Result<Signal<M>>> {
        if self.is_ended {
            return None;
        }
        let signal = match self.step().await {
            Ok(signal) => Ok(signal),
            Err(End::Complete) => {
                self.ended("complete");
                return Some(Ok(Signal::Checkpoint(self.token())));
            }
            Err(End::Failed(error)) => {
                self.ended(error.reason_name());
                Err(error)
            }
        };
        Some(signal)
    }

    fn ended(&mut self, cause: &str) {
        self.is_ended = true;
        let metrics = self.hub().log.db().metrics();
        metrics.watches_ended.with_label_values(&[cause]).inc();
    }

    fn hub(&self) -> &Arc<Hub<M>> {
        &self.registration.hub
    }

    fn filter(&self) -> &Arc<Filter> {
        &self.registration.filter
    }

    async fn step(&mut self) -> Result<Signal<M>, End> {
        loop {
            // Before the next event: also a stream that always has one ends, and has checkpoints.
            if let Some(woken) = self.poll_woken().await {
                return self.woken(woken);
            }
            if matches!(self.source, Source::Log { .. }) {
                if let Some(signal) = self.step_in_log().await? {
                    return Ok(signal);
                }
            } else if let Some(signal) = self.step_in_ring().await? {
                return Ok(signal);
            }
        }
    }

    /// Sends the next event of the page. Without one, joins the ring, or reads the next page.
    async fn step_in_log(&mut self) -> Result<Option<Signal<M>>, End> {
        let rings = self.hub().rings();
        let Source::Log {
            page,
            must_read,
            end,
            rings: read_at,
            ..
        } = &mut self.source
        else {
            return Ok(None);
        };
        let must_read = std::mem::take(must_read);
        if *read_at != rings {
            // It is read again from the last event that was sent.
            page.clear();
        } else if let Some(item) = page.pop_front() {
            return Ok(self.pass(&item, None));
        } else {
            self.at.position = end.clone();
        }
        if !must_read && let Some(place) = self.hub().place_after(&self.at) {
            let read = Some(self.at.position.clone());
            self.source = Source::Ring { place, read };
            return Ok(None);
        }
        let hub = Arc::clone(self.hub());
        let from = self.at.clone();
        let reading = async {
            // The permit is released before anything is sent: a client may read slowly.
            let permit = hub.catching_up.acquire().await;
            let page = hub.log.read(&from, PAGE).await;
            drop(permit);
            page
        };
        let page = match self.unless_woken(reading).await {
            Ok(page) => page.map_err(End::Failed)?,
            Err(woken) => return self.woken(woken).map(Some),
        };
        let page = match page {
            Ok(page) => page,
            Err(lost) => return Err(End::Failed(expired(&hub, lost).await)),
        };
        let (after, is_idle) = (
            page.position.clone(),
            page.is_complete && page.events.is_empty(),
        );
        let incarnation = self.at.incarnation;
        if let Source::Log {
            page: next,
            end,
            rings: read_at,
            rebuilder,
            ..
        } = &mut self.source
        {
            *read_at = rings;
            let filters = [Arc::clone(&self.registration.filter)];
            let items = hub.items(incarnation, page, rebuilder, &filters).await;
            *next = items.map_err(End::Failed)?.into();
            *end = after;
        }
        if is_idle && let Some(signal) = self.wait(Some(WAIT_FOR_READER)).await? {
            return Ok(Some(signal));
        }
        Ok(None)
    }

    /// Sends the next event of the ring, or waits for it.
    async fn step_in_ring(&mut self) -> Result<Option<Signal<M>>, End> {
        // Before looking for an event: a change in the meantime is not missed.
        self.changes.mark_unchanged();
        let hub = Arc::clone(self.hub());
        let Source::Ring { place, read } = &mut self.source else {
            return Ok(None);
        };
        let next = hub.next(place, &self.registration.filter, read.as_ref());
        match next {
            Some(Next::Item(item)) => {
                let read = read.take();
                let signal = self.pass(&item, read.as_ref());
                self.keep(read, &item.position);
                Ok(signal)
            }
            Some(Next::End(end)) => {
                let read = read.take();
                self.at.position = joined(&end, read.as_ref());
                self.keep(read, &end);
                self.wait(None).await
            }
            Some(Next::Dropped) => Err(End::Failed(errors::watch_too_slow(self.token()))),
            Some(Next::LeftOut) => {
                self.read_log(true);
                Ok(None)
            }
            None => {
                // The reader has begun again, or has lost the log: the log itself shows which.
                self.read_log(false);
                Ok(None)
            }
        }
    }

    /// Leaves the ring, and reads the log from the last event that was sent.
    fn read_log(&mut self, must_read: bool) {
        let hub = Arc::clone(self.hub());
        self.source = Source::Log {
            page: VecDeque::new(),
            must_read,
            end: self.at.position.clone(),
            rings: hub.rings(),
            rebuilder: Box::new(Rebuilder::new(hub.log.db().clone(), KNOWN_BYTES)),
        };
    }

    /// Remembers what was read beyond the ring, until the ring has it too.
    fn keep(&mut self, read: Option<Position>, ring: &Position) {
        if let Source::Ring { read: kept, .. } = &mut self.source {
            *kept = read.filter(|read| !ring.read.includes(&read.read));
        }
    }

    /// The signal for an event, if it matches. The stream is behind it now.
    fn pass(&mut self, item: &Item<M>, read: Option<&Position>) -> Option<Signal<M>> {
        self.at.position = joined(&item.position, read);
        let facts = item.facts.as_ref()?;
        if !self.filter().matches(facts) {
            return None;
        }
        let message = Arc::clone(item.message.as_ref()?);
        let token = match (read, self.filter().since) {
            (None, None) => item.token.clone(),
            _ => self.token(),
        };
        self.hub().log.db().metrics().events_delivered.inc();
        Some(Signal::Event(message, token))
    }

    fn token(&self) -> String {
        let tokens = &self.hub().tokens;
        tokens.issue(self.at.incarnation, &self.at.position, self.filter().since)
    }

    /// Waits for something new, at most for `limit`.
    async fn wait(&mut self, limit: Option<Duration>) -> Result<Option<Signal<M>>, End> {
        let mut changes = self.changes.clone();
        let change = async move {
            // An error would mean that the hub is gone, which this stream holds.
            let _ = changes.changed().await;
        };
        let limit = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        let something = async {
            tokio::select! {
                () = change => {}
                () = limit => {}
            }
        };
        match self.unless_woken(something).await {
            Ok(()) => Ok(None),
            Err(woken) => self.woken(woken).map(Some),
        }
    }

    /// Runs `work`, until the stream has to end or a checkpoint is due.
    async fn unless_woken<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Woken> {
        tokio::select! {
            biased;
            end = &mut self.end => Err(Woken::Ended(end)),
            () = tokio::time::sleep_until(self.next_checkpoint) => Err(Woken::Due),
            done = work => Ok(done),
        }
    }

    /// Whether the stream has to end or a checkpoint is due, without waiting.
    async fn poll_woken(&mut self) -> Option<Woken> {
        if Instant::now() >= self.next_checkpoint {
            return Some(Woken::Due);
        }
        tokio::select! {
            biased;
            end = &mut self.end => Some(Woken::Ended(end)),
            () = std::future::ready(()) => None,
        }
    }

    fn woken(&mut self, woken: Woken) -> Result<Signal<M>, End> {
        match woken {
            Woken::Due => {
                self.next_checkpoint = Instant::now() + CHECKPOINT_INTERVAL;
                Ok(Signal::Checkpoint(self.token()))
            }
            Woken::Ended(StreamEnd::Complete) => Err(End::Complete),
            Woken::Ended(StreamEnd::Refused(error)) => Err(End::Failed(error)),
        }
    }
}

/// The end of a stream.
enum End {
    /// In good order.
    Complete,
    Failed(Error),
}

/// The position after what is read in the ring and what was read before.
fn joined(position: &Position, read: Option<&Position>) -> Position {
    match read {
        Some(read) => position.union(read),
        None => position.clone(),
    }
}

/// The position where a stream begins, and the first events after it.
async fn first_page<M: Send + Sync + 'static>(
    hub: &Arc<Hub<M>>,
    begin: Begin,
) -> Result<(LogPosition, Page)> {
    let mut attempts = ATTEMPTS;
    loop {
        let at = match &begin {
            Begin::Start(start) => hub.log.begin(*start).await?,
            Begin::Position(position) => position.clone(),
        };
        let permit = hub.catching_up.acquire().await;
        let page = hub.log.read(&at, PAGE).await;
        drop(permit);
        match page? {
            Ok(page) => return Ok((at, page)),
            // Retention ran between the two queries.
            Err(Lost::Deleted) if matches!(begin, Begin::Start(_)) && attempts > 0 => attempts -= 1,
            Err(lost) => return Err(expired(hub, lost).await),
        }
    }
}

async fn expired<M: Send + Sync + 'static>(hub: &Hub<M>, lost: Lost) -> Error {
    match hub.log.begin(Start::Earliest).await {
        Ok(earliest) => {
            let earliest = hub
                .tokens
                .issue(earliest.incarnation, &earliest.position, None);
            errors::resume_token_expired(lost, earliest)
        }
        Err(error) => error,
    }
}
