//! `DashboardService`: conversion between messages and domain types.

mod render;

use tonic::{Request, Response, Status};

use super::model::{MAX_DAYS, Period, PeriodError, Zone};
use super::{Dashboards, Query};
use crate::core::bounded::Echo;
use crate::core::violations::{Reason, Violations};
use crate::error::Error;
use crate::grpc::{self, read};
use leadsmith_proto::{self as proto, dashboard_service_server::DashboardService};

/// The maximum number of bytes of the name of a time zone, of which none has half as many.
const MAX_ZONE: usize = 100;

/// See `dashboard_service.proto`.
pub struct DashboardApi {
    /// The use cases.
    pub dashboards: Dashboards,
}

#[tonic::async_trait]
impl DashboardService for DashboardApi {
    async fn get(
        &self,
        request: Request<proto::GetDashboardRequest>,
    ) -> Result<Response<proto::GetDashboardResponse>, Status> {
        let (call, body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let period = self.period(&mut violations, &body);
        let owner_id = read::optional_id(&mut violations, "owner_id", &body.owner_id);
        violations.finish()?;
        // Without a violation there is a period.
        let period = period.ok_or_else(|| Error::internal("a request without a period"))?;
        let query = Query {
            principal: call.principal.id,
            period,
            owner_id,
        };
        let dashboard = self.dashboards.get(query).await?;
        Ok(Response::new(proto::GetDashboardResponse {
            dashboard: Some(render::dashboard(dashboard)),
        }))
    }
}

impl DashboardApi {
    fn period(
        &self,
        violations: &mut Violations,
        body: &proto::GetDashboardRequest,
    ) -> Option<Period> {
        let zone = zone(violations, &body.time_zone);
        let first = read::date(violations, "first_day", &body.first_day);
        let last = read::date(violations, "last_day", &body.last_day);
        let is_unreadable = (first.is_none() && !body.first_day.is_empty())
            || (last.is_none() && !body.last_day.is_empty());
        let zone = zone.filter(|_| !is_unreadable)?;
        let today = zone.day(self.dashboards.now());
        match Period::new(zone, first, last, today) {
            Ok(period) => Some(period),
            Err(PeriodError::Reversed) => {
                let problem = "must not be after last_day, which is today if it is empty";
                violations.add("first_day", Reason::OutOfRange, problem);
                None
            }
            Err(PeriodError::TooLong) => {
                let problem = format_args!(
                    "must be at most {} days before last_day: a period has at most {MAX_DAYS} days",
                    MAX_DAYS - 1
                );
                violations.add("first_day", Reason::OutOfRange, problem);
                None
            }
        }
    }
}

fn zone(violations: &mut Violations, name: &str) -> Option<Zone> {
    let zone = Some(name).filter(|name| name.len() <= MAX_ZONE);
    let zone = zone.and_then(Zone::named);
    if zone.is_none() {
        let problem = format_args!(
            "is {}, which is no name in the IANA time zone database: send one such as Europe/Berlin, or nothing for UTC",
            Echo(name)
        );
        violations.add("time_zone", Reason::ValueUnknown, problem);
    }
    zone
}
