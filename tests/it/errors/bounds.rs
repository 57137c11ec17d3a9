//! However wrong a request is, its error has a size that every client accepts, and says what was
//! documented.

use leadsmith::auth::policy::RPCS;
use leadsmith::error::LARGEST;
use leadsmith_proto::{self as proto, ErrorReason, Lead};
use prost::Message;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    Value,
};
use tonic::{Code, Status};
use tonic_types::{FieldViolation, StatusExt};

use super::raw::{frame, measured};
use super::{named, refused};
use crate::harness::{metadata, reason};
use crate::on_both;

/// About the largest request that is taken.
const LARGE: usize = 60_000;

fn wrong(status: &Status) -> Vec<FieldViolation> {
    let details = status.check_error_details().unwrap();
    details
        .bad_request()
        .map_or(Vec::new(), |bad| bad.field_violations.clone())
}

/// Whether an error has the size and the form that the contract promises.
fn bounded(what: &str, status: &Status, size: usize) {
    assert!(size < LARGEST, "{what}: {size} bytes of headers");
    assert!(
        status.message().len() < 2_048,
        "{what}: {}",
        status.message()
    );
    assert!(
        !status.message().chars().any(char::is_control),
        "{what}: {}",
        status.message()
    );
    let details = status.check_error_details().unwrap();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("{what}: {status:?}"));
    let metadata: usize = info
        .metadata
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    assert!(metadata < 2_048, "{what}: {metadata} bytes of metadata");
    let known = ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason));
    assert!(
        known.is_some() && info.reason != "INTERNAL",
        "{what}: {status:?}"
    );
    let wrong = wrong(status);
    assert!(wrong.len() <= 21, "{what}: {} violations", wrong.len());
    for violation in wrong {
        assert!(!violation.reason.is_empty(), "{what}: {violation:?}");
        assert!(
            !violation.field.chars().any(char::is_control),
            "{what}: {violation:?}"
        );
        assert!(
            !violation.description.chars().any(char::is_control),
            "{what}: {violation:?}"
        );
    }
    let whole = tonic_types::Status::decode(status.details()).unwrap();
    assert_eq!(
        whole.message,
        status.message(),
        "{what}: clients compare the two"
    );
}

/// A message with this one field filled, in each way that makes a lot of it.
fn filled(
    message: &MessageDescriptor,
    field: &FieldDescriptor,
    depth: usize,
) -> Vec<DynamicMessage> {
    let values: Vec<Value> = if field.is_map() {
        let map = |keys: Vec<String>| {
            let value = || Value::String("x\u{1}".to_owned());
            Value::Map(
                keys.into_iter()
                    .map(|key| (MapKey::String(key), value()))
                    .collect(),
            )
        };
        vec![
            map((0..4_000).map(|key| format!("K{key}")).collect()),
            map((0..40)
                .map(|key| format!("{key}{}", "🦀".repeat(300)))
                .collect()),
            map(vec!["\u{1b}".repeat(LARGE)]),
        ]
    } else {
        let repeated = field.cardinality() == Cardinality::Repeated;
        let many = |value: Value, size: usize| Value::List(vec![value; LARGE / size]);
        match field.kind() {
            Kind::String => ["x", "🦀", "\u{1}", "\u{202e}%"]
                .into_iter()
                .flat_map(|text| {
                    let long = Value::String(text.repeat(LARGE / text.len()));
                    if repeated {
                        let short = Value::String(text.to_owned());
                        vec![Value::List(vec![long]), many(short, text.len() + 2)]
                    } else {
                        vec![long]
                    }
                })
                .collect(),
            Kind::Enum(_) if repeated => vec![many(Value::EnumNumber(9), 1)],
            Kind::Enum(_) => vec![Value::EnumNumber(9)],
            Kind::Int32 => vec![Value::I32(i32::MIN)],
            Kind::Int64 => vec![Value::I64(i64::MIN)],
            Kind::Bool => vec![Value::Bool(true)],
            Kind::Message(inner) => {
                let mut parts: Vec<Value> = if depth == 0 {
                    Vec::new()
                } else {
                    inner
                        .fields()
                        .flat_map(|field| filled(&inner, &field, depth - 1))
                        .map(Value::Message)
                        .collect()
                };
                if repeated {
                    parts = parts
                        .into_iter()
                        .map(|part| Value::List(vec![part]))
                        .collect();
                    let empty = DynamicMessage::new(inner);
                    parts.push(Value::List(vec![Value::Message(empty.clone()); 100]));
                    parts.push(many(Value::Message(empty), 2));
                }
                parts
            }
            kind @ (Kind::Double
            | Kind::Float
            | Kind::Uint32
            | Kind::Uint64
            | Kind::Sint32
            | Kind::Sint64
            | Kind::Fixed32
            | Kind::Fixed64
            | Kind::Sfixed32
            | Kind::Sfixed64
            | Kind::Bytes) => panic!("no way to fill a {kind:?}"),
        }
    };
    values
        .into_iter()
        .map(|value| {
            let mut filled = DynamicMessage::new(message.clone());
            filled.set_field(field, value);
            filled
        })
        .collect()
}

