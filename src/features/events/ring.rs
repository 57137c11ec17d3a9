//! The recent events that all streams of a server share, in memory. Pure.
//!
//! Each event has a number that counts up. A stream remembers the number of its next event. The oldest events are dropped
//! when their number or their size reaches a limit.

use std::collections::VecDeque;
use std::sync::Arc;

use super::model::{Facts, Filter};
use crate::db::event_log::position::{EventRef, Position};

/// The maximum number of events.
const MAX_EVENTS: usize = 20_000;

/// An event that is ready to be sent.
#[derive(Debug)]
pub struct Item<M> {
    /// Its place in the log.
    pub place: EventRef,
    /// The position after it.
    pub position: Position,
    /// The resume token after it, for streams that follow the ring alone. Empty without a message.
    pub token: String,
    /// What filters look at. None for an event that no stream gets.
    pub facts: Option<Facts>,
    /// What is sent. None for an event that no stream wanted when it was read.
    pub message: Option<Arc<M>>,
    /// About how many bytes it occupies.
    pub size: usize,
}

/// The recent events.
#[derive(Debug)]
pub struct Ring<M> {
    /// The position before the first event.
    start: Position,
    /// The position after the last one.
    end: Position,
    /// The number of the first event.
    first: u64,
    items: VecDeque<Arc<Item<M>>>,
    size: usize,
    max_size: usize,
}

/// What a stream finds at its place.
#[derive(Debug)]
pub enum Next<M> {
    /// An event that it wants. The stream is behind it now.
    Item(Arc<Item<M>>),
    /// An event that it wants and that no stream wanted when it was read. The stream has to read it in the log.
    LeftOut,
    /// No event that it wants, up to the last one. The stream is behind the last one, at this position.
    End(Position),
    /// Events that it has not seen were dropped.
    Dropped,
}

impl<M> Ring<M> {
    /// A ring that begins at a position.
    pub fn new(start: Position, max_size: usize) -> Self {
        Self {
            end: start.clone(),
            start,
            first: 0,
            items: VecDeque::new(),
            size: 0,
            max_size,
        }
    }

    /// Adds the events of a page, after which the log was read up to `end`. They are kept whatever their size, so that a
    /// stream that has seen all before them does not fall behind by one large page.
    pub fn push(&mut self, items: Vec<Item<M>>, end: Position) {
        let page = items.len().max(1);
        for item in items {
            self.size += item.size;
            self.items.push_back(Arc::new(item));
        }
        self.end = end;
        while self.items.len() > page
            && (self.items.len() > MAX_EVENTS || self.size > self.max_size)
        {
            let Some(dropped) = self.items.pop_front() else {
                break;
            };
            self.size -= dropped.size;
            self.start = dropped.position.clone();
            self.first += 1;
        }
    }

    /// Where a stream that has read up to `position` can continue without missing anything: the number of its next event.
    /// None if it has to read more of the log first. Events that it has read may follow.
    pub fn place_after(&self, position: &Position) -> Option<u64> {
        if position.window.is_some() {
            return None;
        }
        let is_before =
            |place: &Position| place.window.is_none() && position.read.includes(&place.read);
        let next = self.first + self.items.len() as u64;
        if is_before(&self.end) {
            return Some(next);
        }
        let items = self.items.iter().enumerate().rev();
        let mut found = items.filter(|(_, item)| is_before(&item.position));
        match found.next() {
            Some((index, _)) => Some(self.first + index as u64 + 1),
            None => is_before(&self.start).then_some(self.first),
        }
    }

