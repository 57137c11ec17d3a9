//! The readers: each follows the events over whichever server is running, and resumes as its habit says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use leadsmith_proto::watch_events_request::Begin;
use leadsmith_proto::watch_events_response::Item as Message;
use leadsmith_proto::{WatchEventsResponse, WatchStart};
use prost::Message as _;
use tonic::Status;
use tonic::transport::Endpoint;
use tonic_types::StatusExt as _;

use super::events::{Filter, received};
use super::shared::Shared;
use super::validate::{Item, Stream};
use crate::harness::client::{Caller, reason};

/// A message comes at least every 10 s, and the machine is busy.
const PATIENCE: Duration = Duration::from_secs(15);
/// The pause after a call or a stream that has failed.
const PAUSE: Duration = Duration::from_millis(50);
/// How many messages a restless reader reads at most before it resumes, and goes back at most.
const RESTLESS: usize = 400;
/// How many bytes the others receive while a slow reader does not read: a multiple of the server's buffer.
const SLOW_BYTES: u64 = 6 << 20;
/// How long a slow reader does not read at most.
const SLOW_TIME: Duration = Duration::from_secs(8);
/// How often a stream from the earliest event is tried.
const ATTEMPTS: usize = 100;

/// When a reader stops to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Never.
    Steady,
    /// After some messages, often after the first. It resumes from the last token, or from an older one.
    Restless,
    /// While others receive much, without closing the stream.
    Slow,
    /// Until events that it has not received are deleted.
    Away,
}

/// A reader.
pub struct Reader {
    pub name: &'static str,
    pub filter: Filter,
    pub stream: Stream,
    habit: Habit,
    shared: Arc<Shared>,
    random: fastrand::Rng,
    /// The token of each message of the stream.
    tokens: Vec<String>,
    /// The token to resume from.
    token: String,
    /// The number of messages of the last marks, and before which it does not go back.
    marks: Vec<(i64, usize)>,
    floor: usize,
    server: usize,
    /// Whether the next stream must be refused, because events after the token are deleted.
    is_expired: bool,
}

impl Reader {
    pub fn new(
        name: &'static str,
        habit: Habit,
        filter: Filter,
        shared: &Arc<Shared>,
        token: &str,
        random: fastrand::Rng,
    ) -> Self {
        if habit != Habit::Away {
            shared.keep_from(name, 0);
        }
        let mut stream = Stream::default();
        stream.push(Item::Checkpoint);
        Self {
            name,
            filter,
            stream,
            habit,
            shared: Arc::clone(shared),
            random,
            tokens: vec![token.to_owned()],
            token: token.to_owned(),
            marks: Vec::new(),
            floor: 0,
            server: 0,
            is_expired: false,
        }
    }

    /// Reads until the last mark has come.
    pub async fn run(mut self) -> Self {
        while !self.is_done() {
            let mark = self.marks.last().map_or(0, |(mark, _)| *mark);
            self.shared.has_read(self.name, Some(mark));
            let Some(caller) = self.connect().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            if let Err(status) = self.session(&caller).await {
                self.refused(&status);
                tokio::time::sleep(PAUSE).await;
            }
            self.between().await;
        }
        self.shared.has_read(self.name, None);
        self
    }

    fn is_done(&self) -> bool {
        let mark = self.marks.last().map(|(mark, _)| *mark);
        self.shared.last().is_some_and(|last| mark >= Some(last))
    }

    /// Connects to a server, mostly to another one than before. None if it does not run.
    async fn connect(&mut self) -> Option<Caller> {
        let count = self.shared.addresses.len();
        self.server = (self.server + self.random.usize(..2 * count)) % count;
        let address = format!("http://{}", self.shared.addresses[self.server]);
        let mut endpoint = Endpoint::from_shared(address).ok()?.tcp_nodelay(true);
        if self.habit == Habit::Slow {
            // That of the protocol. The library's is larger than the server's buffer.
            endpoint = endpoint.initial_stream_window_size(65_535);
        }
        let channel = endpoint.connect().await.ok()?;
        let caller = Caller::on(channel, &self.shared.key).ok()?;
        Some(caller.without_deadline())
    }

