//! Unique passwords, tokens and keys are sent in every field that takes one, and in fields in which people enter
//! them by mistake, in calls that succeed and in calls that fail. Afterwards they are searched for in the log at
//! its most detailed level, in everything that is stored, and in every response: in clear, in hexadecimal and in
//! base64. Shown to fail by `logs-tokens`.

use std::fmt::Debug;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use leadsmith_proto::event_service_client::EventServiceClient;
use leadsmith_proto::watch_events_request::Begin;
use leadsmith_proto::watch_events_response::Item;
use leadsmith_proto::{self as proto, Lead};
use tonic::Status;

use crate::harness::client::Caller;
use crate::harness::context::{Context, Fixture};
use crate::harness::database::{Database, Kind};
use crate::harness::program::Serving;
use crate::harness::report::Findings;

/// The secrets, and the texts in which they must not occur.
#[derive(Default)]
struct Search {
    secrets: Vec<(&'static str, String)>,
    texts: Vec<(&'static str, Vec<u8>)>,
}

impl Search {
    /// A new secret that cannot occur in other text.
    fn secret(&mut self, random: &mut fastrand::Rng, name: &'static str) -> String {
        let secret: String = std::iter::repeat_with(|| random.alphanumeric())
            .take(24)
            .collect();
        self.secrets.push((name, secret.clone()));
        secret
    }

    /// Adds a response, including all bytes of an error's details.
    fn record<T: Debug>(&mut self, response: Result<T, Status>) {
        let mut text = format!("{response:?}").into_bytes();
        if let Err(status) = response {
            text.extend(status.details());
        }
        self.texts.push(("a response", text));
    }

    fn search_all(&self, findings: &mut Findings) {
        for (name, secret) in &self.secrets {
            for form in forms(secret) {
                for (source, bytes) in &self.texts {
                    let found = bytes
                        .windows(form.len())
                        .any(|part| part == form.as_bytes());
                    findings.expect(!found, || format!("{name} is in {source}"));
                }
            }
        }
    }
}

/// The encodings of a secret.
fn forms(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![secret.to_owned(), hex.to_uppercase(), hex];
    // Inside a longer text, a secret can start at any of three base64 alignments. Only characters that are
    // determined by the secret alone are searched for.
    for before in 0..3 {
        let padded = [&vec![0; before], secret.as_bytes()].concat();
        let whole = (before * 8).div_ceil(6)..padded.len() * 8 / 6;
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            forms.push(engine.encode(&padded)[whole.clone()].to_owned());
        }
    }
    forms
}

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut search = Search::default();
    let mut random = context.random(0);
    let fixture = context.fixture()?;
    let server = context.serve(&fixture, &["--log", "trace"]).await?;
    for account in 0..2 {
        search
            .secrets
            .push(("an API key", fixture.key(account)[4..].to_owned()));
    }
    let rounds = context.size(2, 200);
    for round in 0..rounds {
        call(context, &fixture, &server, round, &mut random, &mut search).await?;
    }
    audit(context, &fixture, &server, &mut random, &mut search).await?;
    let log = server.log()?;
    ensure!(
        log.contains("call completed"),
        "nothing is logged at this level"
    );
    search.texts.push(("the log", log.into_bytes()));
    let stored = stored(&fixture.database).await?;
    ensure!(contains(&stored, b"Canary"), "what is stored was not read");
    search.texts.push(("what is stored", stored));
    search.search_all(&mut findings);
    findings.fact("secrets", search.secrets.len());
    findings.fact("responses", search.texts.len() - 2);
    let bytes: usize = search.texts.iter().map(|(_, bytes)| bytes.len()).sum();
    findings.fact("searched", format!("{} KiB", bytes / 1024));
    findings.finish()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Lists and watches all events as an ADMIN, who sees those of operators and service accounts too.
async fn audit(
    context: &Context<'_>,
    fixture: &Fixture,
    server: &Serving,
    random: &mut fastrand::Rng,
    search: &mut Search,
) -> Result<()> {
    let password = search.secret(random, "the password of an ADMIN");
    let create = [
        "operator",
        "create",
        "--username",
        "auditor",
        "--role",
        "ADMIN",
    ];
    context
        .program
        .command_with(&fixture.database.url(), &create, &password)?;
    let anonymous = Caller::connect(&server.address, "").await?;
    let request = proto::SignInRequest {
        username: "auditor".to_owned(),
        password,
        ..Default::default()
    };
    let response = anonymous.auth().sign_in(request).await?.into_inner();
    search
        .secrets
        .push(("the session of an ADMIN", response.token[4..].to_owned()));
    let admin = Caller::on(anonymous.channel.clone(), &response.token)?;
    let mut client = EventServiceClient::new(admin.channel.clone());
    let mut list = proto::ListEventsRequest {
        page_size: 1_000,
        ..Default::default()
    };
    let mut listed = 0;
    loop {
        let page = client.list(admin.request(list.clone())).await?.into_inner();
        listed += page.events.len();
        list.page_token.clone_from(&page.next_page_token);
        search.record(Ok(page));
        if list.page_token.is_empty() {
            break;
        }
    }
    ensure!(listed > 0, "no event is listed");
    let watch = proto::WatchEventsRequest {
        begin: Some(Begin::Start(proto::WatchStart::Earliest.into())),
        ..Default::default()
    };
    let mut stream = client.watch(admin.request(watch)).await?.into_inner();
    let mut watched = 0;
    while watched < listed {
        let message = stream.message().await?;
        let message = message.context("the stream of events has ended")?;
        watched += usize::from(matches!(message.item, Some(Item::Event(_))));
        search.record(Ok(message));
    }
    Ok(())
}

/// Makes every call that contains a secret.
async fn call(
    context: &Context<'_>,
    fixture: &Fixture,
    server: &Serving,
    round: usize,
    random: &mut fastrand::Rng,
    search: &mut Search,
) -> Result<()> {
    let username = format!("canary-{round}");
    let right = search.secret(random, "a password");
    let create = [
        "operator",
        "create",
        "--username",
        &username,
        "--role",
        "SALES",
    ];
    context
        .program
        .command_with(&fixture.database.url(), &create, &right)?;

    let anonymous = Caller::connect(&server.address, "").await?;
    let wrong = search.secret(random, "a wrong password");
    let mistyped = search.secret(random, "a password in the username's place");
    for (username, password) in [(&username, &wrong), (&mistyped, &right)] {
        let request = proto::SignInRequest {
            username: username.clone(),
            password: password.clone(),
            ..Default::default()
        };
        search.record(anonymous.auth().sign_in(request).await);
    }
    let request = proto::SignInRequest {
        username: username.clone(),
        password: right.clone(),
        ..Default::default()
    };
    let response = anonymous.auth().sign_in(request).await?.into_inner();
    search
        .secrets
        .push(("a session's token", response.token[4..].to_owned()));
    let operator = Caller::on(anonymous.channel.clone(), &response.token)?;
    let program = fixture.caller(server).await?;
    for header in ["", "lss_", "lsk_"] {
        let unknown = search.secret(random, "an unknown token");
        let unauthenticated = Caller::on(anonymous.channel.clone(), &format!("{header}{unknown}"))?;
        search.record(unauthenticated.get("").await);
    }

    let lead = operator.create("Canary", "").await?;
    let update = |email: &str, password: &str, request_id: &str| {
        operator.request(proto::UpdateLeadRequest {
            lead: Some(Lead {
                id: lead.id.clone(),
                email: email.to_owned(),
                ..Default::default()
            }),
            current_password: password.to_owned(),
            request_id: request_id.to_owned(),
            ..Default::default()
        })
    };
    let id = uuid::Uuid::from_u128(random.u128(..)).to_string();
    for (email, password, request_id) in [
        ("a@canary.example", &wrong, id.as_str()),
        ("a@canary.example", &right, id.as_str()),
        ("a@canary.example", &right, id.as_str()),
        ("b@canary.example", &right, id.as_str()),
        ("no address", &right, ""),
        ("c@canary.example", &right, "no id"),
        ("", &right, ""),
    ] {
        search.record(
            operator
                .leads()
                .update(update(email, password, request_id))
                .await,
        );
    }
    let by_program = program.request(update("d@canary.example", &right, "").into_inner());
    search.record(program.leads().update(by_program).await);

    // In fields that are meant for something else.
    let lost = search.secret(random, "a password in another field");
    search.record(operator.get(&lost).await);
    search.record(operator.create("Canary", &lost).await);
    let list = proto::ListLeadsRequest {
        page_token: lost.clone(),
        order_by: lost.clone(),
        ..Default::default()
    };
    search.record(operator.leads().list(operator.request(list)).await);
    let found = proto::SearchLeadsRequest {
        query: lost.clone(),
        ..Default::default()
    };
    search.record(operator.leads().search(operator.request(found)).await);
    let deactivate = proto::DeactivateLeadRequest {
        id: lead.id.clone(),
        etag: lost,
        ..Default::default()
    };
    search.record(
        operator
            .leads()
            .deactivate(operator.request(deactivate))
            .await,
    );

    let next = search.secret(random, "a new password");
    for (current_password, new_password) in [
        (&wrong, &next),
        (&right, &"short".to_owned()),
        (&right, &next),
        (&right, &next),
    ] {
        let request = proto::ChangePasswordRequest {
            current_password: current_password.clone(),
            new_password: new_password.clone(),
            ..Default::default()
        };
        search.record(
            operator
                .auth()
                .change_password(operator.request(request))
                .await,
        );
    }
    search.record(
        operator
            .auth()
            .sign_out(operator.request(proto::SignOutRequest::default()))
            .await,
    );
    Ok(())
}

/// Everything that is stored: SQLite's files, or every row of every table.
async fn stored(database: &Database) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    if database.kind() == Kind::Sqlite {
        let folder = database.file();
        for file in fs::read_dir(folder.parent().unwrap_or(&folder))? {
            all.extend(fs::read(file?.path())?);
        }
        return Ok(all);
    }
    let db = database.connect().await?;
    let tables = "SELECT table_name::text FROM information_schema.tables \
                  WHERE table_schema = 'public'";
    for table in db.texts(tables).await? {
        for row in db
            .texts(&format!("SELECT row_to_json(t)::text FROM \"{table}\" t"))
            .await?
        {
            all.extend(row.as_bytes());
        }
    }
    db.close().await?;
    Ok(all)
}
