//! Request ids: a retried call has one effect, and the retry gets the first response.

mod calls;

use std::time::Duration;

use leadsmith::core::role::Role;
use leadsmith_proto::{
    ConvertLeadRequest, CreateLeadRequest, Lead, ReactivateLeadRequest, RunActionRequest,
    UpdateLeadRequest,
};
use sea_orm::{ConnectionTrait, TransactionTrait};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::{Backend, Caller, Harness, PASSWORD, reason, sign_in, update, violations};
use crate::on_both;
use calls::Call;

fn new_lead() -> Lead {
    Lead {
        last_name: "Hamilton".into(),
        phone: "1".into(),
        ..Lead::default()
    }
}

fn new_request_id() -> String {
    let bits = leadsmith::core::clock::random_256_bits();
    uuid::Builder::from_random_bytes(bits[..16].try_into().unwrap())
        .into_uuid()
        .to_string()
}

/// How many changes were made, and how many responses are stored.
async fn effects(h: &Harness) -> [i64; 3] {
    let db = h.database.connect().await;
    let mut counts = [0; 3];
    for (count, table) in counts
        .iter_mut()
        .zip(["history", "events", "idempotency_records"])
    {
        *count = crate::harness::count_of_leads(&db, table).await;
    }
    counts
}

fn one_more([history, events, kept]: [i64; 3]) -> [i64; 3] {
    [history + 1, events + 1, kept + 1]
}

fn assert_in_flight(status: &Status) {
    assert_eq!(status.code(), Code::Aborted, "{status:?}");
    assert_eq!(reason(status), "REQUEST_IN_FLIGHT");
    assert!(status.get_error_details().retry_info().is_some());
}

/// Changes the lead to another state, or to another version, if there is a lead.
async fn change_since(caller: &Caller, lead_id: &str) {
    if lead_id.is_empty() {
        return;
    }
    match caller.get(lead_id).await.state().as_str_name() {
        "LEAD_STATE_OPEN" => {
            let lead = Lead {
                id: lead_id.into(),
                fax: "3".into(),
                ..Lead::default()
            };
            caller.update(lead, &["fax"]).await.unwrap();
        }
        "LEAD_STATE_DEACTIVATED" => {
            caller.reactivate(lead_id).await.unwrap();
        }
        // This cannot be undone.
        state => assert_eq!(state, "LEAD_STATE_CONVERTED"),
    }
}

/// Makes the same call twice concurrently while changes are blocked, so that neither can complete. Returns the
/// error of the call that ends anyway, and then the response of the other.
async fn twice_at_once(
    h: &Harness,
    call: &Call,
    callers: [&Caller; 2],
) -> (Status, Result<Vec<u8>, Status>) {
    let held = h.hold_changes().await;
    let mut calls = tokio::task::JoinSet::new();
    for caller in callers {
        let (call, caller) = (call.clone(), caller.clone());
        calls.spawn(async move { call.send(&caller).await });
    }
    let first = tokio::time::timeout(Duration::from_secs(4), calls.join_next());
    let first = first
        .await
        .expect("the second fails at once, not after a wait");
    held.release().await;
    let refused = first.unwrap().unwrap().unwrap_err();
    (refused, calls.join_next().await.unwrap().unwrap())
}

