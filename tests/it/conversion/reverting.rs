//! Reverting a conversion: within its period, with what the client had before, and what is refused.

use chrono::Duration;
use leadsmith_proto::{self as proto, Lead, LeadState};
use tonic::Code;

use super::{city, create, new_client, person};
use crate::harness::{PASSWORD, convert_into, metadata, reason};
use crate::on_both;

on_both! {
    async fn a_lead_is_open_again_as_it_was(h: Harness) {
        let lead = create(&h.sales, Lead { phone: "1".into(), ..person("Lovelace") }).await;
        h.sales.convert(&lead.id).await.unwrap();
        let request = proto::RevertConversionRequest {
            id: lead.id.clone(),
            validate_only: true,
            ..Default::default()
        };
        let checked = h.sales.leads().revert_conversion(request).await.unwrap().into_inner().lead.unwrap();
        assert_eq!(h.viewer.get(&lead.id).await.state(), LeadState::Converted);
        let reverted = h.sales.revert(&lead.id).await.unwrap();
        let expected = Lead { etag: "\"3\"".into(), update_time: reverted.update_time, ..lead.clone() };
        assert_eq!(reverted, expected);
        assert_eq!(h.viewer.get(&lead.id).await, expected);
        assert_eq!(checked.etag, "\"2\"");
        assert_eq!(Lead { etag: "\"3\"".into(), update_time: reverted.update_time, ..checked }, expected);
        assert_eq!(reason(&h.viewer.client(&lead.id).await.unwrap_err()), "CLIENT_NOT_FOUND");
        let history = h.viewer.history(&lead.id).await;
        assert_eq!(history.len(), 3, "the conversion stays in the history");
        assert_eq!(history[0].rpc, "leadsmith.v1.LeadService/RevertConversion");
        assert_eq!((history[0].changes[0].old_value.as_str(), history[0].changes[0].new_value.as_str()), ("CONVERTED", "OPEN"));
        let events = "SELECT count(*) FROM events WHERE type = 'lead.conversion_reverted'";
        assert_eq!(h.count(events).await, 1);
        // It can be converted again, to a client of its own or into another one.
        h.sales.convert(&lead.id).await.unwrap();
    }

    async fn the_client_gets_back_what_it_had(h: Harness) {
        let client = new_client(&h.sales, Lead {
            phone: "1".into(),
            email: "old@example.com".into(),
            custom_fields: [("a".into(), "1".into())].into(),
            ..person("Lovelace")
        }).await;
        let lead = create(&h.sales, Lead {
            first_name: "Ada".into(),
            phone: "2".into(),
            email: "new@example.com".into(),
            address: city("London"),
            custom_fields: [("a".into(), "2".into()), ("b".into(), "2".into())].into(),
            ..person("Byron")
        }).await;
        let mut request = convert_into(&lead.id, &client.id, &["phone", "email", "custom_fields.a"]);
        request.current_password = PASSWORD.into();
        h.sales.leads().convert(request).await.unwrap();
        // No password: it is the email that it had.
        h.sales.revert(&lead.id).await.unwrap();
        let after = h.viewer.client(&client.id).await.unwrap();
        let expected = proto::Client { etag: "\"4\"".into(), update_time: after.update_time, ..client.clone() };
        assert_eq!(after, expected);
        let left = "SELECT count(*) FROM events WHERE type = 'client.lead_left'";
        assert_eq!(h.count(left).await, 1);
        let kept = "SELECT count(*) FROM leads WHERE conversion_carried IS NOT NULL OR joined_lead_ids IS NOT NULL \
                    OR conversion_client_id IS NOT NULL";
        assert_eq!(h.count(kept).await, 0);
        let history = h.viewer.history(&client.id).await;
        let last = history[0].changes.last().unwrap();
        assert_eq!((last.field.as_str(), last.old_value.as_str(), last.new_value.as_str()), ("lead_ids", lead.id.as_str(), ""));
    }

    async fn what_another_lead_has_changed_since_stays(h: Harness) {
        let client = new_client(&h.sales, person("Lovelace")).await;
        let lead = |phone: &str, fax: &str| Lead { phone: phone.into(), fax: fax.into(), ..person("Byron") };
        let first = create(&h.sales, lead("1", "1")).await;
        let second = create(&h.sales, lead("2", "2")).await;
        h.sales.convert_into(&first.id, &client.id, &[]).await.unwrap();
        h.sales.convert_into(&second.id, &client.id, &["phone"]).await.unwrap();
        h.sales.revert(&first.id).await.unwrap();
        let after = h.viewer.client(&client.id).await.unwrap();
        assert_eq!((after.phone.as_str(), after.fax.as_str()), ("2", ""));
        assert_eq!(after.lead_ids, [second.id]);
    }

    async fn a_lead_that_is_no_client_has_nothing_to_revert(h: Harness) {
        let lead = create(&h.sales, person("Lovelace")).await;
        for state in ["OPEN", "DEACTIVATED"] {
            let refused = h.sales.revert(&lead.id).await.unwrap_err();
            assert_eq!((reason(&refused).as_str(), refused.code()), ("LEAD_NOT_CONVERTED", Code::FailedPrecondition));
            assert_eq!(metadata(&refused, "current_state"), state);
            h.sales.deactivate(&lead.id).await.ok();
        }
        let refused = h.sales.revert("01900000-0000-7000-8000-000000000009").await.unwrap_err();
        assert_eq!(reason(&refused), "LEAD_NOT_FOUND");
        let lead = create(&h.sales, person("Lovelace")).await;
        h.sales.convert(&lead.id).await.unwrap();
        let stale = proto::RevertConversionRequest { id: lead.id.clone(), etag: lead.etag, ..Default::default() };
        assert_eq!(reason(&h.sales.leads().revert_conversion(stale).await.unwrap_err()), "ETAG_MISMATCH");
        h.admin.erase(&lead.id).await.unwrap();
        assert_eq!(reason(&h.sales.revert(&lead.id).await.unwrap_err()), "LEAD_ERASED");
    }

    async fn a_conversion_on_which_something_was_built_is_settled(h: Harness) {
        let settled = async |id: &str, cause: &str, key: &str| {
            let before = h.viewer.get(id).await;
            let refused = h.sales.revert(id).await.unwrap_err();
            assert_eq!((reason(&refused).as_str(), refused.code()), ("CONVERSION_SETTLED", Code::FailedPrecondition));
            assert_eq!((metadata(&refused, "cause").as_str(), metadata(&refused, "lead_id").as_str()), (cause, id));
            assert_eq!(h.viewer.get(id).await, before);
            metadata(&refused, key)
        };
        // An order that is COMPLETE, of whatever kind.
        let lead = create(&h.sales, person("Sold")).await;
        let order = h.sales.create_order(&lead.id, Vec::new()).await;
        h.sales.convert(&lead.id).await.unwrap();
        h.sales.skip(&order.id, "provision-client").await.unwrap();
        assert_eq!(settled(&lead.id, "order_complete", "order_id").await, order.id);
        let undo = proto::UndoSkipRequest {
            order_id: order.id,
            action: "provision-client".into(),
            ..Default::default()
        };
        h.sales.orders().undo_skip(undo).await.unwrap();
        h.sales.revert(&lead.id).await.expect("it is PROCESSING again");

        // Another lead that was joined to it.
        let client = new_client(&h.sales, person("Client")).await;
        let lead = create(&h.sales, person("Lead")).await;
        h.sales.convert_into(&lead.id, &client.id, &[]).await.unwrap();
        assert_eq!(settled(&client.id, "joined", "joined_lead_id").await, lead.id);
        h.sales.revert(&lead.id).await.unwrap();
        h.sales.revert(&client.id).await.expect("nothing is joined any more");
    }

    async fn a_conversion_is_settled_after_its_period(h: Harness) {
        let (lead, other) = (create(&h.sales, person("Lead")).await, create(&h.sales, person("Other")).await);
        let robot = h.service_account("crm", leadsmith::core::role::Role::Sales).await;
        robot.convert(&lead.id).await.unwrap();
        robot.convert(&other.id).await.unwrap();
        h.clock.advance(Duration::days(7) - Duration::minutes(1));
        robot.revert(&other.id).await.expect("just in time");
        h.clock.advance(Duration::minutes(2));
        let refused = robot.revert(&lead.id).await.unwrap_err();
        assert_eq!((reason(&refused), metadata(&refused, "cause")), ("CONVERSION_SETTLED".into(), "period".into()));
        assert!(metadata(&refused, "end_time").starts_with("20"));

        // The administrator decides how long, or that there is none.
        let longer = h.another_server(|settings| settings.limits.revert_period = 36_500).await;
        let never = h.another_server(|settings| settings.limits.revert_period = 0).await;
        let refused = robot.at(&never).revert(&lead.id).await.unwrap_err();
        assert_eq!((reason(&refused), metadata(&refused, "cause")), ("CONVERSION_SETTLED".into(), "period".into()));
        robot.at(&longer).revert(&lead.id).await.unwrap();
        longer.stop().await.unwrap();
        never.stop().await.unwrap();
    }

    async fn a_clock_that_ran_ahead_prolongs_no_period(h: Harness) {
        let lead = create(&h.sales, person("Lead")).await;
        let robot = h.service_account("crm", leadsmith::core::role::Role::Sales).await;
        h.clock.set_wrong(Duration::days(3_650));
        robot.convert(&lead.id).await.unwrap();
        h.clock.set_wrong(Duration::zero());
        let refused = robot.revert(&lead.id).await.unwrap_err();
        assert_eq!(metadata(&refused, "cause"), "period");
    }

    async fn after_a_reversal_an_action_that_is_done_stays_done(h: Harness) {
        let lead = create(&h.sales, person("Lead")).await;
        let action = |key: &str, r#type: proto::ActionType| proto::OrderAction {
            key: key.into(),
            r#type: r#type.into(),
            repeatable: key == "again",
            ..Default::default()
        };
        let provision = proto::ActionType::ProvisionClient;
        let actions = vec![action("once", provision), action("again", provision), action("check", proto::ActionType::Manual)];
        let order = h.sales.create_order(&lead.id, actions).await;
        h.sales.run(&order.id, "once").await.unwrap();
        h.sales.run(&order.id, "again").await.unwrap();
        h.sales.revert(&lead.id).await.unwrap();
        assert_eq!(reason(&h.sales.run(&order.id, "once").await.unwrap_err()), "ACTION_DONE");
        let ran = h.sales.run(&order.id, "again").await.unwrap();
        assert_eq!(ran.lead.unwrap().state(), LeadState::Converted);
        assert!(!ran.run.unwrap().no_change && ran.report.is_some());
    }
}
