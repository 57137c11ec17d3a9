//! The servers under measurement. Echo, database and service are measured alternately in several rounds, so that
//! other load on the machine affects all of them. Each round has its own ratio, and the median and the spread are
//! reported. A second build for comparison runs at the same time on its own data. In each round it is measured as
//! well, alternately before and after the tested one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::data::DataSet;
use crate::limits::Limit;
use crate::load::{self, Caller, Run, Workload};
use crate::process;
use crate::program::Program;
use crate::row::{Bar, Kind, Row};
use crate::samples::{RoundResult, Samples, combined};
use crate::service::Server;
use crate::setting::Setting;
use crate::storage::{Database, Storage};

/// A build of the service with its data set.
pub struct Side {
    /// Its index among the builds.
    index: usize,
    pub data: DataSet,
    pub service: Server,
}

/// The measured builds.
pub struct Testbed<'a> {
    pub setting: &'a Setting,
    sides: Vec<Side>,
}

/// One workload per build: the requests may differ by build, for example in page tokens.
pub struct Workloads<W>(Vec<Arc<W>>);

/// Whether a workload changes the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Reads,
    Changes,
}

/// A data set per build; a copy if the workload changes it.
pub async fn data_sets(
    setting: &Setting,
    programs: &[Program],
    database: Database,
    leads: u64,
    access: Access,
) -> Result<Vec<DataSet>> {
    let mut sets = Vec::new();
    for program in programs {
        let data = DataSet::ready(setting, program, database, leads).await?;
        sets.push(match access {
            Access::Reads => data,
            Access::Changes => data.copy().await?,
        });
    }
    Ok(sets)
}

impl<'a> Testbed<'a> {
    /// Starts all builds on data sets of the configured size.
    pub async fn start(setting: &'a Setting, database: Database, access: Access) -> Result<Self> {
        let (programs, leads) = (setting.programs(), setting.leads);
        let data = data_sets(setting, programs, database, leads, access).await?;
        Self::on(setting, data).await
    }

    /// Starts the builds of these data sets, the tested one first.
    pub async fn on(setting: &'a Setting, data: Vec<DataSet>) -> Result<Self> {
        let mut sides = Vec::new();
        for (index, data) in data.into_iter().enumerate() {
            let service = Server::service(setting, &data).await?;
            sides.push(Side {
                index,
                data,
                service,
            });
        }
        Ok(Self { setting, sides })
    }

    /// The tested build.
    pub fn tested(&self) -> &Side {
        &self.sides[0]
    }

    /// All builds, the tested one first.
    pub fn sides(&self) -> &[Side] {
        &self.sides
    }

    /// Creates the workload of each build.
    pub async fn workloads<W>(
        &self,
        make: impl AsyncFn(&Side) -> Result<W>,
    ) -> Result<Workloads<W>> {
        let mut workloads = Vec::new();
        for side in &self.sides {
            workloads.push(Arc::new(make(side).await?));
        }
        Ok(Workloads(workloads))
    }

    /// The tested build's response to a call of this workload.
    pub async fn reply<W: Workload>(&self, workloads: &Workloads<W>) -> Result<W::Reply> {
        let (work, mut caller) = (workloads.tested(), self.tested().caller());
        load::call(&**work, &mut caller, &mut fastrand::Rng::new()).await
    }

    /// Starts an echo server with the response of the tested build.
    async fn echo<W: Workload>(&self, workloads: &Workloads<W>) -> Result<Server> {
        let reply = self.reply(workloads).await?;
        let replies = W::echo_replies(prost::Message::encode_to_vec(&reply));
        Server::echo(self.setting, &replies, &self.tested().data.keys).await
    }

    /// An empty row of the table.
    pub fn row(&self, kind: Kind, work: &str, in_flight: usize) -> Row {
        let data = &self.tested().data;
        let database = data.storage.database().to_string();
        Row::new(kind, work, &database, data.leads, in_flight)
    }

    /// The rate of a workload, compared with its limit L.
    pub async fn rate<W: Workload>(
        &self,
        name: &str,
        in_flight: usize,
        workloads: &Workloads<W>,
        limit: &Limit,
        at_least: Option<f64>,
    ) -> Result<Row> {
        let time = self.setting.time;
        let echo = self.echo(workloads).await?;
        let warm_up = time.min(Duration::from_secs(2));
        load::closed(&echo.callers, workloads.tested(), in_flight, warm_up).await?;
        self.in_turn(0, workloads, in_flight, warm_up).await?;
        let mut samples = Samples::default();
        for round in 0..self.setting.rounds {
            let echo_run = load::closed(&echo.callers, workloads.tested(), in_flight, time).await?;
            let database = self.alone(|| limit.rate(time))?;
            let turns = self.in_turn(round, workloads, in_flight, time).await?;
            let l = combined(echo_run.rate(), database);
            samples.add("echo", echo_run.rate());
            samples.add("database", database);
            samples.add("l", l);
            samples.add("ratio", turns[0].run.rate() / l);
            samples.add_rates(&turns);
        }
        let (memory, peak) = process::memory(self.tested().service.id())?;
        let ratio = samples.spread("ratio");
        Ok(Row {
            echo: samples.spread("echo"),
            database_alone: samples.spread("database"),
            limit: samples.spread("l"),
            bar: at_least
                .zip(ratio)
                .map(|(least, ratio)| Bar::at_least(least, " L", ratio.median)),
            ratio,
            memory: Some(memory),
            peak: Some(peak),
            ..self.rates(name, in_flight, &samples)
        })
    }

