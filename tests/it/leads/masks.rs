//! Update masks: which fields an update changes, and which it leaves alone.

use std::collections::BTreeMap;

use leadsmith_proto::{Address, Lead};

use super::{complete, edit, named};
use crate::harness::{update, violations};
use crate::on_both;

fn custom<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// A complete lead without an email, because a change of it would need a password.
fn without_email() -> Lead {
    Lead {
        email: String::new(),
        ..complete("")
    }
}

/// The expected lead `after` an update that changed only `change` in `before`.
fn changed(before: &Lead, after: &Lead, change: impl FnOnce(&mut Lead)) -> Lead {
    assert!(
        (
            after.update_time.unwrap().seconds,
            after.update_time.unwrap().nanos
        ) > (
            before.update_time.unwrap().seconds,
            before.update_time.unwrap().nanos
        ),
        "a change is later than the one before"
    );
    assert_ne!(after.etag, before.etag);
    let mut expected = Lead {
        etag: after.etag.clone(),
        update_time: after.update_time,
        ..before.clone()
    };
    change(&mut expected);
    expected
}

on_both! {
    async fn without_a_mask_every_populated_field_changes(h: Harness) {
        let before = h.sales.create(without_email()).await.unwrap();
        let change = edit(&before.id, |lead| {
            lead.phone = " 1 ".into();
            lead.address = Some(Address {
                city: "Paris".into(),
                ..Address::default()
            });
            lead.custom_fields = custom([("tier", "silver"), ("new", "x")]);
        });
        let after = h.sales.update(change.clone(), &[]).await.unwrap();
        let expected = changed(&before, &after, |lead| {
            lead.phone = "1".into();
            lead.address.as_mut().unwrap().city = "Paris".into();
            lead.custom_fields = custom([("tier", "silver"), ("seats", "12"), ("new", "x")]);
        });
        assert_eq!(after, expected);
        assert_eq!(h.sales.get(&before.id).await, expected);

        let mut request = update(
            Lead {
                phone: "2".into(),
                ..change
            },
            &[],
        );
        request.update_mask = Some(prost_types::FieldMask::default());
        let answer = h.sales.leads().update(request).await.unwrap();
        assert_eq!(
            answer.into_inner().lead.unwrap().phone,
            "2",
            "an empty mask is none"
        );
    }

    async fn a_star_replaces_the_whole_lead(h: Harness) {
        let before = h.sales.create(without_email()).await.unwrap();
        let change = edit(&before.id, |lead| {
            lead.company = "Difference Engines".into();
            lead.custom_fields = custom([("tier", "silver")]);
        });
        let after = h.sales.update(change, &["*"]).await.unwrap();
        let expected = Lead {
            id: before.id.clone(),
            company: "Difference Engines".into(),
            custom_fields: custom([("tier", "silver")]),
            state: before.state,
            etag: after.etag.clone(),
            create_time: before.create_time,
            update_time: after.update_time,
            ..Lead::default()
        };
        assert_eq!(after, expected);
        assert_eq!(h.sales.get(&before.id).await, expected);
    }

    async fn only_what_a_mask_names_changes(h: Harness) {
        let new = Lead {
            address: Some(Address {
                city: "Paris".into(),
                country_code: "FR".into(),
                ..Address::default()
            }),
            custom_fields: custom([("tier", "silver"), ("new", "x")]),
            phone: "1".into(),
            ..named()
        };
        type Change = fn(&mut Lead);
        let cases: [(&[&str], Change); 8] = [
            (&["phone"], |lead| lead.phone = "1".into()),
            (&["fax"], |lead| lead.fax = String::new()),
            (&["address"], |lead| {
                lead.address = Some(Address {
                    city: "Paris".into(),
                    country_code: "FR".into(),
                    ..Address::default()
                });
            }),
            (&["address.city"], |lead| {
                lead.address.as_mut().unwrap().city = "Paris".into()
            }),
            (&["address.city", "address.region"], |lead| {
                let address = lead.address.as_mut().unwrap();
                address.city = "Paris".into();
                address.region = String::new();
            }),
            (&["custom_fields"], |lead| {
                lead.custom_fields = custom([("tier", "silver"), ("new", "x")]);
            }),
            (&["custom_fields.tier"], |lead| {
                lead.custom_fields = custom([("tier", "silver"), ("seats", "12")]);
            }),
            (&["custom_fields.seats", "phone"], |lead| {
                lead.phone = "1".into();
                lead.custom_fields = custom([("tier", "gold")]);
            }),
        ];
        for (paths, change) in cases {
            let before = h.sales.create(without_email()).await.unwrap();
            let new = Lead {
                id: before.id.clone(),
                ..new.clone()
            };
            let after = h.sales.update(new, paths).await.unwrap();
            let expected = changed(&before, &after, change);
            assert_eq!(after, expected, "{paths:?}");
            assert_eq!(h.sales.get(&before.id).await, expected, "{paths:?}");
        }
    }

    async fn what_a_mask_leaves_out_is_not_even_looked_at(h: Harness) {
        let lead = h.sales.create(named()).await.unwrap();
        let change = edit(&lead.id, |lead| {
            lead.phone = "1".into();
            lead.email = "not one".into();
            lead.fax = "x".repeat(33);
            lead.custom_fields = custom([("Not A Key", "")]);
        });
        let after = h.sales.update(change, &["phone"]).await.unwrap();
        assert_eq!(
            after,
            changed(&lead, &after, |lead| lead.phone = "1".into())
        );
    }

    async fn an_address_that_is_cleared_is_gone(h: Harness) {
        let lead = h.sales.create(without_email()).await.unwrap();
        let after = h
            .sales
            .update(edit(&lead.id, |_| {}), &["address"])
            .await
            .unwrap();
        assert_eq!(after, changed(&lead, &after, |lead| lead.address = None));
    }

    async fn a_path_that_cannot_be_updated_is_named(h: Harness) {
        let lead = h.sales.create(named()).await.unwrap();
        let unknown =
            "which is not a field of a lead: use the names in lead.proto, such as address.city";
        let output_only = "which is output only: remove the path";
        let transition = "which only Deactivate, Reactivate, Convert and RevertConversion can change: call one of these RPCs";
        for (path, problem) in [
            ("nickname", unknown),
            ("Phone", unknown),
            ("lead.phone", unknown),
            ("phone.home", unknown),
            ("address.planet", unknown),
            ("address.", unknown),
            ("", unknown),
            ("state", transition),
            ("id", output_only),
            ("etag", output_only),
            ("create_time", output_only),
            ("update_time.seconds", output_only),
            ("deactivation", output_only),
            ("deactivation.reason", output_only),
            ("conversion", output_only),
        ] {
            let change = edit(&lead.id, |lead| lead.phone = "1".into());
            let refused = h.sales.update(change, &["phone", path]).await.unwrap_err();
            let expected = (
                "update_mask.paths[1]".to_owned(),
                format!("is {path:?}, {problem}"),
            );
            assert_eq!(violations(&refused), [expected]);
        }
        for path in ["custom_fields.", "custom_fields.Tier", "custom_fields.a.b"] {
            let refused = h
                .sales
                .update(edit(&lead.id, |_| {}), &[path])
                .await
                .unwrap_err();
            let found = violations(&refused);
            assert_eq!(found.len(), 1);
            assert!(
                found[0]
                    .1
                    .starts_with(&format!("is {path:?}: the key must be 1 to 64")),
                "{found:?}"
            );
        }
        assert_eq!(h.sales.get(&lead.id).await, lead);
    }
}
