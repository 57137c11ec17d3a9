//! LeadService.ListDuplicates: which other leads look like a lead, and what they share.

use leadsmith_proto::{self as proto, CreateLeadRequest, Lead, ListDuplicatesRequest, SharedField};
use sea_orm::ConnectionTrait;
use tonic::Code;

use super::pages;
use crate::harness::{Caller, reason, violations};
use crate::on_both;

async fn create(caller: &Caller, fields: [&str; 5]) -> Lead {
    let [first_name, last_name, company, email, phone] = fields.map(str::to_owned);
    let lead = Lead {
        first_name,
        last_name,
        company,
        email,
        phone,
        ..Lead::default()
    };
    let request = CreateLeadRequest {
        lead: Some(lead),
        allow_duplicate: true,
        ..Default::default()
    };
    let created = caller.leads().create(request).await.unwrap();
    created.into_inner().lead.unwrap()
}

/// The look-alikes of a lead, in pages of this size: the id of each and what it shares.
async fn look_alikes(caller: &Caller, id: &str, page_size: i32) -> Vec<(String, Vec<SharedField>)> {
    let found = pages(async |page_token| {
        let request = ListDuplicatesRequest {
            id: id.into(),
            page_size,
            page_token,
        };
        let answer = caller
            .leads()
            .list_duplicates(request)
            .await
            .unwrap()
            .into_inner();
        (answer.duplicates, answer.next_page_token)
    });
    let found = found.await;
    let size = usize::try_from(page_size).unwrap();
    let (_, before) = found.split_last().unwrap();
    assert!(
        before.iter().all(|page| page.len() == size),
        "a page before the last is full"
    );
    let found = found.concat().into_iter();
    found
        .map(|duplicate| {
            let shared = duplicate.shared().collect();
            (duplicate.lead.unwrap().id, shared)
        })
        .collect()
}

use SharedField::{CompanyAndName, Email, Phone};

