//! `DashboardService.Get`: its figures are those that anybody would count, in every time zone.

mod desk;
mod naive;
mod plain;

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use leadsmith_proto::{self as proto, Dashboard, GetDashboardRequest, Lead, LeadState};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::harness::{Backend, Caller, Harness, metadata, reason, violations};
use crate::on_both;
use crate::order_queues;
use desk::Desk;
use naive::{Asked, Queues};

pub async fn get(caller: &Caller, request: GetDashboardRequest) -> Result<Dashboard, Status> {
    let answer = caller.dashboards().get(request).await?;
    Ok(answer.into_inner().dashboard.unwrap())
}

/// The figures of everybody for the last 30 days.
async fn usual(h: &Harness) -> Dashboard {
    get(&h.viewer, GetDashboardRequest::default())
        .await
        .unwrap()
}

/// The figures without what depends on the time of the call, after a check of it.
fn timeless(mut dashboard: Dashboard) -> Dashboard {
    let micros = |seconds: i64, nanos: i32| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let read = dashboard.read_time.take().unwrap();
    for step in &mut dashboard.orders_by_step {
        let (oldest, age) = (
            step.oldest_create_time.unwrap(),
            step.oldest_age.take().unwrap(),
        );
        let expected = micros(read.seconds, read.nanos) - micros(oldest.seconds, oldest.nanos);
        assert_eq!(micros(age.seconds, age.nanos), expected.max(0));
    }
    dashboard
}

fn leads(dashboard: &Dashboard) -> Vec<i64> {
    let states = [
        LeadState::Open,
        LeadState::Deactivated,
        LeadState::Converted,
    ];
    let listed: Vec<LeadState> = dashboard
        .leads_by_state
        .iter()
        .map(proto::LeadStateCount::state)
        .collect();
    assert_eq!(listed, states);
    dashboard
        .leads_by_state
        .iter()
        .map(|one| one.leads)
        .collect()
}

fn time(time: Option<prost_types::Timestamp>) -> DateTime<Utc> {
    let time = time.unwrap();
    DateTime::from_timestamp(time.seconds, time.nanos.try_into().unwrap()).unwrap()
}

