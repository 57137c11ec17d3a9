//! Search for a text that ten leads have, that one in a thousand has, and that all have. It is compared with the
//! best time of the database alone, with its own indexes in a separate table (`crate::limits`). A statement counts
//! only if it finds as many leads as the service.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use leadsmith_proto as proto;
use tonic::{Request, Response, Status};

use super::all_columns;
use crate::data::{code, fold, lead_id, person, trigrams};
use crate::echo::Replies;
use crate::limits::pgbench::Script;
use crate::limits::sqlite::Queries;
use crate::limits::{Limit, Tables};
use crate::load::{Caller, Workload};
use crate::row::Row;
use crate::samples::Samples;
use crate::setting::Setting;
use crate::storage::{Database, Storage};
use crate::testbed::{Access, Testbed, Workloads};

/// How many leads a page has, and how many are read to learn whether there is a next one.
const PAGE: usize = 50;
const LIMIT: usize = 51;
/// The bar, in terms of the database's time: 1.3 × and 1 ms.
const SHARE: f64 = 1.3;
const MORE: f64 = 1_000.0;

/// Search for one of several texts.
pub struct Search(Vec<Needle>);

/// A text, and the leads on the first page of its results.
struct Needle {
    /// As it is stored.
    query: String,
    /// As the caller writes it.
    typed: String,
    ids: Vec<String>,
}

impl Search {
    /// For texts that ten leads have, which are known.
    pub async fn selective(caller: &mut Caller, leads: u64) -> Result<Self> {
        let numbers: Vec<u64> = (1..=16).map(|index| index * (leads / 17)).collect();
        let codes = numbers.iter().map(|number| code(*number, leads));
        let search = Self::new(caller, codes.collect()).await?;
        for (number, needle) in numbers.iter().zip(&search.0) {
            let (group, step) = (number % (leads / 10), leads / 10);
            let mut ids: Vec<String> = (0..=10)
                .map(|index| group + index * step)
                .filter(|number| (1..=leads).contains(number))
                .map(|number| lead_id(number).to_string())
                .collect();
            ids.reverse();
            ensure!(
                needle.ids == ids,
                "Search finds others for {}",
                needle.query
            );
        }
        Ok(search)
    }

    /// For last names, each of which about one lead in 1,000 has.
    async fn names(caller: &mut Caller, leads: u64) -> Result<Self> {
        let names = (1..=8).map(|number| fold(&person(number * 77, leads).last_name));
        Self::new(caller, names.collect()).await
    }

    /// For parts of the email and the phone that all leads have.
    async fn common(caller: &mut Caller) -> Result<Self> {
        let parts = ["example", "exa", "+49 30"];
        Self::new(caller, parts.map(str::to_owned).to_vec()).await
    }

    /// For last names with accents, written without them.
    async fn without_accents(caller: &mut Caller, leads: u64) -> Result<Self> {
        let names =
            (1..=leads).map(|number| fold(&person(number * 77 % leads + 1, leads).last_name));
        let names = names.filter(|name| !name.is_ascii()).take(8);
        let plain = |name: &str| name.replace('ü', "u").replace('ö', "o");
        let typed = names.map(|name| (plain(&name), name)).collect();
        Self::typed(caller, typed).await
    }

    /// For whole phone numbers, written without what separates their digits.
    async fn digits(caller: &mut Caller, leads: u64) -> Result<Self> {
        let phones = (1..=8).map(|index| person(index * (leads / 9), leads).phone);
        let typed = phones
            .map(|phone| (phone.replace(' ', ""), phone))
            .collect();
        Self::typed(caller, typed).await
    }

    async fn new(caller: &mut Caller, queries: Vec<String>) -> Result<Self> {
        let typed = queries.into_iter().map(|query| (query.clone(), query));
        Self::typed(caller, typed.collect()).await
    }

