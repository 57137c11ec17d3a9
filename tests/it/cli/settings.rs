//! Settings by flags and variables: precedence, validation, and hidden values.

use super::SECRET;
use crate::program::leadsmith;

#[tokio::test]
async fn a_setting_of_the_environment_counts_and_a_flag_counts_more() {
    let settings = [
        ("database-url", "sqlite:other.db", "sqlite:other.db"),
        ("listen", "127.0.0.1:4711", "127.0.0.1:4711"),
        ("insecure", "true", "true"),
        ("tls-certificate", "c.pem", "c.pem"),
        ("tls-key", "k.pem", "k.pem"),
        ("tls-client-ca", "a.pem", "a.pem"),
        ("tls-client-certificates", "optional", "optional"),
        ("migrate", "false", "false"),
        ("min-password-length", "8", "8"),
        ("log-reads", "0.25", "0.25"),
        ("admin-listen", "127.0.0.1:4712", "127.0.0.1:4712"),
        (
            "traces-endpoint",
            "https://collector:4317",
            "https://collector:4317",
        ),
        ("traces-sample", "0.5", "0.5"),
        ("max-calls", "7", "7"),
        ("calls-per-second", "12", "12"),
        ("max-connections", "13", "13"),
        ("max-connections-per-address", "14", "14"),
        ("unread-bytes-per-principal", "5000000", "5000000"),
        ("unread-bytes", "6000000", "6000000"),
        ("max-watches", "21", "21"),
        ("max-watches-per-principal", "22", "22"),
        ("watch-buffer", "7000000", "7000000"),
        ("default-deadline", "0.5", "0.5 s"),
        ("max-deadline", "70", "70 s"),
        ("drain", "3", "3 s"),
        ("postgres-connections", "9", "9"),
        ("sqlite-readers", "8", "8"),
        ("connection-wait", "2.5", "2.5 s"),
        ("sqlite-write-wait", "6", "6 s"),
        ("statement-time", "11", "11 s"),
        ("keep-request-ids", "30", "30 h"),
        ("keep-events", "90", "90 d"),
        ("revert-period", "14", "14 d"),
        ("retention-interval", "60", "60 s"),
        ("log", "warn", "warn"),
        ("log-format", "json", "json"),
    ];
    let usual = leadsmith("config").run().await.done();
    let mut environment = leadsmith("config");
    let mut contradicted = leadsmith(
        "config --log warn --log-format json --database-url sqlite:other.db \
         --listen 127.0.0.1:4711 --insecure true --tls-certificate c.pem --tls-key k.pem \
         --tls-client-ca a.pem --tls-client-certificates optional --migrate false --log-reads 0.25 --admin-listen 127.0.0.1:4712 \
         --traces-endpoint https://collector:4317 --traces-sample 0.5 --min-password-length 8 --max-calls 7 \
         --calls-per-second 12 --max-connections 13 --max-connections-per-address 14 \
         --unread-bytes-per-principal 5000000 --unread-bytes 6000000 --max-watches 21 \
         --max-watches-per-principal 22 --watch-buffer 7000000 --default-deadline 0.5 \
         --max-deadline 70 --drain 3 --postgres-connections 9 --sqlite-readers 8 \
         --connection-wait 2.5 --sqlite-write-wait 6 --statement-time 11 --keep-request-ids 30 \
         --keep-events 90 --revert-period 14 --retention-interval 60",
    );
    let mut wanted = Vec::new();
    for (name, value, shown) in settings {
        let variable = format!("LEADSMITH_{}", name.replace('-', "_").to_uppercase());
        // Files and shells leave whitespace and line ends around a value.
        environment = environment.env(&variable, &format!(" {value}\r\n"));
        // Settings that apply to every command are parsed before the command is known, so they must be valid.
        let other = match name {
            "log" => "error",
            "log-format" => "text",
            _ => "nonsense",
        };
        contradicted = contradicted.env(&variable, other);
        wanted.push(move |source: &str| format!("{name:<30}{source:<13}{shown}\n"));
        assert!(
            !usual.contains(&format!("{name:<30}{:<13}{shown}\n", "default")),
            "{name}"
        );
    }
    let shown = |source: &str| -> String {
        let lines: String = wanted.iter().map(|line| line(source)).collect();
        let client = [
            "tls-ca",
            "tls-name",
            "tls-client-certificate",
            "tls-client-key",
        ];
        let client = client.map(|name| {
            usual
                .lines()
                .find(|line| line.starts_with(&format!("{name} ")))
                .unwrap()
        });
        let first = usual.lines().next().unwrap();
        format!("{first}\n{lines}{}\n", client.join("\n"))
    };
    assert_eq!(environment.run().await.done(), shown("environment"));
    assert_eq!(
        contradicted.run().await.done(),
        shown("flag"),
        "a flag overrides"
    );
}

