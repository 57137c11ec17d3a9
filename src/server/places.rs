//! How many may be here at once, in all and of each: what strangers can take up must be little, and from
//! one address less; and no caller may take up all that there is.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

/// Places of one kind, for callers told apart by `K`.
pub struct Places<K> {
    all: usize,
    each: usize,
    taken: Mutex<Taken<K>>,
}

struct Taken<K> {
    all: usize,
    each: HashMap<K, usize>,
}

/// A place, free again when dropped.
pub struct Place<K: Eq + Hash> {
    places: Arc<Places<K>>,
    of: K,
}

impl<K: Eq + Hash + Copy> Places<K> {
    pub fn new(all: usize, each: usize) -> Arc<Self> {
        Arc::new(Self {
            all,
            each,
            taken: Mutex::new(Taken {
                all: 0,
                each: HashMap::new(),
            }),
        })
    }

    /// A place, if there is one.
    pub fn take(self: &Arc<Self>, of: K) -> Option<Place<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(|held| held.into_inner());
        // Looked at before it is noted: who is turned away must leave nothing behind.
        let there = taken.each.get(&of).copied().unwrap_or(0);
        if taken.all >= self.all || there >= self.each {
            return None;
        }
        taken.all += 1;
        taken.each.insert(of, there + 1);
        Some(Place {
            places: Arc::clone(self),
            of,
        })
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        let taken = self.taken.lock().unwrap_or_else(|held| held.into_inner());
        taken.all
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self
            .places
            .taken
            .lock()
            .unwrap_or_else(|held| held.into_inner());
        taken.all -= 1;
        if let Some(each) = taken.each.get_mut(&self.of) {
            *each -= 1;
            if *each == 0 {
                taken.each.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Places;
    use crate::auth::peer::network;

    #[test]
    fn each_address_has_its_share_and_who_is_turned_away_leaves_nothing_behind() {
        let places = Places::new(3, 2);
        let take = |address: &str| places.take(network(address.parse().unwrap()));
        let held = [take("2001:db8::1"), take("2001:db8::2")];
        assert!(held.iter().all(Option::is_some));
        // The same customer's third, and another's.
        assert!(take("2001:db8::3").is_none());
        let other = take("::ffff:192.0.2.1");
        assert!(other.is_some());
        assert!(take("192.0.2.2").is_none(), "all are taken");
        assert_eq!(places.taken.lock().unwrap().each.len(), 2);
        drop((held, other));
        assert_eq!(places.taken(), 0);
        assert!(places.taken.lock().unwrap().each.is_empty());
    }
}
