//! `leadsmith demo`: a server with example data, and the story to try on it, ready to paste.

use std::net::SocketAddr;

use clap::Args;
use secrecy::SecretString;

use super::output::{self, Failure};
use super::serve;
use crate::auth::passwords::Passwords;
use crate::auth::roles::Role;
use crate::auth::tokens::{self, TokenKind};
use crate::auth::{self, Call};
use crate::changes::desk::Desk;
use crate::clock::Clock;
use crate::config::{DatabaseSettings, Limits, Refusal, ServeSettings, values};
use crate::error::Result as CallResult;
use crate::leads::api::render;
use crate::leads::model::{Details, Lead};
use crate::operators::model::Ownership;
use crate::opportunities::model::{Details as OpportunityDetails, Stage};
use crate::orders::model::Action;
use crate::server::tls::TlsSettings;
use crate::wire::money::Money;
use crate::wire::proto;
use crate::{leads, opportunities, orders, server};

#[derive(Args, Debug)]
pub struct DemoSettings {
    /// Where to listen
    #[arg(
        long,
        env = "LEADSMITH_LISTEN",
        default_value = "127.0.0.1:50051",
        value_parser = values::address(),
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
}

const OPERATOR: &str = "ada";

/// First name, last name, company, email, country, source.
const LEADS: [[&str; 6]; 12] = [
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

pub async fn run(settings: DemoSettings) -> Result<(), Failure> {
    let folder = tempfile::tempdir()
        .map_err(|error| Refusal::new(format!("no temporary folder can be made: {error}")))?;
    let file = folder.path().join("leadsmith-demo.db");
    let settings = ServeSettings {
        database: DatabaseSettings {
            database_url: format!("sqlite:{}", file.display()).into(),
        },
        listen: settings.listen,
        insecure: false,
        tls: TlsSettings::default(),
        migrate: true,
        limits: Limits::default(),
    };
    let server = server::start(&settings, Clock::default()).await?;
    let story = seed(&server.desk).await?;
    if let Err(failure) = output::show(&story.tell(server.address)) {
        server.stop().await?;
        return Err(failure);
    }
    Ok(serve::until_stopped(server).await?)
}

/// What the printed lines need to name.
struct Story {
    token: String,
    password: String,
    /// The lead that is edited, deactivated, reactivated and converted by hand.
    edited: Lead,
    /// The order whose action converts another lead.
    order_id: String,
}

async fn seed(desk: &Desk) -> Result<Story, Refusal> {
    // Made anew each time: an example's password must not become somebody's.
    let password = tokens::generate(TokenKind::Session).expose()[4..24].to_owned();
    let secret = SecretString::from(password.clone());
    let name = "Ada (demo)";
    let operator = crate::operators::create(
        &desk.db,
        &Passwords::default(),
        OPERATOR,
        name,
        Role::Admin,
        secret,
    )
    .await?;
    let call = |rpc| Call {
        principal: operator.principal(),
        role: operator.role,
        rpc,
        session: None,
        key: None,
        waited: std::time::Duration::ZERO,
    };
    let mut created = Vec::new();
    for texts in LEADS {
        let details = details(texts, &operator.id.to_string());
        let render = |lead| proto::CreateLeadResponse {
            lead: Some(render::lead(lead)),
        };
        let call = call("leadsmith.v1.LeadService/Create");
        let new = leads::NewLead {
            details,
            owner: Ownership::Allowed,
            allow_duplicate: false,
        };
        let answer = leads::create(desk, call, new, false, render).await?;
        let id = answer.lead.unwrap_or_default().id;
        let id = uuid::Uuid::try_parse(&id).map_err(crate::error::Error::internal)?;
        created.push(leads::get(desk, id).await?);
    }
    for (index, reason) in [(2, "Went with a competitor"), (8, "No budget this year")] {
        let render = |lead| proto::DeactivateLeadResponse {
            lead: Some(render::lead(lead)),
        };
        let call = call("leadsmith.v1.LeadService/Deactivate");
        let deactivate = leads::Deactivate {
            id: created[index].id,
            etag: String::new(),
            reason: reason.to_owned(),
            validate_only: false,
        };
        leads::deactivate(desk, call, deactivate, render).await?;
    }
    for index in [3, 10] {
        let render = |lead: Lead| proto::ConvertLeadResponse {
            client: render::client(lead.clone()),
            lead: Some(render::lead(lead)),
        };
        let call = call("leadsmith.v1.LeadService/Convert");
        leads::convert_by_hand(desk, call, created[index].id, String::new(), false, render).await?;
    }
    for (index, name, stage, units) in [
        (0, "Shop and hosting", Stage::Negotiation, 4_800),
        (1, "Two racks", Stage::Meeting, 21_000),
        (2, "Website relaunch", Stage::Contact, 9_500),
        (5, "Backup service", Stage::Buying, 1_200),
    ] {
        let call = call("leadsmith.v1.OpportunityService/Create");
        opportunity(desk, call, &created[index], name, stage, units).await?;
    }
    let mut order_id = String::new();
    for index in [7, 9] {
        let call = call("leadsmith.v1.OrderService/Create");
        order_id = order(desk, call, &created[index]).await?;
    }
    let session = auth::begin_session(desk, operator).await?;
    Ok(Story {
        token: session.token.expose().to_owned(),
        password,
        edited: created.swap_remove(0),
        order_id,
    })
}

fn details(
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

async fn opportunity(
    desk: &Desk,
    call: Call,
    lead: &Lead,
    name: &str,
    stage: Stage,
    units: i64,
) -> CallResult<()> {
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
    let render = |_| proto::CreateOpportunityResponse::default();
    let new = opportunities::NewOpportunity {
        lead_id: lead.id,
        details,
        owner: Ownership::Allowed,
    };
    opportunities::create(desk, call, new, false, render).await?;
    Ok(())
}

async fn order(desk: &Desk, call: Call, lead: &Lead) -> CallResult<String> {
    let new = orders::NewOrder {
        lead_id: lead.id,
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
        actions: vec![Action::provision_client()],
    };
    let render = |created: orders::Created| proto::CreateOrderResponse {
        order: Some(proto::Order {
            id: created.order.id.to_string(),
            ..proto::Order::default()
        }),
        ..Default::default()
    };
    let answer = orders::create(desk, call, new, false, render).await?;
    Ok(answer.order.unwrap_or_default().id)
}

impl Story {
    /// What is printed.
    fn tell(&self, address: SocketAddr) -> String {
        let lead = self.edited.id;
        let (order, password, token) = (&self.order_id, &self.password, &self.token);
        let mut text = format!(
            "Leadsmith demo is ready on {address}: a dozen leads in all states, with opportunities\n\
             and orders, in a temporary database. Ctrl-C ends it and everything in it.\n\n\
             You are the operator {OPERATOR}; your password is {password}\n\
             Paste these lines, top to bottom, into another terminal that has grpcurl:\n\n\
             export TOKEN={token}\n"
        );
        let steps = [
            ("Who am I?", "AuthService/WhoAmI", "{}".to_owned()),
            (
                "The open leads, by company",
                "LeadService/List",
                r#"{"order_by":"company"}"#.to_owned(),
            ),
            (
                "Look a lead up by a part of its name",
                "LeadService/Search",
                r#"{"query":"gonç"}"#.to_owned(),
            ),
            (
                "One lead, whole",
                "LeadService/Get",
                format!(r#"{{"id":"{lead}"}}"#),
            ),
            (
                "Edit it: the phone and one custom field",
                "LeadService/Update",
                format!(
                    r#"{{"lead":{{"id":"{lead}","phone":"+351 21 000 000","custom_fields":{{"tier":"gold"}}}}}}"#
                ),
            ),
            (
                "Change its email: refused, because that needs your own password",
                "LeadService/Update",
                format!(r#"{{"lead":{{"id":"{lead}","email":"maria.g@aurora.example"}}}}"#),
            ),
            (
                "With the password it works",
                "LeadService/Update",
                format!(
                    r#"{{"lead":{{"id":"{lead}","email":"maria.g@aurora.example"}},"current_password":"{password}"}}"#
                ),
            ),
            (
                "Set it aside",
                "LeadService/Deactivate",
                format!(r#"{{"id":"{lead}","reason":"On leave until spring"}}"#),
            ),
            (
                "It is gone from the list, but Search still finds it",
                "LeadService/Search",
                r#"{"query":"AURORA"}"#.to_owned(),
            ),
            (
                "And so do the open opportunities",
                "OpportunityService/List",
                "{}".to_owned(),
            ),
            (
                "Converting it is refused now, and the answer says why",
                "LeadService/Convert",
                format!(r#"{{"id":"{lead}"}}"#),
            ),
            (
                "Bring it back",
                "LeadService/Reactivate",
                format!(r#"{{"id":"{lead}"}}"#),
            ),
            (
                "Convert it by hand",
                "LeadService/Convert",
                format!(r#"{{"id":"{lead}"}}"#),
            ),
            (
                "The client has the lead's id",
                "ClientService/Get",
                format!(r#"{{"id":"{lead}"}}"#),
            ),
            (
                "All that happened to it",
                "LeadService/ListHistory",
                format!(r#"{{"id":"{lead}"}}"#),
            ),
            (
                "Convert another lead by running its order's Provision Client action",
                "OrderService/RunAction",
                format!(r#"{{"order_id":"{order}","action":"provision-client"}}"#),
            ),
            (
                "The order's ledger",
                "OrderService/ListRuns",
                format!(r#"{{"order_id":"{order}"}}"#),
            ),
        ];
        for (why, rpc, body) in steps {
            text.push_str(&format!(
                "\n# {why}\n\
                 grpcurl -plaintext -H \"authorization: Bearer $TOKEN\" -d '{body}' {address} leadsmith.v1.{rpc}\n"
            ));
        }
        text
    }
}
