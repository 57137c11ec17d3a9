//! Measuring in turns: echo, limit, service, echo, limit, service, so that what else happens on the
//! machine meets all three. Each round has its own ratio; what is told is the median and the spread.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::data::DataSet;
use crate::limits::Limit;
use crate::load::{self, Work};
use crate::place::Place;
use crate::process;
use crate::report::{Bar, Row, Spread};
use crate::service::Server;
use crate::setting::Setting;

/// A service on a data set.
pub struct Bed<'a> {
    pub setting: &'a Setting,
    pub data: DataSet,
    pub service: Server,
}

impl<'a> Bed<'a> {
    /// Starts the service.
    pub async fn start(setting: &'a Setting, data: DataSet) -> Result<Self> {
        let service = Server::service(setting, &data).await?;
        Ok(Self {
            setting,
            data,
            service,
        })
    }

    /// Starts an echo server that answers as the service did now.
    async fn echo<W: Work>(&self, work: &Arc<W>) -> Result<Server> {
        let mut caller = self.service.callers[0].clone();
        let answer = load::call(&**work, &mut caller, &mut fastrand::Rng::new()).await?;
        let answers = W::echoed(prost::Message::encode_to_vec(&answer));
        Server::echo(self.setting, &answers, &self.data.key).await
    }

    /// A row of the table, to be filled.
    pub fn row(&self, work: &str, in_flight: usize) -> Row {
        let database = self.data.place.database().to_string();
        Row::new(work, &database, self.data.leads, in_flight)
    }

    /// The rate of a work beside its limit L.
    pub async fn rate<W: Work>(
        &self,
        name: &str,
        in_flight: usize,
        work: &Arc<W>,
        limit: &Limit,
        at_least: Option<f64>,
    ) -> Result<Row> {
        let time = self.setting.time;
        let echo = self.echo(work).await?;
        let warm_up = time.min(Duration::from_secs(2));
        load::closed(&echo.callers, work, in_flight, warm_up).await?;
        load::closed(&self.service.callers, work, in_flight, warm_up).await?;
        let mut rates = [const { Vec::new() }; 5];
        let mut times = [const { Vec::new() }; 4];
        for _ in 0..self.setting.rounds {
            let echoed = load::closed(&echo.callers, work, in_flight, time).await?;
            let database = self.rate_alone(limit)?;
            let before = self.cpu()?;
            let served = self.serve(work, in_flight).await?;
            let after = self.cpu()?;
            let l = combined(echoed.rate(), database);
            for (rates, rate) in
                rates
                    .iter_mut()
                    .zip([served.rate(), echoed.rate(), database, l, served.rate() / l])
            {
                rates.push(rate);
            }
            let each = |time: Duration| time.as_secs_f64() * 1e6 / served.calls() as f64;
            for (times, time) in times.iter_mut().zip([
                served.quantile(0.5),
                served.quantile(0.99),
                each(after.0 - before.0),
                each(after.1.saturating_sub(before.1)),
            ]) {
                times.push(time);
            }
        }
        let (memory, peak) = process::memory(self.service.id())?;
        let [rate, echo, database, l, ratio] = rates.map(|rates| Spread::of(&rates));
        let [p50, p99, cpu, database_cpu] = times.map(|times| Spread::of(&times).median);
        Ok(Row {
            rate: Some(rate),
            echo: Some(echo),
            database_alone: Some(database),
            limit: Some(l),
            bar: at_least.map(|least| Bar::at_least(least, " L", ratio.median)),
            ratio: Some(ratio),
            p50: Some(p50),
            p99: Some(p99),
            cpu: Some(cpu),
            database_cpu: matches!(self.data.place, Place::Postgres(..)).then_some(database_cpu),
            memory: Some(memory),
            peak: Some(peak),
            ..self.row(name, in_flight)
        })
    }

    /// The p50 of a work done one at a time, beside what echo and database need together.
    pub async fn one_at_a_time<W: Work>(
        &self,
        name: &str,
        work: &Arc<W>,
        limit: &Limit,
        at_most: f64,
    ) -> Result<Row> {
        let time = self.setting.time;
        let echo = self.echo(work).await?;
        let mut times = [const { Vec::new() }; 6];
        for _ in 0..self.setting.rounds {
            let echoed = load::closed(&echo.callers, work, 1, time).await?;
            let database = self.p50_alone(limit)?;
            let served = self.serve(work, 1).await?;
            let echoed = echoed.quantile(0.5);
            let p50 = served.quantile(0.5);
            let l = echoed + database;
            for (times, time) in
                times
                    .iter_mut()
                    .zip([p50, echoed, database, l, p50 / l, served.quantile(0.99)])
            {
                times.push(time);
            }
        }
        let [p50, echo, database, l, ratio, p99] = times.map(|times| Spread::of(&times));
        Ok(Row {
            echo: Some(echo),
            database_alone: Some(database),
            limit: Some(l),
            bar: Some(Bar::at_most(at_most, " ×", ratio.median)),
            ratio: Some(ratio),
            p50: Some(p50.median),
            p99: Some(p99.median),
            ..self.row(name, 1)
        })
    }

    /// How often a second the database does a work by itself.
    fn rate_alone(&self, limit: &Limit) -> Result<f64> {
        self.alone(|| limit.rate(self.setting.time))
    }

    /// How long the database takes for a work by itself, in microseconds.
    pub fn p50_alone(&self, limit: &Limit) -> Result<f64> {
        self.alone(|| limit.p50(self.setting.time))
    }

    /// PostgreSQL has processes of its own; SQLite works in this one.
    fn alone(&self, work: impl FnOnce() -> Result<f64>) -> Result<f64> {
        match self.data.place {
            Place::Sqlite(_) => self.setting.on_server_cores(work),
            Place::Postgres(..) => work(),
        }
    }

    /// Calls the service in a closed loop.
    pub async fn serve<W: Work>(&self, work: &Arc<W>, in_flight: usize) -> Result<load::Run> {
        load::closed(&self.service.callers, work, in_flight, self.setting.time).await
    }

    /// Stops the service and removes the data it changed.
    pub async fn end(self) -> Result<()> {
        drop(self.service);
        self.data.place.remove().await
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

/// L: how often a second a call can be echoed and its work done one after the other.
fn combined(echo: f64, database: f64) -> f64 {
    1.0 / (1.0 / echo + 1.0 / database)
}

#[cfg(test)]
mod tests {
    use super::combined;

    #[test]
    fn the_limit_is_the_time_of_both_together() {
        assert!((combined(60_000.0, 30_000.0) - 20_000.0).abs() < 1e-6);
    }
}