on_both! {
    async fn whatever_is_filled_with_rubbish_the_error_arrives(h: Harness) {
        let pool = DescriptorPool::decode(leadsmith_proto::DESCRIPTORS).unwrap();
        let mut errors = 0;
        for service in pool.services() {
            for method in service.methods() {
                let rpc = format!("{}/{}", service.full_name(), method.name());
                if rpc.ends_with("/SignOut") || !RPCS.iter().any(|(known, _)| *known == rpc) {
                    continue;
                }
                let request = method.input();
                for field in request.fields() {
                    for message in filled(&request, &field, 3) {
                        let body = frame(&message.encode_to_vec());
                        let (status, size) = measured(&h, &format!("/{rpc}"), &[], body).await;
                        if status.code() != Code::Ok {
                            bounded(&format!("{rpc} {}", field.name()), &status, size);
                            errors += 1;
                        }
                    }
                }
            }
        }
        assert!(errors > 200, "{errors}");
    }

    async fn the_first_20_wrong_fields_are_listed_and_the_others_counted(h: Harness) {
        let lead = h.sales.create_lead("Hopper").await;
        let order = proto::Order {
            lead_id: lead.id.clone(),
            items: vec![proto::OrderItem::default(); 100],
            ..Default::default()
        };
        let request = proto::CreateOrderRequest { order: Some(order), ..Default::default() };
        let (status, size) =
            measured(&h, "/leadsmith.v1.OrderService/Create", &[], frame(&request.encode_to_vec())).await;
        bounded("100 empty items", &status, size);
        let found = wrong(&status);
        let expected = |index: usize| match index % 2 {
            0 => (format!("order.items[{}].description", index / 2), "REQUIRED"),
            _ => (format!("order.items[{}].quantity", index / 2), "OUT_OF_RANGE"),
        };
        for (index, violation) in found[..20].iter().enumerate() {
            let (field, reason) = expected(index);
            assert_eq!((&violation.field, violation.reason.as_str()), (&field, reason));
        }
        assert_eq!(found.len(), 21);
        assert_eq!((found[20].field.as_str(), found[20].reason.as_str()), ("", "MORE"));
        assert!(found[20].description.starts_with("180 more fields are wrong"));
        assert_eq!(metadata(&status, "violations"), "200");
        assert!(status.message().ends_with("more fields are wrong."), "{}", status.message());

        // As many as are listed: nothing is added.
        let list = |unknown| proto::ListLeadsRequest { states: vec![9; unknown], ..Default::default() };
        let twenty = wrong(&refused(h.viewer.leads().list(list(20)).await));
        assert_eq!(twenty.len(), 20);
        assert!(twenty.iter().all(|violation| violation.reason == "VALUE_UNKNOWN"));
        assert_eq!(wrong(&refused(h.viewer.leads().list(list(60)).await)).len(), 21);
        let many = wrong(&refused(h.viewer.leads().list(list(101)).await));
        assert_eq!((many.len(), many[0].field.as_str(), many[0].reason.as_str()), (1, "states", "TOO_MANY"));
        // Each value of the enum, and a few twice, is right.
        let states = vec![1, 2, 3, 1, 2, 3];
        h.viewer.leads().list(proto::ListLeadsRequest { states, ..Default::default() }).await.unwrap();

        let custom_fields = (0..40).map(|key| (format!("Key-{key}"), "x".to_owned())).collect();
        let lead = Lead { custom_fields, ..named() };
        let found = wrong(&refused(h.sales.create(lead).await));
        assert_eq!(found.len(), 21);
        assert_eq!(found[0].field, "lead.custom_fields[Key-0]");
        assert!(found[..20].iter().all(|violation| violation.reason == "FORMAT_INVALID"));
    }

    async fn keys_of_an_order_are_named_as_far_as_there_is_room(h: Harness) {
        let key = |number: usize| format!("{:-<64}", format!("action-{number}"));
        let action = |number: usize, prerequisites: Vec<String>| proto::OrderAction {
            key: key(number),
            r#type: proto::ActionType::Manual.into(),
            prerequisites,
            ..Default::default()
        };
        let lead = h.sales.create_lead("Hopper").await;
        let mut actions: Vec<_> = (0..49).map(|number| action(number, Vec::new())).collect();
        actions.push(action(49, (0..49).map(key).collect()));
        let order = h.sales.create_order(&lead.id, actions).await;

        let run = |key: &str| {
            let request = proto::RunActionRequest {
                order_id: order.id.clone(),
                action: key.to_owned(),
                ..Default::default()
            };
            frame(&request.encode_to_vec())
        };
        let path = "/leadsmith.v1.OrderService/RunAction";
        let (status, size) = measured(&h, path, &[], run(&key(49))).await;
        bounded("49 open prerequisites", &status, size);
        assert_eq!(reason(&status), "ACTION_PREREQUISITE");
        assert_eq!(metadata(&status, "action"), key(49));
        let named: Vec<_> = metadata(&status, "prerequisites").split(',').map(str::to_owned).collect();
        let omitted: usize = metadata(&status, "prerequisites_omitted").parse().unwrap();
        assert!(named.len() > 5 && named.len() + omitted == 49, "{named:?} {omitted}");
        // They stand in the order of their keys.
        let mut all: Vec<_> = (0..49).map(key).collect();
        all.sort();
        assert_eq!(named, all[..named.len()]);

        for unknown in ["x".repeat(4_000), "🦀".repeat(15_000), "\u{1b}[2J\n".repeat(1_000)] {
            let (status, size) = measured(&h, path, &[], run(&unknown)).await;
            bounded("an action that is not there", &status, size);
            assert_eq!(reason(&status), "ACTION_NOT_FOUND");
            let shown = metadata(&status, "action");
            assert!(shown.ends_with('…') && shown.len() <= 51, "{shown}");
            assert_ne!(metadata(&status, "actions_omitted"), "0");
        }
    }
}