    /// The first event from the number `next` on that `filter` wants and that is not in `read`. `next` becomes the number
    /// of the event after it.
    pub fn next(&self, next: &mut u64, filter: &Filter, read: Option<&Position>) -> Next<M> {
        let Some(offset) = next.checked_sub(self.first) else {
            return Next::Dropped;
        };
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        for item in self.items.range(offset.min(self.items.len())..) {
            *next += 1;
            let is_read = |read: &Position| read.has(item.place.transaction, item.place.seq);
            let is_wanted = item
                .facts
                .as_ref()
                .is_some_and(|facts| filter.matches(facts));
            if is_wanted && !read.is_some_and(is_read) {
                if item.message.is_none() {
                    return Next::LeftOut;
                }
                return Next::Item(Arc::clone(item));
            }
        }
        Next::End(self.end.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;
    use crate::db::event_log::position::{Cover, Deleted};
    use crate::features::events::model::Subject;

    /// The items of a window, and the position after it.
    fn window(
        start: &Position,
        events: &[(i64, i64)],
        snapshot: &Cover,
    ) -> (Vec<Item<i64>>, Position) {
        let places: Vec<_> = events
            .iter()
            .map(|(transaction, seq)| EventRef {
                transaction: *transaction,
                seq: *seq,
                id: Uuid::nil(),
            })
            .collect();
        let end = Arc::new(snapshot.clone());
        let (positions, end) = start.advance(&places, &end, Deleted::default(), true);
        let items = places
            .into_iter()
            .zip(positions)
            .map(|(place, position)| Item {
                place,
                position,
                token: String::new(),
                facts: Some(Facts {
                    r#type: "lead.updated".to_owned(),
                    subject: Subject::Lead,
                    root_id: Uuid::nil(),
                    time: DateTime::UNIX_EPOCH,
                }),
                message: Some(Arc::new(place.seq)),
                size: 10,
            });
        (items.collect(), end)
    }

    fn rest(ring: &Ring<i64>, mut next: u64, read: &Position) -> Vec<i64> {
        let mut found = Vec::new();
        loop {
            let event = ring.next(&mut next, &Filter::default(), Some(read));
            assert!(!matches!(event, Next::Dropped));
            match event {
                Next::Item(item) => found.push(item.place.seq),
                Next::End(_) | Next::LeftOut | Next::Dropped => return found,
            }
        }
    }

    #[test]
    fn a_stream_joins_where_it_misses_nothing_and_gets_nothing_twice() {
        let unfinished = |bound, ids: &[i64]| Cover {
            bound,
            unfinished: ids.iter().copied().collect::<BTreeSet<_>>(),
        };
        let start = Position::default();
        let mut ring = Ring::new(start.clone(), 1_000);
        // Transaction 2 has the lowest number and commits after the others.
        let (items, end) = window(&start, &[(1, 1), (3, 3)], &unfinished(5, &[2, 4]));
        ring.push(items, end.clone());
        let (items, last) = window(&end, &[(2, 2), (4, 4)], &unfinished(6, &[5]));
        ring.push(items, last.clone());
        assert_eq!(
            rest(&ring, ring.place_after(&start).unwrap(), &start),
            [1, 3, 2, 4]
        );
        assert_eq!(rest(&ring, ring.place_after(&end).unwrap(), &end), [2, 4]);
        assert!(rest(&ring, ring.place_after(&last).unwrap(), &last).is_empty());
        // Another stream read 1, 2 and 3 in one window.
        let (_, other) = window(&start, &[(1, 1), (2, 2), (3, 3)], &unfinished(5, &[4]));
        assert_eq!(rest(&ring, ring.place_after(&other).unwrap(), &other), [4]);
    }

    #[test]
    fn a_stream_that_is_behind_the_first_event_is_told() {
        let start = Position::default();
        let mut ring = Ring::new(start.clone(), 35);
        let mut end = start.clone();
        for number in 1..=5 {
            let (items, next) = window(&end, &[(number, number)], &Cover::below(number + 1));
            ring.push(items, next.clone());
            end = next;
        }
        assert!(matches!(
            ring.next(&mut 1, &Filter::default(), None),
            Next::Dropped
        ));
        assert_eq!(rest(&ring, 2, &start), [3, 4, 5]);
        assert_eq!(
            ring.place_after(&start),
            None,
            "it has to read 1 and 2 first"
        );
    }

    #[test]
    fn an_event_without_a_message_is_for_those_who_do_not_want_it() {
        let start = Position::default();
        let mut ring = Ring::new(start.clone(), 1_000);
        let (mut items, end) = window(&start, &[(1, 1), (2, 2), (3, 3)], &Cover::below(4));
        items[1].message = None;
        ring.push(items, end);
        let mut next = 0;
        let all = Filter::default();
        let first = ring.next(&mut next, &all, None);
        assert!(matches!(first, Next::Item(item) if item.place.seq == 1));
        assert!(matches!(ring.next(&mut next, &all, None), Next::LeftOut));
        let other = Filter {
            types: BTreeSet::from(["lead.created".to_owned()]),
            ..Filter::default()
        };
        assert!(matches!(ring.next(&mut 0, &other, None), Next::End(_)));
    }

    #[test]
    fn a_page_that_is_larger_than_the_ring_is_kept_until_the_next_one() {
        let start = Position::default();
        let mut ring = Ring::new(start.clone(), 25);
        let pages = [[(1, 1), (2, 2), (3, 3)], [(4, 4), (5, 5), (6, 6)]];
        let (items, end) = window(&start, &pages[0], &Cover::below(4));
        ring.push(items, end.clone());
        assert_eq!(rest(&ring, 0, &start), [1, 2, 3]);
        let (items, _) = window(&end, &pages[1], &Cover::below(7));
        ring.push(items, end);
        assert_eq!(rest(&ring, 3, &start), [4, 5, 6]);
        let event = ring.next(&mut 2, &Filter::default(), None);
        assert!(matches!(event, Next::Dropped));
    }
}
