//! A PostgreSQL role that may read and write rows and nothing else, as in a deployment in which another role migrates.

use std::time::Duration;

use leadsmith_proto as proto;
use sea_orm::ConnectionTrait as _;
use uuid::Uuid;

use crate::harness::{
    Backend, Caller, PASSWORD, TestDatabase, channel, count, eventually, sign_in,
};
use crate::program::{Program, leadsmith};

struct Restricted {
    name: String,
    url: String,
}

impl Restricted {
    async fn create(database: &TestDatabase) -> Self {
        let name = format!("it_{}", Uuid::now_v7().simple());
        let db = database.connect().await;
        db.execute_unprepared(&format!(
            "CREATE ROLE {name} LOGIN PASSWORD 'restricted'; \
             REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}; \
             REVOKE INSERT, UPDATE, DELETE ON seaql_migrations, schema_compatibility FROM {name}"
        ))
        .await
        .unwrap();
        db.close().await.unwrap();
        let (_, host) = database.url.rsplit_once('@').unwrap();
        let url = format!("postgres://{name}:restricted@{host}");
        Self { name, url }
    }

    fn run(&self, arguments: &str) -> Program {
        leadsmith(arguments).database(&self.url)
    }

    async fn drop(self, database: &TestDatabase) {
        let db = database.connect().await;
        let sql = format!("DROP OWNED BY {0}; DROP ROLE {0}", self.name);
        db.execute_unprepared(&sql).await.unwrap();
        db.close().await.unwrap();
    }
}

/// Runs every command that manages accounts.
async fn manage_accounts(role: &Restricted) {
    let run = async |arguments: &str| {
        let run = role.run(arguments).quiet().input(PASSWORD);
        run.run().await.done()
    };
    run("operator create --username ada --role ADMIN").await;
    run("operator create --username bob --role SALES").await;
    run("operator set-password --username bob").await;
    run("operator unlock --username bob").await;
    run("operator set-role --username bob --role VIEWER").await;
    run("operator disable --username bob").await;
    run("operator enable --username bob").await;
    assert_eq!(run("operator list").await.lines().count(), 2);
    run("service-account create --name crm --role SALES").await;
    run("service-account create-key --name crm").await;
    run("service-account set-certificate --name crm --certificate-name DNS:crm.example").await;
    run("service-account disable --name crm").await;
    run("service-account enable --name crm").await;
    let listed = run("service-account list").await;
    let (_, key) = listed.split_once("key ").unwrap();
    let key = key.split_whitespace().next().unwrap();
    run(&format!("service-account revoke-key --id {key}")).await;
}

/// Calls every service, and changes a record of each kind.
async fn call_every_service(ada: &Caller) {
    let lead = ada.create_lead("Lovelace").await;
    let change = proto::Lead {
        id: lead.id.clone(),
        phone: "1".into(),
        ..Default::default()
    };
    ada.update(change, &["phone"]).await.unwrap();
    ada.deactivate(&lead.id).await.unwrap();
    ada.reactivate(&lead.id).await.unwrap();
    let sale = proto::CreateOpportunityRequest {
        opportunity: Some(proto::Opportunity {
            lead_id: lead.id.clone(),
            name: "Engine".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    ada.opportunities().create(sale).await.unwrap();
    let opportunities = proto::ListOpportunitiesRequest::default();
    ada.opportunities().list(opportunities).await.unwrap();
    let order = ada.create_order(&lead.id, Vec::new()).await;
    ada.run(&order.id, "provision-client").await.unwrap();
    let client = proto::GetClientRequest {
        id: lead.id.clone(),
    };
    ada.clients().get(client).await.unwrap();
    ada.leads()
        .list(proto::ListLeadsRequest::default())
        .await
        .unwrap();
    let search = proto::SearchLeadsRequest {
        query: "lovelace".into(),
        ..Default::default()
    };
    ada.leads().search(search).await.unwrap();
    ada.auth().who_am_i(proto::WhoAmIRequest {}).await.unwrap();
    ada.erase(&lead.id).await.unwrap();
}

/// A stored response that retention deletes, and one that is new: it confirms the server's clock.
async fn store_an_old_response(database: &TestDatabase) {
    let db = database.connect().await;
    db.execute_unprepared(
        "INSERT INTO idempotency_records (principal_id, request_id, fingerprint, response, create_time) \
         SELECT gen_random_uuid(), gen_random_uuid(), '\\x00', '\\x00', t \
         FROM unnest(ARRAY['2020-01-01', now()]) AS t",
    )
    .await
    .unwrap();
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_only_read_and_write_rows_serves() {
    let database = TestDatabase::create(Backend::Postgres).await;
    let owner = leadsmith("migrate up").database(&database.url);
    owner.run().await.done();
    let role = Restricted::create(&database).await;
    manage_accounts(&role).await;
    role.run("migrate status").run().await.done();
    // There is nothing to do, so this needs no right.
    role.run("migrate up").run().await.done();
    for command in ["serve", "serve --migrate false"] {
        store_an_old_response(&database).await;
        let command = format!("{command} --retention-interval 0.05");
        let mut server = role.run(&command).serve().await;
        let channel = channel(server.address);
        let token = sign_in(channel.clone(), "ada", PASSWORD).await.unwrap();
        let ada = Caller {
            id: Uuid::nil(),
            token,
            channel,
        };
        call_every_service(&ada).await;
        eventually("a vacuum was tried", async || {
            server.log().contains("VACUUM")
        })
        .await;
        let log = server.log();
        assert!(log.contains("does not own the tables"), "{log}");
        let db = database.connect().await;
        let old = "SELECT count(*) FROM idempotency_records WHERE create_time < '2021-01-01'";
        eventually("it is deleted", async || count(&db, old).await == 0).await;
        db.close().await.unwrap();
        let ended = role.run("migrate down --yes").quiet().run().await;
        ended.refused("servers are running on this database");
        server.terminate();
        server.ended(Duration::from_secs(10)).await;
        let log = server.log();
        // From version 16 on, PostgreSQL calls it "denied" when it leaves out a table of a vacuum.
        let lines = log.lines().filter(|line| !line.contains("skipping it"));
        let log = lines.collect::<Vec<_>>().join("\n");
        for word in ["denied", "ERROR", "not deleted yet", "the schema"] {
            assert!(!log.contains(word), "{log}");
        }
    }
    let ended = role.run("migrate down --yes").quiet().run().await;
    ended.refused("as the role that owns the tables");
    role.drop(&database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_not_migrate_is_told_who_may() {
    let database = TestDatabase::create(Backend::Postgres).await;
    let owner = |command: &str| leadsmith(command).database(&database.url).run();
    owner("migrate up").await.done();
    let role = Restricted::create(&database).await;
    owner("migrate down --yes").await.done();
    for command in ["serve", "migrate up"] {
        let ended = role.run(command).quiet().run().await;
        ended.refused("as the role that owns the tables");
    }
    let ended = role.run("serve --migrate false").quiet().run().await;
    ended.refused("lacks 1 migrations: run leadsmith migrate up");
    role.drop(&database).await;
}