on_both! {
    async fn a_repeat_gets_the_first_answer(h: Harness) {
        let another = h.another_server(|_| {}).await;
        for (call, lead_id) in Call::one_of_each(&h.sales).await {
            let call = call.with_id(&new_request_id());
            let before = effects(&h).await;
            let first = call.clone().send(&h.sales).await.unwrap();
            assert_eq!(effects(&h).await, one_more(before), "{call:?}");
            for caller in [&h.sales, &h.sales.at(&another)] {
                assert_eq!(call.clone().send(caller).await.unwrap(), first, "{call:?}");
            }
            assert_eq!(effects(&h).await, one_more(before), "{call:?}");

            change_since(&h.sales, &lead_id).await;
            let before = effects(&h).await;
            for caller in [&h.sales, &h.sales.at(&another)] {
                assert_eq!(call.clone().send(caller).await.unwrap(), first, "{call:?}");
            }
            assert_eq!(effects(&h).await, before, "{call:?}");
        }
        another.stop().await.unwrap();
    }

    /// Nothing is stored for it, and the request id is no longer in use.
    async fn a_call_that_was_refused_can_be_repeated_at_once(h: Harness) {
        let lead = h.sales.create_lead("Hopper").await;
        let request = ReactivateLeadRequest {
            id: lead.id,
            request_id: new_request_id(),
            ..Default::default()
        };
        for _ in 0..300 {
            let refused = h.sales.leads().reactivate(request.clone()).await.unwrap_err();
            assert_eq!(reason(&refused), "LEAD_NOT_DEACTIVATED");
        }
    }

    async fn the_spelling_of_a_request_id_does_not_matter(h: Harness) {
        for (call, _) in Call::one_of_each(&h.sales).await {
            let id = new_request_id();
            let first = call.clone().with_id(&id).send(&h.sales).await.unwrap();
            let before = effects(&h).await;
            for spelling in [id.to_uppercase(), id.replace('-', ""), format!("{{{id}}}")] {
                let again = call.clone().with_id(&spelling).send(&h.sales).await;
                assert_eq!(again.unwrap(), first, "{call:?} {spelling}");
            }
            assert_eq!(effects(&h).await, before, "{call:?}");
        }
    }

    async fn without_a_request_id_nothing_is_kept(h: Harness) {
        for (call, _) in Call::one_of_each(&h.sales).await {
            call.send(&h.sales).await.unwrap();
        }
        assert_eq!(effects(&h).await[2], 0);
    }

    async fn a_request_id_is_for_one_request(h: Harness) {
        let mut used = Vec::new();
        for (call, _) in Call::one_of_each(&h.sales).await {
            let call = call.with_id(&new_request_id());
            let first = call.clone().send(&h.sales).await.unwrap();
            let before = effects(&h).await;
            let refused = call
                .clone()
                .with_another_body()
                .send(&h.sales)
                .await
                .unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{call:?}");
            assert_eq!(reason(&refused), "REQUEST_ID_REUSED", "{call:?}");
            assert_eq!(
                call.clone().send(&h.sales).await.unwrap(),
                first,
                "{call:?}"
            );
            assert_eq!(effects(&h).await, before);
            used.push((call, first));
        }
        let taken = "11111111-1111-4111-8111-111111111111";
        let lead = h.sales.create_lead("Hopper").await;
        let id = lead.id.clone();
        let convert = ConvertLeadRequest {
            id: id.clone(),
            ..Default::default()
        };
        Call::ConvertLead(convert)
            .with_id(taken)
            .send(&h.sales)
            .await
            .unwrap();
        // The same bytes for another RPC.
        let reactivate = Call::ReactivateLead(ReactivateLeadRequest {
            id,
            ..Default::default()
        });
        let refused = reactivate.with_id(taken).send(&h.sales).await.unwrap_err();
        assert_eq!(reason(&refused), "REQUEST_ID_REUSED");
    }

    async fn a_request_id_is_a_uuid(h: Harness) {
        for (call, _) in Call::one_of_each(&h.sales).await {
            let before = effects(&h).await;
            for id in [
                "1",
                "not-a-uuid",
                " ",
                "11111111-1111-4111-8111-11111111111g",
                "00000000-0000-0000-0000-000000000000",
                "{00000000-0000-0000-0000-000000000000}",
                "FFFFFFFF-ffff-ffff-ffff-ffffffffffff",
            ] {
                let refused = call.clone().with_id(id).send(&h.sales).await.unwrap_err();
                let expected = (
                    "request_id".to_owned(),
                    "must be a UUID of your choice, except the nil and the max UUID, or empty".to_owned(),
                );
                assert_eq!(violations(&refused), [expected], "{call:?} {id:?}");
            }
            assert_eq!(effects(&h).await, before);
        }
    }

    async fn in_parallel_over_two_servers_it_has_one_effect(h: Harness) {
        let another = h.another_server(|_| {}).await;
        let servers = [h.sales.clone(), h.sales.at(&another)];
        for (call, _) in Call::one_of_each(&h.sales).await {
            let call = call.with_id(&new_request_id());
            let before = effects(&h).await;
            let mut calls = tokio::task::JoinSet::new();
            for number in 0..32 {
                let (call, caller) = (call.clone(), servers[number % 2].clone());
                calls.spawn(async move { call.send(&caller).await });
            }
            let mut answers = Vec::new();
            for outcome in calls.join_all().await {
                match outcome {
                    Ok(answer) => answers.push(answer),
                    Err(status) => assert_in_flight(&status),
                }
            }
            let first = answers.first().expect("the first call is answered").clone();
            assert!(answers.iter().all(|answer| *answer == first), "{call:?}");
            assert_eq!(effects(&h).await, one_more(before), "{call:?}");
            assert_eq!(call.send(&h.sales).await.unwrap(), first);
        }
        another.stop().await.unwrap();
    }

    async fn while_the_first_is_running_the_second_is_told_so(h: Harness) {
        for (call, _) in Call::one_of_each(&h.sales).await {
            let call = call.with_id(&new_request_id());
            let (refused, other) = twice_at_once(&h, &call, [&h.sales, &h.sales]).await;
            assert_in_flight(&refused);
            assert_eq!(call.send(&h.sales).await.unwrap(), other.unwrap());
        }
    }

    async fn a_request_id_is_its_principals_own(h: Harness) {
        let robot = h.service_account("robot", Role::Sales).await;
        let id = new_request_id();
        let call = Call::create_lead(Some(new_lead())).with_id(&id);
        let mut answers = Vec::new();
        for caller in [&h.sales, &h.admin, &robot] {
            answers.push(call.clone().send(caller).await.unwrap());
        }
        for (caller, answer) in [&h.sales, &h.admin, &robot].into_iter().zip(&answers) {
            assert_eq!(call.clone().send(caller).await.unwrap(), *answer);
        }
        answers.sort();
        answers.dedup();
        assert_eq!(answers.len(), 3, "three principals, three leads");
        assert_eq!(effects(&h).await, [3, 3, 3]);

        // The same operator in another session is the same principal.
        let token = sign_in(h.channel(), "sales", PASSWORD).await.unwrap();
        let again = call.send(&h.with_token(&token)).await.unwrap();
        assert!(answers.contains(&again));
        assert_eq!(effects(&h).await, [3, 3, 3]);
    }

    async fn a_refused_call_keeps_nothing(h: Harness) {
        let lead = h.sales.create_lead("Hopper").await;
        let order = h.sales.create_order(&lead.id, Vec::new()).await;
        h.sales.deactivate(&lead.id).await.unwrap();
        let (order_id, action) = (order.id, "provision-client".into());
        let run = Call::RunAction(RunActionRequest {
            order_id,
            action,
            ..Default::default()
        });
        let id = lead.id.clone();
        let change = update(
            Lead {
                id: id.clone(),
                ..new_lead()
            },
            &["phone"],
        );
        let calls = [
            Call::UpdateLead(change),
            run,
            Call::ConvertLead(ConvertLeadRequest {
                id,
                ..Default::default()
            }),
        ]
        .map(|call| call.with_id(&new_request_id()));
        for call in &calls {
            for _ in 0..2 {
                let refused = call.clone().send(&h.sales).await.unwrap_err();
                assert_eq!(reason(&refused), "LEAD_DEACTIVATED", "{call:?}");
            }
        }
        assert_eq!(effects(&h).await[2], 0);
        h.sales.reactivate(&lead.id).await.unwrap();
        let [change, run, convert] = calls;
        let first = change.clone().send(&h.sales).await.unwrap();
        assert_eq!(change.send(&h.sales).await.unwrap(), first);
        let first = run.clone().send(&h.sales).await.unwrap();
        assert_eq!(run.send(&h.sales).await.unwrap(), first);
        let refused = convert.send(&h.sales).await.unwrap_err();
        assert_eq!(reason(&refused), "LEAD_CONVERTED");
        assert_eq!(effects(&h).await[2], 2);
    }

    async fn a_password_is_no_part_of_what_was_asked(h: Harness) {
        let lead = Lead {
            email: "ada@example.com".into(),
            ..new_lead()
        };
        let lead = h.sales.create(lead).await.unwrap();
        let change = Lead {
            id: lead.id.clone(),
            email: "ada@example.org".into(),
            ..Lead::default()
        };
        let call = |password: &str| {
            Call::UpdateLead(UpdateLeadRequest {
                current_password: password.into(),
                request_id: "22222222-2222-4222-8222-222222222222".into(),
                ..update(change.clone(), &["email"])
            })
        };
        let refused = call("not my password").send(&h.sales).await.unwrap_err();
        assert_eq!(reason(&refused), "CURRENT_PASSWORD_INVALID");
        let first = call(PASSWORD).send(&h.sales).await.unwrap();
        let effects_of_first = effects(&h).await;

        let other = Lead {
            id: lead.id.clone(),
            email: "new@example.org".into(),
            ..Lead::default()
        };
        let other = UpdateLeadRequest {
            current_password: PASSWORD.into(),
            ..update(other, &["email"])
        };
        h.sales.leads().update(other).await.unwrap();
        for password in ["", "not my password", PASSWORD] {
            let replay = call(password).send(&h.sales).await;
            assert_eq!(replay.unwrap(), first, "a replay asks for no password");
        }
        let [history, events, kept] = effects_of_first;
        assert_eq!(effects(&h).await, [history + 1, events + 1, kept]);
        assert_eq!(h.sales.get(&lead.id).await.email, "new@example.org");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_first_is_running_on_another_server_the_second_is_told_so() {
    // Only on PostgreSQL: on SQLite, which has one writer, the second call waits for the first and then gets its
    // response.
    let h = Harness::start(Backend::Postgres).await;
    let another = h.another_server(|_| {}).await;
    for (call, _) in Call::one_of_each(&h.sales).await {
        let call = call.with_id(&new_request_id());
        let callers = [&h.sales, &h.sales.at(&another)];
        let (refused, other) = twice_at_once(&h, &call, callers).await;
        assert_in_flight(&refused);
        assert_eq!(call.send(&h.sales).await.unwrap(), other.unwrap());
    }
}

/// A replica may look for a response just before another one commits it, and take the lock of the request id just
/// after. The unique key of the stored responses must then lead to the first response, not to INTERNAL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_committed_after_the_lookup_is_returned() {
    let h = Harness::start(Backend::Postgres).await;
    let request = CreateLeadRequest {
        lead: Some(new_lead()),
        request_id: new_request_id(),
        ..CreateLeadRequest::default()
    };
    let first = h.sales.leads().create(request.clone()).await.unwrap();
    let db = h.database.connect().await;
    let remove =
        "CREATE TABLE kept AS SELECT * FROM idempotency_records; DELETE FROM idempotency_records";
    db.execute_unprepared(remove).await.unwrap();
    let before = effects(&h).await;

    let other = db.begin().await.unwrap();
    let insert = "INSERT INTO idempotency_records SELECT * FROM kept";
    other.execute_unprepared(insert).await.unwrap();
    let sales = h.sales.clone();
    let repeat = tokio::spawn(async move { sales.leads().create(request).await });
    let waiting = "SELECT COUNT(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let watcher = h.database.connect().await;
    let appeared = async {
        while crate::harness::count(&watcher, waiting).await == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let appeared = tokio::time::timeout(Duration::from_secs(1), appeared).await;
    appeared.expect("the repeat waits for the other transaction");
    other.commit().await.unwrap();

    let second = repeat.await.unwrap().unwrap();
    assert_eq!(second.into_inner(), first.into_inner());
    let [history, events, kept] = before;
    assert_eq!(effects(&h).await, [history, events, kept + 1]);
}
