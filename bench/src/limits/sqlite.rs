//! SQLite's limit: a loop over prepared statements, with the same version of SQLite as the service, a sync per
//! commit, and 64 MiB of page cache per connection. Reads run on one thread per core. Writes run on one thread,
//! because SQLite has one writer, with 64 changes per commit.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Params, Statement};

/// How many changes share a commit.
const GROUP: usize = 64;

/// The work of SQLite for one call.
pub trait Task: Send + Sync + 'static {
    /// The statements that it needs.
    fn statements(&self) -> Vec<String>;
    /// Whether it changes anything.
    fn writes(&self) -> bool;
    /// Does the work once with the prepared statements.
    fn run(&self, statements: &mut [Statement<'_>], random: &mut fastrand::Rng) -> Result<()>;
}

/// A task that is repeated on a file.
pub struct Loop {
    pub file: PathBuf,
    pub task: Arc<dyn Task>,
}

impl Loop {
    /// The rate of the task, per second.
    pub fn rate(&self, time: Duration) -> Result<f64> {
        let threads = match self.task.writes() {
            true => 1,
            false => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let repeat = || {
                let done = self.repeat(GROUP, time, &over, |_| ());
                over.store(true, Ordering::Relaxed);
                done
            };
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(repeat)).collect();
            let mut rate = 0.0;
            for worker in workers {
                let done = worker
                    .join()
                    .map_err(|_| anyhow::anyhow!("a thread failed"))?;
                rate += done?;
            }
            Ok(rate)
        })
    }

    /// The median time of the task with a commit each, in microseconds.
    pub fn p50(&self, time: Duration) -> Result<f64> {
        let mut times = Vec::new();
        let note = |time: Duration| times.push(time);
        self.repeat(1, time, &AtomicBool::new(false), note)?;
        times.sort_unstable();
        let middle = times.get(times.len() / 2).context("SQLite did nothing")?;
        Ok(middle.as_secs_f64() * 1e6)
    }

    /// Repeats the task, records the time of each group, and returns the rate.
    fn repeat(
        &self,
        group: usize,
        time: Duration,
        over: &AtomicBool,
        mut note: impl FnMut(Duration),
    ) -> Result<f64> {
        let db = self.open()?;
        let mut statements = Vec::new();
        for sql in self.task.statements() {
            let prepared = db.prepare(&sql);
            statements.push(prepared.with_context(|| format!("SQLite rejects {sql}"))?);
        }
        let (mut start, mut commit) = (db.prepare("BEGIN IMMEDIATE")?, db.prepare("COMMIT")?);
        let mut random = fastrand::Rng::new();
        let begin = Instant::now();
        let mut done = 0_u64;
        while begin.elapsed() < time && !over.load(Ordering::Relaxed) {
            let first = Instant::now();
            if self.task.writes() {
                start.execute([])?;
            }
            for _ in 0..group {
                self.task.run(&mut statements, &mut random)?;
            }
            if self.task.writes() {
                commit.execute([])?;
            }
            note(first.elapsed());
            done += group as u64;
        }
        Ok(done as f64 / begin.elapsed().as_secs_f64())
    }

    fn open(&self) -> Result<Connection> {
        let db = Connection::open(&self.file)?;
        db.execute_batch(
            "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             PRAGMA cache_size = -65536;",
        )?;
        Ok(db)
    }
}

/// One of several queries, at random.
pub struct Queries {
    pub statements: Vec<String>,
    /// The minimum number of rows that each must find.
    pub rows: usize,
}

impl Task for Queries {
    fn statements(&self) -> Vec<String> {
        self.statements.clone()
    }

    fn writes(&self) -> bool {
        false
    }

    fn run(&self, statements: &mut [Statement<'_>], random: &mut fastrand::Rng) -> Result<()> {
        let index = random.usize(..statements.len());
        let found = read(&mut statements[index], [])?;
        anyhow::ensure!(found >= self.rows, "a query finds {found} rows");
        Ok(())
    }
}

/// Runs a query, reads every value, and returns the number of rows.
pub fn read(statement: &mut Statement<'_>, params: impl Params) -> Result<usize> {
    let columns = statement.column_count();
    let mut rows = statement.query(params)?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            match row.get_ref(column)? {
                ValueRef::Null => {}
                ValueRef::Integer(number) => {
                    black_box(number);
                }
                ValueRef::Real(number) => {
                    black_box(number);
                }
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                    black_box(bytes.last());
                }
            }
        }
        count += 1;
    }
    Ok(count)
}
