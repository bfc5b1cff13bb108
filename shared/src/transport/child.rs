//! Starting processes, here and nowhere else. A child does not outlive its owner: dropping its handle
//! kills it.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::process::{Child, Command};

/// Starts a program of our own with an environment of exactly `env`, its standard input and output
/// piped, its standard error appended to `log`.
///
/// # Errors
/// When it can't be started, or `log` can't be opened.
pub fn spawn_own(
    program: &Path,
    args: &[OsString],
    env: &[(OsString, OsString)],
    log: &Path,
) -> io::Result<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    #[allow(clippy::disallowed_methods, reason = "the room for starting processes")]
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true);
    command.spawn()
}
