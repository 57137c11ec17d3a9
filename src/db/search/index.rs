//! SQLite's search index, whose format [`migrations::search_index`] describes, and the list of
//! leads whose texts are not in it yet.
//!
//! A change of a text enqueues the lead in `search_pending`, with the text that the index still has
//! and the new one. The change that makes the list longer than [`PENDING`] applies all of them.
//! Each set of the index is a row, and each row takes a page of the log. Changes that are applied
//! together share these pages, so each costs one or two pages instead of twenty. The list is
//! bounded because every search compares the new texts in it. It contains the texts so that a
//! search reads only a few pages for that.
//!
//! It is written by hand because SQLite's FTS5 keeps deleted texts until it merges its segments, or
//! rewrites a large part of itself for each update. Here an erased text is out of the index when its
//! transaction commits.

use std::collections::{BTreeSet, VecDeque};

use migrations::search_index::{
    self, BLOCKS, Blocks, Changes, Sets, Texts, WRITE, block_at, block_of, codes, key, place_of,
    written,
};
use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};

use super::Needles;
use crate::db::Tx;
use crate::error::{Error, Result};

/// The maximum number of pending leads. Among 100,000 leads, a new phone number then costs 1 page
/// of the index; with 64 leads, 4. A search compares 512 texts in about 0.1 ms.
pub const PENDING: i64 = 512;
/// How many trigrams of a query are looked up in the newest segments, and in the others, where the
/// rarest are used. More would seldom leave fewer blocks, and the texts are compared anyway.
const TRIGRAMS: [usize; 2] = [16, 6];
/// The maximum number of segments that one read covers. The first reads are small, because a text
/// that many leads share fills its page from them.
const SEGMENTS: [usize; 3] = [4, 32, 128];

/// `UNIT` separates the texts of a lead, `ROW` separates leads. No stored text contains these
/// characters.
const UNIT: char = '\u{2}';
const ROW: char = '\u{3}';

// The shifts in these statements are the sizes of blocks, segments and codes in `search_index`.

/// Enqueues the leads in the JSON array `?1` of `[seq, text]`, whose texts are about to change, and
/// counts the pending leads.
const ENQUEUE: &str = "INSERT INTO search_pending (seq, indexed, current) \
    SELECT value ->> 0, coalesce((SELECT text FROM lead_search WHERE seq = value ->> 0), ''), value ->> 1 \
    FROM json_each(?1) WHERE TRUE ON CONFLICT (seq) DO UPDATE SET current = excluded.current; \
    SELECT count(*) FROM search_pending";

/// The texts of the leads in every block with a pending lead: the current text and, where it
/// differs, the indexed text.
const PENDING_BLOCKS: &str = "SELECT \
    group_concat(concat_ws(char(2), s.seq, s.text, p.indexed), char(3)) \
    FROM (SELECT DISTINCT seq >> 2 AS number FROM search_pending) AS block \
    CROSS JOIN lead_search AS s ON s.seq BETWEEN block.number << 2 AND (block.number << 2) + 3 \
    LEFT JOIN search_pending AS p ON p.seq = s.seq";

/// Reads the sets with the keys in the JSON array `?1`.
const READ: &str = "SELECT \
    group_concat(i.key || ' ' || length(i.blocks), ' '), CAST(group_concat(i.blocks, '') AS blob) \
    FROM json_each(?1) AS k CROSS JOIN search_index AS i ON i.key = k.value";

/// Removes the sets with the keys in the JSON array `?1`, and empties the list.
const CLEAR: &str = "DELETE FROM search_index WHERE key IN (SELECT value FROM json_each(?1)); \
    DELETE FROM search_pending";

/// What a search needs first, as of one moment: the newest segment with a lead below `?1`; the
/// blocks of the pending leads that contain `?2`; and the sets of the trigrams `?4` in the newest
/// segments, at most `?3`, with the number of these segments. A segment in which every trigram has
/// a bitmap is likely to fill a page, so it is the last one.
const FIND: &str = "WITH RECURSIVE segments(number) AS (\
      SELECT min(max(seq), ?1 - 1) >> 15 FROM lead_search \
      UNION ALL SELECT number - 1 FROM segments WHERE number > 0 AND EXISTS (\
        SELECT 1 FROM json_each(?4) AS t WHERE coalesce((SELECT length(blocks) FROM search_index \
          WHERE key = (segments.number << 24) + t.value), 0) < 1024) \
      LIMIT ?3) \
    SELECT max(segments.number), \
      (SELECT group_concat(seq >> 2, ' ') FROM search_pending WHERE instr(current, ?2) > 0), \
      count(DISTINCT segments.number), \
      group_concat(i.key || ' ' || length(i.blocks), ' '), CAST(group_concat(i.blocks, '') AS blob) \
    FROM segments CROSS JOIN json_each(?4) AS t \
    LEFT JOIN search_index AS i ON i.key = (segments.number << 24) + t.value";

