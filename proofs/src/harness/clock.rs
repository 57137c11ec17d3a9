//! A system clock that is wrong, for one process: a small C library, preloaded, adds to the time that `clock_gettime`
//! returns. A C compiler is there, because the service is built with one.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::Result;
use tempfile::TempDir;

use super::cluster::run;

/// The environment variable with the number of seconds.
const VARIABLE: &str = "PROOFS_CLOCK_AHEAD";

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    const char *ahead = getenv("PROOFS_CLOCK_AHEAD");
    if (!failed && clock == CLOCK_REALTIME && ahead) now->tv_sec += atol(ahead);
    return failed;
}
"#;

/// By how much the clock of a process is wrong.
#[derive(Clone)]
pub struct WrongClock {
    folder: Arc<TempDir>,
    seconds: i64,
}

impl WrongClock {
    /// One that is so many seconds ahead; behind if the number is negative.
    pub fn ahead(seconds: i64) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let source = folder.path().join("clock.c");
        fs::write(&source, SOURCE)?;
        let clock = Self {
            folder: Arc::new(folder),
            seconds,
        };
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O2", "-o"]);
        compile.arg(clock.file()).arg(&source).arg("-ldl");
        run(&mut compile)?;
        Ok(clock)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("libclock.so")
    }

    /// Makes the clock of the process wrong that this command starts.
    pub fn set(&self, command: &mut Command) {
        command.env("LD_PRELOAD", self.file());
        command.env(VARIABLE, self.seconds.to_string());
    }
}
