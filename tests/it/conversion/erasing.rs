//! Erasing a client to which leads are joined, and a lead that is joined to a client.

use leadsmith_proto::{Client, Lead};

use super::{create, new_client, person};
use crate::harness::{Harness, reason};
use crate::leads::erase::stored;
use crate::on_both;

/// A client with a phone that the lead's phone overwrote, and a fax of its own.
async fn joined(h: &Harness) -> (Lead, Client) {
    let client = Lead {
        phone: "phone-of-client".into(),
        fax: "fax-of-client".into(),
        ..person("Name-of-client")
    };
    let lead = Lead {
        phone: "phone-of-lead".into(),
        fax: "fax-of-lead".into(),
        source: "source-of-lead".into(),
        ..person("Name-of-lead")
    };
    let client = new_client(&h.sales, client).await;
    let lead = create(&h.sales, lead).await;
    let paths = ["phone"];
    let answer = h.sales.convert_into(&lead.id, &client.id, &paths).await;
    let answer = answer.unwrap();
    let carried = "SELECT count(*) FROM leads WHERE conversion_carried IS NOT NULL";
    assert_eq!(h.count(carried).await, 1);
    (answer.lead.unwrap(), answer.client.unwrap())
}

const CARRIED: &str = "SELECT count(*) FROM leads WHERE conversion_carried IS NOT NULL";

on_both! {
    async fn of_an_erased_client_nothing_remains_in_the_leads_that_were_joined_to_it(h: Harness) {
        let (lead, client) = joined(&h).await;
        let erased = h.admin.erase(&client.id).await.unwrap();
        assert_eq!(h.count(CARRIED).await, 0);
        let all = stored(&h).await;
        for said in ["phone-of-client", "fax-of-client", "Name-of-client", "name-of-client"] {
            assert!(!all.contains(said), "{said}");
        }
        // The lead is as it was, and the client answers with what is left.
        assert_eq!(h.viewer.get(&lead.id).await, lead);
        let left = h.viewer.client(&client.id).await.unwrap();
        assert_eq!((left.erasure.as_ref(), left.phone.as_str()), (erased.erasure.as_ref(), ""));
        assert_eq!(left.lead_ids, std::slice::from_ref(&lead.id));
        // Its conversion can still be reverted, and nothing is restored in the client.
        let reverted = h.sales.revert(&lead.id).await.unwrap();
        assert_eq!((reverted.phone.as_str(), reverted.conversion), ("phone-of-lead", None));
        let after = h.viewer.client(&client.id).await.unwrap();
        let expected = Client {
            lead_ids: Vec::new(),
            etag: after.etag.clone(),
            update_time: after.update_time,
            ..left
        };
        assert_eq!(after, expected);
    }

    async fn of_an_erased_lead_the_client_keeps_what_it_got_and_nothing_else_remains(h: Harness) {
        let (lead, client) = joined(&h).await;
        let erased = h.admin.erase(&lead.id).await.unwrap();
        assert_eq!(h.count(CARRIED).await, 0);
        let all = stored(&h).await;
        for said in ["fax-of-lead", "Name-of-lead", "name-of-lead"] {
            assert!(!all.contains(said), "{said}");
        }
        let after = h.viewer.client(&client.id).await.unwrap();
        assert_eq!(after, client, "what it got is its own");
        assert_eq!((after.phone.as_str(), after.source.as_str()), ("phone-of-lead", "source-of-lead"));
        assert_eq!(h.viewer.get(&lead.id).await, erased);
        assert_eq!(erased.conversion.unwrap().client_id, client.id);
        assert_eq!(reason(&h.sales.revert(&lead.id).await.unwrap_err()), "LEAD_ERASED");

        h.admin.erase(&client.id).await.unwrap();
        let all = stored(&h).await;
        for said in ["phone-of-lead", "source-of-lead", "phone-of-client", "fax-of-client", "of-client"] {
            assert!(!all.contains(said), "{said}");
        }
    }
}