#[tokio::test]
async fn config_hides_what_is_secret_in_a_url() {
    for (url, shown) in [
        (
            format!("postgres://leadsmith:{SECRET}@db.example:5433/leads"),
            "postgres://leadsmith:…@db.example:5433/leads",
        ),
        (
            format!(
                "postgresql://leadsmith:{SECRET}%40x@db.example/leads?sslmode=require&password={SECRET}"
            ),
            "postgresql://leadsmith:…@db.example/leads?…",
        ),
        (
            "postgres://leadsmith@db.example/leads".to_owned(),
            "postgres://leadsmith@db.example/leads",
        ),
    ] {
        let ended = leadsmith("config").database(&url).run().await;
        ended.shows_nothing_it_should_not();
        let line = format!("{:<30}{:<13}{shown}", "database-url", "environment");
        assert_eq!(ended.done().lines().nth(1), Some(line.as_str()));
    }
}

#[tokio::test]
async fn bad_settings_are_refused_in_a_sentence() {
    let url = |rest: &str| format!("{rest}?password={SECRET}");
    let not_a_file = "must have a file name after sqlite:";
    for (database, why) in [
        (
            "leadsmith.db".to_owned(),
            "must begin with sqlite: or postgres://",
        ),
        (
            format!("mysql://root:{SECRET}@127.0.0.1/x"),
            "must begin with sqlite: or postgres://",
        ),
        ("sqlite::memory:".to_owned(), not_a_file),
        ("sqlite://:memory:".to_owned(), not_a_file),
        ("sqlite:".to_owned(), not_a_file),
        ("sqlite:x.db?mode=memory".to_owned(), not_a_file),
        (url("sqlite:x.db"), not_a_file),
        (
            "sqlite:no/such/folder/x.db".to_owned(),
            "does not exist: create it first",
        ),
        (
            format!("postgres://dev:{SECRET}@127.0.0.1:nonsense/x"),
            "is not a PostgreSQL URL",
        ),
    ] {
        for command in ["serve", "config", "migrate up", "operator list"] {
            leadsmith(command)
                .database(&database)
                .quiet()
                .run()
                .await
                .refused(why);
        }
    }
    for (flags, why) in [
        (
            "--default-deadline 61",
            "--default-deadline must not be longer than --max-deadline",
        ),
        (
            "--max-deadline 9.5",
            "--default-deadline must not be longer than --max-deadline",
        ),
    ] {
        for command in ["serve", "config"] {
            leadsmith(&format!("{command} {flags}"))
                .quiet()
                .run()
                .await
                .refused(why);
        }
    }
    for (arguments, why) in [
        ("", "Usage: leadsmith"),
        ("nonsense", "unrecognized subcommand"),
        ("serve --nonsense", "unexpected argument"),
        ("serve --listen here", "--listen"),
        ("serve --migrate maybe", "--migrate"),
        ("serve --max-calls -1", "a whole number from 1 to 1000000"),
        (
            "serve --drain -0.5",
            "a number of seconds from 0.01 to 3600",
        ),
        ("--log loud serve", "--log"),
        ("operator create --username ada", "--role"),
        (
            "operator create --username ada --role king",
            "VIEWER, SALES or ADMIN",
        ),
        ("service-account revoke-key --id 7", "--id"),
        ("serve --listen localhost:50051", "an IP address and a port"),
    ] {
        let ended = leadsmith(arguments).run().await;
        if arguments.is_empty() {
            assert_eq!(ended.code, Some(2));
            assert!(ended.err.contains(why), "{ended:?}");
        } else {
            ended.misused(why);
        }
    }
}