/// Enqueues leads whose texts are about to become these. It must run before the texts are written.
/// Returns the number of pending leads.
pub(super) async fn enqueue(tx: &Tx, texts: &super::Texts) -> Result<i64> {
    let texts: Vec<_> = texts.iter().collect();
    let texts = serde_json::to_string(&texts).map_err(Error::internal)?;
    let row = tx
        .query_one_raw(sqlite_statement(ENQUEUE, [texts.into()]))
        .await?;
    let row = row.ok_or_else(|| Error::internal("a count of pending leads is missing"))?;
    Ok(row.try_get_by_index(0)?)
}

/// Applies the pending changes. Afterwards the index contains the current texts.
pub(super) async fn apply(tx: &Tx) -> Result<()> {
    let row = tx
        .query_one_raw(sqlite_statement(PENDING_BLOCKS, []))
        .await?;
    let text: Option<String> = row
        .map(|row| row.try_get_by_index(0))
        .transpose()?
        .flatten();
    let text = text.unwrap_or_default();
    let leads: Option<Vec<_>> = text.split_terminator(ROW).map(parse_lead).collect();
    let leads = leads.ok_or_else(|| Error::internal("the texts of pending leads are not"))?;
    let mut changes = Changes::default();
    for leads in leads.chunk_by(|(one, _), (other, _)| one == other) {
        let texts: Vec<Texts<'_>> = leads.iter().map(|(_, texts)| *texts).collect();
        if let Some((block, _)) = leads.first() {
            changes.block(*block, &texts);
        }
    }
    let stored = read_sets(&**tx, changes.keys().into_iter().collect()).await?;
    let sets = changes.apply(&stored);
    let (filled, emptied): (Vec<_>, Vec<_>) = sets.iter().partition(|(_, set)| !set.is_empty());
    let (places, bytes) = written(filled);
    tx.execute_raw(sqlite_statement(WRITE, [places.into(), bytes.into()]))
        .await?;
    let emptied = json_array(emptied.into_iter().map(|(key, _)| *key));
    tx.execute_raw(sqlite_statement(CLEAR, [emptied.into()]))
        .await?;
    Ok(())
}

/// Parses the block and the texts of a lead.
fn parse_lead(row: &str) -> Option<(i64, Texts<'_>)> {
    let mut fields = row.split(UNIT);
    let (seq, current) = (fields.next()?.parse().ok()?, fields.next()?);
    let indexed = fields.next().unwrap_or(current);
    Some((block_of(seq), Texts { indexed, current }))
}

async fn read_sets(db: &impl ConnectionTrait, keys: Vec<i64>) -> Result<Sets> {
    let row = db
        .query_one_raw(sqlite_statement(READ, [json_array(keys).into()]))
        .await?;
    let row = row.ok_or_else(|| Error::internal("an aggregate has no row"))?;
    parse_sets(row.try_get_by_index(0)?, row.try_get_by_index(1)?)
}

fn parse_sets(lengths: Option<String>, bytes: Option<Vec<u8>>) -> Result<Sets> {
    search_index::parse(&lengths.unwrap_or_default(), &bytes.unwrap_or_default())
        .ok_or_else(|| Error::internal("the search index holds what is not a set"))
}

fn sqlite_statement(sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)
}

/// A JSON array of numbers.
pub fn json_array(numbers: impl IntoIterator<Item = i64>) -> String {
    let numbers: Vec<String> = numbers
        .into_iter()
        .map(|number| number.to_string())
        .collect();
    format!("[{}]", numbers.join(","))
}

/// The blocks of leads that may contain a text. They are found in steps, newest first.
pub struct Candidates {
    trigrams: Vec<u32>,
    /// The newest segment that was not read yet; negative when all were read.
    segment: i64,
    reads: usize,
    /// The blocks of pending leads in segments that were not read yet.
    pending: BTreeSet<i64>,
    /// The blocks that were found in the segments that were read.
    found: VecDeque<i64>,
    newest: i64,
}

