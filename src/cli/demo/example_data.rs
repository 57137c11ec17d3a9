//! The example data of the demo, as values. Nothing here touches the database: `demo.rs` creates the records.

use super::worker::ACTION;
use crate::commit::Mutation;
use crate::core::money::Money;
use crate::features::leads::model::{Details, Lead, References};
use crate::features::operators::Ownership;
use crate::features::opportunities::model::{Details as OpportunityDetails, Stage, View};
use crate::features::order_queues::model::{ActionType, OrderQueue, Step, Template};
use crate::features::{opportunities, order_queues, orders};

/// First name, last name, company, email, country, source.
pub(super) const LEADS: [[&str; 6]; 12] = [
    [
        "Maria",
        "Gonçalves",
        "Padaria Aurora",
        "maria@aurora.example",
        "PT",
        "fair",
    ],
    [
        "Jonas",
        "Weber",
        "Weber Hosting",
        "jonas@weber.example",
        "DE",
        "website",
    ],
    [
        "Aiko",
        "Tanaka",
        "Tanaka Studio",
        "aiko@tanaka.example",
        "JP",
        "referral",
    ],
    [
        "Liam",
        "O'Brien",
        "Green Isle Data",
        "liam@greenisle.example",
        "IE",
        "website",
    ],
    [
        "Zofia",
        "Nowak",
        "",
        "zofia.nowak@mail.example",
        "PL",
        "newsletter",
    ],
    [
        "",
        "",
        "Müller & Söhne",
        "info@mueller.example",
        "AT",
        "fair",
    ],
    [
        "Noah",
        "Smith",
        "Smithworks",
        "noah@smithworks.example",
        "US",
        "website",
    ],
    [
        "Emma",
        "Dubois",
        "Atelier Dubois",
        "emma@dubois.example",
        "FR",
        "referral",
    ],
    [
        "Mateo",
        "García",
        "Viento Sur",
        "mateo@vientosur.example",
        "ES",
        "website",
    ],
    [
        "Olga",
        "Ivanova",
        "Polar Networks",
        "olga@polar.example",
        "FI",
        "fair",
    ],
    [
        "Priya",
        "Sharma",
        "Lotus Systems",
        "priya@lotus.example",
        "IN",
        "website",
    ],
    [
        "Lucas",
        "Jensen",
        "Nordlys ApS",
        "lucas@nordlys.example",
        "DK",
        "newsletter",
    ],
];

pub(super) fn details(
    [first_name, last_name, company, email, country, source]: [&str; 6],
    owner: &str,
) -> Details {
    let mut details = Details {
        first_name: first_name.to_owned(),
        last_name: last_name.to_owned(),
        company: company.to_owned(),
        email: email.to_owned(),
        owner_id: owner.to_owned(),
        source: source.to_owned(),
        ..Details::default()
    };
    details.address.country_code = country.to_owned();
    details
        .custom_fields
        .insert("tier".to_owned(), "silver".to_owned());
    details
}

pub(super) fn opportunity(lead: &Lead, name: &str, stage: Stage, units: i64) -> Mutation<View> {
    let details = OpportunityDetails {
        name: name.to_owned(),
        stage,
        amount: Some(Money {
            currency_code: "EUR".to_owned(),
            units,
            nanos: 0,
        }),
        probability: Some(40),
        expected_close_date: None,
        owner_id: lead.details.owner_id.clone(),
        next_step: "Call back".to_owned(),
        description: String::new(),
    };
    opportunities::create(opportunities::NewOpportunity {
        lead_id: lead.id,
        details,
        owner: Ownership::Allowed,
        validate_only: false,
    })
}

pub(super) fn order(lead: &Lead, queue: OrderQueue) -> Mutation<orders::Fulfilled> {
    let new = orders::NewOrder {
        lead_id: lead.id,
        client_id: None,
        opportunity_id: None,
        items: vec![orders::model::Item {
            description: "Virtual server, per month".to_owned(),
            quantity: 2,
            unit_price: Some(Money {
                currency_code: "EUR".to_owned(),
                units: 19,
                nanos: 900_000_000,
            }),
        }],
        // Those of the queue.
        actions: Vec::new(),
        validate_only: false,
    };
    // Nothing refers to the lead yet, and the response is not shown.
    orders::create(new, queue, References::default())
}

/// A queue whose orders go on by themselves once they are signed: the demo's worker adds the services, and then the
/// lead becomes a client.
pub(super) fn hosting() -> Mutation<OrderQueue> {
    let step = |key: &str, name: &str| Step {
        key: key.to_owned(),
        name: name.to_owned(),
    };
    let action = |key: &str, r#type, name: &str, step: &str| Template {
        key: key.to_owned(),
        r#type,
        name: name.to_owned(),
        step: step.to_owned(),
        automatic: r#type == ActionType::ProvisionClient,
        repeatable: false,
        prerequisites: Vec::new(),
    };
    order_queues::create(order_queues::NewQueue {
        name: "Managed hosting".to_owned(),
        steps: vec![
            step("contract", "Contract"),
            step("setup", "Setup"),
            step("sale", "Sale"),
        ],
        actions: vec![
            action("sign", ActionType::Manual, "Sign the contract", "contract"),
            action(ACTION, ActionType::External, "Add services", "setup"),
            action(
                "provision-client",
                ActionType::ProvisionClient,
                "Provision Client",
                "sale",
            ),
        ],
        validate_only: false,
    })
}