#[tokio::test]
async fn a_number_out_of_its_range_is_refused_with_the_range() {
    let counts = [
        ("max-calls", 1, 1_000_000),
        ("calls-per-second", 0, 1_000_000),
        ("max-connections", 1, 1_000_000),
        ("max-connections-per-address", 1, 1_000_000),
        ("unread-bytes-per-principal", 4 << 20, 1 << 30),
        ("unread-bytes", 4 << 20, 1 << 30),
        ("max-watches", 1, 1_000_000),
        ("max-watches-per-principal", 1, 1_000_000),
        ("watch-buffer", 1 << 20, 1 << 30),
        ("postgres-connections", 1, 10_000),
        ("sqlite-readers", 1, 256),
        ("keep-request-ids", 24, 876_000),
        ("keep-events", 0, 36_500),
        ("revert-period", 0, 36_500),
    ];
    for (flag, least, most) in counts {
        for value in [least, most] {
            let ended = leadsmith(&format!("config --{flag} {value}")).run().await;
            ended.done();
        }
        let wrong = [
            (i64::from(least) - 1).to_string(),
            (i64::from(most) + 1).to_string(),
            u32::MAX.to_string(),
            u64::MAX.to_string(),
            u128::MAX.to_string(),
            "1.5".to_owned(),
            "0x10".to_owned(),
            "many".to_owned(),
        ];
        for value in wrong {
            let ended = leadsmith(&format!("config --{flag}={value}")).run().await;
            ended.misused(&format!("--{flag}"));
            ended.misused(&format!("a whole number from {least} to {most}"));
        }
    }
    let times = [
        "default-deadline",
        "max-deadline",
        "drain",
        "connection-wait",
        "sqlite-write-wait",
        "statement-time",
        "retention-interval",
    ];
    for flag in times {
        for value in [
            "0",
            "0.001",
            "1e-30",
            "nan",
            "inf",
            "-inf",
            "3601",
            "1e9",
            "1e300",
            "soon",
            "-1",
            "18446744073709551615",
            "2m",
            "",
        ] {
            let ended = leadsmith(&format!("config --{flag}={value}")).run().await;
            ended.misused(&format!("--{flag}"));
            ended.misused("a number of seconds from 0.01 to 3600");
        }
    }
    for steps in ["0", "1001", "-1", "4294967296"] {
        let ended = leadsmith(&format!("migrate down --steps={steps}"))
            .run()
            .await;
        ended.misused("a whole number from 1 to 1000");
    }
    for port in ["65536", "-1"] {
        let ended = leadsmith(&format!("serve --listen 127.0.0.1:{port}"))
            .run()
            .await;
        ended.misused("an IP address and a port");
    }
    leadsmith("healthcheck --listen 127.0.0.1:0")
        .run()
        .await
        .refused("--listen must have the port");
}

/// A server must also work with the largest accepted values.
#[tokio::test]
async fn the_largest_settings_serve() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("x.db").display());
    let most = "serve --max-calls 1000000 --calls-per-second 1000000 --max-connections 1000000 \
                --max-connections-per-address 1000000 --unread-bytes-per-principal 1073741824 \
                --unread-bytes 1073741824 --max-watches 1000000 --max-watches-per-principal 1000000 --watch-buffer 1073741824 --sqlite-readers 256 --keep-request-ids 876000 --keep-events 36500 --revert-period 36500 --retention-interval 0.01 --default-deadline 3600 \
                --max-deadline 3600 --drain 3600 --connection-wait 3600 --sqlite-write-wait 3600 \
                --statement-time 3600";
    let mut server = leadsmith(most).database(&url).serve().await;
    // Long enough for a round of the deletion of old records.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    server.terminate();
    let status = server.ended(std::time::Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0), "{}", server.log());
    for word in ["panicked", "not deleted yet"] {
        assert!(!server.log().contains(word), "{}", server.log());
    }
}