    /// For texts as the caller writes them, each with what is stored.
    async fn typed(caller: &mut Caller, queries: Vec<(String, String)>) -> Result<Self> {
        let mut needles = Vec::new();
        for (typed, query) in queries {
            let request = caller.request(body(&typed));
            let leads = caller.leads.search(request).await?.into_inner().leads;
            ensure!(!leads.is_empty(), "Search finds nothing for {query}");
            for lead in &leads {
                let texts = [
                    format!("{} {}", lead.first_name, lead.last_name),
                    lead.company.clone(),
                    lead.email.clone(),
                    lead.phone.clone(),
                ];
                let found = texts.iter().any(|text| fold(text).contains(&query));
                ensure!(found, "Search finds a lead without {query}");
            }
            let ids = leads.into_iter().map(|lead| lead.id).collect();
            needles.push(Needle { query, typed, ids });
        }
        Ok(Self(needles))
    }
}

impl Needle {
    /// How many leads a statement must find.
    fn rows(&self) -> usize {
        match self.ids.len() {
            PAGE => LIMIT,
            fewer => fewer,
        }
    }
}

fn body(query: &str) -> proto::SearchLeadsRequest {
    proto::SearchLeadsRequest {
        query: query.to_owned(),
        ..proto::SearchLeadsRequest::default()
    }
}

impl Workload for Search {
    type Body = proto::SearchLeadsRequest;
    type Reply = proto::SearchLeadsResponse;
    type Expected = usize;

    fn next_call(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, usize)> {
        let index = random.usize(..self.0.len());
        Ok((body(&self.0[index].typed), index))
    }

    async fn send(
        caller: &mut Caller,
        request: Request<Self::Body>,
    ) -> Result<Response<Self::Reply>, Status> {
        caller.leads.search(request).await
    }

    fn echo_replies(reply: Vec<u8>) -> Replies {
        Replies {
            search: reply,
            ..Replies::default()
        }
    }

    fn check(&self, index: &usize, reply: &Self::Reply) -> Result<()> {
        let ids = reply.leads.iter().map(|lead| &lead.id);
        ensure!(ids.eq(&self.0[*index].ids), "other leads");
        Ok(())
    }
}

/// The candidate statements for a query, newest leads first.
fn plans(database: Database, query: &str) -> Vec<(&'static str, String)> {
    let columns: Vec<String> = all_columns()
        .split(", ")
        .map(|column| format!("leads.{column}"))
        .collect();
    let columns = columns.join(", ");
    if database == Database::Sqlite {
        let plan = |condition: &str| {
            format!(
                "SELECT {columns} FROM lead_search CROSS JOIN leads ON leads.seq = lead_search.rowid
                  WHERE {condition} ORDER BY lead_search.rowid DESC LIMIT {LIMIT}"
            )
        };
        return vec![
            ("FTS5", plan(&format!("lead_search MATCH '\"{query}\"'"))),
            (
                "newest first",
                plan(&format!("instr(lead_search.text, '{query}') > 0")),
            ),
        ];
    }
    let numbers: Vec<String> = trigrams(query).iter().map(ToString::to_string).collect();
    let array = format!("trigrams @> ARRAY[{}]", numbers.join(", "));
    let same = format!("strpos(text, '{query}') > 0");
    let like = format!("text LIKE '%{query}%'");
    let ordered = |condition: &str| {
        format!(
            "SELECT {columns} FROM
               (SELECT seq FROM lead_search WHERE {condition} ORDER BY seq DESC LIMIT {LIMIT}) AS page
               JOIN leads USING (seq) ORDER BY seq DESC"
        )
    };
    let index_first = |condition: &str| {
        format!(
            "WITH found AS MATERIALIZED (SELECT seq FROM lead_search WHERE {condition})
             SELECT {columns} FROM leads JOIN
               (SELECT seq FROM found ORDER BY seq DESC LIMIT {LIMIT}) AS page USING (seq)
              ORDER BY seq DESC"
        )
    };
    vec![
        ("arrays", ordered(&format!("{array} AND {same}"))),
        (
            "arrays, index first",
            index_first(&format!("{array} AND {same}")),
        ),
        ("pg_trgm", ordered(&like)),
        ("pg_trgm, index first", index_first(&like)),
        ("newest first", ordered(&same)),
    ]
}

