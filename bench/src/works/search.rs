//! Search for what ten leads share, what one in a thousand does, and what all do. Beside it stands
//! the best of the database's own plans: the service's statements, run directly, and others written
//! by hand. A statement counts only if it finds what it must.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use leadsmith::leads::lists::{NEWEST, newest_statement, search_statement};
use leadsmith::leads::model::fold;
use leadsmith::wire::proto;
use sea_orm::DbBackend;
use tonic::{Request, Response, Status};

use super::all_columns;
use crate::data::{DataSet, code, details, lead_id};
use crate::echo::Answers;
use crate::limits::Limit;
use crate::limits::pgbench::Pgbench;
use crate::limits::sqlite::{Loop, Queries};
use crate::load::{Caller, Work};
use crate::measure::Bed;
use crate::place::Place;
use crate::report::{Bar, Row, Spread};
use crate::setting::Setting;

/// How many leads a page has, and how many are looked for to learn whether there is a next one.
const PAGE: usize = 50;
const LIMIT: u64 = 51;
/// What the bar allows beside the database's time: 1.3 × and 1 ms.
const SHARE: f64 = 1.3;
const MORE: f64 = 1_000.0;

/// Search for one of several parts of leads' texts.
pub struct Search(Vec<Needle>);

/// A part of a text and the leads of the first page that has it.
struct Needle {
    query: String,
    ids: Vec<String>,
}

impl Search {
    /// For what ten leads share, which is known.
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

    async fn new(caller: &mut Caller, queries: Vec<String>) -> Result<Self> {
        let mut needles = Vec::new();
        for query in queries {
            let request = caller.request(body(&query));
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
            needles.push(Needle { query, ids });
        }
        Ok(Self(needles))
    }

