//! Whether a stream is what it should be. Pure: this module knows neither servers nor databases.
//!
//! A stream is what one reader has received, across all its resumes. If the reader resumes from an older token, what it
//! had received after that token is put aside: it must come again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

/// A record and a version of it.
pub type Version = (Uuid, i64);

/// A change as the history has it, or as an event says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub record: Uuid,
    pub version: i64,
    /// The lead that the record belongs to; for other kinds, the record itself.
    pub root: Uuid,
    /// The kind of the record, as the history has it.
    pub subject: String,
    pub rpc: String,
    pub request_id: Uuid,
    /// The id of the principal.
    pub actor: Uuid,
    /// The new phone of a lead. None if it did not change, or is not known.
    pub phone: Option<String>,
}

/// An event as received.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its own id. A change that is made again, because a failover lost it, has another one.
    pub id: Uuid,
    pub change: Change,
    /// A hash of the record before. None without values.
    pub before: Option<u64>,
    /// The same after.
    pub after: Option<u64>,
}

/// A message as received.
#[derive(Clone, Debug)]
pub enum Item {
    Event(Box<Event>),
    Checkpoint,
}

/// What the stream should have received.
#[derive(Debug, Default)]
pub struct Expected {
    /// The changes that match its filters, for each record in the order of the versions.
    pub changes: BTreeMap<Uuid, Vec<Change>>,
    /// Those whose events are still stored. Only these must come after retention has deleted events of the stream.
    pub stored: BTreeSet<Version>,
}

impl Expected {
    fn all(&self) -> impl Iterator<Item = Version> {
        let all = self.changes.values().flatten();
        all.map(|change| (change.record, change.version))
    }
}

/// What a reader has received.
#[derive(Debug, Default)]
pub struct Stream {
    items: Vec<Item>,
    /// Where the reader has resumed, as the number of messages before.
    resumes: Vec<usize>,
    /// What was put aside.
    aside: Vec<Vec<Item>>,
    /// The number of messages before each loss: from there, the stream begins with what was still stored.
    losses: Vec<usize>,
}

impl Stream {
    pub fn push(&mut self, item: Item) {
        self.items.push(item);
    }

    /// How many messages it has.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn last(&self) -> Option<&Item> {
        self.items.last()
    }

    /// The reader resumes after the first `count` messages.
    pub fn resume_after(&mut self, count: usize) {
        let aside = self.items.split_off(count.min(self.items.len()));
        if !aside.is_empty() {
            self.aside.push(aside);
        }
        self.resumes.retain(|resumed| *resumed <= count);
        self.resumes.push(count);
    }

    /// The reader begins with what is still stored.
    pub fn lose(&mut self) {
        self.losses.push(self.items.len());
    }

    /// The number of events, with those that were put aside.
    pub fn events(&self) -> usize {
        let aside = self.aside.iter().flatten();
        let all = self.items.iter().chain(aside);
        all.filter(|item| matches!(item, Item::Event(_))).count()
    }

    /// The first version of each record that came.
    pub fn first_versions(&self) -> HashMap<Uuid, i64> {
        let mut first = HashMap::new();
        for item in &self.items {
            if let Item::Event(event) = item {
                let version = event.change.version;
                first.entry(event.change.record).or_insert(version);
            }
        }
        first
    }

    /// The hash of the last known version of each record.
    pub fn newest(&self) -> HashMap<Uuid, (i64, Option<u64>)> {
        let mut newest = HashMap::new();
        for item in &self.items {
            if let Item::Event(event) = item {
                let state = (event.change.version, event.after);
                newest.insert(event.change.record, state);
            }
        }
        newest
    }

    /// The first violation.
    pub fn violation(&self, expected: &Expected) -> Option<String> {
        for items in &self.aside {
            if let Err(why) = Walk::over(items, expected, false) {
                return Some(why);
            }
        }
        let mut begin = 0;
        for (number, end) in self.losses.iter().enumerate() {
            // What was not deleted yet need not have come.
            if let Err(why) = Walk::over(&self.items[begin..*end], expected, number == 0) {
                return Some(self.explained(why, begin));
            }
            begin = *end;
        }
        let is_lossy = !self.losses.is_empty();
        match Walk::over(&self.items[begin..], expected, !is_lossy) {
            Err(why) => Some(self.explained(why, begin)),
            Ok(walk) => walk.missing(is_lossy.then_some(&expected.stored)),
        }
    }

    /// Names the kind of the resume at which a gap is, so that the cause can be found.
    fn explained(&self, why: String, begin: usize) -> String {
        let Some(gap) = why.strip_prefix(GAP) else {
            return why;
        };
        let Some((place, rest)) = gap.split_once(' ') else {
            return why;
        };
        let place: usize = place.parse().unwrap_or(0) + begin;
        let resumes = self.resumes.iter().rev();
        let resumed = resumes.copied().find(|resumed| *resumed <= place);
        let last = resumed.and_then(|resumed| self.items.get(resumed.checked_sub(1)?));
        let how = match last {
            Some(Item::Checkpoint) => ", after a resume from a checkpoint",
            Some(Item::Event(_)) => ", after a resume from an event",
            None => "",
        };
        format!("{GAP}{place} {rest}{how}")
    }
}

