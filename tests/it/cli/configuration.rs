//! Settings that are neither flags nor plain variables: the configuration file, files with secrets, and variables
//! that nobody knows.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::SECRET;
use crate::program::{Ended, Program, leadsmith};

/// A folder with files that settings name.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Writes a file that only its owner can read.
    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        self.set_mode(&path, 0o600);
        path
    }

    fn set_mode(&self, path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
}

fn with_file(command: &str, file: &Path) -> Program {
    leadsmith(command).env("LEADSMITH_CONFIG", file.to_str().unwrap())
}

/// The value and the source of a setting in the output of `config --output json`.
fn setting(ended: Ended, name: &str) -> (String, String) {
    let settings: Value = serde_json::from_str(&ended.done()).unwrap();
    let settings = settings.as_array().unwrap();
    let found = settings.iter().find(|setting| setting["name"] == name);
    let text = |field: &str| found.unwrap()[field].as_str().unwrap().to_owned();
    (text("value"), text("source"))
}

#[tokio::test]
async fn a_flag_precedes_a_variable_which_precedes_the_file_which_precedes_the_default() {
    let files = Files::new();
    let file = files.put(
        "leadsmith.toml",
        "# A comment.\nmax-calls = 7\ndrain = 2.5\ninsecure = true\nlog = \"warn\"\nlisten = '127.0.0.1:4711'\n",
    );
    let run = |flags: &str| with_file(&format!("config --output json {flags}"), &file);
    let is = |ended: Ended, name: &str, value: &str, source: &str| {
        assert_eq!(setting(ended, name), (value.to_owned(), source.to_owned()));
    };
    for (name, value) in [
        ("max-calls", "7"),
        ("drain", "2.5 s"),
        ("insecure", "true"),
        ("log", "warn"),
        ("listen", "127.0.0.1:4711"),
    ] {
        is(run("").run().await, name, value, "file");
    }
    let path = file.to_str().unwrap();
    is(run("").run().await, "config", path, "environment");
    is(run("").run().await, "max-connections", "4000", "default");
    let both = || {
        run("")
            .env("LEADSMITH_MAX_CALLS", "8")
            .env("LEADSMITH_LOG", "error")
    };
    is(both().run().await, "max-calls", "8", "environment");
    is(both().run().await, "log", "error", "environment");
    let all = run("--max-calls 9").env("LEADSMITH_MAX_CALLS", "8");
    is(all.run().await, "max-calls", "9", "flag");
    is(
        run("--insecure false").run().await,
        "insecure",
        "false",
        "flag",
    );
    // An empty variable is one that is not set.
    is(
        run("").env("LEADSMITH_MAX_CALLS", " ").run().await,
        "max-calls",
        "7",
        "file",
    );
    // The flag counts, and the file of the variable is not even read.
    let other = files.put("other.toml", "max-calls = 3");
    let given = leadsmith(&format!(
        "--config {} config --output json",
        other.display()
    ));
    let given = given.env("LEADSMITH_CONFIG", "missing.toml");
    is(given.run().await, "max-calls", "3", "file");
    // Help does not need the file.
    let help = leadsmith("serve --help").env("LEADSMITH_CONFIG", "missing.toml");
    help.run().await.done();
}

