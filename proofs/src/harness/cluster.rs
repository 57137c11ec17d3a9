//! A temporary PostgreSQL server, reachable only through a socket in a private folder. It syncs its writes, as
//! PostgreSQL does by default.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Each line of the log contains the SQLSTATE.
const SETTINGS: &str = "
max_connections = 300
listen_addresses = ''
port = 5432
log_line_prefix = '%m [%p] %e '
";
const USER: &str = "proofs";

/// The running server.
pub struct Cluster {
    programs: PathBuf,
    folder: TempDir,
    owner: Option<&'static str>,
}

impl Cluster {
    /// Creates a new server and starts it.
    pub fn start() -> Result<Self> {
        let programs = find_programs()?;
        let folder = tempfile::Builder::new()
            .prefix("leadsmith-proofs-")
            .tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700))?;
        // PostgreSQL refuses to run as root. Its packages create this user.
        let owner = (fs::metadata(folder.path())?.uid() == 0).then_some("postgres");
        let cluster = Self {
            programs,
            folder,
            owner,
        };
        if let Some(owner) = owner {
            run(Command::new("chown").arg(owner).arg(cluster.folder.path()))?;
        }
        let mut initdb = cluster.owned("initdb");
        initdb.args(["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]);
        initdb.args(["--username", USER, "--pgdata"]);
        run(initdb.arg(cluster.data()))?;
        let file = cluster.data().join("postgresql.conf");
        fs::write(&file, fs::read_to_string(&file)? + SETTINGS)?;
        cluster.begin()?;
        Ok(cluster)
    }

    /// Starts the stopped server.
    pub fn begin(&self) -> Result<()> {
        let options = format!("-k {}", self.folder.path().display());
        let log = self.log_file();
        let log = log.to_string_lossy();
        self.control(&[
            "start",
            "--timeout=60",
            "--options",
            &options,
            "--log",
            &log,
        ])
    }

    /// Stops the server: `fast`, as an administrator does, or `immediate`, which resembles a crash.
    pub fn end(&self, mode: &str) -> Result<()> {
        self.control(&["stop", "--timeout=60", "--mode", mode])
    }

    /// Stops the server and starts it as a standby, which accepts no changes until it is promoted by
    /// `SELECT pg_promote()`.
    pub fn begin_as_standby(&self) -> Result<()> {
        self.end("fast")?;
        fs::write(self.data().join("standby.signal"), "")?;
        self.begin()
    }

    fn control(&self, arguments: &[&str]) -> Result<()> {
        let mut control = self.owned("pg_ctl");
        control
            .args(arguments)
            .args(["--silent", "--wait", "--pgdata"]);
        // The server would inherit a pipe and keep it open.
        let status = control
            .arg(self.data())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            let log = self.log().unwrap_or_default();
            let end: Vec<&str> = log.lines().rev().take(5).collect();
            bail!(
                "PostgreSQL does not {}: {}",
                arguments.join(" "),
                end.join("\n")
            );
        }
        Ok(())
    }

    /// A PostgreSQL program, run as the owner of the data.
    fn owned(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = match self.owner {
            None => Command::new(program),
            Some(owner) => {
                let mut command = Command::new("runuser");
                command.args(["-u", owner, "--"]).arg(program);
                command
            }
        };
        command.current_dir(self.folder.path());
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// The process ids of the server.
    pub fn processes(&self) -> Result<Vec<u32>> {
        processes(&self.data())
    }

    /// The server's log so far.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.log_file())?)
    }

    /// The server's socket, to which a proxy connects.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(".s.PGSQL.5432")
    }

    /// Runs a statement outside any application database, and returns the output lines.
    pub fn admin(&self, sql: &str) -> Result<String> {
        let mut psql = self.tool("psql", "postgres");
        run(psql.args(["-X", "-A", "-t", "-q", "-c", sql]))
    }

    /// A PostgreSQL client program for a database.
    pub fn tool(&self, program: &str, database: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
            command.env_remove(name);
        }
        command
            .env("PGHOST", self.folder.path())
            .env("PGUSER", USER)
            .env("PGDATABASE", database);
        command
    }

    /// The URL of a database through the socket.
    pub fn url(&self, database: &str) -> String {
        self.url_as(USER, database)
    }

    /// The same for another user, which must exist.
    pub fn url_as(&self, user: &str, database: &str) -> String {
        let folder = self.folder.path().display();
        format!("postgres://{user}@localhost/{database}?host={folder}")
    }

    /// The URL of a database through a local port on which a proxy listens.
    pub fn url_by(&self, port: u16, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{port}/{database}?sslmode=disable")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // It may already be stopped by an injected fault.
        let _ = self.end("immediate");
    }
}

/// The process ids of the PostgreSQL server with this data folder, the postmaster first.
pub fn processes(data: &Path) -> Result<Vec<u32>> {
    let file = fs::read_to_string(data.join("postmaster.pid"))?;
    let first: u32 = file.lines().next().context("no process")?.trim().parse()?;
    let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children"))?;
    let children = children.split_whitespace().map(str::parse);
    Ok(std::iter::once(Ok(first))
        .chain(children)
        .collect::<Result<_, _>>()?)
}

/// Sends a signal to a process. A process that has already ended is not an error.
pub fn signal(id: u32, what: Signal) -> Result<()> {
    let id = Pid::from_raw(i32::try_from(id)?).context("no process")?;
    match kill_process(id, what) {
        Err(Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Runs a program to completion and returns its standard output.
pub fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{name} does not start"))?;
    succeeded(&name, &output)
}

/// Returns the standard output if the program succeeded.
pub fn succeeded(name: &str, output: &Output) -> Result<String> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said.lines().take(6).collect();
        bail!("{name} failed ({}): {}", output.status, said.join("\n"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The folder of the newest installed PostgreSQL, 15 or later.
pub fn find_programs() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let major = |folder: &Path| folder.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|folder| folder.join("bin/initdb").exists())
        .filter(|folder| major(folder) >= Some(15))
        .max_by_key(|folder| major(folder));
    let folder = newest.context(
        "PostgreSQL 15 or later is not found: install Debian's package postgresql, or use \
         --database sqlite",
    )?;
    Ok(folder.join("bin"))
}
