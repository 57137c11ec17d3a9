//! When to read the figures again: after events of the server, at most once a second.

use std::time::Duration;

use leadsmith_proto::watch_events_request::Begin;
use leadsmith_proto::watch_events_response::Item;
use leadsmith_proto::{EventSubject, WatchEventsRequest, WatchEventsResponse, WatchStart};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::{Code, Status, Streaming};

use super::caller::Caller;
use crate::config::StartupError;

/// The shortest time between two readings, and between two attempts to reach the server.
const PAUSE: Duration = Duration::from_secs(1);
/// A stream without a message for so long is dead: a checkpoint comes every 10 seconds.
const SILENCE: Duration = Duration::from_secs(30);
/// How often the server may be unavailable without interruption before the command ends.
const MAX_ATTEMPTS: u32 = 60;

/// The kinds of records that the figures are counted from.
const SUBJECTS: [EventSubject; 4] = [
    EventSubject::Lead,
    EventSubject::Opportunity,
    EventSubject::Order,
    EventSubject::OrderQueue,
];

/// The changes since the stream was opened.
pub struct Changes {
    stream: Streaming<WatchEventsResponse>,
    /// Where to continue.
    resume_token: String,
    /// When the figures may be read again.
    pause: Instant,
}

impl Changes {
    /// Opens the stream. What changes from now on is reported by [`next`](Self::next).
    ///
    /// # Errors
    /// If the server refuses the stream.
    pub async fn open(caller: &Caller) -> Result<Self, StartupError> {
        let opened = begin(caller, String::new()).await;
        let (stream, resume_token) = opened.map_err(|status| caller.failure(&status))?;
        Ok(Self {
            stream,
            resume_token,
            pause: Instant::now() + PAUSE,
        })
    }

    /// Waits until something may have changed since the last call, and until a second has passed since then.
    ///
    /// # Errors
    /// If the server refuses the stream, or is unavailable for a minute.
    pub async fn next(&mut self, caller: &Caller) -> Result<(), StartupError> {
        loop {
            match self.message().await {
                Ok(Some(message)) => {
                    self.resume_token = message.resume_token;
                    match message.item {
                        Some(Item::Event(_)) => break,
                        // Also a kind of message that this version does not know.
                        Some(Item::Checkpoint(_)) | None => {}
                    }
                }
                // The stream has ended in good order.
                Ok(None) => {
                    if self.reopen(caller).await? {
                        break;
                    }
                }
                Err(status) if is_final(&status) => return Err(caller.failure(&status)),
                Err(_) => {
                    sleep(PAUSE).await;
                    if self.reopen(caller).await? {
                        break;
                    }
                }
            }
        }
        self.skip_until_pause(caller).await?;
        self.pause = Instant::now() + PAUSE;
        Ok(())
    }

    async fn message(&mut self) -> Result<Option<WatchEventsResponse>, Status> {
        let silent = |_| Status::unavailable("the stream of events is silent");
        timeout(SILENCE, self.stream.message())
            .await
            .map_err(silent)?
    }

    /// Takes the messages that come until the figures may be read again: the reading will show these changes too.
    async fn skip_until_pause(&mut self, caller: &Caller) -> Result<(), StartupError> {
        let pause = sleep_until(self.pause);
        tokio::pin!(pause);
        loop {
            let message = tokio::select! {
                () = &mut pause => return Ok(()),
                message = self.stream.message() => message,
            };
            match message {
                Ok(Some(message)) => self.resume_token = message.resume_token,
                Ok(None) | Err(_) => {
                    pause.await;
                    self.reopen(caller).await?;
                    return Ok(());
                }
            }
        }
    }

    /// Opens the stream again where it ended. Returns whether changes may have been missed, because the server does not
    /// have the events any more that follow the token.
    async fn reopen(&mut self, caller: &Caller) -> Result<bool, StartupError> {
        let token = self.resume_token.clone();
        let resumed = patiently(caller, || async {
            match begin(caller, token.clone()).await {
                Err(status) if is_of_token(&status) => Ok(None),
                begun => begun.map(Some),
            }
        });
        let (begun, missed) = match resumed.await? {
            Some(begun) => (begun, false),
            None => (
                patiently(caller, || begin(caller, String::new())).await?,
                true,
            ),
        };
        (self.stream, self.resume_token) = begun;
        Ok(missed)
    }
}

/// Makes a call again, once a second, while the server is unavailable.
///
/// # Errors
/// If the server refuses the call, or is unavailable for a minute.
pub async fn patiently<T, F>(caller: &Caller, call: impl Fn() -> F) -> Result<T, StartupError>
where
    F: Future<Output = Result<T, Status>>,
{
    let mut attempts = 0;
    loop {
        match call().await {
            Ok(result) => return Ok(result),
            Err(status) if is_final(&status) || attempts >= MAX_ATTEMPTS => {
                return Err(caller.failure(&status));
            }
            Err(_) => {
                attempts += 1;
                sleep(PAUSE).await;
            }
        }
    }
}

/// Opens a stream after this token, or with what changes from now on, and waits for its first message, which shows that
/// it has begun.
async fn begin(
    caller: &Caller,
    resume_token: String,
) -> Result<(Streaming<WatchEventsResponse>, String), Status> {
    let begin = match resume_token.is_empty() {
        true => Begin::Start(WatchStart::Now.into()),
        false => Begin::ResumeToken(resume_token),
    };
    let request = WatchEventsRequest {
        begin: Some(begin),
        subjects: SUBJECTS.iter().map(|subject| i32::from(*subject)).collect(),
        ..WatchEventsRequest::default()
    };
    let mut stream = caller.watch(request).await?;
    let silent = |_| Status::unavailable("the stream of events does not begin");
    let first = timeout(SILENCE, stream.message()).await.map_err(silent)??;
    let ended = || Status::unavailable("the stream of events ended before it began");
    Ok((stream, first.ok_or_else(ended)?.resume_token))
}

/// Whether the server does not accept the token, which is too old or of another log.
fn is_of_token(status: &Status) -> bool {
    [
        Code::InvalidArgument,
        Code::FailedPrecondition,
        Code::OutOfRange,
    ]
    .contains(&status.code())
}

/// Whether trying again cannot help.
fn is_final(status: &Status) -> bool {
    [
        Code::Unauthenticated,
        Code::PermissionDenied,
        Code::InvalidArgument,
        Code::FailedPrecondition,
        Code::NotFound,
        Code::Unimplemented,
    ]
    .contains(&status.code())
}
