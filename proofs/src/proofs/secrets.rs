//! Passwords, tokens and keys, each one of a kind, go through every field that takes one and through
//! fields that people mistake for it, in calls that succeed and calls that fail. Afterwards the log at
//! its finest level, everything that is stored, and every answer are searched for them, in clear, in
//! hexadecimal and in base64. Shown to fail by `logs-tokens`.

use std::fmt::Debug;
use std::fs;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use leadsmith::wire::proto::{self, Lead};
use tonic::Status;

use crate::harness::client::Caller;
use crate::harness::context::{Context, Desk};
use crate::harness::database::{Database, Kind};
use crate::harness::program::Serving;
use crate::harness::report::Findings;

/// What must not show, and what is searched for it.
#[derive(Default)]
struct Search {
    secrets: Vec<(&'static str, String)>,
    places: Vec<(&'static str, Vec<u8>)>,
}

impl Search {
    /// A new secret, which looks like no other text.
    fn secret(&mut self, random: &mut fastrand::Rng, name: &'static str) -> String {
        let secret: String = std::iter::repeat_with(|| random.alphanumeric())
            .take(24)
            .collect();
        self.secrets.push((name, secret.clone()));
        secret
    }

    /// Notes an answer, with every byte of an error's details.
    fn answer<T: Debug>(&mut self, answer: Result<T, Status>) {
        let mut text = format!("{answer:?}").into_bytes();
        if let Err(status) = answer {
            text.extend(status.details());
        }
        self.places.push(("an answer", text));
    }

    fn look(&self, findings: &mut Findings) {
        for (name, secret) in &self.secrets {
            for form in forms(secret) {
                for (place, bytes) in &self.places {
                    let found = bytes
                        .windows(form.len())
                        .any(|part| part == form.as_bytes());
                    findings.expect(!found, || format!("{name} is in {place}"));
                }
            }
        }
    }
}

/// How a secret may be written.
fn forms(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![secret.to_owned(), hex.to_uppercase(), hex];
    // In the midst of something longer it begins at any of three places; only characters that are
    // made of it alone are searched for.
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
    let desk = context.desk()?;
    let server = context.serve(&desk, &["--log", "trace"]).await?;
    for account in 0..2 {
        search
            .secrets
            .push(("an API key", desk.key(account)[4..].to_owned()));
    }
    let rounds = context.size(2, 200);
    for round in 0..rounds {
        call(context, &desk, &server, round, &mut random, &mut search).await?;
    }
    let log = server.log()?;
    ensure!(log.contains("answered"), "nothing is logged at this level");
    search.places.push(("the log", log.into_bytes()));
    let stored = stored(&desk.database).await?;
    ensure!(contains(&stored, b"Canary"), "what is stored was not read");
    search.places.push(("what is stored", stored));
    search.look(&mut findings);
    findings.fact("secrets", search.secrets.len());
    findings.fact("answers", search.places.len() - 2);
    let bytes: usize = search.places.iter().map(|(_, bytes)| bytes.len()).sum();
    findings.fact("searched", format!("{} KiB", bytes / 1024));
    findings.finish()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Every call that carries a secret.
async fn call(
    context: &Context<'_>,
    desk: &Desk,
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
        .command_with(&desk.database.url(), &create, &right)?;

    let stranger = Caller::connect(&server.address, "").await?;
    let wrong = search.secret(random, "a wrong password");
    let mistyped = search.secret(random, "a password in the username's place");
    for (username, password) in [(&username, &wrong), (&mistyped, &right)] {
        let request = proto::SignInRequest {
            username: username.clone(),
            password: password.clone(),
            ..Default::default()
        };
        search.answer(stranger.auth().sign_in(request).await);
    }
    let request = proto::SignInRequest {
        username: username.clone(),
        password: right.clone(),
        ..Default::default()
    };
    let answer = stranger.auth().sign_in(request).await?.into_inner();
    search
        .secrets
        .push(("a session's token", answer.token[4..].to_owned()));
    let operator = Caller::on(stranger.channel.clone(), &answer.token)?;
    let program = desk.caller(server).await?;
    for header in ["", "lss_", "lsk_"] {
        let unknown = search.secret(random, "an unknown token");
        let nobody = Caller::on(stranger.channel.clone(), &format!("{header}{unknown}"))?;
        search.answer(nobody.get("").await);
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
        search.answer(
            operator
                .leads()
                .update(update(email, password, request_id))
                .await,
        );
    }
    let by_program = program.request(update("d@canary.example", &right, "").into_inner());
    search.answer(program.leads().update(by_program).await);

    // In the place of something else.
    let lost = search.secret(random, "a password in another field");
    search.answer(operator.get(&lost).await);
    search.answer(operator.create("Canary", &lost).await);
    let list = proto::ListLeadsRequest {
        page_token: lost.clone(),
        order_by: lost.clone(),
        ..Default::default()
    };
    search.answer(operator.leads().list(operator.request(list)).await);
    let found = proto::SearchLeadsRequest {
        query: lost.clone(),
        ..Default::default()
    };
    search.answer(operator.leads().search(operator.request(found)).await);
    let deactivate = proto::DeactivateLeadRequest {
        id: lead.id.clone(),
        etag: lost,
        ..Default::default()
    };
    search.answer(
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
        search.answer(
            operator
                .auth()
                .change_password(operator.request(request))
                .await,
        );
    }
    search.answer(
        operator
            .auth()
            .sign_out(operator.request(proto::SignOutRequest::default()))
            .await,
    );
    Ok(())
}

/// All that is stored: SQLite's files, or every row of every table.
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
