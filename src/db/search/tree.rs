//! SQLite's search index: the tree of sets that [`migrations::search_index`] describes, read and written.

use std::collections::VecDeque;

use migrations::search_index::{
    self, Changes, Members, Node, READ, REMOVE, Sets, WRITE, keys_parameter, sets_parameter,
};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::Texts;
use crate::db::Tx;
use crate::error::{Error, Result};

/// How many trigrams of a query are looked up: the rarest. More would seldom leave fewer leads, and the text
/// is compared anyway.
const TRIGRAMS: usize = 4;
/// How many trigrams of a query are considered for that.
const CONSIDERED: usize = 32;
/// How many leaves are read at once: few at first, because a text that many leads share fills its page from
/// these.
const LEAVES: [usize; 4] = [16, 64, 256, 1_024];

/// The texts of leads that are indexed now.
pub(super) async fn texts(tx: &Tx, seqs: Vec<i64>) -> Result<Texts> {
    let sql = "SELECT seq, text FROM lead_search WHERE seq IN (SELECT value FROM json_each(?))";
    let parameter = keys_parameter(seqs);
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, [parameter.into()]);
    let mut texts = Texts::new();
    for row in tx.query_all_raw(statement).await? {
        texts.insert(row.try_get_by_index(0)?, row.try_get_by_index(1)?);
    }
    Ok(texts)
}

/// Writes the sets that change, level by level.
pub(super) async fn update(tx: &Tx, mut changes: Changes) -> Result<()> {
    let mut written = Sets::new();
    while !changes.is_empty() {
        let stored = read(&**tx, changes.keys().collect()).await?;
        let (sets, above) = changes.apply(&stored);
        written.extend(sets);
        changes = above;
    }
    if written.is_empty() {
        return Ok(());
    }
    let emptied = written.iter().filter(|(_, members)| members.is_empty());
    let emptied = keys_parameter(emptied.map(|(key, _)| *key));
    let filled = written.iter().filter(|(_, members)| !members.is_empty());
    let parameters = [sets_parameter(filled).into(), emptied.into()];
    // In one text: a trip to the thread that has the connection costs as much as a small statement.
    let sql = format!("{WRITE}; {REMOVE}");
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, parameters);
    tx.execute_raw(statement).await?;
    Ok(())
}

async fn read(db: &impl ConnectionTrait, keys: Vec<i64>) -> Result<Sets> {
    let statement =
        Statement::from_sql_and_values(DbBackend::Sqlite, READ, [keys_parameter(keys).into()]);
    sets(db, statement).await
}

/// The sets that a statement returns as one text.
async fn sets(db: &impl ConnectionTrait, statement: Statement) -> Result<Sets> {
    let row = db.query_one_raw(statement).await?;
    let text: Option<String> = match row {
        Some(row) => row.try_get_by_index(0)?,
        None => None,
    };
    search_index::parse(&text.unwrap_or_default())
        .ok_or_else(|| Error::internal("the search index holds what is not a set"))
}

/// The branches' sets of the trigrams in the JSON array `?1`: of every branch down to the lowest key.
const BRANCHES: &str = "WITH RECURSIVE branches(first) AS (\
      SELECT -16777216 UNION ALL SELECT first - 16777216 FROM branches \
      WHERE first > (SELECT min(key) FROM search_index)) \
    SELECT group_concat(i.key || ' ' || hex(i.members), ' ') FROM branches \
    CROSS JOIN json_each(?1) AS t CROSS JOIN search_index AS i ON i.key = branches.first + t.value";

/// The leads that may contain a text, found a part at a time, newest first.
pub struct Candidates {
    trigrams: Vec<u32>,
    /// The leaves in which every trigram occurs and that were not read yet, newest first.
    leaves: VecDeque<Node>,
    /// What was found in those that were read.
    found: VecDeque<i64>,
    before: i64,
    reads: usize,
}

impl Candidates {
    /// Those for a folded `query` that the index can answer, with a `seq` below `before`.
    pub async fn find(db: &impl ConnectionTrait, query: &str, before: Option<i64>) -> Result<Self> {
        let trigrams = search_index::trigrams(query);
        let trigrams: Vec<u32> = trigrams.into_iter().take(CONSIDERED).collect();
        let parameter = keys_parameter(trigrams.iter().map(|trigram| i64::from(*trigram)));
        let statement =
            Statement::from_sql_and_values(DbBackend::Sqlite, BRANCHES, [parameter.into()]);
        let sets = sets(db, statement).await?;
        let before = before.unwrap_or(i64::MAX);
        let (newest, _) = Node::of_lead(before);
        let leaves = common(&sets, &trigrams)
            .map(|(_, number)| Node::Leaf(number))
            .filter(|leaf| *leaf <= newest)
            .collect();
        Ok(Self {
            trigrams: rarest(&sets, trigrams),
            leaves,
            found: VecDeque::new(),
            before,
            reads: 0,
        })
    }

    /// The next `count` of them; fewer only when these are the last.
    pub async fn next(&mut self, db: &impl ConnectionTrait, count: usize) -> Result<Vec<i64>> {
        while self.found.len() < count && !self.leaves.is_empty() {
            let size = LEAVES.get(self.reads).or(LEAVES.last()).copied();
            self.reads += 1;
            let size = size.unwrap_or(1).min(self.leaves.len());
            let mut keys = Vec::new();
            for leaf in self.leaves.drain(..size) {
                keys.extend(self.trigrams.iter().map(|trigram| leaf.key(*trigram)));
            }
            let sets = read(db, keys).await?;
            let leads = common(&sets, &self.trigrams).map(|(_, seq)| seq);
            self.found.extend(leads.filter(|seq| *seq < self.before));
        }
        let count = count.min(self.found.len());
        Ok(self.found.drain(..count).collect())
    }
}

/// What all of these trigrams' sets have in common, node by node, from the largest number to the smallest.
fn common<'a>(sets: &'a Sets, trigrams: &'a [u32]) -> impl Iterator<Item = (Node, i64)> + 'a {
    let mut nodes: Vec<Node> = sets.keys().map(|key| Node::of_key(*key).0).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes.into_iter().rev().flat_map(move |node| {
        let mut all = Members::all();
        for trigram in trigrams {
            match sets.get(&node.key(*trigram)) {
                Some(members) => all.intersect(members),
                None => all = Members::default(),
            }
        }
        let members: Vec<usize> = all.descending().collect();
        members
            .into_iter()
            .map(move |place| (node, node.member(place)))
    })
}

/// The trigrams that occur in the fewest leaves.
fn rarest(branches: &Sets, mut trigrams: Vec<u32>) -> Vec<u32> {
    let leaves = |trigram: &u32| -> usize {
        let of_it = branches
            .iter()
            .filter(|(key, _)| Node::of_key(**key).1 == *trigram);
        of_it.map(|(_, members)| members.count()).sum()
    };
    trigrams.sort_by_cached_key(leaves);
    trigrams.truncate(TRIGRAMS);
    trigrams
}