#[tokio::test]
async fn a_wrong_file_is_refused_with_the_line_and_what_to_write() {
    let files = Files::new();
    for (content, why) in [
        ("max-calls = 0", "\"0\" of max-calls in"),
        (
            "\n\nmax-calls = 0",
            "leadsmith.toml, line 3 is invalid: it must be a whole number from 1 to 1000000",
        ),
        (
            "max-calls = -9223372036854775808",
            "a whole number from 1 to 1000000",
        ),
        (
            "max-calls = 18446744073709551616",
            "a whole number from 1 to 1000000",
        ),
        ("max-calls = 0x10", "a whole number from 1 to 1000000"),
        ("max-calls = 1.5", "a whole number from 1 to 1000000"),
        ("drain = 1e9", "a number of seconds from 0.01 to 3600"),
        ("drain = inf", "a number of seconds from 0.01 to 3600"),
        ("drain = nan", "a number of seconds from 0.01 to 3600"),
        ("log-format = \"xml\"", "one of text, json"),
        ("migrate = \"maybe\"", "it must be"),
        ("listen = \"\"", "an IP address and a port"),
        ("tls-key = \"\"", "a value that is not empty"),
        ("# one\nmax-cals = 1", "\"max-cals\" in"),
        (
            "# one\nmax-cals = 1",
            "line 2 is not a setting: max-calls has a similar name",
        ),
        ("max_calls = 1", "max-calls has a similar name"),
        ("MAX-CALLS = 1", "max-calls has a similar name"),
        ("force = true", "is not a setting"),
        ("config = \"x\"", "is not a setting"),
        (
            "zzzzzzzz = 1",
            "its keys are the flags that leadsmith serve --help lists",
        ),
        (
            "[server]\nmax-calls = 1",
            "line 1 must be a text, a number, true or false",
        ),
        (
            "listen = [\"127.0.0.1:1\"]",
            "settings have no sections and no lists",
        ),
        (
            "listen = 2026-01-31",
            "must be a text, a number, true or false",
        ),
        ("a = 1\nlisten = 127.0.0.1:1", "line 2 is not TOML"),
        ("max-calls = 1\nmax-calls = 2", "line 2 is not TOML"),
        ("\"\\u001b[31mred\" = 1", "\\u{1b}[31mred"),
    ] {
        let file = files.put("leadsmith.toml", content);
        for command in ["config", "serve", "operator list"] {
            let ended = with_file(command, &file).run().await;
            assert_eq!(ended.code, Some(2), "{content}: {ended:?}");
            ended.refused(why);
        }
    }
    let large = "# ".to_owned() + &"x".repeat(70_000);
    for (content, why) in [
        (vec![0xff, 0xfe], "it is not UTF-8"),
        (large.into_bytes(), "larger than 65536 bytes"),
    ] {
        let file = files.put("leadsmith.toml", content);
        with_file("config", &file).run().await.refused(why);
    }
    with_file("config", Path::new("missing.toml"))
        .run()
        .await
        .refused("missing.toml of --config cannot be read");
    with_file("config", files.0.path())
        .run()
        .await
        .refused("cannot be read");
    let wrong = format!("log = {SECRET}");
    let file = files.put("leadsmith.toml", wrong);
    with_file("config", &file)
        .run()
        .await
        .refused("is not TOML");
}

#[tokio::test]
async fn a_password_in_a_file_that_everybody_can_read_is_refused() {
    let files = Files::new();
    let url = format!("postgres://leadsmith:{SECRET}@db.example/leads");
    let file = files.put("leadsmith.toml", format!("database-url = \"{url}\""));
    let config = || with_file("config --output json", &file);
    for mode in [0o600, 0o400, 0o640] {
        files.set_mode(&file, mode);
        let shown = setting(config().run().await, "database-url");
        assert_eq!(
            shown,
            (
                "postgres://leadsmith:…@db.example/leads".into(),
                "file".into()
            )
        );
    }
    for mode in [0o644, 0o604, 0o666] {
        files.set_mode(&file, mode);
        config()
            .run()
            .await
            .refused("every user of this machine can read the file: run chmod 600");
    }
    // Without a password there is nothing to hide, and the secret may be in a file of its own.
    let secret = files.put("url", format!("{url}\n"));
    for content in [
        "database-url = \"postgres://leadsmith@db.example/leads\"".to_owned(),
        format!("database-url-file = \"{}\"", secret.display()),
    ] {
        let file = files.put("leadsmith.toml", content);
        files.set_mode(&file, 0o644);
        let ended = with_file("config", &file).run().await;
        ended.shows_nothing_it_should_not();
        assert!(ended.done().contains("@db.example/leads"));
    }
    let both = format!(
        "database-url = \"sqlite:x.db\"\ndatabase-url-file = \"{}\"",
        secret.display()
    );
    let file = files.put("leadsmith.toml", both);
    with_file("config", &file)
        .run()
        .await
        .refused("has both database-url and database-url-file");
}