    /// The row of the figures that [`Samples::add_rates`] recorded.
    pub fn rates(&self, name: &str, in_flight: usize, samples: &Samples) -> Row {
        let postgres = matches!(self.tested().data.storage, Storage::Postgres(..));
        let database_cpu = samples.median("database_cpu");
        Row {
            rate: samples.spread("rate"),
            p50: samples.median("p50"),
            p99: samples.median("p99"),
            cpu: samples.median("cpu"),
            database_cpu: database_cpu.filter(|_| postgres),
            against: samples.against(),
            ..self.row(Kind::Rate, name, in_flight)
        }
    }

    /// The p50 of a workload with one caller, compared with the sum of echo and database.
    pub async fn one_caller<W: Workload>(
        &self,
        name: &str,
        workloads: &Workloads<W>,
        limit: &Limit,
        at_most: f64,
    ) -> Result<Row> {
        let time = self.setting.time;
        let echo = self.echo(workloads).await?;
        let mut samples = Samples::default();
        for round in 0..self.setting.rounds {
            let echo_run = load::closed(&echo.callers, workloads.tested(), 1, time)
                .await?
                .quantile(0.5);
            let database = self.alone(|| limit.p50(time))?;
            let turns = self.in_turn(round, workloads, 1, time).await?;
            samples.add("echo", echo_run);
            samples.add("database", database);
            samples.add_times(&turns, echo_run + database);
        }
        Ok(Row {
            echo: samples.spread("echo"),
            database_alone: samples.spread("database"),
            ..self.times(name, 1, &samples, at_most, " ×")
        })
    }

    /// The row of the figures that [`Samples::add_times`] recorded.
    pub fn times(
        &self,
        name: &str,
        in_flight: usize,
        samples: &Samples,
        at_most: f64,
        unit: &str,
    ) -> Row {
        let ratio = samples.spread("ratio");
        Row {
            limit: samples.spread("limit"),
            bar: ratio.map(|ratio| Bar::at_most(at_most, unit, ratio.median)),
            ratio,
            p50: samples.median("p50"),
            p99: samples.median("p99"),
            against: samples.against(),
            ..self.row(Kind::Time, name, in_flight)
        }
    }

    /// Measures the database alone. PostgreSQL has its own processes. SQLite runs in this one.
    pub fn alone(&self, work: impl FnOnce() -> Result<f64>) -> Result<f64> {
        match self.tested().data.storage {
            Storage::Sqlite(_) => self.setting.on_server_cores(work),
            Storage::Postgres(..) => work(),
        }
    }

    /// Calls every build in a closed loop, one build after the other.
    pub async fn in_turn<W: Workload>(
        &self,
        round: usize,
        workloads: &Workloads<W>,
        in_flight: usize,
        time: Duration,
    ) -> Result<Vec<RoundResult>> {
        self.in_order(round, async |side| {
            let work = &workloads.0[side.index];
            let before = side.cpu()?;
            let run = load::closed(&side.service.callers, work, in_flight, time).await?;
            Ok(RoundResult::new(run, before, side.cpu()?))
        })
        .await
    }

    /// Runs an action on every build, one after the other. The order is reversed in every second round.
    pub async fn in_order<T>(
        &self,
        round: usize,
        measure: impl AsyncFn(&Side) -> Result<T>,
    ) -> Result<Vec<T>> {
        let backward = round % 2 == 1;
        let mut done = Vec::new();
        for turn in 0..self.sides.len() {
            let side = match backward {
                true => self.sides.len() - 1 - turn,
                false => turn,
            };
            done.push(measure(&self.sides[side]).await?);
        }
        if backward {
            done.reverse();
        }
        Ok(done)
    }

    /// Calls only the tested build in a closed loop.
    pub async fn serve<W: Workload>(
        &self,
        workloads: &Workloads<W>,
        in_flight: usize,
    ) -> Result<Run> {
        let callers = &self.tested().service.callers;
        load::closed(callers, workloads.tested(), in_flight, self.setting.time).await
    }

    /// Stops the builds and removes the data that they changed.
    pub async fn end(self) -> Result<()> {
        for side in self.sides {
            drop(side.service);
            side.data.storage.remove().await?;
        }
        Ok(())
    }
}

impl<W> Workloads<W> {
    /// The workload of the tested build.
    pub fn tested(&self) -> &Arc<W> {
        &self.0[0]
    }
}

impl Side {
    /// One of its callers.
    pub fn caller(&self) -> Caller {
        self.service.callers[0].clone()
    }

    /// The processor time used by the service and PostgreSQL so far.
    pub fn cpu(&self) -> Result<(Duration, Duration)> {
        let database = match &self.data.storage {
            Storage::Sqlite(_) => Duration::ZERO,
            Storage::Postgres(cluster, _) => process::cpu_with_children(cluster.id)?,
        };
        Ok((process::cpu(self.service.id())?, database))
    }
}