    /// Reads a stream until its end, or until the reader has read enough.
    async fn session(&mut self, caller: &Caller) -> Result<(), Status> {
        let begin = Begin::ResumeToken(self.token.clone());
        let request = self.filter.request(begin, &self.shared.marked);
        let opened = caller.events().watch(caller.request(request)).await?;
        if std::mem::take(&mut self.is_expired) {
            let problem = "a resume was accepted although events after its token are deleted";
            self.shared.problem(format!("{}: {problem}", self.name));
        }
        let mut messages = opened.into_inner();
        let limit = match self.habit {
            Habit::Restless if self.random.u8(..3) == 0 => 1,
            Habit::Restless => self.random.usize(1..RESTLESS),
            Habit::Steady | Habit::Slow | Habit::Away => usize::MAX,
        };
        let mut pause = self.random.usize(20..200);
        let marks = self.marks.len();
        for count in 0..limit {
            if self.is_done() || (self.habit == Habit::Away && self.marks.len() > marks + 1) {
                break;
            }
            let next = tokio::time::timeout(PATIENCE, messages.message());
            let Ok(next) = next.await else {
                let problem = format!("{}: no message in {PATIENCE:?}", self.name);
                self.shared.problem(problem);
                break;
            };
            let Some(message) = next? else {
                self.shared.count("streams that the server ended");
                if !matches!(self.stream.last(), Some(Item::Checkpoint)) {
                    let problem = "a stream ended with OK without a last checkpoint";
                    self.shared.problem(format!("{}: {problem}", self.name));
                }
                break;
            };
            let is_checkpoint = matches!(message.item, Some(Message::Checkpoint(_)));
            if count == 0 && !is_checkpoint {
                let problem = "the first message is not a checkpoint";
                self.shared.problem(format!("{}: {problem}", self.name));
            }
            self.take(message);
            pause = pause.saturating_sub(1);
            if self.habit == Habit::Slow && pause == 0 {
                self.doze().await;
                pause = self.random.usize(500..3_000);
            }
        }
        Ok(())
    }