/// How the text of a gap begins; the number of the message follows.
const GAP: &str = "gap at message ";

/// What came of a record so far.
struct Progress {
    /// The index of the first change that came, and the one of the next.
    first: usize,
    next: usize,
    /// The record after the last one.
    after: Option<u64>,
    /// The ids of the events that came.
    ids: HashMap<usize, Uuid>,
}

/// A walk over the messages of a stream, or of a part of it.
struct Walk<'a> {
    expected: &'a Expected,
    progress: HashMap<Uuid, Progress>,
}

impl<'a> Walk<'a> {
    /// `from_first` says that every record begins with its first change.
    fn over(items: &[Item], expected: &'a Expected, from_first: bool) -> Result<Self, String> {
        let mut walk = Self {
            expected,
            progress: HashMap::new(),
        };
        for (place, item) in items.iter().enumerate() {
            let Item::Event(event) = item else { continue };
            let gap = |missing: i64| {
                let Change {
                    record, version, ..
                } = event.change;
                let comes_later = items[place..].iter().any(|item| match item {
                    Item::Event(later) => {
                        (later.change.record, later.change.version) == (record, missing)
                    }
                    Item::Checkpoint => false,
                });
                match comes_later {
                    true => {
                        format!("wrong order: version {version} of {record} before {missing}")
                    }
                    false => {
                        format!("{GAP}{place} before version {version} of {record}: {missing}")
                    }
                }
            };
            walk.step(event, from_first, gap)?;
        }
        Ok(walk)
    }

    fn step(
        &mut self,
        event: &Event,
        from_first: bool,
        gap: impl Fn(i64) -> String,
    ) -> Result<(), String> {
        let Change {
            record, version, ..
        } = event.change;
        let name = format!("version {version} of {record}");
        let wanted = self.expected.changes.get(&record);
        let wanted = wanted.ok_or_else(|| format!("{name} does not match the filters"))?;
        let found = wanted.binary_search_by_key(&version, |change| change.version);
        let index = found.map_err(|_| format!("{name} is not in the history"))?;
        check_content(&event.change, &wanted[index])?;
        match self.progress.get(&record) {
            Some(seen) if index < seen.first => return Err(format!("wrong order: {name} late")),
            Some(seen) if index < seen.next => {
                let (id, first) = (event.id, seen.ids.get(&index));
                let first = first.map_or_else(|| "unknown".to_owned(), Uuid::to_string);
                return Err(format!("{name} came twice, as the events {first} and {id}"));
            }
            Some(seen) if index > seen.next => return Err(gap(wanted[seen.next].version)),
            Some(seen) if seen.after.is_some() && event.before.is_some() => {
                let is_next = wanted[index - 1].version == version - 1;
                if is_next && seen.after != event.before {
                    return Err(format!(
                        "before {name} is another record than after the last"
                    ));
                }
            }
            None if from_first && index > 0 => return Err(gap(wanted[0].version)),
            Some(_) | None => {}
        }
        let root = event.change.root;
        let is_root_wanted = root != record && self.expected.changes.contains_key(&root);
        if from_first && is_root_wanted && !self.progress.contains_key(&root) {
            return Err(format!("wrong order: {name} before its lead {root}"));
        }
        let seen = self.progress.entry(record).or_insert(Progress {
            first: index,
            next: index,
            after: None,
            ids: HashMap::new(),
        });
        seen.ids.insert(index, event.id);
        seen.next = index + 1;
        seen.after = event.after;
        Ok(())
    }

    /// What has not come. After a loss, only what is still stored must have come of a record without any event.
    fn missing(&self, stored: Option<&BTreeSet<Version>>) -> Option<String> {
        for (record, version) in self.expected.all() {
            let wanted = &self.expected.changes[&record];
            let is_missing = match self.progress.get(&record) {
                Some(seen) => wanted[seen.next..]
                    .iter()
                    .any(|change| change.version == version),
                None => stored.is_none_or(|stored| stored.contains(&(record, version))),
            };
            let is_before = self.progress.get(&record).is_some_and(|seen| {
                let before = &wanted[..seen.first];
                let is_stored = stored.is_some_and(|stored| stored.contains(&(record, version)));
                is_stored && before.iter().any(|change| change.version == version)
            });
            if is_missing || is_before {
                let rpc = wanted.iter().find(|change| change.version == version);
                let rpc = rpc.map_or("", |change| change.rpc.as_str());
                return Some(format!("version {version} of {record} ({rpc}) never came"));
            }
        }
        None
    }
}

/// An event must say what the history says.
fn check_content(said: &Change, recorded: &Change) -> Result<(), String> {
    let (record, version) = (said.record, said.version);
    let is_phone_known = said.phone.is_some() && recorded.phone.is_some();
    let comparable = |change: &Change| Change {
        phone: change.phone.clone().filter(|_| is_phone_known),
        ..change.clone()
    };
    match comparable(said) == comparable(recorded) {
        true => Ok(()),
        false => Err(format!(
            "version {version} of {record} is {said:?} as an event, and {recorded:?} in the history"
        )),
    }
}

#[cfg(test)]
mod tests;
