//! What commands print for programs, and the codes by which they end.

use leadsmith::core::role::Role;
use serde_json::{Value, json};

use crate::harness::PASSWORD;
use crate::on_both;
use crate::program::{Program, leadsmith};

async fn json(run: Program) -> Value {
    let printed = run.run().await.done();
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

/// The names of the fields.
fn fields(value: &Value) -> Vec<&str> {
    let mut names: Vec<_> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names
}

on_both! {
    async fn every_result_has_a_form_for_programs(h: Harness) {
        let run = |arguments: &str| {
            let run = leadsmith(&format!("{arguments} --output json")).database(&h.database.url);
            run.quiet().input(PASSWORD)
        };
        let create = run("operator create --username grace --role ADMIN").argument("--display-name=G \"H\" Ü");
        let operator = json(create).await;
        assert_eq!(fields(&operator), ["disable_time", "display_name", "id", "role", "username"]);
        assert_eq!(operator["display_name"], json!("G \"H\" Ü"));
        assert_eq!(operator["role"], json!("ADMIN"));
        leadsmith("operator disable --username grace").database(&h.database.url).run().await.done();
        let operators = json(run("operator list")).await;
        let found = operators.as_array().unwrap().iter().find(|one| one["id"] == operator["id"]);
        assert!(found.unwrap()["disable_time"].as_str().unwrap().ends_with('Z'), "{operators}");

        let account = json(run("service-account create --name crm --role sales")).await;
        assert_eq!(fields(&account), ["id", "name", "role"]);
        let key = json(run("service-account create-key --name crm")).await;
        assert_eq!(fields(&key), ["id", "key"]);
        assert!(key["key"].as_str().unwrap().len() > 40);
        let accounts = json(run("service-account list")).await;
        let found = &accounts.as_array().unwrap()[0];
        assert_eq!(fields(found), ["certificate_name", "disable_time", "id", "keys", "name", "role"]);
        assert_eq!(found["certificate_name"], Value::Null);
        assert_eq!(found["disable_time"], Value::Null);
        assert_eq!(fields(&found["keys"][0]), ["create_time", "id", "last_use_time", "revoke_time"]);
        assert_eq!(found["keys"][0]["id"], key["id"]);
        assert!(!accounts.to_string().contains(key["key"].as_str().unwrap()));

        let steps = json(run("migrate status")).await;
        assert_eq!(fields(&steps[0]), ["name", "state"]);
        let settings = json(run("config")).await;
        assert_eq!(fields(&settings[0]), ["name", "source", "value"]);
    }

    async fn a_key_for_programs_that_cannot_be_printed_is_revoked(h: Harness) {
        h.service_account("billing", Role::Sales).await;
        let run = |arguments: &str| leadsmith(arguments).database(&h.database.url).quiet();
        let create = || run("service-account create-key --name billing --output json");
        for unprinted in [create().onto_a_full_disk(), create().onto_a_closed_pipe()] {
            let ended = unprinted.run().await;
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert!(ended.err.contains("was revoked"), "{ended:?}");
        }
        let accounts = json(run("service-account list --output json")).await;
        let keys = accounts[0]["keys"].as_array().unwrap();
        let revoked = keys.iter().filter(|key| key["revoke_time"].is_string());
        assert_eq!((keys.len(), revoked.count()), (3, 2), "{accounts}");
    }
}

#[tokio::test]
async fn a_failure_is_known_by_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let run = async |arguments: &str, url: &str| {
        let run = leadsmith(arguments)
            .database(url)
            .quiet()
            .in_folder(folder.path());
        run.input(PASSWORD).run().await.code
    };
    run("migrate up", "sqlite:x.db").await;
    let away = "postgres://dev:x@127.0.0.1:1/postgres";
    for (code, arguments, url) in [
        (0, "operator list", "sqlite:x.db"),
        (1, "operator disable --username nobody", "sqlite:x.db"),
        (1, "healthcheck --listen 127.0.0.1:1", "sqlite:x.db"),
        (2, "operator nonsense", "sqlite:x.db"),
        (2, "serve --max-calls 0", "sqlite:x.db"),
        (2, "serve --listen 0.0.0.0:1", "sqlite:x.db"),
        (2, "serve --default-deadline 100", "sqlite:x.db"),
        (
            2,
            "serve --tls-certificate missing.pem --tls-key missing.key",
            "sqlite:x.db",
        ),
        (2, "healthcheck --tls-client-key missing.key", "sqlite:x.db"),
        (2, "operator list", "mysql://localhost"),
        (1, "backup x", away),
        (69, "operator list", "sqlite:missing.db"),
        (69, "serve --migrate false", "sqlite:missing.db"),
        (69, "operator list", away),
        (69, "serve", away),
    ] {
        assert_eq!(
            run(arguments, url).await,
            Some(code),
            "{arguments} on {url}"
        );
    }
}