    /// Does not read for a while.
    async fn doze(&self) {
        let (begun, received) = (Instant::now(), self.shared.received());
        while begun.elapsed() < SLOW_TIME
            && self.shared.received() < received + SLOW_BYTES
            && self.shared.last().is_none()
        {
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn take(&mut self, message: WatchEventsResponse) {
        let size = message.encoded_len();
        if message.resume_token.is_empty() {
            let problem = format!("{}: a message without resume_token", self.name);
            self.shared.problem(problem);
        }
        self.token.clone_from(&message.resume_token);
        self.tokens.push(message.resume_token);
        let Some(Message::Event(event)) = message.item else {
            self.stream.push(Item::Checkpoint);
            return;
        };
        match received(&event) {
            Ok(event) => {
                let (record, version) = (event.change.record, event.change.version);
                if self.habit == Habit::Steady {
                    self.shared.add_received(size);
                    self.shared.see(record, version);
                }
                self.stream.push(Item::Event(Box::new(event)));
                if record.to_string() == self.shared.marked {
                    self.pass(version);
                }
            }
            Err(error) => {
                let problem = format!("{}: an event cannot be read: {error:#}", self.name);
                self.shared.problem(problem);
            }
        }
    }

    /// A mark has come. From now on, the reader resumes after the mark before it, and no earlier.
    fn pass(&mut self, mark: i64) {
        if let Some((before, place)) = self.marks.last().copied()
            && self.habit != Habit::Away
        {
            self.floor = self.floor.max(place);
            self.shared.keep_from(self.name, before);
        }
        self.marks.push((mark, self.stream.len()));
    }

    /// Decides from where the next stream begins, and when.
    async fn between(&mut self) {
        let count = self.stream.len();
        let mut place = count;
        if self.habit == Habit::Restless && self.random.u8(..3) == 0 {
            // Not further than it reads at once, or it would never pass a part with many events and no mark.
            let first = self.floor.max(count.saturating_sub(RESTLESS)).max(1);
            place = self.random.usize(first..=count);
            self.shared.count("resumes from older tokens");
        }
        self.stream.resume_after(place);
        self.tokens.truncate(place);
        self.marks.retain(|(_, marked)| *marked <= place);
        if let Some(token) = self.tokens.last() {
            self.token.clone_from(token);
        }
        self.shared.count("resumes");
        if self.habit == Habit::Away && !self.marks.is_empty() {
            let mark = self.marks.last().map_or(0, |(mark, _)| *mark);
            while self.shared.deleted() <= mark && self.shared.last().is_none() {
                tokio::time::sleep(PAUSE).await;
            }
            self.is_expired = self.shared.deleted() > mark;
        } else {
            let pause = self.random.u64(..60);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    fn refused(&mut self, status: &Status) {
        let details = status.get_error_details();
        let info = details.error_info();
        let of = |key: &str| info.and_then(|info| info.metadata.get(key).cloned());
        match reason(status).as_str() {
            "WATCH_TOO_SLOW" => {
                self.shared.count("streams that were too slow");
                self.set_last_token(of("resume_token").unwrap_or_default());
            }
            "RESUME_TOKEN_EXPIRED" => {
                let cause = of("cause").unwrap_or_default();
                if self.habit != Habit::Away || cause != "RETENTION" {
                    let problem = format!("a token expired that must not: {cause}");
                    self.shared.problem(format!("{}: {problem}", self.name));
                }
                // The next stream begins at once, with what is stored.
                self.is_expired = false;
                self.marks.clear();
                self.shared.count("tokens that expired");
                self.stream.lose();
                self.set_last_token(of("earliest_token").unwrap_or_default());
            }
            _ => self.shared.outage(self.name, status),
        }
    }

    /// Replaces the token of the last message by that of an error.
    fn set_last_token(&mut self, token: String) {
        if let Some(last) = self.tokens.last_mut() {
            *last = token;
        }
    }
}

/// All events that are still stored, of a stream that begins with the earliest one. Retention may still delete what was
/// made old, and overtake the stream: then it is read again.
pub async fn read_stored(shared: &Arc<Shared>, random: fastrand::Rng) -> Result<Reader> {
    for _ in 0..ATTEMPTS {
        match read_from_earliest(shared, random.clone()).await {
            Err(error) if is_expired(&error) => tokio::time::sleep(PAUSE).await,
            read => return read,
        }
    }
    bail!("retention has overtaken each of {ATTEMPTS} streams from the earliest event")
}

fn is_expired(error: &anyhow::Error) -> bool {
    let status = error.downcast_ref::<Status>();
    status.is_some_and(|status| reason(status) == "RESUME_TOKEN_EXPIRED")
}

async fn read_from_earliest(shared: &Arc<Shared>, random: fastrand::Rng) -> Result<Reader> {
    let (habit, filter) = (Habit::Away, Filter::All);
    let mut reader = Reader::new("the earliest", habit, filter, shared, "", random);
    let caller = reader.connect().await.context("no server")?;
    let start = Begin::Start(WatchStart::Earliest.into());
    let request = reader.filter.request(start, &shared.marked);
    let opened = caller.events().watch(caller.request(request)).await?;
    let mut messages = opened.into_inner();
    reader.stream.lose();
    while !reader.is_done() {
        let next = tokio::time::timeout(PATIENCE, messages.message()).await;
        let message = next.context("no message of a stream from the earliest event")??;
        reader.take(message.context("a stream from the earliest event ended")?);
    }
    Ok(reader)
}
