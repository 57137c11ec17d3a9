//! Streams made by hand, each with one fault.

use super::*;

const LEAD: Uuid = Uuid::from_u128(1);
const SALE: Uuid = Uuid::from_u128(2);

fn change(record: Uuid, version: i64) -> Change {
    Change {
        record,
        version,
        root: LEAD,
        subject: "LEAD".to_owned(),
        rpc: "Update".to_owned(),
        request_id: Uuid::nil(),
        actor: Uuid::nil(),
        phone: Some(version.to_string()),
    }
}

/// The record of each version is known by the number of the version.
fn event(record: Uuid, version: i64) -> Item {
    let number = version.unsigned_abs();
    Item::Event(Box::new(Event {
        id: Uuid::nil(),
        change: change(record, version),
        before: (version > 1).then_some(number - 1),
        after: Some(number),
    }))
}

fn expected(leads: i64, sales: i64) -> Expected {
    let of = |record, until: i64| (1..=until).map(|version| change(record, version)).collect();
    Expected {
        changes: BTreeMap::from([(LEAD, of(LEAD, leads)), (SALE, of(SALE, sales))]),
        stored: BTreeSet::new(),
    }
}

fn stream(items: Vec<Item>) -> Stream {
    Stream {
        items,
        ..Stream::default()
    }
}

fn violation(items: Vec<Item>) -> String {
    let found = stream(items).violation(&expected(3, 1));
    found.unwrap_or_default()
}

#[test]
fn a_stream_with_everything_once_and_in_order_is_right() {
    let items = || {
        vec![
            event(LEAD, 1),
            Item::Checkpoint,
            event(SALE, 1),
            event(LEAD, 2),
        ]
    };
    let mut resumed = stream([items(), vec![event(LEAD, 3)]].concat());
    assert_eq!(resumed.violation(&expected(3, 1)), None);
    // What came after an older token comes again, in another order of the records.
    resumed.resume_after(1);
    for item in [event(LEAD, 2), event(SALE, 1), event(LEAD, 3)] {
        resumed.push(item);
    }
    assert_eq!(resumed.violation(&expected(3, 1)), None);
    assert_eq!(resumed.events(), 7);
    assert_eq!(resumed.newest()[&LEAD], (3, Some(3)));
}

#[test]
fn a_gap_is_found_in_the_middle_and_at_the_end() {
    let gap = violation(vec![event(LEAD, 1), event(SALE, 1), event(LEAD, 3)]);
    assert!(
        gap.starts_with("gap at message 2 before version 3"),
        "{gap}"
    );
    let gap = violation(vec![event(LEAD, 1), event(LEAD, 2), event(LEAD, 3)]);
    assert!(
        gap.ends_with("never came") && gap.contains(&SALE.to_string()),
        "{gap}"
    );
    let gap = violation(vec![event(LEAD, 1), event(SALE, 1), event(LEAD, 2)]);
    assert!(
        gap.starts_with("version 3") && gap.ends_with("never came"),
        "{gap}"
    );
    let gap = violation(vec![event(LEAD, 2), event(LEAD, 3), event(SALE, 1)]);
    assert!(
        gap.starts_with("gap at message 0 before version 2"),
        "{gap}"
    );
}

#[test]
fn an_event_that_comes_twice_is_found() {
    let twice = violation(vec![event(LEAD, 1), event(LEAD, 2), event(LEAD, 2)]);
    assert!(
        twice.starts_with(&format!("version 2 of {LEAD} came twice, as the events")),
        "{twice}"
    );
    // Also over a resume.
    let mut resumed = stream(vec![event(LEAD, 1), event(LEAD, 2)]);
    resumed.resume_after(2);
    resumed.push(event(LEAD, 2));
    let twice = resumed.violation(&expected(3, 1)).unwrap_or_default();
    assert!(twice.contains("came twice, as the events"), "{twice}");
}

#[test]
fn a_wrong_order_is_found_also_in_what_was_put_aside() {
    let wrong = vec![
        event(LEAD, 1),
        event(LEAD, 3),
        event(LEAD, 2),
        event(SALE, 1),
    ];
    assert!(violation(wrong.clone()).starts_with("wrong order: version 3"));
    let before_lead = violation(vec![event(SALE, 1), event(LEAD, 1)]);
    assert!(before_lead.starts_with("wrong order"), "{before_lead}");
    let mut resumed = stream(wrong);
    resumed.resume_after(1);
    for item in [event(LEAD, 2), event(LEAD, 3), event(SALE, 1)] {
        resumed.push(item);
    }
    let wrong = resumed.violation(&expected(3, 1)).unwrap_or_default();
    assert!(wrong.starts_with("wrong order"), "{wrong}");
}

#[test]
fn a_checkpoint_that_is_ahead_of_what_was_delivered_is_found() {
    let mut ahead = stream(vec![event(LEAD, 1), event(SALE, 1), Item::Checkpoint]);
    ahead.resume_after(3);
    ahead.push(event(LEAD, 3));
    let found = ahead.violation(&expected(3, 1)).unwrap_or_default();
    assert!(
        found.ends_with("after a resume from a checkpoint"),
        "{found}"
    );
}

#[test]
fn records_that_do_not_chain_are_found() {
    let mut items = vec![
        event(LEAD, 1),
        event(LEAD, 2),
        event(LEAD, 3),
        event(SALE, 1),
    ];
    if let Item::Event(event) = &mut items[1] {
        event.after = Some(7);
    }
    let found = violation(items);
    assert!(found.starts_with("before version 3"), "{found}");
}

#[test]
fn an_event_that_says_something_else_than_the_history_is_found() {
    let mut items = vec![
        event(LEAD, 1),
        event(LEAD, 2),
        event(LEAD, 3),
        event(SALE, 1),
    ];
    if let Item::Event(event) = &mut items[1] {
        event.change.phone = Some("another".to_owned());
    }
    assert!(violation(items).contains("in the history"));
    assert!(violation(vec![event(LEAD, 4)]).ends_with("is not in the history"));
    let other = violation(vec![event(Uuid::nil(), 1)]);
    assert!(other.ends_with("does not match the filters"), "{other}");
}

#[test]
fn after_a_loss_everything_comes_that_is_still_stored() {
    let stored = |versions: &[Version]| Expected {
        stored: versions.iter().copied().collect(),
        ..expected(3, 1)
    };
    let mut lossy = stream(vec![event(LEAD, 1)]);
    lossy.lose();
    lossy.push(event(LEAD, 3));
    assert_eq!(lossy.violation(&stored(&[(LEAD, 3)])), None);
    for more in [(SALE, 1), (LEAD, 2)] {
        let found = lossy.violation(&stored(&[(LEAD, 3), more]));
        assert!(found.unwrap_or_default().ends_with("never came"));
    }
    lossy.push(event(LEAD, 2));
    let found = lossy.violation(&stored(&[(LEAD, 3)])).unwrap_or_default();
    assert!(found.starts_with("wrong order"), "{found}");
}
