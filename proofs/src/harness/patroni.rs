//! A PostgreSQL cluster as in production: three members under Patroni, with leader election through etcd and
//! synchronous replication. Everything runs on this machine's loopback with temporary data.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use super::cluster::{find_programs, processes, run, signal};
use super::program::free_port;

/// How long a leader that does not respond keeps the lead: the smallest value that Patroni allows.
pub const TTL: Duration = Duration::from_secs(20);
/// How long the members may take until all of them are ready.
const TIMEOUT: Duration = Duration::from_secs(180);
/// How long a failover may take: Patroni waits for [`TTL`], and checks every 2 s.
const FAILOVER_TIMEOUT: Duration = TTL.saturating_mul(3);
/// How often the state of the members is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(300);
const MEMBERS: usize = 3;
/// The owner of PostgreSQL's data. Its packages create this user.
const OWNER: &str = "postgres";

/// How a member fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// The machine fails, with all its processes.
    Machine,
    /// The machine freezes: its processes stop responding, but their connections stay open.
    Freeze,
    /// Only PostgreSQL is killed. Patroni keeps running.
    Server,
}

pub struct Patroni {
    programs: PathBuf,
    folder: TempDir,
    etcd: Child,
    members: Vec<Member>,
}

struct Member {
    name: String,
    folder: PathBuf,
    port: u16,
    /// The port of Patroni's REST API.
    api: u16,
    /// The Patroni process; none while the machine is down.
    agent: Option<Child>,
}

impl Patroni {
    /// Starts all processes and waits for a leader and its standbys.
    pub async fn start() -> Result<Self> {
        let programs = find_programs()?;
        for name in ["patroni", "etcd"] {
            let found = Path::new("/usr/bin").join(name).exists();
            ensure!(
                found,
                "{name} is not found: install Debian's packages patroni and etcd-server"
            );
        }
        let folder = tempfile::Builder::new()
            .prefix("leadsmith-patroni-")
            .tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
        let [clients, peers] = [free_port()?, free_port()?];
        let mut members = Vec::new();
        for number in 1..=MEMBERS {
            members.push(Member::prepare(folder.path(), number, clients, &programs)?);
        }
        let etcd = etcd(folder.path(), clients, peers)?;
        let mut all = Self {
            programs,
            folder,
            etcd,
            members,
        };
        for member in &mut all.members {
            member.begin()?;
        }
        all.wait_ready().await?;
        Ok(all)
    }

    /// The URL of a database on the current leader, whichever member that is.
    pub fn url(&self, database: &str) -> String {
        let hosts: Vec<_> = self.members.iter().map(Member::host).collect();
        let hosts = hosts.join(",");
        format!(
            "postgres://{OWNER}@{hosts}/{database}?sslmode=disable&target_session_attrs=read-write"
        )
    }

    /// The URL of a database on the member that is the leader now.
    pub fn url_of_leader(&self, database: &str) -> Result<String> {
        let leader = &self.members[self.leader().context("there is no leader")?];
        let host = leader.host();
        Ok(format!(
            "postgres://{OWNER}@{host}/{database}?sslmode=disable"
        ))
    }

    /// Runs a statement on the leader.
    pub fn admin(&self, sql: &str) -> Result<String> {
        let leader = self.leader().context("there is no leader")?;
        self.query(&self.members[leader], sql)
    }

    /// The member that accepts writes; none during a failover.
    pub fn leader(&self) -> Option<usize> {
        (0..MEMBERS).find(|member| self.leads(*member))
    }

    fn leads(&self, member: usize) -> bool {
        let output = self.query(&self.members[member], "SELECT NOT pg_is_in_recovery()");
        output.is_ok_and(|output| output.trim() == "t")
    }