on_both! {
    async fn look_alikes_share_the_email_the_phone_or_the_company_with_the_name(h: Harness) {
        let sales = &h.sales;
        let asked = ["José", "Gonçalves", "Padaria Lisboa", "jose@padaria.test", "+351 21 000-0000"];
        let lead = create(sales, asked).await;
        let mut expected = Vec::new();
        for (fields, shared) in [
            (["", "Other", "", "JOSE@Padaria.test", ""], &[Email][..]),
            (["", "Other", "", "", "00351210000000"], &[Phone]),
            (["", "Other", "", "", "(351) 21 000 00 00"], &[Phone]),
            (["jose", "GONCALVES", "padaria  lisboa", "", ""], &[CompanyAndName]),
            (["José", "Gonçalves", "Padaria Lisboa", "jose@padaria.test", "351-21-0000000"], &[Email, Phone, CompanyAndName]),
            // These share nothing, or only a part.
            (["José", "Gonçalves", "", "", ""], &[]),
            (["José", "Gonçalves", "Padaria Lisboa II", "", ""], &[]),
            (["José", "Gonçalves Pereira", "Padaria Lisboa", "", ""], &[]),
            (["Ana", "Silva", "Padaria Lisboa", "", ""], &[]),
            (["", "Other", "", "jose@padaria.test.example", ""], &[]),
            (["", "Other", "", "", "+351 21 000-00001"], &[]),
            (["", "Other", "", "", "21 000-0000"], &[]),
            (["", "351210000000", "", "", ""], &[]),
        ] {
            let other = create(sales, fields).await;
            if !shared.is_empty() {
                expected.insert(0, (other.id, shared.to_vec()));
            }
        }
        // In every state.
        sales.deactivate(&expected[1].0).await.unwrap();
        sales.convert(&expected[2].0).await.unwrap();
        for page_size in [1, 2, 3, 50] {
            assert_eq!(look_alikes(&h.viewer, &lead.id, page_size).await, expected, "{page_size}");
        }
        let request = ListDuplicatesRequest { id: lead.id.clone(), ..Default::default() };
        let answer = h.viewer.leads().list_duplicates(request).await.unwrap().into_inner();
        let first = answer.duplicates[0].lead.clone().unwrap();
        assert_eq!(first, h.viewer.get(&first.id).await, "the whole lead");
        // They look alike in both directions.
        for (id, shared) in &expected {
            let back = look_alikes(&h.viewer, id, 50).await;
            assert!(back.contains(&(lead.id.clone(), shared.clone())), "{shared:?}");
        }
    }

    async fn a_lead_that_is_not_alike_any_more_is_not_listed(h: Harness) {
        let lead = create(&h.sales, ["Ada", "Lovelace", "Engines", "ada@engine.test", "0800 123"]).await;
        let other = create(&h.sales, ["Ada", "Lovelace", "Engines", "", "0800-123"]).await;
        assert_eq!(look_alikes(&h.viewer, &lead.id, 5).await, [(other.id.clone(), vec![Phone, CompanyAndName])]);
        let change = Lead { phone: "0800-124".into(), ..other.clone() };
        let other = h.sales.update(change, &["phone"]).await.unwrap();
        assert_eq!(look_alikes(&h.viewer, &lead.id, 5).await, [(other.id.clone(), vec![CompanyAndName])]);
        h.admin.erase(&other.id).await.unwrap();
        assert_eq!(look_alikes(&h.viewer, &lead.id, 5).await, []);
        assert_eq!(look_alikes(&h.viewer, &other.id, 5).await, [], "an erased lead is like none");
        let alone = create(&h.sales, ["", "Li", "", "", "12"]).await;
        create(&h.sales, ["", "Li", "", "", "12"]).await;
        assert_eq!(look_alikes(&h.viewer, &alone.id, 5).await, [], "a name alone, and too few digits");
    }

    async fn look_alikes_of_no_lead_are_refused(h: Harness) {
        let id = uuid::Uuid::now_v7().to_string();
        let request = ListDuplicatesRequest { id, ..Default::default() };
        let status = h.viewer.leads().list_duplicates(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "LEAD_NOT_FOUND"));
        let request = ListDuplicatesRequest { id: "1".into(), page_size: -1, ..Default::default() };
        let status = h.viewer.leads().list_duplicates(request).await.unwrap_err();
        let fields: Vec<String> = violations(&status).into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["page_size", "id"]);
    }

    async fn large_look_alikes_are_all_listed(h: Harness) {
        let lead = create(&h.sales, ["Ada", "Lovelace", "Engines", "ada@engine.test", "0800 123"]).await;
        let mut expected = Vec::new();
        for index in 0..24 {
            let (fields, shared) = match index % 3 {
                0 => (["", "x", "", "ada@engine.test", ""], vec![Email]),
                1 => (["", "x", "", "", "0800123"], vec![Phone]),
                _ => (["Ada", "Lovelace", "Engines", "", ""], vec![CompanyAndName]),
            };
            expected.insert(0, (create(&h.sales, fields).await.id, shared));
        }
        let json = match h.database.backend {
            crate::harness::Backend::Postgres => {
                "(SELECT jsonb_object_agg('f' || n, repeat('x', 4000)) FROM generate_series(1, 100) AS n)"
            }
            crate::harness::Backend::Sqlite => {
                "(WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100) \
                 SELECT json_group_object('f' || n, hex(zeroblob(2000))) FROM n)"
            }
        };
        let sql = format!("UPDATE leads SET custom_fields = {json}");
        h.database.connect().await.execute_unprepared(&sql).await.unwrap();
        let found = pages(async |page_token| {
            let request = ListDuplicatesRequest { id: lead.id.clone(), page_size: 50, page_token };
            let answer = h.viewer.leads().list_duplicates(request).await.unwrap().into_inner();
            assert!(prost::Message::encoded_len(&answer) < 4 << 20);
            (answer.duplicates, answer.next_page_token)
        });
        let found = found.await.concat();
        let found: Vec<(String, Vec<SharedField>)> = found
            .into_iter()
            .map(|duplicate: proto::Duplicate| {
                let shared = duplicate.shared().collect();
                (duplicate.lead.unwrap().id, shared)
            })
            .collect();
        assert_eq!(found, expected);
    }
}
