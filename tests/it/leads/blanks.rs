//! Invisible text, and line ends.

use leadsmith_proto::{self as proto, Address, Lead};

use super::{complete, edit, named};
use crate::harness::violations;
use crate::on_both;

/// Invisible characters, alone and together.
const BLANK: [&str; 12] = [
    " ",
    "\t\r\n",
    "\u{a0}\u{3000}",
    "\u{200b}",
    "\u{feff}",
    "\u{2800}",
    "\u{3164}",
    "\u{ffa0}",
    "\u{115f}\u{1160}",
    "\u{17b4}\u{17b5}",
    "\u{e0041}\u{fe0f}",
    " \u{200d}\u{2060} \u{ad}\u{202e}",
];

/// A lead whose every text is `value`, including its custom fields.
fn all(value: &str) -> Lead {
    let value = || value.to_owned();
    Lead {
        first_name: value(),
        last_name: value(),
        company: value(),
        email: value(),
        phone: value(),
        fax: value(),
        vat_id: value(),
        address: Some(Address {
            street: value(),
            city: value(),
            region: value(),
            postal_code: value(),
            country_code: value(),
        }),
        language: value(),
        owner_id: value(),
        source: value(),
        custom_fields: ["tier", "seats", "new"]
            .map(|key| (key.to_owned(), value()))
            .into(),
        ..Lead::default()
    }
}

on_both! {
    async fn what_shows_nothing_is_no_name(h: Harness) {
        let lead = h.sales.create_lead("Hopper").await;
        for blank in BLANK {
            let refused = h.sales.create(all(blank)).await.unwrap_err();
            assert_eq!(violations(&refused)[0].0, "lead", "{blank:?}");
            let renamed = edit(&lead.id, |lead| lead.last_name = blank.into());
            let refused = h.sales.update(renamed, &["last_name"]).await.unwrap_err();
            assert_eq!(violations(&refused)[0].0, "lead", "{blank:?}");
        }
        assert_eq!(h.sales.get(&lead.id).await, lead);
        // They are part of words and of emoji.
        for name in ["می\u{200c}خواهم", "👩\u{200d}🔬", "\u{2800}⠁"] {
            assert_eq!(h.sales.create_lead(name).await.last_name, name);
        }
    }

    async fn what_shows_nothing_is_stored_as_nothing(h: Harness) {
        for blank in BLANK {
            let created = h.sales.create(Lead { last_name: "Ada".into(), ..all(blank) }).await;
            let created = created.unwrap();
            let expected = Lead { last_name: "Ada".into(), ..Lead::default() };
            assert_eq!(created.custom_fields, expected.custom_fields, "{blank:?}");
            assert_eq!(created.address, None, "{blank:?}");
            assert_eq!((created.phone.as_str(), created.source.as_str()), ("", ""), "{blank:?}");
            let entry = &h.sales.history(&created.id).await[0];
            let fields: Vec<&str> = entry.changes.iter().map(|change| change.field.as_str()).collect();
            assert_eq!(fields, ["last_name", "state"], "{blank:?}");
        }
    }

    async fn without_a_mask_a_blank_field_stays_as_it_is(h: Harness) {
        let before = h.sales.create(complete("")).await.unwrap();
        for blank in BLANK {
            let update = Lead { id: before.id.clone(), ..all(blank) };
            let after = h.sales.update(update, &[]).await.unwrap();
            assert_eq!(after, before, "{blank:?}");
        }
        let update = Lead { id: before.id.clone(), fax: "2".into(), ..all(" ") };
        let after = h.sales.update(update, &[]).await.unwrap();
        assert_eq!(after.fax, "2");
        assert_eq!((after.phone, after.custom_fields), (before.phone, before.custom_fields));
    }

    async fn with_a_mask_a_blank_field_is_cleared(h: Harness) {
        for blank in ["", " ", "\u{200b}"] {
            let lead = Lead { email: String::new(), ..complete("") };
            let before = h.sales.create(lead).await.unwrap();
            let update = Lead { id: before.id.clone(), ..all(blank) };
            let paths = ["phone", "address.city", "custom_fields.tier", "custom_fields.new"];
            let after = h.sales.update(update.clone(), &paths).await.unwrap();
            assert_eq!(after.phone, "");
            assert_eq!(after.address.as_ref().unwrap().city, "");
            assert_eq!(after.custom_fields.keys().collect::<Vec<_>>(), ["seats"]);
            let entry = &h.sales.history(&before.id).await[0];
            let fields: Vec<&str> = entry.changes.iter().map(|change| change.field.as_str()).collect();
            assert_eq!(fields, ["phone", "address.city", "custom_fields.tier"], "{blank:?}");

            let again = h.sales.update(update, &paths).await.unwrap();
            assert_eq!(again, after, "nothing is left to clear");
            assert_eq!(h.sales.history(&before.id).await.len(), 2);
        }
    }

    async fn a_custom_field_that_is_set_to_nothing_is_no_change(h: Harness) {
        let lead = h.sales.create(named()).await.unwrap();
        for (paths, value) in [
            (&["custom_fields.tier"][..], ""),
            (&["custom_fields"], ""),
            (&["custom_fields"], " \n"),
            (&[], ""),
        ] {
            let change = edit(&lead.id, |lead| {
                lead.custom_fields.insert("tier".into(), value.into());
            });
            let after = h.sales.update(change, paths).await.unwrap();
            assert_eq!(after, lead, "{paths:?} {value:?}");
        }
        assert_eq!(h.sales.history(&lead.id).await.len(), 1);
    }

    async fn every_line_ends_in_a_line_feed(h: Harness) {
        let given = Lead {
            company: "one\r\ntwo\rthree\n\r\nfour\r\n".into(),
            address: Some(Address { street: "1\r\n2".into(), ..Address::default() }),
            custom_fields: [("note".to_owned(), "a\r\nb\rc\r\n".to_owned())].into(),
            ..Lead::default()
        };
        let lead = h.sales.create(given.clone()).await.unwrap();
        assert_eq!(lead.company, "one\ntwo\nthree\n\nfour");
        assert_eq!(lead.address.as_ref().unwrap().street, "1\n2");
        assert_eq!(lead.custom_fields["note"], "a\nb\nc\n");
        let same = h.sales.update(Lead { id: lead.id.clone(), ..given }, &["*"]).await.unwrap();
        assert_eq!(same, lead, "the same text, so no change");

        let source = edit(&lead.id, |lead| lead.source = "a\r\nb".into());
        h.sales.update(source, &["source"]).await.unwrap();
        let list = proto::ListLeadsRequest { source: "a\r\nb".into(), ..Default::default() };
        assert_eq!(h.sales.leads().list(list).await.unwrap().into_inner().leads.len(), 1);
        let search = proto::SearchLeadsRequest { query: "ONE\r\nTWO".into(), ..Default::default() };
        assert_eq!(h.sales.leads().search(search).await.unwrap().into_inner().leads.len(), 1);
        let request = proto::DeactivateLeadRequest {
            id: lead.id.clone(),
            reason: "too\r\nsmall".into(),
            ..Default::default()
        };
        let lead = h.sales.leads().deactivate(request).await.unwrap().into_inner().lead.unwrap();
        assert_eq!(lead.deactivation.unwrap().reason, "too\nsmall");
    }
}