    /// Waits until all other members replicate from the leader and Patroni considers one of them synchronous.
    /// Before that, no member may be promoted. PostgreSQL's own view is not sufficient: it reports the first
    /// member that follows a new leader as synchronous too early.
    pub async fn wait_ready(&self) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < TIMEOUT {
            if self.is_ready() {
                return Ok(());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        bail!("the members are not ready: {}", self.last_log_lines())
    }

    fn is_ready(&self) -> bool {
        let following = "SELECT count(*) FILTER (WHERE state = 'streaming') || ' ' || \
                         string_agg(application_name, ' ') FILTER (WHERE sync_state = 'sync') \
                         FROM pg_stat_replication";
        let Ok(output) = self.admin(following) else {
            return false;
        };
        let synchronous = output.trim().split_once(' ').and_then(|(count, name)| {
            let named = self.members.iter().find(|member| member.name == name);
            named.filter(|_| count.parse() == Ok(MEMBERS - 1))
        });
        synchronous.is_some_and(|member| member.is_synchronous().unwrap_or(false))
    }

    /// Waits until a member other than the failed one is the leader.
    pub async fn wait_for_failover(&self, lost: usize) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < FAILOVER_TIMEOUT {
            if (0..MEMBERS).any(|member| member != lost && self.leads(member)) {
                return Ok(());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        bail!("no other member was promoted: {}", self.last_log_lines())
    }

    /// Makes a member fail.
    pub fn lose(&mut self, member: usize, how: Loss) -> Result<()> {
        let member = &mut self.members[member];
        match how {
            Loss::Freeze => member.signal_all(Signal::STOP),
            Loss::Server => {
                for id in processes(&member.data())? {
                    signal(id, Signal::KILL)?;
                }
                Ok(())
            }
            Loss::Machine => member.end(),
        }
    }

    /// Restores a failed member.
    pub fn recover(&mut self, member: usize, how: Loss) -> Result<()> {
        let member = &mut self.members[member];
        match how {
            Loss::Freeze => member.signal_all(Signal::CONT),
            // Patroni restarts it.
            Loss::Server => Ok(()),
            Loss::Machine => member.begin(),
        }
    }

    fn query(&self, member: &Member, sql: &str) -> Result<String> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.env("PGCONNECT_TIMEOUT", "2")
            .env("PGOPTIONS", "-c statement_timeout=2000");
        psql.args(["-X", "-A", "-t", "-q", "-h", "127.0.0.1", "-U", OWNER]);
        let port = member.port.to_string();
        run(psql.args(["-d", "postgres", "-p", &port, "-c", sql]))
    }

    fn last_log_lines(&self) -> String {
        let logs = self.members.iter().map(|member| {
            let log = fs::read_to_string(member.folder.join("log")).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(8)..].join("\n");
            format!("\n{}:\n{last}", member.name)
        });
        logs.collect()
    }
}

impl Drop for Patroni {
    fn drop(&mut self) {
        for member in &mut self.members {
            // SIGKILL ends frozen processes too.
            let _ = member.end();
        }
        let _ = self.etcd.kill();
        let _ = self.etcd.wait();
        // PostgreSQL's last processes may still write while the folder is being removed. It is temporary, so an
        // error does not matter.
        let _ = fs::remove_dir_all(self.folder.path());
    }
}