impl Candidates {
    /// Starts a search for `needles` that the index can find, among leads with a `seq` below `before`.
    pub async fn find(
        db: &impl ConnectionTrait,
        needles: &Needles,
        before: Option<i64>,
    ) -> Result<Self> {
        let [max_first, max_later] = TRIGRAMS;
        let trigrams: BTreeSet<u32> = needles.iter().flat_map(codes).collect();
        let mut trigrams: Vec<u32> = trigrams.into_iter().collect();
        trigrams.truncate(max_first);
        let before = before.unwrap_or(i64::MAX);
        let [first_read, ..] = SEGMENTS;
        let values = [
            before.into(),
            needles.longest().into(),
            (first_read as i64).into(),
            json_array(trigrams.iter().map(|trigram| i64::from(*trigram))).into(),
        ];
        let row = db.query_one_raw(sqlite_statement(FIND, values)).await?;
        let row = row.ok_or_else(|| Error::internal("a search returned nothing"))?;
        let segment: Option<i64> = row.try_get_by_index(0)?;
        let pending: Option<String> = row.try_get_by_index(1)?;
        let pending = pending.unwrap_or_default();
        let pending = pending.split_ascii_whitespace();
        let pending = pending.filter_map(|block| block.parse().ok());
        let newest = block_of(before.saturating_sub(1));
        let segments: i64 = row.try_get_by_index(2)?;
        let sets = parse_sets(row.try_get_by_index(3)?, row.try_get_by_index(4)?)?;
        let mut candidates = Self {
            trigrams,
            segment: segment.unwrap_or(-1),
            reads: 1,
            pending: pending.filter(|block| *block <= newest).collect(),
            found: VecDeque::new(),
            newest,
        };
        candidates.add_blocks(&sets, usize::try_from(segments).unwrap_or(0));
        let count = |trigram: &u32| -> usize {
            let of_trigram = sets
                .iter()
                .filter(|(key, _)| search_index::trigram_of(**key) == *trigram);
            of_trigram.map(|(_, blocks)| blocks.count()).sum()
        };
        candidates.trigrams.sort_by_cached_key(count);
        candidates.trigrams.truncate(max_later);
        Ok(candidates)
    }

    /// Whether so many blocks were found that a few of them fill a page of leads.
    pub fn are_many(&self) -> bool {
        self.found.len() >= BLOCKS / 2
    }

    /// The next `count` blocks; fewer only if these are the last ones.
    pub async fn next(&mut self, db: &impl ConnectionTrait, count: usize) -> Result<Vec<i64>> {
        while self.found.len() < count && self.segment >= 0 {
            let size = SEGMENTS.get(self.reads).or(SEGMENTS.last()).copied();
            let size = size.unwrap_or(1);
            self.reads += 1;
            let segments = (0..=self.segment).rev().take(size);
            let keys = segments.flat_map(|segment| {
                let trigrams = self.trigrams.iter();
                trigrams.map(move |trigram| key(segment, *trigram))
            });
            let keys = keys.collect();
            let sets = read_sets(db, keys).await?;
            self.add_blocks(&sets, size);
        }
        let count = count.min(self.found.len());
        Ok(self.found.drain(..count).collect())
    }

    /// Adds the blocks of the next `count` segments, which were read into `sets`: those that have
    /// every trigram, and those of pending leads.
    fn add_blocks(&mut self, sets: &Sets, count: usize) {
        for _ in 0..count.min(usize::try_from(self.segment + 1).unwrap_or(0)) {
            let mut common = Blocks::all();
            for trigram in &self.trigrams {
                match sets.get(&key(self.segment, *trigram)) {
                    Some(blocks) => common.intersect(blocks),
                    None => common = Blocks::default(),
                }
            }
            for block in self.pending.split_off(&block_at(self.segment, 0)) {
                common.set(place_of(block), true);
            }
            let places: Vec<usize> = common.places().collect();
            let blocks = places.into_iter().rev();
            let blocks = blocks.map(|place| block_at(self.segment, place));
            let newest = self.newest;
            self.found.extend(blocks.filter(|block| *block <= newest));
            self.segment -= 1;
        }
    }
}
