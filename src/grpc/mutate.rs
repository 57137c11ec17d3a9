//! How an RPC makes a change and responds.

use chrono::{DateTime, Utc};
use prost::Message;
use tonic::{Response, Status};

use crate::commit::{GroupCommit, Mutation};
use crate::core::call::Call;
use crate::error::{Error, Result};

/// How often a change is prepared if its records change concurrently.
const MAX_ATTEMPTS: usize = 3;

/// Reads what all requests have in common that change one record: the request id, the etag, `validate_only`, and the
/// record's id, whose field is `id` unless another one is named. It is a macro because the requests share no type.
/// Passwords must be taken out of the request before.
macro_rules! target {
    ($violations:ident, $call:ident, $body:ident) => {
        $crate::grpc::target!($violations, $call, $body, id)
    };
    ($violations:ident, $call:ident, $body:ident, $id:ident) => {{
        let request_id = $crate::grpc::read::request_id(&mut $violations, &mut $body.request_id);
        $crate::grpc::set_request_key(&mut $call, request_id, &$body);
        $crate::commit::Target {
            id: $crate::grpc::read::id(&mut $violations, stringify!($id), &$body.$id),
            etag: std::mem::take(&mut $body.etag),
            validate_only: $body.validate_only,
        }
    }};
}

pub(crate) use target;

/// Commits a change. `render` makes the response from its outcome, before the commit: the response is stored
/// with the change.
///
/// # Errors
/// Those of [`GroupCommit::run`].
pub async fn mutate<T, R>(
    commit: &GroupCommit,
    call: Call,
    mutation: Mutation<T>,
    render: fn(T) -> R,
) -> Result<Response<R>, Status>
where
    T: 'static,
    R: Message + Default + 'static,
{
    let response = commit.run(call, mutation, render).await?;
    let response = response.ok_or_else(Error::write_conflict)?;
    Ok(Response::new(response))
}

/// [`mutate`] for a change whose decision needs the database's time in some states of its records, and then is
/// [`Decision::Stale`](crate::commit::Decision::Stale) without it.
///
/// # Errors
/// Those of `time` and of [`GroupCommit::run`].
pub async fn mutate_in_time<T, R, P>(
    commit: &GroupCommit,
    call: Call,
    mutation: impl Fn(Option<DateTime<Utc>>) -> Mutation<T>,
    time: impl FnOnce() -> P,
    render: fn(T) -> R,
) -> Result<Response<R>, Status>
where
    T: 'static,
    R: Message + Default + 'static,
    P: Future<Output = Result<DateTime<Utc>>>,
{
    let response = commit.run(call.clone(), mutation(None), render).await?;
    if let Some(response) = response {
        return Ok(Response::new(response));
    }
    let time = time().await?;
    mutate(commit, call, mutation(Some(time)), render).await
}

/// [`mutate`] for a change that is prepared by verifying or hashing a password. It is prepared only if the call has no
/// stored response, and again if the records have changed in the meantime.
///
/// # Errors
/// Those of `prepare` and of [`GroupCommit::run`].
pub async fn prepare_and_mutate<T, R, P>(
    commit: &GroupCommit,
    call: &Call,
    prepare: impl Fn() -> P,
    render: fn(T) -> R,
) -> Result<Response<R>, Status>
where
    T: 'static,
    R: Message + Default + 'static,
    P: Future<Output = Result<Mutation<T>>>,
{
    if let Some(stored) = commit.replay(call).await? {
        return Ok(Response::new(stored));
    }
    read_and_mutate(commit, call, prepare, render).await
}

/// [`mutate`] for a change that is prepared by reading its records, again if they have changed in the meantime. A call
/// that has a stored response is prepared in vain: few have one, and looking for it first would cost every call a query.
///
/// # Errors
/// Those of `prepare` and of [`GroupCommit::run`].
pub async fn read_and_mutate<T, R, P>(
    commit: &GroupCommit,
    call: &Call,
    prepare: impl Fn() -> P,
    render: fn(T) -> R,
) -> Result<Response<R>, Status>
where
    T: 'static,
    R: Message + Default + 'static,
    P: Future<Output = Result<Mutation<T>>>,
{
    let prepare = || {
        let prepared = prepare();
        async { prepared.await.map(Some) }
    };
    let response = attempt(commit, call, prepare, render).await?;
    let response = response.ok_or_else(Error::write_conflict)?;
    Ok(Response::new(response))
}

/// [`read_and_mutate`] for a change that may find nothing to do: `prepare` returns none, or the records have changed
/// in each attempt. Then the response is empty, and nothing is written.
///
/// # Errors
/// Those of `prepare` and of [`GroupCommit::run`].
pub async fn find_and_mutate<T, R, P>(
    commit: &GroupCommit,
    call: &Call,
    prepare: impl Fn() -> P,
    render: fn(T) -> R,
) -> Result<Response<R>, Status>
where
    T: 'static,
    R: Message + Default + 'static,
    P: Future<Output = Result<Option<Mutation<T>>>>,
{
    let response = attempt(commit, call, prepare, render).await?;
    Ok(Response::new(response.unwrap_or_default()))
}

/// The response; none if there is nothing to do or the records have changed in each attempt.
async fn attempt<T, R, P>(
    commit: &GroupCommit,
    call: &Call,
    prepare: impl Fn() -> P,
    render: fn(T) -> R,
) -> Result<Option<R>>
where
    T: 'static,
    R: Message + Default + 'static,
    P: Future<Output = Result<Option<Mutation<T>>>>,
{
    for _ in 0..MAX_ATTEMPTS {
        let mutation = match prepare().await {
            Ok(Some(mutation)) => mutation,
            // What there was to do may have been done by the first call with this request id.
            Ok(None) => return commit.replay(call).await,
            // The refusal may be a consequence of the first call with this request id, which has committed
            // in the meantime.
            Err(refusal) => {
                let stored = commit.replay(call).await?;
                return stored.ok_or(refusal).map(Some);
            }
        };
        if let Some(response) = commit.run(call.clone(), mutation, render).await? {
            return Ok(Some(response));
        }
    }
    commit.replay(call).await
}