/// Zones with the periods that are compared: both changes of the clocks are in the year, and each period ends or begins
/// at one or is within it.
const PERIODS: [(&str, &str, &str); 18] = [
    ("UTC", "2026-01-01", "2026-12-31"),
    ("America/New_York", "2026-01-01", "2026-12-31"),
    ("America/New_York", "2026-03-08", "2026-03-08"),
    ("America/New_York", "2026-10-31", "2026-11-01"),
    ("Europe/Berlin", "2026-03-28", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25", "2026-11-24"),
    ("Australia/Lord_Howe", "2026-01-01", "2026-12-31"),
    ("Australia/Lord_Howe", "2026-04-05", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-10-04", "2026-10-04"),
    ("Asia/Kathmandu", "2026-12-31", "2027-01-02"),
    ("America/Santiago", "2026-01-01", "2026-12-31"),
    ("America/Santiago", "2026-04-04", "2026-04-05"),
    ("America/Santiago", "2026-09-05", "2026-09-06"),
    ("Asia/Beirut", "2026-03-28", "2026-03-29"),
    ("Asia/Beirut", "2026-10-24", "2026-10-25"),
    ("Pacific/Kiritimati", "2025-12-20", "2026-01-10"),
    ("Pacific/Pago_Pago", "2026-02-28", "2026-03-31"),
    ("Europe/Berlin", "2031-01-01", "2031-01-31"),
];

on_both! {
    async fn the_figures_are_those_of_a_loop_over_ten_thousand_leads_and_of_plain_sql(h: Harness) {
        let queue = order_queues::new("Hosting", &["sign", "build", "bill"], Vec::new());
        let queue = order_queues::create(&h.admin, queue).await.unwrap();
        let default: Uuid = order_queues::DEFAULT.parse().unwrap();
        let hosting: Uuid = queue.id.parse().unwrap();
        let steps = [
            (default, "processing"),
            (hosting, "bill"),
            (hosting, "sign"),
            // The queue had it once.
            (hosting, "audit"),
        ];
        let owners = [h.admin.id, h.sales.id, h.viewer.id];
        let desk = Desk::random(10_000, &owners, &steps);
        let db = h.database.connect().await;
        desk.load(&db).await;
        let names = ["admin", "sales", "viewer"].map(str::to_owned);
        let names: HashMap<String, String> = owners.iter().map(Uuid::to_string).zip(names).collect();
        let known = queue.steps.iter().map(|step| (step.key.clone(), step.name.clone()));
        let queues: Queues = vec![
            (default, "default".into(), vec![("processing".into(), "Processing".into())]),
            (hosting, "Hosting".into(), known.collect()),
        ];
        for (zone, first, last) in PERIODS {
            for owner_id in ["".to_owned(), h.sales.id.to_string()] {
                let request = GetDashboardRequest {
                    time_zone: zone.into(),
                    first_day: first.into(),
                    last_day: last.into(),
                    owner_id: owner_id.clone(),
                };
                let asked = Asked {
                    zone,
                    first: first.parse().unwrap(),
                    last: last.parse().unwrap(),
                    owner_id: &owner_id,
                };
                let dashboard = timeless(get(&h.viewer, request).await.unwrap());
                let expected = naive::count(&desk, &asked, &names, &queues);
                assert_eq!(dashboard, expected, "{zone} {first} {last} {owner_id}");
                if h.database.backend == Backend::Postgres {
                    plain::check(&db, &asked, &dashboard).await;
                }
            }
        }
    }

    async fn without_anything_everything_is_zero(h: Harness) {
        let before = h.clock.now();
        let dashboard = usual(&h).await;
        let read = time(dashboard.read_time);
        assert!(before <= read && read <= h.clock.now());
        let today = read.date_naive();
        let first = today - chrono::Days::new(29);
        assert_eq!(dashboard.time_zone, "UTC");
        assert_eq!((dashboard.first_day.clone(), dashboard.last_day.clone()), (first.to_string(), today.to_string()));
        assert_eq!(leads(&dashboard), [0, 0, 0]);
        let days: Vec<NaiveDate> = first.iter_days().take(30).collect();
        let listed: Vec<NaiveDate> = dashboard.conversions_by_day.iter().map(|day| day.first_day.parse().unwrap()).collect();
        assert_eq!(listed, days);
        assert!(dashboard.conversions_by_day.iter().all(|day| day.conversions == 0 && !day.partial));
        assert_eq!(dashboard.open_opportunities.len(), 4);
        assert!(dashboard.open_opportunities.iter().all(|stage| stage.opportunities == 0 && stage.amounts.is_empty()));
        let nothing = Dashboard {
            read_time: dashboard.read_time,
            time_zone: dashboard.time_zone.clone(),
            first_day: dashboard.first_day.clone(),
            last_day: dashboard.last_day.clone(),
            leads_by_state: dashboard.leads_by_state.clone(),
            open_opportunities: dashboard.open_opportunities.clone(),
            conversions_by_day: dashboard.conversions_by_day.clone(),
            conversions_by_week: dashboard.conversions_by_week.clone(),
            conversions_by_month: dashboard.conversions_by_month.clone(),
            ..Dashboard::default()
        };
        assert_eq!(dashboard, nothing);
    }

    async fn a_conversion_counts_until_it_is_reverted(h: Harness) {
        let [own, joined, deactivated] = ["Lovelace", "Byron", "Babbage"];
        let own = h.sales.create(Lead {
            last_name: own.into(),
            source: "Fair".into(),
            owner_id: h.sales.id.to_string(),
            ..Lead::default()
        }).await.unwrap();
        let joined = h.sales.create_lead(joined).await;
        let deactivated = h.sales.create_lead(deactivated).await;
        h.sales.deactivate(&deactivated.id).await.unwrap();
        h.sales.convert(&own.id).await.unwrap();
        h.sales.convert_into(&joined.id, &own.id, &[]).await.unwrap();
        let both = usual(&h).await;
        assert_eq!(leads(&both), [0, 1, 2]);
        assert_eq!(both.conversions, 2, "a lead that was joined to a client counts too");
        assert!(both.median_time_to_conversion.is_some());
        let sources: Vec<_> = both.conversion_by_source.iter().map(|one| (one.source.as_str(), one.leads, one.converted)).collect();
        assert_eq!(sources, [("", 2, 1), ("Fair", 1, 1)]);
        let owners: Vec<_> = both.conversion_by_owner.iter().map(|one| (one.owner_name.as_str(), one.leads, one.rate)).collect();
        assert_eq!(owners, [("", 2, 0.5), ("sales", 1, 1.0)]);

        h.sales.revert(&joined.id).await.unwrap();
        let one = usual(&h).await;
        assert_eq!((leads(&one), one.conversions), (vec![1, 1, 1], 1));

        h.admin.erase(&own.id).await.unwrap();
        let erased = usual(&h).await;
        assert_eq!((leads(&erased), erased.conversions), (vec![1, 1, 1], 1), "an erased lead still counts");
        let sources: Vec<_> = erased.conversion_by_source.iter().map(|one| (one.source.as_str(), one.leads)).collect();
        assert_eq!(sources, [("", 3)]);
    }

    async fn an_owner_has_figures_of_their_own(h: Harness) {
        let mine = h.sales.create(Lead {
            last_name: "Lovelace".into(),
            owner_id: h.sales.id.to_string(),
            ..Lead::default()
        }).await.unwrap();
        h.sales.create_lead("Byron").await;
        h.sales.create_sale(&mine.id, "Engine").await;
        let request = |owner_id: &str| GetDashboardRequest { owner_id: owner_id.into(), ..Default::default() };
        let own = get(&h.viewer, request(&h.sales.id.to_string())).await.unwrap();
        assert_eq!(own.owner_id, h.sales.id.to_string());
        assert_eq!(leads(&own), [1, 0, 0]);
        let of_stage = |dashboard: &Dashboard| dashboard.open_opportunities[0].opportunities;
        assert_eq!((of_stage(&own), of_stage(&usual(&h).await)), (0, 1), "the opportunity has no owner");
        assert_eq!(own.conversion_by_owner.len(), 1);
        assert_eq!(own.conversion_by_owner[0].owner_name, "sales");
        let nobody = Uuid::now_v7();
        let refused = get(&h.viewer, request(&nobody.to_string())).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused)), (Code::NotFound, "OPERATOR_NOT_FOUND".into()));
        assert_eq!(metadata(&refused, "operator_id"), nobody.to_string());
    }

    async fn what_is_no_period_of_a_zone_is_refused(h: Harness) {
        let request = |time_zone: &str, first_day: &str, last_day: &str| GetDashboardRequest {
            time_zone: time_zone.into(),
            first_day: first_day.into(),
            last_day: last_day.into(),
            owner_id: String::new(),
        };
        for (zone, first, last, fields) in [
            ("Europe/Atlantis", "", "", &["time_zone"][..]),
            ("+02:00", "", "", &["time_zone"]),
            (&"x".repeat(60_000), "", "", &["time_zone"]),
            ("", "2026-02-30", "2026-3-1", &["first_day", "last_day"]),
            ("nowhere", "yesterday", "", &["time_zone", "first_day"]),
            ("", "2026-03-02", "2026-03-01", &["first_day"]),
            ("", "9999-12-31", "", &["first_day"]),
            ("Asia/Kathmandu", "2024-01-01", "2025-01-01", &["first_day"]),
        ] {
            let refused = get(&h.viewer, request(zone, first, last)).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            let named: Vec<String> = violations(&refused).into_iter().map(|(field, _)| field).collect();
            assert_eq!(named, fields, "{first} {last}: {refused:?}");
        }
        let wrong_owner = GetDashboardRequest { owner_id: "me".into(), ..request("Mars", "", "") };
        let refused = get(&h.viewer, wrong_owner).await.unwrap_err();
        assert_eq!(violations(&refused).len(), 2);
        for (zone, first, last, days) in [
            ("europe/berlin", "2024-01-01", "2024-12-31", 366),
            ("Pacific/Kiritimati", "0001-01-01", "0001-01-31", 31),
            ("Pacific/Pago_Pago", "9999-12-01", "9999-12-31", 31),
            ("", "", "0001-01-02", 2),
        ] {
            let dashboard = get(&h.viewer, request(zone, first, last)).await.unwrap();
            assert_eq!(dashboard.conversions_by_day.len(), days, "{zone}");
            assert_eq!(dashboard.last_day, last);
        }
        let berlin = get(&h.viewer, request("EUROPE/berlin", "", "")).await.unwrap();
        assert_eq!(berlin.time_zone, "Europe/Berlin");
    }

    async fn no_change_waits_for_it_and_it_waits_for_no_change(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let held = h.hold_changes().await;
        assert_eq!(leads(&usual(&h).await), [1, 0, 0]);
        held.release().await;
        h.sales.convert(&lead.id).await.unwrap();
        assert_eq!(leads(&usual(&h).await), [0, 0, 1]);
    }
}
