//! The real program: run to completion, or as a server whose log is recorded.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// Defines tests that run on both databases, which have no schema yet.
#[macro_export]
macro_rules! on_both_empty {
    ($(async fn $name:ident($database:ident: TestDatabase) $body:block)+) => {$(
        mod $name {
            #[allow(unused_imports, clippy::allow_attributes, reason = "not every test needs all")]
            use super::*;

            async fn body($database: $crate::harness::TestDatabase) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                let backend = $crate::harness::Backend::Sqlite;
                body($crate::harness::TestDatabase::create(backend).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                let backend = $crate::harness::Backend::Postgres;
                body($crate::harness::TestDatabase::create(backend).await).await;
            }
        }
    )+};
}

const ADMIN_LISTEN: &str = "LEADSMITH_ADMIN_LISTEN";

/// A run of the program to be started, in its own folder and without settings from the environment.
pub struct Program {
    command: Command,
    input: String,
    folder: TempDir,
}

/// The path of the service's binary, which `scripts/test` builds in the same folder as the tests.
pub fn binary() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let binary = tests.ancestors().nth(2).unwrap().join("leadsmith");
    assert!(
        binary.exists(),
        "{} does not exist: run the tests by scripts/test, which builds it",
        binary.display()
    );
    binary
}

/// The program with these arguments, separated by spaces.
pub fn leadsmith(arguments: &str) -> Program {
    prepare(Command::new(binary()), arguments)
}

/// The same with a umask that lets other users read and write the files that it creates.
pub fn leadsmith_without_umask(arguments: &str) -> Program {
    leadsmith_after("umask 0", arguments)
}

/// The same after a command of the shell that changes what the process may do. Example: `ulimit -n 64`.
pub fn leadsmith_after(command: &str, arguments: &str) -> Program {
    let mut shell = Command::new("sh");
    let exec = format!("{command}; exec \"$0\" \"$@\"");
    shell.args(["-c", &exec]).arg(binary());
    prepare(shell, arguments)
}

/// The program on a terminal of its own, which shows its output and its errors as standard output.
pub fn leadsmith_on_a_terminal(arguments: &str) -> Program {
    let mut terminal = Command::new("script");
    let run = format!("{} {arguments}", binary().display());
    terminal.args(["--quiet", "--return", "--command", &run, "/dev/null"]);
    prepare(terminal, "")
}

fn prepare(mut command: Command, arguments: &str) -> Program {
    let folder = tempfile::tempdir().unwrap();
    command
        .args(arguments.split_whitespace())
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(File::create(folder.path().join("stdout")).unwrap())
        .stderr(File::create(folder.path().join("stderr")).unwrap())
        .env("RUST_BACKTRACE", "1");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LEADSMITH_")) {
        command.env_remove(name);
    }
    Program {
        command,
        input: String::new(),
        folder,
    }
}

/// The result of a run.
#[derive(Debug)]
pub struct Ended {
    /// None if a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Program {
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// One more argument, which may contain spaces.
    pub fn argument(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    pub fn database(self, url: &str) -> Self {
        self.env("LEADSMITH_DATABASE_URL", url)
    }

    /// Without log lines below the level of warnings.
    pub fn quiet(self) -> Self {
        self.env("LEADSMITH_LOG", "warn")
    }

    /// Runs in this folder, to which relative file names refer.
    pub fn in_folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Connects standard output to a full disk.
    pub fn onto_a_full_disk(mut self) -> Self {
        let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
        self.command.stdout(full());
        self
    }

    /// Connects standard output to a pipe whose reader was closed.
    pub fn onto_a_closed_pipe(mut self) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        self.command.stdout(writer);
        self
    }

    /// Connects standard output to /dev/null.
    pub fn onto_nothing(mut self) -> Self {
        self.command.stdout(Stdio::null());
        self
    }

    /// Closes standard output before the start.
    pub fn onto_a_closed_output(mut self) -> Self {
        let mut shell = Command::new("sh");
        let program = self.command.get_program();
        shell.args(["-c", "exec \"$0\" \"$@\" >&-"]).arg(program);
        shell.args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stderr(File::create(self.folder.path().join("stderr")).unwrap());
        self.command = shell;
        self
    }

    /// Connects standard error to a full disk too.
    pub fn mute(mut self) -> Self {
        self.command
            .stderr(OpenOptions::new().write(true).open("/dev/full").unwrap());
        self
    }

    /// The content of standard input.
    pub fn input(mut self, text: &str) -> Self {
        self.input = text.into();
        self
    }

    fn spawn(&mut self) -> Child {
        let mut child = self.command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A program that ends before it reads its input is not an error of the test.
        let _ = stdin.write_all(self.input.as_bytes());
        child
    }

    /// Runs it to completion, within a minute.
    pub async fn run(mut self) -> Ended {
        let mut child = self.spawn();
        let status = wait(&mut child, Duration::from_secs(60)).await;
        let read = |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap();
        Ended {
            code: status.code(),
            out: read("stdout"),
            err: read("stderr"),
        }
    }

    /// Runs it for this long and kills it. Returns its exit code if it ended by itself.
    pub async fn run_for(mut self, time: Duration) -> Option<i32> {
        let mut child = self.spawn();
        tokio::time::sleep(time).await;
        let ended = child.try_wait().unwrap();
        let _ = child.kill();
        let _ = child.wait();
        ended.map(|status| status.code().unwrap_or(-1))
    }

    /// Starts a server on a free port and waits until it responds. Its metrics are off unless the test sets them: the
    /// servers of other tests run at the same time.
    pub async fn serve(mut self) -> Serving {
        self.command.args(["--listen", "127.0.0.1:0"]);
        let mut variables = self.command.get_envs();
        if !variables.any(|(name, value)| name == ADMIN_LISTEN && value.is_some()) {
            self.command.env(ADMIN_LISTEN, "off");
        }
        let mut child = self.spawn();
        let log = self.folder.path().join("stderr");
        for _ in 0..3000 {
            let text = fs::read_to_string(&log).unwrap();
            if let Some(address) = serving_at(&text) {
                return Serving {
                    address,
                    child,
                    log,
                    _folder: self.folder,
                };
            }
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the server ended at once: {status}: {text}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let _ = child.kill();
        let text = fs::read_to_string(&log).unwrap();
        panic!("the server does not begin to serve: {text}");
    }
}

/// The address in the line that says that a server serves, in text or in JSON.
fn serving_at(log: &str) -> Option<SocketAddr> {
    let address = match log.split_once("serving address=") {
        Some((_, rest)) => rest.split_once(char::is_whitespace)?.0,
        None => {
            let line = log
                .lines()
                .find(|line| line.contains(r#""message":"serving""#))?;
            let (_, rest) = line.split_once(r#""address":""#)?;
            rest.split_once('"')?.0
        }
    };
    Some(address.parse().unwrap())
}

/// Waits until a process ends, and kills it after a time limit.
async fn wait(child: &mut Child, patience: Duration) -> ExitStatus {
    let poll = Duration::from_millis(10);
    let mut waited = Duration::ZERO;
    while waited < patience {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        tokio::time::sleep(poll).await;
        waited += poll;
    }
    let _ = child.kill();
    let _ = child.wait();
    panic!("the program does not end");
}

/// The program as a running server.
pub struct Serving {
    pub address: SocketAddr,
    child: Child,
    log: PathBuf,
    _folder: TempDir,
}

impl Serving {
    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Kills it, as a crash would: SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends it this signal. Example: `HUP`.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.id());
        let killed = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(killed.success());
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub async fn ended(&mut self, patience: Duration) -> ExitStatus {
        wait(&mut self.child, patience).await
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