#[tokio::test]
async fn a_secret_can_come_from_a_file_that_a_variable_names() {
    let files = Files::new();
    let from = |content: &str| {
        let path = files.put("url", content);
        leadsmith("config --output json").env("LEADSMITH_DATABASE_URL_FILE", path.to_str().unwrap())
    };
    for content in [
        "sqlite:x.db",
        "sqlite:x.db\n",
        "sqlite:x.db\r\n",
        " sqlite:x.db \n",
        "\u{feff}sqlite:x.db",
    ] {
        let shown = setting(from(content).run().await, "database-url");
        assert_eq!(
            shown,
            ("sqlite:x.db".to_owned(), "environment".to_owned()),
            "{content:?}"
        );
    }
    let url = format!("postgres://leadsmith:{SECRET}@db.example/leads\n");
    let ended = from(&url).run().await;
    ended.shows_nothing_it_should_not();
    assert_eq!(
        setting(ended, "database-url").0,
        "postgres://leadsmith:…@db.example/leads"
    );
    // A flag precedes it, as it precedes the plain variable. It precedes the configuration file.
    let file = files.put("leadsmith.toml", "database-url = \"sqlite:y.db\"");
    let run = from("sqlite:x.db").env("LEADSMITH_CONFIG", file.to_str().unwrap());
    assert_eq!(setting(run.run().await, "database-url").0, "sqlite:x.db");
    let run = from("sqlite:x.db").argument("--database-url=sqlite:z.db");
    assert_eq!(
        setting(run.run().await, "database-url"),
        ("sqlite:z.db".into(), "flag".into())
    );

    from("sqlite:x.db")
        .database("sqlite:y.db")
        .run()
        .await
        .refused("LEADSMITH_DATABASE_URL and LEADSMITH_DATABASE_URL_FILE are both set: unset one of them");
    let empty = from("sqlite:x.db").database(" ").run().await;
    assert_eq!(setting(empty, "database-url").0, "sqlite:x.db");
    from("")
        .run()
        .await
        .refused("of LEADSMITH_DATABASE_URL_FILE is empty");
    from("\n")
        .run()
        .await
        .refused("of LEADSMITH_DATABASE_URL_FILE is empty");
    from(&format!("postgres://u:{SECRET}@h/x\nsecond line"))
        .run()
        .await
        .refused("a line break");
    for missing in ["missing", "/"] {
        let run = leadsmith("config").env("LEADSMITH_DATABASE_URL_FILE", missing);
        run.run()
            .await
            .refused("of LEADSMITH_DATABASE_URL_FILE cannot be read");
    }
    // Blank, it is not set.
    let run = leadsmith("config --output json").env("LEADSMITH_DATABASE_URL_FILE", "\n");
    assert_eq!(setting(run.run().await, "database-url").1, "default");
}

#[tokio::test]
async fn a_variable_that_is_no_setting_is_warned_of() {
    let warned = async |name: &str| {
        let run = leadsmith("config")
            .env(name, "1")
            .env("LEADSMITH_LOG_FORMAT", "json");
        let ended = run.run().await;
        let lines: Vec<Value> = ended
            .err
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        ended.done();
        lines
    };
    for (name, nearest) in [
        (
            "LEADSMITH_MAX_CALL",
            "LEADSMITH_MAX_CALLS has a similar name",
        ),
        ("LEADSMITH_TLS_CERT", "LEADSMITH_TLS_C"),
        (
            "LEADSMITH_DATABASEURL",
            "LEADSMITH_DATABASE_URL has a similar name",
        ),
        (
            "LEADSMITH_TLS_KEY_FILE",
            "LEADSMITH_TLS_KEY has a similar name",
        ),
        (
            "LEADSMITH_ZZZZZZZZZZ",
            "leadsmith serve --help lists the settings",
        ),
    ] {
        let lines = warned(name).await;
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0]["level"], json!("WARN"));
        let message = lines[0]["message"].as_str().unwrap();
        assert!(
            message.contains(&format!("{name} is not a setting")),
            "{message}"
        );
        assert!(message.contains(nearest), "{message}");
    }
    // Kubernetes sets these for a service named leadsmith or leadsmith-postgres.
    for name in [
        "LEADSMITH_SERVICE_HOST",
        "LEADSMITH_SERVICE_PORT_GRPC",
        "LEADSMITH_PORT",
        "LEADSMITH_PORT_50051_TCP_ADDR",
        "LEADSMITH_POSTGRES_PORT_5432_TCP",
        "leadsmith_max_call",
    ] {
        assert_eq!(warned(name).await, Vec::<Value>::new(), "{name}");
    }
}
