//! The report of a conversion names the leads that look like the converted one.

use leadsmith_proto::{
    self as proto, ConversionReport, Lead, LeadState, LookAlike, OrderAction, SharedField,
};

use crate::harness::{Caller, convert_into};
use crate::on_both;

async fn create(caller: &Caller, last_name: &str, phone: &str) -> Lead {
    let lead = Lead {
        last_name: last_name.into(),
        phone: phone.into(),
        company: "Engines".into(),
        ..Lead::default()
    };
    caller.create(lead).await.unwrap()
}

async fn report(caller: &Caller, request: proto::ConvertLeadRequest) -> ConversionReport {
    let answer = caller.leads().convert(request).await.unwrap();
    answer.into_inner().report.unwrap()
}

fn look_alike(lead: &Lead, state: LeadState, shared: &[SharedField]) -> LookAlike {
    LookAlike {
        lead_id: lead.id.clone(),
        state: state.into(),
        shared: shared.iter().map(|shared| i32::from(*shared)).collect(),
    }
}

on_both! {
    async fn the_report_names_them_newest_first(h: Harness) {
        let sales = &h.sales;
        let lead = create(sales, "Lovelace", "+44 20 7946 0018").await;
        let phone = create(sales, "Byron", "020 7946 0018").await;
        let name = create(sales, "lovelace", "").await;
        create(sales, "Babbage", "+44 20 7946 0019").await;
        let both = create(sales, "LOVELACE", "0044 (20) 79460018").await;
        h.sales.deactivate(&name.id).await.unwrap();
        let expected = [
            look_alike(&both, LeadState::Open, &[SharedField::Phone, SharedField::CompanyAndName]),
            look_alike(&name, LeadState::Deactivated, &[SharedField::CompanyAndName]),
        ];
        assert_ne!(phone.id, lead.id, "a number without the country is another one");
        let tried = proto::ConvertLeadRequest { id: lead.id.clone(), validate_only: true, ..Default::default() };
        assert_eq!(report(sales, tried).await.look_alikes, expected);
        // The client that it is joined to is not named.
        let client = sales.convert(&both.id).await.unwrap().lead.unwrap();
        let joined = report(sales, convert_into(&lead.id, &client.id, &[])).await;
        assert_eq!(joined.look_alikes, expected[1..]);
    }

    async fn an_orders_action_reports_them_too(h: Harness) {
        let lead = create(&h.sales, "Lovelace", "123").await;
        let other = create(&h.sales, "Byron", "1-2-3").await;
        let order = h.sales.create_order(&lead.id, Vec::<OrderAction>::new()).await;
        let ran = h.sales.run(&order.id, "provision-client").await.unwrap();
        let expected = [look_alike(&other, LeadState::Open, &[SharedField::Phone])];
        assert_eq!(ran.report.unwrap().look_alikes, expected);
    }

    async fn at_most_20_are_named(h: Harness) {
        let mut leads = Vec::new();
        for _ in 0..22 {
            leads.push(create(&h.sales, "Lovelace", "12345").await);
        }
        let request = proto::ConvertLeadRequest { id: leads[0].id.clone(), ..Default::default() };
        let found = report(&h.sales, request).await.look_alikes;
        let ids: Vec<&str> = found.iter().map(|other| other.lead_id.as_str()).collect();
        let newest: Vec<&str> = leads.iter().rev().take(20).map(|lead| lead.id.as_str()).collect();
        assert_eq!(ids, newest);
    }
}