    /// How many leads the statements must find for each of the parts.
    fn rows(&self, needle: &Needle) -> usize {
        match needle.ids.len() {
            PAGE => LIMIT as usize,
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

impl Work for Search {
    type Body = proto::SearchLeadsRequest;
    type Answer = proto::SearchLeadsResponse;
    type Asked = usize;

    fn ask(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, usize)> {
        let index = random.usize(..self.0.len());
        Ok((body(&self.0[index].query), index))
    }

    async fn send(
        caller: &mut Caller,
        request: Request<Self::Body>,
    ) -> Result<Response<Self::Answer>, Status> {
        caller.leads.search(request).await
    }

    fn echoed(answer: Vec<u8>) -> Answers {
        Answers {
            search: answer,
            ..Answers::default()
        }
    }

    fn check(&self, index: &usize, answer: &Self::Answer) -> Result<()> {
        let ids = answer.leads.iter().map(|lead| &lead.id);
        ensure!(ids.eq(&self.0[*index].ids), "other leads");
        Ok(())
    }
}

/// The statements that may answer a query, one of each kind.
fn plans(backend: DbBackend, query: &str) -> Vec<(&'static str, String)> {
    let columns: Vec<String> = all_columns()
        .split(", ")
        .map(|column| format!("leads.{column}"))
        .collect();
    let columns = columns.join(", ");
    let indexed = search_statement(backend, query, &[], None, LIMIT).to_string();
    if backend == DbBackend::Sqlite {
        let from = format!(
            "SELECT {columns} FROM lead_search CROSS JOIN leads ON leads.seq = lead_search.rowid"
        );
        return vec![
            ("the service's", indexed),
            (
                "the index alone",
                format!(
                    "{from} WHERE lead_search MATCH '\"{query}\"' \
                     ORDER BY lead_search.rowid DESC LIMIT {LIMIT}"
                ),
            ),
            (
                "newest first",
                format!(
                    "{from} WHERE instr(lead_search.text, '{query}') > 0 \
                     ORDER BY lead_search.rowid DESC LIMIT {LIMIT}"
                ),
            ),
        ];
    }
    let trigrams: Vec<String> = leadsmith::db::search::trigrams(query)
        .iter()
        .map(ToString::to_string)
        .collect();
    let newest = newest_statement(query, &[], None, LIMIT, NEWEST[0]).to_string();
    vec![
        ("the service's", indexed),
        ("the service's for the newest", newest),
        (
            "the index first",
            format!(
                "WITH found AS MATERIALIZED (SELECT seq FROM lead_search \
                 WHERE trigrams @> ARRAY[{}] AND strpos(text, '{query}') > 0) \
                 SELECT {columns} FROM leads JOIN \
                 (SELECT seq FROM found ORDER BY seq DESC LIMIT {LIMIT}) AS page USING (seq) \
                 ORDER BY seq DESC",
                trigrams.join(", ")
            ),
        ),
        (
            "newest first",
            format!(
                "SELECT {columns} FROM lead_search JOIN leads USING (seq) \
                 WHERE strpos(lead_search.text, '{query}') > 0 \
                 ORDER BY lead_search.seq DESC LIMIT {LIMIT}"
            ),
        ),
    ]
}

/// The fastest of the plans that find what they must.
async fn best(bed: &Bed<'_>, search: &Search) -> Result<Limit> {
    let data = &bed.data;
    let backend = match &data.place {
        Place::Sqlite(_) => DbBackend::Sqlite,
        Place::Postgres(..) => DbBackend::Postgres,
    };
    let mut best: Option<(f64, &str, Limit)> = None;
    let kinds = plans(backend, &search.0[0].query).len();
    for kind in 0..kinds {
        let mut statements = Vec::new();
        let mut finds_all = true;
        let mut name = "";
        for needle in &search.0 {
            let (kind, sql) = plans(backend, &needle.query).swap_remove(kind);
            name = kind;
            let count = format!("SELECT CAST(count(*) AS text) FROM ({sql}) AS found");
            let [count] = data.place.row(&count).await?;
            finds_all &= count.parse::<usize>()? == search.rows(needle);
            statements.push(sql);
        }
        if !finds_all {
            continue;
        }
        let limit = match &data.place {
            Place::Sqlite(file) => Limit::Sqlite(Loop {
                file: file.clone(),
                task: Arc::new(Queries {
                    statements,
                    rows: 1,
                }),
            }),
            Place::Postgres(cluster, database) => {
                let scripts = statements.into_iter().map(|sql| sql + ";\n").collect();
                Limit::Postgres(Pgbench::new(cluster, database, scripts, Vec::new(), 1))
            }
        };
        let p50 = bed.p50_alone(&limit)?;
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

pub async fn measure(setting: &Setting) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for database in setting.databases() {
        let data = DataSet::ready(setting, database, setting.leads).await?;
        let bed = Bed::start(setting, data).await?;
        let mut caller = bed.service.callers[0].clone();
        let leads = bed.data.leads;
        let selective = Search::selective(&mut caller, leads).await?;
        let names = (1..=8).map(|number| fold(&details(number * 77, leads).last_name));
        let some = Search::new(&mut caller, names.collect()).await?;
        let all = vec!["example".to_owned(), "exa".to_owned(), "+49 30".to_owned()];
        let all = Search::new(&mut caller, all).await?;
        for (name, search) in [
            ("Search, ten leads have it", selective),
            ("Search, one in 1,000 has it", some),
            ("Search, all have it", all),
        ] {
            rows.push(beside_the_best(&bed, name, search).await?);
        }
    }
    Ok(rows)
}

async fn beside_the_best(bed: &Bed<'_>, name: &str, search: Search) -> Result<Row> {
    let limit = best(bed, &search).await?;
    let search = Arc::new(search);
    let (mut times, mut alone, mut allowed, mut ratios) = (vec![], vec![], vec![], vec![]);
    let mut p99 = Vec::new();
    for _ in 0..bed.setting.rounds {
        let database = bed.p50_alone(&limit)?;
        let served = bed.serve(&search, 1).await?;
        let (p50, most) = (served.quantile(0.5), SHARE * database + MORE);
        times.push(p50);
        p99.push(served.quantile(0.99));
        alone.push(database);
        allowed.push(most);
        ratios.push(p50 / most);
    }
    let ratio = Spread::of(&ratios);
    Ok(Row {
        database_alone: Some(Spread::of(&alone)),
        limit: Some(Spread::of(&allowed)),
        bar: Some(Bar::at_most(1.0, " × (1.3 DB + 1 ms)", ratio.median)),
        ratio: Some(ratio),
        p50: Some(Spread::of(&times).median),
        p99: Some(Spread::of(&p99).median),
        ..bed.row(name, 1)
    })
}