impl Member {
    /// Creates a folder with Patroni's settings for the member.
    fn prepare(folder: &Path, number: usize, etcd: u16, programs: &Path) -> Result<Self> {
        let name = format!("member{number}");
        let folder = folder.join(&name);
        fs::create_dir(&folder)?;
        let (port, api) = (free_port()?, free_port()?);
        let settings = settings(&name, &folder, etcd, port, api, programs);
        fs::write(folder.join("patroni.yml"), settings)?;
        run(Command::new("chown").args(["-R", OWNER]).arg(&folder))?;
        Ok(Self {
            name,
            folder,
            port,
            api,
            agent: None,
        })
    }

    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Whether this member's Patroni knows that it may be promoted: only a member that is in sync with the leader
    /// may.
    fn is_synchronous(&self) -> Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.api))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"HEAD /sync HTTP/1.0\r\n\r\n")?;
        let mut response = [0; 12];
        stream.read_exact(&mut response)?;
        Ok(response.ends_with(b" 200"))
    }

    /// Starts Patroni, which starts PostgreSQL.
    fn begin(&mut self) -> Result<()> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))?;
        let mut patroni = owned("/usr/bin/patroni");
        patroni.arg(self.folder.join("patroni.yml"));
        patroni.current_dir(&self.folder).stdin(Stdio::null());
        patroni.stdout(log.try_clone()?).stderr(log);
        self.agent = Some(patroni.spawn().context("Patroni does not start")?);
        Ok(())
    }

    /// Signals Patroni and PostgreSQL, Patroni first.
    fn signal_all(&self, what: Signal) -> Result<()> {
        let agent = self.agent.as_ref().map(Child::id);
        let all = agent
            .into_iter()
            .chain(processes(&self.data()).unwrap_or_default());
        for id in all {
            signal(id, what).with_context(|| format!("{} cannot be signalled", self.name))?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let ended = self.signal_all(Signal::KILL);
        if let Some(mut agent) = self.agent.take() {
            agent.wait()?;
        }
        ended
    }
}

/// A program run as the owner of the data. `setpriv` replaces itself with the program, so the process id is that
/// of the program.
fn owned(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={OWNER}"))
        .arg(format!("--regid={OWNER}"))
        .args(["--init-groups", "--", program]);
    command
}

fn etcd(folder: &Path, clients: u16, peers: u16) -> Result<Child> {
    let data = folder.join("etcd");
    fs::create_dir(&data)?;
    run(Command::new("chown").arg(OWNER).arg(&data))?;
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let log = fs::File::create(folder.join("etcd.log"))?;
    let mut etcd = owned("/usr/bin/etcd");
    // With version 3 of etcd's API, Patroni before 3.1 may use outdated state indefinitely after a moment in which
    // the machine was too busy (patroni/patroni#2779). So version 2 is used.
    etcd.arg("--enable-v2")
        .arg("--data-dir")
        .arg(data.join("data"))
        .args(["--listen-client-urls", &url(clients)])
        .args(["--advertise-client-urls", &url(clients)])
        .args(["--listen-peer-urls", &url(peers)])
        .args(["--initial-advertise-peer-urls", &url(peers)])
        .args(["--initial-cluster", &format!("default={}", url(peers))]);
    etcd.stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    etcd.spawn().context("etcd does not start")
}

/// Patroni's settings. In strict synchronous mode a commit is acknowledged only when a standby has it. If
/// PostgreSQL crashes, the failover starts immediately.
fn settings(name: &str, folder: &Path, etcd: u16, port: u16, api: u16, programs: &Path) -> String {
    let ttl = TTL.as_secs();
    let (folder, programs) = (folder.display(), programs.display());
    format!(
        r#"
scope: leadsmith
name: {name}
restapi: {{listen: "127.0.0.1:{api}", connect_address: "127.0.0.1:{api}"}}
etcd: {{host: "127.0.0.1:{etcd}"}}
bootstrap:
  dcs:
    ttl: {ttl}
    loop_wait: 2
    retry_timeout: 5
    primary_start_timeout: 0
    synchronous_mode: true
    synchronous_mode_strict: true
    postgresql:
      use_pg_rewind: true
      parameters: {{max_connections: 100, shared_buffers: 32MB, wal_keep_size: 256MB}}
  initdb: [{{encoding: UTF8}}, {{locale: C.UTF-8}}, data-checksums]
  pg_hba:
    - local all all trust
    - host all all 127.0.0.1/32 trust
    - host replication all 127.0.0.1/32 trust
postgresql:
  listen: "127.0.0.1:{port}"
  connect_address: "127.0.0.1:{port}"
  data_dir: {folder}/data
  bin_dir: {programs}
  pgpass: {folder}/pgpass
  use_unix_socket: true
  parameters: {{unix_socket_directories: {folder}}}
  authentication:
    superuser: {{username: {OWNER}}}
    replication: {{username: replicator}}
    rewind: {{username: rewinder}}
"#
    )
}
