//! LeadService.BatchGet: several leads by their ids.

use leadsmith_proto::{BatchGetLeadsRequest, BatchGetLeadsResponse};
use prost::Message as _;
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::ids;
use crate::harness::{Backend, Caller, violations};
use crate::on_both;

async fn batch(caller: &Caller, ids: &[&str]) -> BatchGetLeadsResponse {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    let answer = caller.leads().batch_get(BatchGetLeadsRequest { ids }).await;
    answer.unwrap().into_inner()
}

on_both! {
    async fn leads_are_returned_in_the_order_of_the_ids(h: Harness) {
        let mut leads = Vec::new();
        for name in ["Babbage", "Hopper", "Lovelace", "Turing"] {
            leads.push(h.sales.create_lead(name).await);
        }
        leads[1] = h.sales.deactivate(&leads[1].id).await.unwrap();
        leads[2] = h.sales.convert(&leads[2].id).await.unwrap().lead.unwrap();
        let nobody = [Uuid::now_v7().to_string(), Uuid::nil().to_string().replace('0', "f")];
        let upper = leads[3].id.to_uppercase();
        let asked = [
            leads[2].id.as_str(), &nobody[0], &leads[0].id, &leads[2].id, &upper, &nobody[1], &leads[1].id,
            &nobody[0],
        ];
        let expected = BatchGetLeadsResponse {
            leads: [2, 0, 3, 1].map(|index: usize| leads[index].clone()).to_vec(),
            missing_ids: nobody.to_vec(),
            remaining_ids: Vec::new(),
        };
        assert_eq!(batch(&h.viewer, &asked).await, expected);
    }

    async fn what_is_too_large_for_one_response_remains(h: Harness) {
        let mut leads = Vec::new();
        for index in 0..20 {
            leads.push(h.sales.create_lead(&format!("Large {index}")).await);
        }
        let json = match h.database.backend {
            Backend::Postgres => {
                "(SELECT jsonb_object_agg('f' || n, repeat('x', 4000)) FROM generate_series(1, 100) AS n)"
            }
            Backend::Sqlite => {
                "(WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100) \
                 SELECT json_group_object('f' || n, hex(zeroblob(2000))) FROM n)"
            }
        };
        let sql = format!("UPDATE leads SET custom_fields = {json}");
        h.database.connect().await.execute_unprepared(&sql).await.unwrap();
        leads.reverse();
        let nobody = Uuid::now_v7().to_string();
        let mut asked = ids(&leads);
        asked.insert(3, &nobody);
        let (mut found, mut missing, mut calls) = (Vec::new(), Vec::new(), 0);
        let mut rest: Vec<String> = asked.iter().map(|id| (*id).to_owned()).collect();
        while !rest.is_empty() {
            let asked: Vec<&str> = rest.iter().map(String::as_str).collect();
            let answer = batch(&h.viewer, &asked).await;
            assert!(answer.encoded_len() < 4 << 20);
            assert!(!answer.leads.is_empty(), "each call returns some");
            // What remains is in the order in which it was asked for.
            let mut order = asked.iter().filter(|id| answer.remaining_ids.iter().any(|other| other == *id));
            assert!(answer.remaining_ids.iter().all(|id| order.next() == Some(&id.as_str())));
            found.extend(answer.leads.into_iter().map(|lead| lead.id));
            missing.extend(answer.missing_ids);
            rest = answer.remaining_ids;
            calls += 1;
        }
        assert!((3..=4).contains(&calls), "{calls} calls");
        assert_eq!(missing, std::slice::from_ref(&nobody));
        found.sort();
        let mut expected: Vec<String> = ids(&leads).into_iter().map(str::to_owned).collect();
        expected.sort();
        assert_eq!(found, expected);
    }

    async fn a_batch_has_1_to_100_ids(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let refused = async |ids: Vec<String>| {
            let status = h.viewer.leads().batch_get(BatchGetLeadsRequest { ids }).await.unwrap_err();
            violations(&status).into_iter().map(|(field, _)| field).collect::<Vec<_>>()
        };
        assert_eq!(refused(Vec::new()).await, ["ids"]);
        assert_eq!(refused(vec![lead.id.clone(); 101]).await, ["ids"]);
        let wrong = vec![String::new(), lead.id.clone(), "1".into(), Uuid::nil().to_string()];
        assert_eq!(refused(wrong).await, ["ids[0]", "ids[2]", "ids[3]"]);
        assert_eq!(batch(&h.viewer, &[lead.id.as_str(); 100]).await.leads, [lead]);
    }
}