/// The fastest of the plans that find enough leads, on the storage of [`Tables::Reads`].
async fn best(bed: &Testbed<'_>, storage: &Storage, search: &Search) -> Result<Limit> {
    let database = storage.database();
    let mut best: Option<(f64, &str, Limit)> = None;
    for index in 0..plans(database, "").len() {
        let mut statements = Vec::new();
        let mut finds_all = true;
        let mut name = "";
        for needle in &search.0 {
            let (plan, sql) = plans(database, &needle.query).swap_remove(index);
            name = plan;
            let count = format!("SELECT CAST(count(*) AS text) FROM ({sql}) AS found");
            let [count] = storage.row(&count).await?;
            finds_all &= count.parse::<usize>()? == needle.rows();
            statements.push(sql);
        }
        if !finds_all {
            continue;
        }
        let scripts = statements.iter().map(|sql| format!("{sql};\n")).collect();
        let limit = Limit::new(
            storage,
            1,
            || {
                Arc::new(Queries {
                    statements,
                    rows: 1,
                })
            },
            || Script {
                statements: scripts,
                variables: Vec::new(),
                writes: false,
            },
        );
        let p50 = bed.alone(|| limit.p50(bed.setting.time))?;
        if best.as_ref().is_none_or(|(least, ..)| p50 < *least) {
            best = Some((p50, name, limit));
        }
    }
    let (p50, name, limit) = best.context("no plan finds what it must")?;
    eprintln!(
        "  the best plan for {:?}: {name}, {p50:.0} µs",
        search.0[0].query
    );
    Ok(limit)
}

pub async fn measure(setting: &Setting, database: Database) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let bed = Testbed::start(setting, database, Access::Reads).await?;
    let storage = Tables::Reads.ready(setting, database).await?;
    let leads = setting.leads;
    let selective = bed
        .workloads(async |side| Search::selective(&mut side.caller(), leads).await)
        .await?;
    let names = bed
        .workloads(async |side| Search::names(&mut side.caller(), leads).await)
        .await?;
    let common = bed
        .workloads(async |side| Search::common(&mut side.caller()).await)
        .await?;
    let mut all = vec![
        ("Search, ten leads have it", selective),
        ("Search, one in 1,000 has it", names),
        ("Search, all have it", common),
    ];
    // Older builds do not find these.
    if bed.sides().len() == 1 {
        let accents = bed
            .workloads(async |side| Search::without_accents(&mut side.caller(), leads).await)
            .await?;
        let digits = bed
            .workloads(async |side| Search::digits(&mut side.caller(), leads).await)
            .await?;
        all.push(("Search, without its accents", accents));
        all.push(("Search, a phone by its digits", digits));
    }
    for (name, workloads) in all {
        rows.push(beside_the_best(&bed, &storage, name, &workloads).await?);
    }
    Ok(rows)
}

async fn beside_the_best(
    bed: &Testbed<'_>,
    storage: &Storage,
    name: &str,
    workloads: &Workloads<Search>,
) -> Result<Row> {
    let time = bed.setting.time;
    let limit = best(bed, storage, workloads.tested()).await?;
    let mut samples = Samples::default();
    for round in 0..bed.setting.rounds {
        let database = bed.alone(|| limit.p50(time))?;
        let turns = bed.in_turn(round, workloads, 1, time).await?;
        samples.add("database", database);
        samples.add_times(&turns, SHARE * database + MORE);
    }
    Ok(Row {
        database_alone: samples.spread("database"),
        ..bed.times(name, 1, &samples, 1.0, " × (1.3 DB + 1 ms)")
    })
}
