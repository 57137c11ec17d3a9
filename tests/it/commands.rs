//! The commands in the documents. Each block of the language `sh` is run on loopback, with the real program and the
//! real grpcurl, or has a comment above it that says why not: `<!-- not run: REASON -->`.
//!
//! A command must succeed, unless the document says otherwise: by a comment `# fails` on its line, or by showing an
//! error as its output. A block of the language `text` shows the output of the last command before it. A line `…`
//! in it stands for any lines; ids and times may differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use chrono::DateTime;
use tempfile::TempDir;
use uuid::Uuid;

use crate::harness::demo::{Demo, free_address, grpcurl};
use crate::harness::markdown::{Block, blocks, documents, read};
use crate::harness::{Backend, PASSWORD, TestDatabase};
use crate::program::{Serving, leadsmith};

/// How long the commands of one page may take.
const TIME_LIMIT: Duration = Duration::from_secs(120);
/// The address and the folder in the documents that are replaced by those of the test.
const ADDRESS: &str = "127.0.0.1:50051";
const BACKUPS: &str = "/var/backups";

/// Where the commands of a page are run.
enum Place {
    /// Beside the demo, with its token and password in `TOKEN` and `PASSWORD`.
    Demo,
    /// The same, after the first block of the tutorial, with the id that it found in `LEAD` and `LEAD_ID`.
    FoundLead,
    /// In a folder with the database of a running server, and with the operator ada.
    Server,
    /// In an empty folder.
    Folder,
    /// In an empty folder, with an empty PostgreSQL database.
    Postgres,
}

/// Defines a test for each page whose commands are run. The last text is a command to run first.
macro_rules! pages {
    ($($name:ident, $page:literal, $place:expr, $first:literal;)+) => {
        const PAGES: &[&str] = &[$($page),+];

        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                run($page, $place, $first).await;
            }
        )+
    };
}

pages! {
    the_commands_of_the_readme, "README.md", Place::Demo, "";
    the_commands_of_the_tutorial, "docs/src/tutorial.md", Place::Demo, "";
    the_commands_for_orders, "docs/src/orders.md", Place::Demo, "";
    the_commands_for_finding_leads, "docs/src/finding.md", Place::Demo, "";
    the_commands_for_the_dashboard, "docs/src/dashboard.md", Place::Demo, "";
    the_commands_for_conversions, "docs/src/conversion.md", Place::Demo, "";
    the_commands_for_update_masks, "docs/src/update-masks.md", Place::FoundLead, "";
    the_commands_for_events, "docs/src/events.md", Place::Demo, "";
    the_commands_for_erasing, "docs/src/erasing.md", Place::FoundLead, "";
    the_commands_to_sign_in, "docs/src/sign-in.md", Place::Server, "";
    the_commands_to_manage_people, "docs/src/people.md", Place::Demo, "";
    the_commands_to_operate, "docs/src/operate.md", Place::Server, "";
    the_commands_to_back_up, "docs/src/backup.md", Place::Server, "";
    the_commands_for_client_certificates, "docs/src/tls.md", Place::Server,
        "leadsmith service-account create --name website --role SALES";
    the_commands_to_install, "docs/src/install.md", Place::Folder, "";
    the_commands_to_migrate, "docs/src/postgresql.md", Place::Postgres, "";
}

