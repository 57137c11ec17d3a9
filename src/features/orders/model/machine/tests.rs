//! Every small order in every state that it can get into, and what each call makes of it there.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "most calls and states are alike"
)]

mod rules;

use std::collections::BTreeSet;

use chrono::Duration;
use uuid::Uuid;

use super::*;
use crate::core::call::{Principal, PrincipalKind};
use crate::error::{Error, ErrorReason as Reason};
use crate::features::order_queues::model::{ActionType, Step};
use crate::features::orders::model::{Claim, Claiming};
use rules::{Call, NOW, WORKER, apply, is_held, refusal};

const SHAPES: [&[(usize, &[usize])]; 6] = [
    // For each action its step and the places of its prerequisites.
    &[(0, &[])],
    &[(0, &[]), (0, &[0])],
    &[(0, &[]), (1, &[])],
    &[(0, &[]), (1, &[0]), (1, &[])],
    // The middle step has no action.
    &[(0, &[]), (2, &[0])],
    // An action depends on one of a later step, so that only a skip or a move helps.
    &[(0, &[1]), (1, &[]), (2, &[])],
];

fn order(shape: &[(usize, &[usize])]) -> Order {
    let last = shape.iter().map(|(step, _)| *step).max().unwrap_or(0);
    let steps: Vec<Step> = (0..=last)
        .map(|number| Step {
            key: format!("s{number}"),
            name: String::new(),
        })
        .collect();
    let actions = shape
        .iter()
        .enumerate()
        .map(|(number, (step, after))| Action {
            key: format!("a{number}"),
            r#type: ActionType::External,
            name: String::new(),
            automatic: false,
            prerequisites: after.iter().map(|number| format!("a{number}")).collect(),
            state: ActionState::Pending,
            step: format!("s{step}"),
            // One of them can be repeated.
            repeatable: number == 0,
            claim: None,
        });
    let mut order = Order {
        id: Uuid::nil(),
        seq: 0,
        lead_id: Uuid::nil(),
        opportunity_id: None,
        version: 1,
        queue_id: Uuid::nil(),
        client_id: None,
        step: "s0".to_owned(),
        steps,
        state: OrderState::Processing,
        items: Vec::new(),
        actions: actions.collect(),
        create_time: DateTime::UNIX_EPOCH,
        update_time: DateTime::UNIX_EPOCH,
    };
    order.advance();
    order
}

/// The calls that can be made on an order, also those that it refuses.
fn calls(order: &Order) -> Vec<Call> {
    let mut calls = vec![Call::Cancel];
    for number in 0..order.actions.len() {
        calls.extend([
            Call::Run(number, ActionState::Done),
            Call::Run(number, ActionState::Failed),
            Call::Skip(number),
            Call::UndoSkip(number),
            Call::Claim(number, false),
            Call::Claim(number, true),
        ]);
        for claim in [1, 2] {
            calls.extend([
                Call::Report(number, claim, ActionState::Done),
                Call::Report(number, claim, ActionState::Failed),
                Call::Release(number, claim),
            ]);
        }
        if is_held(order, number) {
            calls.push(Call::Expire(number));
        }
    }
    let others =
        (0..order.steps.len()).filter(|number| order.has_other_step(&format!("s{number}")));
    calls.extend(others.map(Call::Move));
    calls
}

fn is_open(order: &Order, step: &str) -> bool {
    let mut actions = order.actions.iter();
    actions.any(|action| action.step == step && action.state.is_open())
}

/// What holds of every order that was not just moved.
fn check(order: &Order, call: Call) {
    let last = order.steps.last().map(|step| step.key.as_str());
    match order.state {
        OrderState::Complete => {
            assert_eq!(Some(order.step.as_str()), last, "{call:?} {order:?}");
        }
        OrderState::Processing | OrderState::Canceled => {}
    }
    let any_open = order.actions.iter().any(|action| action.state.is_open());
    if order.state == OrderState::Processing {
        assert!(any_open, "nothing is left to do: {call:?} {order:?}");
    }
}

/// Makes every call on every order that any calls can lead to, and hands the order before and after to `check`.
fn explore(mut check: impl FnMut(&Order, Call, &Order)) -> usize {
    let mut explored = 0;
    for shape in SHAPES {
        let mut found = vec![order(shape)];
        let mut seen = BTreeSet::from([format!("{:?}", found[0])]);
        while let Some(before) = found.pop() {
            explored += 1;
            for call in calls(&before) {
                let mut after = before.clone();
                let expected = refusal(&before, call);
                let outcome = apply(&mut after, call);
                assert_eq!(outcome.err(), expected, "{call:?} {before:?}");
                if expected.is_some() {
                    assert_eq!(after, before, "a refused call changes nothing: {call:?}");
                    continue;
                }
                check(&before, call, &after);
                if seen.insert(format!("{after:?}")) {
                    found.push(after);
                }
            }
        }
    }
    explored
}

