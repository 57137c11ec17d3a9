//! How streams end, and what they leave alone.

use std::time::{Duration, Instant};

use leadsmith::core::role::Role;
use leadsmith_proto::watch_events_response::Item;
use leadsmith_proto::{self as proto, Lead};
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use super::{Stream, from_now, from_token, of_leads, refused, watch};
use crate::harness::{Caller, Harness, metadata, reason};
use crate::on_both;

/// A lead that occupies much space.
fn large() -> Lead {
    let fields = (0..20).map(|number| (format!("field_{number}"), "x".repeat(900)));
    Lead {
        last_name: "Lovelace".into(),
        custom_fields: fields.collect(),
        ..Lead::default()
    }
}

async fn disable(h: &Harness, caller: &Caller) {
    let request = proto::DisableOperatorRequest {
        id: caller.id.to_string(),
        ..Default::default()
    };
    h.admin.operators().disable(request).await.unwrap();
}

on_both! {
    async fn a_stream_ends_when_its_caller_is_disabled(h: Harness) {
        let leaver = h.operator("leaver", Role::Viewer).await;
        let mut stream = watch(&leaver, from_now()).await;
        disable(&h, &leaver).await;
        let since = Instant::now();
        let status = stream.end().await.unwrap_err();
        assert_eq!(reason(&status), "TOKEN_INVALID");
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(since.elapsed() < Duration::from_secs(5));
    }

    async fn a_stream_ends_in_good_order_when_the_role_changes_or_the_server_stops(h: Harness) {
        let admin = h.operator("second", Role::Admin).await;
        let mut of_role = watch(&admin, from_now()).await;
        let request = proto::UpdateOperatorRequest {
            operator: Some(proto::Operator {
                id: admin.id.to_string(),
                role: proto::Role::Viewer.into(),
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["role".into()] }),
            ..Default::default()
        };
        h.admin.operators().update(request).await.unwrap();
        of_role.end().await.unwrap();
        let lead = h.sales.create_lead("Lovelace").await;
        let mut again = watch(&admin, of_leads(from_token(&of_role.token))).await;
        assert_eq!(again.event().await.subject_id, lead.id);
        drop(again);

        let mut of_server = watch(&h.viewer, of_leads(from_now())).await;
        let lead = h.sales.create_lead("Hopper").await;
        assert_eq!(of_server.event().await.subject_id, lead.id);
        let Harness { server, database, .. } = h;
        let stopped = tokio::spawn(server.stop());
        of_server.end().await.unwrap();
        stopped.await.unwrap().unwrap();
        drop(database);
    }

    async fn a_slow_reader_is_told_where_to_resume(h: Harness) {
        let slow = slow_stream(&h, &h.sales).await;
        assert_eq!(reason(&slow.status), "WATCH_TOO_SLOW");
        assert_eq!(slow.status.code(), Code::ResourceExhausted);
        assert_eq!(metadata(&slow.status, "resume_token"), slow.token);
        assert!(slow.found.len() < slow.created.len());
        let mut rest = watch(&h.viewer, of_leads(from_token(&slow.token))).await;
        let mut found = slow.found;
        while found.len() < slow.created.len() {
            found.push(rest.event().await.subject_id);
        }
        assert_eq!(found, slow.created);
    }

    async fn a_stream_takes_no_place_of_a_call_and_has_a_limit_of_its_own(h: Harness) {
        let server = h.another_server(|settings| {
            settings.limits.max_calls = 2;
            settings.limits.max_watches = 4;
            settings.limits.max_watches_per_principal = 3;
        }).await;
        let viewer = h.viewer.at(&server);
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(watch(&viewer, from_now()).await);
        }
        let status = refused(&viewer, from_now()).await;
        assert_eq!(reason(&status), "WATCH_LIMIT");
        assert_eq!(metadata(&status, "limit"), "3");
        streams.push(watch(&h.sales.at(&server), from_now()).await);
        assert_eq!(reason(&refused(&h.admin.at(&server), from_now()).await), "WATCH_LIMIT");
        for _ in 0..5 {
            h.sales.at(&server).create_lead("Lovelace").await;
        }
        drop(streams);
        crate::harness::eventually("the places are free again", async || {
            viewer.events().watch(from_now()).await.is_ok()
        }).await;
        server.stop().await.unwrap();
    }
}

/// A stream whose client does not read while much happens.
pub struct SlowStream {
    created: Vec<String>,
    found: Vec<String>,
    token: String,
    pub status: Status,
}

/// On a server that keeps few events in memory.
pub async fn slow_stream(h: &Harness, caller: &Caller) -> SlowStream {
    let server = h
        .another_server(|settings| settings.limits.watch_buffer = 100_000)
        .await;
    let channel = Endpoint::from_shared(format!("http://{}", server.address))
        .unwrap()
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(10 << 20)
        .connect_lazy();
    let slow = Caller {
        channel,
        ..caller.clone()
    };
    let opened = slow.events().watch(of_leads(from_now())).await.unwrap();
    let mut stream = Stream {
        messages: opened.into_inner(),
        token: String::new(),
    };
    // Until it follows the present: before that, a stream is served at the pace of its client.
    let (mut created, mut found) = (Vec::new(), Vec::new());
    for name in ["First", "Second", "Third"] {
        created.push(caller.create_lead(name).await.id);
        found.push(stream.event().await.subject_id);
    }
    for _ in 0..60 {
        created.push(caller.create(large()).await.unwrap().id);
    }
    // Until the server has seen all of them: another stream gets a newer one. It may fall behind too, by the others.
    let mut is_seen = false;
    while !is_seen {
        let mut other = watch(&caller.at(&server), of_leads(from_now())).await;
        created.push(caller.create_lead("Last").await.id);
        while let Ok(Some(message)) = other.next().await
            && !is_seen
        {
            is_seen = matches!(message.item, Some(Item::Event(_)));
        }
    }
    // Other calls on the connection go on.
    slow.get(&created[0]).await;
    let status = loop {
        match stream.next().await {
            Ok(Some(message)) => {
                if let Some(Item::Event(event)) = message.item {
                    found.push(event.subject_id);
                }
                assert!(found.len() < created.len(), "it was fast enough");
            }
            Ok(None) => panic!("it ended in good order"),
            Err(status) => break status,
        }
    };
    let token = stream.token;
    server.stop().await.unwrap();
    SlowStream {
        created,
        found,
        token,
        status,
    }
}