#[test]
fn every_block_of_commands_is_run_or_says_why_not() {
    let (mut run, mut problems) = (BTreeSet::new(), Vec::new());
    for document in documents() {
        for block in blocks(&read(&document)) {
            let is_marked = block.not_run.is_some();
            let problem = match (is_marked, block.language == "sh") {
                (true, true) | (false, false) => continue,
                (false, true) if PAGES.contains(&document.as_str()) => {
                    run.insert(document.clone());
                    continue;
                }
                (false, true) => "add the page to `pages!`, or say why the block is not run",
                (true, false) => "the comment is not above a block of commands",
            };
            problems.push(format!("{document}:{}: {problem}", block.line));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert_eq!(run.len(), PAGES.len(), "each page has commands to run");
}

/// Runs the commands of a page from top to bottom in one shell, and compares their results with the page.
async fn run(page: &str, place: Place, first: &str) {
    let blocks = blocks(&read(page));
    let started = Started::new(place).await;
    let mut script = started.script(first);
    // The page's lines by their numbers in the script, each with the index of its block.
    let mut lines = BTreeMap::new();
    for (index, block) in blocks.iter().enumerate() {
        if block.language == "sh" && block.not_run.is_none() {
            for line in &block.lines {
                let number = script.len() + 1;
                lines.insert(number, (index, line.as_str()));
                script.push(started.fill_in(line, number));
            }
        }
    }
    let outputs = started.bash(&script.join("\n")).await;
    // A line in which no command begins has no output.
    lines.retain(|number, _| outputs.contains_key(number));
    let last: BTreeMap<usize, usize> = lines
        .iter()
        .map(|(number, (index, _))| (*index, *number))
        .collect();
    for (number, (index, line)) in &lines {
        let shown = shown_after(&blocks, *index).filter(|_| last[index] == *number);
        let shows_error = shown.is_some_and(|block| block.lines[0].starts_with("ERROR:"));
        let (printed, failed) = &outputs[number];
        let expected = shows_error || line.contains("# fails");
        assert_eq!(
            *failed, expected,
            "whether a command of {page} failed: {line}\n{printed}"
        );
        if let Some(shown) = shown
            && let Err(problem) = compare(&shown.lines, printed)
        {
            panic!("{page}:{}: {problem}\nprinted:\n{printed}", shown.line);
        }
    }
    let is_run = |block: &&Block| block.language == "sh" && block.not_run.is_none();
    assert_eq!(last.len(), blocks.iter().filter(is_run).count(), "{page}");
}

/// The block that shows the output of this one, if there is one.
fn shown_after(blocks: &[Block], index: usize) -> Option<&Block> {
    blocks.get(index + 1).filter(|next| next.language == "text")
}

/// Compares the lines of a page with an output.
fn compare(shown: &[String], printed: &str) -> Result<(), String> {
    let printed: Vec<String> = printed.lines().map(stable).collect();
    let (mut at, mut may_skip) = (0, false);
    for line in shown {
        if line.trim() == "…" {
            may_skip = true;
            continue;
        }
        let line = stable(line);
        let found = printed[at..].iter().position(|other| *other == line);
        match found {
            Some(skipped) if skipped == 0 || may_skip => at += skipped + 1,
            Some(_) | None => return Err(format!("{line:?} is not printed at this place")),
        }
        may_skip = false;
    }
    match may_skip || at == printed.len() {
        true => Ok(()),
        false => Err(format!("{:?} is not shown", printed[at])),
    }
}

/// A line without indentation, and with every id and time replaced.
fn stable(line: &str) -> String {
    let parts = line.trim().split('"').map(|part| {
        if Uuid::parse_str(part).is_ok() {
            "ID"
        } else if DateTime::parse_from_rfc3339(part).is_ok() {
            "TIME"
        } else {
            part
        }
    });
    parts.collect::<Vec<_>>().join("\"")
}

/// The servers and files of a page.
struct Started {
    folder: TempDir,
    address: String,
    /// Variables of the shell.
    variables: Vec<(&'static str, String)>,
    /// Lines that run first.
    first: Vec<String>,
    _demo: Option<Demo>,
    _server: Option<Serving>,
    _database: Option<TestDatabase>,
}

/// `serve` returns as soon as the server responds, so that the next command can run.
const LEADSMITH: &str = r#"#!/bin/sh
case $1 in serve) ;; *) exec "$PROGRAM" "$@" ;; esac
"$PROGRAM" "$@" >serve.log 2>&1 &
echo $! >>"$OUTPUTS/servers"
until grep -q 'serving address=' serve.log; do
  kill -0 $! || { cat serve.log; exit 1; }
  sleep 0.05
done
"#;

/// Writes the output of each command to a file with the number of its line, and creates another file if it fails.
const TRAPS: [&str; 3] = [
    r#"first_id() { for ((i = $1 - 1; i > 0; i--)); do grep -soEm1 '("id": "|key )[0-9a-f-]{36}' "$OUTPUTS/$i" && return; done; }"#,
    r#"trap 'exec >>"$OUTPUTS/$LINENO" 2>&1' DEBUG"#,
    r#"trap 'touch "$OUTPUTS/$LINENO.failed"' ERR"#,
];

impl Started {
    async fn new(place: Place) -> Self {
        let mut started = Self {
            folder: tempfile::tempdir().unwrap(),
            address: free_address().to_string(),
            variables: vec![("PROGRAM", crate::program::binary().display().to_string())],
            first: Vec::new(),
            _demo: None,
            _server: None,
            _database: None,
        };
        let folder = started.folder.path();
        for name in ["bin", "outputs", "backups"] {
            fs::create_dir(folder.join(name)).unwrap();
        }
        symlink(grpcurl(), folder.join("bin/grpcurl")).unwrap();
        let program = folder.join("bin/leadsmith");
        fs::write(&program, LEADSMITH).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        match place {
            Place::Demo => started.demo().await,
            Place::FoundLead => {
                started.demo().await;
                let tutorial = blocks(&read("docs/src/tutorial.md"));
                started.first = tutorial[0].lines.clone();
                started
                    .first
                    .extend(["LEAD=…".to_owned(), "LEAD_ID=$LEAD".to_owned()]);
            }
            Place::Server => started.server().await,
            Place::Folder => {}
            Place::Postgres => {
                let database = TestDatabase::create(Backend::Postgres).await;
                let url = ("LEADSMITH_DATABASE_URL", database.url.clone());
                started.variables.push(url);
                started._database = Some(database);
            }
        }
        started
    }

    async fn demo(&mut self) {
        let demo = Demo::start().await;
        self.address = demo.address.to_string();
        self.variables.push(("TOKEN", demo.token.clone()));
        self.variables.push(("PASSWORD", demo.password.clone()));
        self._demo = Some(demo);
    }

    async fn server(&mut self) {
        let url = format!("sqlite:{}/leadsmith.db", self.folder.path().display());
        let command = |arguments: &str| leadsmith(arguments).database(&url).quiet();
        // The second one is there so that the first one may be disabled.
        for name in ["ada", "grace"] {
            assert_eq!(command("migrate up").run().await.code, Some(0));
            let create = format!("operator create --username {name} --role ADMIN");
            let created = command(&create).input(PASSWORD).run().await;
            assert_eq!(created.code, Some(0), "{created:?}");
        }
        let server = leadsmith("serve").database(&url).serve().await;
        self.address = server.address.to_string();
        self.variables.push(("LEADSMITH_DATABASE_URL", url));
        self._server = Some(server);
    }

    /// The lines before those of the page.
    fn script(&self, first: &str) -> Vec<String> {
        let mut script: Vec<String> = TRAPS.map(str::to_owned).into();
        for line in self.first.iter().map(String::as_str).chain([first]) {
            script.push(self.fill_in(line, script.len() + 1));
        }
        script
    }

    /// A line of a page with the values of this test. `NAME=…` gets the first id of the newest output that has one.
    fn fill_in(&self, line: &str, number: usize) -> String {
        let backups = self.folder.path().join("backups").display().to_string();
        let id = format!("=$(first_id {number} | tail -c 37)");
        line.replace(ADDRESS, &self.address)
            .replace(BACKUPS, &backups)
            .replace("=…", &id)
    }

    /// Runs a script. Returns the output of each command by the number of its line, and whether it failed.
    async fn bash(&self, script: &str) -> BTreeMap<usize, (String, bool)> {
        let folder = self.folder.path();
        let (file, input) = (folder.join("script"), folder.join("input"));
        fs::write(&file, script).unwrap();
        fs::write(&input, format!("{PASSWORD}\n")).unwrap();
        let outputs = folder.join("outputs");
        let path = std::env::var("PATH").unwrap();
        let mut bash = tokio::process::Command::new("bash");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LEADSMITH_")) {
            bash.env_remove(name);
        }
        bash.arg(&file)
            .current_dir(folder)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env("LEADSMITH_LISTEN", &self.address)
            .env("OUTPUTS", &outputs)
            .env("PATH", format!("{}/bin:{path}", folder.display()))
            .stdin(fs::File::open(&input).unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let ended = tokio::time::timeout(TIME_LIMIT, bash.spawn().unwrap().wait()).await;
        assert!(ended.is_ok(), "the commands do not end within 2 minutes");
        results(&outputs)
    }
}

impl Drop for Started {
    /// Stops the servers that the commands started.
    fn drop(&mut self) {
        let list = fs::read_to_string(self.folder.path().join("outputs/servers"));
        for id in list.unwrap_or_default().lines() {
            let _ = std::process::Command::new("kill").arg(id).status();
        }
    }
}

fn results(outputs: &Path) -> BTreeMap<usize, (String, bool)> {
    let files = fs::read_dir(outputs).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let numbers = names.filter_map(|name| name.parse().ok());
    numbers
        .map(|number: usize| {
            let output = fs::read_to_string(outputs.join(number.to_string())).unwrap();
            let failed = outputs.join(format!("{number}.failed")).exists();
            (number, (output, failed))
        })
        .collect()
}