#[tokio::test]
async fn an_empty_variable_is_one_that_is_not_set() {
    let usual = leadsmith("config").run().await.done();
    let help = leadsmith("serve --help").run().await.done();
    let variables: Vec<_> = help
        .split("[env: ")
        .skip(1)
        .map(|rest| rest.split(['=', ']']).next().unwrap())
        .collect();
    assert!(variables.len() > 20, "{variables:?}");
    for blank in ["", " ", "\n", " \t\r\n"] {
        let config = variables
            .iter()
            .fold(leadsmith("config"), |run, name| run.env(name, blank));
        assert_eq!(config.run().await.done(), usual, "{blank:?}");
    }
    let mut check = leadsmith("healthcheck --listen 127.0.0.1:1");
    for name in [
        "TLS_CA",
        "TLS_NAME",
        "TLS_CLIENT_CERTIFICATE",
        "TLS_CLIENT_KEY",
    ] {
        check = check.env(&format!("LEADSMITH_{name}"), "");
    }
    check
        .quiet()
        .run()
        .await
        .refused("the health check of 127.0.0.1:1 failed");
}

#[tokio::test]
async fn a_wrong_variable_is_named_and_not_the_flag_that_nobody_gave() {
    for (name, value) in [
        ("LEADSMITH_MAX_CALLS", "0"),
        ("LEADSMITH_DRAIN", "soon"),
        ("LEADSMITH_INSECURE", "yes please"),
        ("LEADSMITH_LOG_FORMAT", "xml"),
        ("LEADSMITH_LOG", "loud"),
        ("LEADSMITH_LISTEN", "here"),
    ] {
        let ended = leadsmith("config").env(name, value).run().await;
        ended.misused(&format!("for '{name}'"));
        let flag = name
            .replace("LEADSMITH_", "--")
            .replace('_', "-")
            .to_lowercase();
        assert!(!ended.err.contains(&format!("'{flag}")), "{ended:?}");
    }
    // The flag takes precedence over the variable, so the flag is the invalid one.
    let both = leadsmith("config --max-calls 0").env("LEADSMITH_MAX_CALLS", "7");
    both.run().await.misused("for '--max-calls <N>'");
}

#[tokio::test]
async fn blanks_around_a_database_url_name_no_other_database() {
    for url in [" sqlite:x.db", "sqlite:x.db\n", "\tsqlite:x.db \r\n"] {
        let folder = tempfile::tempdir().unwrap();
        for run in [
            leadsmith("migrate up").database(url),
            leadsmith("migrate status").database("sqlite:x.db"),
        ] {
            run.in_folder(folder.path()).run().await.done();
        }
        let given = leadsmith(&format!("config --database-url={}", "sqlite:x.db"));
        let value = |config: String| {
            config
                .replace("environment  ", "")
                .replace("flag         ", "")
        };
        assert_eq!(
            value(leadsmith("config").database(url).run().await.done()),
            value(given.run().await.done())
        );
        assert!(folder.path().join("x.db").exists());
    }
    // SQLite would interpret it as a URI of its own.
    let folder = tempfile::tempdir().unwrap();
    let run = leadsmith("migrate up").database("sqlite:file:x.db");
    run.in_folder(folder.path()).run().await.done();
    assert!(folder.path().join("file:x.db").metadata().unwrap().len() > 0);
    for (url, why) in [
        (
            "sqlite: x.db",
            "has whitespace before or after the file name",
        ),
        ("sqlite:x\n.db", "a line break or another control character"),
        (
            "postgres://u@localhost/a\u{7}b",
            "a line break or another control character",
        ),
        ("\"sqlite:x.db\"", "must begin with sqlite: or postgres://"),
    ] {
        for command in ["serve", "migrate up", "config"] {
            leadsmith(command)
                .database(url)
                .quiet()
                .run()
                .await
                .refused(why);
        }
    }
}

#[tokio::test]
async fn a_postgresql_url_with_a_broken_ipv6_address_is_refused() {
    for host in [
        "::1",
        "[::1",
        "[::g]",
        "[]",
        "one,[::1:5432",
        "[::1]:99999",
        "[::1]:0",
        "one,,[::1]",
    ] {
        let url = format!("postgres://dev:{SECRET}@{host}/x");
        for command in ["serve", "config"] {
            let ended = leadsmith(command).database(&url).quiet().run().await;
            assert_eq!(ended.code, Some(2), "{host}: {ended:?}");
            ended.refused("the database URL");
        }
    }
}
