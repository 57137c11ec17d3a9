//! Servers to measure, and how: echo, database and service in turn, round after round, so that what
//! else happens on the machine affects all of them. Each round has its own ratio; the median and the
//! spread are reported. Another build that is compared runs beside the tested one, on its own data,
//! and is called in each round too, alternately before and after it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::data::DataSet;
use crate::limits::Limit;
use crate::load::{self, Caller, Run, Work};
use crate::place::{Database, Place};
use crate::process;
use crate::report::{Bar, Kind, Row};
use crate::samples::{Samples, Turn, combined};
use crate::service::{Program, Server};
use crate::setting::Setting;

/// A build of the service on its data set.
pub struct Side {
    /// Where it stands among the builds.
    index: usize,
    pub data: DataSet,
    pub service: Server,
}

/// The builds that are measured.
pub struct Testbed<'a> {
    pub setting: &'a Setting,
    sides: Vec<Side>,
}

/// A work for each of the builds: what it asks for may differ by build, as page tokens do.
pub struct Works<W>(Vec<Arc<W>>);

/// Whether a work changes the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Reads,
    Changes,
}

/// A data set for each of the builds; a copy if it is to be changed.
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
    /// Starts every build on the setting's number of leads.
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

    /// Makes the work of each build.
    pub async fn works<W>(&self, make: impl AsyncFn(&Side) -> Result<W>) -> Result<Works<W>> {
        let mut works = Vec::new();
        for side in &self.sides {
            works.push(Arc::new(make(side).await?));
        }
        Ok(Works(works))
    }

    /// The answer of the tested build to a call of this work.
    pub async fn answer<W: Work>(&self, works: &Works<W>) -> Result<W::Answer> {
        let (work, mut caller) = (works.tested(), self.tested().caller());
        load::call(&**work, &mut caller, &mut fastrand::Rng::new()).await
    }

    /// Starts an echo server that answers as the tested build does.
    async fn echo<W: Work>(&self, works: &Works<W>) -> Result<Server> {
        let answer = self.answer(works).await?;
        let answers = W::echoed(prost::Message::encode_to_vec(&answer));
        Server::echo(self.setting, &answers, &self.tested().data.keys).await
    }

    /// A row of the table, to be filled.
    pub fn row(&self, kind: Kind, work: &str, in_flight: usize) -> Row {
        let data = &self.tested().data;
        let database = data.place.database().to_string();
        Row::new(kind, work, &database, data.leads, in_flight)
    }

    /// The rate of a work beside its limit L.
    pub async fn rate<W: Work>(
        &self,
        name: &str,
        in_flight: usize,
        works: &Works<W>,
        limit: &Limit,
        at_least: Option<f64>,
    ) -> Result<Row> {
        let time = self.setting.time;
        let echo = self.echo(works).await?;
        let warm_up = time.min(Duration::from_secs(2));
        load::closed(&echo.callers, works.tested(), in_flight, warm_up).await?;
        self.in_turn(0, works, in_flight, warm_up).await?;
        let mut samples = Samples::default();
        for round in 0..self.setting.rounds {
            let echoed = load::closed(&echo.callers, works.tested(), in_flight, time).await?;
            let database = self.alone(|| limit.rate(time))?;
            let turns = self.in_turn(round, works, in_flight, time).await?;
            let l = combined(echoed.rate(), database);
            samples.add("echo", echoed.rate());
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

    /// The row of what [`Samples::add_rates`] has noted.
    pub fn rates(&self, name: &str, in_flight: usize, samples: &Samples) -> Row {
        let postgres = matches!(self.tested().data.place, Place::Postgres(..));
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

    /// The p50 of a work with one caller, beside what echo and database need together.
    pub async fn one_caller<W: Work>(
        &self,
        name: &str,
        works: &Works<W>,
        limit: &Limit,
        at_most: f64,
    ) -> Result<Row> {
        let time = self.setting.time;
        let echo = self.echo(works).await?;
        let mut samples = Samples::default();
        for round in 0..self.setting.rounds {
            let echoed = load::closed(&echo.callers, works.tested(), 1, time)
                .await?
                .quantile(0.5);
            let database = self.alone(|| limit.p50(time))?;
            let turns = self.in_turn(round, works, 1, time).await?;
            samples.add("echo", echoed);
            samples.add("database", database);
            samples.add_times(&turns, echoed + database);
        }
        Ok(Row {
            echo: samples.spread("echo"),
            database_alone: samples.spread("database"),
            ..self.times(name, 1, &samples, at_most, " ×")
        })
    }

    /// The row of what [`Samples::add_times`] has noted.
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

    /// Measures what a database does by itself. PostgreSQL has processes of its own; SQLite works in
    /// this one.
    pub fn alone(&self, work: impl FnOnce() -> Result<f64>) -> Result<f64> {
        match self.tested().data.place {
            Place::Sqlite(_) => self.setting.on_server_cores(work),
            Place::Postgres(..) => work(),
        }
    }

    /// Calls every build in a closed loop, one after the other.
    pub async fn in_turn<W: Work>(
        &self,
        round: usize,
        works: &Works<W>,
        in_flight: usize,
        time: Duration,
    ) -> Result<Vec<Turn>> {
        self.in_order(round, async |side| {
            let work = &works.0[side.index];
            let before = side.cpu()?;
            let run = load::closed(&side.service.callers, work, in_flight, time).await?;
            Ok(Turn::new(run, before, side.cpu()?))
        })
        .await
    }

    /// Does something with every build, one after the other, in each round in the opposite order.
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

    /// Calls the tested build alone in a closed loop.
    pub async fn serve<W: Work>(&self, works: &Works<W>, in_flight: usize) -> Result<Run> {
        let callers = &self.tested().service.callers;
        load::closed(callers, works.tested(), in_flight, self.setting.time).await
    }

    /// Stops the builds and removes the data they changed.
    pub async fn end(self) -> Result<()> {
        for side in self.sides {
            drop(side.service);
            side.data.place.remove().await?;
        }
        Ok(())
    }
}

impl<W> Works<W> {
    /// The work of the tested build.
    pub fn tested(&self) -> &Arc<W> {
        &self.0[0]
    }
}

impl Side {
    /// One of its callers.
    pub fn caller(&self) -> Caller {
        self.service.callers[0].clone()
    }

    /// The processor time that the service and PostgreSQL have used so far.
    pub fn cpu(&self) -> Result<(Duration, Duration)> {
        let database = match &self.data.place {
            Place::Sqlite(_) => Duration::ZERO,
            Place::Postgres(cluster, _) => process::cpu_with_children(cluster.id)?,
        };
        Ok((process::cpu(self.service.id())?, database))
    }
}
