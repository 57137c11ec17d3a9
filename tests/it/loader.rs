//! Callers whose reads are batched: a failure affects only the calls of its batch.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use leadsmith::db::batch_loader::BatchLoader;
use leadsmith::db::reader::Reader;
use leadsmith::error::{ErrorReason, Result};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::on_both;

/// The look-up finds every other record, and panics for this one.
const FATAL: Uuid = Uuid::max();

fn look_up(_: Reader, ids: Vec<Uuid>) -> BoxFuture<'static, Result<HashMap<Uuid, Uuid>>> {
    Box::pin(async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!ids.contains(&FATAL), "a look-up that panics, on purpose");
        Ok(ids.into_iter().map(|id| (id, id)).collect())
    })
}

on_both! {
    async fn look_ups_that_panic_leave_the_others_served(h: Harness) {
        let db = h.server.app.db.clone();
        let shared: &'static BatchLoader<Uuid> = Box::leak(Box::new(BatchLoader::new(look_up)));
        for _ in 0..4 {
            let mut calls = JoinSet::new();
            for n in 0..300 {
                let db = db.clone();
                // Not in each batch, so some waiting calls come after a batch that panics.
                let id = if n % 100 == 0 { FATAL } else { Uuid::from_u128(n) };
                calls.spawn(async move { (id, shared.get(&db, id).await) });
            }
            let answers = tokio::time::timeout(Duration::from_secs(10), calls.join_all()).await;
            for (id, answer) in answers.expect("everybody is answered") {
                match answer {
                    Ok(found) => assert_eq!(found, Some(id)),
                    Err(error) => assert!(error.is(ErrorReason::Internal), "{error:?}"),
                }
            }
        }
        let id = Uuid::from_u128(7);
        let found = tokio::time::timeout(Duration::from_secs(5), shared.get(&db, id)).await;
        assert_eq!(found.expect("an answer").unwrap(), Some(id));
    }
}
