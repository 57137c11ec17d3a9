//! This program's PostgreSQL server, reachable only through a socket in a private folder. Its data are kept
//! between runs.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process;

/// All other settings are PostgreSQL's defaults: fsync is on.
const SETTINGS: &str = "\nmax_connections = 300\nlisten_addresses = ''\n";
const USER: &str = "bench";

/// The running server.
pub struct Cluster {
    programs: PathBuf,
    data: PathBuf,
    socket: PathBuf,
    owner: Option<&'static str>,
    cores: Option<String>,
    /// The postmaster.
    pub id: u32,
}

impl Cluster {
    /// Starts the server whose data are in `folder`, and initialises them if they do not exist.
    pub fn start(folder: &Path, cores: Option<&str>) -> Result<Self> {
        let programs = find_programs()?;
        let socket = PathBuf::from(format!("/tmp/leadsmith-bench-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&socket)?;
        // PostgreSQL refuses to run as root. Its packages create this user.
        let owner = (fs::metadata(&socket)?.uid() == 0).then_some("postgres");
        let mut cluster = Self {
            programs,
            data: folder.join("postgres"),
            socket,
            owner,
            cores: cores.map(str::to_owned),
            id: 0,
        };
        cluster.prepare(folder)?;
        cluster.control(&["stop", "-m", "fast"]).ok();
        let options = format!("-k {}", cluster.socket.display());
        let log = cluster.data.join("server.log");
        let log = log.to_string_lossy();
        cluster.control(&[
            "start",
            "--timeout=120",
            "--options",
            &options,
            "--log",
            &log,
        ])?;
        let file = fs::read_to_string(cluster.data.join("postmaster.pid"))?;
        let id = file.lines().next().context("an empty postmaster.pid")?;
        cluster.id = id.trim().parse()?;
        Ok(cluster)
    }

    fn prepare(&self, folder: &Path) -> Result<()> {
        if let Some(owner) = self.owner {
            if !process::is_open_to_all(folder) {
                bail!(
                    "the user {owner} cannot enter {}: choose another folder by --folder",
                    folder.display()
                );
            }
            process::run(Command::new("chown").arg(owner).arg(&self.socket))?;
        }
        if self.data.join("PG_VERSION").exists() {
            return Ok(());
        }
        if let Some(owner) = self.owner {
            fs::create_dir_all(&self.data)?;
            process::run(Command::new("chown").arg(owner).arg(&self.data))?;
        }
        let mut initdb = self.owned("initdb");
        initdb.args(["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]);
        process::run(
            initdb
                .arg("--username")
                .arg(USER)
                .arg("--pgdata")
                .arg(&self.data),
        )?;
        let file = self.data.join("postgresql.conf");
        let settings = fs::read_to_string(&file)? + SETTINGS;
        fs::write(&file, settings)?;
        Ok(())
    }

    fn control(&self, arguments: &[&str]) -> Result<()> {
        let mut control = self.owned("pg_ctl");
        control
            .args(arguments)
            .args(["--silent", "--wait", "--pgdata"]);
        // The server would inherit a pipe and keep it open.
        let status = control
            .arg(&self.data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            bail!(
                "PostgreSQL does not {}: see {}/server.log",
                arguments.join(" "),
                self.data.display()
            );
        }
        Ok(())
    }

    /// A PostgreSQL program, run as the owner of the data.
    fn owned(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let cores = self.cores.as_deref();
        let mut command = match self.owner {
            None => process::on_cores(cores, &program),
            Some(owner) => {
                let mut command = process::on_cores(cores, Path::new("runuser"));
                command.args(["-u", owner, "--"]).arg(program);
                command
            }
        };
        command.current_dir(&self.socket);
        command
    }

    /// A PostgreSQL program that connects to a database.
    pub fn client(&self, program: &str, database: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
            command.env_remove(name);
        }
        command
            .env("PGHOST", &self.socket)
            .env("PGUSER", USER)
            .env("PGDATABASE", database);
        command
    }

    /// Runs a statement outside any application database, and returns the output lines.
    pub fn admin(&self, sql: &str) -> Result<String> {
        process::run(
            self.client("psql", "postgres")
                .args(["-X", "-A", "-t", "-q", "-c", sql]),
        )
    }

    /// The private folder, also for other temporary files.
    pub fn folder(&self) -> &Path {
        &self.socket
    }

    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://{USER}@localhost/{database}?host={}",
            self.socket.display()
        )
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.control(&["stop", "-m", "fast"]) {
            eprintln!("{error:#}");
        }
        // Its remaining content is useless without the server.
        let _ = fs::remove_dir_all(&self.socket);
    }
}

/// The folder of the newest installed PostgreSQL, 15 or later, that includes pgbench.
fn find_programs() -> Result<PathBuf> {
    let mut found = None;
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut folders: Vec<PathBuf> = versions
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path));
    for folder in folders {
        if !["initdb", "pg_ctl", "postgres", "psql", "pgbench"]
            .iter()
            .all(|program| folder.join(program).exists())
        {
            continue;
        }
        let version = process::run(Command::new(folder.join("postgres")).arg("--version"))?;
        let major = version
            .split_whitespace()
            .find_map(|word| word.split('.').next()?.parse::<u32>().ok())
            .unwrap_or(0);
        if major >= 15 && found.as_ref().is_none_or(|(newest, _)| major > *newest) {
            found = Some((major, folder));
        }
    }
    let (_, folder) = found.context(
        "PostgreSQL 15 or later with pgbench is not found: install Debian's packages postgresql \
         and postgresql-contrib, or measure --database sqlite alone",
    )?;
    Ok(folder)
}