#[tokio::test]
async fn control_characters_of_arguments_and_results_do_not_reach_a_terminal() {
    let evil = "\u{1b}[31m\u{9b}31m\u{202e}";
    for ended in [
        leadsmith("config").argument(evil).run().await,
        leadsmith("config")
            .argument(&format!("--{evil}"))
            .run()
            .await,
        leadsmith("config")
            .argument(&format!("--log={evil}"))
            .run()
            .await,
        leadsmith("config")
            .argument(&format!("--max-calls={evil}"))
            .run()
            .await,
        leadsmith("").argument(evil).run().await,
        leadsmith("operator create --username x --role")
            .argument(evil)
            .run()
            .await,
        leadsmith("config").env("LEADSMITH_DRAIN", evil).run().await,
        leadsmith("config")
            .env(&format!("LEADSMITH_{evil}"), "x")
            .run()
            .await,
        leadsmith("config")
            .env("LEADSMITH_CONFIG", evil)
            .run()
            .await,
        leadsmith("config")
            .argument(&format!("--database-url=sqlite:{evil}"))
            .run()
            .await,
        leadsmith("config")
            .argument(&format!("--tls-ca={evil}"))
            .run()
            .await,
        leadsmith("config --output json")
            .argument(&format!("--tls-ca={evil}"))
            .run()
            .await,
        leadsmith("healthcheck --listen 127.0.0.1:1")
            .argument(&format!("--tls-ca={evil}"))
            .run()
            .await,
        leadsmith("man").argument(evil).run().await,
    ] {
        for character in evil.chars().filter(|c| !c.is_ascii_graphic()) {
            assert!(!ended.out.contains(character), "{ended:?}");
            assert!(!ended.err.contains(character), "{ended:?}");
        }
    }
    let config = leadsmith("config --output json").argument(&format!("--tls-ca={evil}"));
    let settings = json(config).await;
    let mut settings = settings.as_array().unwrap().iter();
    assert!(
        settings.any(|setting| setting["value"] == evil),
        "the value is the same"
    );
}

#[tokio::test]
async fn the_version_names_the_commit() {
    for flag in ["--version", "-V"] {
        let version = leadsmith(flag).run().await.done();
        let rest = version
            .strip_prefix("leadsmith 0.")
            .unwrap_or_else(|| panic!("{version}"));
        let (_, commit) = rest.trim_end().split_once(" (").unwrap();
        let (commit, date) = commit.strip_suffix(')').unwrap().split_once(' ').unwrap();
        let is_commit = commit.len() == 12 && date.len() == 10;
        assert!(
            is_commit || (commit, date) == ("commit", "unknown"),
            "{version}"
        );
    }
}

#[tokio::test]
async fn shells_and_man_get_what_they_need() {
    for (shell, text) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef leadsmith"),
        ("fish", "complete -c leadsmith"),
    ] {
        let script = leadsmith(&format!("completions {shell}"))
            .run()
            .await
            .done();
        assert!(
            script.contains(text) && script.contains("service-account"),
            "{script}"
        );
    }
    leadsmith("completions tcl")
        .run()
        .await
        .misused("[possible values: bash");
    let page = leadsmith("man").run().await.done();
    assert!(page.contains(".TH leadsmith 1"), "{page}");
    let folder = tempfile::tempdir().unwrap();
    let written = leadsmith("man .")
        .in_folder(folder.path())
        .run()
        .await
        .done();
    assert_eq!(written, "");
    for name in [
        "leadsmith.1",
        "leadsmith-serve.1",
        "leadsmith-operator-create.1",
    ] {
        assert!(folder.path().join(name).exists(), "{name}");
    }
    leadsmith("man missing")
        .run()
        .await
        .refused("name an existing folder");
}

#[tokio::test]
async fn help_is_grouped_and_has_examples() {
    let help = leadsmith("serve --help").run().await.done();
    for heading in [
        "Options:",
        "Database:",
        "Network:",
        "TLS:",
        "Limits:",
        "Log:",
        "Signals:",
        "Examples:",
    ] {
        assert!(
            help.lines().any(|line| line == heading),
            "{heading} is not in {help}"
        );
    }
    let help = leadsmith("--help").run().await.done();
    assert!(
        help.contains("Exit codes:") && help.contains("Examples:"),
        "{help}"
    );
}
