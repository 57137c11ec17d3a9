//! Every small order in every state that it can get into, and what each call makes of it there.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "most calls and states are alike"
)]

use std::collections::BTreeSet;

use chrono::DateTime;
use uuid::Uuid;

use super::*;
use crate::error::ErrorReason as Reason;
use crate::features::order_queues::model::{ActionType, Step};

/// What can be done to an order. The numbers are places of actions and steps.
#[derive(Clone, Copy, Debug)]
enum Call {
    Run(usize, ActionState),
    Skip(usize),
    UndoSkip(usize),
    Move(usize),
    Cancel,
}

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
            r#type: ActionType::Manual,
            name: String::new(),
            automatic: false,
            prerequisites: after.iter().map(|number| format!("a{number}")).collect(),
            state: ActionState::Pending,
            step: format!("s{step}"),
            // One of them can be repeated.
            repeatable: number == 0,
        });
    let mut order = Order {
        id: Uuid::nil(),
        seq: 0,
        lead_id: Uuid::nil(),
        opportunity_id: None,
        version: 1,
        queue_id: Uuid::nil(),
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

fn apply(order: &mut Order, call: Call) -> Result<()> {
    let action = |number: usize| format!("a{number}");
    match call {
        Call::Run(number, result) => {
            let action = order.action(&action(number))?.clone();
            order.check_runnable(&action)?;
            order.set_result(&action.key, result);
            Ok(())
        }
        Call::Skip(number) => order.skip(&action(number)),
        Call::UndoSkip(number) => order.undo_skip(&action(number)),
        Call::Move(number) => order.move_to(&format!("s{number}")),
        Call::Cancel => order.cancel(),
    }
}

/// Why the table of the domain refuses a call; `None` if it allows it.
fn refusal(order: &Order, call: Call) -> Option<Reason> {
    let canceled = order.state == OrderState::Canceled;
    let complete = order.state == OrderState::Complete;
    let at = |key: &str| order.steps.iter().position(|step| step.key == key);
    match call {
        _ if canceled => Some(Reason::OrderCanceled),
        Call::Run(number, _) => {
            let action = &order.actions[number];
            let is_open = |key: &String| {
                let found = order.actions.iter().find(|other| other.key == *key);
                found.is_some_and(|other| other.state.is_open())
            };
            match action.state {
                ActionState::Skipped => Some(Reason::ActionDone),
                ActionState::Done if !action.repeatable => Some(Reason::ActionDone),
                _ if action.prerequisites.iter().any(is_open) => Some(Reason::ActionPrerequisite),
                _ if at(&action.step) > at(&order.step) => Some(Reason::ActionStep),
                _ => None,
            }
        }
        Call::Skip(number) => {
            let is_open = order.actions[number].state.is_open();
            (!is_open).then_some(Reason::ActionDone)
        }
        Call::UndoSkip(number) => {
            let is_skipped = order.actions[number].state == ActionState::Skipped;
            (!is_skipped).then_some(Reason::ActionNotSkipped)
        }
        Call::Move(_) | Call::Cancel => complete.then_some(Reason::OrderComplete),
    }
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
        ]);
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
                let outcome = apply(&mut after, call).map_err(|error| error.reason());
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
                Call::UndoSkip(which) if which == number => ActionState::Pending,
                _ => then.state,
            };
            assert_eq!(now.state, expected, "{call:?} {before:?}");
        }
        match call {
            Call::Run(_, ActionState::Failed) => {
                assert_eq!((&after.step, after.state), (&before.step, before.state));
            }
            Call::Run(..) | Call::Skip(_) => {
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
    assert!(explored > 100, "{explored}");
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
    order.skip("a3").unwrap();
    assert_eq!(next(&order).as_deref(), Some("a2"));
    order.cancel().unwrap();
    assert_eq!(next(&order), None);
}