#[test]
fn every_call_on_every_order_does_what_the_rules_say() {
    let explored = explore(|before, call, after| {
        check(after, call);
        for (number, (then, now)) in before.actions.iter().zip(&after.actions).enumerate() {
            let expected = match call {
                Call::Run(which, result) if which == number => match then.state {
                    ActionState::Done => ActionState::Done,
                    _ => result,
                },
                Call::Skip(which) if which == number => ActionState::Skipped,
                Call::UndoSkip(which) | Call::Release(which, _) if which == number => {
                    ActionState::Pending
                }
                Call::Claim(which, _) if which == number => ActionState::Claimed,
                Call::Report(which, _, result) if which == number => result,
                _ => then.state,
            };
            assert_eq!(now.state, expected, "{call:?} {before:?}");
            assert_eq!(
                now.claim.is_some(),
                now.state == ActionState::Claimed,
                "{call:?} {after:?}"
            );
        }
        match call {
            Call::Run(_, ActionState::Failed)
            | Call::Report(_, _, ActionState::Failed)
            | Call::Claim(..)
            | Call::Release(..)
            | Call::Expire(_) => {
                assert_eq!((&after.step, after.state), (&before.step, before.state));
            }
            Call::Run(..) | Call::Skip(_) | Call::Report(..) => {
                let completes = after.state == OrderState::Complete;
                assert!(
                    completes || is_open(after, &after.step),
                    "{call:?} {after:?}"
                );
                // Nothing that is open is left behind by itself.
                let place = |order: &Order| {
                    let mut steps = order.steps.iter();
                    steps.position(|step| step.key == order.step).unwrap_or(0)
                };
                assert!(place(after) >= place(before));
                for step in &after.steps[place(before)..place(after)] {
                    assert!(!is_open(after, &step.key), "{call:?} {before:?}");
                }
            }
            Call::UndoSkip(_) => {
                assert_eq!(
                    (&after.step, after.state),
                    (&before.step, OrderState::Processing)
                );
            }
            Call::Move(number) => {
                assert_eq!(after.step, format!("s{number}"));
                assert_eq!(after.state, OrderState::Processing);
            }
            Call::Cancel => {
                assert_eq!(
                    (&after.step, after.state),
                    (&before.step, OrderState::Canceled)
                );
            }
        }
    });
    assert!(explored > 1_000, "{explored}");
}

#[test]
fn an_order_without_anything_to_do_is_complete() {
    let nothing = order(&[]);
    assert_eq!(nothing.state, OrderState::Complete);
    // The first step has no action.
    let order = order(&[(1, &[])]);
    assert_eq!(
        (order.step.as_str(), order.state),
        ("s1", OrderState::Processing)
    );
}

#[test]
fn automatic_actions_run_in_their_order_and_not_again() {
    let mut order = order(&[(0, &[]), (0, &[0]), (1, &[]), (0, &[])]);
    for action in &mut order.actions[1..] {
        action.automatic = true;
    }
    let next = |order: &Order| order.next_automatic().map(|action| action.key);
    assert_eq!(next(&order).as_deref(), Some("a3"));
    order.set_result("a3", ActionState::Failed);
    assert_eq!(next(&order), None, "one that failed is left to people");
    order.set_result("a0", ActionState::Done);
    assert_eq!(next(&order).as_deref(), Some("a1"));
    order.set_result("a1", ActionState::Done);
    assert_eq!(next(&order), None, "the second step is not reached");
    order.skip("a3", NOW).unwrap();
    assert_eq!(next(&order).as_deref(), Some("a2"));
    order.cancel().unwrap();
    assert_eq!(next(&order), None);
}

#[test]
fn only_the_worker_that_holds_a_claim_ends_it() {
    let mut order = order(&[(0, &[])]);
    apply(&mut order, Call::Claim(0, false)).unwrap();
    let check = |run: u128, actor, now| {
        let checked = order.check_claim("a0", Uuid::from_u128(run), actor, now);
        checked.err().map(|error| error.reason())
    };
    let lost = Some(Reason::ClaimLost);
    let at_the_end = NOW + Duration::seconds(1);
    assert_eq!(
        check(1, WORKER, at_the_end - Duration::microseconds(1)),
        None
    );
    assert_eq!(check(1, WORKER, at_the_end), lost);
    assert_eq!(check(2, WORKER, NOW), lost);
    assert_eq!(check(1, Uuid::from_u128(8), NOW), lost);
    // What is not claimable is not in the list of workers either, and what is claimed is there from its expiry on.
    let listed = order.claimable();
    assert_eq!(listed[0].expire_time, Some(at_the_end));
    order.cancel().unwrap();
    assert_eq!(order.claimable(), Vec::new());
}
